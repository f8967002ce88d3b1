"""Running a shard's loop to its own end, and not to the end that users' code would give it.

``SystemExit`` and ``KeyboardInterrupt`` go through an event loop: asyncio hands each other exception to the task, or to
the loop's exception handler, and lets these two end the run. Users' code raises them without meaning the process
(``argparse`` does for a bad option), from wherever it is called: a task, a timer, a callback of a future. They end what
has raised them; the run goes on where it was. A signal never comes this way: a shard handles SIGINT and SIGTERM itself.

The end of the process is the shard's, too: what objects' code has left (a task or a generator that catches everything,
a thread) may never end, and has its time only.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvloop

from .objects.closing import LAST_STEPS_S
from .running.failures import in_full
from .running.tasks import cancel, hide_tasks_of_others
from .running.threads import note_threads

LAST_THREADS_S = 2.0
"""Seconds that users' threads have when the shard has ended: those of the loop's executor while there is a loop, and
once more all that Python waits for."""
ENDING_S = 2 * LAST_STEPS_S + 2 * LAST_THREADS_S + 2
"""Seconds that a process has to end once its shard has: tasks, generators and threads have had theirs by then."""

log = logging.getLogger("roost.shard")


def run_through(
    main: Coroutine[Any, Any, None],
    loop: asyncio.AbstractEventLoop | None = None,
    on_end: Callable[[], None] = lambda: None,
) -> None:
    """Run *main* on a loop of its own until it has ended. Raises what it raises.

    Args:
        main: The shard's main coroutine.
        loop: A new loop to run it on; uvloop's by default.
        on_end: Called when *main* has ended.
    """
    loop = loop or uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    hide_tasks_of_others(loop)
    note_threads(loop)
    executor = ThreadPoolExecutor(thread_name_prefix="executor")
    loop.set_default_executor(executor)
    try:
        _complete(loop, main)
    finally:
        try:
            on_end()
            _complete(loop, _end_tasks())
            _complete(loop, _within_reason(loop.shutdown_asyncgens()))
            _complete(loop, _end_executor(executor))
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def _complete(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None]) -> None:
    task = loop.create_task(coroutine)
    while not task.done():
        try:
            loop.run_until_complete(task)
        except BaseException as error:
            if task.done() or loop.is_closed():
                break
            log.error(
                "an object's code has raised what would end the process; it ends that code only\n%s", in_full(error)
            )
    task.result()


async def _end_tasks() -> None:
    """Cancel what is left: nobody will run it."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        cancel(task)
    if tasks:
        await asyncio.wait(tasks, timeout=LAST_STEPS_S)


async def _within_reason(what: Coroutine[Any, Any, None]) -> None:
    # Not a timeout, which waits for what it has cancelled.
    await asyncio.wait({asyncio.ensure_future(what)}, timeout=LAST_STEPS_S)


async def _end_executor(executor: ThreadPoolExecutor) -> None:
    """Wait for what it runs, within reason; nothing else begins."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def wait() -> None:
        executor.shutdown(cancel_futures=True)
        try:
            loop.call_soon_threadsafe(ended.set_result, None)
        except RuntimeError:
            pass  # it took too long, and the loop is closed

    threading.Thread(target=wait, daemon=True).start()
    await asyncio.wait([ended], timeout=LAST_THREADS_S)


def leave_soon(code: int) -> None:
    """The process is about to end, once Python has waited for all threads. Whatever these do, that is soon.

    Args:
        code: Its exit code.
    """

    def leave() -> None:
        names = ", ".join(thread.name for thread in threading.enumerate() if not thread.daemon)
        log.warning("threads of objects' code still run, and end with the process: %s", names)
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:
                pass  # nobody reads it any more
        os._exit(code)

    timer = threading.Timer(LAST_THREADS_S, leave)
    timer.daemon = True
    try:
        timer.start()
    except RuntimeError:
        _end_by_the_system(LAST_THREADS_S)


def end_at_last(within_s: float = ENDING_S) -> None:
    """Have the process end within that, however: code that never gives the interpreter back cannot be told. Where it
    stood is written to stderr."""
    try:
        faulthandler.dump_traceback_later(within_s, exit=True, file=2)
    except RuntimeError:
        _end_by_the_system(within_s)


def _end_by_the_system(within_s: float) -> None:
    """The same without a thread, where none can be started: nothing is written then."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, within_s)
