"""A supervisor whose words reach nobody goes on with its work."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from roost.deploy.report.voice import Voice


def test_a_line_that_cannot_be_said_is_logged_once_until_one_gets_through(caplog: pytest.LogCaptureFixture) -> None:
    said: list[str] = []
    broken: list[Exception] = []

    def say(line: str) -> None:
        if broken:
            raise broken.pop()
        said.append(line)

    voice = Voice(say)
    voice("one")
    for error in (BrokenPipeError(errno.EPIPE, "Broken pipe"), OSError(errno.ENOSPC, "No space left"), ValueError()):
        broken.append(error)
        voice("lost")
    assert [record.getMessage() for record in caplog.records] == [
        "nobody can be told any more what happens: [Errno 32] Broken pipe"
    ]
    voice("two")
    assert said == ["one", "two"]
    broken.append(OSError(errno.ENOSPC, "No space left"))
    voice("lost")
    assert len(caplog.records) == 2


def test_an_error_of_another_kind_is_a_defect() -> None:
    def say(line: str) -> None:
        raise TypeError(line)

    with pytest.raises(TypeError):
        Voice(say)("x")


def test_a_terminal_is_left_as_it_was() -> None:
    ours, theirs = os.openpty()
    program = """
import fcntl, termios, tty
from roost.deploy.report.voice import Terminal
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
before, terminal = termios.tcgetattr(0), Terminal()
tty.setraw(0)
assert termios.tcgetattr(0) != before
terminal.restore()
assert termios.tcgetattr(0) == before
"""
    try:
        command = [sys.executable, "-c", program]
        subprocess.run(command, stdin=theirs, start_new_session=True, check=True, timeout=30)
        # In the background, where changing it would stop the process.
        background = "from roost.deploy.report.voice import Terminal; Terminal().restore()"
        subprocess.run([sys.executable, "-c", background], stdin=theirs, check=True, timeout=30)
    finally:
        os.close(ours)
        os.close(theirs)


def test_nothing_acts_on_the_terminal_that_it_speaks_to() -> None:
    said: list[str] = []
    Voice(said.append)("a constructor failed: \x1b[2J\x9b31m\u202e\rforged")
    assert said == ["a constructor failed: \\x1b[2J\\x9b31m\\u202e\\x0dforged"]
