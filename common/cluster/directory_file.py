"""The file of a directory: SQLite in the data folder. Its calls block; ``sqlite_directory`` makes them on a thread.

The file is in WAL mode: readers never wait for writers. Its writes are durable before they count
(``synchronous=FULL``), as an incarnation must not come twice even after a power cut.

Somebody may remove that file under a cluster, or put another one in its place. Processes that have it open still see
the old one, and whoever opened it by its path would see, or make, another. So a write looks first whether the file is
still the one at the path, and fails with a sentence if it is not; nobody makes a directory while members live; and each
process looks once a second (``restore``): one of the same cluster that is not older is followed, and the supervisor,
who has the old one open, writes a missing one anew from that. The same holds for a file whose content was overwritten
or cut off in its place (``directory_damage``): the supervisor puts it aside, and writes it anew from what it knows.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import DirectoryBusy, DirectoryError
from ..ids import Incarnation
from ..machine.preallocation import keep_room
from ..machine.upkeep import is_file
from . import cluster_map
from .cluster_map import ClusterMap, Member, MemberKind
from .directory_damage import Stamp, damage, index_of, mend_index, sides_of, stamp_of, writing

FILE_NAME = "directory.sqlite"
BUSY_TIMEOUT_S = 5.0
"""Seconds that a writer waits for another one. Writes take milliseconds, so longer means that something is stuck."""
FILE_BYTES = 256 << 10
"""Bytes for which the file gets room when it is made; a map has some 30 kB."""
LOG_BYTES = 4_500_000
"""The same for its log, which SQLite begins anew at 1,000 pages: a member that comes back needs no other room."""
MAX_INCARNATION = 0xFFFFFFFF

_APPLICATION_ID = 0x726F6F73  # "roos": marks the file as ours
_SCHEMA_VERSION = 1
_LAST_INCARNATION, _VERSION, _MAP = 2, 4, 5  # columns, by number
_SKIPPED = 1_000
"""Incarnations that are left out when it is written anew from memory: some may have been given since that was read."""
_SCHEMA = """
CREATE TABLE cluster (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    cluster_id INTEGER NOT NULL,
    last_incarnation INTEGER NOT NULL,
    initial_shards INTEGER NOT NULL,
    map_version INTEGER NOT NULL,
    map TEXT NOT NULL
) STRICT
"""


def _gone(path: Path) -> str:
    return (
        f"the directory {path} is gone, and the cluster goes on with the map that it has: put the file back, or have a "
        "supervisor running (`roost up`), which writes it anew"
    )


def _sync(folder: Path) -> None:
    """The names in *folder* outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _damaged(path: Path, how: str) -> str:
    return (
        f"the directory {path} cannot be used, {how}: remove the file; for a cluster that runs, its supervisor "
        "(`roost up`) then writes it anew"
    )


def _strange(path: Path) -> str:
    return (
        f"another file is in the place of the directory {path}: put this cluster's file back, or remove the other one"
    )


class _Unusable(DirectoryError):
    """The file at the path is no directory, or not any more."""


