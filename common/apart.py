"""Blocking calls of our own, each on a thread of its own.

The executor of the loop is everybody's: in a shard objects' code may fill it with calls that take for ever, shut it
down or put another one in its place. What a shard has to do to hand its slots over, or to end, must not wait for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
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

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return  # cancelled
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = function(*args)
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="apart", daemon=True).start()
    return await future
