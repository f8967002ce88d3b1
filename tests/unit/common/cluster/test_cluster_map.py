"""The rules by which one cluster map follows from another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roost.common.cluster import cluster_map
from roost.common.cluster.cluster_map import ClusterMap, Member, MemberKind, targets
from roost.common.ids import Incarnation, Slot
from roost.common.limits import SLOTS


def shard(name: str, incarnation: int, *namespaces: str) -> Member:
    return Member(name, MemberKind.SHARD, Incarnation(incarnation), f"ipc://{name}-{incarnation}", namespaces, pid=7)


def router(name: str, incarnation: int) -> Member:
    return Member(name, MemberKind.ROUTER, Incarnation(incarnation))


A, B, R = shard("a", 1, "chat-room"), shard("b", 2, "chat-room", "counter"), router("r", 3)


def test_slots_wait_for_the_initial_shards() -> None:
    one = cluster_map.entered(ClusterMap(), A, 2)
    assert (one.version, one.has_owners, one.owner(Slot(5))) == (1, False, None)
    with_router = cluster_map.entered(one, R, 2)
    assert not with_router.has_owners
    two = cluster_map.entered(with_router, B, 2)
    assert two.version == 3
    by_name = {"a": A, "b": B}
    assert [two.owner(Slot(slot)) for slot in range(SLOTS)] == [by_name[name] for name in targets({"a": 1, "b": 1})]
    assert two.shards == (A, B)
    assert two.routers == (R,)
    assert two.namespaces == ("chat-room", "counter")


def test_a_later_shard_owns_nothing_and_moves_nothing() -> None:
    before = cluster_map.entered(ClusterMap(), A, 1)
    after = cluster_map.entered(before, B, 1)
    assert after.owners == before.owners
    assert after.slots_of(B.incarnation) == ()


def test_a_shard_of_the_same_name_takes_the_slots_of_its_dead_incarnation() -> None:
    before = cluster_map.entered(cluster_map.entered(ClusterMap(), A, 2), B, 2)
    again = shard("a", 9)
    after = cluster_map.entered(before, again, 2)
    assert after.slots_of(again.incarnation) == before.slots_of(A.incarnation)
    assert after.slots_of(B.incarnation) == before.slots_of(B.incarnation)
    assert set(after.members) == {2, 9}


def test_a_slot_on_the_move_follows_a_replaced_shard() -> None:
    before = cluster_map.entered(cluster_map.entered(ClusterMap(), A, 1), B, 1)
    moving = replace(before, next_owners={Slot(4): B.incarnation})
    assert cluster_map.replaced(moving, B.incarnation, shard("b", 9)).next_owners == {Slot(4): 9}
    assert ClusterMap.from_json(moving.to_json()) == moving


def test_a_restarted_router_is_replaced_and_an_ended_one_leaves() -> None:
    before = cluster_map.entered(ClusterMap(), R, 1)
    after = cluster_map.entered(before, router("r", 4), 1)
    assert set(after.members) == {4}
    assert cluster_map.without(after, Incarnation(4)) == ClusterMap(version=3)


def test_who_owns_slots_cannot_just_leave() -> None:
    before = cluster_map.entered(ClusterMap(), A, 1)
    with pytest.raises(ValueError, match="'a' owns slots"):
        cluster_map.without(before, A.incarnation)


def test_a_shard_that_slots_move_to_cannot_just_leave() -> None:
    before = cluster_map.entered(cluster_map.entered(ClusterMap(), A, 1), B, 1)
    with pytest.raises(ValueError, match="'b' owns slots"):
        cluster_map.without(replace(before, next_owners={Slot(4): B.incarnation}), B.incarnation)


def test_one_incarnation_is_in_the_map_once() -> None:
    before = cluster_map.with_member(ClusterMap(), A)
    with pytest.raises(ValueError, match="in the map already"):
        cluster_map.with_member(before, shard("other", 1))
    with pytest.raises(ValueError, match="in the map already"):
        cluster_map.with_member(before, shard("a", 2))
    with pytest.raises(ValueError, match="in the map already"):
        cluster_map.entered(before, A, 1)


def test_a_name_stays_with_its_kind() -> None:
    before = cluster_map.with_member(ClusterMap(), A)
    with pytest.raises(ValueError, match="no router of incarnation 1"):
        cluster_map.entered(before, router("a", 5), 1)


def test_the_first_plan_is_made_once() -> None:
    with pytest.raises(ValueError, match="at least one shard"):
        cluster_map.plan_first(ClusterMap())
    planned = cluster_map.entered(ClusterMap(), A, 1)
    with pytest.raises(ValueError, match="owners already"):
        cluster_map.plan_first(planned)


def test_a_heavier_shard_gets_more() -> None:
    heavy = replace(B, weight=3.0)
    planned = cluster_map.entered(cluster_map.entered(ClusterMap(), A, 2), heavy, 2)
    assert 2.5 < len(planned.slots_of(heavy.incarnation)) / len(planned.slots_of(A.incarnation)) < 3.5


def test_beginning_anew_forgets_all_but_the_version() -> None:
    assert cluster_map.emptied(cluster_map.entered(ClusterMap(), A, 1)) == ClusterMap(version=2)


# --- moves --------------------------------------------------------------------------------------------------------

C = shard("c", 4)


def two_shards() -> ClusterMap:
    """Slots of A and B, and a router."""
    return cluster_map.entered(cluster_map.entered(cluster_map.entered(ClusterMap(), A, 2), B, 2), R, 2)


def test_a_new_shard_gets_its_share_and_no_slot_moves_between_the_others() -> None:
    before = cluster_map.entered(two_shards(), C, 2)
    moves = cluster_map.balancing(before, {"a": A.incarnation, "b": B.incarnation, "c": C.incarnation})
    assert set(moves.values()) == {C.incarnation}
    assert SLOTS / 3 * 0.8 < len(moves) < SLOTS / 3 * 1.2
    marked = cluster_map.moving(before, moves)
    assert marked.version == before.version + 1
    assert (marked.owners, marked.next_owners) == (before.owners, moves)
    assert ClusterMap.from_json(marked.to_json()) == marked


def test_slots_in_transit_are_not_sent_elsewhere() -> None:
    before = cluster_map.entered(two_shards(), C, 2)
    slot = before.slots_of(A.incarnation)[0]
    marked = cluster_map.moving(before, {slot: C.incarnation})
    assert cluster_map.moving(marked, {slot: B.incarnation}).next_owners == {slot: C.incarnation}
    everything_to_b = cluster_map.balancing(marked, {"b": B.incarnation})
    assert slot not in everything_to_b
    assert len(everything_to_b) == len(before.slots_of(A.incarnation)) - 1


def test_the_old_owner_hands_over_what_it_has_let_go_of() -> None:
    before = two_shards()
    first, second = before.slots_of(A.incarnation)[:2]
    marked = cluster_map.moving(before, {first: B.incarnation, second: B.incarnation})
    after = cluster_map.handed_over(marked, A.incarnation, [first])
    assert after is not None
    assert (after.version, after.owners[first], after.owners[second]) == (marked.version + 1, B.incarnation, 1)
    assert after.next_owners == {second: B.incarnation}
    assert cluster_map.handed_over(after, A.incarnation, [first]) is None, "it is B's now"
    assert cluster_map.handed_over(before, A.incarnation, [first]) is None, "nobody has asked for it"


def test_a_successor_has_the_seat_of_its_predecessor_and_takes_exactly_its_slots() -> None:
    successor = replace(shard("a.2", 9), seat="a")
    before = cluster_map.entered(two_shards(), successor, 2)
    moves = cluster_map.balancing(before, {"a": successor.incarnation, "b": B.incarnation})
    assert tuple(moves) == before.slots_of(A.incarnation)
    assert set(moves.values()) == {successor.incarnation}
    assert A.seat == "a"


def test_slots_of_a_dead_shard_go_to_the_others() -> None:
    before = cluster_map.entered(two_shards(), C, 2)
    after = cluster_map.inherited(before, A.incarnation)
    assert A.incarnation not in after.members
    wanted = targets({"b": 1, "c": 1})
    for slot in before.slots_of(A.incarnation):
        assert after.members[after.owners[slot]].name == wanted[slot]
    assert set(after.slots_of(B.incarnation)) >= set(before.slots_of(B.incarnation))
    with pytest.raises(ValueError, match="only shard"):
        cluster_map.inherited(cluster_map.entered(ClusterMap(), A, 1), A.incarnation)


def test_a_death_ends_the_transit_of_what_the_dead_shard_was_handing_over() -> None:
    before = two_shards()
    slot, other = before.slots_of(A.incarnation)[:2]
    marked = cluster_map.moving(before, {slot: B.incarnation})
    for after in (
        cluster_map.inherited(marked, A.incarnation),
        cluster_map.replaced(marked, A.incarnation, shard("a", 9)),
    ):
        assert after.owners[slot] == B.incarnation
        assert after.next_owners == {}
        assert after.owners[other] in (B.incarnation, 9)


def test_a_transit_whose_next_owner_dies_goes_to_an_heir_or_back() -> None:
    before = cluster_map.entered(two_shards(), C, 2)
    slot = before.slots_of(A.incarnation)[0]
    marked = cluster_map.moving(before, {slot: C.incarnation})
    after = cluster_map.inherited(marked, C.incarnation)
    assert after.next_owners == {slot: after.named(targets({"a": 1, "b": 1})[slot]).incarnation}  # type: ignore[union-attr]
    alone = cluster_map.inherited(cluster_map.inherited(marked, B.incarnation), C.incarnation)
    assert alone.next_owners == {slot: A.incarnation}, "it lets go of the slot and takes it up again"
    settled = cluster_map.handed_over(alone, A.incarnation, [slot])
    assert settled is not None
    assert (settled.owners[slot], settled.next_owners) == (A.incarnation, {})


def test_moves_to_strangers_are_refused() -> None:
    before = two_shards()
    with pytest.raises(ValueError, match="no shards of the map"):
        cluster_map.moving(before, {Slot(1): R.incarnation})
    with pytest.raises(ValueError, match="no shard of the map"):
        cluster_map.balancing(before, {"z": Incarnation(77)})
    with pytest.raises(ValueError, match="without owners"):
        cluster_map.moving(cluster_map.entered(ClusterMap(), A, 2), {Slot(1): A.incarnation})


def test_a_dead_router_leaves_the_map() -> None:
    before = two_shards()
    after = cluster_map.without_dead(before, R.incarnation)
    assert after is not None
    assert R.incarnation not in after.members
    assert after.owners == before.owners


@pytest.mark.parametrize("transit", [False, True])
def test_a_dead_shard_leaves_the_map(transit: bool) -> None:
    current = two_shards()
    if transit:
        slots = (*current.slots_of(A.incarnation)[:1], *current.slots_of(B.incarnation)[:1])
        current = cluster_map.moving(current, dict.fromkeys(slots, A.incarnation))
    after = cluster_map.without_dead(current, A.incarnation)
    assert after is not None
    assert set(after.owners) == {B.incarnation}
    assert after.version == current.version + 1


def test_nobody_leaves_twice_or_leaves_slots_to_nobody() -> None:
    after = cluster_map.without_dead(two_shards(), A.incarnation)
    assert after is not None
    assert cluster_map.without_dead(after, A.incarnation) is None
    assert cluster_map.without_dead(after, B.incarnation) is None
