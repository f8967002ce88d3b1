"""The timer wheel."""

from __future__ import annotations

import pytest

from roost.router.clients.timers import CALLS, TICK_S, Wheel, ticks


class Item:
    def __init__(self) -> None:
        self.called: list[int] = []

    def on_tick(self, tick: int) -> None:
        self.called.append(tick)

    def break_off(self, error: Exception) -> None:
        raise error


@pytest.mark.parametrize(("seconds", "count"), [(0.0, 1), (TICK_S, 1), (TICK_S * 1.1, 2), (1.0, 20), (20.0, 400)])
def test_seconds_become_enough_ticks(seconds: float, count: int) -> None:
    assert ticks(seconds) == count


def test_an_item_is_called_once_after_its_time_and_at_most_two_ticks_late() -> None:
    wheel, item = Wheel(50.0), Item()
    wheel.advance(50.02)
    wheel.schedule(item, ticks(1.0))
    called_at = []
    now = 50.02
    while now < 53:
        now += 0.01
        before = len(item.called)
        wheel.advance(now)
        if len(item.called) > before:
            called_at.append(now)
    assert len(called_at) == 1
    assert 51.02 <= called_at[0] <= 51.02 + 2 * TICK_S + 0.01


def test_a_late_call_catches_up_in_order() -> None:
    wheel = Wheel(0.0)
    order: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def on_tick(self, tick: int) -> None:
            order.append(self.name)

        def break_off(self, error: Exception) -> None:
            raise error

    for name, after in (("c", 30), ("a", 1), ("b", 2), ("b2", 2)):
        wheel.schedule(Named(name), after)
    wheel.advance(10.0)
    assert order == ["a", "b", "b2", "c"]


def test_an_item_may_ask_again_while_it_is_called() -> None:
    wheel = Wheel(0.0)

    class Again(Item):
        def on_tick(self, tick: int) -> None:
            super().on_tick(tick)
            if len(self.called) < 3:
                wheel.schedule(self, 1)

    item = Again()
    wheel.schedule(item, 1)
    wheel.advance(1.0)
    assert len(item.called) == 3


def test_time_that_stands_still_calls_nothing() -> None:
    wheel, item = Wheel(0.0), Item()
    wheel.schedule(item, 1)
    for _ in range(5):
        wheel.advance(0.0)
    assert item.called == []


def test_nothing_is_left_behind() -> None:
    wheel = Wheel(0.0)
    for _ in range(100):
        wheel.schedule(Item(), 3)
    wheel.advance(5.0)
    assert wheel.scheduled == 0


def test_very_many_that_are_due_together_are_called_in_several_advances_and_in_order() -> None:
    wheel, items = Wheel(0.0), [Item() for _ in range(3 * CALLS)]
    for item in items:
        wheel.schedule(item, 1)
    later = Item()
    wheel.schedule(later, 2)
    called = 0
    for advance in range(1, 4):
        wheel.advance(1.0)
        assert sum(bool(item.called) for item in items) == (called := called + CALLS), f"advance {advance}"
        assert all(item.called for item in items[:called])
    assert not later.called
    wheel.advance(1.0)
    assert later.called
    assert wheel.tick == 21
