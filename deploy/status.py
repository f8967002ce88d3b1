"""What ``status`` says: a picture of the cluster at one moment, as plain data, and how to draw it.

The figures come from the members' counter files, which are read without asking the members, so that the picture is
right while one of them is busy or stopped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..common.counters import Figure, Kind

FAILED_CONSTRUCTIONS = "constructions_failed"
"""The shards' counter of constructors that raised."""
RATE_WINDOW_S = 5.0
"""Seconds over which a rate is averaged."""


class Rates:
    """How fast the counters of one process grow, from readings at known times. Pure."""

    def __init__(self) -> None:
        self._pid = 0
        self._readings: deque[tuple[float, Mapping[str, int]]] = deque()

    def add(self, now: float, pid: int, totals: Mapping[str, int]) -> None:
        """Note the totals of a reading. One of another process begins anew: its totals start at zero."""
        if pid != self._pid:
            self._readings.clear()
            self._pid = pid
        self._readings.append((now, totals))
        while len(self._readings) > 2 and self._readings[1][0] <= now - RATE_WINDOW_S:
            self._readings.popleft()

    def per_second(self) -> dict[str, float]:
        """Growth per second of each total over the last readings; empty before the second one."""
        if len(self._readings) < 2:
            return {}
        (first_at, first), (last_at, last) = self._readings[0], self._readings[-1]
        if last_at <= first_at:
            return {}
        return {name: max(0.0, (value - first.get(name, 0)) / (last_at - first_at)) for name, value in last.items()}


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One member at one moment."""

    name: str
    kind: str
    state: str
    pid: int
    incarnation: int
    uptime_s: float
    restarts: int
    slots: int
    error: str
    counters: Mapping[str, int] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    seat: str = ""
    """The seat of a shard: its share of the slots. Empty for a router."""
    holds_seat: bool = False
    """Whether the shard is the one that should own that share; a predecessor or one that leaves is not."""


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """The cluster at one moment."""

    state: str
    url: str
    admin: str
    data: str
    app: str
    pid: int
    uptime_s: float
    map_version: int
    members: tuple[MemberStatus, ...]
    slots_in_transit: int = 0
    change: str = ""
    """The change under way, such as "scaling to 5 shards and 1 router"; empty when there is none."""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    """What each counter of the members is, as they declare it."""

    def total(self, counter: str) -> int:
        """A counter over all members: the sum; of a high-water mark, the highest."""
        values = [member.counters.get(counter, 0) for member in self.members]
        figure = self.figures.get(counter)
        if figure is not None and figure.kind is Kind.HIGH_WATER:
            return max(values, default=0)
        return sum(values)

    def rate(self, counter: str) -> float:
        """The sum of a counter's rate over all members."""
        return sum(member.rates.get(counter, 0.0) for member in self.members)

    def to_dict(self) -> dict[str, Any]:
        """As it goes out in JSON."""
        names = sorted({name for member in self.members for name in member.counters})
        rates = sorted({name for member in self.members for name in member.rates})
        return {
            **asdict(self),
            "figures": {
                name: {"kind": figure.kind.name.lower(), "unit": figure.unit, "help": figure.help}
                for name, figure in self.figures.items()
            },
            "totals": {name: self.total(name) for name in names},
            "rates": {name: round(self.rate(name), 3) for name in rates},
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> ClusterStatus:
        """Read what ``to_dict`` made.

        Raises:
            KeyError, TypeError: It is something else.
        """
        own = {name: document[name] for name in cls.__slots__}
        own["members"] = tuple(
            MemberStatus(**{name: member[name] for name in MemberStatus.__slots__}) for member in document["members"]
        )
        own["figures"] = {
            name: Figure(Kind[figure["kind"].upper()], figure["help"], figure["unit"])
            for name, figure in document["figures"].items()
        }
        return cls(**own)


def render(status: ClusterStatus) -> RenderableType:
    """The picture for a terminal."""
    head = Text.assemble(
        ("roost ", "bold"),
        (status.state, _STYLES.get(status.state, "")),
        f" for {duration(status.uptime_s)} at ",
        (status.url, "bold"),
        f"\nadmin {status.admin} · supervisor {status.pid} · map {status.map_version}"
        f"\napp   {status.app}\ndata  {status.data}",
    )
    if status.change or status.slots_in_transit:
        head.append(f"\nnow   {status.change or 'moving'} · {status.slots_in_transit:,} slots in transit", "yellow")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("member", "state"):
        table.add_column(title, no_wrap=True)
    for title in ("pid", "up", "deaths", "slots", "awake", "asleep", "sockets", "in/s", "out/s"):
        table.add_column(title, justify="right", no_wrap=True)
    for member in status.members:
        table.add_row(
            member.name,
            Text(member.state, _STYLES.get(member.state, "")),
            str(member.pid or "–"),
            duration(member.uptime_s, parts=1) if member.pid else "–",
            str(member.restarts),
            *_figures(member),
        )
    total = Text(
        f"{status.total('connections'):,} connections · {status.total('objects_awake'):,} objects awake, "
        f"{status.total('objects_asleep'):,} asleep · {status.rate('messages_in'):,.0f} messages/s in, "
        f"{status.rate('messages_out'):,.0f} out"
    )
    errors = [Text(member.error, "red") for member in status.members if member.error]
    return Group(head, Text(), table, Text(), total, *errors)


_STYLES = {
    **dict.fromkeys(("ready", "running"), "green"),
    **dict.fromkeys(("starting", "waiting", "leaving", "retiring", "ending"), "yellow"),
    **dict.fromkeys(("failed", "blocked", "stalled", "frozen"), "bold red"),
}


def _figures(member: MemberStatus) -> tuple[str, ...]:
    """Slots, objects awake and asleep, sockets, and a second's traffic: messages at a router, events at a shard."""
    count, rate = member.counters.get, member.rates.get
    figures: tuple[float | None, ...]
    if member.kind == "router":
        figures = (None, None, None, count("connections", 0), rate("messages_in", 0), rate("messages_out", 0))
    else:
        objects = count("objects_awake", 0), count("objects_asleep", 0)
        figures = (member.slots, *objects, count("sockets", 0), rate("events", 0), rate("sends", 0))
    return tuple("" if figure is None else f"{figure:,.0f}" for figure in figures)


def duration(seconds: float, parts: int = 2) -> str:
    """A time for people, in one or two units: ``7 s``, ``3 min 20 s``, ``5 h 2 min``, ``12 d 4 h``."""
    whole = int(seconds)
    for unit, size, small, small_size in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // small_size
            return f"{whole // size} {unit}" + (f" {rest} {small}" if rest and parts > 1 else "")
    return f"{whole} s"
