"""What has become of the directory's content, as a process sees it that opens the file now.

A backup that is copied over the file (``cp``), or a file that is cut off, keeps the file's identity. Processes that
have it open may not notice for a long time: SQLite has its pages in memory and in its log. Whoever comes next opens
something else. So who has it open looks whether size or time of the file or of its log have changed, and if they have,
reads what a newcomer would read. That costs about a millisecond, after each change of the map at most once a second.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from .errors import DirectoryError

Age = tuple[int, int]
"""Version of the map, and the last incarnation given."""
Stamp = tuple[tuple[int, int] | None, ...]
"""Two numbers of each of some files; ``None`` for one that is not there."""

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
