"""Ending another process for certain, and nobody else."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from roost.common.runtime.processes import is_running, kill_member
from roost.common.runtime.startup import is_holder

HOLDS = """
import sys, time
from pathlib import Path
from roost.common.runtime.startup import hold_name
held = hold_name(Path(sys.argv[1]), sys.argv[2])
print("held", flush=True)
{then}
"""


@contextlib.contextmanager
def member(run: Path, name: str, then: str = "time.sleep(60)") -> Iterator[subprocess.Popen[str]]:
    """A process that holds *name* in the run folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS.format(then=then), str(run), name], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_the_holder_of_the_name_is_killed(tmp_path: Path) -> None:
    with member(tmp_path / "run", "shard-1") as process:
        assert kill_member(tmp_path / "run", "shard-1", process.pid)
        assert process.wait(5) == -9


def test_a_process_that_does_not_hold_the_name_is_left_alone(tmp_path: Path) -> None:
    with member(tmp_path / "run", "shard-2") as process:
        assert kill_member(tmp_path / "run", "shard-1", process.pid), "it is not that member"
        assert process.poll() is None


def test_a_member_whose_lock_was_removed_is_killed_all_the_same(tmp_path: Path) -> None:
    """It lives: to say that it is gone would have two owners of its slots."""
    run = tmp_path / "run"
    with member(run, "shard-1") as process:
        (run / "shard-1.lock").unlink()
        assert kill_member(run, "shard-1", process.pid)
        assert process.wait(5) == -9
    with member(run, "shard-1") as process:
        run.rename(tmp_path / "moved")
        assert kill_member(run, "shard-1", process.pid)
        assert process.wait(5) == -9


def test_a_number_that_is_a_strangers_by_now_is_left_alone(tmp_path: Path) -> None:
    """Of the same name, in another cluster: the lock here was left by somebody who had that number before."""
    run = tmp_path / "run"
    with member(tmp_path / "other", "shard-1") as stranger:
        run.mkdir()
        (run / "shard-1.lock").write_text(f"{stranger.pid}")
        assert not is_holder(run, "shard-1", stranger.pid)
        assert is_holder(tmp_path / "other", "shard-1", stranger.pid)
        assert kill_member(run, "shard-1", stranger.pid)
        (run / "shard-1.lock").unlink()
        assert kill_member(run, "shard-1", stranger.pid)
        assert stranger.poll() is None


def test_a_process_that_is_gone_is_gone(tmp_path: Path) -> None:
    with member(tmp_path / "run", "shard-1") as process:
        process.kill()
        process.wait()
    assert kill_member(tmp_path / "run", "shard-1", process.pid)


def test_a_busy_process_runs_and_a_sleeping_one_does_not(tmp_path: Path) -> None:
    with member(tmp_path / "run", "shard-1", "while True: pass") as process:
        assert any(is_running(process.pid) for _ in range(10_000))
    with member(tmp_path / "run", "shard-1") as process:
        while is_running(process.pid):
            pass  # it still prints and goes to sleep
        assert not any(is_running(process.pid) for _ in range(100))
    assert not is_running(process.pid)
