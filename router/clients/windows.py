"""The windows of all connections together: their bound, who gets how much of it, and where those wait who do not."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...common.budget import Budget
from ...common.limits import WINDOW_BYTES
from ..counters import RouterCounters
from .links import OwnerLink
from .objects import ObjectEntry
from .work import Gate, Work


class Windows:
    """See the module.

    Args:
        budget: Bytes that all windows together may hold; their connections take from it.
        counters: How many connections there are.
        work: Where those go on who have waited.

    Attributes:
        are_full: The bound has stopped somebody, who is to go on.
        crowded: Where those wait that have their share of all windows, while together they hold more than half.
    """

    __slots__ = ("_budget", "_counters", "_full", "_links", "_work", "are_full", "crowded")

    def __init__(self, budget: Budget, counters: RouterCounters, work: Work) -> None:
        self._budget = budget
        self._counters = counters
        self._work = work
        self.are_full = False
        self._full = Gate(work, lambda: budget.taken < budget.limit)
        self.crowded = Gate(work, lambda: budget.taken <= budget.half)
        self._links: dict[OwnerLink, Gate] = {}

    def share(self) -> int:
        """Bytes that the window of one connection may hold when all together hold more than half of the bound.

        The other half is shared out evenly, so that a connection that holds little goes on, while those that have
        brought it so far are not read until they have less. Even if all use their share, that is no more than the
        bound; what is beyond it in spite of that (a window that was empty admits one message of any size) stops
        everybody: then the answer is 0, and an empty window admits a small message only.
        """
        budget = self._budget
        if budget.taken >= budget.limit:
            self.are_full = True
            return 0
        return max(1, min(WINDOW_BYTES, budget.half // (self._counters.connections or 1)))

    def relieved(self) -> None:
        """Windows have got room. If their bound had stopped everybody, and half of it is free, all may go on."""
        if self._budget.taken <= self._budget.half:
            self.are_full = False
            self.open()

    # --- what connections wait for ---

    def gate(self, entry: ObjectEntry[Any], room: int) -> Gate | None:
        """Where a connection has to wait that cannot take what its client has sent.

        Args:
            entry: Its object.
            room: What its window might hold.

        Returns:
            ``None`` if all that it lacks is room in its window.
        """
        if entry.is_shut():
            if entry.gate is None:
                entry.gate = Gate(self._work, partial(self._passes, entry))
            self._passes(entry)
            return entry.gate
        if not room:
            return self._full
        return self.crowded if room < WINDOW_BYTES else None

    def _passes(self, entry: ObjectEntry[Any]) -> bool:
        """Whether an object takes something now. If only the link to its owner does not, its gate waits there."""
        link, gate = entry.link, entry.gate
        if entry.held:
            return False
        if link is None or not link.blocked:
            return True
        at_link = self._links.get(link)
        if at_link is None:
            at_link = self._links[link] = Gate(self._work, lambda: not link.blocked)
        if gate is not None:
            at_link.add(gate)
        return False

    def unblocked(self, link: OwnerLink) -> None:
        """A link has room again: those that wait for it go on."""
        gate = self._links.get(link)
        if gate is not None:
            gate.open()

    def link_ended(self, link: OwnerLink) -> None:
        """Nothing is attached to *link* any more, so that nobody waits for it."""
        self._links.pop(link, None)

    def open(self) -> None:
        """Let those go on that wait until all windows together hold less, if they do."""
        self._full.open()
        self.crowded.open()
