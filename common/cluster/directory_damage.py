"""What has become of the directory's content, as a process sees it that opens the file now.

A backup that is copied over the file (``cp``), or a file that is cut off, keeps the file's identity. Processes that
have it open may not notice for a long time: SQLite has its pages in memory and in its log. Whoever comes next opens
something else. So who has it open looks whether size or time of the file or of its log have changed, and if they have,
reads what a newcomer would read. That costs about a millisecond, after each change of the map at most once a second.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from ..errors import DirectoryBusy, DirectoryError

log = logging.getLogger("roost.directory")

Age = tuple[int, int]
"""Version of the map, and the last incarnation given."""
Stamp = tuple[tuple[int, int] | None, ...]
"""Two numbers of each of some files; ``None`` for one that is not there."""

INDEX_HEAD_BYTES = 136
"""Bytes with which the index of a log begins, by which SQLite sees whether the rest holds (its file format)."""

WRITE_LOCK_AT = 120
"""The byte of that file which is locked while somebody writes into the log."""

writing = threading.Lock()
"""Held by a thread of this process while it writes: processes' locks do not keep threads from each other."""
_open: dict[tuple[int, int], int] = {}

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_IOERR_SHORT_READ)
"""What SQLite says of content that is not what it was: the third for a table that is missing."""


def stamp_of(path: Path) -> Stamp:
    """Size and time of the file and of its log."""
    return tuple(found and (found.st_size, found.st_mtime_ns) for found in _stat(path, "", "-wal"))


def sides_of(path: Path) -> Stamp:
    """Which files its log and the index of that are. They stay the same as long as anybody has the directory open."""
    return tuple(found and (found.st_dev, found.st_ino) for found in _stat(path, "-wal", "-shm"))


def _stat(path: Path, *suffixes: str) -> Iterator[os.stat_result | None]:
    for suffix in suffixes:
        try:
            yield os.stat(f"{path}{suffix}")
        except OSError:
            yield None


def index_of(path: Path) -> tuple[int, int]:
    """Number and length of the file that the index of its log is; zeros if it is not there."""
    for found in _stat(path, "-shm"):
        if found is not None:
            return found.st_ino, found.st_size
    return 0, 0


def mend_index(path: Path, known: tuple[int, int]) -> tuple[int, int]:
    """See to it that the index of the log is not shorter than it was. To be called before anything reads it.

    SQLite has it mapped, and where a mapped file has been cut off, the system ends whoever looks (SIGBUS). An index
    that is as long again, and has no head, is one that SQLite fills from the log, as after a crash.

    Not while somebody writes: he would write a head that vouches for what is not there any more. Such a one is ended by
    the system, when he comes to that, or has found all that he needs.

    Args:
        path: The directory's file.
        known: What ``index_of`` said last.

    Returns:
        What it says now.

    Raises:
        DirectoryBusy: Somebody writes.
        OSError: It is gone by now.
    """
    number, length = index_of(path)
    if number != known[0] or length >= known[1]:
        return number, length
    index = path.with_name(f"{path.name}-shm")
    busy = DirectoryBusy(f"somebody has cut off {index}, and another process writes into the directory")
    descriptor = _kept_open(index)
    if not writing.acquire(blocking=False):
        raise busy
    try:
        # As SQLite does it; it asks in this process only who does so by a connection of its own.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, WRITE_LOCK_AT)
        # In this order: an index with a head and without the rest would be believed.
        os.pwrite(descriptor, bytes(INDEX_HEAD_BYTES), 0)
        os.ftruncate(descriptor, known[1])
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, WRITE_LOCK_AT)
    except BlockingIOError:
        raise busy from None
    finally:
        writing.release()
    log.warning("somebody has cut off %s: it is made anew from the log", index)
    return known


def _kept_open(index: Path) -> int:
    """A descriptor of the file, for the rest of this process's life: to close one would drop the locks that SQLite has
    on it here."""
    info = index.stat()
    key = info.st_dev, info.st_ino
    if key not in _open:
        _open[key] = os.open(index, os.O_RDWR | os.O_CLOEXEC)
    return _open[key]


def damage(path: Path, cluster_id: int, age: Age) -> str:
    """What is wrong with the content of the directory at *path*, in a few words; empty if nothing is.

    Args:
        path: The file.
        cluster_id: The cluster whose directory it was.
        age: How old its content is at least.

    Raises:
        DirectoryError: That cannot be told now: another process writes, no descriptor is left, the disk fails.
    """
    try:
        uri = f"{path.absolute().as_uri()}?mode=rw"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)) as fresh:
            row = fresh.execute("SELECT cluster_id, map_version, last_incarnation FROM cluster").fetchone()
            state = fresh.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) not in _DAMAGED:
            raise DirectoryError(f"the directory {path} cannot be read: {error}") from error
        return f"its content is damaged ({error})"
    if row is None or state != "ok":
        return f"its content is damaged ({state if row else 'it is empty'})"
    if row[0] != cluster_id:
        return "another cluster's was written over it"
    if (row[1], row[2]) < age:
        return "an older copy was written over it"
    return ""
