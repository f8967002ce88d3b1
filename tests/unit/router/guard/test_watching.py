"""The watch over other members, with real processes, locks and a directory."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roost.common.cluster.cluster_map import ClusterMap, Member, MemberKind
from roost.common.cluster.directory import Directory, open_directory, url_in
from roost.common.cluster.directory_file import FILE_NAME, DirectoryFile
from roost.common.cluster.neighbours import LocalNeighbours
from roost.common.machine.run_folder import SUPERVISOR
from roost.common.runtime.clock import SystemClock
from roost.common.runtime.startup import HeldName, hold_name
from roost.router.guard import watching as module
from roost.router.guard.judging import Guard
from roost.router.guard.watching import GuardWatch
from tests.support.directories import enter
from tests.support.waiting import until

HOLDER = """
import sys, time
from pathlib import Path
from roost.common.machine.counters import CounterFile, Counters
from roost.common.runtime.startup import hold_name
run, name = Path(sys.argv[1]), sys.argv[2]
held = hold_name(run, name)
CounterFile(run / f"{name}.counters", Counters())  # published once, and then no sign of life
print("held", flush=True)
time.sleep(600)
"""


class Steps:
    """Counts the steps of the watch: each begins with a look for the supervisor."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._begun = 0
        is_supervised = LocalNeighbours.is_supervised

        def counted(neighbours: LocalNeighbours) -> bool:
            self._begun += 1
            return is_supervised(neighbours)

        monkeypatch.setattr(LocalNeighbours, "is_supervised", counted)

    async def more(self, number: int) -> None:
        """Wait until so many have begun: all of them but the last one have ended."""
        wanted = self._begun + number
        await until(f"{number} steps", lambda: self._begun >= wanted)


class Cluster:
    """A directory with this process as router-1 and shard-1, and members that others are or were."""

    def __init__(self, folder: Path, opened: Directory) -> None:
        self.run, self.data = folder / "run", folder / "data"
        self.directory = DirectoryFile(self.data / FILE_NAME, initial_shards=2)
        self.held = [hold_name(self.run, name) for name in ("router-1", "shard-1")]
        self.processes: list[subprocess.Popen[bytes]] = []
        self.me = self.enter("router-1", MemberKind.ROUTER, os.getpid())
        self.enter("shard-1", MemberKind.SHARD, os.getpid())
        self.watch = GuardWatch(
            Guard(self.me.incarnation, grace_s=0.2, stall_kill_s=30.0, frozen_kill_s=0.3),
            self.me.incarnation,
            directory=opened,
            neighbours=LocalNeighbours(self.run, asyncio.get_running_loop()),
            clock=SystemClock(),
        )

    def enter(self, name: str, kind: MemberKind, pid: int) -> Member:
        member = self.directory.join(kind, name, pid, lambda number: f"ipc://{number}", ())
        enter(self.directory, member)
        return member

    def hold(self, name: str) -> HeldName:
        self.held.append(hold_name(self.run, name))
        return self.held[-1]

    def process(self, name: str) -> subprocess.Popen[bytes]:
        """A process that holds *name* and shows no life."""
        process = subprocess.Popen([sys.executable, "-c", HOLDER, str(self.run), name], stdout=subprocess.PIPE)
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        return process

    async def map_where(self, dead: Member) -> ClusterMap:
        """The map once *dead* has left it."""
        await until(f"{dead.name} to leave the map", lambda: dead.incarnation not in self.directory.map().members)
        return self.directory.map()

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()
        self.directory.close()
        for held in self.held:
            held.release()


@pytest.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    monkeypatch.setattr(module, "LOOK_INTERVAL_S", 0.02)
    with tempfile.TemporaryDirectory(prefix="roost-") as folder:
        opened = await open_directory(url_in(Path(folder) / "data"))
        made = Cluster(Path(folder), opened)
        yield made
        made.close()
        await opened.aclose()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


