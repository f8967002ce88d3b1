"""Whole turns through the host in situations that are easy to get wrong, each of which has been wrong at some time."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from typing import Any

import pytest

from roost.common.errors import ObjectReset, OutboxFull
from roost.common.ids import id_from_name
from roost.common.records import HttpResponse, ObjectState
from roost.shard import DurableObject, Request, Response, WebSocket, WebSocketPair, WebSocketRequestResponsePair
from roost.shard.events import LastEvents
from roost.shard.hosted import VANISHED
from tests.unit.shard.harness import Record, Router, World, on_virtual_time, turns


class Front:
    """A router that keeps what it has got."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self._records: list[Record] = []

    @property
    def records(self) -> list[Record]:
        self._records += self.router.take()
        return self._records

    def of(self, kind: str) -> list[Record]:
        return [record for record in self.records if record[0] == kind]

    def forget(self) -> None:
        self.records.clear()

    def answer(self, request: int) -> HttpResponse | None:
        return next((record[1] for record in self.of("response") if record[1].request == request), None)

    async def fetch(self, query: str = "") -> HttpResponse:
        number = self.router.request(query=query)
        await turns(20)
        answer = self.answer(number)
        assert answer is not None, "no answer"
        return answer

    def client(self, name: str = "lobby", query: str = "") -> Client:
        """A client whose handshake is on its way."""
        return Client(self, self.router.request(name, query, upgrade=True), self.router.requests)

    async def connect(self, name: str = "lobby", query: str = "") -> Client:
        """A client whose handshake was accepted."""
        client = self.client(name, query)
        await turns(20)
        assert client.answer is not None
        assert client.answer.status == 101, client.answer
        return client


class Client:
    """A client of a router: what was sent to it."""

    def __init__(self, front: Front, counter: int, request: int) -> None:
        self.front = front
        self.counter = counter
        self._request = request

    @property
    def answer(self) -> HttpResponse | None:
        return self.front.answer(self._request)

    def send(self, data: str | bytes) -> int:
        return self.front.router.message(self.counter, data)

    def close(self, code: int = 1000, reason: str = "") -> int:
        return self.front.router.closed(self.counter, code, reason)

    @property
    def messages(self) -> list[str | bytes]:
        return [record[2] for record in self.front.of("send") for _ in range(record[1].count(self.counter))]

    @property
    def closes(self) -> list[Record]:
        """(code, reason, final) of each Close."""
        return [record[2:] for record in self.front.of("close") if record[1] == self.counter]

    def acked(self, seq: int) -> bool:
        ranges = [each for record in self.front.of("ack") for each in record[1]]
        return any(counter == self.counter and first <= seq <= last for counter, first, last in ranges)


def shard(cls: type[DurableObject], routers: int = 1, **config: Any) -> tuple[World, Front, Front]:
    """A shard that hosts *cls* as ``room``, its first router and its last."""
    cls.__name__ = "Room"
    world = World(cls, routers=routers, **config)
    first = Front(world.routers[0])
    return world, first, first if routers == 1 else Front(world.routers[-1])


class Rec(DurableObject):
    """Accepts each handshake with the tags of its query, and notes what happens to it."""

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self.log: list[Any] = []

    async def fetch(self, request: Request) -> Response:
        return self.accept(request) if "plain" not in request.query else Response("plain")

    def accept(self, request: Request) -> Response:
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server, request.query.get_all("tag"))
        return Response(status=101, web_socket=client)

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        self.log.append(message)

    async def web_socket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None:
        self.log.append((code, reason, was_clean))


GONE = (1006, VANISHED, False)


# --- order --------------------------------------------------------------------------------------------------------


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


# --- sockets whose client end is not returned ---------------------------------------------------------------------


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


# --- before the 101 -----------------------------------------------------------------------------------------------


@on_virtual_time
async def test_what_is_sent_before_the_101_is_bounded_and_checked_when_it_is_sent() -> None:
    raised: list[type[Exception]] = []

    class Talkative(Rec):
        async def fetch(self, request: Request) -> Response:
            client, server = WebSocketPair()
            self.ctx.accept_web_socket(server)
            server.send(bytes(40 << 20))
            for too_much in (bytes(40 << 20), "\ud800"):
                try:
                    server.send(too_much)
                except Exception as error:
                    raised.append(type(error))
            server.send("last")
            return Response(status=101, web_socket=client)

    world, front, _ = shard(Talkative)
    client = await front.connect()
    assert raised == [OutboxFull, UnicodeEncodeError]
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


# --- resets -------------------------------------------------------------------------------------------------------


