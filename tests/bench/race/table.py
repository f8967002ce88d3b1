"""The table of ratios as Markdown: pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tests.bench.race.results import (
    CLIENT_BOUND,
    GOALS,
    Goal,
    Sample,
    Samples,
    client_bound,
    judged,
    median_value,
    ratio,
)

BEGIN = "<!-- race: what python -m tests.bench.race --markdown wrote; do not edit by hand -->"
END = "<!-- race: end -->"
_MARK = "†"

OURS = ("roost", "roost2")
COLUMNS: tuple[tuple[str, tuple[str, str]], ...] = (
    ("bare epoll, Python", ("bare", "bare2")),
    ("bare epoll, C", ("bare-c", "bare-c2")),
    ("workerd", ("workerd", "workerd")),
    ("websockets", ("websockets", "websockets")),
    ("durable-actors", ("durable-actors", "durable-actors")),
)
"""Heads of the columns, with the peer that one router and two routers are compared with."""


def figure(value: float) -> str:
    """Three digits that count, or all before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def times(value: float) -> str:
    """A ratio."""
    return f"{value:,.0f}×" if value >= 100 else f"{value:.1f}×" if value >= 10 else f"{value:.2f}×"


def _absolute(samples: Sequence[Sample | None]) -> str:
    value = median_value(samples)
    if value is None:
        return "–"
    fewer = {sample["fewer"] for sample in samples if sample is not None and "fewer" in sample}
    at = f", with {min(fewer):,}" if fewer else ""
    return figure(value) + at + (_MARK if client_bound(samples) else "")


def _compared(ours: Sequence[Sample | None], theirs: Sequence[Sample | None]) -> str:
    found = ratio(ours, theirs)
    if found is None:
        return "–"
    return f"**{times(found)}** ({_absolute(theirs)})"


def ratio_table(report: Mapping[str, Any]) -> list[str]:
    """Ours, and ours divided by each peer's with the peer's figure beside."""
    samples: Samples = report["samples"]
    lines = [
        "| | ours | ÷ " + " | ÷ ".join(head for head, _ in COLUMNS) + " |",
        "| --- " * (2 + len(COLUMNS)) + "|",
    ]
    for name, row in report["rows"].items():
        by_peer = samples.get(name, {})
        for index, ours in enumerate(OURS):
            mine = by_peer.get(ours, ())
            if median_value(mine) is None:
                continue
            wish = " (less is better)" if row["better"] == "less" else ""
            routers = "1 router" if index == 0 else "2 routers"
            cells = [_compared(mine, by_peer.get(peers[index], ())) for _, peers in COLUMNS]
            lines.append(
                f"| {row['title']}, {row['unit']}{wish}; {routers} | {_absolute(mine)} | {' | '.join(cells)} |"
            )
    return lines


def cpu_table(report: Mapping[str, Any]) -> list[str]:
    """Microseconds of processor that each server used for a message."""
    samples: Samples = report["samples"]
    peers = list(report["peers"])
    lines = ["| | " + " | ".join(peers) + " |", "| --- " * (1 + len(peers)) + "|"]
    for name, row in report["rows"].items():
        costs = []
        for peer in peers:
            found = [
                sample["server_cpu_us"]
                for sample in samples.get(name, {}).get(peer, ())
                if sample is not None and "server_cpu_us" in sample
            ]
            costs.append(figure(statistics.median(found)) if found else "–")
        if any(cost != "–" for cost in costs):
            lines.append(f"| {row['title']} | {' | '.join(costs)} |")
    return lines


def goal_line(goal: Goal, samples: Samples, rows: Mapping[str, Any]) -> str | None:
    """One goal and whether it was reached; None when it was not measured."""
    found = judged(goal, samples)
    if found is None or goal.row not in rows:
        return None
    verdict = "reached" if goal.met(found) else "**not reached**"
    if goal.peer is None:
        unit = rows[goal.row]["unit"]
        return (
            f"- {rows[goal.row]['title']}: {goal.ours} has {figure(found)} {unit}, "
            f"wanted {goal.kind} {figure(goal.bound)}: {verdict}."
        )
    return (
        f"- {rows[goal.row]['title']}: {goal.ours} has {times(found)} of {goal.peer}, "
        f"wanted {goal.kind} {times(goal.bound)}: {verdict}."
    )


def section(report: Mapping[str, Any]) -> str:
    """All that the race has to say, as Markdown.

    Args:
        report: command, machine, peers (name → what it is), absent (name → why), rows (name → title, unit, better),
            samples, failures (sentences), rounds.
    """
    samples: Samples = report["samples"]
    machine = report["machine"]
    all_samples = [
        sample for row in samples.values() for found in row.values() for sample in found if sample is not None
    ]
    elsewhere = [sample["elsewhere_cpu"] for sample in all_samples if "elsewhere_cpu" in sample]
    lines = [
        f"Made by `{report['command']}` on {machine['when']}: {machine['processors']} processors "
        f"({machine['model']}), {machine['system']}, Python {machine['python']}. {report['rounds']} rounds, the peers "
        "in turns in each. A cell is the median of the rounds' ratios, ours divided by the peer's, and in brackets the "
        "peer's median.",
        "",
        *ratio_table(report),
        "",
    ]
    if any(client_bound(found) for row in samples.values() for found in row.values()):
        lines += [
            f"{_MARK} *client-bound*: the client used over {CLIENT_BOUND:.0%} of its processor, so the server may be "
            "faster than this.",
            "",
        ]
    if elsewhere:
        lines += [
            f"Beside server and client the machine used {statistics.median(elsewhere):.2f} processors (median), at "
            f"most {max(elsewhere):.2f}.",
            "",
        ]
    goals = [line for goal in GOALS if (line := goal_line(goal, samples, report["rows"])) is not None]
    if goals:
        lines += ["Goals:", "", *goals, ""]
    lines += ["Processor time of all processes of a server for a message, a frame or a connect, µs:", ""]
    lines += [*cpu_table(report), "", "Who took part:", ""]
    lines += [f"- `{name}`: {what}" for name, what in report["peers"].items()]
    lines += [f"- `{name}` did not: {why}" for name, why in report["absent"].items()]
    if report["failures"]:
        lines += ["", "What failed:", "", *(f"- {failure}" for failure in report["failures"])]
    return "\n".join(lines) + "\n"


def replaced(text: str, section: str) -> str:
    """A page with the section between its marks replaced; added at the end when the page has no marks.

    Raises:
        ValueError: The page has one mark without the other.
    """
    if (BEGIN in text) != (END in text):
        raise ValueError("the page has only one of the marks between which the race's section lies")
    if BEGIN not in text:
        before, after = text.rstrip("\n") + "\n\n" if text.strip() else "", ""
    else:
        before, rest = text.split(BEGIN, 1)
        after = rest.split(END, 1)[1].removeprefix("\n")
    return f"{before}{BEGIN}\n{section}{END}\n{after}"
