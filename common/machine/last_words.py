"""Last words: which events' code was at work when a shard died.

A shard notes the event whose code it enters in memory of its own, and takes the note back when it leaves that code.
Code that has begun and not ended is at work as well: a handler that waits (for a thread, a child, a library written in
C), a task that a handler has left. Each such event has a row of its own until it has ended. Routers have the memory
open from the moment in which they connect to the shard (``shared_memory``): no code of an object runs before that. So
it stays when the process dies, and they read it and keep count (``router.poison``), so that what ends shards is not
delivered again and again. To note something is no system call: a handler that does not wait costs 0.2 µs more. Layout,
in the machine's order of bytes::

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

import logging
import mmap
import os
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..ids import Incarnation, ObjectId
from .shared_memory import SharedMemory, content_of, open_shared, read_shared

log = logging.getLogger("roost.last_words")

ROWS = 4_096
"""Events at work besides the running one that are noted, at most."""

_HEAD = struct.Struct("=QQQ32sQ")
_ROW = struct.Struct("=QQQ32sQ")
RUNS, EVENT, SEQ, TURNED_AT, TAKEN_AT = 0, 1, 2, 7, 7
"""Where ``words`` has what, and where a row has it."""
BYTES = _HEAD.size + ROWS * _ROW.size
"""Length of it all."""


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
    """Where the last words of the shard *name* of that incarnation are found while it lives."""
    return run / f"{name}-{incarnation}.running"


class LastWords:
    """The note of a shard.

    Args:
        path: Where routers find it; see ``last_words_path``. The folder must exist.

    Attributes:
        path: See above.
        words: The note as numbers, by ``RUNS``, ``EVENT`` and ``SEQ``: for whoever notes an event so often that a call
            would cost too much. The object is noted by ``of``, and RUNS comes last.

    Raises:
        OSError: Nothing can be put at *path*.
    """

    __slots__ = ("_free", "_kept", "_map", "_shared", "_tickets", "path", "words")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._free = list(range(ROWS - 1, -1, -1))
        self._tickets = [0] * ROWS  # of whoever has the row; 0: nobody
        self._kept = 0  # so far
        self._map = self._share()
        self.words = memoryview(self._map).cast("Q")

    def _share(self) -> mmap.mmap:
        self._shared = SharedMemory(self.path, bytes(BYTES))
        return self._shared.map

    def restore(self) -> bool:
        """Let routers find it again, if somebody has removed what they find it by.

        Returns:
            Whether it was gone.

        Raises:
            OSError: Nothing can be put there.
        """
        return self._shared.restore()

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
        self._shared.close()


class OpenNotes:
    """The last words of shards, which a router has opened while they live.

    Args:
        run: The run folder.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._descriptors: dict[Incarnation, int] = {}
        self._refused: set[Incarnation] = set()

    def open(self, name: str, incarnation: Incarnation) -> None:
        """A link to that shard is made: see to it that what it says at its death can be read."""
        if incarnation in self._descriptors:
            return
        try:
            self._descriptors[incarnation] = open_shared(last_words_path(self._run, name, incarnation))
        except FileNotFoundError:
            pass  # it has ended, or somebody has removed the link: ``complete``
        except OSError as error:
            if incarnation not in self._refused:
                log.warning("what ends %s, should it die, will not be known: %s", name, error)
            self._refused.add(incarnation)

    def complete(self, shards: Mapping[Incarnation, str]) -> None:
        """Open those of *shards*, by incarnation with their names, that are lacking. For each second."""
        for incarnation, name in shards.items():
            self.open(name, incarnation)

    def keep(self, incarnations: Collection[Incarnation]) -> None:
        """Let go of those of all others."""
        self._refused &= set(incarnations)
        for gone in self._descriptors.keys() - incarnations:
            os.close(self._descriptors.pop(gone))

    def read(self, incarnation: Incarnation) -> Said | None:
        """What was at work when that shard died; ``None`` if nothing is known."""
        descriptor = self._descriptors.get(incarnation)
        return None if descriptor is None else said(content_of(descriptor))

    def close(self) -> None:
        """Let go of all."""
        self.keep(())


def read_last_words(path: Path) -> Said | None:
    """What is at work in the process whose note is at *path*; ``None`` if nothing is known, as when it has ended."""
    try:
        return said(read_shared(path))
    except OSError:
        return None


def said(content: bytes) -> Said | None:
    """What a note says; ``None`` if it is none."""
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


def forget_links(run: Path, name: str) -> None:
    """Remove the links to the last words of earlier incarnations of the shard *name*, which have ended."""
    for path in run.glob(f"{name}-*.running"):
        if path.stem.removeprefix(f"{name}-").isdigit():  # not that of a shard whose name only begins alike
            path.unlink(missing_ok=True)
