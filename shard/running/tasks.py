"""Tasks that objects' code starts: each is adopted by the life whose code starts it, and ends with that life.

A task's coroutine is taken through step by step, so that it can be stopped for good: one that catches everything that
is thrown into it would otherwise go on beside the object's next life for as long as it likes.

Objects' code sees the tasks of its own life only: to cancel ``asyncio.all_tasks()`` is a common way to tidy up, and all
objects of a shard, and the shard, have theirs on the same loop.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any

from ..api.current import current
from ..api.life import Life
from ..api.unfinished import Note
from ..stack import enough_stack

_ADOPTION = 12
"""Calls that the making of a task and its adoption are deep."""


def make_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    """The loop's task factory: a task of an object is adopted by the life whose code starts it."""
    life = current.get()
    if life is None or not asyncio.iscoroutine(coro):
        return asyncio.Task(coro, loop=loop, **options)
    life.check_thread()
    enough_stack(_ADOPTION)
    if options.get("name") is None:
        options["name"] = f"{life.label} task"
    context = options.get("context")
    if context is not None and context.get(current) is None:
        # One of the user's own, without anything of the object's: its code is the object's all the same.
        try:
            context.run(current.set, life)
        except RuntimeError:
            pass  # some other code runs in it right now
    note = life.cause(loop)
    task = ObjectTask(coro, life, note, loop=loop, **options)
    life.adopt(task, note)
    if life.stopped:
        cancel(task)  # before its first step
    return task


_tasks_of_everybody = asyncio.all_tasks


def hide_tasks_of_others(shards_loop: asyncio.AbstractEventLoop) -> None:
    """From now on ``asyncio.all_tasks()`` gives objects' code the tasks of its own life; the runtime has all. To be
    called before the app is imported, which may import the function by its name.

    Args:
        shards_loop: The loop that all objects run on. One that a thread of an object's code runs is its own.
    """

    def all_tasks(loop: asyncio.AbstractEventLoop | None = None) -> set[asyncio.Task[Any]]:
        """Return a set of the tasks of this object's instance that run on the loop."""
        tasks, life = _tasks_of_everybody(loop), current.get()
        if life is None or (loop or asyncio.get_running_loop()) is not shards_loop:
            return tasks
        own = {*life.own_tasks(), asyncio.current_task(shards_loop)}
        return {task for task in tasks if task in own}

    asyncio.all_tasks = asyncio.tasks.all_tasks = all_tasks


class ObjectTask(asyncio.Task[Any]):
    """A task that an object's code has started. It keeps the name that the factory gave it.

    Args:
        coroutine: What to run.
        life: The life that it belongs to.
        note: The event that has started it; ``None`` if none has.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], life: Life, note: Note | None, **options: Any) -> None:
        self._coroutine = coroutine
        self.note = note
        steps: Any = _run(coroutine, life, note)
        steps.__name__ = getattr(coroutine, "__name__", steps.__name__)
        steps.__qualname__ = getattr(coroutine, "__qualname__", steps.__qualname__)
        super().__init__(steps, **options)

    def get_coro(self) -> Any:
        """The user's coroutine."""
        return self._coroutine

    def shut(self) -> None:
        """The task has ended; its coroutine perhaps never began, if it was cancelled before."""
        shut(self._coroutine)

    def set_name(self, value: object) -> None:
        # Some versions of asyncio name each task of a factory after what the caller has said, be it nothing.
        if value is not None:
            super().set_name(value)


async def _run(coroutine: Any, life: Life, note: Note | None) -> Any:
    return await _steps(coroutine, life, note)


@types.coroutine
def _steps(coroutine: Any, life: Life, note: Note | None) -> Generator[Any, Any, Any]:
    """Take *coroutine* through, as long as its life is not stopped. Each step is noted in the shard's last words."""
    steps, object_id = life.steps, life.object_id
    value: Any = None
    thrown: BaseException | None = None
    try:
        while True:
            steps.note_step(object_id, note)
            yielded = coroutine.send(value) if thrown is None else coroutine.throw(thrown)
            steps.quiet()
            value = thrown = None
            try:
                value = yield yielded
            except BaseException as error:
                thrown = error
            yielded = None
            if life.stopped:
                shut(coroutine)
                raise asyncio.CancelledError
    except StopIteration as stop:
        return stop.value
    finally:
        steps.quiet()
        thrown = None  # its traceback refers to this frame


def cancel(future: asyncio.Future[Any]) -> None:
    """Cancel a handler or a task. What it waits for may be of a class of the user's, whose ``cancel`` raises: then it
    waits on, and is stopped like one that catches its cancellation."""
    try:
        future.cancel()
    except BaseException:
        pass


def shut(coroutine: Any) -> None:
    """Close *coroutine*, which is not running; it never takes another step. Nobody asks for its last words."""
    try:
        coroutine.close()
    except BaseException:
        pass  # it has waited once more in spite of it, or raised something
