"""A supervisor is killed: traffic goes on, the next ``roost up`` takes over what runs, ``roost down`` ends it all."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from websockets.asyncio.client import connect

from roost.common.errors import AppError, ConfigError
from roost.common.limits import SLOTS
from roost.deploy.commands import client
from roost.deploy.processes.run_folder import live_members
from tests.integration.roost import Roost, lives, processes_of, wait_for
from tests.integration.talkers import talking
from tests.support.streams import ended
from tests.support.waiting import within

APP = Path(__file__).with_name("app.py")


def abandon(roost: Roost) -> dict[str, int]:
    """Kill the supervisor; returns the pids of the members that go on."""
    assert roost.up is not None
    assert roost.up.stdout is not None
    roost.up.kill()
    roost.up.wait()
    roost.up.stdout.close()
    roost.up = None
    return live_members(roost.run)


def pids(roost: Roost) -> dict[str, int]:
    return {member["name"]: member["pid"] for member in roost.status()["members"]}


async def test_what_runs_is_taken_over_as_it_is(roost: Roost) -> None:
    await asyncio.to_thread(roost.start, APP, "--shards", 2)
    async with talking(roost.port):
        left = await asyncio.to_thread(abandon, roost)
        version = roost.map().version
        await asyncio.to_thread(roost.start, APP, "--shards", 2)
        assert pids(roost) == left
        assert roost.map().version == version, "nothing was changed"
        assert roost.said[0].startswith("roost takes over router-1, shard-1, shard-2, which served without a superv")
        assert all(member["state"] == "ready" and member["uptime_s"] > 0 for member in roost.status()["members"])
        # They are watched: one that dies is started again, though nobody knows how it ended.
        os.kill(left["shard-1"], signal.SIGKILL)
        again = await asyncio.to_thread(
            wait_for, "its next process", lambda: roost.member("shard-1")["pid"] not in (0, left["shard-1"])
        )
        assert again
    assert await asyncio.to_thread(roost.end) == 0
    assert any("shard-1 ended; it starts again in 0 s" in line for line in roost.said)
    assert roost.left_behind() == []


async def test_what_runs_becomes_what_is_wanted_now(roost: Roost) -> None:
    other = roost.folder / "other.py"
    other.write_text(APP.read_text())
    await asyncio.to_thread(roost.start, APP, "--shards", 3, "--routers", 2)
    left = await asyncio.to_thread(abandon, roost)
    words = [other, "--shards", 2, "--routers", 1, "--set", "router.ping_interval_s=7"]
    starting = asyncio.create_task(asyncio.to_thread(roost.start, *words))
    async with connect(f"ws://127.0.0.1:{roost.port}/echo/a") as socket:
        while not starting.done():
            # Whatever retires, somebody listens.
            _, writer = await asyncio.open_connection("127.0.0.1", roost.port)
            await ended(writer)
            await asyncio.sleep(0.005)
        await starting
        await within("the Close", socket.wait_closed(), 5)
        assert socket.close_code == 1001
    now = pids(roost)
    assert set(now) == {"router-1.2", "shard-1.2", "shard-2.2"}
    assert not {*now.values()} & {*left.values()}, "other settings, other processes"
    assert sum(roost.owned().values()) == SLOTS
    assert set(roost.owned()) == {"shard-1.2", "shard-2.2"}
    assert {member.name for member in roost.map().members.values()} == set(now)
    # The same words again: the generation is taken over, and there is one to grow.
    await asyncio.to_thread(abandon, roost)
    words[2] = 3
    await asyncio.to_thread(roost.start, *words)
    after = pids(roost)
    assert after.items() > now.items()
    assert set(after) - set(now) == {"shard-3.2"}
    assert roost.owned()["shard-3.2"]
    assert await asyncio.to_thread(roost.end) == 0
    assert not any(lives(pid) for pid in (*left.values(), *now.values(), *after.values()))
    assert roost.left_behind() == []


async def test_members_that_died_unwatched_are_replaced(roost: Roost) -> None:
    await asyncio.to_thread(roost.start, APP, "--shards", 2, "--routers", 2)
    left = await asyncio.to_thread(abandon, roost)
    for name in ("shard-2", "router-2"):
        os.kill(left[name], signal.SIGKILL)
    await asyncio.to_thread(roost.start, APP, "--shards", 2, "--routers", 2)
    now = pids(roost)
    assert set(now) == set(left)
    assert {name for name in now if now[name] == left[name]} == {"shard-1", "router-1"}
    assert sorted(member.name for member in roost.map().members.values()) == sorted(left)
    assert min(roost.owned().values()) > SLOTS / 3
    assert await asyncio.to_thread(roost.end) == 0
    assert roost.left_behind() == []


async def test_an_interrupted_reload_is_taken_back(roost: Roost) -> None:
    await asyncio.to_thread(roost.start, APP, "--shards", 2)
    left = live_members(roost.run)
    reload = asyncio.create_task(
        asyncio.to_thread(client.reload, roost.data, app=None, canary_s=60.0, say=lambda _: None)
    )
    await asyncio.to_thread(wait_for, "the canary", lambda: roost.owned().get("shard-1.2"))
    await asyncio.to_thread(abandon, roost)
    (error,) = await asyncio.gather(reload, return_exceptions=True)
    assert isinstance(error, client.ClusterUnreachable)
    await asyncio.to_thread(roost.start, APP, "--shards", 2)
    assert pids(roost) == left
    assert set(roost.owned()) == {"shard-1", "shard-2"}
    assert await asyncio.to_thread(roost.end) == 0
    assert roost.left_behind() == []


async def test_down_ends_an_interrupted_reload_without_a_supervisor(roost: Roost) -> None:
    await asyncio.to_thread(roost.start, APP, "--shards", 1)
    reload = asyncio.create_task(
        asyncio.to_thread(client.reload, roost.data, app=None, canary_s=60.0, say=lambda _: None)
    )
    await asyncio.to_thread(wait_for, "the canary", lambda: roost.owned().get("shard-1.2"))
    left = await asyncio.to_thread(abandon, roost)
    await asyncio.gather(reload, return_exceptions=True)
    os.kill(left["shard-1"], signal.SIGSTOP)
    said = await asyncio.to_thread(client.down, roost.data, timeout_s=1.0)
    assert said.endswith("router-1, shard-1, shard-1.2")
    assert not any(lives(pid) for pid in left.values())
    assert processes_of(roost.data) == []
    assert not roost.run.exists()


def test_members_that_were_just_starting_are_found(roost: Roost) -> None:
    """They hold no name yet, and would enter the cluster later."""
    app = roost.folder / "app.py"
    app.write_text("import time\ntime.sleep(1000)\n")
    roost.up = subprocess.Popen(roost.words(*roost.up_words(app, "--shards", 1)), stdout=subprocess.PIPE, text=True)
    wait_for("the shard", lambda: [pid for pid in processes_of(roost.data) if "shard" in command_of(pid)])
    wait_for("the router", lambda: live_members(roost.run))
    abandon(roost)
    assert client.down(roost.data, timeout_s=1.0).endswith("router-1, shard-1")
    assert roost.left_behind() == []


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


FORKING = """
import os, time
from roost.shard import DurableObject, Response
class Fork(DurableObject):
    async def fetch(self, request):
        pid = os.fork()
        if not pid:
            time.sleep(1000)
        return Response(str(pid))
