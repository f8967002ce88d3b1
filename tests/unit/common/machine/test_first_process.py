from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

START = """
import os, signal, sys, time
from roost.common.machine.first_process import keep_house
keep_house()
"""
"""Not in a namespace of its own, which takes root: as a subreaper it is the parent of orphans as process 1 is."""
SUBREAPER = """
import ctypes
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
"""


@contextmanager
def housekeeper(program: str) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", SUBREAPER + START + program]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            with_group = process.pid
            try:
                os.killpg(with_group, signal.SIGKILL)
            except ProcessLookupError:
                pass


def children(pid: int) -> dict[int, str]:
    """The children of a process, with their states."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found[int(path.parent.name)] = fields[0]
    return found


@pytest.mark.parametrize(
    ("program", "exit_code"),
    [("sys.exit(7)", 7), ("os.kill(os.getpid(), signal.SIGKILL)", 128 + signal.SIGKILL), ("", 0)],
)
def test_it_ends_as_the_program_does(program: str, exit_code: int) -> None:
    with housekeeper(program) as process:
        assert process.wait(20) == exit_code


def test_orphans_are_buried_and_the_programs_own_children_are_its_own() -> None:
    program = """
import subprocess
subprocess.run(["sh", "-c", "sleep 0.05 & sleep 0.1 & exit 0"])
print(subprocess.run(["sh", "-c", "sleep 0.3; exit 5"]).returncode, flush=True)
sys.stdin.read()
"""
    words = [sys.executable, "-c", SUBREAPER + START + program]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "5\n"
        deadline = time.monotonic() + 10
        while len(left := children(process.pid)) > 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(left) == 1, left
        assert "Z" not in left.values()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on(number: int) -> None:
    program = f"""
signal.signal({int(number)}, lambda *_: sys.exit(3))
print("ready", flush=True)
time.sleep(20)
"""
    with housekeeper(program) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(20) == 3


def test_it_holds_no_pipe_of_the_program() -> None:
    reading, writing = os.pipe()
    try:
        words = [sys.executable, "-c", START + f"os.close({writing}); time.sleep(20)"]
        with subprocess.Popen(words, pass_fds=[writing], start_new_session=True) as process:
            os.close(writing)
            try:
                assert os.read(reading, 1) == b"", "the end, while both live"
                assert process.poll() is None
            finally:
                os.killpg(process.pid, signal.SIGKILL)
    finally:
        os.close(reading)


def test_it_is_for_process_1_only() -> None:
    program = "import os; from roost.common.machine.first_process import step_aside; me = os.getpid(); step_aside(); "
    done = subprocess.run([sys.executable, "-c", program + "print(me == os.getpid())"], capture_output=True, text=True)
    assert done.stdout == "True\n"
