"""One attack after another, each against a cluster of its own. From the repository's root::

    python -m tests.attacks                         all; prints a table
    python -m tests.attacks pings header-fields     some
    python -m tests.attacks --list                  what there is

A row has the private memory of router and shard, its growth over the bound that the documents promise, the router's
longest turn, the processor time of the turn that took most of it (beyond it a turn has waited for a processor), and the
p99 of a neighbour's echoes without and with the attack. ``--markdown FILE`` and ``--json FILE``
write the table and all figures. On a machine that does other work the times mean nothing.

Rows that begin with ``honest`` are no attacks: they have as much traffic of honest clients, and no goals hold for them.

It exits with 1 when a goal is missed (turns of 20 ms, twice the neighbour's p99, 1.5 times a bound) or a row fails.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import sys
import time
import traceback
from pathlib import Path

from tests.attacks import scene
from tests.attacks.registry import load
from tests.attacks.table import HEAD, Row, as_markdown
from tests.bench.running import machine, write_report

TURN_S = 0.020
SLOWDOWN = 2.0
OVER_BOUND = 1.5


def missed(row: Row) -> list[str]:
    """The goals that a row misses."""
    if row.honest:
        return []
    wrong = []
    if row.turn_s > max(TURN_S, row.earlier_turn_s):
        worked = min(row.turn_s, row.worked_s)
        wrong.append(f"{row.name}: a turn of {row.turn_s * 1000:.0f} ms, {worked * 1000:.0f} of them worked at most")
    if row.slowdown > SLOWDOWN:
        wrong.append(f"{row.name}: the neighbour's p99 is {row.slowdown:.1f} times as long")
    if row.during.lost:
        wrong.append(f"{row.name}: the neighbour lost its connection")
    if row.ratio is not None and row.ratio > OVER_BOUND:
        wrong.append(f"{row.name}: memory grew by {row.ratio:.2f} times {row.bound}")
    return wrong


def main() -> int:
    attacks = load()
    parser = argparse.ArgumentParser(
        prog="python -m tests.attacks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="ATTACK", help="which; all without any")
    parser.add_argument("--list", action="store_true", help="say what attacks there are, and end")
    parser.add_argument("--seconds", type=float, help="of each attack, in place of its own")
    parser.add_argument("--markdown", type=Path, help="file for the table")
    parser.add_argument("--json", type=Path, help="file for machine and all figures")
    options = parser.parse_args()
    if options.list:
        for attack in attacks.values():
            print(f"{attack.name:40} {attack.attackers} × {attack.sends}")
        return 0
    if unknown := set(options.names) - attacks.keys():
        parser.error(f"no such attack: {', '.join(sorted(unknown))}; --list says what there is")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rows: list[Row] = []
    wrong: list[str] = []
    before = machine()
    for name in options.names or attacks:
        began = time.monotonic()
        print(f"{name} …", end=" ", flush=True)
        try:
            row = scene.run(attacks[name], options.seconds)
        except Exception as error:
            print("FAILED", flush=True)
            traceback.print_exception(error)
            wrong.append(f"{name}: {error}")
            continue
        rows.append(row)
        wrong += missed(row)
        said = (f"{what} {cell}" for what, cell in zip(HEAD[2:], row.cells()[2:], strict=True) if cell)
        print(f"{time.monotonic() - began:.0f} s: {'; '.join(said)}", flush=True)
    print()
    print(as_markdown(rows))
    for line in wrong:
        print(f"WRONG: {line}")
    if options.markdown is not None:
        options.markdown.write_text(as_markdown(rows))
    write_report({"machine": before, "rows": [dataclasses.asdict(row) for row in rows], "wrong": wrong}, options.json)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
