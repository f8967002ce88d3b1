"""Jobs: what has happened to an object, each on its way through the object's code.

A kind of work is a class: messages, closes and failures of sockets here, requests in ``request_jobs``. What is the same
for all kinds, and what a kind has to say for itself, is in ``Job``. The way of a job:

=============== =================================== ============================================================
step            when                                what the job does
=============== =================================== ============================================================
(waits)         its object sleeps, is blocked, …    nothing: it lies in the mailbox, or with the runner
``call``        its turn has come                   calls the handler
``waits``       the handler waits, the first time   enters its life's ``jobs``; a timer may limit it from now on
``finish``      the handler has ended               acknowledges its event, or answers
``cancel``      the runtime wants the handler to    asks it to; ``finish`` comes nevertheless
                end
``give_up``     the handler resists that            the handler never takes another step; what ``finish`` would
                                                    have done is done now
``abandon``     the handler will not be called      as for a handler that has ended without doing anything
=============== =================================== ============================================================

Each job ends once: by ``finish``, ``give_up`` or ``abandon``; or it is dropped unacknowledged by an object that leaves
(``HostedObject``), and comes again at the object's next owner.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from ...common.close_codes import INTERNAL_ERROR
from ...common.errors import LifeOver
from ..api.protocol_error import WebSocketProtocolError
from ..api.unfinished import Note
from ..api.web_socket import CloseEvent, ErrorEvent, MessageEvent, WebSocket
from ..running.failures import is_a, is_end_of_life
from ..running.reasons import Reason
from ..running.tasks import cancel
from ..running.unrun import unrun
from . import pairs
from .misuse import Mistake

if TYPE_CHECKING:
    from .activation import Activation
    from .runtime import Hosted
    from .sockets import RouterPeer, Socket

log = logging.getLogger("roost.shard")


class Job(ABC):
    """One event on its way through the object's code.

    Args:
        owner: The object.
        peer: The router to answer and acknowledge to; ``None`` for an event that no router sent.

    Attributes:
        owner: See above.
        peer: See above.
        activation: The life of the instance that handles it; ``None`` while the job waits.
        has_ended: Its handler has ended, or will not run.
        task: The task that handles it, once the handler has waited.
        timer: Ends the handler when it takes too long.
        stopped: Its handler may not take another step.
        cancelled_for: Why the runtime has cancelled the handler; ``None`` if it has not.
        note: Says that it is at work, once its handler has waited or left something.
        handler: The handler's name.
        wants_answer: Somebody waits for its answer, and does not send it again.
        size: Bytes that count in the mailbox.
        seq: The event's number on its connection; 0 for a request, and where there is no ``peer``.
        deliveries: How often it had been delivered before.
    """

    __slots__ = (
        "activation",
        "cancelled_for",
        "has_ended",
        "note",
        "owner",
        "peer",
        "stopped",
        "task",
        "timer",
    )

    handler: ClassVar[str]
    wants_answer: ClassVar[bool] = False
    size: int = 0
    seq: int = 0
    deliveries: int = 0

    def __init__(self, owner: Hosted, peer: RouterPeer | None) -> None:
        self.owner = owner
        self.peer = peer
        self.activation: Activation | None = None
        self.has_ended = False
        self.stopped = False
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.cancelled_for: Reason | None = None
        self.note: Note | None = None

    # --- what a kind says for itself ---

    @abstractmethod
    def call(self, life: Activation) -> Any:
        """Call the handler of *life*; returns its result, or the coroutine to go on with."""

    @abstractmethod
    def finish(self, result: Any, error: BaseException | None) -> None:
        """Its handler has ended: with *result*, or with what it raised."""

    @abstractmethod
    def _end_without(self, sentence: str, *, comes_again: bool) -> None:
        """It ends and its handler has not.

        Args:
            sentence: Why, for who waits for an answer; public.
            comes_again: The object's next owner gets the event.
        """

    # Not kept: a job waits in its thousands, and a number of this size takes as much as four of its fields.

    @property
    @abstractmethod
    def event(self) -> int:
        """Router and connection, as the shard's last words have them."""

    @property
    @abstractmethod
    def source(self) -> object:
        """Whose order the job keeps: its socket's, or only its own."""

    # --- what is the same for all ---

    def waits(self) -> None:
        """Its handler waits for the first time."""
        life, runtime = self.activation, self.owner.runtime
        assert life is not None
        life.jobs.add(self)
        runtime.unfinished.hold(self.at_work())
        if life.over is not None:
            runtime.closings.end(life)  # it has caught the error that should have ended it

    def _has_waited(self) -> bool:
        """The handler, which has waited, has ended; says whether that still counts. If not, the job was given up before
        and its object has moved on."""
        if self.has_ended:
            return False
        life = self.activation
        assert life is not None
        life.jobs.discard(self)
        self.owner.runtime.unfinished.release(self.at_work())
        if self.timer is not None:
            self.timer.cancel()
        return True

    def cancel(self, why: Reason) -> None:
        """Cancel the handler, unless it is what runs right now."""
        task = self.task
        if task is not None and self is not self.owner.runtime.runner.running:
            self.cancelled_for = self.cancelled_for or why
            cancel(task)

    def give_up(self, why: Reason) -> None:
        """Go on without the handler, which does not let itself be cancelled."""
        assert self.task is not None
        self._has_waited()
        self.stopped = True
        cancel(self.task)
        self.has_ended = True
        self._end_without(why.value, comes_again=self._comes_again(why))
        self.owner.finished(self)

    def abandon(self, sentence: str) -> None:
        """End without calling the handler: whoever waits for an answer hears *sentence* (public), an event counts as
        handled."""
        self.has_ended = True
        self._end_without(sentence, comes_again=False)
        self.owner.finished(self)

    def _comes_again(self, why: Reason) -> bool:
        return why.comes_again or self.owner.runtime.is_closing

    def _was_made_to_end(self, error: BaseException) -> bool:
        """Whether *error* only says what the runtime has done to the handler."""
        return is_end_of_life(error) or (self.cancelled_for is not None and is_a(error, asyncio.CancelledError))

    def at_work(self) -> Note:
        """Its note, which is made when needed: few handlers wait or leave something."""
        note = self.note
        if note is None:
            note = self.note = Note(self.event, self.seq, self.owner.object_id)
        return note

    @property
    def url(self) -> str:
        """The URL of a request; empty for everything else."""
        return ""

    @property
    def label(self) -> str:
        """The object and the handler, for logs."""
        return f"{self.owner.label} {self.handler}"


