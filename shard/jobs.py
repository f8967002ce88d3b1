"""Jobs: one event of an object each, on its way through the user's code."""

from __future__ import annotations

from contextvars import ContextVar
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from ..common.wire.records import HttpRequest
from .unfinished import Note

if TYPE_CHECKING:
    import asyncio

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
        seq: The event's number on its connection; 0 for a request, and where there is no ``peer``.
        deliveries: How often it had been delivered before.
        data: See ``JobKind``.
        size: Bytes that count in the mailbox.
        has_ended: Its handler has ended, or will not run.
        task: The task that handles it, once the handler has waited.
        timer: Ends the handler when it takes too long.
        stopped: Its handler may not take another step.
        cancelled_for: Why the runtime has cancelled the handler; empty if it has not.
        note: Says that it is at work, once its handler has waited or left something.
    """

    __slots__ = (
        "activation",
        "cancelled_for",
        "data",
        "deliveries",
        "has_ended",
        "kind",
        "note",
        "owner",
        "peer",
        "seq",
        "size",
        "socket",
        "stopped",
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
        self.has_ended = False
        self.stopped = False
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.cancelled_for = ""
        self.note: Note | None = None

    def at_work(self) -> Note:
        """Its note, which is made when needed: few handlers wait or leave something."""
        note = self.note
        if note is None:
            note = self.note = Note(self.event, self.seq, self.owner.object_id)
        return note

    # Not kept: a job waits in its thousands, and a number of this size takes as much as four of its fields.

    @property
    def event(self) -> int:
        """Router and connection, as the shard's last words have them."""
        socket, peer = self.socket, self.peer
        counter = self.request.connection if socket is None else socket.counter
        return counter if peer is None else peer.incarnation << 32 | counter

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


request_job: ContextVar[Job | None] = ContextVar("roost_request", default=None)
"""The request being handled, ``None`` in other events."""

HANDLER_NAMES = {
    JobKind.MESSAGE: "web_socket_message",
    JobKind.CLOSED: "web_socket_close",
    JobKind.FAILED: "web_socket_error",
    JobKind.FETCH: "fetch",
}
