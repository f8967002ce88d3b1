"""Running a shard's loop to its own end, and not to the end that users' code would give it.

``SystemExit`` and ``KeyboardInterrupt`` go through an event loop: asyncio hands each other exception to the task, or to
the loop's exception handler, and lets these two end the run. Users' code raises them without meaning the process
(``argparse`` does for a bad option), from wherever it is called: a task, a timer, a callback of a future. They end what
has raised them; the run goes on where it was. A signal never comes this way: a shard handles SIGINT and SIGTERM itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import uvloop

from .failures import in_full
from .tasks import hide_tasks_of_others
from .threads import note_threads

log = logging.getLogger("roost.shard")


def run_through(main: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Run *main* on a loop of its own until it has ended. Raises what it raises.

    Args:
        main: The shard's main coroutine.
        loop: A new loop to run it on; uvloop's by default.
    """
    loop = loop or uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    hide_tasks_of_others(loop)
    note_threads(loop)
    try:
        _complete(loop, main)
    finally:
        try:
            _complete(loop, _end_tasks())
            _complete(loop, loop.shutdown_asyncgens())
            _complete(loop, loop.shutdown_default_executor())
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
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
