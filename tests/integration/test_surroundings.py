"""A machine whose folders misbehave under a healthy cluster: nobody's connection ends, and nobody is held for dead."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from roost.common.cluster.directory_file import FILE_NAME, DirectoryFile
from roost.common.limits import SLOTS
from roost.common.machine.run_folder import SUPERVISOR, counters_path, lock_path
from roost.deploy.processes.run_folder import live_members
from tests.integration.roost import Roost, wait_for
from tests.integration.talkers import talking
from tests.support.ports import free_port

APP = Path(__file__).with_name("app.py")


def pids(roost: Roost) -> dict[str, int]:
    return {member["name"]: member["pid"] for member in roost.status()["members"]}


def remove(run: Path, what: str) -> None:
    if what == "folder":
        shutil.rmtree(run)
    else:
        for path in run.glob(f"*.{what}"):
            path.unlink()


@pytest.mark.parametrize("what", ["folder", "lock", "counters", "sock", "running"])
async def test_a_run_folder_that_is_tidied_away_comes_back(roost: Roost, what: str) -> None:
    await asyncio.to_thread(roost.start, APP, "--shards", 2, "--routers", 2, "--stall-kill", 2)
    before = pids(roost)
    async with talking(roost.port):
        remove(roost.run, what)

        def is_back() -> bool:
            found = {path.name for path in roost.run.glob("*")}
            locks = {lock_path(roost.run, name).name for name in (*before, SUPERVISOR)}
            counters = {counters_path(roost.run, name).name for name in before}
            shards = [sum(name.endswith(suffix) for name in found) for suffix in (".sock", ".running")]
            return found >= locks | counters and shards == [2, 2]

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


@pytest.mark.parametrize("what", ["folder", "lock", "counters"])
async def test_a_run_folder_in_the_data_folder_comes_back(roost: Roost, what: str) -> None:
    """Where it lies for users who are not root: the clients of the whole cluster were lost with it."""
    roost.run = roost.data / "run"
    await asyncio.to_thread(roost.start, APP, "--shards", 2, "--routers", 2, "--stall-kill", 2, "--run", roost.run)
    before = pids(roost)
    async with talking(roost.port):
        remove(roost.run, what)
        await asyncio.sleep(4)  # longer than anything that judges by what lies there
        assert await asyncio.to_thread(pids, roost) == before, "the same processes, all of them"
        assert live_members(roost.run) == before
        scaled = await asyncio.to_thread(roost.command, "scale", "--routers", 3, "--run", roost.run)
        assert scaled.returncode == 0, scaled.stderr
    assert await asyncio.to_thread(roost.end) == 0
    assert roost.left_behind() == []


async def test_a_runtime_folder_that_goes_at_a_logout_takes_nobody_along(
    roost: Roost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``XDG_RUNTIME_DIR`` is not used by itself; who puts the run folder there loses all of it, its parent included."""
    runtime = roost.folder / "xdg"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    roost.run = runtime / "roost"
    await asyncio.to_thread(roost.start, APP, "--shards", 2, "--routers", 2, "--stall-kill", 2, "--run", roost.run)
    before = pids(roost)
    async with talking(roost.port):
        shutil.rmtree(runtime)
        await asyncio.sleep(6)  # longer than anything that judges by what lies there
        assert "cannot be put back yet" in (roost.folder / "stderr").read_text()
        runtime.mkdir(mode=0o700)
        await asyncio.to_thread(wait_for, "the locks", lambda: live_members(roost.run) == before)
        await asyncio.to_thread(wait_for, "the address", (roost.run / "cluster.json").exists)
        assert await asyncio.to_thread(pids, roost) == before
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


