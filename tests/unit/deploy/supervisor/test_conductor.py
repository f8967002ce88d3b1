"""The conductor's turns, with real time and no processes: an error in one part of a turn is that part's alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roost.common.cluster import cluster_map
from roost.common.cluster.cluster_map import Member, MemberKind
from roost.common.cluster.directory import open_directory, url_in
from roost.common.cluster.directory_file import FILE_NAME, DirectoryFile
from roost.common.cluster.neighbours import LocalNeighbours
from roost.common.ids import Incarnation
from roost.common.machine.upkeep import Upkeep
from roost.common.runtime.clock import SystemClock
from roost.deploy.plan.changes import Change, Outcome, Seen
from roost.deploy.plan.config import UpConfig
from roost.deploy.plan.post import Post
from roost.deploy.plan.staffing import Staff
from roost.deploy.supervisor import conductor as conductor_module
from roost.deploy.supervisor.conductor import Conductor
from tests.support.directories import update
from tests.support.waiting import until


class Broken(Change):
    """A change with a defect, which shows once it has a shard of its own."""

    def _step(self, seen: Seen) -> None:
        self.staff.add_shard("shard-1", 2)
        self._say("one line")
        raise AssertionError("it is broken")


class Done(Change):
    def _step(self, seen: Seen) -> None:
        self.outcome = Outcome("done")


@pytest.fixture
def said() -> list[str]:
    """What the conductor announces."""
    return []


@pytest.fixture
async def conductor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> AsyncIterator[Conductor]:
    monkeypatch.setattr(conductor_module, "TICK_S", 0.02)
    directory = await open_directory(url_in(tmp_path))
    made = Conductor(
        UpConfig(data=tmp_path, run=tmp_path / "run"),
        Staff(UpConfig(data=tmp_path)),
        directory,
        SystemClock(),
        neighbours=LocalNeighbours(tmp_path / "run", asyncio.get_running_loop()),
        upkeep=Upkeep(),
        announce=said.append,
        on_lost=lambda post, verdict: None,
    )
    await made.start()
    yield made
    await made.aclose()
    await directory.aclose()


def enter_router(conductor: Conductor, tmp_path: Path) -> None:
    """A dead router comes into the map, which the conductor is to take out again."""
    directory = DirectoryFile(tmp_path / FILE_NAME)
    member = Member("router-9", MemberKind.ROUTER, Incarnation(1), pid=1)
    update(directory, lambda current: cluster_map.entered(current, member, 1))
    directory.close()


def knows_router(tmp_path: Path) -> bool:
    """It is in the map."""
    with contextlib.closing(DirectoryFile(tmp_path / FILE_NAME)) as directory:
        return directory.map().named("router-9") is not None


async def test_a_change_that_raises_ends_and_the_turn_goes_on(
    conductor: Conductor, said: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    enter_router(conductor, tmp_path)
    outcome = await conductor.carry_out(Broken("breaking", conductor.staff))
    assert outcome == Outcome("unexpected AssertionError: it is broken; the cluster goes on with what it has", 1)
    assert said == ["roost is breaking", "  one line", f"  {outcome.sentence}"]
    assert all(post.leaving for post in conductor.staff.posts.values()), "its shard is not kept"
    await until("the dead router is gone", lambda: not knows_router(tmp_path))
    assert (await conductor.carry_out(Done("doing", conductor.staff))).sentence == "done"


@pytest.mark.parametrize("part", ["_look_for_strangers", "_step_change", "_change_map", "_judge"])
async def test_an_error_in_a_part_is_logged_once_and_keeps_nothing_from_coming(
    conductor: Conductor, part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = turns = 0

    def broken(*arguments: object) -> None:
        nonlocal tried
        tried += 1
        raise AssertionError("broken")

    def took_steps(now: float) -> None:
        nonlocal turns
        turns += 1

    monkeypatch.setattr(conductor, part, broken)
    monkeypatch.setattr(conductor, "_take_steps", took_steps)
    monkeypatch.setattr(conductor, "_judge_at", 0.0)
    conductor.begin(Done("doing", conductor.staff))
    monkeypatch.setattr(conductor_module, "CHANGE_TICK_S", 0.02)
    await until("some turns", lambda: turns > 3)
    assert tried
    assert [record.levelname for record in caplog.records if "unexpected AssertionError" in record.message] == ["ERROR"]


async def test_a_post_that_cannot_be_started_does_not_keep_the_others_from_it(
    conductor: Conductor, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def start(post: Post) -> None:
        if post.name == "router-2":
            raise AssertionError(post.name)
        started.append(post.name)
        post.started(1, 0.0)

    monkeypatch.setattr(conductor.crew, "start", start)
    for name in ("router-1", "router-2", "router-3"):
        conductor.staff.add_router(name)
    conductor.soon()
    await until("both started", lambda: len(started) == 2)
    assert sorted(started) == ["router-1", "router-3"]
    conductor.staff.posts.clear()
    await asyncio.sleep(0)


async def test_another_error_of_a_part_is_logged_too(
    conductor: Conductor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be what the first has led to; but one that comes again and again is not."""
    calls = 0

    def fail() -> None:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise KeyError(f"call {calls}")
        raise ValueError(f"call {calls}")

    monkeypatch.setattr(conductor, "_change_map", fail)
    await until("several turns", lambda: calls >= 6)
    logged = [record.getMessage() for record in caplog.records]
    assert logged == ["the map: unexpected KeyError", "the map: unexpected ValueError"]
