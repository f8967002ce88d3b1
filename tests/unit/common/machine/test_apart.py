"""Blocking calls on threads of their own."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from roost.common.machine.apart import apart
from tests.support.waiting import within


async def test_it_returns_and_raises_what_the_function_does() -> None:
    assert await apart(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await apart(divmod, 7, 0)


async def test_it_needs_no_executor_of_the_loop() -> None:
    """An object's code may have filled it, for ever."""
    gate = threading.Event()
    with ThreadPoolExecutor(1) as full:
        asyncio.get_running_loop().set_default_executor(full)
        stuck = full.submit(gate.wait)
        try:
            assert (
                await within("a thread of its own", apart(threading.current_thread)) is not threading.current_thread()
            )
        finally:
            gate.set()
        assert stuck.result(5)


async def test_whoever_is_cancelled_does_not_wait() -> None:
    gate, ended = threading.Event(), threading.Event()

    def call() -> None:
        gate.wait()
        ended.set()

    waiting = asyncio.create_task(apart(call))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within("the cancelled call", waiting)
    assert not ended.is_set()
    gate.set()
    assert await asyncio.to_thread(ended.wait, 5), "the thread goes on, and nobody minds"
