"""The bound of all request bodies of a router: who has to make room when it is reached.

A body counts from its first byte until its request is answered. Bodies that have arrived whole are with their objects.
Those that are still coming are *uploads*, in the order of their last progress, a step of ``STEP_BYTES``. When one more
byte would be too much, the first of that order has to go: the slowest. But

* one that has made a step within ``PATIENCE_TICKS`` is not slow: it goes only for a body that has less than half of
  what it holds, so that whoever sends little is not shut out by a few that send much;
* if it stays, the one that wants to grow is refused.

So nobody keeps the bound to himself by sending a byte now and then: a request costs its sender a rate, or its place.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from ...common.budget import Budget
from ...common.errors import RequestError, Unavailable
from ..clients.timers import Wheel, ticks
from ..counters import RouterCounters

STEP_BYTES = 4 << 10
"""Bytes of a body that are a step. What is smaller is no upload: to evict it would give nothing."""
PATIENCE_TICKS = ticks(1.0)
"""Ticks in which an upload is not slow that has made a step."""
TOO_MANY = "this router holds too many request bodies at present; try again later"
TOO_SLOW = "this router holds too many request bodies at present, and this one came slowest; try again later"


class Upload(Protocol):
    """A body that is coming."""

    @property
    def body_size(self) -> int:
        """Bytes of it that have come."""
        ...

    def evict(self, error: RequestError) -> None:
        """Give its memory back, and answer *error*. The account has forgotten it."""
        ...


class Bodies:
    """The account of one router.

    Args:
        budget: Bytes of all together; those who have bodies take from it.
        counters: Where uploads that have to go are counted.
        wheel: The timer wheel, for its tick.

    Attributes:
        budget: See above.
    """

    __slots__ = ("_counters", "_steps", "_wheel", "budget")

    def __init__(self, budget: Budget, counters: RouterCounters, wheel: Wheel) -> None:
        self.budget = budget
        self._counters = counters
        self._wheel = wheel
        self._steps: OrderedDict[Upload, tuple[int, int]] = OrderedDict()
        """Upload → bytes and tick of its last step, the longest ago first."""

    def __len__(self) -> int:
        """How many uploads there are."""
        return len(self._steps)

    def grew(self, upload: Upload) -> None:
        """Some more of *upload* has come, and is counted.

        Raises:
            Unavailable: It is too much, and *upload* itself has to go.
        """
        size = upload.body_size
        last = self._steps.get(upload)
        if size - (0 if last is None else last[0]) >= STEP_BYTES:
            self._steps[upload] = size, self._wheel.tick
            self._steps.move_to_end(upload)
        while self.budget.is_over:
            slowest = next(iter(self._steps), None)
            if slowest is None or slowest is upload or not self._may_evict(slowest, size):
                raise Unavailable(TOO_MANY)
            del self._steps[slowest]
            self._counters.bodies_evicted += 1
            slowest.evict(Unavailable(TOO_SLOW))

    def _may_evict(self, slowest: Upload, size: int) -> bool:
        """Whether *slowest* has to make room for a body of which *size* bytes have come."""
        is_slow = self._wheel.tick - self._steps[slowest][1] >= PATIENCE_TICKS
        return is_slow or slowest.body_size > 2 * size

    def end(self, upload: Upload) -> None:
        """*upload* has arrived whole, or comes no more."""
        self._steps.pop(upload, None)
