"""Last words: which event's code was running when a shard died.

A shard notes the event whose code it enters in a small mapped file, and takes the note back when it leaves that code.
When the process dies, the note stays. Routers read it and keep count, so that a message that ends its shard does so
twice at most, whatever shard it is delivered to. The note is only memory: no system call, and a full disk does not
matter, as the file's one block is written before it is mapped. Layout, little-endian::

    0   u8 1 while such code runs, else 0 · u8[3] 0 · u32 router's incarnation · u32 connection · u64 seq · id[32]

A request has the connection that it asks for (0 for plain HTTP) and the number 0.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from .ids import Incarnation, ObjectId

KEEP = 4
"""Earlier incarnations of a shard whose last words stay for routers to read, which they do within milliseconds."""

_NOTE = struct.Struct("<IIIQ32s")


@dataclass(frozen=True, slots=True)
class RunningEvent:
    """An event whose code was running.

    Attributes:
        router: The router's incarnation.
        connection: The connection's counter there.
        seq: The event's number on that connection; 0 for a request.
        object_id: The object.
    """

    router: Incarnation
    connection: int
    seq: int
    object_id: ObjectId


def last_words_path(run: Path, name: str, incarnation: Incarnation) -> Path:
    """Where the shard *name* of that incarnation leaves its last words."""
    return run / f"{name}-{incarnation}.running"


class LastWords:
    """The note of a shard.

    Args:
        path: Where it is kept; see ``last_words_path``. The folder must exist.

    Raises:
        OSError: The file cannot be written.
    """

    __slots__ = ("_map", "_pack_into")

    def __init__(self, path: Path) -> None:
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "w+b") as file:
            file.write(bytes(_NOTE.size))
            file.flush()
            self._map = mmap.mmap(file.fileno(), _NOTE.size)
        self._pack_into = _NOTE.pack_into

    def enter(self, router: int, connection: int, seq: int, object_id: bytes) -> None:
        """Code for this event begins to run."""
        self._pack_into(self._map, 0, 1, router, connection, seq, object_id)

    def leave(self) -> None:
        """No event's code runs."""
        self._map[0] = 0

    def close(self) -> None:
        """Let the file be; what it says stays readable."""
        self._map.close()


def read_last_words(path: Path) -> RunningEvent | None:
    """What was running when the process that wrote *path* died; ``None`` if nothing was, or nothing is known."""
    try:
        running, router, connection, seq, object_id = _NOTE.unpack(path.read_bytes())
    except (OSError, struct.error):
        return None
    if not running:
        return None
    return RunningEvent(Incarnation(router), connection, seq, ObjectId(object_id))


def forget_old(run: Path, name: str) -> None:
    """Remove what all but the last few incarnations of the shard *name* have left."""
    notes = {}
    for path in run.glob(f"{name}-*.running"):
        incarnation = path.stem.removeprefix(f"{name}-")
        if incarnation.isdigit():  # not that of a shard whose name only begins alike
            notes[int(incarnation)] = path
    for _, path in sorted(notes.items())[:-KEEP]:
        path.unlink(missing_ok=True)
