"""What a process has in the run folder comes back, and nobody takes a missing file for a dead process."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from roost.common.errors import DataFolderInUse
from roost.common.machine.counters import CounterFile, Counters, gauge, read_counters
from roost.common.machine.upkeep import Upkeep
from roost.common.runtime.startup import forget_name, hold_name, holder_of, is_holder


class Figures(Counters):
    """One figure."""

    clients: int = gauge("Clients")


def remove(run: Path, what: str) -> None:
    if what == "folder":
        shutil.rmtree(run)
    elif what == "moved":
        run.rename(run.with_name("elsewhere"))
    else:
        for path in run.glob(f"*.{what}"):
            path.unlink()


@pytest.mark.parametrize("what", ["folder", "moved", "lock", "counters"])
def test_what_is_removed_comes_back(tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str) -> None:
    run, counters = tmp_path / "run", Figures()
    held = hold_name(run, "shard-1")
    file = CounterFile(run / "shard-1.counters", counters)
    upkeep = Upkeep(held, file)
    upkeep.look()
    assert not caplog.messages
    remove(run, what)
    assert is_holder(run, "shard-1", os.getpid()), "its process lives, whatever has become of the file"
    upkeep.look()
    assert holder_of(run, "shard-1") == os.getpid()
    counters.clients = 3
    file.publish()
    assert read_counters(run / "shard-1.counters").values["clients"] == 3
    upkeep.look()
    assert len(caplog.messages) == 1, "said once"
    assert "put back" in caplog.text
    file.close()
    held.release()
    assert not (run / "shard-1.lock").exists()


def test_a_copy_of_the_lock_in_its_place_is_replaced(tmp_path: Path) -> None:
    held = hold_name(tmp_path, "shard-1")
    shutil.copy(held.path, tmp_path / "copy")
    os.replace(tmp_path / "copy", held.path)
    assert holder_of(tmp_path, "shard-1") is None
    assert is_holder(tmp_path, "shard-1", os.getpid())
    assert held.restore()
    assert holder_of(tmp_path, "shard-1") == os.getpid()
    held.release()


def test_a_name_that_another_process_took_meanwhile_is_not_taken_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held = hold_name(tmp_path, "shard-1")
    held.path.unlink()
    other = hold_name(tmp_path, "shard-1")
    with pytest.raises(DataFolderInUse, match=f"process {os.getpid()} holds"):
        held.restore()
    upkeep = Upkeep(held)
    for _ in range(3):
        upkeep.look()
    assert [record.levelno for record in caplog.records] == [logging.ERROR], "said once"
    held.release()
    assert other.path.exists(), "the other one's"
    other.release()


def test_a_folder_that_cannot_be_made_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tmp_path / "run"
    held = hold_name(run, "shard-1")
    shutil.rmtree(run)
    run.write_text("something else")
    upkeep = Upkeep(held)
    upkeep.look()
    assert "cannot be put back yet" in caplog.text
    run.unlink()
    upkeep.look()
    assert holder_of(run, "shard-1") == os.getpid()
    held.release()


def test_only_the_process_that_has_the_lock_open_holds_the_name(tmp_path: Path) -> None:
    held = hold_name(tmp_path, "shard-1")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert not is_holder(tmp_path, "shard-1", other.pid)
        held.path.unlink()
        assert not is_holder(tmp_path, "shard-1", other.pid)
        assert not is_holder(tmp_path, "shard-2", os.getpid())
        assert is_holder(tmp_path, "shard-1", os.getpid())
        other.kill()
        other.wait()
        assert not is_holder(tmp_path, "shard-1", other.pid)
    held.release()
    assert not is_holder(tmp_path, "shard-1", os.getpid())


def test_a_lock_is_forgotten_only_when_nobody_holds_it(tmp_path: Path) -> None:
    held = hold_name(tmp_path, "shard-1")
    forget_name(tmp_path, "shard-1")
    assert held.path.exists()
    (tmp_path / "shard-2.lock").touch()
    forget_name(tmp_path, "shard-2")
    forget_name(tmp_path, "shard-3")
    assert [path.name for path in tmp_path.iterdir()] == ["shard-1.lock"]
    held.release()
