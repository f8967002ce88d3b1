"""An object's lives: waking, blocking, sleeping, being reset, being forgotten."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from typing import Any

import pytest

from roost.shard import ObjectReset, Request, Response, WebSocket, WebSocketPair
from roost.shard.api.web_socket import WebSocket as Handle
from roost.shard.objects.activation import BLOCK_TIMEOUT_S, Activation
from roost.shard.objects.hosted import HostedObject
from roost.shard.objects.sockets import Socket
from tests.unit.shard.harness import Room, World, on_virtual_time, outcome, turns


class Base(Room):
    """Notes its events in the class."""

    log: list[Any]

    def __init_subclass__(cls) -> None:
        cls.__name__ = "Room"
        cls.log = []

    def web_socket_message(self, ws: WebSocket, message: Any) -> Any:
        self.log.append(message)

    def web_socket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> Any:
        self.log.append(("close", code, reason, was_clean))


# --- sleeping -----------------------------------------------------------------------------------------------------


@on_virtual_time
async def test_an_idle_object_leaves_memory_and_its_sockets_stay() -> None:
    class Lobby(Base): ...

    world = World(Lobby, hibernate_after_s=10.0)
    counter = await world.router.connect(query="tag=a")
    instance = weakref.ref(world.instance())
    handle = weakref.ref(world.object().sockets.newest_first()[0])
    await asyncio.sleep(9.9)
    assert instance() is not None
    await asyncio.sleep(0.2)
    assert instance() is None, "without the collector"
    assert handle() is None
    assert world.object().activation is None
    assert (world.counters.objects_awake, world.counters.hibernations) == (0, 1)
    world.host.count_objects()
    assert world.counters.objects_asleep == 1
    world.router.message(counter, "wake up")
    await turns()
    assert Lobby.log == ["wake up"]
    assert world.instance().ctx.get_tags(world.instance().ctx.get_web_sockets("a")[0]) == ["a"]
    assert world.counters.objects_awake == 1


@on_virtual_time
async def test_each_event_puts_sleep_off() -> None:
    class Lobby(Base): ...

    world = World(Lobby, hibernate_after_s=10.0)
    counter = await world.router.connect()
    for _ in range(3):
        await asyncio.sleep(6)
        world.router.message(counter, "x")
    await asyncio.sleep(9.9)
    assert world.instance() is not None
    await asyncio.sleep(0.2)
    assert world.instance() is None


async def _waits(lobby: Any) -> None:
    await asyncio.sleep(30)


def _wait_until(lobby: Any) -> None:
    lobby.ctx.wait_until(asyncio.sleep(30))


def _task(lobby: Any) -> None:
    lobby.task = asyncio.get_running_loop().create_task(asyncio.sleep(30))


@pytest.mark.parametrize("busy", [_waits, _wait_until, _task], ids=["handler", "wait_until", "task"])
def test_what_keeps_an_object_awake(busy: Any) -> None:
    @on_virtual_time
    async def scenario() -> None:
        class Lobby(Base):
            def web_socket_message(self, ws: WebSocket, message: Any) -> Any:
                return busy(self)

        world = World(Lobby, hibernate_after_s=10.0)
        counter = await world.router.connect()
        world.router.message(counter)
        await asyncio.sleep(39)
        assert world.instance() is not None
        await asyncio.sleep(2)
        assert world.instance() is None, "10 s after the end of it"

    scenario()


@on_virtual_time
async def test_a_standard_socket_keeps_it_awake_until_it_closes() -> None:
    class Lobby(Base): ...

    world = World(Lobby, hibernate_after_s=10.0)
    counter = await world.router.connect(query="standard=1")
    await asyncio.sleep(50)
    assert world.instance() is not None
    world.router.closed(counter)
    await asyncio.sleep(10.1)
    assert world.find() is None


@on_virtual_time
async def test_an_object_without_sockets_is_forgotten_and_what_it_set_for_them_goes_with_them() -> None:
    class Lobby(Base):
        def __init__(self, ctx: Any, env: Any) -> None:
            super().__init__(ctx, env)
            ctx.set_hibernatable_web_socket_event_timeout(5)

    world = World(Lobby, hibernate_after_s=1.0)
    world.router.request("plain")
    counter = await world.router.connect("visited")
    await asyncio.sleep(3)
    assert world.find("plain") is None
    assert world.object("visited").activation is None
    assert world.object("visited").event_timeout_ms == 5
    world.router.closed(counter)
    await asyncio.sleep(3)
    assert world.find("visited") is None


@on_virtual_time
async def test_objects_that_never_came_to_life_are_forgotten_too() -> None:
    class Lobby(Base):
        def __init__(self, ctx: Any, env: Any) -> None:
            raise ValueError("no")

    world = World(Lobby, hibernate_after_s=1.0)
    for number in range(5):
        world.router.request(f"room {number}")
    await asyncio.sleep(3)
    assert len(world.host.objects) == 0
    assert world.counters.objects_awake == 0


# --- waking -------------------------------------------------------------------------------------------------------


@on_virtual_time
async def test_a_constructor_that_fails_is_tried_anew_for_each_request() -> None:
    class Lobby(Base):
        def __init__(self, ctx: Any, env: Any) -> None:
            super().__init__(ctx, env)
            self.log.append("constructed")
            if len(self.log) < 3:
                raise ValueError("not yet")

    world = World(Lobby)
    for _ in range(3):
        world.router.request(upgrade=True)
    await turns()
    assert [record[1].status for record in world.router.take("response")] == [500, 500, 101]
    assert Lobby.log == ["constructed"] * 3
    assert world.counters.objects_awake == 1


@on_virtual_time
async def test_a_constructor_that_fails_on_an_event_resets_the_object() -> None:
    class Lobby(Base):
        broken = False

        def __init__(self, ctx: Any, env: Any) -> None:
            super().__init__(ctx, env)
            if self.broken:
                raise ValueError("broken")

    world = World(Lobby, hibernate_after_s=1.0)
    first, second = await world.router.connect(), await world.router.connect()
    await asyncio.sleep(3)
    Lobby.broken = True
    world.router.take()
    world.router.message(first, "x")
    world.router.message(second, "y")
    await turns()
    records = world.router.take()
    assert sorted(record[:3] + record[4:] for record in records if record[0] == "close") == [
        ("close", first, 1011, True),
        ("close", second, 1011, True),
    ]
    assert records[-1] == ("ack", [(first, 1, 1)]), "the router forgets all others with the Close"
    assert Lobby.log == []
    assert world.counters.sockets == 0
    Lobby.broken = False
    await world.router.connect()
    assert len(world.object().sockets) == 1


@on_virtual_time
async def test_waking_with_10000_sockets_costs_the_same_as_with_none() -> None:
    class Lobby(Base): ...

    world = World(Lobby, hibernate_after_s=1.0, restored=False)
    for counter in range(1, 10_001):
        world.router.restore(counter, tags=("everyone",))
    world.router.restored()
    begin = time.process_time()
    world.router.message(5, "wake up")
    await turns()
    assert Lobby.log == ["wake up"]
    assert time.process_time() - begin < 0.02
    assert len(world.instance().ctx.get_web_sockets("everyone")) == 10_000


# --- blocking -----------------------------------------------------------------------------------------------------


class Blocking(Base):
    """Blocks for as many seconds as a message ``block N`` says."""

    def web_socket_message(self, ws: WebSocket, message: Any) -> Any:
        self.log.append(message)
        if message.startswith("block"):
            self.ctx.block_concurrency_while(lambda: asyncio.sleep(float(message[6:])))


@on_virtual_time
async def test_events_wait_for_a_constructor_that_blocks_connections_in_turn() -> None:
    class Lobby(Base):
        def __init__(self, ctx: Any, env: Any) -> None:
            super().__init__(ctx, env)
            ctx.block_concurrency_while(lambda: asyncio.sleep(1))

    world = World(Lobby, hibernate_after_s=1.0)
    m, n = world.router.request(upgrade=True), world.router.request(upgrade=True)
    await asyncio.sleep(1.5)
    await asyncio.sleep(3)
    assert world.instance() is None
    for counter, message in [(m, "m1"), (m, "m2"), (n, "n1")]:
        world.router.message(counter, message)
    await asyncio.sleep(0.5)
    assert Lobby.log == []
    await asyncio.sleep(1)
    assert Lobby.log == ["m1", "n1", "m2"]


@on_virtual_time
async def test_blocking_in_between_keeps_the_order_of_a_connection() -> None:
    """One event is taken back, the next one is still queued behind another object's when the block ends."""

    class Lobby(Blocking):
        async def web_socket_message(self, ws: WebSocket, message: Any) -> Any:
            Blocking.web_socket_message(self, ws, message)
            if message == "waits":
                await asyncio.sleep(0)

    world = World(Lobby)
    mine, others = await world.router.connect(), await world.router.connect("other")
    for counter, message in [(mine, "block 0"), (mine, "1"), (others, "waits"), (mine, "2"), (others, "waits")] * 3:
        world.router.message(counter, message)
    await asyncio.sleep(1)
    assert [message for message in Lobby.log if message != "waits"] == ["block 0", "1", "2"] * 3


