"""The start of a process, when the system has nothing left for it."""

from __future__ import annotations

import errno
import os
from unittest import mock

import pytest

from roost.deploy import process as module
from roost.deploy.process import MemberProcess


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


async def test_a_process_that_cannot_be_watched_is_not_left_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would serve on and hold its name, and every next one would find the name taken."""
    started: list[int] = []
    popen = module.subprocess.Popen

    def noted(*arguments: object, **options: object) -> object:
        made = popen(*arguments, **options)  # type: ignore[call-overload]
        started.append(made.pid)
        return made

    monkeypatch.setattr(module.subprocess, "Popen", noted)
    monkeypatch.setattr(os, "pidfd_open", mock.Mock(side_effect=OSError(errno.EMFILE, "Too many open files")))
    before = descriptors()
    with pytest.raises(OSError, match="Too many open files"):
        MemberProcess("shard", ["--help"], on_ready=mock.Mock(), on_end=mock.Mock())
    (pid,) = started
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert descriptors() == before
