"""Memory that was freed goes back to the system."""

from __future__ import annotations

import subprocess
import sys

from roost.common.runtime.heap import PORTION_BYTES, SHARE, Heap, malloc_trim
from roost.router.counters import RouterCounters
from tests.unit.common.runtime.test_collector import FakeClock


class Trims:
    """A heap whose trimming takes a second."""

    def __init__(self) -> None:
        self.counters, self.clock = RouterCounters(), FakeClock()
        self.heap = Heap(self.counters, self.clock, self.trim)

    def trim(self, pad: int) -> None:
        self.clock.time += 1.0


def test_it_is_trimmed_once_so_much_was_freed() -> None:
    trims = Trims()
    for held, count in ((0, 0), (3 * PORTION_BYTES, 0), (2 * PORTION_BYTES + 1, 0), (2 * PORTION_BYTES, 1)):
        trims.heap.look(held)
        assert trims.counters.trims == count
    assert trims.counters.longest_trim_us == 1_000_000


def test_it_takes_a_share_of_the_time_at_most() -> None:
    trims = Trims()
    for _ in range(1000):
        trims.heap.look(PORTION_BYTES)
        trims.heap.look(0)
        trims.clock.time += 0.05
    assert trims.counters.trims <= trims.clock.time * SHARE + 1
    assert trims.counters.trims > 3


FREED = """
import gc
from roost.common.runtime.clock import SystemClock
from roost.common.runtime.heap import Heap, settle
from roost.router.counters import RouterCounters

def private():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) >> 10

settle()
heap = Heap(RouterCounters(), SystemClock())
before = private()
held, between = [], []
for number in range(4000):
    held.append(bytearray({size}))
    between.append(bytearray(600))  # holds the heap's end in its place
full = private()
heap.look(sum(map(len, held)))
held.clear()
heap.look(0)
print(before, full, private())
"""


def freed(size: int) -> tuple[int, int, int]:
    said = subprocess.run([sys.executable, "-c", FREED.format(size=size)], capture_output=True, text=True, check=True)
    before, full, after = map(int, said.stdout.split())
    return before, full, after


def test_what_lies_between_others_goes_back() -> None:
    before, full, after = freed(30_000)
    assert full - before > 100
    assert after - before < 20


def test_the_heap_of_this_library_is_known() -> None:
    assert malloc_trim() is not None
