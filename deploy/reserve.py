"""Descriptors that are kept for the start of a process.

Clients of the admin API, the processes of many posts, a watch over many folders: together they may take every
descriptor that the supervisor is allowed. Then no dead member could be started again, and its clients would lose their
objects. So some are held open for nothing, and lent while a post that has served gets its next process. New posts have
to do with what else there is: they would use the reserve up.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

HELD = 24
"""Descriptors that are held; a start takes nine, of which one stays with the process."""


class Reserve:
    """Holds descriptors.

    Args:
        number: How many.
    """

    def __init__(self, number: int = HELD) -> None:
        self._number = number
        self._held: list[int] = []
        self.top_up()

    def top_up(self) -> None:
        """Hold as many again as there should be, as far as there are any. For each second."""
        try:
            while len(self._held) < self._number:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            pass  # others have them for a moment

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """They may be used in here, where nothing else may be opened: no turn of the loop."""
        self._let_go()
        try:
            yield
        finally:
            self.top_up()

    def close(self) -> None:
        """Hold none any more."""
        self._number = 0
        self._let_go()

    def _let_go(self) -> None:
        while self._held:
            os.close(self._held.pop())