async def test_the_dead_leave_the_map(cluster: Cluster, steps: Steps) -> None:
    router = cluster.enter("router-2", MemberKind.ROUTER, os.getpid())  # nobody holds the name
    shard = cluster.enter("shard-2", MemberKind.SHARD, os.getpid())
    current = cluster.directory.map()
    assert current.slots_of(shard.incarnation)
    cluster.watch.take_map(current)
    cluster.watch.start()
    try:
        without_router = await cluster.map_where(router)
        assert shard.incarnation in without_router.members
        cluster.watch.take_map(without_router)
        after = await cluster.map_where(shard)
        assert len(set(after.owners)) == 1
        await steps.more(4)  # the map that the watch has still names the dead: that changes nothing more
        assert cluster.directory.map().version == after.version
    finally:
        await cluster.watch.aclose()


async def test_a_name_that_another_process_holds_is_no_sign_of_life(cluster: Cluster) -> None:
    cluster.hold("router-2")
    router = cluster.enter("router-2", MemberKind.ROUTER, os.getpid() + 1)
    cluster.watch.take_map(cluster.directory.map())
    cluster.watch.start()
    try:
        await cluster.map_where(router)
    finally:
        await cluster.watch.aclose()


async def test_a_frozen_process_is_killed_first(cluster: Cluster) -> None:
    process = cluster.process("shard-2")
    shard = cluster.enter("shard-2", MemberKind.SHARD, process.pid)
    cluster.watch.take_map(cluster.directory.map())
    cluster.watch.start()
    try:
        await cluster.map_where(shard)
        assert process.wait(0) == -9
    finally:
        await cluster.watch.aclose()


async def test_while_a_supervisor_lives_nobody_is_judged(cluster: Cluster, steps: Steps) -> None:
    supervisor = cluster.hold(SUPERVISOR)
    router = cluster.enter("router-2", MemberKind.ROUTER, os.getpid())
    cluster.watch.take_map(cluster.directory.map())
    cluster.watch.start()
    try:
        await steps.more(10)
        assert router.incarnation in cluster.directory.map().members
        supervisor.release()
        await cluster.map_where(router)
    finally:
        await cluster.watch.aclose()


async def test_a_directory_that_fails_is_logged_once_and_tried_again(
    cluster: Cluster, steps: Steps, caplog: pytest.LogCaptureFixture
) -> None:
    router = cluster.enter("router-2", MemberKind.ROUTER, os.getpid())
    cluster.watch.take_map(cluster.directory.map())
    file = cluster.data / FILE_NAME
    away = file.with_name("away")
    cluster.directory.close()
    file.rename(away)
    file.write_bytes(b"no database at all, but long enough to be looked at as one" * 100)
    with caplog.at_level(logging.ERROR, "roost.router"):
        cluster.watch.start()
        try:
            await until("an error", lambda: "trying again" in caplog.text)
            await steps.more(4)
            assert len([record for record in caplog.records if "trying again" in record.message]) == 1
            away.rename(file)
            cluster.directory = DirectoryFile(file)
            await cluster.map_where(router)
        finally:
            await cluster.watch.aclose()


async def test_after_closing_nothing_is_done(cluster: Cluster) -> None:
    router = cluster.enter("router-2", MemberKind.ROUTER, os.getpid())
    cluster.watch.take_map(cluster.directory.map())
    cluster.watch.start()
    await cluster.watch.aclose()
    await asyncio.sleep(0.2)  # ten times as long as between two looks: nothing is to happen
    assert router.incarnation in cluster.directory.map().members


async def test_no_error_ends_the_watch(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("cannot start a thread, on purpose")

    router = cluster.enter("router-2", MemberKind.ROUTER, os.getpid())
    cluster.watch.take_map(cluster.directory.map())
    with monkeypatch.context() as broken:
        broken.setattr(LocalNeighbours, "is_supervised", fail)
        cluster.watch.start()
        await until("the error to be logged", lambda: "cannot be watched" in caplog.text)
    try:
        await cluster.map_where(router)
    finally:
        await cluster.watch.aclose()
    assert caplog.text.count("cannot be watched") == 1
