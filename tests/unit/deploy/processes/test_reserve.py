"""Descriptors that are kept for the start of a process."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest

from roost.deploy.processes.reserve import HELD, SAY_EVERY_S, Reserve, Shortage


@pytest.fixture
def few() -> Iterator[None]:
    """So few descriptors that a test can use them up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + HELD + 40, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def use_up() -> list[int]:
    taken = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return taken


def start() -> None:
    os.close(os.pidfd_open(os.getpid()))
    subprocess.run([sys.executable, "-c", ""], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)


def test_what_others_take_is_not_what_a_start_needs(few: None) -> None:
    reserve = Reserve()
    taken = use_up()
    try:
        with pytest.raises(OSError, match="Too many open files"):
            start()
        for _ in range(3):
            with reserve.lent():
                start()
            taken += use_up()
    finally:
        for each in taken:
            os.close(each)
        reserve.close()


def test_it_is_filled_again_when_there_is_room(few: None) -> None:
    reserve = Reserve()
    with reserve.lent():
        taken = use_up()  # what the start has kept, and more
    with pytest.raises(OSError, match="Too many open files"), reserve.lent():
        start()
    for each in taken:
        os.close(each)
    reserve.top_up()
    taken = use_up()
    with reserve.lent():
        start()
    reserve.close()
    taken += (freed := use_up())
    for each in taken:
        os.close(each)
    assert len(freed) >= HELD


def test_connections_that_cannot_be_accepted_are_a_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now, others = [1000.0], list[dict[str, object]]()
    shortage = Shortage(lambda: now[0], others.append)
    for _ in range(int(3.5 * SAY_EVERY_S)):
        for number in (errno.EMFILE, errno.ENFILE):
            shortage(None, {"message": "accept", "exception": OSError(number, "Too many open files")})
        now[0] += 1
    assert [record.args for record in caplog.records] == [(1,), (120,), (120,), (120,)]
    for error in (OSError(errno.EPERM, "no"), ValueError(), None):
        shortage(None, {"message": "other", "exception": error})
    assert len(others) == 3
