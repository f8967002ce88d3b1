"""When the garbage collector looks at everything.

A full collection stops the loop for as long as it takes to visit each object, 70 ms and more with tens of thousands
of connections, and finds next to nothing: the code here breaks its reference cycles by hand. So full collections are
taken from CPython's hands: they run when the number of connections has doubled since the last one, or after a second
without messages, and never more often than ``PAUSE_S`` apart. The younger generations go on as usual.
"""

from __future__ import annotations

import gc
import logging

from ..common.clock import Clock
from .counters import RouterCounters

log = logging.getLogger("roost.router")

PAUSE_S = 60.0
"""Seconds between two full collections, unless the number of connections has doubled."""
FEW = 1_000
"""Connections that make no difference."""
_NEVER = 1 << 30


class Collector:
    """Runs full collections at fitting times.

    Args:
        counters: Where connections and messages are read, and collections counted.
        clock: For their length.
    """

    def __init__(self, counters: RouterCounters, clock: Clock) -> None:
        self._counters = counters
        self._clock = clock
        self._at = clock.now()
        self._connections = 0
        self._messages = 0

    def start(self) -> None:
        """Set aside what the process began with: it stays, and later collections need not look at it."""
        gc.collect()
        gc.freeze()
        young, middle, _ = gc.get_threshold()
        gc.set_threshold(young, middle, _NEVER)

    def on_second(self) -> None:
        """Collect if the time is right. Called about once a second."""
        counters = self._counters
        messages = counters.messages_in + counters.messages_out + counters.http_requests
        idle = messages == self._messages
        self._messages = messages
        doubled = counters.connections > 2 * max(self._connections, FEW)
        if doubled or (idle and self._clock.now() - self._at >= PAUSE_S):
            self._collect()

    def _collect(self) -> None:
        counters = self._counters
        before = self._clock.now()
        gc.collect()
        self._at = self._clock.now()
        self._connections = counters.connections
        took_us = int((self._at - before) * 1e6)
        counters.collections += 1
        counters.longest_collection_us = max(counters.longest_collection_us, took_us)
        log.debug("a full collection took %d µs", took_us)
