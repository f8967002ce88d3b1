"""What objects' code leaves with the loop: it keeps the object awake, and ends with the life that left it."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from roost.common.errors import ApiError, WrongThreadError
from roost.shard import Request, Response, WebSocket
from roost.shard.api.current import current
from roost.shard.api.pending import TIDY_AT, Pending
from tests.unit.shard.clients import Rec, shard
from tests.unit.shard.harness import on_virtual_time, outcome, turns

# --- the notes --------------------------------------------------------------------------------------------------------


class Timer:
    """Stands in for a handle."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.is_cancelled = False

    def when(self) -> float:
        return self.at

    def cancelled(self) -> bool:
        return self.is_cancelled

    def cancel(self) -> None:
        self.is_cancelled = True


def noted(*times: float, now: float = 0.0) -> tuple[Pending, list[Any]]:
    pending, timers = Pending(), [Timer(at) for at in times]
    for timer in timers:
        pending.add_timer(timer, now)  # type: ignore[arg-type]
    return pending, timers


def test_the_last_timer_that_is_set_counts_then_the_last_that_fired() -> None:
    pending, _ = noted(3.0, 9.0, 5.0)
    assert pending.last_timer(1.0) == 9.0
    assert pending.last_timer(4.0) == 9.0
    assert pending.last_timer(10.0) == 9.0
    assert Pending().last_timer(1.0) == 0.0


def test_a_cancelled_timer_does_not_count() -> None:
    pending, timers = noted(3.0, 9.0)
    timers[1].cancel()
    assert pending.last_timer(1.0) == 3.0
    timers[0].cancel()
    assert pending.last_timer(2.0) == 0.0


def test_notes_of_timers_that_are_over_do_not_pile_up() -> None:
    pending = Pending()
    for number in range(100 * TIDY_AT):
        pending.add_timer(Timer(number + 0.5), float(number))  # type: ignore[arg-type]
        assert len(pending._timers or ()) <= TIDY_AT
    cancelled = Pending()
    for _ in range(100 * TIDY_AT):
        timer = Timer(1e9)
        cancelled.add_timer(timer, 0.0)  # type: ignore[arg-type]
        timer.cancel()
    assert len(cancelled._timers or ()) <= TIDY_AT


def test_the_end_cancels_everything() -> None:
    pending, timers = noted(3.0, 9.0)
    removed: list[str] = []
    pending.hold("a", lambda: removed.append("a"))
    pending.hold("b", lambda: removed.append("b"))
    pending.let_go("b")
    assert pending
    pending.cancel()
    assert all(timer.is_cancelled for timer in timers)
    assert removed == ["a"]
    assert not pending


# --- sleep ------------------------------------------------------------------------------------------------------------


class Asks(Rec):
    """Does what ``step`` says with the loop, whenever a message comes."""

    step: Callable[[Any], Any]
    heard: list[Any]

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        type(self).heard.append(await outcome(asyncio.sleep(0, type(self).step(self))))


async def asked(step: Callable[[Any], Any], **config: Any) -> tuple[Any, Any, Any]:
    """A shard whose object has taken *step*."""
    Asks.step, Asks.heard = staticmethod(step), []
    world, front, _ = shard(Asks, **config)
    client = await front.connect()
    client.send("go")
    await turns()
    return world, front, client


def loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


@pytest.mark.parametrize("how", ["call_later", "call_at"])
def test_an_object_with_a_timer_stays_and_sleeps_a_while_after_it_has_fired(how: str) -> None:
    @on_virtual_time
    async def scenario() -> None:
        fired: list[float] = []
        world, _, _ = await asked(
            lambda room: (
                loop().call_later(35.0, lambda: fired.append(loop().time()))
                if how == "call_later"
                else loop().call_at(loop().time() + 35.0, lambda: fired.append(loop().time()))
            )
        )
        await asyncio.sleep(34)
        assert not fired
        assert world.instance() is not None
        await asyncio.sleep(10.5)
        assert fired
        assert world.instance() is not None, "less than 10 s after it"
        await asyncio.sleep(1)
        assert world.instance() is None, "and no more than 10 s after it"

    scenario()


