"""The directory in one SQLite file: incarnations, compare-and-swap, and what becomes of files that are not ours."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from roost.common.cluster import cluster_map
from roost.common.cluster.cluster_map import ClusterMap, Member, MemberKind
from roost.common.cluster.directory_file import FILE_NAME, DirectoryFile
from roost.common.errors import DirectoryBusy, DirectoryError
from roost.common.ids import Incarnation
from tests.support.cluster import REPOSITORY
from tests.support.directories import enter, leave


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / FILE_NAME


@pytest.fixture
def one(path: Path) -> Iterator[DirectoryFile]:
    opened = DirectoryFile(path, initial_shards=2)
    yield opened
    opened.close()


@pytest.fixture
def other(one: DirectoryFile) -> Iterator[DirectoryFile]:
    """A second connection, as another process has it."""
    opened = DirectoryFile(one.path, initial_shards=77)
    yield opened
    opened.close()


@pytest.fixture
def file(one: DirectoryFile) -> Iterator[sqlite3.Connection]:
    """What any other program has of it."""
    with contextlib.closing(sqlite3.connect(one.path, isolation_level=None)) as opened:
        yield opened


def join(where: DirectoryFile, name: str = "shard-1", kind: MemberKind = MemberKind.SHARD) -> Member:
    return where.join(kind, name, os.getpid(), lambda incarnation: f"ipc://{incarnation}", ("chat-room",))


def test_a_directory_keeps_its_id_and_its_initial_shards(one: DirectoryFile, other: DirectoryFile) -> None:
    assert one.cluster_id == other.cluster_id
    assert 0 <= one.cluster_id < 2**63
    assert other.initial_shards == 2


def test_a_router_that_comes_first_does_not_decide_when_slots_are_assigned(path: Path) -> None:
    """It has no say in it: the first shard would get all slots."""
    with contextlib.closing(DirectoryFile(path)) as router:
        assert router.initial_shards == 1
        with contextlib.closing(DirectoryFile(path, initial_shards=3)):
            pass
        with contextlib.closing(DirectoryFile(path, initial_shards=5)), contextlib.closing(DirectoryFile(path)):
            assert router.initial_shards == 3, "the first who has a say decides"


def test_two_directories_are_two_clusters(one: DirectoryFile, tmp_path: Path) -> None:
    second = DirectoryFile(tmp_path / "elsewhere")
    assert second.cluster_id != one.cluster_id
    second.close()


def test_incarnations_never_come_twice(one: DirectoryFile, other: DirectoryFile, path: Path) -> None:
    given = [join(where).incarnation for where in (one, other, one, other)]
    one.begin_anew(1)
    one.close()
    other.close()
    reopened = DirectoryFile(path)
    given.append(join(reopened).incarnation)
    reopened.close()
    assert given == [1, 2, 3, 4, 5]


def test_the_endpoint_is_made_from_the_incarnation(one: DirectoryFile) -> None:
    join(one)
    member = join(one, "shard-2")
    assert member == Member("shard-2", MemberKind.SHARD, Incarnation(2), "ipc://2", ("chat-room",), os.getpid())


def test_incarnations_that_run_out_are_an_error(one: DirectoryFile, file: sqlite3.Connection) -> None:
    file.execute(f"UPDATE cluster SET last_incarnation = {0xFFFFFFFF - 1}")
    assert join(one).incarnation == 0xFFFFFFFF
    for _ in range(2):
        with pytest.raises(DirectoryError, match="all 4,294,967,295 incarnations"):
            join(one)


def test_of_two_proposals_of_one_version_the_first_is_accepted(one: DirectoryFile, other: DirectoryFile) -> None:
    current = one.map()
    first = cluster_map.with_member(current, join(one, "first"))
    second = cluster_map.with_member(current, join(other, "second"))
    assert one.propose(first)
    assert not other.propose(second)
    assert other.map() == one.map() == first


def test_a_version_that_skips_is_refused(one: DirectoryFile) -> None:
    assert not one.propose(ClusterMap(version=2))
    assert one.map().version == 0


def test_entering_starts_over_when_another_was_faster(one: DirectoryFile, other: DirectoryFile) -> None:
    class Interrupted(DirectoryFile):
        """Lets another member in between its look at the map and its proposal, once."""

        interrupt = True

        def map(self) -> ClusterMap:
            found = super().map()
            if self.interrupt:
                self.interrupt = False
                enter(other, join(other, "shard-2"))
            return found

    slow = Interrupted(one.path)
    entered = enter(slow, join(slow, "shard-1"))
    slow.close()
    assert {member.name for member in entered.shards} == {"shard-1", "shard-2"}
    assert entered.has_owners
    assert entered == one.map()


def test_entering_twice_changes_nothing(one: DirectoryFile) -> None:
    member = join(one)
    assert enter(one, member) == enter(one, member)


def test_a_name_of_the_other_kind_cannot_enter(one: DirectoryFile) -> None:
    enter(one, join(one, "x"))
    with pytest.raises(DirectoryError, match="router 'x' cannot enter"):
        enter(one, join(one, "x", MemberKind.ROUTER))


def test_routers_leave_and_owners_stay(one: DirectoryFile) -> None:
    router, shards = join(one, "r", MemberKind.ROUTER), [join(one, "shard-1"), join(one, "shard-2")]
    for member in (router, *shards):
        enter(one, member)
    assert leave(one, router.incarnation).routers == ()
    assert leave(one, router.incarnation).version == 4
    assert len(leave(one, shards[0].incarnation).shards) == 2


def test_beginning_anew_empties_the_map(one: DirectoryFile, other: DirectoryFile) -> None:
    enter(one, join(one, "shard-1"))
    one.begin_anew(1)
    assert other.map() == ClusterMap(version=2)
    assert enter(other, join(other, "shard-9")).has_owners


def test_changed_tells_of_own_and_of_others_writes(one: DirectoryFile, other: DirectoryFile) -> None:
    assert one.changed()
    assert not one.changed()
    enter(other, join(other))
    assert one.changed()
    assert not one.changed()
    leave(one, one.map().shards[0].incarnation)
    assert one.changed()
    assert not one.changed()


_CREATE_AND_ENTER = """
import json, os, sys
from pathlib import Path
from roost.common.cluster.cluster_map import MemberKind
from roost.common.cluster.directory_file import DirectoryFile
from tests.support.directories import enter
found = DirectoryFile(Path(sys.argv[1]), initial_shards=4)
given = []
for turn in range(10):
    member = found.join(MemberKind.SHARD, f"shard-{os.getpid()}", os.getpid(), str, ())
    enter(found, member)
    given.append(member.incarnation)
