"""Sockets on their way to a 101, and those that never get one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from roost.common.errors import OutboxFull, TooManyWebSockets
from roost.common.limits import MAX_WEBSOCKETS_PER_OBJECT
from roost.shard import Request, Response, WebSocket, WebSocketPair
from tests.unit.shard.clients import GONE, Rec, shard
from tests.unit.shard.harness import on_virtual_time, turns

# --- as many as there may be ------------------------------------------------------------------------------------------


class Full(Rec):
    """Has as many sockets of a kind as there may be before it accepts one more."""

    async def fetch(self, request: Request) -> Response:
        for number in range(MAX_WEBSOCKETS_PER_OBJECT + 1):
            client, server = WebSocketPair()
            try:
                self.take(server, request.query["kind"])
            except TooManyWebSockets as error:
                return Response(f"{number} {error}", status=503)
        return Response(status=101, web_socket=client)

    def take(self, server: WebSocket, kind: str) -> None:
        if kind == "non-hibernatable":
            server.accept()
        else:
            self.ctx.accept_web_socket(server)


@pytest.mark.parametrize("kind", ["hibernatable", "non-hibernatable"])
def test_the_32769th_socket_is_refused_and_counted(kind: str) -> None:
    @on_virtual_time
    async def run() -> None:
        world, front, _ = shard(Full)
        answer = await front.fetch(f"kind={kind}")
        assert answer.status == 503
        assert answer.body == f"32768 an object can hold at most 32768 {kind} WebSockets".encode()
        assert world.counters.sockets_refused == 1

    run()


# --- sockets whose client end is not returned -------------------------------------------------------------------------


@on_virtual_time
async def test_a_socket_accepted_in_a_message_handler_is_dropped_at_its_end() -> None:
    class Hoarder(Rec):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            _, server = WebSocketPair()
            self.ctx.accept_web_socket(server)
            server.send("lost")

    world, front, _ = shard(Hoarder)
    client = await front.connect()
    client.send("go")
    await turns()
    instance = world.instance()
    assert instance.log == [GONE]
    assert len(instance.ctx.get_web_sockets()) == 1
    assert world.object().outbox.size == 0
    assert world.object().may_sleep


@on_virtual_time
async def test_a_socket_accepted_in_a_task_of_a_fetch_outlives_another_fetch() -> None:
    gate = asyncio.Event()

    class Tasked(Rec):
        async def fetch(self, request: Request) -> Response:
            if "plain" in request.query:
                return Response("plain")
            return await asyncio.create_task(self.slowly(request))

        async def slowly(self, request: Request) -> Response:
            response = self.accept(request)
            await gate.wait()
            return response

    world, front, _ = shard(Tasked)
    client = front.client()
    await turns()
    assert (await front.fetch("plain")).status == 200
    gate.set()
    await turns()
    assert client.answer is not None
    assert client.answer.status == 101
    assert world.instance().log == []


class Actor(Rec):
    """Its sockets are accepted by a task that belongs to no event."""

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.worker = asyncio.create_task(self.work())

    async def work(self) -> None:
        while True:
            request, future = await self.queue.get()
            response = self.accept(request)
            await asyncio.sleep(0)
            if future is not None:
                future.set_result(response)

    async def fetch(self, request: Request) -> Response:
        future = None if "plain" in request.query else asyncio.get_running_loop().create_future()
        self.queue.put_nowait((request, future))
        if future is None:
            return Response("plain")
        response: Response = await future
        return response


@on_virtual_time
async def test_a_socket_accepted_by_no_event_has_time_until_none_runs() -> None:
    world, front, _ = shard(Actor)
    client = front.client()
    plain = front.router.request(query="plain")
    await turns(20)
    assert front.answer(plain) is not None
    assert client.answer is not None
    assert client.answer.status == 101
    assert len(world.instance().ctx.get_web_sockets()) == 1, "the one that went to nobody is gone"
    assert world.instance().log == [GONE]


@on_virtual_time
async def test_a_socket_accepted_while_no_event_runs_goes_at_once_and_keeps_nobody_awake() -> None:
    class Idle(Rec):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            self.ctx.wait_until(self.later())

        async def later(self) -> None:
            await asyncio.sleep(1)
            self.ctx.accept_web_socket(WebSocketPair().server)

    world, front, _ = shard(Idle)
    client = await front.connect()
    client.send("x")
    await asyncio.sleep(1.1)
    assert world.instance().log == [GONE]
    assert len(world.instance().ctx.get_web_sockets()) == 1
    assert world.object().may_sleep


@on_virtual_time
async def test_an_upgrade_whose_router_dies_meanwhile_is_dropped_and_hurts_nobody() -> None:
    gate = asyncio.Event()

    class Slow(Rec):
        async def fetch(self, request: Request) -> Response:
            response = self.accept(request)
            if "slow" in request.query:
                await gate.wait()
                asyncio.get_running_loop().call_soon(self.say)
            return response

        def say(self) -> None:
            for ws in self.ctx.get_web_sockets():
                ws.send("all")

    world, front, other = shard(Slow, routers=2)
    stays = await front.connect()
    other.client(query="slow")
    await turns()
    world.lose(other.router)
    gate.set()
    await turns(20)
    assert stays.messages == ["all"]
    assert stays.closes == []
    assert world.instance().log == [GONE]


# --- before the 101 ---------------------------------------------------------------------------------------------------


@on_virtual_time
async def test_what_is_sent_before_the_101_is_bounded_and_checked_when_it_is_sent() -> None:
    raised: list[type[Exception]] = []

    class Talkative(Rec):
        async def fetch(self, request: Request) -> Response:
            client, server = WebSocketPair()
            self.ctx.accept_web_socket(server)
            server.send(bytes(40 << 20))
            for too_much in (b"x" * (40 << 20), "\ud800"):
                try:
                    server.send(too_much)
                except Exception as error:
                    raised.append(type(error))
            server.send("last")
            return Response(status=101, web_socket=client)

    world, front, _ = shard(Talkative)
    client = await front.connect()
    assert raised == [OutboxFull, UnicodeEncodeError]
    world.router.room(client.counter, 1 << 20)
    assert [len(message) for message in client.messages] == [40 << 20, 4]
    assert world.object().outbox.size == 0


@on_virtual_time
async def test_one_message_larger_than_the_bound_passes_before_the_101_as_after_it() -> None:
    class Huge(Rec):
        async def fetch(self, request: Request) -> Response:
            client, server = WebSocketPair()
            self.ctx.accept_web_socket(server)
            server.send(bytes(65 << 20))
            return Response(status=101, web_socket=client)

    world, front, _ = shard(Huge)
    client = await front.connect()
    assert [len(message) for message in client.messages] == [65 << 20]
    client.send("alive")
    await turns()
    assert world.instance().log == ["alive"]