@on_virtual_time
async def test_a_task_with_a_context_of_its_own_is_its_objects_all_the_same() -> None:
    fired: list[Any] = []

    async def run() -> None:
        loop().call_later(35.0, lambda: fired.append(current.get()))

    world, _, _ = await asked(lambda room: asyncio.create_task(run(), context=contextvars.Context()))
    life = world.object().activation
    await asyncio.sleep(36)
    assert fired == [life]
    await asyncio.sleep(11)
    assert world.instance() is None


@on_virtual_time
async def test_a_timer_that_is_cancelled_keeps_nobody() -> None:
    world, _, _ = await asked(lambda room: loop().call_later(10_000.0, print).cancel())
    await asyncio.sleep(11)
    assert world.instance() is None
    handles: list[asyncio.TimerHandle] = []
    world, _, _ = await asked(lambda room: handles.append(loop().call_later(10_000.0, print)))
    await asyncio.sleep(100)
    assert world.instance() is not None
    handles[0].cancel()
    await asyncio.sleep(11)
    assert world.instance() is None


@on_virtual_time
async def test_timers_of_asyncio_in_tasks_that_have_ended_keep_nobody() -> None:
    async def wait() -> None:
        async with asyncio.timeout(10_000):
            await asyncio.sleep(0.1)
        await asyncio.wait_for(asyncio.sleep(0.1), 10_000)

    world, _, _ = await asked(lambda room: room.ctx.wait_until(wait()))
    await asyncio.sleep(11)
    assert world.instance() is None


def rearm(room: Any) -> None:
    """A game loop."""
    Asks.heard.append(("tick of", id(room)))
    loop().call_later(0.5, rearm, room)


@on_virtual_time
async def test_a_game_loop_lives_once() -> None:
    world, _, client = await asked(rearm)
    await asyncio.sleep(60)
    assert len({each for each in Asks.heard if each is not None}) == 1
    assert world.counters.hibernations == 0
    Asks.step = staticmethod(lambda room: room.ctx.abort("enough"))
    client.send("abort")
    await turns()
    Asks.heard.clear()
    await asyncio.sleep(5)
    assert Asks.heard == [], "it ended with its life"


def outcome_of(call: Callable[[], Any]) -> BaseException | None:
    try:
        call()
    except BaseException as error:
        return error
    return None


@on_virtual_time
async def test_a_game_loop_ends_when_its_object_moves() -> None:
    world, front, _ = await asked(rearm)
    front.router.link.prompt = True
    await asyncio.sleep(2)
    world.send_away("lobby")
    await asyncio.sleep(1)
    assert world.released, "timers do not hold a move up"
    Asks.heard.clear()
    await asyncio.sleep(5)
    assert Asks.heard == []


@on_virtual_time
async def test_what_code_of_a_former_life_leaves_with_the_loop_never_comes() -> None:
    came: list[str] = []
    waits: list[Any] = []

    async def run() -> None:
        came.append("task")

    def late() -> None:
        loop().call_later(1.0, came.append, "call_later")
        loop().call_at(loop().time() + 1.0, came.append, "call_at")
        loop().add_writer(1, came.append, "writer")
        waits.append(loop().run_in_executor(None, came.append, "executor"))
        waits.append(asyncio.create_task(run()))

    world, _, _ = await asked(lambda room: None)
    context = world.object().activation.context.copy()
    await asyncio.sleep(11)
    assert world.instance() is None
    context.run(late)
    assert not any(each.done() for each in waits), "who waits for it waits, and does not go in circles"
    await asyncio.sleep(5)
    assert came == []
    assert not loop().remove_writer(1)


@on_virtual_time
async def test_what_the_loop_is_asked_from_another_thread_is_refused() -> None:
    results: list[Any] = []

    def work(running: asyncio.AbstractEventLoop) -> None:
        results.append(outcome_of(lambda: running.call_later(1.0, print)))

    world, _, _ = await asked(lambda room: None)
    context, running = world.object().activation.context.copy(), loop()
    thread = threading.Thread(target=context.run, args=(work, running))
    thread.start()
    thread.join()
    assert [type(result) for result in results] == [WrongThreadError]