"""


async def test_what_users_code_has_forked_is_left_to_it_and_goes_with_the_cluster(roost: Roost) -> None:
    app = roost.folder / "app.py"
    app.write_text(FORKING)
    await asyncio.to_thread(roost.start, app, "--shards", 1)
    forks = [int(await asyncio.to_thread(read, roost, f"/fork/{n}")) for n in range(2)]
    left = await asyncio.to_thread(abandon, roost)
    await asyncio.to_thread(roost.start, app, "--shards", 1)
    assert pids(roost) == left
    assert all(lives(pid) for pid in forks)
    # One that outlives its shard does not keep the next one from coming.
    os.kill(left["shard-1"], signal.SIGKILL)
    await asyncio.to_thread(
        wait_for, "the next one", lambda: roost.member("shard-1")["pid"] not in (0, left["shard-1"])
    )
    await asyncio.to_thread(wait_for, "its start", lambda: roost.member("shard-1")["state"] == "ready")
    assert roost.member("shard-1")["restarts"] == 1
    await asyncio.to_thread(abandon, roost)
    said = await asyncio.to_thread(client.down, roost.data, timeout_s=10.0)
    assert said.startswith(f"ended the members that were left in {roost.data}: router-1, shard-1")
    assert not any(lives(pid) for pid in forks)
    assert roost.left_behind() == []


def read(roost: Roost, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{roost.port}{path}", timeout=30) as response:
        return str(response.read().decode())


async def test_members_that_were_started_by_hand_are_taken_over(roost: Roost) -> None:
    members = []
    for words in (
        ["roost.shard", "--name", "shard-1", "--app", APP, "--log-level", "warning"],
        ["roost.router", "--name=router-1", "--port", roost.port, "--log-level", "warning"],
    ):
        command = [sys.executable, "-P", "-m", *map(str, words), "--data", "data"]
        members.append(await asyncio.create_subprocess_exec(*command, cwd=roost.folder))
    await asyncio.to_thread(wait_for, "the members", lambda: len(live_members(roost.run)) == 2)
    await asyncio.to_thread(wait_for, "the map", lambda: roost.owned() == {"shard-1": SLOTS})
    await asyncio.to_thread(wait_for, "the router", lambda: len(roost.map().routers) == 1)
    await asyncio.to_thread(roost.start, APP, "--shards", 1)
    assert pids(roost) == {"shard-1": members[0].pid, "router-1": members[1].pid}
    assert await asyncio.to_thread(roost.end) == 0
    assert [await member.wait() for member in members] == [0, 0]
    assert roost.left_behind() == []


async def test_an_app_that_cannot_take_over_changes_nothing(roost: Roost) -> None:
    broken = roost.folder / "broken.py"
    broken.write_text("import no_such_module\n")
    await asyncio.to_thread(roost.start, APP, "--shards", 1)
    left = await asyncio.to_thread(abandon, roost)
    wrong = await asyncio.to_thread(roost.command, *roost.up_words(APP, "--set", "router.nonsense=1", "--shards", 2))
    assert wrong.returncode == ConfigError.exit_code
    assert "unrecognized arguments: --nonsense=1" in wrong.stderr.splitlines()[-1]
    assert live_members(roost.run) == left
    done = await asyncio.to_thread(roost.command, *roost.up_words(broken, "--shards", 2))
    assert done.returncode == AppError.exit_code
    assert "no_such_module" in done.stderr.splitlines()[-1]
    assert "what ran before goes on" in done.stderr.splitlines()[-1]
    assert live_members(roost.run) == left
    # Whoever loses patience does not lose the cluster.
    broken.write_text("import time\ntime.sleep(1000)\n")
    roost.up = await asyncio.to_thread(interrupted, roost, broken)
    assert roost.up.returncode == 1
    assert live_members(roost.run) == left
    lost = await asyncio.to_thread(roost.command, "status")
    assert lost.stderr.endswith("; `roost up` with its options takes it over, `roost down` ends it\n")
    assert roost.get("/web/a") == 200
    await asyncio.to_thread(roost.start, APP, "--shards", 1)
    assert pids(roost) == left
    assert await asyncio.to_thread(roost.end) == 0
    assert roost.left_behind() == []


def interrupted(roost: Roost, app: Path) -> subprocess.Popen[str]:
    """``roost up``, and Ctrl-C while it takes over."""
    up = subprocess.Popen(roost.words(*roost.up_words(app)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert up.stdout is not None
    while "the shards were told something else" not in up.stdout.readline():
        assert up.poll() is None
    wait_for("the trial", lambda: len(processes_of(roost.data)) == 4)
    up.send_signal(signal.SIGINT)
    _, stderr = up.communicate(timeout=10)
    assert "the take-over was called off; what serves goes on without a supervisor" in stderr
    return up


async def test_a_take_over_that_fails_half_way_leaves_who_serves(roost: Roost) -> None:
    other = roost.folder / "other.py"
    other.write_text(APP.read_text() + "\nimport sys\nassert '--name=shard-2.2' not in sys.argv, 'no second one'\n")
    await asyncio.to_thread(roost.start, APP, "--shards", 1)
    left = await asyncio.to_thread(abandon, roost)
    async with connect(f"ws://127.0.0.1:{roost.port}/echo/a") as socket:
        # To a file: the successor goes on, and holds whatever it got.
        said = roost.folder / "said"
        with said.open("w") as output:
            up = await asyncio.create_subprocess_exec(
                *roost.words(*roost.up_words(other, "--shards", 2)), stdout=output, stderr=output
            )
            assert await up.wait() == AppError.exit_code
        last = said.read_text().splitlines()[-1]
        assert "nothing was changed: shard-2.2: " in last
        assert "no second one" in last
        assert "what ran before goes on" in last
        now = live_members(roost.run)
        assert set(now) == {"router-1", "shard-1.2"}, "the reload had succeeded"
        assert now["router-1"] == left["router-1"]
        await socket.send("hello")
        assert await socket.recv() == "hello"
    assert client.down(roost.data, timeout_s=10.0).endswith("router-1, shard-1.2")
    assert not roost.run.exists()


async def test_a_shard_that_does_not_come_back_loses_its_slots(roost: Roost) -> None:
    app = roost.folder / "app.py"
    app.write_text(APP.read_text())
    await asyncio.to_thread(roost.start, app, "--shards", 2)
    shares = roost.owned()
    app.write_text("import no_such_module\n")
    os.kill(roost.member("shard-1")["pid"], signal.SIGKILL)
    # Its post has failed, so there is nothing to wait for.
    await asyncio.to_thread(wait_for, "the heir", lambda: roost.owned() == {"shard-2": SLOTS})
    # The supervisor shows a picture of a moment ago when it has much to do.
    await asyncio.to_thread(wait_for, "its failure", lambda: roost.member("shard-1")["state"] == "failed")
    app.write_text(APP.read_text())
    await asyncio.to_thread(client.reload, roost.data, app=None, canary_s=0.0, say=print)
    assert roost.owned() == {f"{name}.2": count for name, count in shares.items()}
    assert await asyncio.to_thread(roost.end) == 0
    assert roost.left_behind() == []


async def test_grace_is_over_and_the_share_comes_back(roost: Roost) -> None:
    app = roost.folder / "app.py"
    app.write_text(APP.read_text())
    await asyncio.to_thread(roost.start, app, "--shards", 2, "--grace", 0.3)
    shares = roost.owned()
    # Its next process takes longer than the grace.
    app.write_text(APP.read_text() + "\ntime.sleep(2)\n")
    os.kill(roost.member("shard-1")["pid"], signal.SIGKILL)
    await asyncio.to_thread(wait_for, "the heir", lambda: roost.owned() == {"shard-2": SLOTS})
    await asyncio.to_thread(wait_for, "its return", lambda: roost.owned() == shares)
    assert roost.member("shard-1")["restarts"] == 1
    assert await asyncio.to_thread(roost.end) == 0


async def test_a_stopped_shard_is_killed_and_replaced(roost: Roost) -> None:
    await asyncio.to_thread(roost.start, APP, "--shards", 1)
    before = roost.member("shard-1")
    os.kill(before["pid"], signal.SIGSTOP)
    stopped_at = time.monotonic()
    await asyncio.to_thread(wait_for, "a word", lambda: roost.member("shard-1")["state"] == "blocked")
    await asyncio.to_thread(wait_for, "its end", lambda: not lives(before["pid"]))
    assert 4 < time.monotonic() - stopped_at < 20
    await asyncio.to_thread(wait_for, "the next one", lambda: roost.member("shard-1")["state"] == "ready")
    assert await asyncio.to_thread(roost.get, "/web/a") == 200
    assert await asyncio.to_thread(roost.end) == 0
    assert "shard-1 is stopped and is killed" in (roost.folder / "stderr").read_text()
