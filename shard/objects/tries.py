"""A constructor that has failed, until it is called again: after a while, or when the next event comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..running.own_loop import OwnLoop
from .retry import Retry


class Tries:
    """Of one object. Made at the first failure; dropped when the instance could be constructed.

    Args:
        loop: The runtime's loop.
        again: Called when it is time for the next try.

    Attributes:
        wait_for_code: There is no time for the next try: it comes with the next event, which may find other code.
    """

    __slots__ = ("_again", "_loop", "_retry", "_timer", "wait_for_code")

    def __init__(self, loop: OwnLoop, again: Callable[[], object]) -> None:
        self._loop = loop
        self._again = again
        self._retry = Retry(loop.now())
        self._timer: asyncio.TimerHandle | None = None
        self.wait_for_code = False

    @property
    def is_waiting(self) -> bool:
        """Whether the next try is yet to come."""
        return self.wait_for_code or self._timer is not None

    def plan(self) -> float | None:
        """Try again later; returns in how many seconds, ``None`` if there is no further try."""
        delay_s = self._retry.next_delay_s(self._loop.now())
        if delay_s is not None:
            self._timer = self._loop.call_later(delay_s, self._is_due)
        return delay_s

    def _is_due(self) -> None:
        self._timer = None
        self._again()

    def stop(self) -> None:
        """There is no further try here."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
