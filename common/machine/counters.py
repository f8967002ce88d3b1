"""Counters: what a process has done and holds, for others to read without asking it.

A process counts in plain attributes, ``counters.messages_in += 1``, and copies them a few times a second into memory
that others may read (``shared_memory``). Whoever wants them (``status``, the metrics) reads it there: the process is
not asked, so its figures can be read while it is busy or stopped. They go with the process. Layout, little-endian::

    0   magic[8] "roostcnt" · u32 version · u32 count · u64 pid
    24  u64 beats · u64 publications · u64 value[count]
    …   count figures, in the order of the values: u8 kind · u8 length of the name · u8 of the
        unit · u16 of the help, then these three

So the memory explains itself: what a figure is (a gauge, a total, a high-water mark), its unit and what it counts are
said once, where the counter is declared, and whoever reads it needs no list of its own.

Two of them tell whether the process lives (``liveness``): ``publications`` are counted by its event loop, ``beats`` by
a thread of their own, which goes on while the loop is held up.

Each value is written whole, but two values of one reading may come from neighbouring publications: they are figures
to look at, not to balance.
"""

from __future__ import annotations

import asyncio
import os
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..budget import Budget
from ..errors import WireError
from .shared_memory import SharedMemory, read_shared

PUBLISH_INTERVAL_S = 0.25
"""Seconds between two publications of a process that is not stuck, and between two beats."""

_MAGIC = b"roostcnt"
_VERSION = 3
_HEAD = struct.Struct("<8sIIQQQ")
_FIXED = struct.Struct("<8sIIQ")
_U64 = struct.Struct("<Q")
_FIGURE = struct.Struct("<BBBH")
_U64_MAX = (1 << 64) - 1


class Kind(IntEnum):
    """What a figure says, and so what may be made of it."""

    GAUGE = 0
    """What is held now: it rises and falls, has no rate, and adds up over processes."""
    TOTAL = 1
    """What has happened since the start: it only grows, has a rate, and adds up over processes."""
    HIGH_WATER = 2
    """The most that was seen since the start: it has no rate, and of several processes the highest counts."""


@dataclass(frozen=True, slots=True)
class Figure:
    """What a counter is.

    Attributes:
        kind: See ``Kind``.
        help: What it counts, in a sentence.
        unit: The unit, in the plural, where it does not count things: "bytes", "microseconds".
    """

    kind: Kind
    help: str
    unit: str = ""


# ``Any``, as of ``dataclasses.field``: a counter is an ``int``, and its class says what kind of.


def gauge(help: str, *, unit: str = "") -> Any:
    """Declare a counter of what is held now."""
    return Figure(Kind.GAUGE, help, unit)


def total(help: str, *, unit: str = "") -> Any:
    """Declare a counter of what has happened since the start."""
    return Figure(Kind.TOTAL, help, unit)


def high_water(help: str, *, unit: str = "") -> Any:
    """Declare a counter of the most that was seen since the start."""
    return Figure(Kind.HIGH_WATER, help, unit)


class Counters:
    """The counters of one process: a subclass declares each with its kind, and all start at 0.

    ::

        class RouterCounters(Counters):
            connections: int = gauge("WebSockets that are open or closing")
            messages_in: int = total("Messages taken from clients")

    Those below are of the links and the process itself, which every process has.

    Attributes:
        figures: What each counter is, by name.
    """

    wire_garbage: int = total(
        "Batches that were dropped because they are none, or are not for this process, or carry records that are none"
    )
    batches_in: int = total("Batches received on all links, control batches and duplicates included")
    batches_out: int = total("Batches given to ZeroMQ, control batches and those sent again included")
    batches_resent: int = total("Batches put out again because the other end lacked them")
    batches_unexpected: int = total("Batches dropped because the map names no such sender yet, or does not any more")
    links_failed: int = total("Links given up because one of their ends broke the wire's rules or met a defect")
    collections: int = total("Full garbage collections")
    longest_collection_us: int = high_water(
        "Microseconds that the longest full garbage collection took", unit="microseconds"
    )
    trims: int = total("Times that freed memory was given back to the system")
    longest_trim_us: int = high_water("Microseconds that the longest of those took", unit="microseconds")

    _declared: ClassVar[dict[type, dict[str, Figure]]] = {}

    def __init_subclass__(cls) -> None:
        """Take the declarations out of the classes: an attribute that its class has, too, costs more than twice as much
        to read, and counters are read and written for each message."""
        for each in cls.__mro__:
            if each not in Counters._declared:
                own = {name: figure for name, figure in vars(each).items() if isinstance(figure, Figure)}
                Counters._declared[each] = own
                for name in own:
                    delattr(each, name)

    def __init__(self) -> None:
        self.figures: Mapping[str, Figure] = {
            name: figure
            for cls in reversed(type(self).__mro__)
            for name, figure in Counters._declared.get(cls, {}).items()
        }
        self.names = tuple(self.figures)
        self._budgets: dict[str, Budget] = {}
        for name in self.names:
            setattr(self, name, 0)

    def read(self, **budgets: Budget) -> None:
        """Read figures from where they are kept, by name: of what has a bound, nobody counts a second time.

        Raises:
            AttributeError: No such counter is declared, or it is read already.
        """
        for name in budgets:
            delattr(self, name)
        self._budgets.update(budgets)

    if not TYPE_CHECKING:  # else it would know every attribute

        def __getattr__(self, name: str) -> int:
            budget = self.__dict__.get("_budgets", {}).get(name)
            if budget is None:
                raise AttributeError(f"there is no counter {name!r}")
            return budget.taken

    def values(self) -> list[int]:
        """The present values, in the order of ``names``."""
        return [getattr(self, name) for name in self.names]


