"""The page about the wire shows the layouts that the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from roost.common.wire import session
from roost.common.wire.records import layout

PAGE = (Path(__file__).parents[4] / "deploy/docs/protocol.md").read_text()


def drawing(text: str | None, first: str, last: str) -> list[str]:
    """The lines of a docstring from the one that begins with *first* to the one that begins with *last*."""
    lines = [line.removeprefix("    ") for line in (text or "").splitlines()]
    begin = next(index for index, line in enumerate(lines) if line.startswith(first))
    end = next(index for index, line in enumerate(lines) if index >= begin and line.startswith(last))
    return [line for line in lines[begin : end + 1] if line]


@pytest.mark.parametrize(
    "lines",
    [
        drawing(session.__doc__, "0   magic", "48  records"),
        drawing(layout.__doc__, "0x01", "0x09"),
        drawing(layout.__doc__, "0x41", "0x4B"),
        drawing(layout.__doc__, "0x60", "0x62"),
    ],
    ids=["batch", "events", "output", "either"],
)
def test_the_page_draws_what_the_code_draws(lines: list[str]) -> None:
    missing = [line for line in lines if line not in PAGE.splitlines()]
    assert not missing


def test_the_page_names_every_record_type_once() -> None:
    codes = [value for name, value in vars(layout).items() if name.isupper() and type(value) is int]
    drawn = re.findall(r"^0x([0-9a-fA-F]{2}) [A-Z_]+", PAGE, re.MULTILINE)
    assert sorted(int(code, 16) for code in drawn) == sorted(code for code in codes if code <= 0xFF)