@on_virtual_time
async def test_code_of_a_life_that_is_over_does_not_meddle_with_the_next() -> None:
    gate = asyncio.Event()

    class Zombie(Rec):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            if message == "abort":
                self.ctx.abort("enough")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await gate.wait()
                for peer in self.ctx.get_web_sockets():
                    peer.send("from the grave")

    _, front, _ = shard(Zombie)
    client = await front.connect()
    client.send("stay")
    await turns()
    client.send("abort")
    await turns()
    assert client.closes == [(1011, "enough", True)]
    second = await front.connect()
    gate.set()
    await turns()
    assert second.messages == []


@on_virtual_time
async def test_a_handler_that_catches_its_own_reset_is_cancelled_when_it_waits() -> None:
    ended: list[str] = []

    class Stubborn(Rec):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            try:
                self.ctx.abort("enough")
            except ObjectReset:
                pass
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

    _, front, _ = shard(Stubborn)
    client = await front.connect()
    seq = client.send("x")
    await turns()
    assert ended == ["cancelled"]
    assert client.acked(seq)


@on_virtual_time
async def test_a_fetch_that_answers_after_the_reset_is_a_500() -> None:
    class Late(Rec):
        async def fetch(self, request: Request) -> Response:
            try:
                self.ctx.abort("enough")
            except ObjectReset:
                pass
            return Response("fine")

    _, front, _ = shard(Late)
    assert (await front.fetch()).status == 500


@pytest.mark.parametrize("own", [True, False])
def test_a_timeout_error_of_the_users_own_is_logged_as_theirs(caplog: pytest.LogCaptureFixture, own: bool) -> None:
    class TimesOut(Rec):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            await self.ctx.block_concurrency_while(self.fail if own else lambda: asyncio.sleep(31))

        async def fail(self) -> None:
            raise TimeoutError("their own")

    @on_virtual_time
    async def scenario() -> None:
        _, front, _ = shard(TimesOut)
        client = await front.connect()
        client.send("x")
        await asyncio.sleep(32)
        assert [close[0] for close in client.closes] == [1011]

    scenario()
    assert ("more than 30 s" in caplog.text) is not own
    assert ("their own" in caplog.text) is own


def test_a_task_that_resets_its_object_ends_quietly(caplog: pytest.LogCaptureFixture) -> None:
    class Aborts(Rec):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            self.task = asyncio.create_task(self.later())

        async def later(self) -> None:
            self.ctx.abort("later")

    @on_virtual_time
    async def scenario() -> None:
        _, front, _ = shard(Aborts)
        client = await front.connect()
        client.send("x")
        await turns()
        gc.collect()
        assert client.closes == [(1011, "later", True)]

    scenario()
    assert [record.levelno for record in caplog.records] == [logging.WARNING], caplog.text


async def test_a_task_that_fails_unseen_is_logged_with_its_objects_id(caplog: pytest.LogCaptureFixture) -> None:
    class Leaves(Rec):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            task = asyncio.create_task(self.fail())
            del task

        async def fail(self) -> None:
            raise RuntimeError("on purpose")

    world, front, _ = shard(Leaves)
    client = await front.connect()
    client.send("x")
    await turns()
    gc.collect()
    assert world.counters.errors == 1
    assert str(world.instance().ctx.id) in caplog.text
    assert "on purpose" in caplog.text


# --- what the wire cannot carry -----------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["tag", "auto-response", "header", "body", "close", "message"])
def test_what_the_wire_cannot_carry_is_refused_where_it_is_passed(what: str) -> None:
    raised: list[Exception] = []

    class Odd(Rec):
        async def fetch(self, request: Request) -> Response:
            try:
                self.odd()
            except Exception as error:
                raised.append(error)
            return self.accept(request)

        def odd(self) -> None:
            _, server = WebSocketPair()
            if what == "tag":
                self.ctx.accept_web_socket(server, ["\ud800"])
            elif what == "auto-response":
                self.ctx.set_web_socket_auto_response(WebSocketRequestResponsePair("\ud800", "x"))
            elif what == "header":
                Response("x", headers={"a" * 70_000: "x"})
            elif what == "body":
                Response(bytes(257 << 20))
            else:
                server.accept()
                if what == "close":
                    server.close(4000, "\ud800")
                else:
                    server.send(bytes(257 << 20))

    @on_virtual_time
    async def scenario() -> None:
        _, front, _ = shard(Odd)
        await front.connect()
        assert len(raised) == 1

    scenario()


