"""A picture of the cluster costs a share of the supervisor's time, however often it is asked for.

One of many members takes milliseconds, and every program on the machine may ask for it all the time. The supervisor has
members to watch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

SHARE = 0.1
"""Of the time, what each kind of picture may take."""
BURST_S = 1.0
"""Seconds whose share may be used at once."""


class Sparing:
    """A picture that is made anew for each request within its share of the time; beyond that, the last one is given.

    Args:
        make: Makes it.
        now: Monotonic seconds.
    """

    def __init__(self, make: Callable[[], bytes | memoryview], now: Callable[[], float]) -> None:
        self._make = make
        self._now = now
        self._not_before = -math.inf
        self._last: bytes | memoryview = b""

    def __call__(self) -> bytes | memoryview:
        """The picture."""
        began = self._now()
        if self._not_before <= began:
            self._last = self._make()
            self._not_before = max(self._not_before, began - BURST_S) + (self._now() - began) / SHARE
        return self._last
