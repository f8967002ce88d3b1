"""The table of cases is whole, its tests exist, and its page is up to date."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance import table

OBSERVATIONS = table.REPOSITORY.parent / "shared" / "reference" / "behaviour.md"
"""The page that the cases are from; not a part of the repository."""


@pytest.mark.timeout(170)
def test_every_test_of_the_table_is_collected(request: pytest.FixtureRequest) -> None:
    listed = {test for case in table.load() for test in case.tests}
    here = {item.nodeid.split("[")[0].removeprefix("tests/") for item in request.session.items}
    if listed <= here:
        return
    # Only a part of the tests runs at present: ask for the whole.
    folders = sorted({test.split("/")[0] for test in listed})
    collected = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "--no-header", "-p", "no:cacheprovider", *folders],
        cwd=table.HERE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert collected.returncode == 0, collected.stdout[-4000:] + collected.stderr
    found = {line.split("[")[0].removeprefix("tests/") for line in collected.stdout.splitlines() if "::" in line}
    assert listed - found == set()


def test_no_case_is_listed_twice_and_none_is_without_reason() -> None:
    cases = table.load()
    assert len({(case.section, case.case) for case in cases}) == len(cases)


@pytest.mark.skipif(not OBSERVATIONS.exists(), reason="the page of observations is not beside this checkout")
def test_every_case_of_the_observations_is_in_the_table() -> None:
    rows = table.rows_of(OBSERVATIONS.read_text())
    listed = [(case.section, case.case) for case in table.load()]
    assert [row for row in rows if row not in listed] == []
    sections = {section for section, _ in rows}
    assert [case for case in listed if case[0] in sections and case not in rows] == []


def test_the_page_is_up_to_date() -> None:
    assert table.PAGE.read_text() == table.page(table.load()), "run python -m tests.conformance.table"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[a.b]\ntests = []\n", "neither a test nor a reason"),
        ('[a.b]\ntests = ["test_x::helper"]\n', "is no test"),
        ('[a.b]\ntests = []\nreason = "x"\n', "unknown reason"),
        ("['Where we deliberately differ'.b]\ntests = ['test_x::test_y']\n", "does not say how"),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "table.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=problem):
        table.load(path)
