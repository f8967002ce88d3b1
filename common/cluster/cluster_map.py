"""The cluster map: who is a member, and which shard owns each slot; and how one map follows from another.

The *target* of a slot comes from weighted rendezvous hashing over the shards' seats; the map records the *actual*
owner. The functions here are pure: they take a map and give the next one, whose version is one higher. Whoever wants
the change proposes that map to the directory, which accepts it only if the version is still the next one.

Weighted rendezvous hashing: each pair (seat, slot) has a fixed pseudo-random number u in (0, 1); the slot's target is
the seat with the least ``-ln(u) / weight``. These are exponential variates of rate *weight*, so a seat wins in
proportion to its weight, and a new one takes slots only for itself: no slot moves between two that were there.

How the owner of a slot changes
===============================

======================= ============================================ =====================================
a slot is               means                                        becomes
======================= ============================================ =====================================
without owner           fewer shards than the first assignment       owned: ``entered``
                        waits for
owned                   its owner delivers its events                in transit: ``moving``
                                                                     owned by another: the owner is dead
                                                                     (``replaced``, ``inherited``)
in transit              the map names a next owner; the owner ends   owned by it: ``handed_over``, which the
                        what it has begun and lets go of the slot    old owner proposes
                                                                     owned by it: the old owner is dead
                                                                     in transit to another: the next owner is
                                                                     dead (``replaced``, ``inherited``)
======================= ============================================ =====================================

A slot in transit is not sent elsewhere but by a death. When the next owner dies and nobody else is left, the next
owner is the owner itself: it lets go of the slot and takes it up again, since it may have let go already.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any

from ..errors import DirectoryError
from ..ids import Incarnation, Slot
from ..limits import SLOTS

NOBODY = Incarnation(0)
"""The owner of a slot that has none yet; no member has this incarnation."""

_NO_OWNERS: tuple[Incarnation, ...] = (NOBODY,) * SLOTS


class MemberKind(StrEnum):
    """What a member does."""

    ROUTER = "router"
    """Terminates HTTP and WebSockets."""
    SHARD = "shard"
    """Owns slots and hosts their objects."""


@dataclass(frozen=True, slots=True)
class Member:
    """One process of the cluster, in one of its lives.

    Attributes:
        name: Stays the same over restarts; unique among the members of a map.
        kind: Router or shard.
        incarnation: New at each start, never used twice.
        endpoint: Where a shard's ZeroMQ socket is bound; empty for a router.
        namespaces: The namespaces that a shard hosts; empty for a router.
        pid: The process, on the machine of the directory.
        weight: A shard's share of the slots, relative to the others'.
        seat: What a shard's share of the slots is computed from: its name, if not given. A shard that takes over from
            another with new code has a name of its own and the seat of its predecessor.
    """

    name: str
    kind: MemberKind
    incarnation: Incarnation
    endpoint: str = ""
    namespaces: tuple[str, ...] = ()
    pid: int = 0
    weight: float = 1.0
    seat: str = ""

    def __post_init__(self) -> None:
        if not self.seat:
            object.__setattr__(self, "seat", self.name)


@dataclass(frozen=True, slots=True)
class ClusterMap:
    """One version of the cluster.

    Attributes:
        version: Grows by one with each change; 0 is the empty map of a new directory.
        members: By incarnation.
        owners: For each slot the incarnation of the shard that owns it; ``NOBODY`` before the first assignment.
        next_owners: For a slot on the move, the incarnation that it goes to.
    """

    version: int = 0
    members: Mapping[Incarnation, Member] = field(default_factory=dict)
    owners: tuple[Incarnation, ...] = _NO_OWNERS
    next_owners: Mapping[Slot, Incarnation] = field(default_factory=dict)

    @property
    def routers(self) -> tuple[Member, ...]:
        """The routers, in the order of their incarnations."""
        return self._of_kind(MemberKind.ROUTER)

    @property
    def shards(self) -> tuple[Member, ...]:
        """The shards, in the order of their incarnations."""
        return self._of_kind(MemberKind.SHARD)

    def _of_kind(self, kind: MemberKind) -> tuple[Member, ...]:
        return tuple(self.members[key] for key in sorted(self.members) if self.members[key].kind is kind)

    @property
    def has_owners(self) -> bool:
        """Whether the slots have been assigned."""
        return self.owners[0] != NOBODY

    @property
    def namespaces(self) -> tuple[str, ...]:
        """All namespaces that are hosted, sorted."""
        return tuple(sorted({name for member in self.shards for name in member.namespaces}))

    def owner(self, slot: Slot) -> Member | None:
        """The shard that owns *slot*; ``None`` before the first assignment."""
        return self.members.get(self.owners[slot])

    def slots_of(self, incarnation: Incarnation) -> tuple[Slot, ...]:
        """The slots that the member owns, ascending."""
        return tuple(Slot(slot) for slot, owner in enumerate(self.owners) if owner == incarnation)

    def named(self, name: str) -> Member | None:
        """The member called *name*."""
        return next((member for member in self.members.values() if member.name == name), None)

    def to_json(self) -> str:
        """The map as text, for the directory; ``from_json`` reads it back."""
        document = {
            "version": self.version,
            "members": [
                {
                    "name": member.name,
                    "kind": member.kind.value,
                    "incarnation": member.incarnation,
                    "endpoint": member.endpoint,
                    "namespaces": list(member.namespaces),
                    "pid": member.pid,
                    "weight": member.weight,
                    "seat": member.seat,
                }
                for member in (self.members[key] for key in sorted(self.members))
            ],
            "owners": list(self.owners) if self.has_owners else [],
            "next_owners": sorted(self.next_owners.items()),
        }
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> ClusterMap:
        """Read a map back.

        Raises:
            DirectoryError: *text* is not a whole, consistent map.
        """
        try:
            document = json.loads(text)
            members = {member.incarnation: member for member in map(_member, document["members"])}
            owners = tuple(map(Incarnation, document["owners"])) or _NO_OWNERS
            next_owners = {Slot(slot): Incarnation(owner) for slot, owner in document["next_owners"]}
            made = cls(int(document["version"]), members, owners, next_owners)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DirectoryError(f"the directory holds a cluster map that cannot be read: {error!r}") from error
        made._check()
        return made

    def _check(self) -> None:
        if len(self.owners) != SLOTS or any(not 0 <= slot < SLOTS for slot in self.next_owners):
            raise DirectoryError(f"the directory holds a cluster map that does not have {SLOTS} slots")
        strangers = (
            {*self.owners, *self.next_owners.values()} - {NOBODY} - {member.incarnation for member in self.shards}
        )
        if strangers or (NOBODY in self.owners and len(set(self.owners)) > 1):
            raise DirectoryError("the directory holds a cluster map whose slots are owned by shards that are not in it")


def _member(document: dict[str, Any]) -> Member:
    return Member(
        name=str(document["name"]),
        kind=MemberKind(document["kind"]),
        incarnation=Incarnation(int(document["incarnation"])),
        endpoint=str(document["endpoint"]),
        namespaces=tuple(map(str, document["namespaces"])),
        pid=int(document["pid"]),
        weight=float(document["weight"]),
        seat=str(document.get("seat", "")),
    )


# --- rendezvous hashing -------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _draws(seat: str) -> tuple[float, ...]:
    """``-ln(u)`` of *seat* for each slot. One extendable hash gives all 4,096 numbers at once."""
    words = struct.unpack(f"<{SLOTS}Q", hashlib.shake_128(b"roost slots\0" + seat.encode()).digest(SLOTS * 8))
    # 53 bits is what a float holds; the half keeps u away from both ends of (0, 1).
    return tuple([-math.log(((word >> 11) + 0.5) * 2.0**-53) for word in words])


def targets(seats: Mapping[str, float]) -> tuple[str, ...]:
    """The seat to which each slot belongs.

    Args:
        seats: Weight by seat; one of weight 2 gets twice the slots of one of weight 1, in expectation.

    Raises:
        ValueError: There is no seat, or a weight is not a positive finite number.
    """
    if not seats:
        raise ValueError("slots need at least one shard")
    return _targets(tuple(sorted(seats.items())))  # whoever computes this must break a tie in the same way


@lru_cache(maxsize=16)
def _targets(seats: tuple[tuple[str, float], ...]) -> tuple[str, ...]:
    rows = []
    for name, weight in seats:
        if not (weight > 0 and math.isfinite(weight)):
            raise ValueError(f"the weight of {name!r} must be a positive number, got {weight!r}")
        draws = _draws(name)
        rows.append(draws if weight == 1 else tuple([draw / weight for draw in draws]))
    names = [name for name, _ in seats]
    if len(rows) == 1:
        return (names[0],) * SLOTS
    return tuple([names[column.index(min(column))] for column in zip(*rows, strict=True)])


def _targets_among(shards: Collection[Member]) -> list[Incarnation]:
    """For each slot the shard among *shards* that it belongs to. Of several in one seat the latest one counts."""
    by_seat = {member.seat: member for member in sorted(shards, key=lambda member: member.incarnation)}
    seats = targets({seat: member.weight for seat, member in by_seat.items()})
    incarnations = {seat: member.incarnation for seat, member in by_seat.items()}
    return [incarnations[seat] for seat in seats]


# --- the next map -------------------------------------------------------------------------------------------------


def with_member(current: ClusterMap, member: Member) -> ClusterMap:
    """The map that *member* has entered with a name that is new to it. A shard owns nothing yet.

    Raises:
        ValueError: Its name or incarnation is in the map.
    """
    if member.incarnation == NOBODY or member.incarnation in current.members or current.named(member.name):
        raise ValueError(f"{member.name!r} (incarnation {member.incarnation}) is in the map already")
    return replace(current, version=current.version + 1, members={**current.members, member.incarnation: member})


def replaced(current: ClusterMap, old: Incarnation, new: Member) -> ClusterMap:
    """The map in which *new* stands in the place of the dead member *old* and owns its slots.

    Slots that *old* was about to hand over go to their next owners now: nobody is left to wait for.

    Raises:
        ValueError: *old* is not in the map or is of the other kind; *new* is in it, or its name is another member's.
    """
    before = current.members.get(old)
    if before is None or before.kind is not new.kind:
        raise ValueError(f"there is no {new.kind} of incarnation {old} to replace")
    members = {key: member for key, member in current.members.items() if key != old}
    if new.incarnation in current.members or any(member.name == new.name for member in members.values()):
        raise ValueError(f"{new.name!r} (incarnation {new.incarnation}) is in the map already")
    return _after_death(current, old, {**members, new.incarnation: new}, [new.incarnation] * SLOTS)


def inherited(current: ClusterMap, dead: Incarnation) -> ClusterMap:
    """The map that the dead shard *dead* has left for good: each of its slots goes to its target among the others.

    Raises:
        ValueError: It is no shard of the map, or owns slots and is the only shard.
    """
    before = current.members.get(dead)
    if before is None or before.kind is not MemberKind.SHARD:
        raise ValueError(f"there is no shard of incarnation {dead}")
    members = {key: member for key, member in current.members.items() if key != dead}
    heirs = [member for member in current.shards if member.incarnation != dead]
    if not heirs:
        if dead in current.owners:
            raise ValueError(f"{before.name!r} is the only shard: nobody can take its slots")
        return replace(current, version=current.version + 1, members=members)
    return _after_death(current, dead, members, _targets_among(heirs))


def _after_death(
    current: ClusterMap, dead: Incarnation, members: dict[Incarnation, Member], heirs: list[Incarnation]
) -> ClusterMap:
    """The map with *members*, in which no slot has anything to do with *dead*: *heirs* has who takes each slot."""
    owners, next_owners = list(current.owners), dict(current.next_owners)
    for slot, owner in enumerate(current.owners):
        if owner == dead:
            coming = next_owners.pop(Slot(slot), dead)
            owners[slot] = heirs[slot] if coming == dead else coming
    for slot, coming in next_owners.items():
        if coming == dead:
            next_owners[slot] = heirs[slot]
    return replace(current, version=current.version + 1, members=members, owners=tuple(owners), next_owners=next_owners)


def without(current: ClusterMap, incarnation: Incarnation) -> ClusterMap:
    """The map that a member has left: a router that ended, or a shard that owns no slot.

    Raises:
        ValueError: It is not in the map, or owns slots (their next owner must be named: ``replaced``).
    """
    if incarnation not in current.members:
        raise ValueError(f"there is no member of incarnation {incarnation}")
    if incarnation in current.owners or incarnation in current.next_owners.values():
        raise ValueError(f"{current.members[incarnation].name!r} owns slots")
    members = {key: member for key, member in current.members.items() if key != incarnation}
    return replace(current, version=current.version + 1, members=members)


def without_dead(current: ClusterMap, dead: Incarnation) -> ClusterMap | None:
    """The map that a dead member has left for good; ``None`` if it is not in it, or if nobody can take its slots."""
    member = current.members.get(dead)
    if member is None:
        return None
    if member.kind is MemberKind.ROUTER:
        return without(current, dead)
    if len(current.shards) == 1 and dead in current.owners:
        return None
    return inherited(current, dead)


def plan_first(current: ClusterMap) -> ClusterMap:
    """The first map with owners: each slot goes to its target among the shards of *current*.

    Raises:
        ValueError: There is no shard, or the slots have owners.
    """
    if current.has_owners:
        raise ValueError("the slots have owners already")
    return replace(current, version=current.version + 1, owners=tuple(_targets_among(current.shards)))


def balancing(current: ClusterMap, seats: Mapping[str, Incarnation]) -> dict[Slot, Incarnation]:
    """The moves after which each slot is where it belongs; those in transit stay on their way.

    Args:
        current: The map.
        seats: The shards that should own slots, by seat. Others, and those that have been succeeded in their seat, end
            up with none.

    Returns:
        The next owner of each slot that has to move, for ``moving``; empty before the first assignment.

    Raises:
        ValueError: *seats* is empty, or names an incarnation that is no shard of the map.
    """
    shards = {member.incarnation: member for member in current.shards}
    for seat, incarnation in seats.items():
        if incarnation not in shards:
            raise ValueError(f"the seat {seat!r} is given to incarnation {incarnation}, which is no shard of the map")
    wanted = targets({seat: shards[incarnation].weight for seat, incarnation in seats.items()})
    if not current.has_owners:
        return {}
    return {
        Slot(slot): seats[seat]
        for slot, (seat, owner) in enumerate(zip(wanted, current.owners, strict=True))
        if owner != seats[seat] and slot not in current.next_owners
    }


def moving(current: ClusterMap, moves: Mapping[Slot, Incarnation]) -> ClusterMap:
    """The map that asks the owners of some slots to hand them over. A slot in transit stays on its way.

    Args:
        current: The map.
        moves: The next owner by slot.

    Raises:
        ValueError: A next owner is no shard of the map, or a slot has no owner yet.
    """
    shards = {member.incarnation for member in current.shards}
    strangers = set(moves.values()) - shards
    if strangers:
        raise ValueError(f"slots cannot move to incarnations {sorted(strangers)}: they are no shards of the map")
    if moves and not current.has_owners:
        raise ValueError("slots without owners cannot move")
    return replace(current, version=current.version + 1, next_owners={**moves, **current.next_owners})


def handed_over(current: ClusterMap, owner: Incarnation, slots: Collection[Slot]) -> ClusterMap | None:
    """The map in which *slots*, which *owner* has let go of, belong to their next owners.

    Returns:
        The map; ``None`` if none of *slots* is in transit from *owner* (any more).
    """
    owners, next_owners = list(current.owners), dict(current.next_owners)
    for slot in slots:
        if owners[slot] == owner and slot in next_owners:
            owners[slot] = next_owners.pop(slot)
    if len(next_owners) == len(current.next_owners):
        return None
    return replace(current, version=current.version + 1, owners=tuple(owners), next_owners=next_owners)


def entered(current: ClusterMap, member: Member, initial_shards: int) -> ClusterMap:
    """The map after *member* has come in, by the rules of a start; one version higher whatever it needs.

    A member whose name is in the map takes the place of that earlier, dead incarnation, slots included. The slots are
    first assigned when *initial_shards* shards have come in. A shard that comes later with a new name owns nothing.

    Raises:
        ValueError: The name belongs to a member of the other kind, or the incarnation is in the map already.
    """
    earlier = current.named(member.name)
    after = with_member(current, member) if earlier is None else replaced(current, earlier.incarnation, member)
    if not after.has_owners and len(after.shards) >= initial_shards:
        after = replace(plan_first(after), version=current.version + 1)
    return after


def emptied(current: ClusterMap) -> ClusterMap:
    """The map of a cluster that begins anew: nobody in it, no slot owned. Only when no member lives."""
    return ClusterMap(version=current.version + 1)
