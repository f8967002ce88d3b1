"""The states of a shard's slots."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from roost.common.cluster.cluster_map import ClusterMap, Member, MemberKind
from roost.common.ids import Incarnation, Slot
from roost.common.limits import SLOTS
from roost.shard.moving.slots import Slots, SlotState

ME, OTHER, A, B = Incarnation(9), Incarnation(10), Incarnation(1), Incarnation(2)
OURS, THEIRS = Slot(5), Slot(6)


class Owner(SimpleNamespace):
    __hash__ = object.__hash__


def owner(slot: Slot = OURS) -> Any:
    return Owner(slot=slot)


def a_map(version: int, owner: Incarnation = ME, to: Incarnation | None = None) -> ClusterMap:
    """A map in which OURS belongs to *owner* and moves to *to*; all else is the other shard's."""
    owners = [OTHER] * SLOTS
    owners[OURS] = owner
    members = {key: Member(f"m{key}", MemberKind.SHARD, key) for key in (ME, OTHER)}
    return ClusterMap(version, members, tuple(owners), {} if to is None else {OURS: to})


@pytest.fixture
def slots() -> Slots[Any]:
    """OURS is closed until A and B have restored it."""
    made: Slots[Any] = Slots(ME)
    made.follow(a_map(1), [A, B])
    return made


def opened(slots: Slots[Any]) -> Slots[Any]:
    for router in (A, B):
        slots.restored(router, 1, [OURS])
    assert slots.state(OURS) is SlotState.OPEN
    return slots


def test_a_slot_opens_when_the_last_router_has_restored_it(slots: Slots[Any]) -> None:
    waiting = owner()
    assert slots.holds(waiting)
    assert slots.takes_passports(OURS)
    assert slots.restored(A, 1, [OURS]).opened == []
    assert slots.restored(A, 1, [OURS]).opened == [], "twice does not stand for the other"
    assert (slots.owned, slots.waiting) == (1, 1)
    assert slots.restored(B, 1, [OURS]).opened == [waiting]
    assert not slots.holds(waiting)
    assert (slots.owned, slots.waiting) == (1, 0)


def test_requests_of_a_router_count_from_its_restored_on(slots: Slots[Any]) -> None:
    late = Incarnation(3)
    assert not slots.takes_requests(OURS, A)
    slots.restored(A, 1, [OURS])
    assert slots.takes_requests(OURS, A)
    assert not slots.takes_requests(OURS, B)
    assert slots.takes_requests(OURS, late), "it has come after the slot: nobody waits for it"
    slots.restored(B, 1, [OURS])
    assert slots.takes_requests(OURS, B)
    assert not slots.takes_requests(THEIRS, A)


def test_objects_are_free_in_the_order_in_which_they_came(slots: Slots[Any]) -> None:
    first, second = owner(), owner()
    for each in (first, second, first):
        assert slots.holds(each)
    slots.restored(A, 1, [OURS])
    assert slots.restored(B, 1, [OURS]).opened == [first, second]


def test_a_router_that_leaves_the_map_need_not_restore(slots: Slots[Any]) -> None:
    waiting = owner()
    slots.holds(waiting)
    slots.restored(A, 1, [OURS])
    assert slots.lost_router(B).opened == [waiting]
    assert slots.lost_router(B).opened == []


def test_without_routers_a_slot_is_open_at_once() -> None:
    slots: Slots[Any] = Slots(ME)
    slots.follow(a_map(1), [])
    assert slots.state(OURS) is SlotState.OPEN
    assert slots.state(THEIRS) is None


def test_a_slot_in_transit_leaves_is_released_and_is_gone(slots: Slots[Any]) -> None:
    opened(slots)
    assert slots.follow(a_map(2, to=OTHER), [A, B]).leaving == [OURS]
    assert slots.state(OURS) is SlotState.LEAVING
    assert not slots.takes_passports(OURS)
    assert not slots.takes_requests(OURS, A)
    assert slots.follow(a_map(3, to=OTHER), [A, B]).leaving == [], "once"
    slots.released([OURS])
    assert slots.owned == 0
    assert slots.follow(a_map(4, OTHER), [A, B]).lost == []
    assert slots.state(OURS) is None


def test_a_slot_leaves_only_after_every_router_has_attached_it(slots: Slots[Any]) -> None:
    waiting = owner()
    slots.holds(waiting)
    assert slots.follow(a_map(2, to=OTHER), [A, B]).leaving == []
    assert slots.state(OURS) is SlotState.CLOSED
    slots.restored(A, 1, [OURS])
    change = slots.restored(B, 2, [OURS])
    assert (change.leaving, change.opened) == ([OURS], []), "nothing starts in between"


