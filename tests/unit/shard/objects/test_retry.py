"""Constructors that fail after a move are tried again, for a while."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from roost.common.limits import CONSTRUCTOR_PATIENCE_S
from roost.shard import WebSocket
from roost.shard.objects.retry import Retry
from tests.unit.shard.harness import Room, World, on_virtual_time, turns


def test_each_pause_is_twice_as_long_as_the_one_before() -> None:
    retry, now = Retry(100.0), 100.0
    delays = []
    while (delay := retry.next_delay_s(now)) is not None:
        delays.append(round(delay, 3))
        now += delay
    assert delays[:7] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert now == pytest.approx(100 + CONSTRUCTOR_PATIENCE_S)
    assert max(delays) == 5.0


class Fragile(Room):
    broken: ClassVar[bool] = False
    tries: ClassVar[int] = 0
    log: ClassVar[list[Any]] = []

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        type(self).tries += 1
        if self.broken:
            raise ValueError("on purpose")

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        self.log.append(message)
        if message == "sleep":
            await asyncio.sleep(2)


@pytest.fixture(autouse=True)
def whole() -> None:
    Fragile.broken, Fragile.tries = True, 0
    Fragile.log.clear()
    Fragile.__name__ = Fragile.__qualname__ = "Room"


def moved(**config: Any) -> World:
    """A shard that has just got the object with a socket, and a message for it."""
    world = World(Fragile, restored=False, **config)
    world.router.link.prompt = True
    world.router.restore(5)
    world.router.message(5, "first")
    world.router.restored()
    return world


@on_virtual_time
async def test_events_wait_until_the_constructor_succeeds() -> None:
    world = moved()
    await asyncio.sleep(2)
    world.router.message(5, "second")
    assert Fragile.tries == 5
    assert world.counters.constructions_failed == 5
    assert world.router.take("close", "ack") == []
    Fragile.broken = False
    await asyncio.sleep(5)
    assert Fragile.log == ["first", "second"]
    assert Fragile.tries == 6


@on_virtual_time
async def test_after_half_a_minute_the_object_is_reset() -> None:
    world = moved()
    await asyncio.sleep(CONSTRUCTOR_PATIENCE_S - 1)
    assert world.router.take("close") == []
    await asyncio.sleep(2)
    assert [record[:3] for record in world.router.take("close")] == [("close", 5, 1011)]
    assert Fragile.log == []


@on_virtual_time
async def test_only_an_object_that_has_just_come_here_has_this_patience() -> None:
    world = moved()
    Fragile.broken = False
    await asyncio.sleep(1)
    assert Fragile.log == ["first"]
    await asyncio.sleep(world.host.config.hibernate_after_s + 1)
    Fragile.broken = True
    world.router.message(5, "later")
    await turns()
    assert [record[:3] for record in world.router.take("close")] == [("close", 5, 1011)]


@on_virtual_time
async def test_an_object_that_moves_on_is_not_tried_any_more() -> None:
    world = moved()
    await asyncio.sleep(1)
    tries = Fragile.tries
    world.send_away()
    await turns()
    assert [record[0] for record in world.router.take()][-1] == "released"
    Fragile.broken = False
    await asyncio.sleep(10)
    assert (Fragile.tries, Fragile.log) == (tries, [])


@pytest.mark.parametrize("busy", [True, False])
@on_virtual_time
async def test_the_end_of_the_shard_ends_the_tries(busy: bool) -> None:
    world = moved()
    await asyncio.sleep(1)
    if busy:
        Fragile.broken = False
        counter = await world.router.connect("busy")
        world.router.message(counter, "sleep")
        await turns()
        Fragile.broken = True
        world.router.take()
    tries = Fragile.tries
    world.router.link.confirm()
    await world.host.aclose(3.0)
    await asyncio.sleep(10)
    assert Fragile.tries == tries
    assert not [record for record in world.router.take() if record[0] == "close" or (5, 1, 1) in record[1]]


@on_virtual_time
async def test_in_development_requests_hear_of_it_and_sockets_wait_for_other_code() -> None:
    world = moved(development=True)
    await asyncio.sleep(10 * CONSTRUCTOR_PATIENCE_S)
    assert Fragile.tries == 1, "it is the code that has to change"
    for tries in (2, 3):
        world.router.request()
        await turns()
        ((_, response),) = world.router.take("response")
        assert response.status == 500
        assert b"ValueError: on purpose" in response.body
        assert Fragile.tries == tries
    world.router.message(5, "second")
    await turns()
    assert world.router.take("close", "ack") == []
    assert Fragile.log == []
    Fragile.broken = False
    world.router.message(5, "third")
    await turns()
    assert Fragile.log == ["first", "second", "third"]


@on_virtual_time
async def test_in_development_such_an_object_moves_on_with_what_waits() -> None:
    world = moved(development=True)
    await asyncio.sleep(1)
    world.send_away()
    await turns()
    assert [record[0] for record in world.router.take()][-1] == "released"
