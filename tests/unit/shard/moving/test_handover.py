"""Proposing the maps by which released slots come to their next owners."""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
import threading
from collections.abc import AsyncIterator, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from roost.common.cluster import cluster_map
from roost.common.cluster.cluster_map import Member, MemberKind
from roost.common.cluster.directory import Directory, enter, open_directory, update, url_in
from roost.common.cluster.directory_file import FILE_NAME
from roost.common.ids import Incarnation, Slot
from roost.common.runtime.defects import is_defect
from roost.shard.api.current import current
from roost.shard.moving import handover
from roost.shard.moving.handover import Handover
from roost.shard.running.tasks import make_task
from tests.support.waiting import until
from tests.unit.shard.harness import BareLife

A, B = Incarnation(1), Incarnation(2)
SLOTS = [Slot(3), Slot(4)]


@pytest.fixture
async def directory(tmp_path: Path) -> AsyncIterator[Directory]:
    """A directory in which A owns all slots, and some of them are to go to B."""
    opened = await open_directory(url_in(tmp_path))
    for name, incarnation in (("a", A), ("b", B)):
        await enter(opened, Member(name, MemberKind.SHARD, incarnation))
    await update(opened, lambda current: cluster_map.moving(current, dict.fromkeys([*SLOTS, Slot(5)], B)))
    yield opened
    await opened.aclose()


async def test_released_slots_get_their_next_owner(directory: Directory) -> None:
    done: asyncio.Queue[tuple[Collection[Slot], int]] = asyncio.Queue()
    proposing = Handover(directory, A, lambda slots, version: done.put_nowait((slots, version)))
    proposing.add(SLOTS)
    async with asyncio.timeout(5):
        slots, version = await done.get()
    now = await directory.map()
    assert sorted(slots) == SLOTS
    assert version == now.version
    assert [now.owners[slot] for slot in (3, 4, 5)] == [B, B, A]
    assert now.next_owners == {5: B}
    proposing.add([Slot(5)])
    async with asyncio.timeout(5):
        assert await done.get() == ((5,), version + 1)
    assert (await directory.map()).next_owners == {}
    await proposing.aclose()


async def test_a_directory_in_trouble_is_asked_again(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(handover, "AGAIN_AFTER_S", 0.01)
    done: list[Collection[Slot]] = []
    proposing = Handover(directory, A, lambda slots, _: done.append(slots))
    saboteur = sqlite3.connect(tmp_path / FILE_NAME)
    saboteur.execute("CREATE TRIGGER full BEFORE UPDATE ON cluster BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    saboteur.commit()
    proposing.add(SLOTS)
    await until("the trouble to be logged", lambda: "wait to be handed over" in caplog.text)
    assert done == []
    saboteur.execute("DROP TRIGGER full")
    saboteur.commit()
    saboteur.close()
    await until("the slots to be handed over", lambda: bool(done))
    assert (await directory.map()).owners[3] == B
    assert caplog.text.count("wait to be handed over") == 1
    await proposing.aclose()


async def test_threads_that_objects_code_leaves_no_room_for_are_not_needed(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects' code may have as many processes and threads as are allowed."""

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    done = asyncio.Event()
    proposing = Handover(directory, A, lambda *_: done.set())
    proposing.add(SLOTS)
    async with asyncio.timeout(5):
        await done.wait()
    await proposing.aclose()


async def test_a_proposal_is_no_task_of_the_object_whose_code_ran_last(directory: Directory) -> None:
    """Else it would be cancelled with the object's tasks when that one leaves as well."""
    asyncio.get_running_loop().set_task_factory(make_task)
    context = contextvars.copy_context()
    life = BareLife()
    context.run(current.set, life)
    done = asyncio.Event()
    proposing = Handover(directory, A, lambda *_: done.set())
    context.run(proposing.add, SLOTS)
    async with asyncio.timeout(5):
        await done.wait()
    assert life.adopted == []
    await proposing.aclose()


async def test_an_error_that_nobody_expects_reaches_the_loops_handler_as_ours(directory: Directory) -> None:
    """It was logged, and the shard kept what nobody else was given."""
    told: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))

    def fail(*_: Any) -> None:
        raise ValueError("on purpose")

    shards_own = FunctionType(fail.__code__, {**globals(), "__name__": "roost.shard.app"})
    proposing = Handover(directory, A, shards_own)
    proposing.add(SLOTS)
    await until("the error to be told", lambda: bool(told))
    await proposing.aclose()
    assert repr(told) == "[ValueError('on purpose')]"
    assert is_defect(told[0])


async def test_the_end_does_not_wait_for_a_directory_in_trouble(
    directory: Directory, caplog: pytest.LogCaptureFixture
) -> None:
    await directory.aclose()
    proposing = Handover(directory, A, lambda *_: pytest.fail("nothing can be done"))
    proposing.add(SLOTS)
    async with asyncio.timeout(5):
        await until("a try to fail", lambda: "wait to be handed over" in caplog.text)
        await proposing.aclose()


@pytest.mark.parametrize("how", ["full", "shut down"])
async def test_what_objects_do_with_the_executor_of_the_loop_does_not_matter(directory: Directory, how: str) -> None:
    loop, release, began = asyncio.get_running_loop(), threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        release.wait(30)

    executor = ThreadPoolExecutor(1)
    loop.set_default_executor(executor)
    held = loop.run_in_executor(None, hold)
    assert began.wait(10)
    if how == "shut down":
        executor.shutdown(wait=False)
    done: asyncio.Queue[int] = asyncio.Queue()
    proposing = Handover(directory, A, lambda slots, version: done.put_nowait(version))
    try:
        proposing.add(SLOTS)
        async with asyncio.timeout(5):
            await done.get()
    finally:
        release.set()
        await held
        await proposing.aclose()
