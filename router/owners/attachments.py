"""Attachments: which owners there are, and what a map, RELEASED and deaths change in that. Pure.

The table of states and events stands in ``forwarding``, which is the shell: it tells what has happened, gets **moves**,
what follows from that, and carries them out. Nothing is closed, sent or connected here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from ...common.cluster.cluster_map import ClusterMap, Member
from ...common.ids import Incarnation
from ..clients.links import OwnerLink
from .slots import Slots


@dataclass(slots=True, eq=False)
class Owner:
    """A shard to which there is a link.

    Attributes:
        member: The shard.
        link: The link.
        attached_at: When it was given its first slots; ``None`` before.
    """

    member: Member
    link: OwnerLink
    attached_at: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """An owner is gone, and its link is closed.

    Attributes:
        owner: Who it was.
        slots: What was attached there, and is parked now.
        died: Its process has ended, as far as anybody knows; else only its link is broken.
    """

    owner: Owner
    slots: Sequence[int]
    died: bool


@dataclass(slots=True)
class Moves:
    """What follows from a map, a RELEASED or a death.

    Attributes:
        ended: Owners that are gone: what was sent to them comes again.
        released: Slots that their owner has let go of, and that are parked now.
        lacking: Shards of the map to which there is no link.
        candidates: Parked slots that may be attached now.
    """

    ended: list[Ended] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    lacking: list[Member] = field(default_factory=list)
    candidates: Collection[int] = ()


class Attachments:
    """See the module.

    Args:
        tick: The present tick.

    Attributes:
        map: The cluster map that holds.
        slots: Which link each slot is attached to.
        unwinding: Parked slots whose former owner's part is not over at this router. They are not attached.
    """

    def __init__(self, tick: int) -> None:
        self.map = ClusterMap()
        self.slots = Slots(tick)
        self.unwinding: set[int] = set()
        self._owners: dict[Incarnation, Owner] = {}  # of links that are not given up
        self._broken: set[Incarnation] = set()

    # --- what is ---

    def owner_at(self, link: OwnerLink) -> Owner | None:
        """The shard at the other end of *link*; ``None`` if it is gone."""
        owner = self._owners.get(link.remote)
        return owner if owner is not None and owner.link is link else None

    def owner_of(self, slot: int) -> Owner | None:
        """Who a parked slot goes to by the map; ``None`` if it is not parked, still unwinds, or nobody can be given
        it."""
        if slot not in self.slots.parked or slot in self.unwinding:
            return None
        return self._owners.get(self.map.owners[slot])

    def name_of(self, incarnation: Incarnation) -> str:
        """What a shard is called in logs."""
        owner = self._owners.get(incarnation)
        return f"incarnation {incarnation}" if owner is None else owner.member.name

    def gone_in(self, new: ClusterMap) -> list[Owner]:
        """Those whom map *new* does not have any more. Their links are closed before ``follow``: what these have
        brought and not handed out counts as of before."""
        return [owner for incarnation, owner in self._owners.items() if incarnation not in new.members]

    @property
    def lacking(self) -> list[Member]:
        """The shards of the map to which there is no link, and might be one."""
        known = self._owners.keys() | self._broken
        return [member for member in self.map.shards if member.incarnation not in known]

    # --- what happens ---

    def follow(self, new: ClusterMap, tick: int) -> Moves:
        """There is a new map. The shards that have left it are dead."""
        self.map = new
        gone = self.gone_in(new)
        self._broken &= new.members.keys()
        ended = [self._end(owner, died=True, tick=tick) for owner in gone]
        return Moves(ended, lacking=self.lacking, candidates=list(self.slots.parked))

    def connected(self, member: Member, link: OwnerLink) -> Moves:
        """There is a link to a shard that lacked one."""
        self._owners[member.incarnation] = Owner(member, link)
        return Moves(candidates=list(self.slots.parked))

    def lost(self, link: OwnerLink, *, died: bool, tick: int) -> Moves:
        """The process at the other end has *died*, or the session with it cannot go on: until the map names another
        incarnation, its slots have no owner. The link is closed before."""
        owner = self.owner_at(link)
        if owner is None:
            return Moves()
        self._broken.add(link.remote)
        return Moves([self._end(owner, died=died, tick=tick)])

    def released(self, link: OwnerLink, map_version: int, slots: Sequence[int], tick: int) -> Moves:
        """The owner at the other end of *link* has let go of *slots*, as of that map; see ``Slots.release``."""
        released = [slot for slot in slots if self.slots.release(slot, link, map_version, tick)]
        self.unwinding.update(released)
        return Moves(released=released)

    def taken_back(self, slots: Collection[int]) -> None:
        """Parked slots of which a part had been given to an owner, who is gone."""
        self.unwinding.update(slots)

    def unwound(self, slots: Collection[int]) -> Moves:
        """The part of their former owner is over."""
        self.unwinding.difference_update(slots)
        return Moves(candidates=slots)

    def attached(self, slot: int, link: OwnerLink, tick: int) -> None:
        """All of a parked slot has been given to its owner."""
        self.slots.attach(slot, link, self.map.version, tick)

    def _end(self, owner: Owner, *, died: bool, tick: int) -> Ended:
        del self._owners[owner.member.incarnation]
        slots = self.slots.of(owner.link)
        for slot in slots:
            self.slots.park(slot, tick)
        self.unwinding.update(slots)
        return Ended(owner, slots, died)
