"""The loop's calls as objects' code makes them: what they leave with the loop is noted with the life that made them.

Tasks are found by the loop's task factory. What else may come later is set by a few methods of the loop, so those are
replaced on the very loop that the host runs on: whoever calls them, be it asyncio itself in an object's name, is known
by the context that the call, or the callback, runs in. The runtime's own calls have no life in their context and go
straight on. ``call_soon`` is left alone: it comes in the same turn, and all tasks are driven by it.

Code of a life that is over may still call them in its last steps, while it is ended. Once it is stopped what it asks
for never comes: to raise there would make a loop that catches everything run without an end, where now it waits.

What is called back is noted in the shard's last words while it runs, as a handler's steps are: it may end the process.

Some methods would take the loop away from all objects of the shard. In objects' code they raise.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from typing import Any, NoReturn

from ...common.errors import ApiError
from ..api.current import as_nobody, current
from ..api.life import Life
from ..api.unfinished import Note
from ..stack import enough_stack
from .threads import carried
from .unrun import unrun

_THE_SHARDS_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_NOT_FOR_OBJECTS = (
    "stop",
    "close",
    "set_task_factory",
    "set_exception_handler",
    "shutdown_asyncgens",
    "shutdown_default_executor",
)


def note_calls(loop: asyncio.AbstractEventLoop) -> None:
    """Have the calls that objects' code makes to *loop*, which all runs on, noted. A second time changes nothing."""
    if not hasattr(loop, "_roost_calls"):
        loop._roost_calls = _Calls(loop)  # type: ignore[attr-defined]


class Callback:
    """What the loop is to call for an object.

    Args:
        life: The life whose code has asked for it.
        func: What is called.
        loop: The loop.

    Attributes:
        life: See above.
        func: See above.
        note: The event that has led to it; ``None`` if none has.
    """

    __slots__ = ("func", "life", "note")

    def __init__(self, life: Life, func: Callable[..., object], loop: asyncio.AbstractEventLoop) -> None:
        self.func = func
        self.life = life
        self.note: Note | None = life.cause(loop)

    def __call__(self, *args: Any) -> None:
        life = self.life
        steps = life.steps
        steps.calling = self
        steps.note_step(life.object_id, self.note)
        try:
            result = self.func(*args)
        finally:
            steps.calling = None
            steps.quiet()
        wrong = None if result is None else unrun(result)
        if wrong is not None:
            life.user_error(self.label, wrong)

    @property
    def label(self) -> str:
        """The object and the function, for logs."""
        name = getattr(self.func, "__qualname__", None) or type(self.func).__qualname__
        return f"{self.life.label} callback {name}"

    def __repr__(self) -> str:
        return repr(self.func)


def _called(life: Life, callback: Callable[..., object], loop: asyncio.AbstractEventLoop) -> Callable[..., object]:
    """*callback*, noted while it runs; but for asyncio's own (of ``sleep``, say), which end no process. Loops make one
    way of setting timers out of the other, so that it may be known already."""
    if type(callback) is Callback or str(getattr(callback, "__module__", "")).startswith("asyncio."):
        return callback
    return Callback(life, callback, loop)