@on_virtual_time
async def test_what_comes_while_it_is_blocked_stays_behind_what_the_runner_holds() -> None:
    class Lobby(Blocking): ...

    world = World(Lobby)
    counter = await world.router.connect()
    for message in ("block 1", "1", "2"):
        world.router.message(counter, message)
    await asyncio.sleep(0.5)
    world.router.message(counter, "3")
    await asyncio.sleep(1)
    assert Lobby.log == ["block 1", "1", "2", "3"]


@on_virtual_time
async def test_the_callbacks_result_and_nested_blocks() -> None:
    class Lobby(Base):
        def fetch(self, request: Request) -> Any:
            return self.ctx.block_concurrency_while(self.outer)

        async def outer(self) -> Response:
            inner = self.ctx.block_concurrency_while(lambda: asyncio.sleep(1, "inner"))
            assert await inner == "inner"
            activation = world.object().activation
            assert activation is not None
            self.log.append(activation.state.name)
            return Response("outer")

    world = World(Lobby)
    world.router.request()
    await asyncio.sleep(2)
    (response,) = (record[1] for record in world.router.take("response"))
    assert response.body == b"outer"
    assert Lobby.log == ["BLOCKED"]


@pytest.mark.parametrize("error", [ValueError("x"), TimeoutError("the object's own")])
def test_a_callback_that_raises_resets_the_object(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    @on_virtual_time
    async def scenario() -> None:
        class Lobby(Base):
            async def web_socket_message(self, ws: WebSocket, message: Any) -> Any:
                self.log.append(await outcome(self.ctx.block_concurrency_while(self.fail)))

            async def fail(self) -> None:
                await asyncio.sleep(1)
                raise error

        world = World(Lobby)
        counter = await world.router.connect()
        world.router.take()
        world.router.message(counter, "fail")
        world.router.message(counter, "waits in vain")
        await asyncio.sleep(2)
        closes = world.router.take("close")
        assert [record[1:3] for record in closes] == [(counter, 1011)]
        assert Lobby.log
        assert all(isinstance(each, ObjectReset | asyncio.CancelledError) for each in Lobby.log)
        assert world.instance() is None

    scenario()
    assert repr(error) in caplog.text or str(error) in caplog.text


@on_virtual_time
async def test_a_callback_that_takes_30_s_resets_the_object() -> None:
    class Lobby(Base):
        def web_socket_message(self, ws: WebSocket, message: Any) -> Any:
            self.ctx.block_concurrency_while(lambda: asyncio.sleep(1000))

    world = World(Lobby)
    counter = await world.router.connect()
    world.router.message(counter)
    await asyncio.sleep(BLOCK_TIMEOUT_S - 1)
    assert world.router.take("close") == []
    await asyncio.sleep(2)
    assert [record[2] for record in world.router.take("close")] == [1011]


# --- resets -------------------------------------------------------------------------------------------------------


@on_virtual_time
async def test_a_reset_closes_all_sockets_behind_what_was_sent_and_calls_nobody() -> None:
    class Lobby(Base):
        def web_socket_message(self, ws: WebSocket, message: Any) -> Any:
            ws.send("goodbye")
            self.ctx.abort("tidy up")

    world = World(Lobby)
    hib, std = await world.router.connect(), await world.router.connect(query="standard=1")
    old = world.instance()
    world.router.take()
    world.router.message(hib)
    await asyncio.sleep(1)
    records = world.router.take()
    assert records[0] == ("send", [hib], "goodbye")
    assert sorted(record[:3] for record in records[1:3]) == [("close", hib, 1011), ("close", std, 1011)]
    assert records[3] == ("ack", [(hib, 1, 1)])
    assert Lobby.log == []
    assert world.counters.resets == 1
    assert world.counters.errors == 0, "it is no failure"
    await world.router.connect()
    assert world.instance() is not old


@pytest.mark.parametrize("reason", ["é" * 100, "\ud800", "", None, 5])
def test_a_reset_is_whole_whatever_its_reason(reason: Any) -> None:
    @on_virtual_time
    async def scenario() -> None:
        class Lobby(Base):
            def web_socket_message(self, ws: WebSocket, message: Any) -> Any:
                self.ctx.abort(reason)

        world = World(Lobby)
        counter = await world.router.connect()
        world.router.message(counter)
        await turns()
        ((_, _, code, text, final),) = world.router.take("close")
        assert (code, final) == (1011, True)
        assert len(text.encode()) <= 123
        assert world.counters.sockets == 0

    scenario()


@on_virtual_time
async def test_a_reset_ends_handlers_tasks_requests_and_what_waits() -> None:
    class Lobby(Base):
        async def fetch(self, request: Request) -> Any:
            if "abort" in request.query:
                self.ctx.wait_until(self.ends("wait_until"))
                self.task = asyncio.get_running_loop().create_task(self.ends("task"))
                await asyncio.sleep(0)
                self.ctx.abort("enough")
            if "wait" in request.query:
                await self.ends("request")
            return await Room.fetch(self, request)

        async def web_socket_message(self, ws: WebSocket, message: Any) -> Any:
            await self.ends("message")

        async def ends(self, what: str) -> None:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                self.log.append(what)
                raise

    world = World(Lobby)
    counter = await world.router.connect()
    world.router.take()
    world.router.message(counter)
    world.router.request(query="wait=1")
    world.router.request(query="abort=1")
    await turns()
    assert sorted(Lobby.log) == ["message", "request", "task", "wait_until"]
    bodies = [record[1].body for record in world.router.take("response")]
    assert len(bodies) == 2
    assert all(b"reset" in body for body in bodies)
    assert world.counters.errors == 0


@on_virtual_time
async def test_a_handler_that_goes_on_after_its_reset_is_cancelled_and_cannot_meddle() -> None:
    class Lobby(Base):
        async def web_socket_message(self, ws: WebSocket, message: Any) -> Any:
            try:
                self.ctx.abort()
            except ObjectReset:
                self.log.append(await outcome(asyncio.sleep(100)))
                for call in (
                    lambda: ws.send("to nobody"),
                    lambda: ws.close(),
                    lambda: self.ctx.get_web_sockets(),
                    lambda: self.ctx.accept_web_socket(WebSocketPair().server),
                    lambda: self.ctx.set_web_socket_auto_response(),
                    lambda: self.ctx.block_concurrency_while(lambda: asyncio.sleep(0)),
                ):
                    with pytest.raises(ObjectReset):
                        call()
                self.log.append("checked")

    world = World(Lobby)
    counter = await world.router.connect()
    world.router.take()
    world.router.message(counter)
    await turns()
    assert isinstance(Lobby.log[0], asyncio.CancelledError)
    assert Lobby.log[1] == "checked"
    assert world.router.take("send") == []


@pytest.mark.parametrize("end", ["abort", "close"])
def test_an_object_that_is_forgotten_leaves_nothing_to_the_collector(end: str) -> None:
    """There is no full collection while there is traffic."""

    @on_virtual_time
    async def scenario() -> None:
        class Lobby(Base):
            def fetch(self, request: Request) -> Any:
                if "abort" in request.query:
                    self.ctx.abort()
                return Room.fetch(self, request)

        world = World(Lobby, hibernate_after_s=1.0)
        counter = await world.router.connect(query="tag=a")
        world.router.message(counter)
        world.router.request(query="abort=1") if end == "abort" else world.router.closed(counter)
        await asyncio.sleep(3)
        assert world.find() is None

    def alive() -> list[Any]:
        kinds = (HostedObject, Activation, WebSocket, Socket)
        return [each for each in gc.get_objects() if isinstance(each, kinds)]

    gc.collect()
    gc.disable()
    try:
        before = alive()  # of other tests, whose failures may be remembered
        scenario()
        assert [each for each in alive() if not any(each is other for other in before)] == []
    finally:
        gc.enable()


# --- handlers -----------------------------------------------------------------------------------------------------


@on_virtual_time
async def test_a_closing_socket_is_listed_until_the_handler_first_waits() -> None:
    class Lobby(Base):
        async def web_socket_close(self, ws: WebSocket, *end: Any) -> Any:
            self.log.append(len(self.ctx.get_web_sockets()))
            await asyncio.sleep(1)
            self.log.append(len(self.ctx.get_web_sockets()))
            ws.close(4000, "answer")

    world = World(Lobby)
    counter = await world.router.connect()
    world.router.take()
    world.router.closed(counter)
    await asyncio.sleep(2)
    assert Lobby.log == [1, 0]
    assert world.router.take() == [("close", counter, 4000, "answer", False), ("ack", [(counter, 1, 1)])]


@on_virtual_time
async def test_a_handler_over_its_time_is_cancelled_and_everything_else_goes_on() -> None:
    class Lobby(Base):
        async def web_socket_message(self, ws: WebSocket, message: Any) -> Any:
            self.ctx.set_hibernatable_web_socket_event_timeout(2000)
            if message == "slow":
                await asyncio.sleep(100)
            self.log.append(message)

    world = World(Lobby)
    counter = await world.router.connect()
    world.router.message(counter, "fast")
    world.router.message(counter, "slow")
    world.router.take()
    await asyncio.sleep(3)
    world.router.message(counter, "later")
    await turns()
    assert Lobby.log == ["fast", "later"]
    assert world.counters.timeouts == 1
    assert world.counters.errors == 0
    assert world.router.take("ack") == [
        ("ack", [(counter, 1, 1)]),
        ("ack", [(counter, 2, 2)]),
        ("ack", [(counter, 3, 3)]),
    ]


@pytest.mark.parametrize("end", ["closed", "failed"])
def test_the_handler_of_an_end_takes_as_long_as_it_likes_and_closes_late(end: str) -> None:
    """The router answers the client without it after a while; what it saves is not torn."""

    @on_virtual_time
    async def scenario() -> None:
        class Lobby(Base):
            async def web_socket_close(self, ws: WebSocket, *end: Any) -> Any:
                await asyncio.sleep(1000)
                ws.close(4001, "saved")
                self.log.append("saved")

            web_socket_error = web_socket_close

        world = World(Lobby)
        counter = await world.router.connect()
        world.router.take()
        getattr(world.router, end)(counter)
        await asyncio.sleep(999)
        assert world.router.take() == []
        assert Lobby.log == []
        await asyncio.sleep(2)
        assert Lobby.log == ["saved"]
        said = [("close", counter, 4001, "saved", False)] if end == "closed" else []
        assert world.router.take() == [*said, ("ack", [(counter, 1, 1)])]

    scenario()


@on_virtual_time
async def test_the_event_timeout_holds_for_the_handlers_of_ends_as_well() -> None:
    class Lobby(Base):
        async def web_socket_close(self, ws: WebSocket, *end: Any) -> Any:
            await asyncio.sleep(1000)

    world = World(Lobby)
    counter = await world.router.connect()
    world.object().set_event_timeout(2000)
    await turns()
    world.router.take()
    world.router.closed(counter)
    await asyncio.sleep(3)
    assert world.router.take() == [("ack", [(counter, 1, 1)])]
    assert world.counters.timeouts == 1


@on_virtual_time
async def test_what_a_cancelled_handler_raises_on_its_way_out_is_logged() -> None:
    class Lobby(Base):
        async def web_socket_close(self, ws: WebSocket, *end: Any) -> Any:
            try:
                await asyncio.sleep(1000)
            finally:
                raise ValueError("in the cleanup")

    world = World(Lobby)
    counter = await world.router.connect()
    world.object().set_event_timeout(10_000)
    world.router.closed(counter)
    await asyncio.sleep(11)
    assert world.counters.errors == 1


@on_virtual_time
async def test_a_task_that_fails_in_wait_until_is_counted_and_hurts_nobody() -> None:
    class Lobby(Base):
        def web_socket_message(self, ws: WebSocket, message: Any) -> Any:
            self.ctx.wait_until(self.fail())

        async def fail(self) -> None:
            raise ValueError("x")

    world = World(Lobby)
    counter = await world.router.connect()
    world.router.message(counter)
    await turns()
    assert world.counters.errors == 1
    assert len(world.object().sockets) == 1


@on_virtual_time
async def test_handles_are_the_same_for_one_life() -> None:
    class Lobby(Base):
        def web_socket_message(self, ws: WebSocket, message: Any) -> Any:
            assert self.ctx.get_web_sockets() == [ws]
            assert self.ctx.get_web_sockets("a") == [ws]
            self.log.append(ws)

    world = World(Lobby)
    counter = await world.router.connect(query="tag=a")
    world.router.message(counter)
    world.router.message(counter)
    await turns()
    first, second = Lobby.log
    assert first is second
    assert type(first) is Handle


@on_virtual_time
async def test_closing_32768_sockets_in_a_row_stays_linear() -> None:
    class Lobby(Base):
        def web_socket_close(self, ws: WebSocket, *end: Any) -> Any: ...

    world = World(Lobby, restored=False)
    world.router.restored()
    took = []
    for count in (4_096, 32_768):
        for counter in range(1, count + 1):
            world.router.restore(counter, f"room {count}", tags=("everyone",))
        begin = time.process_time()
        for counter in range(1, count + 1):
            world.router.closed(counter)
        await asyncio.sleep(1)
        took.append(time.process_time() - begin)
        assert len(world.object(f"room {count}").sockets) == 0
        world.router.seqs.clear()
    assert took[1] < 8 * 3 * took[0], took
    assert took[1] < 3.0
