"""Threads that objects' code starts, and what it gives to pools: they keep their object awake, and act in its name."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest

from roost.common.errors import ObjectGone, WrongThreadError
from roost.shard import WebSocket
from roost.shard.api.current import current
from roost.shard.running.threads import note_threads
from tests.unit.shard.clients import Rec, shard
from tests.unit.shard.harness import on_virtual_time, outcome, turns

PATIENCE_S = 30.0
"""Seconds that a test waits for a thread before it fails."""


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test replaces is put back behind it."""
    for owner, name in ((threading.Thread, "start"), (ThreadPoolExecutor, "submit"), (ProcessPoolExecutor, "submit")):
        monkeypatch.setattr(owner, name, getattr(owner, name))


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What the threads of a test wait for."""
    event = threading.Event()
    yield event
    event.set()


class Does(Rec):
    """Does what ``step`` says, whenever a message comes."""

    step: Callable[[Any], Any]

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        self.log.append(await outcome(asyncio.sleep(0, type(self).step(self))))


async def done(step: Callable[[Any], Any]) -> Any:
    """A shard whose object has taken *step*."""
    note_threads(asyncio.get_running_loop())
    Does.step = staticmethod(step)
    world, front, _ = shard(Does)
    front.router.link.prompt = True
    client = await front.connect()
    client.send("go")
    await turns()
    return world


async def ended(thread: threading.Thread) -> None:
    """*thread* has ended, and the loop has heard of it."""
    await heard(lambda: not thread.is_alive())


async def heard(condition: Callable[[], bool]) -> None:
    """*condition*, which a thread meets, is met, and the loop has heard of it. The clock jumps, the thread does not."""
    waited = threading.Event()
    for _ in range(int(PATIENCE_S / 0.001)):
        if condition():
            await turns()
            return
        waited.wait(0.001)
    raise AssertionError("a thread has not come so far")


async def sleeps_after_a_while(world: Any) -> None:
    await asyncio.sleep(9)
    assert world.instance() is not None, "less than 10 s after it"
    await asyncio.sleep(2)
    assert world.instance() is None, "and no more than 10 s after it"


@pytest.mark.parametrize("daemon", [False, True])
def test_a_thread_keeps_its_object_until_it_has_ended(daemon: bool, gate: threading.Event) -> None:
    @on_virtual_time
    async def scenario() -> None:
        threads: list[threading.Thread] = []

        def step(room: Any) -> None:
            threads.append(threading.Thread(target=gate.wait, daemon=daemon))
            threads[0].start()

        world = await done(step)
        await asyncio.sleep(60)
        assert world.instance() is not None
        gate.set()
        await ended(threads[0])
        await sleeps_after_a_while(world)

    scenario()


@on_virtual_time
async def test_a_thread_of_a_class_of_its_own_does_too() -> None:
    gate, came = threading.Event(), []

    class Worker(threading.Thread):
        def run(self) -> None:
            gate.wait(PATIENCE_S)
            came.append(current.get())

    workers: list[Worker] = []

    def step(room: Any) -> None:
        workers.append(Worker())
        workers[0].start()

    world = await done(step)
    life = world.object().activation
    await asyncio.sleep(60)
    assert world.instance() is not None
    gate.set()
    await ended(workers[0])
    assert came == [life], "it runs in its object's name"
    assert "run" not in vars(workers[0]), "and does not refer to itself any more"
    await sleeps_after_a_while(world)


def test_what_a_pool_has_been_given_keeps_its_object_but_not_the_threads_of_the_pool(gate: threading.Event) -> None:
    @on_virtual_time
    async def scenario() -> None:
        with ThreadPoolExecutor(1) as pool:
            names: list[Any] = []

            def work(word: str, *, other: str) -> str:
                names.append(current.get())
                gate.wait(PATIENCE_S)
                return word + other

            futures: list[Any] = []
            world = await done(lambda room: futures.append(pool.submit(work, "a", other="b")))
            life = world.object().activation
            await asyncio.sleep(60)
            assert world.instance() is not None
            gate.set()
            await heard(futures[0].done)
            assert futures[0].result() == "ab"
            assert names == [life]
            await sleeps_after_a_while(world)

    scenario()


def test_work_for_other_processes_keeps_its_object() -> None:
    @on_virtual_time
    async def scenario() -> None:
        given: list[Any] = []

        class Pool(ProcessPoolExecutor):
            """Without processes."""

            def _start_executor_manager_thread(self) -> None: ...
            def _adjust_process_count(self) -> None: ...

        pool = Pool(1)
        world = await done(lambda room: given.append(pool.submit(print)))
        await asyncio.sleep(60)
        assert world.instance() is not None
        given[0].set_result(None)
        await heard(given[0].done)
        await sleeps_after_a_while(world)
        pool._executor_manager_thread_wakeup.close()

    scenario()


def test_what_an_executor_runs_is_done_in_its_objects_name_too(gate: threading.Event) -> None:
    @on_virtual_time
    async def scenario() -> None:
        names: list[Any] = []
        futures: list[asyncio.Future[Any]] = []
        loop = asyncio.get_running_loop()
        world = await done(lambda room: futures.append(loop.run_in_executor(None, lambda: names.append(current.get()))))
        await heard(lambda: bool(names))
        assert names == [world.object().activation]
        await futures[0]
        await sleeps_after_a_while(world)

    scenario()


def test_a_thread_of_a_thread_keeps_its_object(gate: threading.Event) -> None:
    @on_virtual_time
    async def scenario() -> None:
        inner = threading.Thread(target=gate.wait)
        outer = threading.Thread(target=lambda: inner.start())  # as it is by then
        world = await done(lambda room: outer.start())
        await ended(outer)
        await asyncio.sleep(60)
        assert world.instance() is not None
        gate.set()
        await ended(inner)
        await sleeps_after_a_while(world)

    scenario()


@on_virtual_time
async def test_what_a_thread_asks_of_the_loop_is_its_objects() -> None:
    said: list[str] = []
    loop = asyncio.get_running_loop()

    async def run(room: Any) -> None:
        await asyncio.sleep(35)
        said.append("task")
        await asyncio.sleep(1000)
        said.append("never")

    def work(room: Any) -> None:
        asyncio.run_coroutine_threadsafe(run(room), loop)
        loop.call_soon_threadsafe(loop.call_later, 35, said.append, "timer")

    threads: list[threading.Thread] = []

    def step(room: Any) -> None:
        threads.append(threading.Thread(target=work, args=(room,)))
        threads[0].start()

    world = await done(step)
    await ended(threads[0])
    assert len(world.object().activation.tasks) == 1
    await asyncio.sleep(36)
    assert sorted(said) == ["task", "timer"]
    await asyncio.sleep(60)
    life = world.object().activation
    assert life is not None, "its task goes on"
    life.owner.reset(life.owner.runtime.errors.failed("the object was reset", "a test", ValueError()))
    await asyncio.sleep(1000)
    assert said[2:] == [], "which ended with the life"


def test_what_only_the_loops_thread_may_do_is_refused_and_says_so(gate: threading.Event) -> None:
    @on_virtual_time
    async def scenario() -> None:
        loop, errors = asyncio.get_running_loop(), []

        async def nothing() -> None: ...

        def work() -> None:
            coroutine = nothing()
            for call in (lambda: loop.call_later(1, print), lambda: loop.create_task(coroutine)):
                try:
                    call()
                except Exception as error:
                    errors.append(type(error))
            coroutine.close()

        thread = threading.Thread(target=work)
        await done(lambda room: thread.start())
        await ended(thread)
        assert errors == [WrongThreadError, WrongThreadError]

    scenario()


def test_a_thread_that_outlives_its_life_is_refused(gate: threading.Event) -> None:
    @on_virtual_time
    async def scenario() -> None:
        errors: list[Any] = []

        def work(room: Any) -> None:
            gate.wait(PATIENCE_S)
            threading.Thread(target=print, args=("",)).start()
            try:
                room.ctx.get_web_sockets()
            except BaseException as error:
                errors.append(type(error))

        threads: list[threading.Thread] = []

        def step(room: Any) -> None:
            threads.append(threading.Thread(target=work, args=(room,)))
            threads[0].start()

        world = await done(step)
        world.send_away("lobby")
        await asyncio.sleep(1)
        assert world.released, "threads do not hold a move up"
        gate.set()
        await ended(threads[0])
        assert errors == [ObjectGone]

    scenario()


def test_a_thread_that_outlives_its_life_may_serve_others(gate: threading.Event) -> None:
    @on_virtual_time
    async def scenario() -> None:
        loop, came = asyncio.get_running_loop(), []

        async def serve() -> None:
            await asyncio.sleep(1)
            came.append(current.get())

        def work() -> None:
            gate.wait(PATIENCE_S)
            asyncio.run_coroutine_threadsafe(serve(), loop)
            loop.call_soon_threadsafe(loop.call_later, 1, lambda: came.append(current.get()))

        thread = threading.Thread(target=work)
        world = await done(lambda room: thread.start())
        world.send_away("lobby")
        await asyncio.sleep(1)
        assert world.released
        gate.set()
        await ended(thread)
        await asyncio.sleep(2)
        assert came == [None, None], "as nobody"

    scenario()


@on_virtual_time
async def test_a_thread_that_cannot_start_keeps_nobody() -> None:
    errors: list[Any] = []

    def step(room: Any) -> None:
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
        try:
            thread.start()  # a second time
        except RuntimeError as error:
            errors.append(str(error))

    world = await done(step)
    assert errors == ["threads can only be started once"]
    await asyncio.sleep(11)
    assert world.instance() is None


@on_virtual_time
async def test_threads_of_the_runtime_and_their_objects_go_when_they_end() -> None:
    await done(lambda room: None)
    thread = threading.Thread(target=lambda: None)
    thread.start()
    assert "run" not in vars(thread)
    thread.join()
    alive = weakref.ref(thread)
    del thread
    assert alive() is None
