"""What the loop calls back for an object is known as the object's while it runs, and who has led to it."""

from __future__ import annotations

import asyncio
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest

from roost.common.ids import id_from_name
from roost.common.machine.last_words import LastWords, RunningEvent, read_last_words
from roost.shard import WebSocket
from tests.unit.shard.harness import Room, World, on_virtual_time, turns


class Watching(Room):
    """Leaves each kind of callback with the loop, which note what the last words say meanwhile."""

    path: Path
    seen: list[RunningEvent | None]

    def __init_subclass__(cls) -> None:
        cls.__name__ = "Room"

    def note(self, again: int = 0, *_: Any) -> None:
        said = read_last_words(self.path)
        assert said is not None
        self.seen.append(said.running)
        if again:
            asyncio.get_running_loop().call_later(0.1, self.note, again - 1)

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        loop = asyncio.get_running_loop()
        if message == "timer":
            loop.call_later(0.1, self.note)
        elif message == "at":
            loop.call_at(loop.time() + 0.1, self.note)
        elif message == "game loop":
            loop.call_later(0.1, self.note, 3)
        elif message == "signal":
            loop.add_signal_handler(signal.SIGUSR2, self.note)
        elif message == "descriptor":
            reading, writing = os.pipe()
            os.write(writing, b"x")

            def read() -> None:
                os.read(reading, 1)
                self.note()
                loop.remove_reader(reading)
                os.close(reading)
                os.close(writing)

            loop.add_reader(reading, read)


@pytest.mark.parametrize(
    ("message", "count"), [("timer", 1), ("at", 1), ("game loop", 4), ("descriptor", 1), ("signal", 1)]
)
def test_a_callback_is_noted_as_its_events_while_it_runs(tmp_path: Path, message: str, count: int) -> None:
    @on_virtual_time
    async def run() -> None:
        class Noting(Watching):
            path = tmp_path / "shard-1-9.running"
            seen: ClassVar[list[RunningEvent | None]] = []

        world = World(Noting, last_words=LastWords(Noting.path))
        number = await world.router.connect("one")
        world.router.message(number, message)
        await turns()
        if message == "signal":
            signal.raise_signal(signal.SIGUSR2)
            await turns()
        await asyncio.sleep(1)
        event = RunningEvent(world.router.link.remote, number, 1, id_from_name("room", "one"))
        assert Noting.seen == [event] * count
        said = read_last_words(Noting.path)
        assert said is not None
        assert said.running is None, "and not afterwards"
        asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR2)

    run()


@on_virtual_time
async def test_what_is_called_at_the_end_of_something_is_called_while_its_event_is_at_work(tmp_path: Path) -> None:
    waiting: list[set[int]] = []
    path = tmp_path / "shard-1-9.running"
    threads = ThreadPoolExecutor(1)

    class Ending(Room):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            def ended(_: Any) -> None:
                said = read_last_words(path)
                assert said is not None
                waiting.append({each.seq for each in said.waiting})

            if message == "task":
                asyncio.create_task(asyncio.sleep(0.1)).add_done_callback(ended)
            else:
                asyncio.get_running_loop().run_in_executor(threads, int).add_done_callback(ended)

    Ending.__name__ = "Room"
    world = World(Ending, last_words=LastWords(path))
    number = await world.router.connect("one")
    world.router.message(number, "task")
    await asyncio.sleep(0.2)
    assert waiting == [{1}]
    world.router.message(number, "executor")
    await turns()
    threads.shutdown()
    await turns()
    assert waiting == [{1}, {2}]
    await turns()
    said = read_last_words(path)
    assert said is not None
    assert not said.waiting


@on_virtual_time
async def test_a_callback_that_is_async_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    class Ticking(Room):
        async def tick(self) -> None:
            """Never runs: the loop calls functions."""

        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            asyncio.get_running_loop().call_later(0.1, self.tick)

    Ticking.__name__ = "Room"
    world = World(Ticking)
    world.router.message(await world.router.connect("one"))
    await asyncio.sleep(0.2)
    assert "room/one callback" in caplog.text
    assert "tick(), of which nothing has run: `await` it" in caplog.text


def test_a_callback_shows_as_the_function_that_it_calls() -> None:
    @on_virtual_time
    async def run() -> None:
        shown = []

        class Showing(Room):
            async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
                shown.append(repr(asyncio.get_running_loop().call_later(0.1, print, "x")))

        Showing.__name__ = "Room"
        world = World(Showing)
        world.router.message(await world.router.connect("one"))
        await turns()
        assert "print" in shown[0]

    run()
