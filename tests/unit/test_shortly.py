"""What a failure prints of long values."""

from __future__ import annotations

import os

import pytest

from tests.support.client import Frame, Reply
from tests.support.frames import BINARY
from tests.support.shortly import LONG, brief, comparison


def test_short_values_are_left_to_pytest() -> None:
    assert comparison("==", b"a", b"b") is None
    assert comparison("==", [1, 2], [1, 3]) is None
    assert comparison("!=", bytes(1 << 20), bytes(1 << 20)) is None
    assert comparison("==", 1, 2) is None


@pytest.mark.parametrize("as_type", [bytes, bytearray, lambda data: data.hex(), list, lambda data: [data, b""]])
def test_long_values_are_told_by_length_and_first_difference(as_type: object) -> None:
    assert callable(as_type)
    data = os.urandom(1 << 20)
    other = data[: 1 << 19] + bytes((data[1 << 19] ^ 1,)) + data[(1 << 19) + 1 :]
    told = comparison("==", as_type(data), as_type(other))
    assert told is not None
    assert len("".join(told)) < 8 * LONG
    assert "first difference at " in told[-1]


def test_where_they_differ() -> None:
    told = comparison("==", b"x" * 1000 + b"left", b"x" * 1000)
    assert told is not None
    assert told[0] == "bytes of 1,004 == bytes of 1,000"
    assert told[-1] == f"first difference at 1,000: {b'x' * 24 + b'left'!r} != {b'x' * 24!r}"


def test_frames_and_replies_show_their_payloads_shortly() -> None:
    assert len(repr(Frame(BINARY, bytes(1 << 20)))) < LONG
    assert len(repr(Reply(200, "OK", (), bytes(1 << 20)))) < LONG
    assert brief(b"short") == "b'short'"
