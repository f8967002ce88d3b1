"""What an object's code has left behind and is no task: it keeps the object awake, and ends with its life.

Timers need no bookkeeping when they fire or are cancelled: a look at the handles tells, and there is one whenever the
object might fall asleep. So a timer costs its user an entry in a list. The list is tidied when it has doubled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

TIDY_AT = 64
"""Timers noted, at least, before the list is tidied."""


class Pending:
    """Timers, futures (of executors and threads), descriptors and signals of one life. Times are seconds of the
    loop's clock.

    Attributes:
        fired_at: When the last of the timers that have been tidied away fired; 0 if none has.
    """

    __slots__ = ("_futures", "_held", "_tidy_at", "_timers", "fired_at")

    def __init__(self) -> None:
        # Made when needed: few objects use more than tasks.
        self._timers: list[asyncio.TimerHandle] | None = None
        self._futures: set[asyncio.Future[object]] | None = None
        self._held: dict[object, Callable[[], object]] | None = None
        self._tidy_at = TIDY_AT
        self.fired_at = 0.0

    # --- timers ---

    def add_timer(self, timer: asyncio.TimerHandle, now: float) -> None:
        """Note a timer, cancelled or not."""
        timers = self._timers
        if timers is None:
            self._timers = [timer]
        elif timers[-1] is not timer:  # loops make one way of setting timers out of the other
            timers.append(timer)
            if len(timers) >= self._tidy_at:
                self._tidy(now)

    def _tidy(self, now: float) -> None:
        left = []
        for timer in self._timers or ():
            if not timer.cancelled():
                when = timer.when()
                if when > now:
                    left.append(timer)
                elif when > self.fired_at:
                    self.fired_at = when
        self._timers = left or None
        self._tidy_at = max(TIDY_AT, 2 * len(left))

    def last_timer(self, now: float) -> float:
        """When the last timer fires that is set, or the last one fired that was; 0 without any."""
        if self._timers is not None:
            self._tidy(now)
        return max((timer.when() for timer in self._timers or ()), default=self.fired_at)

    # --- all else ---

    def add_future(self, future: asyncio.Future[object]) -> bool:
        """Keep the object awake until *future* is done: ``remove_future``."""
        if self._futures is None:
            self._futures = set()
        self._futures.add(future)
        return True

    def remove_future(self, future: asyncio.Future[object]) -> None:
        """*future* is done."""
        if self._futures is not None:
            self._futures.discard(future)

    def hold(self, key: object, remove: Callable[[], object]) -> None:
        """Keep the object awake for something that the loop watches, until ``let_go`` of *key*.

        Args:
            key: What it is: a descriptor or a signal, and what it is watched for.
            remove: Ends the watching; called at the end of the life.
        """
        if self._held is None:
            self._held = {}
        self._held[key] = remove

    def let_go(self, key: object) -> None:
        """It is not watched any more, or not for this life."""
        if self._held is not None:
            self._held.pop(key, None)

    def __bool__(self) -> bool:
        """Whether something is pending that has no time, as timers have."""
        return bool(self._futures or self._held)

    def cancel(self) -> None:
        """The life is over: nothing of it comes any more."""
        timers, self._timers = self._timers, None
        futures, self._futures = self._futures, None
        held, self._held = self._held, None
        for timer in timers or ():
            timer.cancel()
        for future in futures or ():
            future.cancel()
        for remove in (held or {}).values():
            remove()
