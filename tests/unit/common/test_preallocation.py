"""A start on a full disk: what it writes has its room already."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from roost.common import counters as counters_module
from roost.common import last_words as last_words_module
from roost.common.cluster_map import MemberKind
from roost.common.counters import CounterFile, Counters, gauge, read_counters
from roost.common.directory import FILE_BYTES, FILE_NAME, LOG_BYTES, SqliteDirectory
from roost.common.ids import Incarnation
from roost.common.last_words import LastWords, last_words_path, read_last_words
from roost.common.preallocation import keep_room, write_over
from roost.common.startup import hold_name, holder_of

FULL = OSError(errno.ENOSPC, "No space left on device")


class Figures(Counters):
    """One figure."""

    clients: int = gauge("Clients")


def full(*_: Any, **__: Any) -> Any:
    raise FULL


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
    with contextlib.closing(SqliteDirectory(path)) as directory:
        directory.join(MemberKind.ROUTER, "router-1", 1, lambda _: "", ())
        assert room(path) >= FILE_BYTES
        assert room(tmp_path / f"{FILE_NAME}-wal") >= LOG_BYTES
        for suffix in ("", "-wal", "-shm"):
            (tmp_path / f"{FILE_NAME}{suffix}").unlink()
        directory.restore(rebuild=True)
        assert room(tmp_path / f"{FILE_NAME}-wal") >= LOG_BYTES


def test_counters_go_over_those_of_the_last_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, figures = tmp_path / "shard-1.counters", Figures()
    figures.clients = 7
    CounterFile(path, figures).close()
    monkeypatch.setattr(counters_module, "os", _Os())
    figures.clients = 3
    file = CounterFile(path, figures)
    assert read_counters(path).values["clients"] == 0, "not published yet"
    file.publish()
    assert read_counters(path).values["clients"] == 3
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    file.close()
    path.unlink()
    with pytest.raises(OSError, match="No space left"):
        CounterFile(path, figures)


class _Os:
    """Nothing can be put in its place: the disk is full."""

    replace = staticmethod(full)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def test_last_words_go_over_the_oldest_that_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (9, 10):
        LastWords(last_words_path(tmp_path, "shard-1", Incarnation(number))).close()
    (tmp_path / "shard-1-2-3.running").touch()  # another shard's
    real = os.open

    def no_room(path: Any, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            raise FULL
        return real(path, flags, mode)

    monkeypatch.setattr(last_words_module.os, "open", no_room)
    LastWords(last_words_path(tmp_path, "shard-1", Incarnation(11))).close()
    assert {path.name for path in tmp_path.iterdir()} == {
        "shard-1-10.running",
        "shard-1-11.running",
        "shard-1-2-3.running",
    }
    assert read_last_words(last_words_path(tmp_path, "shard-1", Incarnation(11))) is not None


def test_a_lock_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "shard-1.lock"
    left = path.write_text(f"4194304             {os.path.realpath(tmp_path)}")
    held = hold_name(tmp_path, "shard-1")
    assert path.stat().st_size == left
    assert holder_of(tmp_path, "shard-1") == os.getpid()
    held.release()


def test_only_a_full_disk_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1234")
    with pytest.raises(PermissionError):
        write_over(tmp_path / "file", b"5678", PermissionError(errno.EACCES, "no"))
    for name, content in (("file", b"56789"), ("none", b"5678")):
        with pytest.raises(OSError, match="No space left"):
            write_over(tmp_path / name, content, FULL)
    assert (tmp_path / "file").read_bytes() == b"1234"