@on_virtual_time
async def test_a_future_of_an_executor_keeps_its_object_though_nobody_awaits_it() -> None:
    world, _, _ = await asked(lambda room: None)
    running = loop()
    gate = threading.Event()
    life = world.object().activation
    future = life.context.copy().run(running.run_in_executor, None, gate.wait)
    await asyncio.sleep(60)
    assert world.instance() is not None
    gate.set()
    while not future.done():  # noqa: ASYNC110
        await asyncio.sleep(0.001)  # the clock jumps, the thread does not
    await asyncio.sleep(25)
    assert world.instance() is None


@pytest.fixture
def pipe() -> Iterator[tuple[socket.socket, socket.socket]]:
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


def test_a_descriptor_that_is_watched_keeps_its_object(pipe: tuple[socket.socket, socket.socket]) -> None:
    @on_virtual_time
    async def scenario() -> None:
        reading, writing = pipe
        heard: list[bytes] = []
        world, _, _ = await asked(lambda room: loop().add_reader(reading, lambda: heard.append(reading.recv(100))))
        await asyncio.sleep(55)
        assert world.instance() is not None
        writing.send(b"x")
        await turns()
        assert heard == [b"x"]
        world.object().activation.context.copy().run(loop().remove_reader, reading.fileno())
        await asyncio.sleep(9)
        assert world.instance() is not None, "less than 10 s after it"
        await asyncio.sleep(2)
        assert world.instance() is None

    scenario()


def test_a_descriptor_is_not_watched_beyond_the_life(pipe: tuple[socket.socket, socket.socket]) -> None:
    @on_virtual_time
    async def scenario() -> None:
        reading, writing = pipe
        heard: list[bytes] = []

        def step(room: Any) -> None:
            loop().add_reader(reading, lambda: heard.append(reading.recv(100)))
            loop().add_writer(writing, lambda: heard.append(b"writable"))
            room.ctx.abort("enough")

        _, _, client = await asked(step)
        await turns()
        assert [close[0] for close in client.closes] == [1011]
        writing.send(b"x")
        await turns()
        assert heard == []
        assert not loop().remove_reader(reading)

    scenario()


@on_virtual_time
async def test_a_signal_may_be_handled_for_a_life_but_not_those_that_end_the_shard() -> None:
    heard: list[str] = []
    results: list[Any] = []

    def step(room: Any) -> None:
        loop().add_signal_handler(signal.SIGUSR2, heard.append, "usr2")
        results.append(outcome_of(lambda: loop().add_signal_handler(signal.SIGTERM, print)))

    world, _, _ = await asked(step)
    assert [type(result) for result in results] == [ApiError]
    assert "SIGTERM" in str(results[0])
    os.kill(os.getpid(), signal.SIGUSR2)
    await turns()
    assert heard == ["usr2"]
    await asyncio.sleep(55)
    assert world.instance() is not None
    world.object().activation.context.copy().run(loop().remove_signal_handler, signal.SIGUSR2)
    await asyncio.sleep(9)
    assert world.instance() is not None, "less than 10 s after it"
    await asyncio.sleep(2)
    assert world.instance() is None


def test_what_the_shard_watches_is_not_for_objects_to_end_or_take_over(
    pipe: tuple[socket.socket, socket.socket],
) -> None:
    @on_virtual_time
    async def scenario() -> None:
        reading, writing = pipe
        heard: list[bytes] = []
        results: list[Any] = []

        def step(room: Any) -> None:
            results.append(loop().remove_reader(reading))
            results.append(outcome_of(lambda: loop().add_reader(reading, print)))
            results.append(loop().remove_signal_handler(signal.SIGTERM))

        world, _, _ = await asked(lambda room: None)
        loop().add_reader(reading, lambda: heard.append(reading.recv(100)))  # as the runtime does it
        loop().add_signal_handler(signal.SIGTERM, heard.append, b"term")
        world.object().activation.context.copy().run(step, None)
        assert results[::2] == [False, False]
        assert isinstance(results[1], ApiError)
        writing.send(b"x")
        await turns()
        assert heard == [b"x"]
        os.kill(os.getpid(), signal.SIGTERM)
        await turns()
        assert heard == [b"x", b"term"]
        loop().remove_reader(reading)
        loop().remove_signal_handler(signal.SIGTERM)

    scenario()


