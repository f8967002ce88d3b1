"""The loop, as the runtime itself uses it: what is left with it comes in the runtime's own context.

Objects' code runs in contexts that name the life it belongs to, and whatever it leaves with the loop belongs to that
life (``loop_calls``). The runtime is mostly called by such code, and what it sets off must not count as that object's,
nor end with it.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class OwnLoop:
    """See the module. Made while no object's code runs.

    Args:
        loop: The loop.

    Attributes:
        context: The runtime's context, which each life gets a copy of.
        now: Seconds of the loop's clock.
    """

    __slots__ = ("_loop", "context", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.context = contextvars.copy_context()
        self.now: Callable[[], float] = loop.time

    def call_soon(self, action: Callable[..., object], *args: Any) -> None:
        """Have *action* called in the loop's next turn."""
        self._loop.call_soon(action, *args, context=self.context)

    def call_later(self, seconds: float, action: Callable[[], object]) -> asyncio.TimerHandle:
        """Have *action* called after so long; whoever asks cancels it when it must not be any more."""
        return self._loop.call_later(seconds, action, context=self.context)

    def call_at(self, time: float, action: Callable[[], object]) -> asyncio.TimerHandle:
        """The same at a time of the loop's clock."""
        return self._loop.call_at(time, action, context=self.context)

    def create_task(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run *coroutine* as a task; whoever asks keeps it, and ends it."""
        return self.context.copy().run(self._loop.create_task, coroutine)

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return self._loop.create_future()

    def call_now(self, action: Callable[..., T], *args: Any) -> T:
        """Call *action* now: an object's code has asked for it."""
        return self.context.copy().run(action, *args)
