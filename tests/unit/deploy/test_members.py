"""Finding members by their locks and command lines, and ending them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from roost.common.startup import hold_name
from roost.deploy.leftovers import end_everybody
from roost.deploy.members import LiveMember, find_members, is_still, without_ready_fd

SLEEP = """
import signal, sys, time
if "deaf" in sys.argv[-1]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(flush=True)
time.sleep(60)
"""


class Pretenders:
    """Processes whose command lines look like members'."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, module: str, name: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", SLEEP, "-m", module, f"--run={self.run}", f"--name={name}"]
        process = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        self.started.append(process)
        return process

    def end(self) -> None:
        for process in self.started:
            process.kill()
            process.communicate()


@pytest.fixture
def pretenders() -> Iterator[Pretenders]:
    with tempfile.TemporaryDirectory(prefix="roost-test-") as run:
        made = Pretenders(Path(run))
        yield made
        made.end()


def test_command_lines_tell_of_members_that_hold_no_name(pretenders: Pretenders) -> None:
    shard = pretenders.start("roost.shard", "shard-1")
    check = pretenders.start("roost.shard.check", "app-check")
    router = pretenders.start("roost.router", "router-1")
    pretenders.start("roost.deploy.supervisor", "x")
    pretenders.start("other.shard", "y")
    found = find_members(pretenders.run)
    assert [(live.pid, live.name, live.kind) for live in found] == [
        (router.pid, "router-1", "router"),
        (check.pid, "", "shard.check"),
        (shard.pid, "shard-1", "shard"),
    ]
    assert not any(live.holds_name for live in found)
    assert find_members(pretenders.run / "other") == []
    assert all(is_still(pretenders.run, live) for live in found)
    shard.kill()
    shard.wait()
    assert not is_still(pretenders.run, found[2])


def test_locks_tell_of_members_that_do_not_name_the_run_folder(pretenders: Pretenders) -> None:
    run = pretenders.run / "run"
    held = hold_name(run, "shard-1")
    assert find_members(run) == [], "this process holds the name, and is no member by its command line"
    shard = pretenders.start("roost.shard", "x")
    held.path.write_text(str(shard.pid))
    (found,) = find_members(run)
    assert (found.name, found.pid, found.kind, found.holds_name) == ("shard-1", shard.pid, "shard", True)
    assert is_still(run, found)
    held.release()
    assert not is_still(run, found)
    assert find_members(run) == []


def test_everybody_is_ended_the_deaf_ones_too(pretenders: Pretenders) -> None:
    shard = pretenders.start("roost.shard", "shard-1")
    deaf = pretenders.start("roost.shard", "deaf")
    stopped = pretenders.start("roost.router", "router-1")
    stopped.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, stopped.pid, os.WSTOPPED | os.WNOWAIT)
    began = time.monotonic()
    assert end_everybody(pretenders.run, 0.2) == ["router-1", "deaf", "shard-1"]
    assert time.monotonic() - began < 5
    assert [process.wait() for process in (shard, deaf, stopped)] == [-signal.SIGTERM, -signal.SIGKILL, -signal.SIGKILL]
    assert find_members(pretenders.run) == []


def test_the_pipe_of_a_start_is_not_for_the_next_one() -> None:
    assert without_ready_fd(["--name=a", "--ready-fd=7", "--app=x"]) == ("--name=a", "--app=x")
    assert LiveMember("a", 1, "shard", (), True).age_s == 0.0
