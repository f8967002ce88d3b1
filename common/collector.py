"""When the garbage collector looks at everything.

A full collection stops the loop for as long as it takes to visit each object, 70 ms and more with tens of thousands
of connections, and finds next to nothing: the code here breaks its reference cycles by hand. So full collections are
taken from CPython's hands: they run when what the process holds has doubled since the last one, or after a second
without traffic, and never more often than ``PAUSE_S`` apart. The younger generations go on as usual.

Users' code makes cycles as it likes (``self.handlers = {"x": self.on_x}``), and an instance in one is not freed when
its object sleeps. A shard that always has some traffic must not wait for a second without: there, they also run by
time, so far apart that they take a ``SHARE`` of it at most.
"""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Callable

from .clock import Clock
from .counters import Counters

log = logging.getLogger("roost.collector")

PAUSE_S = 60.0
"""Seconds between two full collections, unless what is held has doubled."""
BUSY_PAUSE_S = 15.0
"""The same while there is traffic, at least."""
SHARE = 1 / 1000
"""Of the time, what full collections may take while there is traffic."""
FEW = 1_000
"""Connections or objects that make no difference."""
_NEVER = 1 << 30


class Collector:
    """Runs full collections at fitting times.

    Args:
        counters: Where collections are counted.
        clock: For their length.
        held: How many things the process holds (connections, objects).
        traffic: A figure that grows with each message.
        by_time: Collect during traffic as well: users' code runs here.
    """

    def __init__(
        self,
        counters: Counters,
        clock: Clock,
        held: Callable[[], int],
        traffic: Callable[[], int],
        *,
        by_time: bool = False,
    ) -> None:
        self._counters = counters
        self._clock = clock
        self._held = held
        self._traffic = traffic
        self._at = clock.now()
        self._busy_pause_s = BUSY_PAUSE_S if by_time else math.inf
        self._by_time = by_time
        self._held_then = 0
        self._traffic_then = 0

    def start(self) -> None:
        """Set aside what the process began with: it stays, and later collections need not look at it."""
        gc.collect()
        gc.freeze()
        young, middle, _ = gc.get_threshold()
        gc.set_threshold(young, middle, _NEVER)

    def on_second(self) -> None:
        """Collect if the time is right. Call it about once a second."""
        traffic = self._traffic()
        idle, self._traffic_then = traffic == self._traffic_then, traffic
        doubled = self._held() > 2 * max(self._held_then, FEW)
        if doubled or self._clock.now() - self._at >= (
            min(PAUSE_S, self._busy_pause_s) if idle else self._busy_pause_s
        ):
            self._collect()

    def _collect(self) -> None:
        before = self._clock.now()
        gc.collect()
        self._at = self._clock.now()
        self._held_then = self._held()
        if self._by_time:
            self._busy_pause_s = max(BUSY_PAUSE_S, (self._at - before) / SHARE)
        took_us = int((self._at - before) * 1e6)
        counters = self._counters
        counters.collections += 1
        counters.longest_collection_us = max(counters.longest_collection_us, took_us)
        log.debug("a full collection took %d µs", took_us)
