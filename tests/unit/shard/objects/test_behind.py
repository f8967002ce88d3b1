"""Objects of which a router has much output before it: they pause, and nobody else does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from roost.common.ids import id_from_name, slot_of
from roost.common.limits import MAILBOX_EVENTS
from roost.shard import Request, Response, WebSocket
from tests.unit.shard.harness import Room, World, on_virtual_time, turns


class Talk(Room):
    """Says each message to all, and ``later`` a while later."""

    async def fetch(self, request: Request) -> Response:
        if "plain" in request.query:
            return Response("here")
        return await super().fetch(request)

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        if message == "later":
            await asyncio.sleep(0.1)
        elif message == "abort":
            self.ctx.abort("on purpose")
        for each in self.ctx.get_web_sockets():
            each.send(message)


@pytest.fixture(autouse=True)
def name_of_the_class() -> None:
    Talk.__name__ = Talk.__qualname__ = "Room"


def said(world: World, router: int = 0) -> list[Any]:
    """What objects have said to clients, as far as the router has it."""
    return [record[2] for record in world.routers[router].take("send")]


async def a_room(routers: int = 1, name: str = "lobby") -> tuple[World, int]:
    world = World(Talk, routers=routers)
    for router in world.routers:
        router.link.prompt = True
    counter = await world.router.connect(name)
    world.router.take()
    return world, counter


@on_virtual_time
async def test_its_events_do_not_start_and_others_do() -> None:
    world, counter = await a_room()
    other = await world.router.connect("other")
    world.router.take()
    world.router.behind()
    for number in range(3):
        world.router.message(counter, f"m{number}")
    await turns()
    assert said(world) == []
    world.router.message(other, "hello")
    await turns()
    assert said(world) == ["hello"]
    world.router.behind(is_behind=False)
    await turns()
    assert said(world) == ["m0", "m1", "m2"]
    world.router.message(counter, "m3")
    await turns()
    assert said(world) == ["m3"]


@on_virtual_time
async def test_what_runs_goes_on_and_what_it_says_waits_with_its_acknowledgement() -> None:
    world, counter = await a_room()
    other = await world.router.connect("other")
    world.router.message(counter, "later")
    await turns()
    world.router.take()
    world.router.behind()
    await asyncio.sleep(1)
    assert world.router.take() == []
    assert world.object().outbox.planned
    seq = world.router.message(other, "x")
    await turns()
    assert world.router.take() == [("send", [other], "x"), ("ack", [(other, seq, seq)])]
    world.router.behind(is_behind=False)
    await turns()
    assert world.router.take() == [("send", [counter], "later"), ("ack", [(counter, 1, 1)])]


@on_virtual_time
async def test_what_came_before_stays_before_whatever_wakes_it() -> None:
    world, counter = await a_room()
    world.router.message(counter, "first")
    world.router.behind()
    activation = world.object().activation
    assert activation is not None
    activation.block()
    world.router.message(counter, "second")
    await turns()
    world.router.behind(is_behind=False)
    await turns()
    assert said(world) == []
    world.router.behind()
    world.router.message(counter, "third")
    if activation.unblock():
        world.object().pump()
    await turns()
    assert said(world) == []
    world.router.behind(is_behind=False)
    await turns()
    assert said(world) == ["first", "second", "third"]


@on_virtual_time
async def test_requests_wait_as_well() -> None:
    world, _ = await a_room()
    world.router.behind()
    world.router.request(query="plain")
    await turns()
    assert world.router.take("response") == []
    world.router.behind(is_behind=False)
    await turns()
    assert len(world.router.take("response")) == 1


@on_virtual_time
async def test_a_full_mailbox_says_so() -> None:
    world, counter = await a_room()
    world.router.behind()
    for number in range(MAILBOX_EVENTS + 1):
        world.router.message(counter, f"{number}")
    await turns()
    assert [record[0] for record in world.router.take()] == ["hold"]
    world.router.behind(is_behind=False)
    await turns(2000)
    assert said(world) == [f"{number}" for number in range(MAILBOX_EVENTS + 1)]


@on_virtual_time
async def test_the_end_of_the_router_ends_it() -> None:
    world, counter = await a_room(routers=2)
    far = await world.routers[1].connect()
    for router in world.routers:
        router.take()
    world.router.behind()
    world.routers[1].behind()
    world.routers[1].message(far, "x")
    await turns()
    world.lose(world.routers[1])
    await turns()
    assert said(world) == [], "the other one is behind still"
    world.router.message(counter, "y")
    world.router.behind(is_behind=False)
    await turns()
    assert said(world) == ["x", "y"]


@on_virtual_time
async def test_an_object_that_moves_leaves_all_that_it_has_said() -> None:
    world, counter = await a_room()
    world.router.message(counter, "later")
    await turns()
    world.router.behind()
    await asyncio.sleep(1)
    world.router.message(counter, "comes again")
    world.send_away()
    await turns()
    kinds = [record[0] for record in world.router.take() if record[0] != "ack" or record[1]]
    assert kinds == ["send", "ack", "released"]
    assert not world.host.runner
    assert not world.host.behind.pauses(world.router.peer, id_from_name("room", "lobby"))
    assert world.host.output.pausing == 0


@on_virtual_time
async def test_a_shard_that_ends_says_all_as_well() -> None:
    world, counter = await a_room()
    world.router.message(counter, "later")
    await turns()
    world.router.behind()
    await asyncio.sleep(1)
    world.router.take()
    await world.host.aclose(1.0)
    assert said(world) == ["later"]


@on_virtual_time
async def test_a_reset_object_begins_anew_behind_what_it_has_said() -> None:
    world, counter = await a_room()
    world.router.message(counter, "abort")
    await turns()
    assert [record[0] for record in world.router.take("close")] == ["close"]
    again = await world.router.connect()
    world.router.take()
    world.router.behind()
    world.router.message(again, "x")
    world.object().activation.owner.reset(world.host.errors.failed("on purpose", "test", RuntimeError()))  # type: ignore[union-attr]
    await turns()
    assert world.router.take() == []
    world.router.behind(is_behind=False)
    await turns()
    assert [record[0] for record in world.router.take("close", "send")] == ["close"]
    assert not world.object().unfinished


@on_virtual_time
async def test_what_is_said_of_an_object_that_the_router_has_no_connection_of_is_nothing() -> None:
    world, counter = await a_room(routers=2)
    world.routers[1].behind()
    world.router.behind("nobody")
    world.router.behind("nobody", is_behind=False)
    world.router.message(counter, "x")
    await turns()
    assert said(world) == ["x"]
    assert world.host.output.pausing == 0


@on_virtual_time
async def test_it_is_not_forgotten_before_the_router_has_it_behind_itself() -> None:
    world, counter = await a_room()
    world.router.behind()
    world.router.closed(counter)
    world.router.behind(is_behind=False)
    await turns()
    world.router.take()
    again = await world.router.connect()
    world.router.behind()
    world.object().forget(world.router.peer.sockets[again])
    await asyncio.sleep(100)
    assert world.find() is not None
    world.router.behind(is_behind=False)
    await asyncio.sleep(100)
    assert world.find() is None


@on_virtual_time
async def test_an_earlier_stay_of_the_object_counts_for_nothing() -> None:
    """A router that has not restored the present one said it: it may never say the opposite."""
    world = World(Talk, routers=2, restored=False)
    for router in world.routers:
        router.link.prompt = True
    world.router.restore(1)
    world.routers[1].behind()
    for router in world.routers:
        router.restored()
    world.router.message(1, "x")
    await turns()
    assert said(world) == ["x"]
    assert slot_of(id_from_name("room", "lobby")) == world.object().slot
