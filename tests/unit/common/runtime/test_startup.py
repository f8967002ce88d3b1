"""How a member starts: one report to whoever started it, and a lock on its name that dies with it."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from roost.common.errors import AppError, ConfigError, DataFolderInUse, DirectoryError, StartupError
from roost.common.ids import Incarnation
from roost.common.runtime import startup
from roost.common.runtime.config import MemberConfig


class Pipe:
    """A ready pipe: what the starter reads."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def lines(self) -> list[object]:
        with open(self.reader, "rb") as stream:  # ends at once only if the writer was closed
            return [json.loads(line) for line in stream]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def test_ready_is_one_line_and_the_end_of_the_pipe() -> None:
    pipe = Pipe()
    startup.report_ready(pipe.writer, "shard-1", Incarnation(7))
    assert pipe.lines() == [{"ready": True, "name": "shard-1", "incarnation": 7}]


def test_an_error_is_told_to_the_starter(capsys: pytest.CaptureFixture[str]) -> None:
    pipe = Pipe()
    assert startup.report_error(pipe.writer, AppError("no class in x.py")) == AppError.exit_code
    assert pipe.lines() == [{"error": "no class in x.py", "exit_code": AppError.exit_code}]
    assert capsys.readouterr().err == ""


def test_without_a_pipe_an_error_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert startup.report_error(-1, DirectoryError("cannot read")) == startup.UNEXPECTED_EXIT_CODE
    assert capsys.readouterr().err == "roost: cannot read\n"


def test_a_defect_leaves_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        raise ZeroDivisionError("x")
    assert startup.report_error(-1, caught.value) == 1
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert text.endswith("roost: unexpected ZeroDivisionError: x\n")


def test_a_starter_that_has_gone_harms_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    pipe = Pipe()
    os.close(pipe.reader)
    startup.report_ready(pipe.writer, "shard-1", Incarnation(7))
    os.close(pipe.writer)
    startup.report_ready(-1, "shard-1", Incarnation(7))
    assert startup.report_error(pipe.writer, StartupError("late")) == StartupError.exit_code
    assert capsys.readouterr().err == "roost: late\n"


def test_launch_reports_arguments_that_do_not_parse_to_the_starter(root_logger: logging.Logger) -> None:
    for spelling in (["--ready-fd", "{}"], ["--ready-fd={}"]):
        pipe = Pipe()
        argv = [*(word.format(pipe.writer) for word in spelling), "--name", "a", "--nonsense"]
        code = startup.launch(MemberConfig, argv, prog="roost x", serve=lambda config: None)
        assert code == ConfigError.exit_code
        assert "--nonsense" in str(pipe.lines())


