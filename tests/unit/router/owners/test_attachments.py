"""What a map, RELEASED and deaths change: computed, and nothing done."""

from __future__ import annotations

import pytest

from roost.common.cluster.cluster_map import ClusterMap, handed_over, moving
from roost.common.ids import Incarnation, Slot
from roost.common.limits import SLOTS
from roost.router.owners.attachments import Attachments, Moves
from tests.support.links import LinkToShard
from tests.unit.router.rig import cluster, shard

A, B = shard(1), shard(2)


class World:
    """Two shards that share the slots; everything is attached."""

    def __init__(self) -> None:
        self.map = cluster(1, A, B, owners=[1, 2] * (SLOTS // 2))
        self.table = Attachments(0)
        self.links = {member.incarnation: LinkToShard(member.incarnation) for member in (A, B)}
        self.follow(self.map)
        for slot in range(SLOTS):
            owner = self.table.owner_of(slot)
            assert owner is not None
            self.table.attached(slot, owner.link, 0)

    def follow(self, new: ClusterMap, tick: int = 0) -> Moves:
        self.map = new
        moves = self.table.follow(new, tick)
        for member in moves.lacking:
            self.table.connected(member, self.links.setdefault(member.incarnation, LinkToShard(member.incarnation)))
        return moves

    def of(self, incarnation: Incarnation) -> list[int]:
        return self.table.slots.of(self.links[incarnation])


@pytest.fixture
def world() -> World:
    return World()


def test_a_shard_that_is_new_lacks_a_link_until_there_is_one() -> None:
    table = Attachments(0)
    moves = table.follow(cluster(1, A, B), 0)
    assert moves.lacking == [A, B]
    assert len(moves.candidates) == SLOTS
    assert table.owner_of(0) is None
    link = LinkToShard(1)
    table.connected(A, link)
    assert table.lacking == [B]
    owner = table.owner_at(link)
    assert owner is not None
    assert owner.member is A
    assert table.name_of(A.incarnation) == A.name
    assert table.name_of(B.incarnation) == "incarnation 2"


def test_a_map_that_only_moves_slots_changes_nothing_that_is_attached(world: World) -> None:
    slot = Slot(world.of(A.incarnation)[0])
    moves = world.follow(moving(world.map, {slot: B.incarnation}))
    assert (moves.ended, moves.released, moves.lacking, list(moves.candidates)) == ([], [], [], [])
    assert world.table.slots.links[slot] is world.links[A.incarnation]


def test_a_shard_that_leaves_the_map_is_dead_and_its_slots_unwind(world: World) -> None:
    slots = world.of(A.incarnation)
    gone = cluster(world.map.version + 1, B)
    link = world.links[A.incarnation]
    owner = world.table.owner_at(link)
    assert world.table.gone_in(gone) == [owner]
    (ended,) = world.follow(gone, 7).ended
    assert (ended.owner, list(ended.slots), ended.died) == (owner, slots, True)
    assert world.table.owner_at(link) is None
    assert world.table.slots.parked[slots[0]] == 7
    assert set(slots) == world.table.unwinding
    assert link.closed is False, "whoever carries it out closes"


@pytest.mark.parametrize("died", [True, False])
def test_what_is_lost_waits_for_another_incarnation(world: World, died: bool) -> None:
    link, slots = world.links[A.incarnation], world.of(A.incarnation)
    (ended,) = world.table.lost(link, died=died, tick=3).ended
    assert (ended.died, list(ended.slots)) == (died, slots)
    assert world.table.lost(link, died=died, tick=3) == Moves(), "once"
    assert world.table.lacking == [], "nobody connects to it again"
    assert list(world.table.unwound(slots).candidates) == slots
    assert world.table.owner_of(slots[0]) is None


def test_a_slot_that_unwinds_has_no_owner_until_that_is_over(world: World) -> None:
    link = world.links[A.incarnation]
    slot = Slot(world.of(A.incarnation)[0])
    world.follow(moving(world.map, {slot: B.incarnation}))
    assert world.table.released(link, world.map.version, [slot], 1).released == [slot]
    world.follow(handed_over(world.map, A.incarnation, [slot]))
    assert world.table.owner_of(slot) is None
    assert world.table.unwound([slot]).candidates == [slot]
    assert world.table.owner_of(slot) is world.table.owner_at(world.links[B.incarnation])
    world.table.attached(slot, world.links[B.incarnation], 2)
    assert world.table.owner_of(slot) is None, "it is not parked"
    assert world.table.slots.links[slot] is world.links[B.incarnation]


def test_a_release_that_does_not_hold_changes_nothing(world: World) -> None:
    slot = world.of(B.incarnation)[0]
    assert world.table.released(world.links[A.incarnation], world.map.version, [slot], 1) == Moves()
    assert world.table.unwinding == set()
