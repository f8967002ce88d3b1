"""SIGHUP, with a terminal, without one, and where it is ignored."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterator

import pytest

from roost.common.machine import hangup
from roost.common.machine.hangup import listen_to_hangup
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


async def test_with_a_terminal_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = asyncio.Event()
    monkeypatch.setattr(hangup, "has_terminal", lambda: True)
    listen_to_hangup(asyncio.get_running_loop(), ended.set)
    signal.raise_signal(signal.SIGHUP)
    await asyncio.wait_for(ended.wait(), 5)
    asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)


async def test_without_one_that_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(hangup, "has_terminal", lambda: False)
    listen_to_hangup(asyncio.get_running_loop(), lambda: pytest.fail("it ended"))
    with caplog.at_level(logging.WARNING, "roost"):
        signal.raise_signal(signal.SIGHUP)
        await until("a word", lambda: "SIGHUP changes nothing" in caplog.text)
    asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)


async def test_under_nohup_it_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr(hangup, "has_terminal", lambda: True)
    listen_to_hangup(asyncio.get_running_loop(), lambda: pytest.fail("it ended"))
    signal.raise_signal(signal.SIGHUP)
    await asyncio.sleep(0.01)  # nothing is to happen
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