class DirectoryFile:
    """A directory in one SQLite file, for the processes of one machine. Not to be shared between threads."""

    def __init__(
        self, path: Path, *, initial_shards: int = 0, create: bool = True, cluster_id: int | None = None
    ) -> None:
        """Open the directory at *path*, or create it.

        Args:
            path: The file, usually ``<data>/directory.sqlite``; its folder is made if missing.
            initial_shards: How many shards must have entered before slots are assigned, if the caller has a say in
                that: the first who has decides. A router, which may be the first to come, has none (0).
            create: Whether a missing one is made.
            cluster_id: Of the cluster whose directory it must be; ``None``: of any.

        Raises:
            DirectoryError: The file is something else, of a newer roost, or cannot be opened; it is missing and is not
                to be made; it is another cluster's.
        """
        self.path = path
        self._file = 0, 0
        self._seen: int | None = None
        self._wrote = False
        self._known: tuple[Any, ...] = ()
        self._stamp: Stamp = ()
        self._sides: Stamp = ()
        self._index = 0, 0
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise DirectoryError(f"the data folder {path.parent} cannot be made: {error.strerror}") from error
        self._creates = create
        self._open()
        try:
            if cluster_id not in (None, self._cluster_id):
                raise DirectoryError(_strange(path))
            if initial_shards:
                with self._errors():
                    self._decide(initial_shards)
        except BaseException:
            self._db.close()
            raise

    def _open(self) -> None:
        path = self.path
        if not self._creates and not path.exists():
            raise DirectoryError(_gone(path))
        if self._creates:
            # Not in a file that is there: closing another descriptor of it would drop this process's locks.
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
                keep_room(descriptor, FILE_BYTES)
                os.close(descriptor)
        with self._errors():
            # isolation_level=None: transactions are written out below.
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={'rwc' if self._creates else 'rw'}",
                uri=True,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
            )
        try:
            with self._errors():
                self._prepare()
                self._cluster_id = int(self._read()[1])
            info = path.stat()
            self._file = info.st_dev, info.st_ino
            self._sides, self._index = sides_of(path), index_of(path)
        except OSError as error:
            self._db.close()
            raise DirectoryError(_gone(path)) from error
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        # Both as of one moment: another process may be creating the directory just now.
        self._db.execute("BEGIN")
        application, version = self._pragma("application_id"), self._pragma("user_version")
        self._db.execute("COMMIT")
        if (application, version) == (0, 0):
            if not self._creates:
                raise _Unusable(_damaged(self.path, "its content is gone"))
            self._create()
        elif application != _APPLICATION_ID:
            raise _Unusable(f"{self.path} is a database of another program; move it away or use another --data")
        elif version != _SCHEMA_VERSION:
            raise DirectoryError(
                f"{self.path} was written by another version of roost (schema {version}, this one reads "
                f"{_SCHEMA_VERSION})"
            )
        self._db.execute("PRAGMA synchronous=FULL")

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    def _decide(self, initial_shards: int) -> None:
        if self._db.execute("SELECT 1 FROM cluster WHERE initial_shards = 0").fetchone():
            with self._write():
                self._db.execute("UPDATE cluster SET initial_shards = ? WHERE initial_shards = 0", (initial_shards,))

    def _create(self) -> None:
        """Create the tables; several processes may try at once, and one of them does it."""
        self._use_wal()
        with self._write():
            if self._pragma("user_version") == _SCHEMA_VERSION:
                return
            if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise DirectoryError(
                    f"{self.path} is a database of another program; move it away or use another --data"
                )
            self._db.execute(_SCHEMA)
            # One bit less than SQLite's integers have, so that it is positive there and in a u64 on the wire.
            self._db.execute(
                "INSERT INTO cluster VALUES (1, ?, 0, 0, 0, ?)",
                (secrets.randbits(63), ClusterMap().to_json()),
            )
            self._db.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")

    def _use_wal(self) -> None:
        """Switch to WAL. This needs the file alone, and SQLite does not call its busy handler for it: try again."""
        give_up_at = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                    raise
                time.sleep(0.005)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        self._mend()
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                raise DirectoryBusy(f"the directory {self.path} is locked by another process") from error
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code == sqlite3.SQLITE_NOTADB and self._creates and not self._known:
                raise _Unusable(
                    f"{self.path} is no directory of a cluster ({error}): move it away or use another --data"
                ) from error
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise _Unusable(_damaged(self.path, f"its content is damaged ({error})")) from error
            raise DirectoryError(f"the directory {self.path} cannot be used: {error}") from error

    def _mend(self) -> None:
        with contextlib.suppress(OSError):  # removed just now: then nobody can cut it off any more
            self._index = mend_index(self.path, self._index)

    @contextlib.contextmanager
    def _write(self) -> Iterator[None]:
        """A write transaction: all or nothing, waiting for another writer.

        Raises:
            DirectoryError: The file is not the one at the path any more: what was written would be lost.
        """
        if not writing.acquire(timeout=BUSY_TIMEOUT_S):
            raise DirectoryBusy(f"the directory {self.path} is locked by another thread")
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                # Behind BEGIN: whoever writes the directory anew holds the old one meanwhile.
                self._check_file()
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # A full disk at COMMIT may have rolled back by itself.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        finally:
            writing.release()
        self._wrote = True

    @property
    def cluster_id(self) -> int:
        return self._cluster_id

    @property
    def initial_shards(self) -> int:
        with self._errors():
            return max(1, int(self._db.execute("SELECT initial_shards FROM cluster").fetchone()[0]))

    def join(
        self,
        kind: MemberKind,
        name: str,
        pid: int,
        endpoint_of: Callable[[Incarnation], str],
        namespaces: tuple[str, ...],
        seat: str = "",
    ) -> Member:
        """As ``Directory.join``."""
        with self._errors(), self._write():
            row = self._db.execute(
                "UPDATE cluster SET last_incarnation = last_incarnation + 1 RETURNING last_incarnation"
            ).fetchone()
            incarnation = Incarnation(int(row[0]))
            if incarnation > MAX_INCARNATION:
                raise DirectoryError(f"the directory {self.path} has given out all {MAX_INCARNATION:,} incarnations")
        self._keep_room()
        return Member(name, kind, incarnation, endpoint_of(incarnation), namespaces, pid, seat=seat)

    def map(self) -> ClusterMap:
        """The current map."""
        with self._errors():
            return ClusterMap.from_json(self._read()[_MAP])

    def _read(self) -> tuple[Any, ...]:
        """All that there is, which is kept for the case that it is lost."""
        row: tuple[Any, ...] | None = self._db.execute("SELECT * FROM cluster").fetchone()
        if row is None:
            raise DirectoryError(_damaged(self.path, "it is empty"))
        self._known = row
        return row

    def propose(self, new: ClusterMap) -> bool:
        """As ``Directory.propose``."""
        with self._errors(), self._write():
            done = self._db.execute(
                "UPDATE cluster SET map_version = ?, map = ? WHERE map_version = ?",
                (new.version, new.to_json(), new.version - 1),
            )
            return done.rowcount == 1

    def begin_anew(self, initial_shards: int) -> None:
        """Empty the map and wait for *initial_shards* shards again: for a start of the whole cluster.

        Only for whoever knows that no member lives. Incarnations, map versions and the cluster id go on.
        """
        with self._errors(), self._write():
            row = self._db.execute("SELECT map FROM cluster").fetchone()
            new = cluster_map.emptied(ClusterMap.from_json(row[0]))
            self._db.execute(
                "UPDATE cluster SET initial_shards = ?, map_version = ?, map = ?",
                (initial_shards, new.version, new.to_json()),
            )

    def _keep_room(self) -> None:
        """Take room for the log, so that members can come back when the disk has become full."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self.path.with_name(f"{self.path.name}-wal"), os.O_RDWR | os.O_CLOEXEC)
            keep_room(descriptor, LOG_BYTES)
            os.close(descriptor)

    # --- a file that was removed or replaced ---

    def _is_there(self) -> bool:
        return is_file(self.path, *self._file)

    def _check_file(self) -> None:
        # One that is just being made has no file that could be another one.
        if self._file != (0, 0) and not self._is_there():
            raise DirectoryError(_gone(self.path) if not self.path.exists() else _strange(self.path))
        found = self._damage()
        if found:
            raise DirectoryError(_damaged(self.path, found))

    def _damage(self) -> str:
        """What has become of the content, if it is not what is known here; see ``directory_damage``."""
        if not self._known:
            return ""
        if sides_of(self.path) != self._sides:
            return "its log, or the index of that, was removed or replaced"
        stamp = stamp_of(self.path)
        if stamp == self._stamp:
            return ""
        try:
            found = damage(self.path, self._cluster_id, (self._known[_VERSION], self._known[_LAST_INCARNATION]))
        except DirectoryError:
            return ""  # another look comes
        if not found:
            self._stamp = stamp
        return found

    def restore(self, *, rebuild: bool = False) -> str:
        """Look whether the file at the path is the one that is open here, and follow it if another one is.

        Args:
            rebuild: Whether a missing one, or an older copy, is written anew from the one that is open. Only for the
                supervisor, of which there is one.

        Returns:
            What was done, in a sentence; empty when all is as it was.

        Raises:
            DirectoryError: Something else is there, or nothing, and it stays so: no change of the cluster is possible.
        """
        self._mend()
        if self._is_there():
            found = self._damage()
            if not found:
                return ""
            if not rebuild:
                raise DirectoryError(_damaged(self.path, found))
            aside = self.path.with_name(f"{self.path.name}.damaged")
            self._rebuild(aside)
            return f"{self.path}: {found}; it was written anew, as it was, and what was there is in {aside.name}"
        if self.path.exists():
            try:
                fresh = DirectoryFile(self.path, create=False, cluster_id=self._cluster_id)
            except _Unusable as error:
                raise DirectoryError(_strange(self.path)) from error
            with contextlib.ExitStack() as stack:
                stack.callback(fresh.close)
                if fresh._age() >= self._age():
                    stack.pop_all()
                    old, self._db, self._file, self._seen = self._db, fresh._db, fresh._file, None
                    self._sides, self._known, self._stamp = fresh._sides, fresh._known, fresh._stamp
                    old.close()
                    return f"another copy of {self.path} was put in its place, and is used from now on"
            if not rebuild:
                raise DirectoryError(f"an older copy of {self.path} is in its place: put back the latest one")
            what = f"an older copy of {self.path} was put in its place: it was written anew, as it was"
        elif rebuild:
            what = f"{self.path} was removed: it was written anew, as it was"
        else:
            raise DirectoryError(_gone(self.path))
        self._rebuild()
        return what

    def _age(self) -> tuple[int, int]:
        with self._errors():
            row = self._db.execute("SELECT map_version, last_incarnation FROM cluster").fetchone()
        return int(row[0]), int(row[1])

    def _rebuild(self, aside: Path | None = None) -> None:
        """Write what is open here into a new file at the path, and go on with that.

        Args:
            aside: Where the file goes that is there, and whose content is not to be relied on.
        """
        fresh = self.path.with_name(f"{self.path.name}.new")
        with self._errors():
            with contextlib.suppress(sqlite3.Error) if aside else contextlib.nullcontext():
                self._db.execute("BEGIN IMMEDIATE")  # nobody writes into the old one from here on (``_check_file``)
            try:
                fresh.unlink(missing_ok=True)
                with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as copy:
                    copy.execute("PRAGMA synchronous=FULL")
                    copy.execute("BEGIN IMMEDIATE")
                    copy.execute(_SCHEMA)
                    row = self._known_now() if aside else self._read()
                    copy.execute(f"INSERT INTO cluster VALUES ({', '.join('?' * len(row))})", row)
                    copy.execute(f"PRAGMA application_id={_APPLICATION_ID}")
                    copy.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")
                    copy.execute("COMMIT")
                    copy.execute("PRAGMA journal_mode=WAL")
                if aside:
                    self.path.replace(aside)
                # A log of the old one, if it was left, would be played into the new one.
                for suffix in ("-wal", "-shm"):
                    self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
                fresh.replace(self.path)
                _sync(self.path.parent)
            except OSError as error:
                raise DirectoryError(f"the directory {self.path} cannot be written anew: {error.strerror}") from error
            finally:
                with contextlib.suppress(sqlite3.Error) if aside else contextlib.nullcontext():
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
        old = self._db
        self._open()
        self._keep_room()
        self._seen = None
        old.close()

    def _known_now(self) -> tuple[object, ...]:
        """What was read last, with room for incarnations that may have been given since."""
        row = list(self._known)
        row[_LAST_INCARNATION] = min(self._known[_LAST_INCARNATION] + _SKIPPED, MAX_INCARNATION)
        return tuple(row)

    def changed(self) -> bool:
        """Whether there may be a new map since the last call. A look costs some microseconds: it reads mapped memory
        only, the index of SQLite's log."""
        # data_version tells of other connections' commits only; _wrote of our own.
        with self._errors():
            version = self._pragma("data_version")
        changed = self._wrote or version != self._seen
        self._seen, self._wrote = version, False
        return changed

    def close(self) -> None:
        """Close the file. The last process to do so also removes SQLite's side files."""
        with contextlib.suppress(DirectoryBusy):
            self._mend()
        self._db.close()
