"""The thread that works with the directory's file: order, looks, deadlines, and a disk that hangs."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from roost.common.cluster import cluster_map, sqlite_directory
from roost.common.cluster.cluster_map import ClusterMap, Member, MemberKind
from roost.common.cluster.directory_file import FILE_NAME, DirectoryFile
from roost.common.cluster.sqlite_directory import SqliteDirectory
from roost.common.errors import DirectoryBusy, DirectoryError
from roost.common.ids import Incarnation, Slot
from tests.support.directories import enter, update
from tests.support.waiting import until, within


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


@pytest.fixture
async def ours(path: Path) -> AsyncIterator[SqliteDirectory]:
    opened = await SqliteDirectory.open(path, initial_shards=2)
    yield opened
    await opened.aclose()


@pytest.fixture
def others(path: Path, ours: SqliteDirectory) -> Iterator[DirectoryFile]:
    """As another process has it."""
    opened = DirectoryFile(path, create=False)
    yield opened
    opened.close()


class Hang:
    """A disk that hangs: whatever asks for the map waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = threading.Event()
        self.over = threading.Event()
        map_ = DirectoryFile.map

        def hang(file: DirectoryFile) -> ClusterMap:
            self.begun.set()
            self.over.wait(30)
            return map_(file)

        monkeypatch.setattr(DirectoryFile, "map", hang)


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hang]:
    made = Hang(monkeypatch)
    yield made
    made.over.set()


def member(name: str, number: int) -> Member:
    return Member(name, MemberKind.SHARD, Incarnation(number), pid=os.getpid())


async def test_each_new_map_comes_of_our_own_writes_at_once(
    ours: SqliteDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_directory, "POLL_INTERVAL_S", 30.0)
    maps = ours.changes()
    assert (await within("the current map", anext(maps))).version == 0
    assert await ours.propose(cluster_map.with_member(await ours.map(), member("a", 1)))
    assert (await within("our own map", anext(maps))).version == 1


async def test_each_new_map_of_others_comes_and_the_latest_is_enough(
    ours: SqliteDirectory, others: DirectoryFile
) -> None:
    maps = ours.changes()
    await anext(maps)
    enter(others, member("a", 1))
    assert (await within("a map", anext(maps))).version == 1
    waiting = asyncio.ensure_future(anext(maps))
    await asyncio.sleep(0)
    waiting.cancel()  # nothing is lost by that
    for number in (2, 3, 4):
        enter(others, member(f"m{number}", number))
    found = await within("the next map", anext(maps))
    while found.version < 4:
        found = await within("the latest map", anext(maps))
    assert set(found.members) == {1, 2, 3, 4}


async def test_while_slots_are_in_transit_maps_come_sooner(
    ours: SqliteDirectory, others: DirectoryFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_directory, "POLL_INTERVAL_S", 1.0)
    for number, name in enumerate("ab", 1):
        enter(others, member(name, number))
    maps = ours.changes()
    await anext(maps)
    assert await ours.propose(cluster_map.moving(await ours.map(), {Slot(0): Incarnation(2)}))
    assert (await within("the map in transit", anext(maps))).next_owners
    since = time.monotonic()
    update(others, lambda current: cluster_map.handed_over(current, Incarnation(1), [Slot(0)]))
    assert not (await within("the map behind it", anext(maps))).next_owners
    assert time.monotonic() - since < 0.9


async def test_a_file_that_cannot_be_read_for_a_while_is_logged_once(
    ours: SqliteDirectory, others: DirectoryFile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite_directory, "POLL_INTERVAL_S", 0.005)
    looks = [0]
    changed = DirectoryFile.changed

    def counted(file: DirectoryFile) -> bool:
        looks[0] += 1
        return changed(file)

    monkeypatch.setattr(DirectoryFile, "changed", counted)
    maps = ours.changes()
    await anext(maps)
    whole = others.map().to_json()
    others._db.execute("UPDATE cluster SET map = 'torn'")
    await until("an error", lambda: bool(caplog.records))
    seen = looks[0]
    await until("more looks", lambda: looks[0] > seen + 4)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert caplog.records[0].getMessage().startswith("going on with cluster map 0")
    others._db.execute("UPDATE cluster SET map = ?", (whole,))
    enter(others, member("a", 1))
    assert (await within("a map", anext(maps))).version == 1
    await until("the end of it", lambda: caplog.records[-1].getMessage() == "the directory can be read again")


async def test_a_disk_that_hangs_holds_up_no_loop_and_is_not_waited_for_for_ever(
    ours: SqliteDirectory, hang: Hang, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite_directory, "ANSWER_S", 0.05)
    with pytest.raises(DirectoryBusy, match=r"has not answered for 0\.05 s: its disk may hang"):
        await ours.map()
    assert hang.begun.is_set()
    for _ in range(sqlite_directory.WAITING):
        asyncio.ensure_future(ours.map()).add_done_callback(lambda done: done.exception())
    await asyncio.sleep(0)
    monkeypatch.setattr(sqlite_directory, "ANSWER_S", 30.0)
    with pytest.raises(DirectoryBusy, match="may hang"):
        await within("an answer at once", ours.map(), 1.0)
    hang.over.set()

    async def answered() -> None:
        while True:
            try:
                await ours.map()
            except DirectoryBusy:
                await asyncio.sleep(0.01)
            else:
                return

    await within("an answer", answered())


async def test_closing_does_not_wait_for_a_disk_that_hangs(
    path: Path, hang: Hang, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite_directory, "CLOSE_S", 0.05)
    opened = await SqliteDirectory.open(path)
    waiting = asyncio.ensure_future(opened.map())
    queued = asyncio.ensure_future(opened.initial_shards())
    await until("the thread hangs", hang.begun.is_set)
    await opened.aclose()
    assert "its disk may hang" in caplog.text
    with pytest.raises(DirectoryError, match="is closed"):
        await opened.map()
    hang.over.set()
    assert (await waiting).version == 0
    assert await queued == 1, "what had been asked for before is answered"


async def test_a_stream_ends_with_its_directory(path: Path) -> None:
    opened = await SqliteDirectory.open(path)
    maps = opened.changes()
    await anext(maps)
    waiting = asyncio.ensure_future(anext(maps, None))
    await asyncio.sleep(0)
    await opened.aclose()
    assert await within("the end of the stream", waiting) is None
    assert not path.with_name(f"{FILE_NAME}-wal").exists(), "the file is closed"


async def test_what_cannot_be_opened_is_an_error_of_the_directory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await asyncio.to_thread(path.write_bytes, b"no database at all" * 100)
    with pytest.raises(DirectoryError, match="is no directory of a cluster"):
        await SqliteDirectory.open(path)

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(DirectoryError, match="cannot be opened: can't start new thread"):
            await SqliteDirectory.open(path)
