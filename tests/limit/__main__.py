"""32,768 real sockets on one object, in one command. From the repository's root::

    python -m tests.limit --json limit.json --markdown limit.md

It takes about two minutes, both processors of a small machine and 2 GB, prints what was done and how long it took, and
exits with 1 when anything was lost or a goal was missed.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import sys
import traceback
from pathlib import Path
from typing import Any

from roost.common.limits import MAX_WEBSOCKETS_PER_OBJECT
from tests.bench.running import machine, write_report
from tests.limit.outcome import as_markdown, as_text
from tests.limit.scenario import Limit


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.limit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sockets", type=int, default=MAX_WEBSOCKETS_PER_OBJECT, help="default %(default)s")
    parser.add_argument("--markdown", type=Path, help="file for the table")
    parser.add_argument("--json", type=Path, help="file for machine, settings and all figures")
    options = parser.parse_args()
    if not 1 <= options.sockets <= MAX_WEBSOCKETS_PER_OBJECT:
        parser.error(f"an object can have 1 to {MAX_WEBSOCKETS_PER_OBJECT:,} sockets")
    before = machine()
    limit = Limit(options.sockets, say=lambda phase: print(f"{phase} …", flush=True))
    wrong = []
    try:
        asyncio.run(limit.run())
    except AssertionError as error:
        traceback.print_exception(error)
        wrong.append(str(error))
    wrong += [row.missed for row in limit.rows if row.missed]
    print()
    print(as_text(limit.rows))
    for line in wrong:
        print(f"WRONG: {line}")
    if options.markdown is not None:
        options.markdown.write_text(as_markdown(limit.rows))
    settings: dict[str, Any] = {name: str(value) for name, value in vars(options).items()}
    report = {"machine": before, "settings": settings, "rows": [dataclasses.asdict(row) for row in limit.rows]}
    write_report({**report, "wrong": wrong}, options.json)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