print(json.dumps([found.cluster_id, given]))
found.close()
"""


def test_several_processes_create_it_at_once_and_share_it(path: Path) -> None:
    with contextlib.ExitStack() as stack:
        children = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", _CREATE_AND_ENTER, str(path)],
                    cwd=REPOSITORY,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(4)
        ]
        told = [json.loads(child.communicate(timeout=30)[0]) for child in children]
    assert len({cluster_id for cluster_id, _ in told}) == 1
    assert sorted(number for _, given in told for number in given) == list(range(1, 41))
    found = DirectoryFile(path)
    last = found.map()
    found.close()
    assert last.version == 40
    assert {member.name for member in last.shards} == {f"shard-{child.pid}" for child in children}
    assert set(last.owners) == {given[-1] for _, given in told}


def test_nothing_is_left_beside_the_file(one: DirectoryFile, path: Path) -> None:
    enter(one, join(one))
    one.close()
    assert [entry.name for entry in path.parent.iterdir()] == [FILE_NAME]


# --- files that are not ours --------------------------------------------------------------------------------------


def refused(path: Path, why: str) -> None:
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(DirectoryError, match=why) as caught:
        DirectoryFile(path)
    assert str(path) in str(caught.value) or str(path.parent) in str(caught.value)
    if before is not None:
        assert path.read_bytes() == before


def test_garbage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "garbage"
    path.write_bytes(b"not a database, but longer than a header of one would be" * 100)
    refused(path, "file is not a database")


def test_another_programs_database_is_refused_and_kept(tmp_path: Path) -> None:
    for statement in ("PRAGMA application_id=5", "CREATE TABLE t (x)"):
        path = tmp_path / statement.split()[0]
        db = sqlite3.connect(path)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(statement)
        db.commit()
        db.close()
        refused(path, "another program")


def test_another_schema_is_refused(one: DirectoryFile, file: sqlite3.Connection, path: Path) -> None:
    file.execute("PRAGMA user_version=2")
    file.close()
    one.close()
    refused(path, "another version of roost")


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DirectoryError, match="cannot be made"):
        DirectoryFile(tmp_path / "file" / "data" / "directory.sqlite")


def test_a_broken_map_is_an_error(one: DirectoryFile, file: sqlite3.Connection) -> None:
    file.execute("UPDATE cluster SET map = '{}'")
    with pytest.raises(DirectoryError, match="cannot be read"):
        one.map()


def test_a_stuck_writer_is_an_error_not_a_hang(one: DirectoryFile, other: DirectoryFile) -> None:
    one._db.execute("BEGIN IMMEDIATE")
    other._db.execute("PRAGMA busy_timeout=50")
    with pytest.raises(DirectoryBusy, match="locked by another process"):
        join(other)
    assert not other._db.in_transaction
    assert other.map().version == 0, "readers do not wait for writers"
    one._db.execute("ROLLBACK")


def reads() -> tuple[int, int]:
    """System calls of this process that have read something, and bytes that came from a disk."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["syscr"]), int(lines["read_bytes"])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the system does not tell")
def test_looking_for_a_new_map_reads_no_file(one: DirectoryFile, other: DirectoryFile) -> None:
    """Each member looks up to a hundred times a second."""
    enter(other, join(other))
    assert one.changed()
    one.map()
    reads()
    nothing = reads()
    calls_for_the_measure = reads()[0] - nothing[0]
    before = reads()
    assert not any(one.changed() for _ in range(1000))
    assert reads()[0] - before[0] == calls_for_the_measure
    enter(other, join(other, "shard-2"))
    before = reads()
    assert one.changed()
    assert len(one.map().members) == 2
    assert reads()[1] == before[1], "what was just committed is in memory"


def test_a_directory_that_another_process_is_creating_is_no_stranger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its two marks appear together: whoever opens it must not see one from before and one from after."""
    path = tmp_path / "directory.sqlite"
    read = DirectoryFile._pragma
    creator = threading.Thread(target=lambda: DirectoryFile(path).close())
    main = threading.current_thread()

    def pragma(self: DirectoryFile, name: str) -> int:
        if threading.current_thread() is main and name == "user_version" and creator.ident is None:
            creator.start()
            creator.join(0.3)  # if it can be done before we go on, it is
        return read(self, name)

    monkeypatch.setattr(DirectoryFile, "_pragma", pragma)
    DirectoryFile(path).close()
    creator.join(5)
    assert not creator.is_alive()
