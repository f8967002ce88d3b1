"""Blocking calls of our own, each on a thread of its own.

The executor of the loop is everybody's: in a shard objects' code may fill it with calls that take for ever, shut it
down or put another one in its place. What a shard has to do to hand its slots over, or to end, must not wait for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

T = TypeVar("T")


async def apart(function: Callable[..., T], *args: object) -> T:
    """What *function* returns, or raises, called on a new thread. Whoever is cancelled does not wait for its end, nor
    does the process.

    Raises:
        RuntimeError: No thread can be started.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(done: Callable[[], None]) -> None:
        if not future.done():  # or else it was cancelled
            done()

    def run() -> None:
        try:
            done = partial(future.set_result, function(*args))
        except BaseException as error:
            done = partial(future.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
            loop.call_soon_threadsafe(settle, done)

    threading.Thread(target=run, name="apart", daemon=True).start()
    return await future
