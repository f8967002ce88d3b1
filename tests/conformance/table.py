"""The table of cases and their tests: ``table.toml``, and the page made of it.

``python -m tests.conformance.table`` writes ``deploy/docs/conformance.md``.
"""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
SOURCE = HERE / "table.toml"
PAGE = REPOSITORY / "deploy" / "docs" / "conformance.md"

SEED = "Names of the seed"
"""The section that stands first on the page."""
DIFFERENCES = "Where we deliberately differ"
"""The section whose every case says how."""

_HEAD = """# Conformance

*Made from `tests/conformance/table.toml` by `python -m tests.conformance.table`; do not edit.*

roost's interface is that of Durable Objects with hibernatable WebSockets, in Python. Each line below is one case of how
the reference runtime behaves, or one name of its interface, with the tests that pin down what we do; they run against a
real cluster. Where we differ on purpose the last column says how. Names are the reference's; ours are the same in
snake_case, and both spellings work. "hib" is a socket accepted with `acceptWebSocket`, "std" one with `accept()`.
"""


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes:
        section: The table that it is from.
        case: What happens, in the words of that table.
        tests: Ids relative to ``tests``, such as ``conformance/test_tags.py::test_ten_tags``.
        differs: How our behaviour differs and why; empty when it does not.
    """

    section: str
    case: str
    tests: tuple[str, ...]
    differs: str


def load(path: Path = SOURCE) -> list[Case]:
    """Read the table.

    Raises:
        ValueError: A case has neither test nor reason, or an unknown field; or it is a deliberate difference and does
            not say how.
    """
    cases = []
    for section, rows in tomllib.loads(path.read_text()).items():
        for case, row in rows.items():
            if unknown := row.keys() - {"tests", "differs"}:
                raise ValueError(f"{section}: {case}: unknown {', '.join(unknown)}")
            made = Case(section, case, tuple(map(_test_id, row["tests"])), row.get("differs", ""))
            if not made.tests and not made.differs:
                raise ValueError(f"{section}: {case}: neither a test nor a reason for having none")
            if section == DIFFERENCES and not made.differs:
                raise ValueError(f"{section}: {case}: does not say how")
            cases.append(made)
    return cases


def _test_id(short: str) -> str:
    module, _, name = short.partition("::")
    if not name.startswith("test_"):
        raise ValueError(f"{short!r} is no test")
    return f"{module if '/' in module else 'conformance/' + module}.py::{name}"


def rows_of(markdown: str) -> list[tuple[str, str]]:
    """(section, first cell) of each row of each table of a page."""
    section, found = "", []
    for line in markdown.splitlines():
        if line.startswith("## "):
            section = line[3:].strip()
        elif line.startswith("|"):
            first = re.split(r"(?<!\\)\|", line)[1].strip()
            if first not in ("case", "subject") and not set(first) <= {"-", ":"}:
                found.append((section, first))
    return found


def page(cases: list[Case]) -> str:
    """The table as Markdown."""
    lines = [_HEAD]
    tested = sum(bool(case.tests) for case in cases)
    lines.append(f"{len(cases)} cases: {tested} with tests, {len(cases) - tested} without, for the reason given.\n")
    sections = dict.fromkeys(case.section for case in cases)
    for section in sorted(sections, key=lambda name: name != SEED):
        lines += [f"## {section}\n", "| case | tests | differs |", "| --- | --- | --- |"]
        for case in cases:
            if case.section == section:
                tests = "<br>".join(f"[{test.split('::')[1]}]({_link(test)})" for test in case.tests) or "—"
                lines.append(f"| {case.case} | {tests} | {case.differs} |")
        lines.append("")
    return "\n".join(lines)


def _link(test: str) -> str:
    return "../../tests/" + test.split("::")[0]


def main() -> int:
    """Write the page."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(load()))
    print(f"wrote {PAGE.relative_to(REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
