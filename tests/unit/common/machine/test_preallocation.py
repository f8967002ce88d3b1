"""A start on a full disk: what it writes has its room already."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from roost.common.cluster.cluster_map import MemberKind
from roost.common.cluster.directory_file import FILE_BYTES, FILE_NAME, LOG_BYTES, DirectoryFile
from roost.common.machine.preallocation import keep_room
from roost.common.runtime.startup import hold_name, holder_of


def room(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_room_changes_neither_what_a_file_holds_nor_its_length(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    with path.open("r+b") as file:
        keep_room(file.fileno(), 1 << 20)
    assert path.read_bytes() == b"content"
    assert room(path) >= 1 << 20
    keep_room(-1, 1)  # nothing happens


def test_a_directory_and_its_log_have_room_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    with contextlib.closing(DirectoryFile(path)) as directory:
        directory.join(MemberKind.ROUTER, "router-1", 1, lambda _: "", ())
        assert room(path) >= FILE_BYTES
        assert room(tmp_path / f"{FILE_NAME}-wal") >= LOG_BYTES
        for suffix in ("", "-wal", "-shm"):
            (tmp_path / f"{FILE_NAME}{suffix}").unlink()
        directory.restore(rebuild=True)
        assert room(tmp_path / f"{FILE_NAME}-wal") >= LOG_BYTES


def test_a_lock_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "shard-1.lock"
    left = path.write_text(f"4194304             {os.path.realpath(tmp_path)}")
    held = hold_name(tmp_path, "shard-1")
    assert path.stat().st_size == left
    assert holder_of(tmp_path, "shard-1") == os.getpid()
    held.release()
