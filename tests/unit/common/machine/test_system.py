from __future__ import annotations

import errno
import os
import signal
import threading

import pytest

from roost.common.errors import ThreadsTooFew, UnsupportedSystem
from roost.common.machine.system import THREADS, check_system, check_threads


def test_this_system_will_do() -> None:
    before = os.listdir("/proc/self/fd")
    check_system()
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(("module", "name"), [(os, "pidfd_open"), (signal, "pidfd_send_signal")])
def test_a_python_without_them(monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> None:
    monkeypatch.delattr(module, name)
    with pytest.raises(UnsupportedSystem, match=f"Linux 5.3 or newer is needed.* has no .*{name}"):
        check_system()


@pytest.mark.parametrize(("module", "name"), [(os, "pidfd_open"), (signal, "pidfd_send_signal")])
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_a_kernel_that_refuses(monkeypatch: pytest.MonkeyPatch, module: object, name: str, number: int) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module, name, refuse)
    with pytest.raises(UnsupportedSystem, match=f"{name} says: {os.strerror(number)} .*seccomp"):
        check_system()


def test_what_is_no_matter_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    check_system()


def test_threads_that_cannot_be_started_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    before, start, started = threading.active_count(), threading.Thread.start, []
    check_threads()
    assert threading.active_count() == before

    def refuse(thread: threading.Thread) -> None:
        if len(started) == THREADS - 1:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(ThreadsTooFew, match=r"fewer can be started here just now.*ulimit -u"):
        check_threads()
    assert threading.active_count() == before, "those that could be have ended"
