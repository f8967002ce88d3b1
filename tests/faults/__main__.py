"""The fault suite at full length, and how well it has to go. From the repository's root::

    python -m tests.faults                          every scenario once; prints the table
    python -m tests.faults run scaled reloaded      some of them
    python -m tests.faults moves                    pauses of connections that are moved by scale and by reload
    python -m tests.faults crash                    from a shard's death to the first redelivered message
    python -m tests.faults idle                     idle sockets whose only shard is killed

``--markdown FILE`` and ``--json FILE`` write the result as well. It exits with 1 when a goal is missed or anything was
lost, doubled or reordered.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import resource
import statistics
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.running import machine, write_report
from tests.faults import scenarios
from tests.faults.scenarios import FULL, SHORT, Size
from tests.faults.table import Row, as_markdown, as_text

CLOSING = ("router-killed", "router-stopped", "routers-scaled", "moved-and-all-killed")
"""Scenarios in which a router ends, which closes its clients' sockets."""

PAUSE_P50_S, PAUSE_WORST_S = 0.2, 1.0
"""Goals for 1,000 connections that are moved."""
REDELIVERED_S = 2.0
"""Goal from a crash to the first redelivered message."""
ATTACHED_S = 5.0
"""Goal for 10,000 idle sockets, from the return of their shard."""


@dataclass
class Outcome:
    """What a run gave.

    Attributes:
        rows: For the table.
        lines: What else there is to say.
        wrong: Goals that were missed, and rules that were broken.
    """

    rows: list[Row] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """A failure is noted, and the run goes on."""
        began = time.monotonic()
        print(f"{what} …", end=" ", flush=True)
        try:
            yield
        except AssertionError as error:
            print("FAILED", flush=True)
            traceback.print_exception(error)
            self.wrong.append(f"{what}: {error}")
        else:
            print(f"{time.monotonic() - began:.0f} s", flush=True)


def run(options: argparse.Namespace, size: Size, outcome: Outcome) -> None:
    """Run scenarios one after the other."""
    size = dataclasses.replace(size, connections=options.connections or size.connections)
    for name in options.names or list(scenarios.ALL):
        with outcome.attempt(name):
            row = asyncio.run(scenarios.ALL[name](size))
            outcome.rows.append(row)
            row.check(closed=name in CLOSING)


def moves(options: argparse.Namespace, size: Size, outcome: Outcome) -> None:
    """Move connections by scale and by reload, again and again."""
    size = dataclasses.replace(size, connections=options.connections)
    for number in range(options.rounds):
        with outcome.attempt(f"round {number + 1}"):
            for row in asyncio.run(scenarios.moved(size, options.routers, options.handler)):
                outcome.rows.append(row)
                row.check(redelivered=False)
                if row.pauses.p50 >= PAUSE_P50_S or row.pauses.worst >= PAUSE_WORST_S:
                    outcome.wrong.append(
                        f"{row.what}: {row.pauses}; the goal is {PAUSE_P50_S * 1000:g} and {PAUSE_WORST_S * 1000:g} ms"
                    )
    for what in dict.fromkeys(row.what for row in outcome.rows):
        same = [row.pauses for row in outcome.rows if row.what == what]
        outcome.lines.append(
            f"{what}, {len(same)} times: pauses p50 {max(p.p50 for p in same) * 1000:.0f} ms, "
            f"worst {max(p.worst for p in same) * 1000:.0f} ms (the highest of each)"
        )


def crash(options: argparse.Namespace, size: Size, outcome: Outcome) -> None:
    """Kill a shard, in a new cluster each time."""
    size = dataclasses.replace(size, connections=options.connections)
    times: list[float] = []
    for number in range(options.rounds):
        with outcome.attempt(f"round {number + 1}"):
            times.append(asyncio.run(scenarios.crash_to_first_redelivered(size)))
            print(f"{times[-1] * 1000:.0f} ms", end=" ")
    if times:
        outcome.lines.append(
            f"from SIGKILL of a shard to the first redelivered message, {len(times)} times: "
            f"median {statistics.median(times) * 1000:.0f} ms, worst {max(times) * 1000:.0f} ms"
        )
        if max(times) >= REDELIVERED_S:
            outcome.wrong.append(f"redelivered after {max(times):.2f} s; the goal is {REDELIVERED_S:g} s")


def idle(options: argparse.Namespace, size: Size, outcome: Outcome) -> None:
    """Kill the only shard of idle sockets."""
    for number in range(options.rounds):
        with outcome.attempt(f"round {number + 1}"):
            row = asyncio.run(scenarios.idle_sockets(dataclasses.replace(size, idle=options.connections)))
            outcome.rows.append(row)
            row.check(redelivered=False)
            if row.figures["attached_s"] >= ATTACHED_S:
                outcome.wrong.append(f"{row.notes}; the goal is {ATTACHED_S:g} s")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command")
    parsers = {
        name: commands.add_parser(name, help=(command.__doc__ or "").splitlines()[0])
        for name, command in {"run": run, "moves": moves, "crash": crash, "idle": idle}.items()
    }
    parsers["run"].add_argument("names", nargs="*", metavar="SCENARIO", help=f"of {', '.join(scenarios.ALL)}")
    parsers["run"].add_argument("--connections", type=int, default=0, help="other than the usual number")
    for name, connections, rounds in (("moves", 1_000, 3), ("crash", 64, 5), ("idle", 10_000, 1)):
        parsers[name].add_argument("--connections", type=int, default=connections, help="default %(default)s")
        parsers[name].add_argument("--rounds", type=int, default=rounds, help="default %(default)s")
    parsers["moves"].add_argument("--routers", type=int, default=1, help="that share them, default %(default)s")
    parsers["moves"].add_argument(
        "--handler", choices=["busy", "ledger"], default="busy", help="one that takes 5 ms, or one that takes no time"
    )
    for one in parsers.values():
        one.add_argument("--short", action="store_true", help="as the test-suite does it")
        one.add_argument("--markdown", type=Path, help="file for the table")
        one.add_argument("--json", type=Path, help="file for machine, settings and all figures")
    options = parser.parse_args(sys.argv[1:] or ["run"])
    unknown = set(getattr(options, "names", ())) - scenarios.ALL.keys()
    if unknown:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    # The clients, the routers and this process hold thousands of sockets.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    outcome, before = Outcome(), machine()
    {"run": run, "moves": moves, "crash": crash, "idle": idle}[options.command](
        options, SHORT if options.short else FULL, outcome
    )
    print()
    if outcome.rows:
        print(as_text(outcome.rows))
    for line in outcome.lines:
        print(line)
    for line in outcome.wrong:
        print(f"WRONG: {line}")
    if options.markdown is not None:
        options.markdown.write_text(as_markdown(outcome.rows))
    settings: dict[str, Any] = {name: str(value) for name, value in vars(options).items()}
    write_report({"machine": before, "settings": settings, **dataclasses.asdict(outcome)}, options.json)
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
