"""A directory by its URL, changing the map in it, following it, and caring for it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from roost.common.cluster import directory
from roost.common.cluster.cluster_map import ClusterMap, Member, MemberKind
from roost.common.cluster.directory import (
    Care,
    Directory,
    MapWatch,
    enter,
    leave,
    open_directory,
    update,
    url_in,
)
from roost.common.cluster.directory_file import FILE_NAME
from roost.common.errors import ConfigError, DirectoryError
from tests.support.waiting import until


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Directory]:
    opened = await open_directory(url_in(tmp_path), initial_shards=2)
    yield opened
    await opened.aclose()


@pytest.fixture
async def other(one: Directory, tmp_path: Path) -> AsyncIterator[Directory]:
    """As another process has it."""
    opened = await open_directory(url_in(tmp_path), create=False)
    yield opened
    await opened.aclose()


async def join(where: Directory, name: str = "shard-1", kind: MemberKind = MemberKind.SHARD) -> Member:
    return await where.join(kind, name, os.getpid(), lambda incarnation: f"ipc://{incarnation}", ("chat-room",))


# --- by its URL ---------------------------------------------------------------------------------------------------


async def test_a_url_names_the_file(tmp_path: Path) -> None:
    data = tmp_path / "a folder with ü, # and %20"
    opened = await open_directory(url_in(data), initial_shards=3)
    assert (data / FILE_NAME).exists()
    assert await opened.initial_shards() == 3
    await opened.aclose()


@pytest.mark.parametrize(
    "url", ["postgres://host/roost", "sqlite://host/file", "/data/directory.sqlite", "sqlite:file"]
)
async def test_another_url_is_refused_by_name(url: str) -> None:
    with pytest.raises(ConfigError, match=f"a directory's URL is sqlite:///path/to/.*, got '{url}'"):
        await open_directory(url)


async def test_a_missing_one_is_not_made_against_the_callers_will(tmp_path: Path) -> None:
    with pytest.raises(DirectoryError, match="is gone"):
        await open_directory(url_in(tmp_path), create=False)


# --- changing the map ---------------------------------------------------------------------------------------------


async def test_update_starts_over_when_somebody_else_was_faster(one: Directory) -> None:
    met: list[int] = []
    propose = one.propose

    async def slow(new: ClusterMap) -> bool:
        if len(met) < 3:
            assert await propose(replace(new))
        return await propose(new)

    one.propose = slow  # type: ignore[method-assign]

    def change(current: ClusterMap) -> ClusterMap:
        met.append(current.version)
        return replace(current, version=current.version + 1)

    assert (await update(one, change)).version == 3
    assert met == [0, 1, 2]
    assert (await update(one, lambda current: None)).version == 3, "nothing to change"
    assert (await one.map()).version == 3


async def test_members_enter_and_leave(one: Directory, other: Directory) -> None:
    shards = [await join(one, "shard-1"), await join(other, "shard-2")]
    router = await join(one, "r", MemberKind.ROUTER)
    for member in (*shards, router):
        await enter(one, member)
    assert (await other.map()).has_owners
    assert (await enter(other, router)).version == 3, "again is fine"
    assert (await leave(other, router.incarnation)).routers == ()
    assert len((await leave(one, shards[0].incarnation)).shards) == 2, "an owner stays"
    with pytest.raises(DirectoryError, match="router 'shard-1' cannot enter"):
        await enter(one, await join(one, "shard-1", MemberKind.ROUTER))


# --- following it -------------------------------------------------------------------------------------------------


class Seen:
    """Collects maps, and wakes up whoever waits for a version."""

    def __init__(self) -> None:
        self.maps: list[ClusterMap] = []
        self.came = asyncio.Event()

    def __call__(self, found: ClusterMap) -> None:
        self.maps.append(found)
        self.came.set()

    async def until(self, version: int) -> None:
        while not self.maps or self.maps[-1].version < version:
            self.came.clear()
            await self.came.wait()


async def test_how_many_shards_are_waited_for_is_asked_once_there_may_be_one(tmp_path: Path) -> None:
    router = await open_directory(url_in(tmp_path))
    shard = await open_directory(url_in(tmp_path), create=False)
    member = await join(router, "router-1", MemberKind.ROUTER)

    class Meanwhile:
        """A shard opens the directory, and enters, between two of the router's questions."""

        asked = 0

        def __getattr__(self, name: str) -> object:
            return getattr(router, name)

        async def map(self) -> ClusterMap:
            await self._asked()
            return await router.map()

        async def initial_shards(self) -> int:
            await self._asked()
            return await router.initial_shards()

        async def _asked(self) -> None:
            self.asked += 1
            if self.asked == 2:
                decided = await open_directory(url_in(tmp_path), initial_shards=2)
                await enter(shard, await join(shard))
                await decided.aclose()

    after = await enter(Meanwhile(), member)  # type: ignore[arg-type]  # all of a directory that is asked for
    assert len(after.members) == 2
    assert not after.has_owners, "there is one shard of two"
    await router.aclose()
    await shard.aclose()


