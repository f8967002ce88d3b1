"""Clocks: where a shell reads the time that it passes into pure code.

Pure code takes ``now: float``; only shells hold a ``Clock``, so that tests and the simulation give them their own.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two times that must not be mixed."""

    def now(self) -> float:
        """Seconds that never go back, from an arbitrary start: for deadlines and intervals within one process."""
        ...

    def wall(self) -> float:
        """Unix time in seconds; it jumps when somebody sets the clock: for timestamps that people and peers read."""
        ...


class SystemClock:
    """The machine's clocks. ``now()`` is the one that asyncio's loops use: it may be compared with ``loop.time()``."""

    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
