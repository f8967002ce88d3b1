"""Finding members by their locks and command lines, and ending them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from roost.common.runtime.startup import hold_name
from roost.deploy.processes.leftovers import end_everybody
from roost.deploy.processes.members import find_members, is_still

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

    def start(self, module: str, name: str, program: str = SLEEP, run: str = "") -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", program, "-m", module, f"--run={run or self.run}", "--name", name]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True, cwd=self.run)
        assert process.stdout is not None
        process.stdout.readline()
        self.started.append(process)
        return process

    def end(self) -> None:
        for process in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its forks as well
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


def test_locks_tell_who_holds_its_name(pretenders: Pretenders) -> None:
    run = pretenders.run / "run"
    held = hold_name(run, "shard-1")
    assert find_members(run) == [], "this process holds the name, and is no member by its command line"
    shard = pretenders.start("roost.shard", "shard-1", run="run")
    held.path.write_text(str(shard.pid))
    (found,) = find_members(run)
    assert (found.name, found.pid, found.kind, found.holds_name) == ("shard-1", shard.pid, "shard", True)
    assert found.argv == ("--name=shard-1", f"--data={pretenders.run / '.roost'}", f"--run={run}")
    assert is_still(run, found)
    held.release()
    assert not is_still(run, found)
    (found,) = find_members(run)
    assert not found.holds_name


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


FORKING = """
import os, signal, sys, time
child = os.fork()
if not child:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(child or os.getpid(), flush=True)
time.sleep(60)
"""
"""Prints the pid of the fork, which goes on by itself."""


def test_what_a_member_has_forked_is_no_member(pretenders: Pretenders) -> None:
    shard = pretenders.start("roost.shard", "shard-1", FORKING)
    alone = pretenders.start("roost.shard", "shard-2", FORKING)
    alone.kill()
    alone.wait()
    forks = {live.forked_from: live.pid for live in find_members(pretenders.run) if live.forked_from}
    assert set(forks) == {shard.pid, alone.pid}
    first, *_ = find_members(pretenders.run)
    assert (first.pid, first.forked_from) == (shard.pid, 0)
    # It goes after its member, without a chance to do something at a SIGTERM.
    began = time.monotonic()
    assert end_everybody(pretenders.run, 5.0) == [
        "shard-1",
        f"process {forks[alone.pid]}",
        f"process {forks[shard.pid]}",
    ]
    assert find_members(pretenders.run) == []
    assert time.monotonic() - began < 4


def test_what_has_started_a_member_is_none(pretenders: Pretenders) -> None:
    """The init of a container has the member's words in its own command line."""
    init = pretenders.start("roost.shard", "shard-1", FORKING)
    held = hold_name(pretenders.run, "shard-1")
    (fork,) = (live.pid for live in find_members(pretenders.run) if live.forked_from == init.pid)
    held.path.write_text(str(fork))
    assert [(live.pid, live.holds_name) for live in find_members(pretenders.run)] == [(fork, True)]
    held.release()


def test_a_lock_with_a_pid_of_another_member_is_not_believed(pretenders: Pretenders) -> None:
    held = hold_name(pretenders.run, "shard-1")
    other = pretenders.start("roost.shard", "shard-2")
    held.path.write_text(str(other.pid))
    (found,) = find_members(pretenders.run)
    assert (found.name, found.holds_name) == ("shard-2", False)
    held.release()