async def test_a_watch_hands_over_the_current_map_and_each_new_one(one: Directory, other: Directory) -> None:
    seen = Seen()
    watch = MapWatch(one, seen)
    await watch.start()
    assert [found.version for found in seen.maps] == [0]
    await enter(other, await join(other))
    await seen.until(1)
    await enter(one, await join(one, "shard-2"))
    await seen.until(2)
    await watch.aclose()
    await enter(other, await join(other, "shard-3"))
    await one.map()
    await asyncio.sleep(0)
    assert [found.version for found in seen.maps] == [0, 1, 2]


async def test_an_error_in_the_callback_does_not_end_the_watch(one: Directory, other: Directory) -> None:
    seen = Seen()
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context.get("exception")))

    def once_bad(found: ClusterMap) -> None:
        seen(found)
        if found.version == 1:
            raise RuntimeError("bad")

    watch = MapWatch(one, once_bad)
    await watch.start()
    await enter(other, await join(other))
    await seen.until(1)
    await enter(other, await join(other, "shard-2"))
    await seen.until(2)
    await watch.aclose()
    assert [str(error) for error in errors] == ["bad"]


async def test_a_map_that_could_not_be_taken_is_handed_over_again(
    one: Directory, other: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a process would go on for ever with the map before, and its members' moves would wait for it."""
    monkeypatch.setattr(directory, "AGAIN_INTERVAL_S", 0.02)
    seen = Seen()
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context.get("exception")))

    def bad_twice(found: ClusterMap) -> None:
        if found.version == 1 and len(errors) < 2:
            raise RuntimeError("bad")
        seen(found)

    watch = MapWatch(one, bad_twice)
    await watch.start()
    await enter(other, await join(other))
    await seen.until(1)
    await asyncio.sleep(0.1)  # five times as long as between two tries: it is taken now
    await watch.aclose()
    assert [found.version for found in seen.maps] == [0, 1]
    assert [str(error) for error in errors] == ["bad", "bad"]


# --- caring for it ------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "CARE_INTERVAL_S", 0.02)


@pytest.mark.usefixtures("quick")
async def test_a_lost_directory_is_told_of_once_and_another_copy_is_followed(
    one: Directory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entered: list[str] = []

    @contextmanager
    def room() -> Iterator[None]:
        entered.append("room")
        yield

    care = Care(one, room)
    care.start()
    file, away = tmp_path / FILE_NAME, tmp_path / "away"
    file.rename(away)
    await until("the loss to be logged", lambda: "is gone" in caplog.text)
    seen = len(entered)
    await until("more looks", lambda: len(entered) > seen + 2)
    assert [record.levelname for record in caplog.records] == ["ERROR"], "once"
    away.rename(file)
    await until("it is looked at again", lambda: len(entered) > seen + 6)
    await care.aclose()
    assert await one.restore() == ""


@pytest.mark.usefixtures("quick")
async def test_no_error_ends_the_care(one: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[None] = []
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context.get("exception")))

    async def broken(*, rebuild: bool = False) -> str:
        looks.append(None)
        raise RuntimeError("on purpose")

    monkeypatch.setattr(one, "restore", broken)
    care = Care(one)
    care.start()
    await until("several looks", lambda: len(looks) > 2)
    await care.aclose()
    assert str(errors[0]) == "on purpose"
