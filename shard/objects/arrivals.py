"""The bound of all that has come to a shard and has not ended: messages and requests of a size worth counting.

Routers bound what they send, each for itself, and a mailbox bounds what one object has. A shard of many routers and
objects needs a bound of its own. From half of it on, objects that have more than an even share of that half are *held*
(HOLD: their clients are not read), so that those who have little go on; what is under way still comes. Beyond the bound
a request of some size is refused: its body would lie here until its object answers, and nobody can take it away from
there. Whoever is held goes on when it has half of a share, or all together have three quarters of the half.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ...common.budget import Budget
from ..counters import ShardCounters

SMALL_BYTES = 64 << 10
"""Bytes of a request that is never refused, and the least share of an object."""
AT_ONCE = 64
"""Objects that are told in one turn of the loop that they may go on."""


class Receiving(Protocol):
    """An object that things come to."""

    @property
    def unfinished_bytes(self) -> int:
        """Bytes of what has come and not ended."""
        ...

    def hold(self) -> None:
        """Have its clients not read."""
        ...

    def go_on_if_it_may(self) -> None:
        """Have them read again, unless its own bound is against that."""
        ...


class Arrivals:
    """The account of one shard.

    Args:
        budget: Bytes of all together; the objects take from it.
        counters: How many objects are awake.
        call_soon: Has something called in the loop's next turn.

    Attributes:
        budget: See above. From half of it on, who has much is held.
    """

    __slots__ = ("_call_soon", "_counters", "_held", "_is_planned", "budget")

    def __init__(
        self, budget: Budget, counters: ShardCounters, call_soon: Callable[[Callable[[], None]], object]
    ) -> None:
        self.budget = budget
        self._counters = counters
        self._call_soon = call_soon
        self._held: dict[Receiving, None] = {}
        self._is_planned = False

    @property
    def share(self) -> int:
        """Bytes that each object may have when all together have more than half."""
        return max(SMALL_BYTES, self.budget.half // (self._counters.objects_awake or 1))

    def takes(self, size: int) -> bool:
        """Whether a request of *size* bytes may come to its object."""
        return size <= SMALL_BYTES or self.budget.fits(size)

    def grown(self, owner: Receiving) -> None:
        """An object has got more, and all together have more than half."""
        if owner.unfinished_bytes > self.share:
            self._held[owner] = None
            owner.hold()

    def holds(self, owner: Receiving) -> bool:
        """Whether an object that has less than before still has too much for others."""
        if owner not in self._held:
            return False
        if owner.unfinished_bytes > self.share // 2:
            return True
        del self._held[owner]
        return False

    def shrunk(self) -> None:
        """All together have less than before."""
        budget = self.budget
        if self._held and not self._is_planned and budget.taken <= budget.half - budget.half // 4:
            self._is_planned = True
            self._call_soon(self._let_go)

    def _let_go(self) -> None:
        self._is_planned = False
        for owner in list(self._held)[:AT_ONCE]:
            del self._held[owner]
            owner.go_on_if_it_may()
        self.shrunk()
