"""The directory's file is removed or replaced under those who have it open."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from roost.common.cluster.cluster_map import Member, MemberKind
from roost.common.cluster.directory_file import FILE_NAME, DirectoryFile
from roost.common.errors import DirectoryError
from tests.support.cluster import REPOSITORY
from tests.support.directories import enter


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


@pytest.fixture
def supervisors(path: Path) -> Iterator[DirectoryFile]:
    with contextlib.closing(DirectoryFile(path, initial_shards=1)) as opened:
        yield opened


@pytest.fixture
def members(path: Path, supervisors: DirectoryFile) -> Iterator[DirectoryFile]:
    with contextlib.closing(DirectoryFile(path, create=False, cluster_id=supervisors.cluster_id)) as opened:
        yield opened


def join(where: DirectoryFile, name: str = "shard-1") -> Member:
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
    path: Path, supervisors: DirectoryFile, members: DirectoryFile, suffixes: tuple[str, ...]
) -> None:
    first = join(supervisors)
    delete(path, *suffixes)
    with pytest.raises(DirectoryError, match="is gone, and the cluster goes on"):
        join(members, "shard-2")
    with pytest.raises(DirectoryError, match="is gone"):
        DirectoryFile(path, create=False)
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
    with contextlib.closing(DirectoryFile(path, create=False)) as later:
        assert later.cluster_id == supervisors.cluster_id
        assert later.map().members == supervisors.map().members


def test_nobody_makes_one_that_is_removed_between_the_look_and_the_opening(
    path: Path, supervisors: DirectoryFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty one in its place would be damage that its supervisor does not touch."""
    looks = Path.exists

    def removed_after(self: Path) -> bool:
        found = looks(self)
        if self == path:
            delete(path)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", removed_after)
        with pytest.raises(DirectoryError, match="cannot be used: unable to open"):
            DirectoryFile(path, create=False)
    assert not path.exists()
    assert "was removed: it was written anew" in supervisors.restore(rebuild=True)


def test_the_log_of_the_new_one_outlives_the_last_who_had_the_old_one_open(
    path: Path, supervisors: DirectoryFile, members: DirectoryFile
) -> None:
    delete(path)
    supervisors.restore(rebuild=True)
    member = join(supervisors)
    members.close()  # the last one that has the removed file open
    with contextlib.closing(DirectoryFile(path, create=False)) as later:
        assert set(later.map().members) == {member.incarnation}


def test_a_copy_that_is_put_back_is_followed(path: Path, supervisors: DirectoryFile, members: DirectoryFile) -> None:
    member = join(supervisors)
    copy(path, "copy")
    put_back(path, "copy")
    with pytest.raises(DirectoryError, match="another file is in the place"):
        join(supervisors, "shard-2")
    assert "is used from now on" in supervisors.restore(rebuild=True)
    assert "is used from now on" in members.restore()
    second = join(members, "shard-2")
    assert set(supervisors.map().members) == {member.incarnation, second.incarnation}


def test_an_older_copy_gives_way(path: Path, supervisors: DirectoryFile, members: DirectoryFile) -> None:
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


def test_what_is_no_directory_at_all_is_left_alone(
    path: Path, tmp_path: Path, supervisors: DirectoryFile, members: DirectoryFile
) -> None:
    member = join(supervisors)
    content = b"somebody's only copy of something else" * 100
    delete(path)
    (tmp_path / "other").write_bytes(content)
    (tmp_path / "other").rename(path)
    for where in (supervisors, members):
        with pytest.raises(DirectoryError, match=r"another file is in the place .* remove the other one"):
            where.restore(rebuild=where is supervisors)
        with pytest.raises(DirectoryError, match="another file is in the place"):
            join(where, "shard-2")
    with pytest.raises(DirectoryError, match="remove the file; for a cluster that runs, its supervisor"):
        DirectoryFile(path, create=False)
    with pytest.raises(DirectoryError, match=r"is no directory of a cluster .*move it away or use another --data"):
        DirectoryFile(path)
    assert path.read_bytes() == content
    path.unlink()
    supervisors.restore(rebuild=True)
    members.restore()
    assert set(members.map().members) == {member.incarnation}


CUT_OFF = """
import contextlib, os, sys
from pathlib import Path
from roost.common.cluster.cluster_map import MemberKind
from roost.common.cluster.directory_file import DirectoryFile
from tests.support.directories import enter

path = Path(sys.argv[1])
index = path.with_name(path.name + "-shm")

def join(directory, name):
    member = directory.join(MemberKind.SHARD, name, os.getpid(), lambda incarnation: f"ipc://{incarnation}", ())
    enter(directory, member)
    return member.incarnation

with contextlib.closing(DirectoryFile(path, initial_shards=1)) as one:
    with contextlib.closing(DirectoryFile(path, create=False)) as other:
        joined = [join(one, "shard-1")]
        for step in ("changed", "map", "join", "restore", "rebuild", "close"):
            for length in (0, 1, 4096):
                os.truncate(index, length)
                if step == "join":
                    joined.append(join(other, f"shard-{len(joined) + 1}"))
                elif step == "rebuild":
                    assert one.restore(rebuild=True) == "", "it is mended, and nothing is lost"
                elif step != "close":
                    getattr(other, step)()
                assert list(one.map().members) == joined
                assert list(other.map().members) == joined
        os.truncate(index, 0)
    os.truncate(index, 0)
with contextlib.closing(DirectoryFile(path, create=False)) as later:
    assert list(later.map().members) == joined
print("all of it")
"""


