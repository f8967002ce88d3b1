"""The watch over processes of this machine (real ones: there is nothing to be pure about)."""

from __future__ import annotations

import asyncio
import subprocess
import sys

from roost.router.death_watch import DeathWatch


async def test_the_end_of_a_process_is_told_once() -> None:
    loop = asyncio.get_running_loop()
    deaths = DeathWatch(loop)
    told = asyncio.Event()
    calls = []
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        deaths.watch(process.pid, lambda: (calls.append(1), told.set()))
        await asyncio.sleep(0)
        assert not told.is_set()
        process.kill()
        await asyncio.wait_for(told.wait(), 5)
        await asyncio.sleep(0.02)
    assert calls == [1]
    deaths.close()


async def test_a_process_that_is_gone_already_is_told_too() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    deaths = DeathWatch(asyncio.get_running_loop())
    told = asyncio.Event()
    deaths.watch(process.pid, told.set)
    assert not told.is_set()
    await asyncio.wait_for(told.wait(), 5)
    deaths.close()


async def test_after_closing_nothing_is_told() -> None:
    deaths = DeathWatch(asyncio.get_running_loop())
    told = asyncio.Event()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        deaths.watch(process.pid, told.set)
        deaths.close()
        process.kill()
    await asyncio.sleep(0.05)
    assert not told.is_set()
