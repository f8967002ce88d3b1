"""One timer wheel for everything that a router waits for.

Pings, close timeouts, handshakes and idle HTTP connections would otherwise be a timer each, for tens of thousands of
connections. An item asks to be called after a number of seconds; the wheel calls it at the first tick after that. An
item may be in the wheel several times, and cannot be taken out: it looks at its own state when it is called, and asks
again if it is too early. So no cancellation needs a search.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

TICK_S = 0.05
"""Seconds between two ticks: how late an item may be called."""

CALLS = 128
"""Items that are called in one advance: some 1 ms, if each writes a ping."""
CALLS_A_STEP = 16
"""Items that are called in one step of those that are left over."""


class Timed(Protocol):
    """What can be put into the wheel."""

    def on_tick(self, tick: int) -> None:
        """The time asked for has come; *tick* is the present tick."""
        ...

    def break_off(self, error: Exception) -> None:
        """``on_tick`` has raised *error*, a defect of ours: end."""
        ...


def ticks(seconds: float) -> int:
    """How many ticks take at least *seconds*: 1 or more."""
    return max(1, math.ceil(seconds / TICK_S - 1e-9))


class Wheel:
    """Calls items when their time has come. The shell calls ``advance`` every ``TICK_S``; when the wheel ``is_behind``
    then, a worker among others (``work``) calls the items that are left over.

    Args:
        now: Seconds, monotonic.

    Attributes:
        tick: Number of the present tick. Code that notes when something happened notes this: it costs no clock.
    """

    __slots__ = ("_buckets", "_due", "_start", "_target", "tick")

    def __init__(self, now: float) -> None:
        self.tick = 1
        self._start = now - TICK_S
        self._target = 1
        self._buckets: dict[int, list[Timed]] = {}
        self._due: deque[Timed] = deque()

    @property
    def seconds(self) -> float:
        """The present tick in seconds, from when the wheel began."""
        return self.tick * TICK_S

    def schedule(self, item: Timed, after_ticks: int) -> int:
        """Have *item* called *after_ticks* (at least 1) from now, a part of a tick later at most.

        Returns:
            The tick at which it will be called.
        """
        # The present tick has partly passed: one more makes the wait never too short.
        due = self.tick + after_ticks + 1
        bucket = self._buckets.get(due)
        if bucket is None:
            self._buckets[due] = [item]
        else:
            bucket.append(item)
        return due

    @property
    def scheduled(self) -> int:
        """How many calls are to come."""
        return sum(map(len, self._buckets.values())) + len(self._due)

    def advance(self, now: float) -> None:
        """Go on to the tick of *now* and call what is due. A late call catches up on all ticks between.

        Of very many items that are due together, as the pings of clients that came together, some are left over, and
        the ticks wait for them.
        """
        self._target = int((now - self._start) / TICK_S)
        self._call(CALLS)

    @property
    def is_behind(self) -> bool:
        """Whether items are due that have not been called."""
        return bool(self._due) or self.tick < self._target

    def work(self) -> bool:
        """Call the next few of those that are left over; returns whether there are more."""
        self._call(CALLS_A_STEP)
        return self.is_behind

    def break_off(self, error: Exception) -> None:
        """No call raises; what is due stays so."""
        raise error

    def _call(self, left: int) -> None:
        due = self._due
        while True:
            while due and left > 0:
                left -= 1
                item = due.popleft()
                try:
                    item.on_tick(self.tick)
                except Exception as error:
                    item.break_off(error)  # the others of this tick have their turn
            if due or self.tick >= self._target:
                break
            self.tick += 1
            due.extend(self._buckets.pop(self.tick, ()))