def test_whoever_looks_into_an_index_that_was_cut_off_lives(path: Path) -> None:
    """SQLite has it mapped: the system ended all processes that had the directory open (SIGBUS)."""
    done = subprocess.run(
        [sys.executable, "-c", CUT_OFF, str(path)], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "all of it\n"), done.stderr


def test_the_directory_of_another_cluster_is_left_alone(
    path: Path, tmp_path: Path, supervisors: DirectoryFile, members: DirectoryFile
) -> None:
    member = join(supervisors)
    with contextlib.closing(DirectoryFile(tmp_path / "other", initial_shards=1)) as other:
        other_id = other.cluster_id
    delete(path)
    (tmp_path / "other").rename(path)
    for where in (supervisors, members):
        with pytest.raises(DirectoryError, match="another file is in the place"):
            where.restore(rebuild=where is supervisors)
        with pytest.raises(DirectoryError, match="another file is in the place"):
            join(where, "shard-2")
    with contextlib.closing(DirectoryFile(path, create=False)) as found:
        assert found.cluster_id == other_id
    path.unlink()
    supervisors.restore(rebuild=True)
    members.restore()
    assert set(members.map().members) == {member.incarnation}


# --- content that is overwritten in its place ---------------------------------------------------------------------


def overwrite(path: Path, how: str, tmp_path: Path) -> None:
    """Change the content of the file, or of its log, and keep the files."""
    log = path.with_name(f"{path.name}-wal")
    if how == "cut off":
        os.truncate(path, 0)
    elif how == "its log cut off":
        os.truncate(log, 0)
    elif how == "its log removed":
        log.unlink()
    elif how == "its index removed":
        path.with_name(f"{path.name}-shm").unlink()
    elif how == "garbage":
        for each in (path, log):
            each.write_bytes(b"nonsense" * 8_192)
    elif how == "another cluster's":
        with contextlib.closing(DirectoryFile(tmp_path / "other" / FILE_NAME, initial_shards=1)):
            pass
        for suffix in ("", "-wal"):
            there = path.with_name(path.name + suffix)
            copy = (tmp_path / "other" / FILE_NAME).with_name(FILE_NAME + suffix)
            there.write_bytes(copy.read_bytes() if copy.exists() else b"")
    elif how == "an older copy":
        for suffix in ("", "-wal"):
            there = path.with_name(path.name + suffix)
            there.write_bytes((tmp_path / "older" / there.name).read_bytes())


@pytest.mark.parametrize(
    "how",
    [
        "cut off",
        "its log cut off",
        "its log removed",
        "its index removed",
        "garbage",
        "another cluster's",
        "an older copy",
    ],
)
def test_content_that_is_overwritten_in_its_place_is_written_anew(
    path: Path, supervisors: DirectoryFile, members: DirectoryFile, tmp_path: Path, how: str
) -> None:
    older = tmp_path / "older"
    older.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(path.with_name(path.name + suffix), older)
    first = join(members)
    supervisors.map(), members.map()  # as those who watch it have
    assert supervisors.restore(rebuild=True) == ""
    overwrite(path, how, tmp_path)
    with pytest.raises(DirectoryError, match=r"cannot be used|is locked"):
        join(members, "shard-2")
    with pytest.raises(DirectoryError, match="remove the file; for a cluster that runs"):
        members.restore()
    assert "it was written anew, as it was, and what was there is in directory.sqlite.damaged" in supervisors.restore(
        rebuild=True
    )
    assert supervisors.restore(rebuild=True) == ""
    assert "is used from now on" in members.restore()
    second = join(members, "shard-2")
    assert second.incarnation > first.incarnation
    with contextlib.closing(DirectoryFile(path, create=False, cluster_id=supervisors.cluster_id)) as later:
        assert set(later.map().members) == {first.incarnation, second.incarnation}
    assert supervisors.restore(rebuild=True) == "", "what others write is no damage"
    assert members.restore() == ""


def test_a_damaged_directory_of_no_cluster_that_runs_is_refused_with_what_to_do(path: Path) -> None:
    DirectoryFile(path, initial_shards=1).close()
    path.write_bytes(b"nonsense" * 8_192)
    with pytest.raises(DirectoryError, match=r"is no directory of a cluster .*move it away or use another --data"):
        DirectoryFile(path)


def test_a_file_that_cannot_be_opened_now_is_no_damaged_one(
    path: Path, supervisors: DirectoryFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects' code, or clients, may have every descriptor."""
    connect = sqlite3.connect
    join(supervisors)
    monkeypatch.setattr(sqlite3, "connect", lambda *_, **__: connect(path.parent / "nowhere" / FILE_NAME))
    assert supervisors.restore(rebuild=True) == ""
    monkeypatch.undo()
    assert not path.with_name(f"{FILE_NAME}.damaged").exists()
