"""The rows that attacks give, and the table of them. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class Memory:
    """Private memory of a process, bytes: before the attack, at its worst, and when the attackers have gone."""

    before: int
    peak: int
    after: int

    def __str__(self) -> str:
        return f"{self.before / MIB:.0f} → {self.peak / MIB:.0f} → {self.after / MIB:.0f}"


@dataclass(frozen=True)
class Echoes:
    """A neighbour's echoes, in seconds.

    Attributes:
        took: Of each, in their order.
        lost: How often the neighbour's connection ended.
    """

    took: tuple[float, ...]
    lost: int = 0

    @property
    def p99(self) -> float:
        """The longest but for one in a hundred."""
        return sorted(self.took)[math.ceil(len(self.took) * 0.99) - 1] if self.took else float("inf")

    @property
    def worst(self) -> float:
        """The longest."""
        return max(self.took, default=float("inf"))


@dataclass(frozen=True)
class Row:
    """One attack.

    Attributes:
        name: Of the attack.
        sends: What was sent, and by how many.
        bound: What bounds memory, in words; empty when nothing in particular.
        ratio: Growth of memory over that bound.
        router: Memory of the router.
        shard: Memory of the shard.
        turn_s: Seconds of the router's longest turn since its start.
        earlier_turn_s: The same when the attack began.
        worked_s: Seconds of processor time of the turn that took most of it since the router's start: what the longest
            turn has beyond them it has waited for a processor.
        earlier_worked_s: The same when the attack began.
        without: The neighbour's echoes before the attack.
        during: And during the attack.
        notes: What else there is to say.
        honest: It was no attack, and no goals hold for it.
    """

    name: str
    sends: str
    bound: str
    ratio: float | None
    router: Memory
    shard: Memory
    turn_s: float
    earlier_turn_s: float
    without: Echoes
    during: Echoes
    notes: str = ""
    honest: bool = False
    worked_s: float = 0.0
    earlier_worked_s: float = 0.0

    @property
    def slowdown(self) -> float:
        """How many times longer the neighbour's p99 is."""
        return self.during.p99 / self.without.p99

    def cells(self) -> list[str]:
        """As the table has it."""
        known = self.turn_s > self.earlier_turn_s
        notes = [self.notes] if self.notes else []
        if self.during.lost:
            notes.append(f"the neighbour lost its connection {self.during.lost} times")
        return [
            self.name,
            self.sends,
            str(self.router),
            str(self.shard),
            "–" if self.ratio is None else f"{self.ratio:.2f} × {self.bound}",
            f"{'' if known else '≤ '}{self.turn_s * 1000:.0f}",
            f"{'' if self.worked_s > self.earlier_worked_s else '≤ '}{self.worked_s * 1000:.0f}",
            f"{self.without.p99 * 1000:.1f} → {self.during.p99 * 1000:.1f}",
            f"{self.slowdown:.1f}",
            f"{self.during.worst * 1000:.0f}",
            f"{len(self.during.took):,}",
            "; ".join(notes),
        ]


HEAD = [
    "attack",
    "what was sent",
    "router (MiB: before → peak → after)",
    "shard (MiB)",
    "growth over bound",
    "longest turn (ms)",
    "most worked in a turn (ms)",
    "neighbour's p99 (ms: without → with)",
    "ratio",
    "worst echo (ms)",
    "echoes",
    "notes",
]
_RIGHT = ("longest turn (ms)", "most worked in a turn (ms)", "ratio", "worst echo (ms)", "echoes")


def as_markdown(rows: Iterable[Row]) -> str:
    """The table for a page."""
    align = ["---:" if name in _RIGHT else "---" for name in HEAD]
    lines = [HEAD, align, *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
