"""Each counter is declared as what the code makes of it: what sinks is no total, and what only grows no gauge."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from roost.common.machine.counters import Counters, Kind
from roost.router.counters import RouterCounters
from roost.shard.counters import ShardCounters

ROOT = Path(__file__).parents[2]
CHANGES = re.compile(r"counters\.(\w+) (\+=|-=|=)(?!=)(.*)")
READS = re.compile(r"counters\.read\(([^)]*)\)")


def changes_of(package: str) -> dict[str, set[str]]:
    """How the code of a package, and that of ``common``, changes each counter."""
    found: dict[str, set[str]] = {}
    for folder in (package, "common"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            for read in READS.findall(text):
                for name in re.findall(r"(\w+)=", read):
                    found.setdefault(name, set()).add("=")  # what its budget has, which rises and sinks
            for name, how, by in CHANGES.findall(text):
                found.setdefault(name, set()).add("-=" if " - (" in by else f"{how}1" if by.strip().isdigit() else how)
    return found


@pytest.mark.parametrize(("package", "counters"), [("router", RouterCounters), ("shard", ShardCounters)])
def test_each_counter_is_of_the_kind_that_the_code_makes_of_it(package: str, counters: type[Counters]) -> None:
    figures, changes = counters().figures, changes_of(package)
    wrong = {
        name: (figures[name].kind.name, sorted(how))
        for name, how in changes.items()
        if name in figures
        and (not how <= {"+=", "+=1"} if figures[name].kind is Kind.TOTAL else how == {"+=1"})  # else it may sink
    }
    assert wrong == {}
    assert figures.keys() <= changes.keys(), "a counter that nothing counts"
