"""``roost up``, ``status`` and ``down`` with real processes: starts, deaths, ends, and starts that cannot work."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import pytest
from websockets.asyncio.client import connect

from roost.common.cluster.directory_file import FILE_NAME, DirectoryFile
from roost.common.errors import AppError, ConfigError, DataFolderInUse, DescriptorsTooFew, PortTaken, StartupError
from roost.common.limits import SLOTS
from roost.common.runtime.processes import python_words
from roost.deploy.commands import client
from roost.deploy.processes.run_folder import live_members, read_address
from tests.integration.roost import DEADLINE_S, Roost, lives, processes_of, wait_for
from tests.support.cluster import REPOSITORY
from tests.support.waiting import within


def refuses(roost: Roost, code: int, sentence: str, *words: object, **more: Any) -> str:
    """``roost up`` ends at once with one sentence and leaves nothing behind."""
    done = roost.command(*roost.up_words(*words), **more)
    assert done.returncode == code, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert re.match("roost: " + sentence, lines[0]), lines[0]
    return lines[0]


def test_a_cluster_with_a_run_folder_of_its_own_is_named_and_not_started_over(roost: Roost) -> None:
    roost.run = roost.folder / "elsewhere"
    roost.start("--shards", 1, "--run", roost.run)
    serves = roost.status()
    for words in (("status",), ("scale", "--shards", 2), ("down",)):
        done = roost.command(*words)
        assert done.returncode == 1
        assert f"has another run folder: add `--run {roost.run}`" in done.stderr
    other = Roost(roost.folder)  # its default run folder, and another port
    refuses(other, DataFolderInUse.exit_code, f"a cluster runs in .* already, .*`--run {roost.run}` means that one")
    assert roost.status()["members"][0]["pid"] == serves["members"][0]["pid"]
    assert roost.command("down", "--run", roost.run).returncode == 0
    assert roost.finish() == 0
    assert roost.left_behind() == []


# --- a life -------------------------------------------------------------------------------------------------------


def test_a_cluster_comes_up_tells_of_itself_and_goes(roost: Roost) -> None:
    up = roost.start("--routers", 2)
    ready = {line.split()[0] for line in roost.said if " ready in " in line}
    assert ready == {"router-1", "router-2", "shard-1", "shard-2"}
    assert roost.get() == 200

    found = json.loads(roost.command("status", "--json").stdout)
    assert found["state"] == "running"
    assert found["pid"] == up.pid
    assert found["url"] == f"http://127.0.0.1:{roost.port}"
    members = {member["name"]: member for member in found["members"]}
    assert set(members) == ready
    assert all(member["state"] == "ready" and lives(member["pid"]) for member in members.values())
    assert members["shard-1"]["slots"] + members["shard-2"]["slots"] == SLOTS
    assert live_members(roost.run) == {name: member["pid"] for name, member in members.items()}
    wait_for("the counters", lambda: roost.status()["totals"].get("objects_awake") == 1)
    table = roost.command("status").stdout
    assert re.search(r"shard-1 +ready", table)

    assert stat.S_IMODE((roost.run / "cluster.json").stat().st_mode) == 0o600
    with urllib.request.urlopen(f"{found['admin']}/metrics", timeout=DEADLINE_S) as response:
        assert b'roost_member_up{kind="shard",member="shard-1"} 1.0' in response.read()

    done = roost.command("down")
    assert (done.returncode, done.stdout) == (0, f"the cluster in {roost.data} has ended\n")
    assert roost.finish() == 0
    assert not re.search("ERROR|Traceback", (roost.folder / "stderr").read_text())
    assert roost.left_behind() == []
    assert not any(lives(member["pid"]) for member in members.values())
    gone = roost.command("status")
    assert (gone.returncode, gone.stderr) == (1, f"roost: no cluster runs in the data folder {roost.data}\n")


def test_a_cluster_in_the_background(roost: Roost) -> None:
    done = roost.command(*roost.up_words("-d", "--shards", 1))
    assert done.returncode == 0, done.stderr
    assert f"roost serves at http://127.0.0.1:{roost.port}" in done.stdout
    assert roost.get() == 200
    pid = roost.status()["pid"]
    assert os.getsid(pid) == pid, "it has left our terminal"
    assert "shard-1" in (roost.data / "roost.log").read_text()
    assert roost.command("down").returncode == 0
    assert not lives(pid)
    assert roost.left_behind() == []


def test_a_background_start_that_fails_says_why(roost: Roost) -> None:
    line = refuses(roost, AppError.exit_code, "shard-[12]: .*no_such_module", "no_such_module", "-d")
    assert "Traceback" not in line
    assert roost.left_behind() == []


def test_a_cluster_starts_anew_in_its_data_folder_with_other_numbers(roost: Roost) -> None:
    roost.start("--shards", 2)
    first = {member["name"]: member["incarnation"] for member in roost.status()["members"]}
    assert roost.end() == 0
    roost.start("--shards", 1)
    second = {member["name"]: member["incarnation"] for member in roost.status()["members"]}
    assert set(second) == {"router-1", "shard-1"}
    assert min(second.values()) > max(first.values())
    assert roost.member("shard-1")["slots"] == SLOTS
    assert roost.get() == 200
    assert roost.end() == 0


def test_settings_reach_the_members(roost: Roost) -> None:
    app = roost.folder / "app.py"
    app.write_text(
        "from roost.shard import DurableObject, Response\n"
        "class Echo(DurableObject):\n"
        "    async def fetch(self, request):\n"
        "        return Response(self.env.GREETING)\n"
    )
    roost.start(app, "--shards", 1, "--var", "GREETING=good day", "--set", "router.max_body_bytes=5")
    url = f"http://127.0.0.1:{roost.port}/echo/a"
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as response:
        assert response.read() == b"good day"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, data=b"123456", timeout=DEADLINE_S)
    caught.value.close()
    assert caught.value.code == 413
    assert roost.end() == 0


@pytest.mark.parametrize("kind", ["router", "shard"])
def test_the_commands_of_one_process_show_all_its_settings(kind: str) -> None:
    done = subprocess.run(
        [*python_words("roost"), kind, "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    assert f"usage: roost {kind}" in done.stdout
    assert "--ready-fd N" in done.stdout


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_it(roost: Roost, signum: int) -> None:
    await asyncio.to_thread(roost.start, "--shards", 1)
    pids = processes_of(roost.data)
    assert len(pids) == 3
    async with connect(f"ws://127.0.0.1:{roost.port}/chat-room/lobby?name=a") as client:
        await within("the greeting", client.recv())
        ending = asyncio.create_task(asyncio.to_thread(roost.end, signum))
        await within("the Close", client.wait_closed())
        assert client.close_code == 1001
        assert await ending == 0
    assert roost.left_behind() == []
    assert not any(lives(pid) for pid in pids)


async def test_without_a_terminal_sighup_ends_nobody(roost: Roost) -> None:
    """Other servers read their settings again; a router that ended would take its clients along."""
    found = await asyncio.to_thread(roost.command, *roost.up_words("--shards", 1), "-d")
    assert found.returncode == 0, found.stderr
    try:
        pids = processes_of(roost.data)
        assert len(pids) == 3
        async with connect(f"ws://127.0.0.1:{roost.port}/chat-room/lobby?name=a") as client:
            await within("the greeting", client.recv())
            for pid in pids:
                os.kill(pid, signal.SIGHUP)
            log = roost.data / "roost.log"
            await asyncio.to_thread(
                wait_for, "all to answer", lambda: log.read_text().count("SIGHUP changes nothing") == len(pids)
            )
            await client.send("hello")
            await within("an answer", client.recv())
            assert sorted(processes_of(roost.data)) == sorted(pids)
    finally:
        assert (await asyncio.to_thread(roost.command, "down")).returncode == 0
    assert roost.left_behind() == []


def test_a_cluster_that_nobody_can_hear_goes_on(roost: Roost) -> None:
    with open("/dev/full", "w") as full:
        roost.up = subprocess.Popen(
            roost.words(*roost.up_words("--shards", 1)), stdout=full, stderr=full, cwd=REPOSITORY, text=True
        )
    wait_for("the admin API", lambda: read_address(roost.run))
    wait_for("the end of the start", lambda: roost.status()["state"] == "running")
    assert client.scale(roost.data, shards=2, routers=None, say=lambda line: None).startswith("2 shards and 1 router")
    before = roost.member("shard-1")["pid"]
    os.kill(before, signal.SIGKILL)
    wait_for("its return", lambda: roost.member("shard-1")["pid"] not in (0, before))
    assert roost.command("down").returncode == 0
    assert roost.up.wait(DEADLINE_S) == 0
    assert roost.left_behind() == []


async def test_the_end_of_its_terminal_drains_it(roost: Roost) -> None:
    ours = start_in_terminal(roost, "--shards", 1)
    assert roost.up is not None
    said = b""
    while b"roost serves at" not in said:
        said += await asyncio.to_thread(os.read, ours, 4096)
    async with connect(f"ws://127.0.0.1:{roost.port}/chat-room/lobby") as socket:
        os.close(ours)
        assert await asyncio.to_thread(roost.up.wait, DEADLINE_S) == 0
        await within("the Close", socket.wait_closed(), 5)
        assert socket.close_code == 1001
    assert roost.left_behind() == []


def start_in_terminal(roost: Roost, *words: object) -> int:
    """``roost up`` in a terminal of its own; returns our end of it."""
    ours, theirs = os.openpty()
    roost.up = subprocess.Popen(
        [sys.executable, "-c", OWN_TERMINAL, *roost.words(*roost.up_words(*words))[1:]],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        cwd=REPOSITORY,
        text=True,
    )
    os.close(theirs)
    return ours


OWN_TERMINAL = (
    "import fcntl, os, sys, termios\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
)
"""A program that takes the terminal at its stdin for its own, so that it hears of its end."""


# --- deaths -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["shard-1", "router-1"])
def test_a_member_that_dies_is_started_again(roost: Roost, name: str) -> None:
    roost.start("--shards", 1)
    before, version = roost.member(name), roost.status()["map_version"]
    os.kill(before["pid"], signal.SIGKILL)

    def again() -> dict[str, Any] | None:
        found = roost.member(name)
        return found if found["state"] == "ready" and found["pid"] != before["pid"] else None

    after = wait_for("the next process", again)
    assert after["restarts"] == 1
    assert after["incarnation"] > before["incarnation"]
    assert roost.get() == 200
    directory = DirectoryFile(roost.data / FILE_NAME)
    found = directory.map()
    directory.close()
    assert sorted(member.name for member in found.members.values()) == ["router-1", "shard-1"]
    assert before["incarnation"] not in found.members
    # A dead router is taken out at once, as shards wait for nobody else to say that its clients are gone; a shard's
    # place, with its slots, is kept for its next process.
    assert found.version == version + (2 if name == "router-1" else 1)
    assert roost.end() == 0
    assert any(f"{name} was ended by SIGKILL; it starts again in 0 s" in line for line in roost.said)
    assert roost.left_behind() == []


def test_a_shard_whose_app_was_broken_meanwhile_is_given_up(roost: Roost) -> None:
    app = roost.folder / "app.py"
    shutil.copy(REPOSITORY / "deploy" / "examples" / "chat.py", app)
    up = roost.start(app, "--shards", 2)
    app.write_text("import no_such_module\n")
    os.kill(roost.member("shard-1")["pid"], signal.SIGKILL)
    failed = wait_for("the end of tries", lambda: (m := roost.member("shard-1"))["state"] == "failed" and m)
    assert "no_such_module" in failed["error"]
    assert roost.member("shard-2")["state"] == "ready", "the others go on"
    os.kill(roost.member("shard-2")["pid"], signal.SIGKILL)
    assert roost.finish() == AppError.exit_code, "no shard is left"
    assert up.returncode == AppError.exit_code
    assert roost.left_behind() == []


def test_traffic_goes_on_without_a_supervisor_and_down_ends_it(roost: Roost) -> None:
    up = roost.start()
    members = live_members(roost.run)
    assert list(members) == ["router-1", "shard-1", "shard-2"]
    up.kill()
    up.wait()
    assert roost.get() == 200, "the members go on"
    assert set(live_members(roost.run).values()) == set(members.values())
    assert "has lost its supervisor" in roost.command("status").stderr
    # Another cluster cannot take the port either: no supervisor holds it, but the router listens.
    other = Roost(roost.folder / "other", roost.port)
    refuses(other, PortTaken.exit_code, f"port {roost.port} .*another program listens there")
    done = roost.command("down")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("router-1, shard-1, shard-2\n")
    assert not any(lives(pid) for pid in members.values())
    assert roost.left_behind() == []


def test_a_cluster_that_was_killed_whole_starts_again(roost: Roost) -> None:
    up = roost.start("--shards", 1)
    for pid in [up.pid, *live_members(roost.run).values()]:
        os.kill(pid, signal.SIGKILL)
    up.communicate()
    wait_for("their end", lambda: not processes_of(roost.data))
    assert roost.run.exists(), "nobody could sweep"
    roost.start("--shards", 1)
    assert roost.get() == 200
    assert roost.end() == 0
    assert roost.left_behind() == []


# --- starts that cannot work --------------------------------------------------------------------------------------


def test_a_port_of_another_program(roost: Roost) -> None:
    with socket.create_server(("127.0.0.1", roost.port)):
        refuses(roost, PortTaken.exit_code, f"port {roost.port} on 127.0.0.1 is taken: another program listens there")
    assert roost.left_behind() == []


def test_a_second_cluster_on_the_same_port(roost: Roost) -> None:
    roost.start("--shards", 1)
    other = Roost(roost.folder / "other", roost.port)
    refuses(other, PortTaken.exit_code, f"port {roost.port} on 127.0.0.1 is taken: another roost cluster serves it")
    assert other.left_behind() == []
    assert roost.get() == 200
    assert roost.end() == 0


def test_an_admin_port_that_is_taken(roost: Roost) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        refuses(roost, PortTaken.exit_code, f"port {port} on 127.0.0.1 is taken", "--admin-port", port)
    assert roost.left_behind() == []


def test_a_second_cluster_in_the_same_data_folder(roost: Roost) -> None:
    up = roost.start("--shards", 1)
    other = Roost(roost.folder)
    refuses(other, DataFolderInUse.exit_code, rf"'supervisor' is running already .*process {up.pid}")
    assert roost.get() == 200
    assert roost.end() == 0


APPS = {
    "does not import": ("import no_such_module\n", "no_such_module"),
    "has a syntax error": ("class A(:\n", "app.py"),
    "has no class": ("x = 1\n", "app.py"),
    "defines a handler twice": (
        "from roost.shard import DurableObject\n"
        "class Twice(DurableObject):\n"
        "    async def web_socket_message(self, ws, message): ...\n"
        "    async def webSocketMessage(self, ws, message): ...\n",
        "Twice.*web_socket_message",
    ),
}


@pytest.mark.parametrize("app", APPS)
def test_an_app_that_cannot_be_used(roost: Roost, app: str) -> None:
    text, sentence = APPS[app]
    path = roost.folder / "app.py"
    path.write_text(text)
    refuses(roost, AppError.exit_code, f"shard-1: .*{sentence}", path, "--shards", 1)
    assert roost.left_behind() == []


def test_an_app_that_is_not_there(roost: Roost) -> None:
    refuses(roost, AppError.exit_code, "shard-[12]: .*/nowhere/app.py", "/nowhere/app.py", "--shards", 2)
    assert roost.left_behind() == []


def test_descriptors_too_few(roost: Roost) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))

    sentence = "2256 file descriptors are needed, but a process may open 1024 here"
    refuses(roost, DescriptorsTooFew.exit_code, sentence, "--connections", 2000, preexec_fn=limit)
    # Spread over more routers they would do.
    sentence = "1356 file descriptors"
    refuses(roost, DescriptorsTooFew.exit_code, sentence, "--connections", 2000, "--routers", 2, preexec_fn=limit)
    assert roost.left_behind() == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--set", "router.no_such_setting=1"], "router-1: unrecognized arguments: --no-such-setting=1"),
        (["--set", "shard.max_attachment_bytes=1000000"], "shard-[12]: max_attachment_bytes must be at most 16,384"),
        (["--routers", "0"], "routers must be at least 1, got 0"),
        (["--host", "192.0.2.1"], "cannot listen on port .* of '192.0.2.1'"),
    ],
)
def test_a_wrong_setting(roost: Roost, words: list[str], sentence: str) -> None:
    refuses(roost, ConfigError.exit_code, sentence, *words)
    assert roost.left_behind() == []


def test_a_data_folder_with_another_programs_file(roost: Roost) -> None:
    roost.data.mkdir()
    (roost.data / FILE_NAME).write_bytes(b"something else, and longer than a database's header " * 50)
    refuses(roost, StartupError.exit_code, ".*file is not a database")
    assert roost.left_behind() == []


def test_an_app_that_hangs_while_it_is_imported(roost: Roost) -> None:
    app = roost.folder / "app.py"
    app.write_text("import time\ntime.sleep(1000)\n")
    done = roost.command(*roost.up_words(app, "--shards", 1, "--start-timeout", 6))
    assert done.returncode == StartupError.exit_code
    assert done.stderr.splitlines()[-1] == "roost: shard-1 was ended by SIGKILL before it was ready"
    assert "shard-1 was not ready within 6 s" in done.stderr
    assert roost.left_behind() == []


def test_a_start_that_is_called_off(roost: Roost) -> None:
    app = roost.folder / "app.py"
    app.write_text("import time\ntime.sleep(1000)\n")
    roost.up = up = subprocess.Popen(
        [*python_words("roost"), *map(str, roost.up_words(app)), "--data", roost.data],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    wait_for("the members' processes", lambda: len(processes_of(roost.data)) == 4)
    up.send_signal(signal.SIGINT)
    up.communicate(timeout=DEADLINE_S)
    assert up.returncode == 0
    assert roost.left_behind() == []
