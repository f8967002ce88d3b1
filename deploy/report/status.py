"""What ``status`` says: a picture of the cluster at one moment, as plain data, and how to draw it.

The figures come from the members' counter files, which are read without asking the members, so that the picture is
right while one of them is busy or stopped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.text import Text

from ...common.machine.counters import Figure, Kind
from .tables import Column, flow, printable, table

CONSTRUCTIONS = "constructions"
"""The shards' counter of constructors that returned."""
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


def render(status: ClusterStatus, width: int | None = None) -> Text:
    """The picture for a terminal.

    Args:
        status: What there is to see.
        width: Columns of the terminal; ``None`` for a pipe, which gets all of it.
    """
    head = Text.assemble(
        ("roost ", "bold"),
        (status.state, _STYLES.get(status.state, "")),
        f" for {duration(status.uptime_s)} at ",
        (printable(status.url), "bold"),
    )
    about = [f"admin {printable(status.admin)}", f"supervisor {status.pid}", f"map {status.map_version}"]
    lines = [
        head,
        flow(about, width),
        Text(f"app   {printable(status.app)}"),
        Text(f"data  {printable(status.data)}"),
    ]
    if status.change or status.slots_in_transit:
        change = [printable(status.change or "moving"), f"{status.slots_in_transit:,} slots in transit"]
        lines.append(Text("now   ", "yellow").append_text(flow(change, None, style="yellow")))
    lines += [Text(), table(_COLUMNS, [_row(member) for member in status.members], width), Text()]
    sums = [
        f"{status.total('connections'):,} connections",
        f"{status.total('objects_awake'):,} objects awake, {status.total('objects_asleep'):,} asleep",
        f"{status.rate('messages_in'):,.0f} messages/s in, {status.rate('messages_out'):,.0f} out",
    ]
    lines.append(flow(sums, width))
    for member in status.members:
        lines += [Text(printable(line), "red") for line in member.error.splitlines()[:1]]
        lines += [Text("  " + printable(line), "red") for line in member.error.splitlines()[1:]]
    return Text("\n").join(lines)


_COLUMNS = (
    Column("member"),
    Column("state"),
    Column("pid", right=True, leaves=9),
    Column("up", right=True, leaves=8),
    Column("deaths", right=True, leaves=4),
    Column("slots", right=True, leaves=7),
    Column("awake", right=True, leaves=5),
    Column("asleep", right=True, leaves=6),
    Column("sockets", right=True, leaves=1),
    Column("in/s", right=True, leaves=2),
    Column("out/s", right=True, leaves=3),
)
_STYLES = {
    **dict.fromkeys(("ready", "running"), "green"),
    **dict.fromkeys(("starting", "waiting", "leaving", "retiring", "ending"), "yellow"),
    **dict.fromkeys(("failed", "blocked", "stalled", "frozen"), "bold red"),
}


def _row(member: MemberStatus) -> list[Text]:
    cells = (
        printable(member.name),
        printable(member.state),
        str(member.pid or "–"),
        duration(member.uptime_s, parts=1) if member.pid else "–",
        str(member.restarts),
        *_figures(member),
    )
    row = [Text(cell) for cell in cells]
    row[1].stylize(_STYLES.get(member.state, ""))
    return row


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
