"""Last words: which events' code was at work when a shard died.

A shard notes the event whose code it enters in a small mapped file, and takes the note back when it leaves that code.
Code that has begun and not ended is at work as well: a handler that waits (for a thread, a child, a library written in
C), a task that a handler has left. Each such event has a row of its own until it has ended. When the process dies, all
this stays. Routers read it and keep count (``router.poison``), so that what ends shards is not delivered again
and again. The note is only memory: no system call, and a full disk does not matter, as the file's blocks are
written before they are mapped. Layout, in the machine's order of bytes::

    0   u64 1 while some event's code runs, else 0
    8   u64 router's incarnation << 32 | connection · u64 seq · id[32] of that event, or of the last one that ran
    56  u64 milliseconds, monotonic, at which the loop was last seen to turn; 0 if never
    64  ROWS times: u64 1 if the row is taken, else 0 · event and id as above · u64 milliseconds at which it was taken

A request has the connection that it asks for (0 for plain HTTP) and the number 0. So has code of no event, with
connection 0: a constructor, or a task that one has left.

With more than ``ROWS`` events at work, new ones take the rows of others, in turn: of whatever is lost most has been at
work for a while.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from .ids import Incarnation, ObjectId
from .preallocation import write_over
from .upkeep import is_file

KEEP = 4
"""Earlier incarnations of a shard whose last words stay for routers to read, which they do within milliseconds."""
ROWS = 4_096
"""Events at work besides the running one that are noted, at most."""

_HEAD = struct.Struct("=QQQ32sQ")
_ROW = struct.Struct("=QQQ32sQ")
RUNS, EVENT, SEQ, TURNED_AT, TAKEN_AT = 0, 1, 2, 7, 7
"""Where ``words`` has what, and where a row has it."""
BYTES = _HEAD.size + ROWS * _ROW.size
"""Length of the file."""


@dataclass(frozen=True, slots=True)
class RunningEvent:
    """An event whose code was at work.

    Attributes:
        router: The router's incarnation.
        connection: The connection's counter there.
        seq: The event's number on that connection; 0 for a request.
        object_id: The object.
        since: Monotonic seconds since when it has waited; 0 if it has not.
    """

    router: Incarnation
    connection: int
    seq: int
    object_id: ObjectId
    since: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Said:
    """The last words of a process.

    Attributes:
        running: The event whose code ran; ``None`` if nothing did.
        waiting: The events whose code had begun and not ended, the running one perhaps among them.
        last: The event whose code ran last, when nothing did; ``None`` if that is not known.
        turned_at: Monotonic seconds at which its loop was last seen to turn; 0 if that is not known.
    """

    running: RunningEvent | None
    waiting: tuple[RunningEvent, ...] = ()
    last: RunningEvent | None = None
    turned_at: float = 0.0


def last_words_path(run: Path, name: str, incarnation: Incarnation) -> Path:
    """Where the shard *name* of that incarnation leaves its last words."""
    return run / f"{name}-{incarnation}.running"


class LastWords:
    """The note of a shard.

    Args:
        path: Where it is kept; see ``last_words_path``. The folder must exist.

    Attributes:
        path: See above.
        on_restored: Called when ``words`` is another object: the file was removed, and made anew.
        words: The file as numbers, by ``RUNS``, ``EVENT`` and ``SEQ``: for whoever notes an event so often that a call
            would cost too much. The object is noted by ``of``, and RUNS comes last.

    Raises:
        OSError: The file cannot be written.
    """

    __slots__ = ("_file", "_free", "_kept", "_map", "_tickets", "on_restored", "path", "words")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.on_restored: Callable[[], object] = lambda: None
        self._free = list(range(ROWS - 1, -1, -1))
        self._tickets = [0] * ROWS  # of whoever has the row; 0: nobody
        self._kept = 0  # so far
        self._make(bytes(BYTES))

    def _make(self, content: bytes) -> None:
        path = self.path
        try:
            with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "w+b") as file:
                file.write(content)
                file.flush()
                self._begin(file)
        except OSError as error:
            # The disk is full: the oldest note has room, and has been read.
            path.unlink(missing_ok=True)
            oldest = _oldest_beside(path)
            with write_over(oldest, content, error) as file:
                self._begin(file)
            oldest.rename(path)

    def _begin(self, file: BinaryIO) -> None:
        info = os.fstat(file.fileno())
        self._file = info.st_dev, info.st_ino
        self._map = mmap.mmap(file.fileno(), BYTES)
        self.words = memoryview(self._map).cast("Q")

    def restore(self) -> bool:
        """Make the file anew, as it was, if it is gone or another one is in its place.

        Returns:
            Whether it was gone.

        Raises:
            OSError: It cannot be written.
        """
        if is_file(self.path, *self._file):
            return False
        words, memory = self.words, self._map
        self._make(bytes(memory))
        words.release()
        memory.close()
        self.on_restored()
        return True

    def of(self, object_id: bytes) -> None:
        """What is noted from now on is of this object."""
        self._map[24:56] = object_id

    def enter(self, router: int, connection: int, seq: int, object_id: bytes) -> None:
        """Code for this event begins to run."""
        words = self.words
        self.of(object_id)
        words[EVENT], words[SEQ], words[RUNS] = router << 32 | connection, seq, 1

    def leave(self) -> None:
        """No event's code runs."""
        self.words[RUNS] = 0

    def turned(self, now: float) -> None:
        """The loop turns, at *now* monotonic seconds."""
        self.words[TURNED_AT] = int(now * 1000)

    def keep(self, event: int, seq: int, object_id: bytes, now: float) -> int:
        """An event is at work until ``drop``.

        Args:
            event: Router and connection, as ``EVENT`` has them.
            seq: The event's number.
            object_id: The object.
            now: Monotonic seconds.

        Returns:
            A ticket for ``drop``.
        """
        self._kept = number = self._kept + 1
        row = self._free.pop() if self._free else number % ROWS
        self._tickets[row] = ticket = number * ROWS + row
        at = _HEAD.size + row * _ROW.size
        self._map[at + 24 : at + 56] = object_id
        word, words = at // 8, self.words
        words[word + TAKEN_AT] = int(now * 1000)
        words[word + EVENT], words[word + SEQ], words[word + RUNS] = event, seq, 1
        return ticket

    def drop(self, ticket: int) -> None:
        """The event of *ticket* has ended. Its row may be another's by now."""
        row = ticket % ROWS
        if self._tickets[row] == ticket:
            self._tickets[row] = 0
            self._free.append(row)
            self.words[(_HEAD.size + row * _ROW.size) // 8] = 0

    def drop_all(self) -> None:
        """Nothing is at work any more."""
        for ticket in self._tickets:
            if ticket:
                self.drop(ticket)

    def retract(self) -> None:
        """Nothing is at work, and nothing was: the process ends in good order, and nobody is to be suspected."""
        self.drop_all()
        self.words[RUNS] = self.words[EVENT] = 0

    def close(self) -> None:
        """The process ends in good order."""
        self.retract()
        self.words.release()
        self._map.close()


def read_last_words(path: Path) -> Said | None:
    """What was at work when the process that wrote *path* died; ``None`` if nothing is known."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if len(content) != BYTES:
        return None
    running, event, seq, object_id, turned_ms = _HEAD.unpack_from(content)
    latest = _event(event, seq, object_id) if running or event else None
    waiting = tuple(_event(*row) for taken, *row in _ROW.iter_unpack(content[_HEAD.size :]) if taken)
    if running:
        return Said(latest, waiting, None, turned_ms / 1000)
    return Said(None, waiting, latest, turned_ms / 1000)


def _event(event: int, seq: int, object_id: bytes, since_ms: int = 0) -> RunningEvent:
    return RunningEvent(Incarnation(event >> 32), event & 0xFFFFFFFF, seq, ObjectId(object_id), since_ms / 1000)


def _oldest_beside(path: Path) -> Path:
    """The note of the earliest incarnation of the same shard that is left; *path* itself when there is none."""
    name = path.stem.rpartition("-")[0]
    left = [each for each in path.parent.glob(f"{name}-*.running") if each.stem.removeprefix(f"{name}-").isdigit()]
    return min(left, key=lambda each: int(each.stem.removeprefix(f"{name}-")), default=path)


def forget_old(run: Path, name: str, keep: int = KEEP) -> None:
    """Remove what all but the last *keep* incarnations of the shard *name* have left."""
    notes = {}
    for path in run.glob(f"{name}-*.running"):
        incarnation = path.stem.removeprefix(f"{name}-")
        if incarnation.isdigit():  # not that of a shard whose name only begins alike
            notes[int(incarnation)] = path
    for _, path in sorted(notes.items())[: len(notes) - keep]:
        path.unlink(missing_ok=True)