def test_a_router_that_takes_us_for_the_owner_is_told(slots: Slots[Any]) -> None:
    opened(slots)
    slots.follow(a_map(2, to=OTHER), [A, B])
    slots.released([OURS])
    slots.follow(a_map(3, to=OTHER), [A, B, Incarnation(3)])
    assert slots.restored(Incarnation(3), 3, [OURS, THEIRS]).answers == {3: [OURS, THEIRS]}
    slots.follow(a_map(4, OTHER), [A, B, Incarnation(3)])
    assert slots.restored(Incarnation(3), 3, [OURS]).answers == {4: [OURS]}


def test_a_slot_that_comes_back_waits_for_all_routers_anew(slots: Slots[Any]) -> None:
    opened(slots)
    slots.follow(a_map(2, to=OTHER), [A, B])
    slots.released([OURS])
    slots.follow(a_map(3, OTHER), [A, B])
    slots.handed_over([OURS], 3)
    slots.follow(a_map(6), [A, B])
    assert slots.state(OURS) is SlotState.CLOSED
    for router in (A, B):
        slots.restored(router, 6, [OURS])
    assert slots.state(OURS) is SlotState.OPEN


def test_a_restored_of_an_earlier_stay_does_not_count_and_is_answered(slots: Slots[Any]) -> None:
    """A joins in map 3 and attaches the slot here, since it is in transit; B hears in order."""
    opened(slots)
    slots.follow(a_map(2, to=OTHER), [B])
    slots.released([OURS])
    slots.follow(a_map(5, OTHER), [A, B])
    slots.handed_over([OURS], 4)
    slots.follow(a_map(8), [A, B])
    change = slots.restored(A, 3, [OURS])
    assert change.answers == {3: [OURS]}, "just below the map that gave the slot away: A may attach again at once"
    assert slots.state(OURS) is SlotState.CLOSED
    slots.restored(B, 8, [OURS])
    slots.restored(A, 8, [OURS])
    assert slots.state(OURS) is SlotState.OPEN


@pytest.mark.parametrize("told", [True, False])
def test_a_slot_whose_next_owner_is_its_owner_is_let_go_of_and_taken_up_again(slots: Slots[Any], told: bool) -> None:
    opened(slots)
    assert slots.follow(a_map(2, to=ME), [A, B]).leaving == [OURS]
    slots.released([OURS])
    slots.follow(a_map(3, to=ME), [A, B])
    assert slots.state(OURS) is SlotState.RELEASED
    if told:
        slots.handed_over([OURS], 4)
    slots.follow(a_map(4), [A, B])
    assert slots.state(OURS) is SlotState.CLOSED
    for router in (A, B):
        assert not slots.restored(router, 4, [OURS]).answers
    assert slots.state(OURS) is SlotState.OPEN


@pytest.mark.parametrize("told_first", [True, False])
def test_a_slot_that_came_back_and_leaves_again_by_maps_that_nobody_saw(slots: Slots[Any], told_first: bool) -> None:
    opened(slots)
    slots.follow(a_map(2, to=OTHER), [A, B])
    slots.released([OURS])
    if told_first:
        assert slots.handed_over([OURS], 3).leaving == []
    slots.follow(a_map(6, to=OTHER), [A, B])  # 3: theirs, 4: on its way back, 5: ours
    if not told_first:
        assert slots.state(OURS) is SlotState.RELEASED, "as far as it knows"
        slots.handed_over([OURS], 3)
    assert slots.state(OURS) is SlotState.CLOSED
    slots.restored(A, 6, [OURS])
    assert slots.restored(B, 6, [OURS]).leaving == [OURS]


def test_a_map_that_takes_what_was_not_released_is_told_of(slots: Slots[Any]) -> None:
    opened(slots)
    assert slots.follow(a_map(2, OTHER), [A, B]).lost == [OURS]


def test_a_map_with_other_members_only_changes_nothing(slots: Slots[Any]) -> None:
    opened(slots)
    change = slots.follow(a_map(2), [A, B, Incarnation(3)])
    assert (change.leaving, change.opened, change.lost) == ([], [], [])
    assert slots.state(OURS) is SlotState.OPEN, "a router that comes later holds nothing of it"
    assert slots.version == 2
