"""Counters: what a process has done and holds, for others to read without asking it.

A process counts in plain attributes, ``counters.messages_in += 1``, and copies them a few times a second into a small
file that it has mapped into memory. Whoever wants them (``status``, the metrics) maps the same file: the process is
not asked, so its figures can be read while it is busy, stopped or dead.

The file never grows. Its blocks are written before it is mapped, so that a disk that fills up later cannot kill the
process by a fault on a page; it appears under its name only when it is whole. Layout, little-endian::

    0   magic[8] "roostcnt" · u32 version · u32 count · u64 pid
    24  u64 beats · u64 publications · u64 value[count]
    …   count names, each u8 length and that many bytes, in the order of the values

Two of them tell whether the process lives (``liveness``): ``publications`` are counted by its event loop, ``beats`` by
a thread of their own, which goes on while the loop is held up.

Each value is written whole, but two values of one reading may come from neighbouring publications: they are figures
to look at, not to balance.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

from .errors import WireError

PUBLISH_INTERVAL_S = 0.25
"""Seconds between two publications of a process that is not stuck, and between two beats."""

_MAGIC = b"roostcnt"
_VERSION = 2
_HEAD = struct.Struct("<8sIIQQQ")
_FIXED = struct.Struct("<8sIIQ")
_U64 = struct.Struct("<Q")
_U64_MAX = (1 << 64) - 1


class Counters:
    """The counters of one process: a subclass names each with an ``int`` annotation, and all start at 0.

    ::

        class RouterCounters(Counters):
            connections: int
            messages_in: int

    Those below are of the links and the process itself, which every process has. Totals only grow; a figure of what is
    held now may sink, but never below 0.
    """

    wire_garbage: int
    """Batches that were dropped because they are none, or are not for this process, or carry records that are none."""
    batches_in: int
    """Batches received on all links, control batches and duplicates included."""
    batches_out: int
    """Batches given to ZeroMQ, control batches and those sent again included."""
    batches_resent: int
    """Batches put out again because the other end lacked them."""
    batches_unexpected: int
    """Batches dropped because the map names no such sender yet, or does not any more."""
    links_failed: int
    """Links given up because the other end broke the wire's rules."""
    collections: int
    """Full garbage collections."""
    longest_collection_us: int
    """Microseconds that the longest of them took."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = tuple(name for name, kind in get_type_hints(type(self)).items() if kind is int)
        for name in self.names:
            setattr(self, name, 0)

    def values(self) -> list[int]:
        """The present values, in the order of ``names``."""
        get = self.__dict__.__getitem__
        return [get(name) for name in self.names]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a counter file said.

    Attributes:
        pid: The process that writes it, dead or alive.
        beats: Grows by one four times a second, unless the process is stopped or never lets go of Python's lock.
        publications: Grows by one with each publication: a process whose event loop stands still stops publishing.
        values: Each counter's value by name.
    """

    pid: int
    beats: int
    publications: int
    values: Mapping[str, int]


class CounterFile:
    """Publishes a process's counters in a mapped file.

    Args:
        path: Where; an older file there is replaced at once. Its folder must exist.
        counters: What to publish.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(self, path: Path, counters: Counters) -> None:
        self._counters = counters
        self._publications = 0
        self._beats = 0
        count = len(counters.names)
        self._values = struct.Struct(f"<{count + 1}Q")
        content = _HEAD.pack(_MAGIC, _VERSION, count, os.getpid(), 0, 0) + bytes(_U64.size * count)
        content += b"".join(bytes((len(name.encode()),)) + name.encode() for name in counters.names)
        fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
        try:
            with open(fresh, "w+b") as file:
                file.write(content)
                file.flush()
                self._map = mmap.mmap(file.fileno(), len(content))
            os.replace(fresh, path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heart", daemon=True)

    def _beat(self) -> None:
        while not self._ended.wait(PUBLISH_INTERVAL_S):
            self._beats += 1
            _U64.pack_into(self._map, _FIXED.size, self._beats)

    def publish(self) -> None:
        """Copy the counters into the file. Costs some microseconds; no system call."""
        self._publications += 1
        values = self._counters.values()
        try:
            self._values.pack_into(self._map, _FIXED.size + _U64.size, self._publications, *values)
        except struct.error:
            # One figure is out of range. The others should still be seen.
            held = (min(max(value, 0), _U64_MAX) for value in values)
            self._values.pack_into(self._map, _FIXED.size + _U64.size, self._publications, *held)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Publish now, and from now on every ``PUBLISH_INTERVAL_S`` on *loop*, until ``close``; beat as well."""
        if self._timer is None and not self._closed:
            self._heart.start()
            self._publish_again(loop)

    def _publish_again(self, loop: asyncio.AbstractEventLoop) -> None:
        self.publish()
        self._timer = loop.call_later(PUBLISH_INTERVAL_S, self._publish_again, loop)

    def close(self) -> None:
        """Publish a last time and let the file be; it stays readable. Calling it again does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._ended.set()
        if self._heart.is_alive():
            self._heart.join()
        self.publish()
        self._map.close()


def read_counters(path: Path) -> Reading:
    """Read a counter file once.

    Raises:
        FileNotFoundError: No process has published there yet.
        WireError: The file is no counter file, or one of another version.
    """
    content = path.read_bytes()
    try:
        magic, version, count, pid, beats, publications = _HEAD.unpack_from(content)
        if magic != _MAGIC or version != _VERSION:
            raise WireError(f"{path} is no counter file of version {_VERSION}")
        values = struct.unpack_from(f"<{count}Q", content, _HEAD.size)
        position = _HEAD.size + _U64.size * count
        names = []
        for _ in range(count):
            end = position + 1 + content[position]
            names.append(content[position + 1 : end].decode())
            position = end
        if position != len(content):
            raise WireError(f"{path} should end at byte {position} and has {len(content)}")
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise WireError(f"{path} is cut off: {error}") from error
    return Reading(pid, beats, publications, dict(zip(names, values, strict=True)))