class SocketJob(Job):
    """An event of a connection.

    Args:
        owner: The object.
        socket: The connection.
        peer: The router that holds it; ``None`` for an event that no router sent.
        seq: The event's number on its connection; 0 where there is no *peer*.
        deliveries: How often it had been delivered before.

    Attributes:
        ends_socket: It is the last one of its connection, which is forgotten after it.
    """

    __slots__ = ("deliveries", "seq", "socket")

    ends_socket: ClassVar[bool] = True

    def __init__(self, owner: Hosted, socket: Socket, peer: RouterPeer | None, seq: int, deliveries: int) -> None:
        super().__init__(owner, peer)
        self.socket = socket
        self.seq = seq
        self.deliveries = deliveries

    @property
    def event(self) -> int:
        peer = self.peer
        return self.socket.counter if peer is None else peer.incarnation << 32 | self.socket.counter

    @property
    def source(self) -> object:
        return self.socket

    def waits(self) -> None:
        super().waits()
        owner, socket = self.owner, self.socket
        if self.ends_socket:
            # The handler may take as long as it likes: to save what its client leaves, say. The router answers the
            # client without it when it takes long; until then its close() counts.
            owner.forget(socket)
        if owner.event_timeout_ms and socket.hibernatable:
            limit_s = owner.event_timeout_ms / 1000
            self.timer = owner.runtime.loop.call_later(limit_s, partial(self._overdue, limit_s))

    def _overdue(self, limit_s: float) -> None:
        self.owner.runtime.counters.timeouts += 1
        log.warning("%s was cancelled: it took more than %g s", self.label, limit_s)
        self.cancel(Reason.TOO_LONG)

    def finish(self, result: Any, error: BaseException | None) -> None:
        if result is not None and error is None:
            error = unrun(result)
        if self.task is not None and not self._has_waited():
            return
        self.has_ended = True
        owner, runtime = self.owner, self.owner.runtime
        if error is not None and not self._was_made_to_end(error):
            runtime.errors.note(self.label, error)
        if self.ends_socket:
            self._end_socket()
        why = self.cancelled_for
        if why is not None and self._comes_again(why):
            runtime.note_dropped(self)
        elif self.peer is not None:
            output = runtime.output
            if output.note_ended(owner.outbox, self.peer, self.socket.counter, self.seq):
                output.flush_early()
        life = self.activation
        if life is not None and life.over is not None:
            runtime.closings.look_at(life)
        owner.finished(self)

    def _end_socket(self) -> None:
        self.owner.forget(self.socket)
        self.socket.gone = True

    def _end_without(self, sentence: str, *, comes_again: bool) -> None:
        if self.ends_socket:
            self._end_socket()
        if comes_again:
            self.owner.runtime.note_dropped(self)
        elif self.peer is not None:
            self.owner.runtime.output.note_ended(self.owner.outbox, self.peer, self.socket.counter, self.seq)

    def _tell(self, handle: WebSocket, event: MessageEvent | CloseEvent | ErrorEvent) -> Any:
        """Call the listeners of a standard socket."""
        listeners = handle.listeners(event.type)
        if not listeners:
            return None
        if len(listeners) == 1:
            return listeners[0](event)
        return self._tell_all(listeners, event)

    async def _tell_all(self, listeners: list[Callable[[Any], Any]], event: Any) -> None:
        """One that raises does not keep the event from the others."""
        for listener in listeners:
            try:
                result = listener(event)
                if isinstance(result, Awaitable):
                    result = await result
                wrong = None if result is None else unrun(result)
                if wrong is not None:
                    raise wrong
            except (asyncio.CancelledError, GeneratorExit, LifeOver):
                raise
            except BaseException as error:
                self.owner.runtime.errors.note(f"{self.owner.label} {event.type} listener", error)