Counters.__init_subclass__()  # its own declarations, for whoever uses it as it is


@dataclass(frozen=True, slots=True)
class Reading:
    """What a process has published.

    Attributes:
        pid: The process that writes it.
        beats: Grows by one four times a second, unless the process is stopped or never lets go of Python's lock.
        publications: Grows by one with each publication: a process whose event loop stands still stops publishing.
        values: Each counter's value by name.
        figures: What each counter is, by name.
    """

    pid: int
    beats: int
    publications: int
    values: Mapping[str, int]
    figures: Mapping[str, Figure] = field(default_factory=dict)

    @property
    def totals(self) -> dict[str, int]:
        """The values that only grow, and so have a rate."""
        figures = self.figures
        return {name: value for name, value in self.values.items() if figures[name].kind is Kind.TOTAL}


class CounterFile:
    """Publishes a process's counters.

    Args:
        path: Where others find them; what an earlier process has left there is replaced. Its folder must exist.
        counters: What to publish.

    Attributes:
        stands_in: Says that the loop stands still and that this is nobody's fault: then a thread publishes for it, so
            that the process is not taken for a hung one.
        bring_up_to_date: Called on the loop before it publishes, for figures that are not counted as they change.

    Raises:
        OSError: Nothing can be put there.
    """

    def __init__(self, path: Path, counters: Counters) -> None:
        self.path = path
        self._counters = counters
        self._publications = 0
        self._beats = 0
        count = len(counters.names)
        self._values = struct.Struct(f"<{count + 1}Q")
        content = _HEAD.pack(_MAGIC, _VERSION, count, os.getpid(), 0, 0) + bytes(_U64.size * count)
        content += b"".join(_figure_bytes(name, figure) for name, figure in counters.figures.items())
        self._shared = SharedMemory(path, content)
        self._map = self._shared.map
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.stands_in: Callable[[], bool] = lambda: False
        self.bring_up_to_date: Callable[[], object] = lambda: None
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heart", daemon=True)

    def restore(self) -> bool:
        """Let others find the counters again, if somebody has removed what they find them by.

        Returns:
            Whether it was gone.

        Raises:
            OSError: Nothing can be put there.
        """
        return not self._closed and self._shared.restore()

    def _beat(self) -> None:
        while not self._ended.wait(PUBLISH_INTERVAL_S):
            self._beats += 1
            _U64.pack_into(self._map, _FIXED.size, self._beats)
            if self.stands_in():
                self.publish()

    def publish(self) -> None:
        """Copy the counters to where others see them. Costs some microseconds; no system call."""
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
        self._timer = loop.call_later(PUBLISH_INTERVAL_S, self._publish_again, loop)
        self.bring_up_to_date()
        self.publish()

    def close(self) -> None:
        """Publish a last time; that stays readable until the process ends. Calling it again does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._ended.set()
        if self._heart.is_alive():
            self._heart.join()
        self.publish()
        self._shared.close()


def read_counters(path: Path) -> Reading:
    """Read once what a process has published.

    Raises:
        FileNotFoundError: No process has published there yet, or it has ended.
        WireError: There is something else, or it is of another version.
    """
    content = read_shared(path)
    try:
        magic, version, count, pid, beats, publications = _HEAD.unpack_from(content)
        if magic != _MAGIC or version != _VERSION:
            raise WireError(f"{path} holds no counters of version {_VERSION}")
        values = struct.unpack_from(f"<{count}Q", content, _HEAD.size)
        figures = _figures_of(content[_HEAD.size + _U64.size * count :], count)
    except (struct.error, IndexError, ValueError) as error:
        raise WireError(f"{path} is cut off or holds something else: {error}") from error
    return Reading(pid, beats, publications, dict(zip(figures, values, strict=True)), figures)


def _figure_bytes(name: str, figure: Figure) -> bytes:
    words = name.encode(), figure.unit.encode(), figure.help.encode()
    return _FIGURE.pack(figure.kind, *map(len, words)) + b"".join(words)


@lru_cache(maxsize=64)
def _figures_of(content: bytes, count: int) -> Mapping[str, Figure]:
    """Read what the figures are. Files of one release say the same, again and again."""
    figures: dict[str, Figure] = {}
    position = 0
    for _ in range(count):
        kind, *lengths = _FIGURE.unpack_from(content, position)
        position += _FIGURE.size
        words = []
        for length in lengths:
            words.append(content[position : position + length].decode())
            position += length
        figures[words[0]] = Figure(Kind(kind), words[2], words[1])
    if position != len(content) or len(figures) != count:
        raise ValueError(f"its figures should take {position} bytes and take {len(content)}")
    return figures
