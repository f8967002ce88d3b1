"""Last words: which event's code was running when a shard died.

A shard notes the event whose code it enters in a small mapped file, and takes the note back when it leaves that code.
When the process dies, the note stays. Routers read it and keep count, so that a message that ends its shard does so
twice at most, whatever shard it is delivered to. The note is only memory: no system call, and a full disk does not
matter, as the file's one block is written before it is mapped. Layout, in the machine's order of bytes::

    0   u64 1 while such code runs, else 0
    8   u64 router's incarnation << 32 | connection · u64 seq · id[32]

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

_NOTE = struct.Struct("=QQQ32s")
RUNS, EVENT, SEQ = 0, 1, 2
"""Where ``words`` has what."""


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

    Attributes:
        words: The file as numbers, by ``RUNS``, ``EVENT`` and ``SEQ``: for whoever notes an event so often that a call
            would cost too much. The object is noted by ``of``, and RUNS comes last.

    Raises:
        OSError: The file cannot be written.
    """

    __slots__ = ("_map", "words")

    def __init__(self, path: Path) -> None:
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "w+b") as file:
            file.write(bytes(_NOTE.size))
            file.flush()
            self._map = mmap.mmap(file.fileno(), _NOTE.size)
        self.words = memoryview(self._map).cast("Q")

    def of(self, object_id: bytes) -> None:
        """What is noted from now on is of this object."""
        self._map[24:] = object_id

    def enter(self, router: int, connection: int, seq: int, object_id: bytes) -> None:
        """Code for this event begins to run."""
        words = self.words
        self.of(object_id)
        words[EVENT], words[SEQ], words[RUNS] = router << 32 | connection, seq, 1

    def leave(self) -> None:
        """No event's code runs."""
        self.words[RUNS] = 0

    def close(self) -> None:
        """Let the file be; what it says stays readable."""
        self.words.release()
        self._map.close()


def read_last_words(path: Path) -> RunningEvent | None:
    """What was running when the process that wrote *path* died; ``None`` if nothing was, or nothing is known."""
    try:
        running, event, seq, object_id = _NOTE.unpack(path.read_bytes())
    except (OSError, struct.error):
        return None
    if not running:
        return None
    return RunningEvent(Incarnation(event >> 32), event & 0xFFFFFFFF, seq, ObjectId(object_id))


def forget_old(run: Path, name: str, keep: int = KEEP) -> None:
    """Remove what all but the last *keep* incarnations of the shard *name* have left."""
    notes = {}
    for path in run.glob(f"{name}-*.running"):
        incarnation = path.stem.removeprefix(f"{name}-")
        if incarnation.isdigit():  # not that of a shard whose name only begins alike
            notes[int(incarnation)] = path
    for _, path in sorted(notes.items())[: len(notes) - keep]:
        path.unlink(missing_ok=True)
