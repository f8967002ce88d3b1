from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from roost.common.ids import Incarnation, Slot
from roost.shard.gates import SlotGates

A, B = Incarnation(1), Incarnation(2)


class Owner(SimpleNamespace):
    __hash__ = object.__hash__


def owner(slot: int) -> Any:
    return Owner(slot=Slot(slot))


def closed(*slots: int, routers: tuple[Incarnation, ...] = (A, B)) -> SlotGates:
    gates = SlotGates()
    gates.close([Slot(slot) for slot in slots], routers)
    return gates


def test_a_gate_opens_when_the_last_router_has_restored() -> None:
    gates, waiting = closed(5), owner(5)
    assert gates.holds(waiting)
    assert gates.restored(A, [Slot(5)]) == []
    assert gates.holds(waiting)
    assert gates.restored(B, [Slot(5)]) == [waiting]
    assert not gates.holds(waiting)
    assert len(gates) == 0


def test_saying_it_twice_does_not_stand_for_the_other_router() -> None:
    gates = closed(5)
    gates.restored(A, [Slot(5)])
    assert gates.restored(A, [Slot(5)]) == []
    assert len(gates) == 1


def test_a_router_that_is_lost_is_not_waited_for() -> None:
    gates, waiting = closed(5, 6), owner(6)
    assert gates.holds(waiting)
    gates.restored(A, [Slot(5), Slot(6)])
    assert gates.lost(B) == [waiting]
    assert len(gates) == 0


def test_losing_one_router_leaves_the_gates_that_wait_for_another() -> None:
    gates, waiting = closed(5), owner(5)
    assert gates.holds(waiting)
    assert gates.lost(B) == []
    assert gates.restored(A, [Slot(5)]) == [waiting]


def test_slots_that_were_not_gained_are_open() -> None:
    gates = closed(5)
    assert not gates.holds(owner(6))
    assert gates.restored(A, [Slot(6)]) == []


def test_without_routers_there_is_nobody_to_wait_for() -> None:
    assert not closed(5, routers=()).holds(owner(5))


def test_those_who_wait_come_once_each_in_their_order() -> None:
    gates, first, second = closed(5, routers=(A,)), owner(5), owner(5)
    for each in (first, second, first):
        assert gates.holds(each)
    assert gates.restored(A, [Slot(5)]) == [first, second]
