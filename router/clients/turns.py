"""Turns of the loop, counted while it matters.

What is given to a transport may be written at the end of the turn only, and until then it need not be counted.
Whoever writes past the transport, straight to the socket, has to know that nothing of that is left: two numbers on,
there has been the end of a turn. Nothing is counted, and the loop may rest, while nobody gives anything to a transport.
"""

from __future__ import annotations

from collections.abc import Callable

AGO = 2
"""Numbers after which what was marked lies behind the end of a turn: one may follow in the turn of the mark."""


class Turns:
    """The turns of one loop.

    Args:
        soon: Has something called in the loop's next turn.

    Attributes:
        number: That of the present turn, or of the last that mattered.
    """

    __slots__ = ("_counts", "_marked", "_soon", "number")

    def __init__(self, soon: Callable[[Callable[[], None]], object]) -> None:
        self.number = 0
        self._marked = 0
        self._counts = False
        self._soon = soon

    def mark(self) -> int:
        """Count on for a while.

        Returns:
            The present number: once it is ``AGO`` less than ``number``, this turn has ended.
        """
        self._marked = self.number
        if not self._counts:
            self._counts = True
            self._soon(self._next)
        return self._marked

    def _next(self) -> None:
        self.number += 1
        if self.number < self._marked + AGO:
            self._soon(self._next)
        else:
            self._counts = False
