"""The watch over processes of this machine (real ones: there is nothing to be pure about)."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from unittest import mock

import pytest

from roost.common.machine import deaths as death_watch
from roost.common.machine.deaths import DeathWatch


def process(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)


async def test_the_end_of_a_process_is_told_once() -> None:
    loop = asyncio.get_running_loop()
    deaths = DeathWatch(loop)
    told = asyncio.Event()
    calls = []
    with process("input()") as waiting:
        deaths.watch(waiting.pid, lambda: (calls.append(1), told.set()))
        await asyncio.sleep(0)
        assert not told.is_set()
        waiting.kill()
        await asyncio.wait_for(told.wait(), 5)
        await asyncio.sleep(0.02)  # nothing more is to be told
    assert calls == [1]
    deaths.close()


async def test_a_process_that_is_gone_already_is_told_too() -> None:
    with process("") as ended:
        pass
    deaths = DeathWatch(asyncio.get_running_loop())
    told = asyncio.Event()
    deaths.watch(ended.pid, told.set)
    assert not told.is_set()
    await asyncio.wait_for(told.wait(), 5)
    deaths.close()


async def test_after_closing_nothing_is_told() -> None:
    deaths = DeathWatch(asyncio.get_running_loop())
    told = asyncio.Event()
    with process("input()") as waiting:
        deaths.watch(waiting.pid, told.set)
        deaths.close()
        waiting.kill()
    await asyncio.sleep(0.05)  # nothing is to be told
    assert not told.is_set()


async def test_a_process_that_cannot_be_watched_now_is_watched_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(death_watch, "AGAIN_S", 0.01)
    open_it, tries = os.pidfd_open, []

    def out_of_descriptors(pid: int) -> int:
        tries.append(pid)
        if len(tries) < 4:
            raise OSError(errno.EMFILE, "Too many open files")
        return open_it(pid)

    monkeypatch.setattr(os, "pidfd_open", out_of_descriptors)
    deaths = DeathWatch(asyncio.get_running_loop())
    told = asyncio.Event()
    with process("input()") as waiting:
        deaths.watch(waiting.pid, told.set)
        waiting.kill()
        await asyncio.wait_for(told.wait(), 5)
    assert len(tries) == 4
    assert caplog.text.count("cannot be watched for now") == 1
    deaths.close()


async def test_closing_ends_the_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(death_watch, "AGAIN_S", 0.01)
    tries = mock.Mock(side_effect=OSError(errno.EMFILE, "Too many open files"))
    monkeypatch.setattr(os, "pidfd_open", tries)
    deaths = DeathWatch(asyncio.get_running_loop())
    deaths.watch(os.getpid(), lambda: None)
    deaths.close()
    await asyncio.sleep(0.05)  # five times as long as between two tries: none is to come
    assert tries.call_count == 1
