"""Waiting with a deadline and a message: a test that hangs says what it was waiting for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_S = 10.0
"""Long enough for a loaded machine; only a test that fails waits for it."""


async def within(what: str, awaitable: Awaitable[T], seconds: float = DEADLINE_S) -> T:
    """Await something, or fail with "waited N s for *what*"."""
    waited = asyncio.ensure_future(awaitable)
    done, _ = await asyncio.wait({waited}, timeout=seconds)
    if done:
        return waited.result()
    waited.cancel()
    await asyncio.wait({waited})
    raise AssertionError(f"waited {seconds:g} s for {what}")


async def until(what: str, condition: Callable[[], bool], seconds: float = DEADLINE_S) -> None:
    """Poll *condition* where nothing announces it: a process's end, a line in a log, a file."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up_at:
            raise AssertionError(f"waited {seconds:g} s for {what}")
        await asyncio.sleep(0.01)