@on_virtual_time
async def test_a_reset_for_an_odd_reason_is_one_all_the_same() -> None:
    class Odd(Rec):
        async def fetch(self, request: Request) -> Response:
            if "plain" in request.query:
                self.ctx.abort("\ud800" * 200)
            return self.accept(request)

    _, front, _ = shard(Odd)
    client = await front.connect()
    assert (await front.fetch("plain")).status == 500
    assert [close[0] for close in client.closes] == [1011]
    assert await front.connect()


# --- routers come and go ------------------------------------------------------------------------------------------


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


# --- the end ------------------------------------------------------------------------------------------------------


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
    last = LastEvents(world.host, front.router.peer)
    await turns(1)
    last.message(client.counter, 2, 0, "late")
    await closing
    assert not client.acked(cut)
    assert not client.acked(2)
    assert client.messages == []


# --- what users' code may do --------------------------------------------------------------------------------------


def test_a_plain_handler_that_lets_stop_iteration_out_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    class Stops(Rec):
        def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:  # type: ignore[override]
            next(iter(()))

    @on_virtual_time
    async def scenario() -> None:
        world, front, _ = shard(Stops)
        client = await front.connect()
        client.send("x")
        await turns()
        assert world.counters.errors == 1

    scenario()
    assert "StopIteration" in caplog.text


@on_virtual_time
async def test_the_event_timeout_is_not_for_standard_sockets() -> None:
    class Standard(Rec):
        async def fetch(self, request: Request) -> Response:
            client, server = WebSocketPair()
            self.ctx.set_hibernatable_web_socket_event_timeout(1)
            server.accept()

            async def listener(event: Any) -> None:
                await asyncio.sleep(5)
                server.send("done")

            server.add_event_listener("message", listener)
            return Response(status=101, web_socket=client)

    _, front, _ = shard(Standard)
    client = await front.connect()
    client.send("x")
    await asyncio.sleep(6)
    assert client.messages == ["done"]


@on_virtual_time
async def test_sockets_take_attributes_and_weak_references() -> None:
    class Keeps(Rec):
        async def web_socket_message(self, ws: Any, message: str | bytes) -> None:
            ws.count = getattr(ws, "count", 0) + 1
            assert weakref.ref(ws)() is ws
            ws.send(ws.count)

    _, front, _ = shard(Keeps, hibernate_after_s=1.0)
    client = await front.connect()
    client.send("x")
    client.send("x")
    await asyncio.sleep(3)
    client.send("x")
    await turns()
    assert client.messages == ["1", "2", "1"]


# --- memory -------------------------------------------------------------------------------------------------------


@on_virtual_time
async def test_an_instance_and_its_sockets_handles_go_at_once_when_it_sleeps() -> None:
    """By counting references: full collections are rare here on purpose."""
    world, front, _ = shard(Rec, hibernate_after_s=1.0)
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await front.connect()
        gone = [weakref.ref(world.instance()), *map(weakref.ref, world.instance().ctx.get_web_sockets())]
        front.forget()
        await asyncio.sleep(3)
        assert [one() for one in gone] == [None] * 21
    finally:
        gc.enable()


@on_virtual_time
async def test_pairs_leave_nothing_to_the_collector() -> None:
    _, front, _ = shard(Rec, hibernate_after_s=1.0)
    await front.connect()
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await front.connect()
        front.forget()
        await asyncio.sleep(3)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        ours = [type(thing).__name__ for thing in gc.garbage if type(thing).__module__.startswith("roost.shard")]
        assert ours == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@on_virtual_time
async def test_an_object_that_was_forgotten_begins_behind_its_past() -> None:
    """A router may still know a connection of before by its ordinal, and what was set by its revision."""

    class Sets(Rec):
        async def fetch(self, request: Request) -> Response:
            self.ctx.set_web_socket_auto_response(WebSocketRequestResponsePair("ping", "pong"))
            return self.accept(request)

        async def web_socket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None:
            self.ctx.set_web_socket_auto_response()

    world, front, _ = shard(Sets, hibernate_after_s=1.0)
    first = await front.connect()
    first.close()
    await asyncio.sleep(5)
    assert world.find() is None
    second = await front.connect()
    assert first.answer is not None
    assert second.answer is not None
    assert second.answer.ordinal > first.answer.ordinal
    revisions = [record[1] for record in front.of("object_state")]
    assert revisions == sorted(set(revisions))


@on_virtual_time
async def test_sleep_comes_when_the_last_event_is_ten_seconds_ago() -> None:
    world, front, _ = shard(Rec)
    client = await front.connect("a")
    await asyncio.sleep(9.5)
    client.send("x")
    await front.connect("b")
    await asyncio.sleep(9.9)
    assert world.instance("a") is not None
    await asyncio.sleep(0.2)
    assert world.instance("a") is None
