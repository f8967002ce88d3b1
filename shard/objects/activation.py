"""Activations: one life of an object's instance in memory.

States of an object, seen from its activation
==============================================

================ ============================== ============================ =======================================
state            means                          event                        becomes
================ ============================== ============================ =======================================
ASLEEP           no instance; sockets are       an event comes               CONSTRUCTING
                 packages only
CONSTRUCTING     ``__init__`` runs              it returns                   ACTIVE, or BLOCKED if it has called
                                                                             ``block_concurrency_while``
                                                it raises                    ASLEEP; a request gets 500, anything
                                                                             else resets the object
ACTIVE           events start as they come      ``block_concurrency_while``  BLOCKED
                                                idle for long enough         OVER (hibernated)
                                                ``abort``                    OVER
                                                the slot is to move          LEAVING
BLOCKED          events wait in the mailbox     the callback has ended       ACTIVE, or LEAVING
                                                the callback raised          OVER
LEAVING          what runs may end; no event    all has ended, or was given  the object is forgotten
                 starts, but for the closes of  up
                 connections of a dead router
OVER             this life is over: its code    its code has ended, or was   the next life may begin
                 is cancelled, and what it does stopped
                 has no effect
================ ============================== ============================ =======================================

An activation is idle when no handler runs, no ``wait_until`` is pending, no task that its code started is alive,
nothing is ``pending`` that it has left behind (timers, futures of executors, threads, descriptors, signals), and no
socket that was accepted with ``accept()`` is open.

Handlers and tasks of a life that is over may not end at once when they are cancelled: ``closing`` has the stages of a
life's end, and the object's next life does not begin before the last of them.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Collection
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ...common.errors import LifeOver, ObjectReset
from ..api.current import current
from ..api.life import Life
from ..api.unfinished import Note
from ..running.failures import Failure, is_end_of_life
from ..running.reasons import Reason
from ..running.tasks import ObjectTask, cancel

if TYPE_CHECKING:
    from ..running.work import Handled
    from .runtime import Hosted

T = TypeVar("T")

Handler = Callable[..., Any]

BLOCK_TIMEOUT_S = 30.0
"""Seconds that the callback of ``block_concurrency_while`` may take (the reference runtime)."""
SETTLING_TURNS = 8
"""Turns of the loop for which events still wait behind ``block_concurrency_while``: what has awaited it goes on before
them, also through ``wait_for``, ``gather`` or a task or two."""


class ActivationState(Enum):
    """See the table above; ASLEEP is having no activation."""

    CONSTRUCTING = auto()
    """``__init__`` runs."""
    ACTIVE = auto()
    """Events start as they come."""
    BLOCKED = auto()
    """``block_concurrency_while``: events wait."""
    LEAVING = auto()
    """The object moves to another shard: what runs may end."""
    OVER = auto()
    """Over; nothing of it counts any more."""


class Activation(Life):
    """One life of an object's instance.

    Attributes:
        owner: The object.
        state: See the table above.
        is_open: It is ACTIVE: events start as they come, and nobody need ask. (To look up a member of an enumeration
            takes as long as a call, and this is looked at for every message.)
        instance: The user's object; set once ``__init__`` has returned.
        failure: Why the object was reset, once it was.
        context: The context that its code runs in, copied for each event.
        jobs: Its jobs whose handlers wait for something.
        tasks: Tasks that its code started, ``wait_until`` included.
        promises: What ``wait_until`` waits for; they are among the tasks.
        closers: What is awaited when it closes; ``None`` if nothing is.
        on_message: The class's handler of messages; ``None`` if it has none.
        on_close: The same of ends of connections.
        on_error: The same of failures.
        on_fetch: The same of requests.
    """

    __slots__ = (
        "_asked_to_end",
        "_blockers",
        "closers",
        "context",
        "failure",
        "instance",
        "is_open",
        "jobs",
        "on_close",
        "on_error",
        "on_fetch",
        "on_message",
        "owner",
        "promises",
        "state",
        "tasks",
    )

    owner: Hosted

    def __init__(self, owner: Hosted) -> None:
        super().__init__(owner.object_id, owner.runtime.runner)
        self.owner = owner
        self.state = ActivationState.CONSTRUCTING
        self.is_open = False
        self.failure: Failure | None = None
        self.instance: Any = None
        self.context: contextvars.Context = owner.runtime.loop.context.copy()
        self.context.run(current.set, self)
        self.jobs: set[Handled] = set()
        self.tasks: set[asyncio.Future[Any]] = set()
        self.promises: set[asyncio.Future[Any]] = set()
        self._asked_to_end: set[asyncio.Future[Any]] = set()
        self._blockers = 0
        self.closers: list[Callable[[], Awaitable[None]]] | None = None  # made when needed: few hold anything
        self.on_message: Handler | None = None
        self.on_close: Handler | None = None
        self.on_error: Handler | None = None
        self.on_fetch: Handler | None = None

    def construct(self, env: Any, ctx: object) -> None:
        """Make the instance; raises whatever its ``__init__`` raises."""
        hosted = self.owner.hosted_class
        self.instance = instance = self.context.run(hosted.cls, ctx, env)
        self.on_message = hosted.bound(instance, "web_socket_message")
        self.on_close = hosted.bound(instance, "web_socket_close")
        self.on_error = hosted.bound(instance, "web_socket_error")
        self.on_fetch = hosted.bound(instance, "fetch")
        if self.state is ActivationState.CONSTRUCTING:
            self._become(ActivationState.BLOCKED if self._blockers else self._unblocked)

    def _become(self, state: ActivationState) -> None:
        self.state = state
        self.is_open = state is ActivationState.ACTIVE

    @property
    def _unblocked(self) -> ActivationState:
        return ActivationState.LEAVING if self.owner.leaving else ActivationState.ACTIVE

    # --- block_concurrency_while ---

    def block_while(self, callback: Callable[[], Awaitable[T]]) -> asyncio.Future[T]:
        """Run *callback* while no event starts."""
        task = asyncio.ensure_future(self._blocking(callback))
        self.block()  # now that it will be unblocked
        task.add_done_callback(_seen)
        return task

    async def _blocking(self, callback: Callable[[], Awaitable[T]]) -> T:
        owner, limit = self.owner, asyncio.timeout(BLOCK_TIMEOUT_S)
        try:
            async with limit:
                result = await callback()
        except BaseException as error:
            runtime = owner.runtime
            if self.over is None and not runtime.is_closing and not owner.leaving:
                took_long = TimeoutError(f"the callback took more than {BLOCK_TIMEOUT_S:g} s")
                why = took_long if limit.expired() else error
                failure = runtime.errors.failed(Reason.RESET.value, f"{owner.label} block_concurrency_while", why)
                runtime.loop.call_now(owner.reset, failure)
                raise ObjectReset("the object was reset: block_concurrency_while failed") from error
            self._unblock_soon()
            raise
        self._unblock_soon()
        return result

    def _unblock_soon(self, turns: int = SETTLING_TURNS) -> None:
        """Let events start again, but not before the code that waited for the callback has gone on, as far as it does
        without waiting for something else: it is told by the loop, which takes a turn for each future in between."""
        if turns:
            self.owner.runtime.loop.call_soon(self._unblock_soon, turns - 1)
            return
        if self.unblock() and self.over is None:
            self.owner.pump()
        self.note_idle()

    def block(self) -> None:
        """Let events wait until ``unblock`` has been called as often."""
        self._blockers += 1
        if self.is_open:
            self._become(ActivationState.BLOCKED)

    def unblock(self) -> bool:
        """The opposite of ``block``; says whether events may start again."""
        self._blockers -= 1
        if self._blockers or self.state is not ActivationState.BLOCKED:
            return False
        self._become(self._unblocked)
        return True

    def leave(self) -> None:
        """The object moves: no event starts any more."""
        if self.is_open:
            self._become(ActivationState.LEAVING)

    # --- what its code starts (see ``Life``) ---

    # What is told of tasks and futures comes in the runtime's context: what it sets off is not the object's.

    @property
    def label(self) -> str:
        return self.owner.label

    def cause(self, loop: asyncio.AbstractEventLoop) -> Note | None:
        runner = self.owner.runtime.runner
        job = runner.running
        if job is not None:
            return job.at_work() if job.activation is self else None
        if runner.calling is not None:
            return runner.calling.note
        task: asyncio.Task[Any] | None = asyncio.current_task(loop)
        return task.note if isinstance(task, ObjectTask) else None

    def adopt(self, task: asyncio.Task[Any], note: Note | None) -> None:
        self.tasks.add(task)
        self._hold(note)
        task.add_done_callback(partial(self._task_ended, note), context=self.owner.runtime.loop.context)

    def _task_ended(self, note: Note | None, task: asyncio.Future[Any]) -> None:
        assert isinstance(task, ObjectTask)
        task.shut()
        self._release(note)
        self._ended(task)

    def adopt_future(self, future: asyncio.Future[Any]) -> None:
        self.pending.add_future(future)
        note = self.cause(future.get_loop())
        self._hold(note)
        future.add_done_callback(partial(self._future_ended, note), context=self.owner.runtime.loop.context)

    def _future_ended(self, note: Note | None, future: asyncio.Future[Any]) -> None:
        self._release(note)
        self.pending.remove_future(future)
        self.note_idle()

    def wait_until(self, awaitable: Awaitable[Any]) -> None:
        """Stay awake until *awaitable* has ended."""
        if not asyncio.iscoroutine(awaitable) and type(awaitable) not in _FUTURES:
            awaitable = _awaited(awaitable)
        future = asyncio.ensure_future(awaitable, loop=asyncio.get_running_loop())
        self.tasks.add(future)
        self.promises.add(future)
        future.add_done_callback(self._promise_ended, context=self.owner.runtime.loop.context)

    def _promise_ended(self, future: asyncio.Future[Any]) -> None:
        error = None if future.cancelled() else future.exception()
        if error is not None and not is_end_of_life(error):
            self.user_error(f"{self.label} wait_until", error)
        self.promises.discard(future)
        self._ended(future)

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self.tasks.discard(task)
        if self.over is not None:
            self.owner.runtime.closings.look_at(self)
        self.note_idle()

    def _hold(self, note: Note | None) -> None:
        if note is not None:
            self.owner.runtime.unfinished.hold(note)

    def _release(self, note: Note | None) -> None:
        # In the turn after: what the object's code has to be called at the end of something is called in this one.
        if note is not None:
            runtime = self.owner.runtime
            runtime.loop.call_soon(runtime.unfinished.release, note)

    def own_tasks(self) -> Collection[asyncio.Future[Any] | None]:
        return [*self.tasks, *(job.task for job in self.jobs)]

    def note_idle(self) -> None:
        self.owner.runtime.note_idle(self.owner)

    def user_error(self, where: str, error: BaseException) -> None:
        self.owner.runtime.errors.note(where, error)

    @property
    def has_come_to_rest(self) -> bool:
        """Whether nothing runs that would have to end before the object can move."""
        return not self.jobs and not self.promises and not self._blockers

    def starts(self, job: Handled) -> bool:
        """Whether *job* may start in the present state."""
        return self.is_open or (self.state is ActivationState.LEAVING and job.peer is None)

    # --- how it ends (see ``closing``) ---

    def at_close(self, closer: Callable[[], Awaitable[None]]) -> None:
        """Have *closer* awaited once no code of this life takes another step: the object's next life, here or at
        another shard, begins after that. It is of our own, and ends: nobody else sees to that."""
        if self.closers is None:
            self.closers = []
        self.closers.append(closer)

    def take_closers(self) -> list[Callable[[], Awaitable[None]]]:
        """What is to be awaited, the last one first; it is so once."""
        closers, self.closers = self.closers or [], None
        return closers[::-1]

    def ask_to_end(self, why: Reason) -> None:
        """Cancel what runs, each once, however often this is called: what tidies up is not disturbed at that."""
        runtime = self.owner.runtime
        for job in list(self.jobs):
            if job is runtime.runner.running:
                runtime.loop.call_soon(job.cancel, why)  # it cannot be now, and may wait once more
            elif job.cancelled_for is None:
                job.cancel(why)
        self.ask_tasks_to_end()

    def insist(self, why: Reason) -> None:
        """Cancel all that runs, also what has been asked to end."""
        for job in list(self.jobs):
            job.cancel(why)
        for task in list(self.tasks):
            cancel(task)

    def ask_tasks_to_end(self) -> None:
        """Cancel the tasks, each once, however often this is called: a task that cleans up is not disturbed at that.
        Whoever has waited for long enough cancels again what resists."""
        for task in self.tasks - self._asked_to_end:
            self._asked_to_end.add(task)
            cancel(task)

    def close(self, over: LifeOver) -> None:
        """This life is over: the object is reset, falls asleep, or moves."""
        self._become(ActivationState.OVER)
        super().close(over)

    def stop(self) -> None:
        """None of its code takes another step: nobody waits for it any more."""
        super().stop()
        self.jobs.clear()
        self.promises.clear()
        tasks, self.tasks = self.tasks, set()
        for task in tasks:
            cancel(task)  # what it waits for goes on with something that ends at once
        # The instance, its ``ctx`` and the context refer back to this: nobody should need the cycle collector.
        self.instance = self.on_message = self.on_close = self.on_error = self.on_fetch = None
        self.context = contextvars.Context()

    @property
    def has_ended(self) -> bool:
        """Whether no handler and no task of it is left that would go on."""
        return not self.jobs and not self.tasks

    @property
    def why_reset(self) -> str:
        """What the public hears of the reset."""
        return Reason.RESET.value if self.failure is None else self.failure.text

    @property
    def idle(self) -> bool:
        """Whether it may be dropped, as far as its own code goes; timers apart, which have their times."""
        return self.is_open and not self.jobs and not self.tasks and not self.pending

    def admits(self, job: Handled) -> bool:
        """Whether *job* may start now, open or not; if not, its object has taken it back."""
        if self.starts(job):
            return True
        self.owner.take_back(job)
        return False


_FUTURES = (asyncio.Future, asyncio.Task, ObjectTask)
"""Those whose methods are known to do what they should. Other awaitables are awaited by a task of ours."""


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _seen(future: asyncio.Future[Any]) -> None:
    """Nobody need await it: what it raised has been logged."""
    if not future.cancelled():
        future.exception()