@pytest.mark.parametrize(
    "name",
    [
        "stop",
        "close",
        "set_task_factory",
        "set_exception_handler",
        "shutdown_asyncgens",
        "shutdown_default_executor",
    ],
)
def test_the_loop_belongs_to_all_objects(name: str) -> None:
    @on_virtual_time
    async def scenario() -> None:
        results: list[Any] = []
        arguments = (None,) if name.startswith("set_") else ()
        await asked(lambda room: results.append(outcome_of(lambda: getattr(loop(), name)(*arguments))))
        assert [type(result) for result in results] == [ApiError]
        assert name in str(results[0])

    scenario()


# --- block_concurrency_while ------------------------------------------------------------------------------------------


class Loads(Rec):
    """Loads a value before it answers."""

    waits: Callable[[Any], Any]

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self.value: str | None = None

    async def load(self) -> str:
        await asyncio.sleep(1)
        return "loaded"

    async def fetch(self, request: Request) -> Response:
        if "load" in request.query:
            self.value = await type(self).waits(self)
            if "twice" in request.query:
                self.value = None
                self.value = await type(self).waits(self) + " twice"
            self.log.append(self.value)
            return Response("done")
        if "accept" in request.query:
            return self.accept(request)
        self.log.append(f"saw {self.value}")
        return Response(str(self.value))


async def helper(room: Any) -> str:
    return await room.ctx.block_concurrency_while(room.load)  # type: ignore[no-any-return]


WAITS: dict[str, Callable[[Any], Any]] = {
    "directly": lambda room: room.ctx.block_concurrency_while(room.load),
    "in a helper": helper,
    "in a task": lambda room: asyncio.create_task(helper(room)),
    "with a limit": lambda room: asyncio.wait_for(room.ctx.block_concurrency_while(room.load), 20),
    "shielded": lambda room: asyncio.shield(room.ctx.block_concurrency_while(room.load)),
}


@pytest.mark.parametrize("waits", WAITS)
@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("warm", [False, True])
def test_what_awaited_a_block_goes_on_before_the_events_that_waited(waits: str, twice: bool, warm: bool) -> None:
    @on_virtual_time
    async def scenario() -> None:
        Loads.waits = staticmethod(WAITS[waits])
        world, front, _ = shard(Loads)
        if warm:  # carriers rest, ready to take events at once
            for _ in range(20):
                front.router.request(name="other")
            await turns()
        front.router.request(query="load" + "&twice" * twice)
        await turns()
        seen = [front.router.request() for _ in range(3)]
        await asyncio.sleep(5)
        value = "loaded twice" if twice else "loaded"
        assert world.instance().log == [value, *[f"saw {value}"] * 3]
        for number in seen:
            answer = front.answer(number)
            assert answer is not None
            assert answer.body == value.encode()

    scenario()


@on_virtual_time
async def test_events_wait_for_a_block_of_the_constructor_and_start_in_order() -> None:
    class Room(Loads):
        def __init__(self, ctx: Any, env: Any) -> None:
            super().__init__(ctx, env)
            ctx.block_concurrency_while(self.fill)

        async def fill(self) -> None:
            self.value = await self.load()

    _, front, _ = shard(Room)
    numbers = [front.router.request() for _ in range(3)]
    await asyncio.sleep(0.5)
    assert front.answer(numbers[0]) is None
    await asyncio.sleep(2)
    answers = [front.answer(number) for number in numbers]
    assert [answer and answer.body for answer in answers] == [b"loaded"] * 3
