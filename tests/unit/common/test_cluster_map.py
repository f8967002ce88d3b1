"""The rules by which one cluster map follows from another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roost.common import cluster_map
from roost.common.cluster_map import ClusterMap, Member, MemberKind, targets
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
