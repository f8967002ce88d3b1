"""Threads that objects' code starts, and work that it gives to pools: both keep the object awake until they have ended.

The loop hears of neither. So two methods of the standard library are replaced, in the shard's process: the start of a
thread, and ``submit`` of the pools of ``concurrent.futures``. Calls of the runtime have no life in their context and go
straight on; nor do those of the pools themselves, whose threads serve everybody and stay.

What runs in such a thread has the life in its context, and nothing else of it, so that what it asks of the loop
(``call_soon_threadsafe``, ``run_coroutine_threadsafe``) is the object's, as if a handler had asked for it. A thread
cannot be ended: one that outlives its life is refused by all that it calls (see ``life``).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextvars import Context
from functools import partial
from typing import Any

from ..api.current import as_nobody, current
from ..api.life import Life
from .forked import InThread

_start = threading.Thread.start
_submit_to_threads = ThreadPoolExecutor.submit
_submit_to_processes = ProcessPoolExecutor.submit


def note_threads(loop: asyncio.AbstractEventLoop) -> None:
    """Have threads and work of pools noted from now on. A second time another loop is told of them.

    Args:
        loop: The loop that all objects run on.
    """

    def start(thread: threading.Thread) -> None:
        life = current.get()
        if life is None:
            _start(thread)
            return
        ended, run = _keep_awake(life, loop), carried(life, thread.run)

        def run_and_tell() -> None:
            try:
                run()
            finally:
                forget()

        def forget() -> None:
            del thread.run  # which refers to the thread
            ended()

        thread.run = run_and_tell  # type: ignore[method-assign]
        try:
            _start(thread)
        except BaseException:
            forget()
            raise

    def submit_to_threads(pool: ThreadPoolExecutor, function: Any, /, *args: Any, **options: Any) -> Future[Any]:
        life = current.get()
        if life is None:
            return _submit_to_threads(pool, function, *args, **options)
        future = as_nobody(partial(_submit_to_threads, pool, carried(life, function), *args, **options))
        return _keep_awake_for(future, life)

    def submit_to_processes(pool: ProcessPoolExecutor, function: Any, /, *args: Any, **options: Any) -> Future[Any]:
        life = current.get()
        if life is None:
            return _submit_to_processes(pool, function, *args, **options)
        return _keep_awake_for(as_nobody(partial(_submit_to_processes, pool, function, *args, **options)), life)

    def _keep_awake_for(future: Future[Any], life: Life) -> Future[Any]:
        ended = _keep_awake(life, loop)
        future.add_done_callback(lambda _: ended())
        return future

    threading.Thread.start = start  # type: ignore[method-assign, assignment]
    ThreadPoolExecutor.submit = submit_to_threads  # type: ignore[method-assign, assignment]
    ProcessPoolExecutor.submit = submit_to_processes  # type: ignore[method-assign, assignment]


def carried(life: Life, function: Callable[..., Any]) -> Callable[..., Any]:
    """*function*, which another thread is to call, in the name of *life*."""
    context = Context()
    context.run(current.set, life)
    return partial(context.run, InThread(function))


def _keep_awake(life: Life, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """Keep the object of *life* awake until the result is called, by any thread. So may this be."""
    future: asyncio.Future[None] = asyncio.Future(loop=loop)
    if life.is_on_its_thread:
        _adopt(life, future)
    else:
        loop.call_soon_threadsafe(_adopt, life, future)
    return partial(_tell, loop, future)


def _adopt(life: Life, future: asyncio.Future[None]) -> None:
    if life.over is None:
        life.adopt_future(future)


def _tell(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    try:
        loop.call_soon_threadsafe(_end, future)
    except RuntimeError:
        pass  # the shard has ended, and its loop is closed


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
