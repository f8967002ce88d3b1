"""The directory's file is removed or replaced under those who have it open."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from roost.common.cluster_map import Member, MemberKind
from roost.common.directory import FILE_NAME, SqliteDirectory, enter
from roost.common.errors import DirectoryBusy, DirectoryError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


@pytest.fixture
def supervisors(path: Path) -> Iterator[SqliteDirectory]:
    with contextlib.closing(SqliteDirectory(path, initial_shards=1)) as opened:
        yield opened


@pytest.fixture
def members(path: Path, supervisors: SqliteDirectory) -> Iterator[SqliteDirectory]:
    with contextlib.closing(SqliteDirectory(path, create=False, cluster_id=supervisors.cluster_id)) as opened:
        yield opened


def join(where: SqliteDirectory, name: str = "shard-1") -> Member:
    member = where.join(MemberKind.SHARD, name, os.getpid(), lambda incarnation: f"ipc://{incarnation}", ("room",))
    enter(where, member)
    return member


def delete(path: Path, *suffixes: str) -> None:
    for suffix in suffixes or ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()


def copy(path: Path, to: str) -> None:
    for suffix in ("", "-wal", "-shm"):
        shutil.copy(path.with_name(path.name + suffix), path.with_name(to + suffix))


def put_back(path: Path, of: str) -> None:
    delete(path)
    for suffix in ("", "-wal", "-shm"):
        path.with_name(of + suffix).rename(path.with_name(path.name + suffix))


@pytest.mark.parametrize("suffixes", [(), ("",)], ids=["all", "without its log"])
def test_a_directory_that_was_removed_is_written_anew(
    path: Path, supervisors: SqliteDirectory, members: SqliteDirectory, suffixes: tuple[str, ...]
) -> None:
    first = join(supervisors)
    delete(path, *suffixes)
    with pytest.raises(DirectoryError, match="is gone, and the cluster goes on"):
        join(members, "shard-2")
    with pytest.raises(DirectoryError, match="is gone"):
        SqliteDirectory(path, create=False)
    with pytest.raises(DirectoryError, match="is gone"):
        members.restore()
    assert members.map().members == {first.incarnation: first}, "what is known is known"
    assert not path.exists(), "nobody has made another one"
    assert "was removed: it was written anew" in supervisors.restore(rebuild=True)
    assert supervisors.restore(rebuild=True) == ""
    assert "is used from now on" in members.restore()
    second = join(members, "shard-2")
    assert second.incarnation > first.incarnation
    assert supervisors.changed()
    assert set(supervisors.map().members) == {first.incarnation, second.incarnation}
    with contextlib.closing(SqliteDirectory(path, create=False)) as later:
        assert later.cluster_id == supervisors.cluster_id
        assert later.map().members == supervisors.map().members


def test_the_log_of_the_new_one_outlives_the_last_who_had_the_old_one_open(
    path: Path, supervisors: SqliteDirectory, members: SqliteDirectory
) -> None:
    delete(path)
    supervisors.restore(rebuild=True)
    member = join(supervisors)
    members.close()  # the last one that has the removed file open
    with contextlib.closing(SqliteDirectory(path, create=False)) as later:
        assert set(later.map().members) == {member.incarnation}


def test_a_copy_that_is_put_back_is_followed(
    path: Path, supervisors: SqliteDirectory, members: SqliteDirectory
) -> None:
    member = join(supervisors)
    copy(path, "copy")
    put_back(path, "copy")
    with pytest.raises(DirectoryError, match="another file is in the place"):
        join(supervisors, "shard-2")
    assert "is used from now on" in supervisors.restore(rebuild=True)
    assert "is used from now on" in members.restore()
    second = join(members, "shard-2")
    assert set(supervisors.map().members) == {member.incarnation, second.incarnation}


def test_an_older_copy_gives_way(path: Path, supervisors: SqliteDirectory, members: SqliteDirectory) -> None:
    first = join(supervisors)
    copy(path, "copy")
    second = join(supervisors, "shard-2")
    put_back(path, "copy")
    with pytest.raises(DirectoryError, match="older copy"):
        members.restore()
    assert "older copy" in supervisors.restore(rebuild=True)
    members.restore()
    assert set(members.map().members) == {first.incarnation, second.incarnation}
    assert join(members, "shard-3").incarnation > second.incarnation, "none is given twice"


def test_the_directory_of_another_cluster_is_left_alone(
    path: Path, tmp_path: Path, supervisors: SqliteDirectory, members: SqliteDirectory
) -> None:
    member = join(supervisors)
    with contextlib.closing(SqliteDirectory(tmp_path / "other", initial_shards=1)) as other:
        other_id = other.cluster_id
    delete(path)
    (tmp_path / "other").rename(path)
    for where in (supervisors, members):
        with pytest.raises(DirectoryError, match="another file is in the place"):
            where.restore(rebuild=where is supervisors)
        with pytest.raises(DirectoryError, match="another file is in the place"):
            join(where, "shard-2")
    with contextlib.closing(SqliteDirectory(path, create=False)) as found:
        assert found.cluster_id == other_id
    path.unlink()
    supervisors.restore(rebuild=True)
    members.restore()
    assert set(members.map().members) == {member.incarnation}


def test_something_else_in_its_place_is_left_alone(path: Path, supervisors: SqliteDirectory) -> None:
    delete(path)
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(DirectoryError, match="cannot be used"):
        supervisors.restore(rebuild=True)
    assert path.read_bytes().startswith(b"no database")


def test_whoever_does_not_wait_is_told_that_another_one_writes(path: Path, supervisors: SqliteDirectory) -> None:
    supervisors.wait_for_writers(0.0)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DirectoryBusy, match="locked by another process"):
            join(supervisors)
        other.execute("ROLLBACK")
    join(supervisors)