class MessageJob(SocketJob):
    """A client's message.

    Args:
        data: The message.
        size: Bytes that it counts with.
    """

    __slots__ = ("data", "size")

    handler = "web_socket_message"
    ends_socket = False

    def __init__(
        self,
        owner: Hosted,
        socket: Socket,
        peer: RouterPeer | None,
        seq: int,
        deliveries: int,
        data: str | bytes,
        size: int,
    ) -> None:
        # In one function: there is one for each message.
        self.owner = owner
        self.peer = peer
        self.activation = None
        self.has_ended = False
        self.stopped = False
        self.task = None
        self.timer = None
        self.cancelled_for = None
        self.note = None
        self.socket = socket
        self.seq = seq
        self.deliveries = deliveries
        self.data = data
        self.size = size

    def call(self, life: Activation) -> Any:
        socket = self.socket
        handle = socket.live or WebSocket.of(socket)
        if not socket.hibernatable:
            return self._tell(handle, MessageEvent(self.data))
        handler = life.on_message
        if handler is None:
            return self._say_that_nobody_heard(handle)
        return handler(handle, self.data)

    def _tell(self, handle: WebSocket, event: MessageEvent | CloseEvent | ErrorEvent) -> Any:
        if not handle.listeners(event.type):
            self.owner.runtime.misuse.note(self.owner, Mistake.NO_LISTENER)
        return super()._tell(handle, event)

    def _say_that_nobody_heard(self, handle: WebSocket) -> None:
        """The class has no handler."""
        owner, runtime = self.owner, self.owner.runtime
        runtime.misuse.note(owner, Mistake.NO_MESSAGE_HANDLER)
        if runtime.config.development:
            near = owner.hosted_class.near_miss(self.handler)
            if near is not None:  # else it may be meant: there are objects that only tell
                handle.close(INTERNAL_ERROR, f"roost never calls {near:.40}: rename it to {self.handler}")


class CloseJob(SocketJob):
    """A client has closed, or is gone.

    Args:
        code: Its close code; 1005 without one, 1006 if no Close came.
        reason: Its reason.
        clean: Whether a Close came.
    """

    __slots__ = ("clean", "code", "reason")

    handler = "web_socket_close"

    def __init__(
        self,
        owner: Hosted,
        socket: Socket,
        peer: RouterPeer | None,
        seq: int,
        deliveries: int,
        code: int,
        reason: str,
        clean: bool,
    ) -> None:
        super().__init__(owner, socket, peer, seq, deliveries)
        self.code = code
        self.reason = reason
        self.clean = clean

    def call(self, life: Activation) -> Any:
        socket, code, reason, clean = self.socket, self.code, self.reason, self.clean
        handle = socket.live or WebSocket.of(socket)
        if not clean:
            socket.gone = True
        else:
            if not socket.hibernatable and not socket.closed_by_object:
                # A standard socket answers by itself, as the reference runtime does: with the client's code and reason.
                socket.closed_by_object = True
                self.owner.record_close(socket, code, reason)
            socket.closed_by_client = True
        if not socket.hibernatable:
            return self._tell(handle, CloseEvent(code, reason, clean))
        handler = life.on_close
        return None if handler is None else handler(handle, code, reason, clean)

    def finish(self, result: Any, error: BaseException | None) -> None:
        if self.socket.mate is not None and not self.has_ended:
            pairs.handler_ended(self.socket, self.code, self.reason)
        super().finish(result, error)


class ErrorJob(SocketJob):
    """A client broke the protocol, and was closed for it.

    Args:
        code: What the client was sent.
        description: What was wrong.
    """

    __slots__ = ("code", "description")

    handler = "web_socket_error"

    def __init__(
        self,
        owner: Hosted,
        socket: Socket,
        peer: RouterPeer | None,
        seq: int,
        deliveries: int,
        code: int,
        description: str,
    ) -> None:
        super().__init__(owner, socket, peer, seq, deliveries)
        self.code = code
        self.description = description

    def call(self, life: Activation) -> Any:
        socket = self.socket
        handle = socket.live or WebSocket.of(socket)
        socket.gone = True
        error = WebSocketProtocolError(self.code, self.description)
        if not socket.hibernatable:
            return self._tell(handle, ErrorEvent(error))
        handler = life.on_error
        return None if handler is None else handler(handle, error)