# --- the directory --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["deleted", "replaced", "deleted but for its log", "cut off", "its log cut off"])
async def test_the_directory_goes_under_a_cluster_that_is_scaled_and_loses_a_shard(roost: Roost, how: str) -> None:
    await asyncio.to_thread(roost.start, APP, "--shards", 2)
    before = pids(roost)
    with contextlib.closing(DirectoryFile(roost.data / FILE_NAME, create=False)) as opened:
        cluster_id = opened.cluster_id
    async with talking(roost.port):
        for path in list(roost.data.glob(f"{FILE_NAME}*")):
            copy = path.with_name(f"copy-{path.name}")
            if how == "replaced":
                shutil.copy(path, copy)
                path.unlink()
                copy.rename(path)
            elif how.endswith("cut off"):
                if path.name == (FILE_NAME if how == "cut off" else f"{FILE_NAME}-wal"):
                    os.truncate(path, 0)
            elif how == "deleted" or path.name == FILE_NAME:
                path.unlink()
        os.kill(before["shard-1"], signal.SIGKILL)
        await asyncio.to_thread(
            wait_for, "the next process", lambda: roost.member("shard-1")["pid"] not in (0, before["shard-1"])
        )
        scaled = await asyncio.to_thread(roost.command, "scale", "--shards", 3)
        assert scaled.returncode == 0, scaled.stderr
        assert sum(roost.owned().values()) == SLOTS
        assert len(roost.owned()) == 3
    with contextlib.closing(DirectoryFile(roost.data / FILE_NAME, create=False)) as opened:
        assert opened.cluster_id == cluster_id
    assert await asyncio.to_thread(roost.end) == 0
    assert roost.left_behind() == ([f"{FILE_NAME}.damaged"] if how.endswith("cut off") else [])


async def test_whoever_cuts_off_what_processes_have_mapped_ends_nobody(roost: Roost) -> None:
    """A file that is cut off in its place, as ``cp`` does first: its process was ended at the next look (SIGBUS)."""
    await asyncio.to_thread(roost.start, APP, "--shards", 2, "--routers", 2)
    before = pids(roost)
    index = roost.data / f"{FILE_NAME}-shm"
    async with talking(roost.port):
        for path in (*roost.run.glob("*.counters"), *roost.run.glob("*.running")):
            with pytest.raises(PermissionError):
                os.truncate(path, 0)
            with pytest.raises(PermissionError):
                path.write_bytes(b"a copy")
        for length in (0, 100, 20_000):
            whole = index.stat().st_size
            os.truncate(index, length)
            await asyncio.to_thread(wait_for, "it to be mended", lambda whole=whole: index.stat().st_size == whole)
        assert await asyncio.to_thread(pids, roost) == before
        scaled = await asyncio.to_thread(roost.command, "scale", "--shards", 3)
        assert scaled.returncode == 0, scaled.stderr
        assert await asyncio.to_thread(pids, roost) == before | {"shard-3": roost.member("shard-3")["pid"]}
    assert await asyncio.to_thread(roost.end) == 0
    assert roost.left_behind() == []


async def test_the_directory_of_another_cluster_in_its_place_refuses_changes(roost: Roost, tmp_path: Path) -> None:
    await asyncio.to_thread(roost.start, APP, "--shards", 1)
    DirectoryFile(tmp_path / FILE_NAME).close()
    async with talking(roost.port):
        for path in roost.data.glob(f"{FILE_NAME}*"):
            path.unlink()
        (tmp_path / FILE_NAME).rename(roost.data / FILE_NAME)
        for words in (("scale", "--shards", 2), ("reload",)):
            refused = await asyncio.to_thread(roost.command, *words)
            assert refused.returncode == 1
            assert "another file is in the place of the directory" in refused.stderr
            assert "remove the other one" in refused.stderr
        (roost.data / FILE_NAME).unlink()
        assert (await asyncio.to_thread(roost.command, "scale", "--shards", 2)).returncode == 0
    assert await asyncio.to_thread(roost.end) == 0


async def test_members_without_a_supervisor_make_no_other_directory(roost: Roost) -> None:
    await asyncio.to_thread(roost.start, APP, "--shards", 2)
    before = pids(roost)
    async with talking(roost.port):
        assert roost.up is not None
        assert roost.up.stdout is not None
        roost.up.kill()
        roost.up.wait()
        roost.up.stdout.close()
        roost.up = None
        kept = roost.data.with_name("kept")
        kept.mkdir()
        for path in list(roost.data.glob(f"{FILE_NAME}*")):
            path.rename(kept / path.name)
        # Neither a member nor a supervisor begins another cluster among those that live.
        for words in (["router", "--name", "router-9", "--port", free_port()], roost.up_words(APP)):
            refused = await asyncio.to_thread(roost.command, *words)
            assert refused.returncode in (1, 70)
            assert "is gone" in refused.stderr
        assert not (roost.data / FILE_NAME).exists()
        assert live_members(roost.run) == before
        for path in kept.iterdir():
            path.rename(roost.data / path.name)
        await asyncio.to_thread(roost.start, APP, "--shards", 2)
        assert pids(roost) == before, "put back, it is what it was"
    assert await asyncio.to_thread(roost.end) == 0


