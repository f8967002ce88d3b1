"""A machine whose folders misbehave under a healthy cluster: nobody's connection ends, and nobody is held for dead."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest

from roost.deploy.run_folder import SUPERVISOR, live_members
from tests.integration.roost import Roost, wait_for
from tests.integration.talkers import talking

APP = Path(__file__).with_name("app.py")


def pids(roost: Roost) -> dict[str, int]:
    return {member["name"]: member["pid"] for member in roost.status()["members"]}


def remove(run: Path, what: str) -> None:
    if what == "folder":
        shutil.rmtree(run)
    else:
        for path in run.glob(f"*.{what}"):
            path.unlink()


@pytest.mark.parametrize("what", ["folder", "lock", "counters", "sock"])
async def test_a_run_folder_that_is_tidied_away_comes_back(roost: Roost, what: str) -> None:
    await asyncio.to_thread(roost.start, APP, "--shards", 2, "--routers", 2, "--stall-kill", 2)
    before = pids(roost)
    async with talking(roost.port):
        remove(roost.run, what)

        def is_back() -> bool:
            found = {path.name for path in roost.run.glob("*")}
            locks = {f"{name}.lock" for name in (*before, SUPERVISOR)}
            counters = {f"{name}.counters" for name in before}
            return found >= locks | counters and sum(name.endswith(".sock") for name in found) == 2

        await asyncio.to_thread(wait_for, "what was removed", is_back)
        # Longer than anything that judges by what lies there: locks, counters.
        await asyncio.sleep(4)
        assert await asyncio.to_thread(pids, roost) == before, "the same processes, all of them"
        assert live_members(roost.run) == before
        # A router that comes now finds the shards.
        await asyncio.to_thread(roost.command, "scale", "--routers", 3)
        assert roost.get("/healthz") == 200
        # A shard that dies comes back, and is found.
        os.kill(before["shard-1"], signal.SIGKILL)
        await asyncio.to_thread(
            wait_for, "the next process", lambda: roost.member("shard-1")["pid"] not in (0, before["shard-1"])
        )
    assert await asyncio.to_thread(roost.end) == 0
    assert roost.left_behind() == []


async def test_without_a_supervisor_nobody_is_held_for_dead(roost: Roost) -> None:
    await asyncio.to_thread(roost.start, APP, "--shards", 2, "--routers", 2, "--grace", 1)
    before, version = pids(roost), roost.map().version
    async with talking(roost.port):
        assert roost.up is not None
        assert roost.up.stdout is not None
        roost.up.kill()
        roost.up.wait()
        roost.up.stdout.close()
        roost.up = None
        # Stopped, so that it puts nothing back: it lives all the same.
        os.kill(before["router-2"], signal.SIGSTOP)
        shutil.rmtree(roost.run)
        await asyncio.sleep(3)
        os.kill(before["router-2"], signal.SIGCONT)
        await asyncio.to_thread(wait_for, "the locks", lambda: live_members(roost.run) == before)
        assert roost.map().version == version, "nobody was taken off the map"


async def test_a_data_folder_with_a_long_path_serves_in_itself(tmp_path: Path) -> None:
    """As it does for users who are not root: the sockets' paths are longer than a socket's path may be."""
    folder = tmp_path / ("a folder with a long name " * 4)
    folder.mkdir()
    roost = Roost(folder)
    roost.run = roost.data / "run"
    try:
        await asyncio.to_thread(roost.start, APP, "--shards", 2, "--run", roost.run)
        before = pids(roost)
        async with talking(roost.port):
            shutil.rmtree(roost.run)
            await asyncio.to_thread(wait_for, "the locks", lambda: live_members(roost.run) == before)
            assert (await asyncio.to_thread(roost.command, "scale", "--routers", 2, "--run", roost.run)).returncode == 0
        async with talking(roost.port):  # the new router's share of them, too
            await asyncio.sleep(1)
        assert await asyncio.to_thread(roost.end) == 0
        assert roost.left_behind() == []
    finally:
        roost.clean_up()


def test_a_data_folder_that_others_may_write_is_refused(roost: Roost) -> None:
    roost.data.mkdir()
    roost.data.chmod(0o777)
    for words in (roost.up_words(APP), ["router", "--name", "r", "--port", roost.port]):
        found = roost.command(*words)
        assert found.returncode == 71
        assert "other users may write in the data folder" in found.stderr
        assert len(found.stderr.splitlines()) == 1


async def test_members_that_have_ended_leave_nothing_in_the_run_folder(roost: Roost) -> None:
    await asyncio.to_thread(roost.start, APP, "--shards", 1, "--routers", 1)
    before = len(list(roost.run.iterdir()))
    for _ in range(2):
        assert (await asyncio.to_thread(roost.command, "reload")).returncode == 0
        [(name, pid)] = [(name, pid) for name, pid in pids(roost).items() if name.startswith("shard")]
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(
            wait_for,
            "the next process",
            lambda name=name, pid=pid: (
                roost.member(name)["pid"] not in (0, pid) and roost.member(name)["state"] == "ready"
            ),
        )
    await asyncio.to_thread(wait_for, "the posts to be forgotten", lambda: len(pids(roost)) == 2)
    # The last words of the last incarnation that died may still be read.
    assert len(list(roost.run.iterdir())) <= before + 1, sorted(path.name for path in roost.run.iterdir())
