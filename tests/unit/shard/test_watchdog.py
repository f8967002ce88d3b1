"""The watchdog has a thread, so these tests take real time: some tenths of a second."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from roost.common.machine.last_words import LastWords, read_last_words
from roost.shard.counters import ShardCounters
from roost.shard.running.runner import Runner
from roost.shard.watchdog import BEAT_S, Watchdog
from tests.support.waiting import until

LIMIT_S = 0.3


def host(running: str = "", last_words: LastWords | None = None) -> Any:
    runner: Runner[Any] = Runner(asyncio.get_running_loop(), lambda: None)
    runner.running = SimpleNamespace(label=running) if running else None
    return SimpleNamespace(runner=runner, counters=ShardCounters(), last_words=last_words)


def hold_the_loop(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)


def hold_the_loop_until_reported(held: Any, times: int) -> None:
    """Until the watchdog, a thread that a busy machine may keep from running, has said so; and a little longer."""
    end = time.monotonic() + 20
    while held.counters.blocked_loops < times and time.monotonic() < end:
        time.sleep(0.01)
    hold_the_loop(3 * BEAT_S)


async def test_code_that_holds_the_loop_is_reported_once_by_name_and_place(caplog: pytest.LogCaptureFixture) -> None:
    held = host("room/lobby web_socket_message")
    watchdog = Watchdog(held, LIMIT_S)
    watchdog.start()
    try:
        await asyncio.sleep(BEAT_S)
        with caplog.at_level(logging.WARNING, "roost.shard"):
            hold_the_loop_until_reported(held, 1)
        (record,) = caplog.records
        assert "room/lobby web_socket_message has held the loop for more than 0.3 s" in record.message
        assert "hold_the_loop" in record.message
        assert held.counters.blocked_loops == 1
        await asyncio.sleep(3 * BEAT_S)
        held.runner.watching = "room/lobby __init__"
        hold_the_loop_until_reported(held, 2)
        assert "room/lobby __init__" in caplog.records[1].message
        assert held.counters.blocked_loops == 2
        await asyncio.sleep(3 * BEAT_S)
        held.runner.watching, held.runner.running = "", None
        held.runner.calling = SimpleNamespace(label="room/lobby callback Room.tick")
        hold_the_loop_until_reported(held, 3)
        assert "room/lobby callback Room.tick has held" in caplog.records[2].message
    finally:
        watchdog.close()


async def test_a_loop_that_turns_is_not_reported() -> None:
    held = host()
    watchdog = Watchdog(held, LIMIT_S)
    watchdog.start()
    try:
        for _ in range(6):
            await asyncio.sleep(0)
            hold_the_loop(BEAT_S)
            await asyncio.sleep(0.01)
        assert held.counters.blocked_loops == 0
    finally:
        watchdog.close()


async def test_an_error_of_the_watch_itself_reaches_the_loops_handler() -> None:
    told: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))

    def fail(now: float) -> None:
        raise ValueError("on purpose")

    watchdog = Watchdog(host(), LIMIT_S, look=fail)
    watchdog.start()
    try:
        await until("it to be told", lambda: bool(told))
    finally:
        watchdog.close()
    assert repr(told) == "[ValueError('on purpose')]"


async def test_after_close_there_is_no_thread_and_no_timer() -> None:
    watchdog = Watchdog(host(), LIMIT_S)
    watchdog.close()
    other = Watchdog(host(), LIMIT_S)
    other.start()
    other.close()
    assert not other._thread.is_alive()
    assert other._timer is not None
    assert other._timer.cancelled()


def turned_at(path: Path) -> float:
    said = read_last_words(path)
    assert said is not None
    return said.turned_at


async def test_the_last_words_say_since_when_the_loop_stands(tmp_path: Path) -> None:
    words = LastWords(tmp_path / "words")
    watchdog = Watchdog(host(last_words=words), LIMIT_S)
    watchdog.start()
    try:
        await until("a turn to be noted", lambda: turned_at(tmp_path / "words") > 0)
        before = time.monotonic()
        hold_the_loop(4 * BEAT_S)
        assert turned_at(tmp_path / "words") <= before
        after = time.monotonic()
        await until("the next turn", lambda: turned_at(tmp_path / "words") >= after - 0.01)
    finally:
        watchdog.close()
        words.close()
