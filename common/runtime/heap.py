"""Memory that was freed goes back to the system.

The C library keeps what is freed for the next who asks, which is right for a program whose work is even. Ours is not:
after a flood of unfinished messages a router would keep hundreds of megabytes that nobody uses. Two things help, both
glibc's (elsewhere this module does nothing):

* Buffers of ``MAPPED_BYTES`` and more get pages of their own, which go back in the moment in which they are freed. By
  default glibc moves that limit up to 32 MiB as it sees large buffers freed: then bodies of 10 MiB lie in the heap, and
  stay. The price is some 60 µs a megabyte.
* What lies in the heap between others goes back when told to (``malloc_trim``). That takes 0.4 to 1 ms for a megabyte,
  and holds everything up. So it is done in portions, soon after so much was freed, and for a tenth of the time at most.

A thread of its own does not help: the heap is locked meanwhile.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from ..machine.counters import Counters
from .clock import Clock

MAPPED_BYTES = 256 << 10
"""Bytes from which on a buffer has pages of its own: full batches and bodies have; what a read brings has not."""
ARENAS = 2
"""Heaps for threads: the loop's, and one for ZeroMQ's and others'."""
PORTION_BYTES = 16 << 20
"""Bytes freed after which the heap is trimmed; so many may stay free at its end."""
SHARE = 0.1
"""Of the time, what trimming may take."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None


def settle() -> None:
    """Set the C library up as above. To be called once, before there are threads."""
    library = _glibc()
    if library is not None:
        library.mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, PORTION_BYTES)
        library.mallopt(_M_ARENA_MAX, ARENAS)


def malloc_trim() -> Callable[[int], object] | None:
    """What gives freed memory back; ``None`` where the C library has no such thing."""
    library = _glibc()
    return None if library is None else library.malloc_trim


class Heap:
    """Trims the heap at fitting times.

    Args:
        counters: Where that is counted.
        clock: For its length.
        trim: Gives freed memory back, in place of the C library.
    """

    __slots__ = ("_clock", "_counters", "_high", "_not_before", "_trim")

    def __init__(self, counters: Counters, clock: Clock, trim: Callable[[int], object] | None = None) -> None:
        self._counters = counters
        self._clock = clock
        self._trim = trim or malloc_trim()
        self._high = 0
        self._not_before = 0.0

    def look(self, held: int) -> None:
        """Trim it if so much less is held than was that it is worth it. Call it often.

        Args:
            held: Bytes that the process's accounts show.
        """
        if held > self._high:
            self._high = held
        elif self._high - held >= PORTION_BYTES and self._trim is not None:
            began = self._clock.now()
            if began >= self._not_before:
                self._high = held
                self.trim()
                self._not_before = began + (self._clock.now() - began) / SHARE

    def trim(self) -> None:
        """Give back what can be, now: it may take a tenth of a second."""
        if self._trim is not None:
            began = self._clock.now()
            self._trim(0)
            counters = self._counters
            counters.trims += 1
            counters.longest_trim_us = max(counters.longest_trim_us, int((self._clock.now() - began) * 1e6))