class _Calls:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._holders: dict[object, Life | None] = {}
        """Who watches what; ``None``: the runtime itself."""
        self._replace_timers(loop)
        self._replace_executor(loop)
        self._replace_calls_of_threads(loop)
        for kind in ("reader", "writer"):
            self._replace_watching(loop, f"add_{kind}", f"remove_{kind}", _descriptor)
        self._replace_watching(loop, "add_signal_handler", "remove_signal_handler", _signal)
        for name in _NOT_FOR_OBJECTS:
            self._forbid(loop, name)

    @staticmethod
    def _replace_timers(loop: asyncio.AbstractEventLoop) -> None:
        now, later, at = loop.time, loop.call_later, loop.call_at

        def noted(
            set_timer: Callable[..., asyncio.TimerHandle],
            time: float,
            callback: Callable[..., object],
            args: tuple[Any, ...],
            context: Context | None,
        ) -> asyncio.TimerHandle:
            life = current.get() if context is None else context.get(current)
            if life is None:
                return set_timer(time, callback, *args, context=context)
            life.check_thread()
            timer = set_timer(time, _called(life, callback, loop), *args, context=context)
            if life.stopped:
                timer.cancel()
            elif hasattr(timer, "when"):  # some loops make a timer of no time a call of the next turn
                life.pending.add_timer(timer, now())
            return timer

        def call_later(
            delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
        ) -> asyncio.TimerHandle:
            return noted(later, delay, callback, args, context)

        def call_at(
            when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
        ) -> asyncio.TimerHandle:
            return noted(at, when, callback, args, context)

        loop.call_later = call_later  # type: ignore[method-assign, assignment]
        loop.call_at = call_at  # type: ignore[method-assign, assignment]

    @staticmethod
    def _replace_executor(loop: asyncio.AbstractEventLoop) -> None:
        run_in_executor = loop.run_in_executor

        def replacement(executor: Any, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
            life = current.get()
            if life is None:
                return run_in_executor(executor, function, *args)
            life.check_thread()
            if life.stopped:
                return loop.create_future()
            enough_stack()
            if executor is None or isinstance(executor, ThreadPoolExecutor):
                function = carried(life, function)  # the others may run it in other processes
            future = as_nobody(lambda: run_in_executor(executor, function, *args))
            life.adopt_future(future)
            return future

        loop.run_in_executor = replacement  # type: ignore[method-assign, assignment]

    @staticmethod
    def _replace_calls_of_threads(loop: asyncio.AbstractEventLoop) -> None:
        """A thread may outlive the life that has started it, and serve others: a library's, that was first used by one
        of many objects. What it says then is nobody's; as a stopped life's it would never come."""
        call_soon_threadsafe = loop.call_soon_threadsafe

        def replacement(callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
            life = current.get()
            if context is None and life is not None and life.over is not None and not life.is_on_its_thread:
                context = Context()
            return call_soon_threadsafe(callback, *args, context=context)

        loop.call_soon_threadsafe = replacement  # type: ignore[method-assign, assignment]

    def _replace_watching(
        self, loop: asyncio.AbstractEventLoop, add_name: str, remove_name: str, what: Callable[[Any], object]
    ) -> None:
        add, remove, holders = getattr(loop, add_name), getattr(loop, remove_name), self._holders

        def forget(key: object) -> None:
            holder = holders.pop(key, None)
            if holder is not None:
                holder.pending.let_go(key)
                if holder.over is None:
                    holder.note_idle()

        def adding(watched: Any, callback: Callable[..., object], *args: Any) -> None:
            life = current.get()
            if life is not None:
                life.check_thread()
                if life.stopped:
                    return
                enough_stack()
            key = (add_name, what(watched))
            if life is not None and key[1] in _THE_SHARDS_SIGNALS and add_name == "add_signal_handler":
                raise ApiError(f"{signal.Signals(watched).name} ends the shard: an object cannot handle it")
            if life is not None and holders.get(key, life) is None:
                raise ApiError(f"{key[1]} is watched by the shard itself: an object cannot take it over")
            add(watched, callback if life is None else _called(life, callback, loop), *args)
            forget(key)
            holders[key] = life
            if life is not None:
                life.pending.hold(key, lambda: end(key))

        def removing(watched: Any) -> Any:
            life, key = current.get(), (add_name, what(watched))
            if life is not None:
                life.check_thread()
                if holders.get(key) is None:
                    return False  # what the shard itself watches is not for objects to end
            forget(key)
            return remove(watched)

        def end(key: tuple[str, Any]) -> None:
            forget(key)
            # Whose descriptor was closed and has another owner now is refused by the loop.
            with contextlib.suppress(Exception):
                remove(key[1])

        setattr(loop, add_name, adding)
        setattr(loop, remove_name, removing)

    @staticmethod
    def _forbid(loop: asyncio.AbstractEventLoop, name: str) -> None:
        original = getattr(loop, name)

        def replacement(*args: Any, **options: Any) -> Any:
            if current.get() is not None:
                _refuse(name)
            return original(*args, **options)

        setattr(loop, name, replacement)


def _refuse(name: str) -> NoReturn:
    raise ApiError(f"an object cannot call {name}() of the event loop, which is all objects' of its shard")


def _descriptor(watched: Any) -> object:
    return watched if isinstance(watched, int) else watched.fileno()


def _signal(watched: Any) -> object:
    return watched
