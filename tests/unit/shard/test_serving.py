"""What users' code raises on a real loop ends that code, and never the run."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop

from roost.common.errors import ConfigError
from roost.shard import serving
from roost.shard.serving import run_through

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [uvloop.new_event_loop, asyncio.SelectorEventLoop]


@pytest.fixture(params=LOOPS, ids=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoop:
    return request.param()  # type: ignore[no-any-return]


async def _raise(error: BaseException) -> None:
    raise error


def _throw(error: BaseException) -> None:
    raise error


def in_a_task(loop: asyncio.AbstractEventLoop, error: BaseException) -> Any:
    return loop.create_task(_raise(error))


def in_a_timer(loop: asyncio.AbstractEventLoop, error: BaseException) -> Any:
    return loop.call_later(0.001, _throw, error)


def in_a_callback(loop: asyncio.AbstractEventLoop, error: BaseException) -> Any:
    return loop.call_soon(_throw, error)


def when_a_future_ends(loop: asyncio.AbstractEventLoop, error: BaseException) -> Any:
    future = loop.create_future()
    future.add_done_callback(lambda _: _throw(error))
    future.set_result(None)
    return future


def when_an_executor_has_ended(loop: asyncio.AbstractEventLoop, error: BaseException) -> Any:
    future = loop.run_in_executor(None, int)
    future.add_done_callback(lambda _: _throw(error))
    return future


def in_an_executor(loop: asyncio.AbstractEventLoop, error: BaseException) -> Any:
    return loop.create_task(asyncio.to_thread(_throw, error))


def in_the_finaliser_of_a_generator(loop: asyncio.AbstractEventLoop, error: BaseException) -> Any:
    async def generate() -> Any:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            raise error

    async def take_one() -> None:
        async for _ in generate():
            break

    return loop.create_task(take_one())


ROADS = [
    in_a_task,
    in_a_timer,
    in_a_callback,
    when_a_future_ends,
    when_an_executor_has_ended,
    in_an_executor,
    in_the_finaliser_of_a_generator,
]


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_run_goes_on(
    loop: asyncio.AbstractEventLoop, road: Callable[..., Any], kind: type[BaseException], caplog: Any
) -> None:
    steps: list[int] = []

    async def main() -> None:
        running = asyncio.get_running_loop()
        running.set_exception_handler(lambda *_: None)
        left = road(running, kind(3))
        for step in range(10):
            await asyncio.sleep(0.003)
            steps.append(step)
        if isinstance(left, asyncio.Future) and left.done() and not left.cancelled():
            left.exception()

    run_through(main(), loop)
    assert steps == list(range(10))
    assert loop.is_closed()


def test_a_run_that_is_stopped_goes_on(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().stop)
        await asyncio.sleep(0.01)

    run_through(main(), loop)


@pytest.mark.parametrize("error", [ConfigError("bad"), SystemExit(4), KeyboardInterrupt()])
def test_what_the_main_coroutine_raises_ends_the_run(loop: asyncio.AbstractEventLoop, error: BaseException) -> None:
    with pytest.raises(type(error)):
        run_through(_raise(error), loop)
    assert loop.is_closed()


def test_tasks_that_raise_at_the_end_do_not_change_how_it_ends(loop: asyncio.AbstractEventLoop) -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            raise SystemExit(9) from None

    async def main() -> None:
        task = asyncio.create_task(stubborn())
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        await asyncio.sleep(0)

    run_through(main(), loop)


LEAVES = """
import asyncio, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from roost.shard import serving

serving.LAST_THREADS_S = 0.2
how = sys.argv[1]

async def main():
    if how == "executor":
        asyncio.get_running_loop().run_in_executor(None, time.sleep, 1000)
    elif how == "pool":
        ThreadPoolExecutor(1).submit(time.sleep, 1000)
    elif how == "thread":
        threading.Thread(target=time.sleep, args=(1000,)).start()
    print("served")

serving.run_through(main())
serving.leave_soon(5)
sys.exit(5)
"""


@pytest.mark.parametrize("how", ["none", "executor", "pool", "thread"])
def test_a_thread_that_does_not_end_does_not_keep_the_process(how: str) -> None:
    ended = subprocess.run([sys.executable, "-c", LEAVES, how], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 5
    assert ended.stdout == "served\n"
    assert ("threads of objects' code still run" in ended.stderr) is (how != "none"), ended.stderr
    assert "Traceback" not in ended.stderr


NO_THREADS = """
import faulthandler, sys, threading, time
from roost.shard import serving

def refuse(*_, **__):
    raise RuntimeError("can't start new thread")

serving.LAST_THREADS_S = 0.2
threading.Timer.start = faulthandler.dump_traceback_later = refuse
serving.leave_soon(5) if sys.argv[1] == "leave soon" else serving.end_at_last(0.2)
time.sleep(1000)
"""


@pytest.mark.parametrize("how", ["leave soon", "end at last"])
def test_a_process_that_may_have_no_thread_ends_as_well(how: str) -> None:
    words = [sys.executable, "-c", NO_THREADS, how]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (-signal.SIGALRM, "")


class Stubborn(asyncio.Future[None]):
    def cancel(self, msg: Any = None) -> bool:
        raise KeyError("cancel")


async def _resist(future: asyncio.Future[None]) -> None:
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            pass


async def _odd() -> None:
    await Stubborn()


async def _generate(future: asyncio.Future[None]) -> AsyncIterator[int]:
    try:
        yield 1
    finally:
        await _resist(future)


@pytest.mark.parametrize("what", ["a task", "a future", "a generator"])
def test_what_does_not_end_holds_up_the_end_for_a_while_only(
    loop: asyncio.AbstractEventLoop, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "LAST_STEPS_S", 0.05)
    kept: list[Any] = []

    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        kept.append(future)
        if what == "a task":
            kept.append(asyncio.create_task(_resist(future)))
        elif what == "a future":
            kept.append(asyncio.create_task(_odd()))
        else:
            kept.append(_generate(future))
            await kept[-1].__anext__()
        await asyncio.sleep(0)

    ended: list[str] = []
    run_through(main(), loop, lambda: ended.append(what))
    assert ended == [what]
    assert loop.is_closed()
