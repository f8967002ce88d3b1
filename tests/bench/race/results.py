"""From samples to ratios: pure.

A *sample* is what one measurement of one peer found, in one round; its figure is ``value``. Ratios are taken round by
round, of neighbours in time, and their median counts: a machine that is slower for some seconds hits both of a pair.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

CLIENT_BOUND = 0.9
"""Share of its processor from which on the client, not the server, limits a figure."""

Sample = Mapping[str, Any]
Samples = Mapping[str, Mapping[str, Sequence[Sample | None]]]
"""By row, then peer: a sample for each round, None where the measurement failed or did not take place."""


@dataclass(frozen=True)
class Goal:
    """What a row has to reach.

    Attributes:
        row: Name of the row.
        ours: Which of ours.
        peer: Compared with whom; None for a bound on the figure itself.
        bound: Of the ratio, ours to the peer's, or of the figure.
        kind: Whether the bound is the least or the most.
    """

    row: str
    ours: str
    peer: str | None
    bound: float
    kind: Literal["at least", "at most"]

    def met(self, found: float) -> bool:
        """Whether a ratio or figure is good enough."""
        return found >= self.bound if self.kind == "at least" else found <= self.bound


GOALS = (
    Goal("echo-1", "roost", "workerd", 2.0, "at most"),
    Goal("echo-64", "roost", "workerd", 3.0, "at least"),
    Goal("echo-1000", "roost", "workerd", 3.0, "at least"),
    Goal("broadcast-2000", "roost", "workerd", 2.5, "at least"),
    Goal("broadcast-2000", "roost", "bare", 0.85, "at least"),
    Goal("broadcast-2000", "roost", "durable-actors", 1.0, "at least"),
    Goal("broadcast-2000", "roost2", "durable-actors", 1.0, "at least"),
    Goal("broadcast-9000", "roost", "workerd", 2.5, "at least"),
    Goal("broadcast-9000", "roost", "bare", 0.85, "at least"),
    Goal("broadcast-9000", "roost", "durable-actors", 1.0, "at least"),
    Goal("broadcast-9000", "roost2", "durable-actors", 1.0, "at least"),
    Goal("broadcast-32768", "roost2", "bare2", 1.3, "at most"),
    Goal("memory-9000", "roost", None, 8_000, "at most"),
    Goal("wake-10000", "roost", None, 20, "at most"),
)


def median_value(samples: Sequence[Sample | None]) -> float | None:
    """The median figure of the rounds that have one."""
    values = [float(sample["value"]) for sample in samples if sample is not None]
    return statistics.median(values) if values else None


def ratios(ours: Sequence[Sample | None], theirs: Sequence[Sample | None]) -> list[float]:
    """Our figure divided by theirs, of each round in which both have one."""
    return [
        float(one["value"]) / float(other["value"])
        for one, other in zip(ours, theirs, strict=False)
        if one is not None and other is not None
    ]


def ratio(ours: Sequence[Sample | None], theirs: Sequence[Sample | None]) -> float | None:
    """The median of the rounds' ratios; None when no round has both."""
    found = ratios(ours, theirs)
    return statistics.median(found) if found else None


def client_bound(samples: Sequence[Sample | None]) -> bool:
    """Whether the client limited any of the figures: its busiest process used over 90 % of a processor."""
    return any(max(sample.get("cpu") or [0.0]) > CLIENT_BOUND for sample in samples if sample is not None)


def judged(goal: Goal, samples: Samples) -> float | None:
    """The ratio or figure that a goal is about; None when it was not measured."""
    row = samples.get(goal.row, {})
    ours = row.get(goal.ours, ())
    if goal.peer is None:
        return median_value(ours)
    return ratio(ours, row.get(goal.peer, ()))


def rotation(names: Sequence[str], number: int) -> list[str]:
    """The order of a round: each begins with the next one, and every other round goes backwards."""
    first = number % len(names) if names else 0
    turned = [*names[first:], *names[:first]]
    return turned[::-1] if number % 2 else turned
