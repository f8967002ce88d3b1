"""Order and acknowledgement; routers that come, die and forget; the end of the shard."""

from __future__ import annotations

import asyncio
from typing import Any

from roost.common.ids import id_from_name
from roost.common.wire.records import ObjectState
from roost.shard import WebSocket, WebSocketRequestResponsePair
from roost.shard.events import LastEvents
from tests.unit.shard.clients import Front, Rec, shard
from tests.unit.shard.harness import on_virtual_time, turns

# --- order ------------------------------------------------------------------------------------------------------------


@on_virtual_time
async def test_blocking_keeps_the_order_of_a_connection() -> None:
    """Events that had not started when the object blocked itself must not pass each other on their way back."""
    gate = asyncio.Event()

    class Blocking(Rec):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            self.log.append(message)
            if message == "block":
                await self.ctx.block_concurrency_while(lambda: asyncio.sleep(0))
            if message == "wait":
                await gate.wait()

    world, front, _ = shard(Blocking)
    one, other = await front.connect("a"), await front.connect("b")
    one.send("block")
    one.send("1")
    other.send("wait")
    one.send("2")
    other.send("x")
    one.send("3")
    await turns(30)
    assert world.instance("a").log == ["block", "1", "2", "3"]
    gate.set()
    await turns()


@on_virtual_time
async def test_each_event_is_acknowledged_at_its_own_end() -> None:
    gate = asyncio.Event()

    class Waits(Rec):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            self.log.append(f"{message!s}1")
            if message == "A":
                await gate.wait()
            else:
                await asyncio.sleep(0)
            self.log.append(f"{message!s}2")

    world, front, _ = shard(Waits)
    client = await front.connect()
    a, b = client.send("A"), client.send("B")
    await turns()
    assert world.instance().log == ["A1", "B1", "B2"]
    assert client.acked(b)
    assert not client.acked(a)
    gate.set()
    await turns()
    assert client.acked(a)


# --- routers come and go ----------------------------------------------------------------------------------------------


@on_virtual_time
async def test_a_close_that_waits_is_the_only_one_when_its_router_dies() -> None:
    class Slow(Rec):
        def __init__(self, ctx: Any, env: Any) -> None:
            super().__init__(ctx, env)
            self.ready = asyncio.Event()

        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            await self.ctx.block_concurrency_while(self.ready.wait)

    world, _, other = shard(Slow, routers=2)
    client = await other.connect()
    client.send("block")
    await turns()
    client.close(4000, "bye")
    await turns()
    world.lose(other.router)
    instance = world.instance()
    instance.ready.set()
    await turns()
    assert instance.log == [(4000, "bye", True)]


@on_virtual_time
async def test_output_that_waits_for_a_blocked_link_goes_when_its_router_dies() -> None:
    class Echo(Rec):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            for peer in self.ctx.get_web_sockets():
                peer.send(message)

    world, front, other = shard(Echo, routers=2)
    one = await front.connect()
    await other.connect()
    other.router.link.blocked = True
    seq = one.send("x")
    await turns()
    assert one.messages == []
    assert not one.acked(seq)
    world.lose(other.router)
    await turns()
    assert one.messages == ["x"]
    assert one.acked(seq)


@on_virtual_time
async def test_a_router_that_joins_learns_which_objects_are_held() -> None:
    class Blocked(Rec):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            if message == "block":
                self.gate = asyncio.Event()
                await self.ctx.block_concurrency_while(self.gate.wait)

    world, front, _ = shard(Blocked)
    client = await front.connect()
    client.send("block")
    await turns()
    for _ in range(5_000):
        client.send("more")
    await turns()
    late = Front(world.add_router())
    await turns()
    assert [record[2] for record in front.of("hold")] == [record[2] for record in late.of("hold")] == [True]
    world.instance().gate.set()
    await turns(200)
    assert [record[2] for record in front.of("hold")] == [record[2] for record in late.of("hold")] == [True, False]


@on_virtual_time
async def test_a_router_that_forgot_an_object_is_told_again_what_is_set() -> None:
    class Pinged(Rec):
        def __init__(self, ctx: Any, env: Any) -> None:
            super().__init__(ctx, env)
            ctx.set_web_socket_auto_response(WebSocketRequestResponsePair("ping", "pong"))

    _, front, _ = shard(Pinged)
    for _ in range(2):
        client = await front.connect()
        kinds = [record[0] for record in front.records]
        assert kinds.index("object_state") < kinds.index("response")
        client.close()
        await turns()
        front.forget()


@on_virtual_time
async def test_a_request_that_a_router_passed_on_before_it_knew_the_pair_is_answered_here() -> None:
    class Pinged(Rec):
        def __init__(self, ctx: Any, env: Any) -> None:
            super().__init__(ctx, env)
            ctx.set_web_socket_auto_response(WebSocketRequestResponsePair("ping", "pong"))

    world, front, _ = shard(Pinged)
    counter = await front.router.connect()
    front.router.take()
    events = world.instance().log.copy()
    for data in ("ping", b"ping", "ping!"):
        front.router.message(counter, data)
    await turns()
    socket = world.router.peer.sockets[counter]
    assert front.router.take("send", "auto_response_times") == [
        ("send", [counter], "pong"),
        ("auto_response_times", [(counter, socket.auto_response_time)]),
    ], "the passport must have the time, too"
    assert world.instance().log[len(events) :] == [b"ping", "ping!"], "bytes and other texts are messages"
    assert socket.auto_response_time is not None
    WebSocket.of(socket).close(4000)
    front.router.message(counter, "ping")
    await turns()
    assert front.router.take("send") == []
    assert world.instance().log[-1] == "ping!"


@on_virtual_time
async def test_routers_that_knew_less_of_a_restored_object_are_told() -> None:
    world, front, other = shard(Rec, routers=2, restored=False)
    front.router.restore(5)
    other.router.restore(3)
    object_id = id_from_name("room", "lobby")
    other.router.events.object_state(ObjectState(object_id, 4, 0, ("old", "old")))
    front.router.events.object_state(ObjectState(object_id, 7, 0, ("ping", "pong")))
    front.router.restored()
    await turns()
    assert other.of("object_state") == []
    other.router.restored()
    await turns()
    assert [record[1] for record in other.of("object_state")] == [7]
    assert world.find() is not None


# --- the end ----------------------------------------------------------------------------------------------------------


@on_virtual_time
async def test_what_has_not_ended_when_the_shard_does_is_not_acknowledged() -> None:
    class Slow(Rec):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            if message == "forever":
                await asyncio.Event().wait()
            ws.send(message)

    world, front, _ = shard(Slow)
    client = await front.connect()
    cut = client.send("forever")
    await turns()
    closing = asyncio.create_task(world.host.aclose(0.05))
    last = LastEvents(front.router.peer)
    await turns(1)
    last.message(client.counter, 2, 0, "late")
    await closing
    assert not client.acked(cut)
    assert not client.acked(2)
    assert client.messages == []
