"""What a run of the limit gives, and the table of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One thing that was done.

    Attributes:
        what: In words.
        sockets: On how many sockets.
        took_s: How long it took; where it was done several times, the median.
        figures: Whatever else was measured, by name; those that end in ``_s`` are seconds, in ``_kb`` kilobytes.
        goal_s: How long it may take; 0 for no goal.
    """

    what: str
    sockets: int
    took_s: float
    figures: Mapping[str, float] = field(default_factory=dict)
    goal_s: float = 0.0

    @property
    def missed(self) -> str:
        """What to say if the goal is missed; else nothing."""
        if not self.goal_s or self.took_s < self.goal_s:
            return ""
        return f"{self.what}, {self.sockets:,} sockets: {seconds(self.took_s)}; the goal is {seconds(self.goal_s)}"

    def cells(self) -> list[str]:
        """As the table has it."""
        figures = (f"{_words(name)} {_figure(name, value)}" for name, value in self.figures.items())
        return [
            self.what,
            f"{self.sockets:,}",
            seconds(self.took_s),
            f"< {seconds(self.goal_s)}" if self.goal_s else "",
            ", ".join(figures),
        ]


HEAD = ["what", "sockets", "took", "goal", "figures"]


def seconds(value: float) -> str:
    """A time for people."""
    return f"{value * 1000:,.1f} ms" if value < 1 else f"{value:,.2f} s"


def _words(name: str) -> str:
    return name.removesuffix("_s").removesuffix("_kb").replace("_", " ")


def _figure(name: str, value: float) -> str:
    if name.endswith("_s"):
        return seconds(value)
    return f"{value:,.1f} kB" if name.endswith("_kb") else f"{value:,.0f}"


def as_text(rows: Iterable[Row]) -> str:
    """The table for a terminal."""
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if at in (1, 2, 3) else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def as_markdown(rows: Iterable[Row]) -> str:
    """The table for a page."""
    align = ["---:" if at in (1, 2, 3) else "---" for at in range(len(HEAD))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [HEAD, align, *(row.cells() for row in rows)]) + "\n"
