"""Leaving clients at an even rate."""

from __future__ import annotations

import pytest

from roost.router.clients.retirement import GONE, Retirement
from roost.router.formats.frames import close_frame
from roost.router.websocket.states import State
from tests.unit.router.fakes import World

STEP_S = 0.05


def closed(world: World) -> int:
    return sum(connection.state is not State.OPEN for connection in world.shared.connections.all())


@pytest.mark.parametrize(("rate", "a_second"), [(1000.0, 1000), (10.0, 10), (30.0, 30)])
def test_the_rate_is_kept_in_even_steps(rate: float, a_second: int) -> None:
    world = World()
    for _ in range(2 * a_second):
        world.connect()
    retirement = Retirement(world.shared.connections, rate, 0.0)
    before, most = 0, 0
    for step in range(1, 21):
        assert not retirement.step(step * STEP_S)
        most, before = max(most, closed(world) - before), closed(world)
    assert abs(before - a_second) <= 1
    assert most <= rate * STEP_S + 1


def test_the_oldest_are_told_first_and_why() -> None:
    world = World()
    (_, first), (_, second) = world.connect(), world.connect()
    retirement = Retirement(world.shared.connections, 20.0, 0.0)
    assert not retirement.step(0.051)
    assert first.take() == close_frame(1001, GONE)
    assert second.take() == b""
    assert retirement.step(0.102)
    assert second.take() == close_frame(1001, GONE)


def test_a_late_step_is_no_burst() -> None:
    world = World()
    for _ in range(1000):
        world.connect()
    retirement = Retirement(world.shared.connections, 1000.0, 0.0)
    retirement.step(30.0)
    assert closed(world) == 100


def test_those_that_have_closed_by_themselves_cost_no_time() -> None:
    world = World()
    gone = [world.connect()[0] for _ in range(100)]
    world.connect()
    retirement = Retirement(world.shared.connections, 20.0, 0.0)
    retirement.step(0.0)
    for connection in gone:
        connection.close(1013, "slow")
    assert retirement.step(0.06)


def test_handshakes_that_end_meanwhile_are_told_as_well() -> None:
    world = World()
    world.connect()
    retirement = Retirement(world.shared.connections, 1.0, 0.0)
    retirement.step(0.05)
    late, _ = world.connect()
    for step in range(2, 25):
        done = retirement.step(step * 0.1)
    assert done
    assert late.state is State.CLOSED_BY_ROUTER


def test_without_connections_it_is_over_at_once() -> None:
    assert Retirement(World().shared.connections, 1000.0, 0.0).step(0.05)
