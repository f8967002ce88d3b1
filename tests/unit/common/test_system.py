from __future__ import annotations

import errno
import os
import signal

import pytest

from roost.common.errors import UnsupportedSystem
from roost.common.system import check_system


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
