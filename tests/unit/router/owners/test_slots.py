"""The table of slots."""

from __future__ import annotations

import pytest

from roost.common.cluster.cluster_map import Member
from roost.common.limits import SLOTS
from roost.router.owners.slots import TRANSIT_PATIENCE, Slots
from tests.support.links import LinkToShard
from tests.unit.router.rig import cluster, shard

A, B = shard(1), shard(2)


def test_all_are_parked_at_first() -> None:
    table = Slots(5)
    assert table.attached == 0
    assert set(table.parked.values()) == {5}
    assert len(table.parked) == SLOTS


def test_attached_and_parked_are_counted() -> None:
    table, link, other = Slots(0), LinkToShard(1), LinkToShard(2)
    table.attach(3, link, 1)
    table.attach(9, link, 1)
    table.attach(4, other, 1)
    assert (table.attached, table.of(link), table.of(other)) == (3, [3, 9], [4])
    table.park(3, 8)
    assert (table.attached, table.of(link), table.parked[3]) == (2, [9], 8)


@pytest.mark.parametrize(
    ("slot", "version", "holds"), [(3, 7, True), (3, 8, True), (3, 6, False), (4, 9, False), (-1, 9, False)]
)
def test_a_release_must_be_of_what_is_attached_there_and_not_older(slot: int, version: int, holds: bool) -> None:
    table, link = Slots(0), LinkToShard(1)
    table.attach(3, link, 7)
    assert table.release(slot, link, version, 2) is holds
    assert table.links[3] is (None if holds else link)
    assert table.let_go == ([3] if holds else [])


@pytest.mark.parametrize(
    ("version", "owner", "in_transit", "may"),
    [
        (4, A, False, False),  # the map by which it let go, or an older one
        (4, A, True, False),
        (5, A, True, False),  # not handed over yet
        (5, A, False, True),
        (5, B, False, True),
        (5, B, True, True),
        (4, B, False, True),
    ],
)
def test_who_let_go_gets_it_back_by_a_newer_map_only(version: int, owner: Member, in_transit: bool, may: bool) -> None:
    table, link = Slots(0), LinkToShard(1)
    table.attach(3, link, 2)
    table.release(3, link, 4, 10)
    current = cluster(version, A, B, owners=[owner.incarnation] * SLOTS, moving={3: 2} if in_transit else None)
    assert table.may_attach(3, current, 11) is may
    patient = may or (version > 4 and in_transit)
    assert table.may_attach(3, current, 10 + TRANSIT_PATIENCE) is patient


def test_an_attachment_ends_the_memory_of_a_release() -> None:
    table, a, b = Slots(0), LinkToShard(1), LinkToShard(2)
    table.attach(3, a, 1)
    table.release(3, a, 2, 0)
    table.attach(3, b, 3)
    table.park(3, 0)
    assert table.let_go == []
    assert table.may_attach(3, cluster(4, A, moving={3: 1}), 0)