def test_launch_serves_and_reports_what_fails(root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    served: list[MemberConfig] = []
    assert startup.launch(MemberConfig, ["--name", "a"], prog="roost x", serve=served.append) == 0
    assert served == [MemberConfig(name="a")]
    assert root_logger.level == logging.INFO

    def fail(config: MemberConfig) -> None:
        raise AppError("bad app")

    assert startup.launch(MemberConfig, ["--name", "a"], prog="roost x", serve=fail) == AppError.exit_code
    assert capsys.readouterr().err == "roost: bad app\n"


def test_log_lines_carry_time_member_and_level(root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    startup.install_logging("warning", "shard-1")
    logging.getLogger("roost.shard").info("hidden")
    logging.getLogger("roost.shard").warning("shown")
    line = capsys.readouterr().err
    assert line.endswith("Z WARNING shard-1 shown\n")
    assert line[4] == "-"
    assert "hidden" not in line


def test_the_limit_of_descriptors_is_raised_to_the_hard_one() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        assert startup.raise_descriptor_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0] == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# --- names --------------------------------------------------------------------------------------------------------


def test_a_name_is_held_by_one(run: Path) -> None:
    held = startup.hold_name(run, "shard-1")
    with pytest.raises(DataFolderInUse, match=f"'shard-1' is running already .*process {os.getpid()};"):
        startup.hold_name(run, "shard-1")
    other = startup.hold_name(run, "shard-2")
    assert startup.holder_of(run, "shard-1") == os.getpid()
    held.release()
    assert startup.holder_of(run, "shard-1") is None
    startup.hold_name(run, "shard-1").release()
    other.release()


def test_the_last_one_out_removes_the_folder(run: Path) -> None:
    first, second = startup.hold_name(run, "a"), startup.hold_name(run, "b")
    first.release()
    first.release()
    assert [entry.name for entry in run.iterdir()] == ["b.lock"]
    second.release()
    assert not run.exists()


def test_a_name_is_free_once_its_holder_was_killed(run: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from roost.common.runtime.startup import hold_name\n"
        "held = hold_name(Path(sys.argv[1]), 'shard-1'); print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(run)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    assert startup.holder_of(run, "shard-1") == child.pid
    with pytest.raises(DataFolderInUse):
        startup.hold_name(run, "shard-1")
    child.kill()
    child.wait()
    child.stdout.close()
    assert startup.holder_of(run, "shard-1") is None
    startup.hold_name(run, "shard-1").release()


def test_a_lock_on_a_file_that_its_last_holder_unlinked_is_none(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock
    unlinked: list[int] = []

    def flock(fd: int, operation: int) -> None:
        if operation & fcntl.LOCK_EX and not unlinked:
            unlinked.append(1)
            (run / "x.lock").unlink()  # between our open and our lock
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    held = startup.hold_name(run, "x")
    with pytest.raises(DataFolderInUse):
        startup.hold_name(run, "x")
    held.release()


def test_a_lock_that_is_unlinked_meanwhile_is_never_held_by_two(run: Path) -> None:
    """Many takers and releasers at once: at no time do two hold the name, and each gets it in the end."""
    inside = threading.Lock()
    clashes = []

    def take_often() -> None:
        for _ in range(100):
            while True:
                try:
                    held = startup.hold_name(run, "x")
                except DataFolderInUse:
                    continue
                break
            if not inside.acquire(blocking=False):
                clashes.append(1)
            else:
                inside.release()
            held.release()

    threads = [threading.Thread(target=take_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not clashes
    assert not run.exists()


def test_a_folder_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(ConfigError, match="only its owner"):
        startup.hold_name(tmp_path / "run", "x")


# --- what users' code may do --------------------------------------------------------------------------------------

FORKS = """
import os, sys, time
from pathlib import Path
from roost.common.runtime.startup import hold_name
held = hold_name(Path(sys.argv[1]), "shard-1")
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
time.sleep(60)
"""


def test_a_forked_child_does_not_keep_the_name_of_its_dead_parent(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", FORKS, str(run)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            with pytest.raises(DataFolderInUse):
                startup.hold_name(run, "shard-1")
            parent.kill()
            parent.wait()
            assert is_alive(child)
            startup.hold_name(run, "shard-1").release()
        finally:
            parent.kill()
            os.kill(child, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").exists()


SIGNALLED = """
import asyncio, os, signal, sys
from dataclasses import dataclass
from roost.common.runtime.config import MemberConfig
from roost.common.runtime.startup import launch

async def serve():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: print("told to end", flush=True))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"x")
        signal.pause()
        os._exit(0)
    os.read(reading, 1)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    print("the child was ended by", os.WTERMSIG(status), flush=True)
    await asyncio.sleep(0.2)  # nothing is to happen here

launch(MemberConfig, ["--name=x"], prog="x", serve=lambda config: asyncio.run(serve()))
"""


def test_a_signal_for_a_forked_child_is_none_for_its_parent() -> None:
    done = subprocess.run([sys.executable, "-c", SIGNALLED], stdout=subprocess.PIPE, text=True, timeout=20, check=True)
    assert done.stdout == f"the child was ended by {signal.SIGTERM.value}\n"
