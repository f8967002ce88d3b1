"""Memory that others may read, and nobody may cut off or write."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from roost.common.machine.shared_memory import SharedMemory, content_of, open_shared, read_shared


def test_what_is_written_is_read_and_lasts_as_long_as_its_process(tmp_path: Path) -> None:
    memory = SharedMemory(tmp_path / "figures", b"0" * 8)
    memory.map[2:4] = b"42"
    assert read_shared(memory.path) == b"00420000"
    opened = open_shared(memory.path)
    memory.map[0:1] = b"7"
    memory.close()
    assert read_shared(memory.path) == b"70420000", "until the process ends"
    path = memory.path
    del memory
    with pytest.raises(FileNotFoundError):
        read_shared(path)
    assert content_of(opened) == b"70420000", "and with whoever has it open"
    os.close(opened)


def write_into(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"x")
        file.flush()


def write_by_a_mapping(path: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 8) as mapping:
        mapping[0:1] = b"x"


@pytest.mark.parametrize(
    "attack",
    [
        lambda path: os.truncate(path, 0),
        lambda path: os.truncate(path, 1 << 16),
        lambda path: path.write_bytes(b"other"),  # as ``cp`` does
        lambda path: shutil.copyfile(sys.executable, path),
        write_into,
        write_by_a_mapping,
    ],
    ids=["cut off", "made longer", "written over", "copied over", "written into", "mapped"],
)
def test_nobody_changes_what_is_not_theirs(tmp_path: Path, attack: Callable[[Path], object]) -> None:
    """Of a mapped file the next access would have ended this process: SIGBUS."""
    memory = SharedMemory(tmp_path / "figures", b"content!")
    with pytest.raises(PermissionError):
        attack(memory.path)
    memory.map[7:8] = b"?"
    assert read_shared(memory.path) == b"content?"
    memory.close()


def test_the_same_by_another_process(tmp_path: Path) -> None:
    memory = SharedMemory(tmp_path / "figures", b"content!")
    assert subprocess.run(["truncate", "-s", "0", memory.path], capture_output=True).returncode == 1
    memory.map[7:8] = b"?"
    assert read_shared(memory.path) == b"content?"
    memory.close()


def test_a_link_is_put_back(tmp_path: Path) -> None:
    memory = SharedMemory(tmp_path / "figures", b"content!")
    assert not memory.restore()
    for attack in (Path.unlink, lambda path: (path.unlink(), path.write_bytes(b"other"))):
        attack(memory.path)
        assert memory.restore()
        assert read_shared(memory.path) == b"content!"
    assert [path.name for path in tmp_path.iterdir()] == ["figures"], "no leftover of the making"
    memory.path.unlink()
    memory.path.mkdir()
    with pytest.raises(IsADirectoryError):
        memory.restore()
    assert [path.name for path in tmp_path.iterdir()] == ["figures"]
    memory.close()


def test_readers_of_a_link_that_leads_elsewhere_do_not_wait(tmp_path: Path) -> None:
    """The number of a dead process may be another one's, and its descriptor a pipe."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "figures").symlink_to(tmp_path / "pipe")
    with pytest.raises(OSError, match="leads to something else"):
        read_shared(tmp_path / "figures")


def test_a_system_that_does_not_know_a_flag_is_asked_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.memfd_create

    def older(name: str, flags: int) -> int:
        if flags & 8:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(name, flags)

    monkeypatch.setattr(os, "memfd_create", older)
    memory = SharedMemory(tmp_path / "figures", b"content!")
    assert read_shared(memory.path) == b"content!"
    memory.close()
