"""Placement: weighted rendezvous hashing is balanced and moves no more than it must, and maps survive their JSON."""

from __future__ import annotations

import math
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.common.cluster import cluster_map
from roost.common.cluster.cluster_map import NOBODY, ClusterMap, Member, MemberKind, targets
from roost.common.errors import DirectoryError
from roost.common.ids import Incarnation, Slot
from roost.common.limits import SLOTS

names = st.text(st.characters(codec="ascii", categories=["Lu", "Ll", "Nd"]), min_size=1, max_size=12)
weights = st.sampled_from([0.5, 1.0, 1.0, 2.0, 3.0])
clusters = st.dictionaries(names, weights, min_size=1, max_size=12)


def expected_error(share: float) -> float:
    """Six standard deviations of a binomial share of the slots: a fair hash fails this once in half a billion."""
    return 6 * math.sqrt(SLOTS * share * (1 - share)) + 1


@given(clusters)
def test_each_shard_gets_slots_in_proportion_to_its_weight(shards: dict[str, float]) -> None:
    counts = Counter(targets(shards))
    assert counts.total() == SLOTS
    total = sum(shards.values())
    for name, weight in shards.items():
        share = weight / total
        assert abs(counts[name] - SLOTS * share) <= expected_error(share), (name, counts)


@given(clusters, names, weights)
def test_a_new_shard_takes_its_share_and_moves_no_other_slot(
    shards: dict[str, float], newcomer: str, weight: float
) -> None:
    if newcomer in shards:
        del shards[newcomer]
        if not shards:
            return
    before = targets(shards)
    after = targets({**shards, newcomer: weight})
    moved = [slot for slot in range(SLOTS) if before[slot] != after[slot]]
    assert all(after[slot] == newcomer for slot in moved)
    share = weight / (weight + sum(shards.values()))
    assert abs(len(moved) - SLOTS * share) <= expected_error(share)


@given(clusters)
def test_a_shard_that_leaves_moves_only_its_own_slots(shards: dict[str, float]) -> None:
    if len(shards) < 2:
        return
    before = targets(shards)
    leaver = min(shards)
    after = targets({name: weight for name, weight in shards.items() if name != leaver})
    assert all(before[slot] == after[slot] for slot in range(SLOTS) if before[slot] != leaver)


@given(clusters, st.sampled_from([2.0, 10.0]))
def test_a_heavier_shard_only_gains(shards: dict[str, float], factor: float) -> None:
    before = targets(shards)
    grown = min(shards)
    after = targets({**shards, grown: shards[grown] * factor})
    assert all(after[slot] in (before[slot], grown) for slot in range(SLOTS))


@given(st.permutations(["a", "b", "c", "d"]))
def test_the_order_in_which_shards_are_named_is_nothing(order: list[str]) -> None:
    assert targets(dict.fromkeys(order, 1.0)) == targets(dict.fromkeys("abcd", 1.0))


def test_targets_of_two_shards_are_what_they_were() -> None:
    """A change of the hash would move the slots of every running cluster: it must be on purpose."""
    found = targets({"shard-1": 1.0, "shard-2": 1.0})
    assert "".join(name[-1] for name in found[:32]) == "11112121222111211222211222211212"
    assert Counter(found)["shard-1"] == 2047


def test_sixteen_shards_are_placed_within_50_ms_of_a_processor() -> None:
    fastest = math.inf
    for turn in range(5):
        names = [f"{turn}-{number}" for number in range(16)]  # draws of names that are known cost nothing
        start = time.process_time()
        targets(dict.fromkeys(names, 1.0))
        fastest = min(fastest, time.process_time() - start)
    assert fastest < 0.05


@pytest.mark.parametrize("weight", [0.0, -1.0, math.inf, math.nan])
def test_a_weight_must_be_positive_and_finite(weight: float) -> None:
    with pytest.raises(ValueError, match="weight of 'a' must be a positive number"):
        targets({"a": weight})


def test_no_shard_is_no_placement() -> None:
    with pytest.raises(ValueError, match="at least one shard"):
        targets({})


# --- maps ---------------------------------------------------------------------------------------------------------


@st.composite
def maps(draw: st.DrawFn) -> ClusterMap:
    """Maps as a cluster's life makes them: members enter, die and come back, routers leave."""
    current = ClusterMap()
    incarnation = 0
    initial = draw(st.integers(1, 3))
    for _ in range(draw(st.integers(0, 8))):
        kind = draw(st.sampled_from(MemberKind))
        name = f"{kind}-{draw(st.integers(1, 4))}"
        incarnation += draw(st.integers(1, 5))
        member = Member(
            name,
            kind,
            Incarnation(incarnation),
            endpoint=draw(st.text(max_size=20)) if kind is MemberKind.SHARD else "",
            namespaces=tuple(draw(st.lists(names, max_size=3))) if kind is MemberKind.SHARD else (),
            pid=draw(st.integers(0, 4_194_304)),
        )
        current = cluster_map.entered(current, member, initial)
        leaves: bool = draw(st.booleans())
        if current.routers and leaves:
            current = cluster_map.without(current, current.routers[0].incarnation)
    return current


@given(maps())
def test_a_map_survives_json(found: ClusterMap) -> None:
    assert ClusterMap.from_json(found.to_json()) == found


@given(maps())
def test_all_slots_have_a_living_owner_or_none_has(found: ClusterMap) -> None:
    shards = {member.incarnation for member in found.shards}
    assert set(found.owners) <= shards or set(found.owners) == {NOBODY}
    assert sum(len(found.slots_of(shard)) for shard in shards) == (SLOTS if found.has_owners else 0)


@given(maps(), st.integers(0, 3))
def test_a_shard_that_comes_back_owns_what_it_owned(found: ClusterMap, pick: int) -> None:
    if not found.shards:
        return
    old = found.shards[pick % len(found.shards)]
    new = Member(old.name, old.kind, Incarnation(1_000_000), endpoint="ipc://new")
    after = cluster_map.entered(found, new, initial_shards=99)
    assert after.version == found.version + 1
    assert old.incarnation not in after.members
    assert after.slots_of(new.incarnation) == found.slots_of(old.incarnation)
    others = [slot for slot in range(SLOTS) if found.owners[slot] != old.incarnation]
    assert all(after.owners[slot] == found.owners[slot] for slot in others)


@given(st.one_of(st.text(max_size=50), maps().map(lambda found: found.to_json()[:-7])))
def test_garbage_is_refused_as_such(text: str) -> None:
    with pytest.raises(DirectoryError, match="cluster map"):
        ClusterMap.from_json(text)


def test_a_map_whose_owner_is_no_member_is_refused() -> None:
    shard = Member("shard-1", MemberKind.SHARD, Incarnation(1))
    whole = cluster_map.entered(ClusterMap(), shard, 1)
    with pytest.raises(DirectoryError, match="owned by shards that are not in it"):
        ClusterMap.from_json(whole.to_json().replace('"incarnation":1', '"incarnation":2'))
    assert whole.owner(Slot(0)) == shard