async def test_a_locked_directory_does_not_hold_the_supervisor_up(roost: Roost) -> None:
    await asyncio.to_thread(roost.start, APP, "--shards", 2)
    before = pids(roost)
    with contextlib.closing(sqlite3.connect(roost.data / FILE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        os.kill(before["router-1"], signal.SIGKILL)  # which has to leave the map
        longest = 0.0
        for _ in range(30):
            began = time.monotonic()
            await asyncio.to_thread(roost.status)
            longest = max(longest, time.monotonic() - began)
            await asyncio.sleep(0.05)
        other.execute("ROLLBACK")
    assert longest < 2, f"a status took {longest:.1f} s"
    await asyncio.to_thread(wait_for, "the next process", lambda: roost.member("router-1")["state"] == "ready")
    assert await asyncio.to_thread(roost.end) == 0


# --- descriptors ----------------------------------------------------------------------------------------------------


def first_line(client: socket.socket) -> str:
    """The status that a client gets; empty when the connection is just ended."""
    try:
        return client.recv(100)[9:12].decode()
    except ConnectionResetError:
        return ""


@pytest.mark.parametrize("what", ["death", "reload"])
async def test_clients_that_take_all_they_can_keep_no_router_from_its_shards(
    roost: Roost, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    words = roost.words
    monkeypatch.setattr(roost, "words", lambda *given: ["bash", "-c", 'ulimit -n 256; exec "$@"', "x", *words(*given)])
    await asyncio.to_thread(roost.start, APP, "--shards", 1, "--routers", 1)
    idle: list[socket.socket] = []
    try:
        async with talking(roost.port):
            # WebSockets, which nobody ends for others.
            for number in range(200):
                client = socket.create_connection(("127.0.0.1", roost.port), timeout=5)
                idle.append(client)
                client.sendall(
                    f"GET /tally/idle?who={number} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n"
                    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
                )
            answers = await asyncio.to_thread(lambda: [first_line(client) for client in idle])
            assert answers.count("101") == 128 - 40
            assert set(answers) <= {"101", "503", ""}, "reset, or told so"
            assert "503" in answers
            if what == "death":
                pid = roost.member("shard-1")["pid"]
                os.kill(pid, signal.SIGKILL)
                await asyncio.to_thread(
                    wait_for, "the next process", lambda: roost.member("shard-1")["pid"] not in (0, pid)
                )
            else:
                done = await asyncio.to_thread(roost.command, "reload")
                assert done.returncode == 0, done.stderr
            await asyncio.sleep(1)
            await asyncio.to_thread(
                wait_for,
                "the slots to be attached",
                lambda: roost.member("router-1")["counters"]["slots_attached"] == SLOTS,
            )
    finally:
        for client in idle:
            client.close()
    assert await asyncio.to_thread(roost.end) == 0
    said = (roost.folder / "stderr").read_text()
    assert said.count("clients hold all 128 connections") == 1, "said once a minute"


HOARDER = """
import os
HOARD = []
class Hoarder(DurableObject):
    async def fetch(self, request):
        try:
            while True:
                HOARD.append(os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            return Response(error.strerror)
"""


async def test_objects_code_that_opens_all_it_can_gets_errors_and_its_shard_goes_on(
    roost: Roost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ZeroMQ ends a process that accepts a connection and has no descriptor for it."""
    app = roost.folder / "app.py"
    app.write_text(APP.read_text() + HOARDER)
    words = roost.words
    monkeypatch.setattr(roost, "words", lambda *given: ["bash", "-c", 'ulimit -n 256; exec "$@"', "x", *words(*given)])
    await asyncio.to_thread(roost.start, app, "--shards", 2, "--routers", 1)
    before = pids(roost)
    async with talking(roost.port, 20):
        for number in range(8):  # on both shards
            assert await asyncio.to_thread(roost.get, f"/hoarder/{number}") == 200
        await asyncio.to_thread(
            wait_for,
            "both to say so",
            lambda: (roost.folder / "stderr").read_text().count("objects' code has all") == 2,
        )
        # A router that comes now finds them, and so does one that comes back.
        scaled = await asyncio.to_thread(roost.command, "scale", "--routers", 2)
        assert scaled.returncode == 0, scaled.stderr
        await asyncio.to_thread(
            wait_for,
            "its links",
            lambda: roost.member("router-2")["counters"]["slots_attached"] == SLOTS,
        )
        now = pids(roost)
        assert {name: now[name] for name in before} == before, "nobody has died of it"
        (roost.run / "shard-1.lock").unlink()
        await asyncio.to_thread(wait_for, "the lock", (roost.run / "shard-1.lock").exists)
        # Slots can be handed over.
        assert (await asyncio.to_thread(roost.command, "scale", "--shards", 3)).returncode == 0
        assert (await asyncio.to_thread(roost.command, "reload")).returncode == 0
        assert sum(roost.owned().values()) == SLOTS
    assert await asyncio.to_thread(roost.end) == 0
    assert roost.left_behind() == []


# --- output that nobody takes ----------------------------------------------------------------------------------------

TALKATIVE = """
class Talkative(DurableObject):
    async def fetch(self, request):
        print("x" * 1_000)
        return Response("said")
"""


@pytest.mark.parametrize("reader", ["has stopped reading", "has ended"])
async def test_who_reads_the_output_holds_nobody_up(roost: Roost, reader: str) -> None:
    app = roost.folder / "app.py"
    app.write_text(APP.read_text() + TALKATIVE)
    await asyncio.to_thread(roost.start, app, "--shards", 1, "--routers", 1, "--stall-kill", 2)
    before = pids(roost)
    assert roost.up is not None
    assert roost.up.stdout is not None
    if reader == "has ended":
        roost.up.stdout.close()
    async with talking(roost.port, 10):
        for _ in range(150):  # a pipe takes 64 KiB
            assert await asyncio.to_thread(roost.get, "/talkative/room") == 200
        assert (await asyncio.to_thread(roost.command, "scale", "--shards", 2)).returncode == 0
        now = pids(roost)
        assert {name: now[name] for name in before} == before
    if reader == "has ended":
        roost.up.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(roost.up.wait, 30) == 0
        roost.up = None
    else:
        assert await asyncio.to_thread(roost.end) == 0
        assert any("bytes were left out, which nobody took" in line for line in roost.said)


# --- a full disk ----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", folder], check=False)
    if mounted.returncode:
        pytest.skip("a file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("where", ["elsewhere", "on the same disk"])
async def test_a_shard_comes_back_while_the_disk_is_full(small_disk: Path, where: str) -> None:
    folder = small_disk / "folder"
    folder.mkdir(mode=0o700)
    roost = Roost(folder)
    more: tuple[object, ...] = ()
    if where == "on the same disk":
        roost.run = roost.data / "run"
        more = ("--run", roost.run)
    try:
        await asyncio.to_thread(roost.start, APP, "--shards", 2, *more)
        async with talking(roost.port):
            with (small_disk / "fill").open("wb", buffering=0) as file:
                for size in (1 << 16, 1 << 12, 1):
                    with contextlib.suppress(OSError):
                        while True:
                            file.write(bytes(size))
            assert os.statvfs(small_disk).f_bfree == 0
            for _ in range(2):
                pid = roost.member("shard-1")["pid"]
                os.kill(pid, signal.SIGKILL)

                def is_back(pid: int = pid) -> bool:
                    found = roost.member("shard-1")
                    return found["pid"] not in (0, pid) and found["state"] == "ready"

                await asyncio.to_thread(wait_for, "the next process", is_back)
        assert await asyncio.to_thread(roost.end) == 0
    finally:
        roost.clean_up()


# --- another user of the machine ------------------------------------------------------------------------------------

INTRUDER = """
import os, socket, sys
run, data, shard = sys.argv[1:]
os.setgroups([])
os.setgid(65_534)
os.setuid(65_534)
def attempt(do):
    try:
        do()
        print("yes", end=" ")
    except OSError as error:
        print(type(error).__name__, end=" ")
attempt(lambda: os.listdir(run))
attempt(lambda: open(os.path.join(run, "cluster.json")))
attempt(lambda: socket.socket(socket.AF_UNIX).connect(shard))
attempt(lambda: os.listdir(data))
attempt(lambda: open(os.path.join(data, "directory.sqlite"), "r+b"))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_another_user_of_the_machine_reaches_neither_folder_nor_sockets(roost: Roost) -> None:
    roost.start(APP, "--shards", 1)
    shard = roost.map().shards[0].endpoint.removeprefix("ipc://")
    roost.folder.chmod(0o755)  # what keeps them out is to be the cluster's own
    words = [sys.executable, "-c", INTRUDER, roost.run, roost.data, shard]
    said = subprocess.run(words, stdout=subprocess.PIPE, check=True)
    assert said.stdout.split() == [b"PermissionError"] * 5
    assert roost.end() == 0
