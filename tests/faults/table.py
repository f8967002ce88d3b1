"""The rows that scenarios give, and the table of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tests.faults.load import Pauses, Report

POISONED = 1011
"""How a connection is closed whose event may have killed a shard."""


@dataclass(frozen=True)
class Row:
    """One scenario that was run.

    Attributes:
        what: What was done to the cluster, in words.
        before: Sockets that were open before.
        report: What the clients saw, from the first message to the last answer.
        pauses: The pauses while it was done.
        took_s: Seconds from the first fault until the traffic flowed again.
        notes: Whatever else is to be told.
        figures: Whatever else was measured, by name.
        poisoned: Connections that routers say they have closed for an event that ran when its shard was killed.
    """

    what: str
    before: int
    report: Report
    pauses: Pauses
    took_s: float
    notes: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    poisoned: int = 0

    @property
    def reordered(self) -> int:
        return self.report.violations.get("reordered", 0)

    def check(self, *, redelivered: bool = True, closed: bool = False) -> None:
        """Fail if the clients saw what must never be.

        Args:
            redelivered: Whether events may have been delivered again: only a death is a reason for that.
            closed: Whether connections may have been closed: those of a router that ends.
        """
        report = self.report
        assert report.handled > 0, f"nothing was handled: {report}"
        assert not report.violations, f"{self.what}: {dict(report.violations)}: {report.examples}"
        assert report.lost == 0, f"{self.what}: {report.lost} answers never came; unanswered are {report.waiting}"
        assert redelivered or not report.redelivered, f"{self.what}: {report.redelivered} events were delivered again"
        assert report.open == self.before - self.poisoned, (
            f"{self.what}: {report.open} of {self.before} sockets are open: {report.closed}"
        )
        expected = {POISONED: self.poisoned} if self.poisoned else {}
        assert closed or report.closed == expected, f"{self.what}: sockets were closed: {report.closed}"

    def cells(self) -> list[str]:
        """As the table has it."""
        report, ms = self.report, 1000
        figures = [self.before, report.open, report.sent, report.handled, report.redelivered, report.lost]
        return [
            self.what,
            *(f"{figure:,}" for figure in [*figures, self.reordered, sum(report.violations.values()) - self.reordered]),
            f"{self.pauses.p50 * ms:,.0f}",
            f"{self.pauses.worst * ms:,.0f}",
            f"{self.took_s:.1f}",
            self.notes,
        ]


HEAD = [
    "what was done",
    "sockets before",
    "after",
    "messages sent",
    "handled",
    "redelivered",
    "lost",
    "reordered",
    "doubled or stale",
    "pauses p50 (ms)",
    "worst (ms)",
    "took (s)",
    "notes",
]


def as_text(rows: Iterable[Row]) -> str:
    """The table for a terminal."""
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    text = []
    for line in lines:
        cells = [
            cell.ljust(width) if at in (0, len(HEAD) - 1) else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def as_markdown(rows: Iterable[Row]) -> str:
    """The table for a page."""
    align = ["---" if at in (0, len(HEAD) - 1) else "---:" for at in range(len(HEAD))]
    lines = [HEAD, align, *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
