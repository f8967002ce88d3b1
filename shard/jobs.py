"""Jobs: one event of an object each, and the runner that takes them through the user's code.

Handlers may be coroutines, but most end without waiting for anything, and a task for each would cost more than the
handler. So the runner has a **carrier**: one task that starts the handlers of many jobs, one after the other. A
handler that ends at once leaves the carrier free for the next job. One that waits keeps it: from then on that carrier
is the handler's own task (``asyncio.timeout``, cancellation and task groups work as anywhere), and the jobs behind it
get a new carrier. Thus the next event of an object starts as soon as the handler before it gives up control, and not
earlier. Each handler runs in a copy of its object's context, every step of it.
"""

from __future__ import annotations

import asyncio
import inspect
import types
from collections import deque
from collections.abc import Callable, Generator
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from ..common.records import HttpRequest
from .current import redelivered

if TYPE_CHECKING:
    from .activation import Activation
    from .hosted import HostedObject
    from .peers import Peer
    from .sockets import Socket


class JobKind(IntEnum):
    """What has happened."""

    MESSAGE = 0
    """A client's message; ``data`` is str or bytes."""
    CLOSED = 1
    """A client has closed or is gone; ``data`` is (code, reason, was_clean)."""
    FAILED = 2
    """A client broke the protocol; ``data`` is (code, description)."""
    FETCH = 3
    """A request; ``data`` is an ``HttpRequest``."""


class Job:
    """One event on its way through the object's code.

    Attributes:
        kind: What has happened.
        owner: The object.
        activation: The life of the instance that handles it; ``None`` while the job waits.
        socket: The connection; ``None`` for a request.
        peer: The router to answer and acknowledge to; ``None`` for an event that no router sent.
        seq: The event's number on its connection; 0 if there is nothing to acknowledge.
        deliveries: How often it had been delivered before.
        data: See ``JobKind``.
        size: Bytes that count in the mailbox.
        task: The task that handles it, once the handler has waited.
        timer: Ends the handler when it takes too long.
        cancelled_for: Why the runtime has cancelled the handler; empty if it has not.
    """

    __slots__ = (
        "activation",
        "cancelled_for",
        "data",
        "deliveries",
        "kind",
        "owner",
        "peer",
        "seq",
        "size",
        "socket",
        "task",
        "timer",
    )

    def __init__(
        self,
        kind: JobKind,
        owner: HostedObject,
        socket: Socket | None,
        peer: Peer | None,
        seq: int,
        deliveries: int,
        data: Any,
        size: int,
    ) -> None:
        self.kind = kind
        self.owner = owner
        self.activation: Activation | None = None
        self.socket = socket
        self.peer = peer
        self.seq = seq
        self.deliveries = deliveries
        self.data = data
        self.size = size
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.cancelled_for = ""

    @property
    def request(self) -> HttpRequest:
        """The request of a FETCH."""
        request: HttpRequest = self.data
        return request

    @property
    def source(self) -> object:
        """Whose order the job keeps: its socket's, or only its own."""
        return self.socket or self

    @property
    def label(self) -> str:
        """The object and the handler, for logs."""
        return f"{self.owner.label} {HANDLER_NAMES[self.kind]}"


HANDLER_NAMES = {
    JobKind.MESSAGE: "web_socket_message",
    JobKind.CLOSED: "web_socket_close",
    JobKind.FAILED: "web_socket_error",
    JobKind.FETCH: "fetch",
}


class Runner:
    """Takes jobs through the user's code, in the order given.

    Args:
        loop: The loop that all user code runs on.
        on_suspended: Called when a handler waits for the first time.
        on_ended: Called when a handler has ended: with its result, or with what it raised.

    Attributes:
        running: The job whose code runs right now, ``None`` between; for the watchdog.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_suspended: Callable[[Job], None],
        on_ended: Callable[[Job, Any, BaseException | None], None],
    ) -> None:
        self._loop = loop
        self._on_suspended = on_suspended
        self._on_ended = on_ended
        self._queue: deque[Job] = deque()
        self._carrier: asyncio.Task[None] | None = None  # the one that takes from the queue
        self.running: Job | None = None

    def __bool__(self) -> bool:
        """Whether jobs are queued."""
        return bool(self._queue)

    def start(self, job: Job) -> None:
        """Start *job*, behind those started before."""
        self._queue.append(job)
        if self._carrier is None:
            self._new_carrier()

    def _new_carrier(self) -> None:
        # Not through the loop's task factory: that one counts tasks of users' code.
        self._carrier = asyncio.Task(self._carry(), loop=self._loop, name="carrier")

    async def _carry(self) -> None:
        await self._carry_jobs()

    @types.coroutine
    def _carry_jobs(self) -> Generator[Any, Any, None]:
        queue, on_ended = self._queue, self._on_ended
        carrier = self._carrier
        assert carrier is not None
        while queue:
            job = queue.popleft()
            activation = job.activation
            if activation is None or not activation.admits(job):
                continue
            context = activation.context.copy()
            if job.deliveries:
                context.run(redelivered.set, True)
            self.running = job
            try:
                result = context.run(activation.call, job)
                if type(result) is not types.CoroutineType:
                    if not inspect.isawaitable(result):
                        self.running = None
                        on_ended(job, result, None)
                        if carrier.cancelling():
                            break
                        continue
                    result = _awaited(result)
                yielded = context.run(result.send, None)
            except StopIteration as stop:
                self.running = None
                on_ended(job, stop.value, None)
                if carrier.cancelling():
                    break  # the handler has cancelled the task that it ran in: that must not hit another job
                continue
            except BaseException as error:
                self.running = None
                on_ended(job, None, error)
                if carrier.cancelling():
                    break
                continue
            self.running = None
            # The handler waits: this task is its own from now on.
            self._carrier = None
            if queue:
                self._new_carrier()
            carrier.set_name(job.label)
            job.task = carrier
            self._on_suspended(job)
            try:
                while True:
                    try:
                        value = yield yielded
                    except BaseException as error:
                        self.running = job
                        yielded = context.run(result.throw, error)
                    else:
                        self.running = job
                        yielded = context.run(result.send, value)
                    self.running = None
            except StopIteration as stop:
                self.running = None
                on_ended(job, stop.value, None)
            except BaseException as error:
                self.running = None
                on_ended(job, None, error)
            return
        self._carrier = None
        if queue:
            self._new_carrier()


async def _awaited(awaitable: Any) -> Any:
    return await awaitable
