"""Output that nobody takes, and standard descriptors that are closed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from roost.common.machine import standard_streams
from roost.common.machine.standard_streams import Unhurried


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:
            pass  # the test has closed it


def drain(descriptor: int) -> bytes:
    os.set_blocking(descriptor, False)
    got = b""
    while True:
        try:
            got += os.read(descriptor, 1 << 20)
        except BlockingIOError:
            return got


def test_what_a_full_pipe_does_not_take_is_left_out_and_that_is_said(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = pipe
    monkeypatch.setattr(standard_streams, "PATIENCE_S", 0.0)
    stream = Unhurried(writing, never_fails=False)
    line = b"x" * 999 + b"\n"
    for _ in range(1_000):
        assert stream.write(line) == len(line), "and does not wait, or the test would"
    taken = drain(reading)
    assert 0 < len(taken) < 1_000_000
    assert stream.write(b"again\n") == 6
    assert (
        drain(reading)
        == f"\nroost: {1_000_000 - len(taken):,} bytes were left out, which nobody took\nagain\n".encode()
    )
    assert stream.write(b"and again\n") == 10
    assert drain(reading) == b"and again\n"


def test_more_than_a_pipe_takes_at_once_is_written_in_pieces(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    text = os.urandom(40_000)
    assert Unhurried(writing, never_fails=False).write(text) == len(text)
    assert drain(reading) == text


def test_a_reader_that_has_ended_is_an_error_or_none(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.close(reading)
    assert Unhurried(writing, never_fails=True).write(b"x") == 1
    with pytest.raises(BrokenPipeError):
        Unhurried(writing, never_fails=False).write(b"x")


def test_a_full_disk_is_an_error_or_none() -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        assert Unhurried(full.fileno(), never_fails=True).write(b"x") == 1
        with pytest.raises(OSError, match="No space left"):
            Unhurried(full.fileno(), never_fails=False).write(b"x")


def test_closed_descriptors_are_opened_before_a_file_gets_their_numbers() -> None:
    program = (
        "import os\n"
        "from roost.common.machine.standard_streams import open_descriptors, settle\n"
        "open_descriptors()\n"
        "settle(never_fails=True)\n"
        "print('lost')\n"
        "file = os.open('/dev/null', os.O_RDONLY)\n"
        "os._exit(file)\n"
    )
    ended = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, program], timeout=30, check=False
    )
    assert ended.returncode >= 3
