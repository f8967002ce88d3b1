"""The table of slots at a router: which link each is attached to, as of which map; or since when it is parked.

What the states mean, and what follows from a change, is in ``forwarding``. Here is only which of them holds, and the
rule by which a parked slot may be attached.
"""

from __future__ import annotations

from array import array

from ...common.cluster.cluster_map import ClusterMap
from ...common.ids import Incarnation
from ...common.limits import SLOTS
from ..clients.links import OwnerLink
from ..clients.timers import ticks

TRANSIT_PATIENCE = ticks(1.0)
"""Ticks for which a slot in transit is not attached again to the owner that let go of it."""


class Slots:
    """Every slot is attached to a link or parked. At first all are parked.

    Args:
        tick: The present tick.

    Attributes:
        links: For each slot the link that it is attached to, ``None`` while it is parked.
        parked: The parked ones, each with the tick since when.
    """

    __slots__ = ("_as_of", "_released", "_tried", "links", "parked")

    def __init__(self, tick: int) -> None:
        self.links: list[OwnerLink | None] = [None] * SLOTS
        self.parked: dict[int, int] = dict.fromkeys(range(SLOTS), tick)
        self._as_of = array("Q", bytes(8 * SLOTS))
        # For a slot that is parked because its owner let go of it: who that was, and the map that it had.
        self._released: dict[int, tuple[Incarnation, int]] = {}
        # For one that is attached, out of patience, to the owner that had let go of it: since when it was parked, and
        # when it was attached. Should that owner still not have it, this has been one long wait.
        self._tried: dict[int, tuple[int, int]] = {}

    @property
    def attached(self) -> int:
        """How many are attached."""
        return SLOTS - len(self.parked)

    def of(self, link: OwnerLink) -> list[int]:
        """Those attached to *link*."""
        return [slot for slot, attached in enumerate(self.links) if attached is link]

    def attach(self, slot: int, link: OwnerLink, map_version: int, tick: int = 0) -> None:
        """A parked slot gets an owner, as map *map_version* says."""
        since = self.parked.pop(slot)
        released = self._released.get(slot)
        if released is not None and released[0] == link.remote:
            self._tried[slot] = since, tick
        else:
            self._tried.pop(slot, None)
        self.links[slot] = link
        self._as_of[slot] = map_version
        # How it came to be parked does not matter to the next time: maps only go forward from this one.
        self._released.pop(slot, None)

    def park(self, slot: int, tick: int) -> None:
        """The owner of an attached slot is dead."""
        self.links[slot] = None
        self.parked[slot] = tick

    def release(self, slot: int, link: OwnerLink, map_version: int, tick: int) -> bool:
        """The owner at the other end of *link* says that it let go of the slot; the slot is parked if that holds.

        It does not if the slot is not attached there, or if it was attached as of a newer map than *map_version*: the
        owner spoke before it had that map, which gave it the slot anew. (It reads what we sent with a map only after
        it has that map, so an answer to it would name that map or a newer one.)

        Args:
            slot: Any number.
            link: Who says so.
            map_version: The map that it had.
            tick: The present tick.

        Returns:
            Whether it holds.
        """
        if not 0 <= slot < SLOTS or self.links[slot] is not link or map_version < self._as_of[slot]:
            return False
        since, _ = self._tried.get(slot, (tick, 0))
        self.park(slot, since)
        self._released[slot] = link.remote, map_version
        return True

    def may_attach(self, slot: int, current: ClusterMap, tick: int) -> bool:
        """Whether a parked slot may be attached to its owner in the map.

        Not to the one that has just let go of it, until a map gives it the slot anew: a newer map in which the slot
        is not, or not any more, on its way to another. In transit alone is no reason not to attach: an owner can only
        let go of a slot after it has had RESTORED for it from every router. So if a slot stays in transit for long,
        its owner may have got it back meanwhile, by maps that this router has skipped, and wait for that RESTORED.
        Then it is attached; if the owner does not have it, the answer is RELEASED, and nothing is lost but the effort.
        """
        released = self._released.get(slot)
        if released is None or released[0] != current.owners[slot]:
            return True
        if current.version <= released[1]:
            return False
        _, tried = self._tried.get(slot, (0, self.parked[slot]))
        return slot not in current.next_owners or tick - tried >= TRANSIT_PATIENCE

    @property
    def let_go(self) -> list[int]:
        """The parked ones whose owner let go of them."""
        return list(self._released)
