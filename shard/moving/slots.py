"""The slots of a shard: which deliver, which wait for routers, which are being let go of. Pure.

A slot that this shard has come to own delivers nothing before every router of the map has **restored** it, so that an
object knows all its sockets before it starts. A slot that the map sends to another shard is **released**: nothing of
it starts any more, what runs comes to its end, and then this shard says so and never speaks of it again.

========= ================================== ================================== ====================================
state     means                              event                              becomes
========= ================================== ================================== ====================================
(absent)  another shard's                    the map names us as its owner      CLOSED; OPEN if the map has no router
                                             RESTORED                           answered RELEASED
CLOSED    ours; events wait                  each router has restored it,       OPEN; LEAVING if it is in transit
                                             or has left the map
OPEN      events are delivered               the map has it in transit          LEAVING
LEAVING   nothing starts, what arrives is    ``released``: all has ended, and   RELEASED
          dropped unacknowledged             the routers will have read so
RELEASED  over; we propose the map that      the map names another owner        absent
          gives it to its next owner         the map names us, not in transit   CLOSED
                                             RESTORED                           answered RELEASED
========= ================================== ================================== ====================================

A slot that is still CLOSED is not released: first every router must have attached it here, else one of them could hear
of the release before it has heard of us.

RESTORED and RELEASED name the map that they follow from. They can cross: a router that has just entered the cluster
may attach a slot to a shard that has released it before it knew this router. Its RESTORED then comes to a shard that
does not have the slot, or that has it again by now. In the first case it is answered by a RELEASED of the present map.
In the second it is older than the map by which this shard let the slot go (its *floor*), and is answered by a RELEASED
of just below that: the router attaches the slot once more, under the map it has now. A router in turn ignores a
RELEASED that is older than its attachment.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, Protocol, TypeVar

from ...common.cluster.cluster_map import ClusterMap
from ...common.ids import Incarnation, Slot


class InSlot(Protocol):
    """An object that waits for its slot."""

    @property
    def slot(self) -> Slot: ...


O = TypeVar("O", bound=InSlot)  # noqa: E741


class SlotState(Enum):
    """Where a slot of this shard stands; see the table above."""

    CLOSED = "ours; events wait until every router has restored it"
    OPEN = "events are delivered"
    LEAVING = "in transit: what runs may end, nothing starts"
    RELEASED = "let go of; the next owner's turn"


_CLOSED, _OPEN, _LEAVING, _RELEASED = SlotState.CLOSED, SlotState.OPEN, SlotState.LEAVING, SlotState.RELEASED


@dataclass(slots=True)
class Change(Generic[O]):
    """What follows from a new map, or from what a router said.

    Attributes:
        opened: Objects whose slot delivers now, in the order in which they came.
        leaving: Slots to be released.
        lost: Slots that the map has given away without our having released them: the others hold this shard for dead.
        answers: What to answer a router with ``RELEASED``: the slots by the map version to name.
        outdated: Those of them that are ours: what this router has restored there is to be forgotten.
    """

    opened: list[O] = field(default_factory=list)
    leaving: list[Slot] = field(default_factory=list)
    lost: list[Slot] = field(default_factory=list)
    answers: dict[int, list[Slot]] = field(default_factory=dict)
    outdated: list[Slot] = field(default_factory=list)


class Slots(Generic[O]):
    """The states of a shard's slots.

    Args:
        incarnation: This shard's.

    Attributes:
        version: Version of the map followed.
    """

    __slots__ = (
        "_floors",
        "_followed",
        "_in_transit",
        "_incarnation",
        "_map",
        "_missing",
        "_released_at",
        "_routers",
        "_states",
        "_waiting",
        "version",
    )

    def __init__(self, incarnation: Incarnation) -> None:
        self._incarnation = incarnation
        self._states: dict[Slot, SlotState] = {}
        self._missing: dict[Slot, set[Incarnation]] = {}  # routers that a CLOSED slot waits for
        self._waiting: dict[Slot, dict[O, None]] = {}
        self._in_transit: frozenset[Slot] = frozenset()  # those of ours
        self._map = ClusterMap()
        self._routers: frozenset[Incarnation] = frozenset()
        self._floors: dict[Slot, int] = {}
        self._released_at: dict[Slot, int] = {}  # the map that a RELEASED slot was released under
        self._followed: tuple[object, object] | None = None  # owners and next owners of the last map
        self.version = 0

    @property
    def owned(self) -> int:
        """How many slots are this shard's, those that it is about to release included."""
        return sum(1 for state in self._states.values() if state is not _RELEASED)

    @property
    def waiting(self) -> int:
        """How many of them wait for a router."""
        return len(self._missing)

    def state(self, slot: Slot) -> SlotState | None:
        """The state of *slot*; ``None`` for another shard's."""
        return self._states.get(slot)

    def takes_passports(self, slot: Slot) -> bool:
        """Whether routers may restore connections of *slot*."""
        state = self._states.get(slot)
        return state is _OPEN or state is _CLOSED

    def takes_requests(self, slot: Slot, router: Incarnation) -> bool:
        """Whether a request of *router* for *slot* is to be carried out, now or when all routers have restored it.

        One that comes before that router's RESTORED was sent during an earlier stay of the slot here. The router has
        sent it again since.
        """
        return self.takes_passports(slot) and router not in self._missing.get(slot, ())

    def holds(self, owner: O) -> bool:
        """Whether *owner* must wait. If so, it is among those ``opened`` later."""
        if owner.slot not in self._missing:
            return False
        self._waiting.setdefault(owner.slot, {})[owner] = None
        return True

    def follow(self, cluster_map: ClusterMap, routers: Collection[Incarnation]) -> Change[O]:
        """A new map.

        Args:
            cluster_map: The map.
            routers: Its routers.
        """
        change, me, states = Change[O](), self._incarnation, self._states
        next_owners = cluster_map.next_owners
        before, self.version = self.version, cluster_map.version
        self._map, self._routers = cluster_map, frozenset(routers)
        handed_over = any(self._was_handed_over(slot) for slot in self._released_at)
        if (cluster_map.owners, next_owners) == self._followed and not handed_over:
            return change  # members have come or gone
        self._followed = cluster_map.owners, next_owners
        self._in_transit = frozenset(slot for slot in next_owners if cluster_map.owners[slot] == me)
        for number, owner in enumerate(cluster_map.owners):
            slot = Slot(number)
            state = states.get(slot)
            if state is _RELEASED and (owner != me or slot not in next_owners or self._was_handed_over(slot)):
                # It was in transit from us in the map before this one, so it has been handed over since. Or we know
                # that it was, and it has come back and is to leave again, by maps that we have not seen.
                if not self._was_handed_over(slot):
                    self._floors[slot] = before + 1
                del states[slot], self._released_at[slot]
                state = None
            if owner != me:
                if state is not None:
                    change.lost.append(slot)
                continue
            if state is None:
                if routers:
                    states[slot] = _CLOSED
                    self._missing[slot] = set(routers)
                    continue
                states[slot] = state = _OPEN
            if state is _OPEN and slot in next_owners:
                states[slot] = _LEAVING
                change.leaving.append(slot)
        return change

    def restored(self, router: Incarnation, map_version: int, slots: Iterable[Slot]) -> Change[O]:
        """*router* says that it has restored *slots*, as the map of that version asked for."""
        change = Change[O]()
        for slot in slots:
            state = self._states.get(slot)
            if state is None or state is _RELEASED:
                change.answers.setdefault(self.version, []).append(slot)
            elif map_version < self._floors.get(slot, 0):
                change.answers.setdefault(self._floors[slot] - 1, []).append(slot)
                change.outdated.append(slot)
            else:
                self._has_restored(router, slot, change)
        return change

    def lost_router(self, router: Incarnation) -> Change[O]:
        """*router* has left the map: it restores nothing any more."""
        change = Change[O]()
        for slot in [slot for slot, missing in self._missing.items() if router in missing]:
            self._has_restored(router, slot, change)
        return change

    def _has_restored(self, router: Incarnation, slot: Slot, change: Change[O]) -> None:
        missing = self._missing.get(slot)
        if missing is None:
            return
        missing.discard(router)
        if missing:
            return
        del self._missing[slot]
        waiting = self._waiting.pop(slot, ())
        if slot in self._in_transit:
            self._states[slot] = _LEAVING
            change.leaving.append(slot)
        else:
            self._states[slot] = _OPEN
            change.opened += waiting

    def released(self, slots: Iterable[Slot]) -> None:
        """Nothing of *slots*, which were LEAVING, will be said any more."""
        for slot in slots:
            assert self._states[slot] is _LEAVING, slot
            self._states[slot] = _RELEASED
            self._released_at[slot] = self.version

    def handed_over(self, slots: Iterable[Slot], map_version: int) -> Change[O]:
        """The map of that version gave *slots*, which we had released, to their next owners.

        The map that we follow may be a later one, in which they have come back and are to leave again.
        """
        for slot in slots:
            self._floors[slot] = max(self._floors.get(slot, 0), map_version)
        if self._map.version < map_version:
            return Change[O]()  # that map is yet to come
        return self.follow(self._map, self._routers)

    def _was_handed_over(self, slot: Slot) -> bool:
        return self._floors.get(slot, 0) > self._released_at[slot]
