"""A hosted object: what a shard knows of an object, awake or asleep, and all that its code can ask for.

The host gives it events; it decides whether they start, wait or wake it up. Its output goes to its outbox. While it
sleeps only this record, its sockets' packages and what it has set for them remain.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ..common.errors import ObjectReset, TooManyWebSockets
from ..common.ids import ObjectId, slot_of
from ..common.limits import MAILBOX_BYTES, MAILBOX_EVENTS, MAX_WEBSOCKETS_PER_OBJECT
from ..common.records import ObjectState
from .activation import Activation, ActivationState
from .context import DurableObjectState
from .jobs import Job, JobKind
from .mailbox import Mailbox
from .outbox import Outbox
from .peers import Marks, Peer
from .sockets import Socket, Sockets

if TYPE_CHECKING:
    from .host import Host
    from .loader import HostedClass
    from .web_socket import WebSocket

T = TypeVar("T")

BLOCK_TIMEOUT_S = 30.0
"""Seconds that the callback of ``block_concurrency_while`` may take (the reference runtime)."""
RESET_CODE = 1011
"""Close code of a reset object's sockets (RFC 6455 7.4.1: an unexpected condition)."""
VANISHED = "WebSocket disconnected without sending Close frame."
"""The reason that goes with code 1006."""

log = logging.getLogger("roost.shard")


class HostedObject:
    """What a shard knows of an object.

    Attributes:
        host: The shard.
        hosted_class: The user's class.
        object_id: The object's id.
        name: Its name; empty for one with a unique id.
        slot: The slot of its id.
        sockets: Its hibernatable sockets.
        standard: Its sockets accepted with ``accept()``.
        accepting: Accepted sockets whose client end has not been returned, each with the request it was accepted in.
        auto_response: Request and response of the auto-response, ``None`` when unset.
        event_timeout_ms: Milliseconds that a handler may take, 0 for no limit.
        revision: Grows with each change of those two.
        informed: The routers that know this revision.
        outbox: Output that has not left.
        marks: For each router the last batch that carries output of the object.
        mailbox: Events that wait.
        unfinished: Events that have come and not ended.
        activation: The life of its instance, ``None`` while it sleeps.
        idle_since: Loop time at which it last became idle.
        drowsy: It is in the host's queue of objects that may fall asleep.
    """

    __slots__ = (
        "_unfinished_bytes",
        "accepting",
        "activation",
        "auto_response",
        "drowsy",
        "event_timeout_ms",
        "held",
        "host",
        "hosted_class",
        "idle_since",
        "informed",
        "mailbox",
        "marks",
        "name",
        "next_ordinal",
        "object_id",
        "outbox",
        "revision",
        "slot",
        "sockets",
        "standard",
        "unfinished",
    )

    def __init__(self, host: Host, hosted_class: HostedClass, object_id: ObjectId, name: str) -> None:
        self.host = host
        self.hosted_class = hosted_class
        self.object_id = object_id
        self.name = name
        self.slot = slot_of(object_id)
        self.sockets = Sockets()
        self.standard: set[Socket] = set()
        self.accepting: dict[Socket, Job | None] = {}
        self.next_ordinal = 1
        self.auto_response: tuple[str, str] | None = None
        self.event_timeout_ms = 0
        self.revision = 0
        self.informed: set[Peer] = set()
        self.outbox = Outbox(self._plan_outbox)
        self.marks: Marks = {}
        self.mailbox: Mailbox[Job] = Mailbox()
        self.unfinished = 0
        self._unfinished_bytes = 0
        self.held = False
        self.activation: Activation | None = None
        self.idle_since = 0.0
        self.drowsy = False

    @property
    def label(self) -> str:
        """The object for logs: namespace, name and id."""
        # The name is a client's: it may hold line breaks, which would forge lines of the log.
        name = self.name if self.name.isprintable() else ascii(self.name)[1:-1]
        return f"{self.hosted_class.namespace}/{name} [{self.object_id.hex()}]"

    @property
    def max_attachment_bytes(self) -> int:
        """Bytes that a serialised attachment may have."""
        return self.host.config.max_attachment_bytes

    # --- events ---

    def deliver(self, job: Job) -> None:
        """Take an event: start it, or let it wait until it may."""
        self.unfinished += 1
        self._unfinished_bytes += job.size
        if not self.held and (self.unfinished > MAILBOX_EVENTS or self._unfinished_bytes > MAILBOX_BYTES):
            self._hold(True)
        activation = self.activation
        runner = self.host.runner
        # What the runner still has of a blocked activation comes back to the mailbox: later events stay behind it.
        if activation is not None and (activation.state is ActivationState.ACTIVE or runner):
            job.activation = activation
            runner.start(job)
        else:
            self.mailbox.put(job.source, job)
            self.pump()

    def take_back(self, job: Job) -> None:
        """The runner met *job* when its activation could not take it: the job waits, or ends with its activation."""
        activation, job.activation = job.activation, None
        if activation is self.activation:
            self.mailbox.put(job.source, job)
        else:
            self.host.abandon(job, "the object was reset")

    def pump(self) -> None:
        """Start what waits, as far as it may start; wakes the object up if it sleeps."""
        if self.host.gated(self):
            return
        while self.mailbox:
            if self.activation is None and not self._wake():
                continue  # that job, or all of them, has been dealt with
            activation = self.activation
            if activation is None or activation.state is not ActivationState.ACTIVE:
                return
            job = self.mailbox.take()
            job.activation = activation
            self.host.runner.start(job)

    def finished(self, job: Job) -> None:
        """*job* has ended, in whatever way."""
        self.unfinished -= 1
        self._unfinished_bytes -= job.size
        if self.held and self.unfinished <= MAILBOX_EVENTS // 2 and self._unfinished_bytes <= MAILBOX_BYTES // 2:
            self._hold(False)

    def _hold(self, held: bool) -> None:
        self.held = held
        for peer in self.host.peers:
            peer.writer.hold(self.object_id, held)
            peer.link.flush_soon()

    # --- waking up, falling asleep ---

    def _wake(self) -> bool:
        """Construct the instance; says whether that went well. If not, the waiting events have been answered."""
        host = self.host
        self.activation = activation = Activation(self)
        host.counters.objects_awake += 1
        try:
            with host.watched(f"{self.label} __init__"):
                activation.construct(host.env, DurableObjectState(self))
        except BaseException as error:
            host.user_error(f"{self.label} __init__", error)
            if activation.state is ActivationState.RESET:
                return False  # the constructor has called abort()
            first = self.mailbox.take()
            if first.kind is JobKind.FETCH:
                self._drop_activation()
                host.abandon(first, f"the object could not be constructed: {type(error).__name__}")
            else:
                host.abandon(first, "")
                self.reset("the object could not be constructed")
            return False
        return True

    def _drop_activation(self) -> None:
        activation, self.activation = self.activation, None
        if activation is not None:
            self.host.counters.objects_awake -= 1
            for task in activation.tasks:
                task.cancel()

    @property
    def may_sleep(self) -> bool:
        """Whether nothing keeps the instance in memory."""
        activation = self.activation
        return (
            activation is not None
            and activation.idle
            and not self.unfinished
            and not self.standard
            and not self.accepting
        )

    def hibernate(self) -> None:
        """Drop the instance; the sockets stay, as packages. Only when it ``may_sleep``."""
        self._drop_activation()
        for socket in self.sockets.newest_first():
            socket.live = None

    @property
    def forgettable(self) -> bool:
        """Whether nothing is left that another life would need."""
        return (
            self.activation is None
            and not len(self.sockets)
            and not self.standard
            and not self.mailbox
            and not self.unfinished
            and not self.outbox.planned
            and self.auto_response is None
            and not self.event_timeout_ms
        )

    def reset(self, reason: str) -> None:
        """End this life and all sockets of the object: Close 1011 behind what was sent before, and no events."""
        activation = self.activation
        if activation is not None:
            activation.state = ActivationState.RESET
            for job in list(activation.jobs):
                self.host.cancel(job, "the object was reset")
        self._drop_activation()
        text = reason.encode()[:123].decode(errors="ignore")
        everything = [*self.sockets.newest_first(), *self.standard, *self.accepting]
        for socket in dict.fromkeys(everything):
            if socket.peer is not None and not socket.gone:
                self.record_close(socket, RESET_CODE, text, final=True)
            socket.gone = True
            self.forget(socket)
        self.accepting.clear()
        if self.auto_response is not None or self.event_timeout_ms:
            self.auto_response, self.event_timeout_ms = None, 0
            self._state_changed()
        while self.mailbox:
            self.host.abandon(self.mailbox.take(), reason)

    def forget(self, socket: Socket) -> None:
        """Take *socket* out of every index; its package lives on in handles that the user keeps."""
        self.sockets.remove(socket)
        self.standard.discard(socket)
        peer = socket.peer
        if peer is not None and peer.sockets.pop(socket.counter, None) is not None:
            self.host.counters.sockets -= 1

    # --- what the object's code asks for ---

    def accept_hibernatable(self, handle: WebSocket, tags: tuple[str, ...]) -> None:
        """Accept the server end of a pair for hibernation."""
        self.sockets.check_room()
        socket = self._accept(handle, hibernatable=True, tags=tags)
        self.sockets.add(socket)

    def accept_standard(self, handle: WebSocket) -> None:
        """Accept the server end of a pair for this life of the instance."""
        handle.check_acceptable()
        if len(self.standard) >= MAX_WEBSOCKETS_PER_OBJECT:
            raise TooManyWebSockets(MAX_WEBSOCKETS_PER_OBJECT, "non-hibernatable")
        self.standard.add(self._accept(handle, hibernatable=False))

    def _accept(self, handle: WebSocket, *, hibernatable: bool, tags: tuple[str, ...] = ()) -> Socket:
        socket = Socket(self, hibernatable=hibernatable, ordinal=self.next_ordinal, tags=tags)
        self.next_ordinal += 1
        socket.held = []
        handle.bind(socket)
        running = self.host.runner.running
        self.accepting[socket] = running if running is not None and running.owner is self else None
        return socket

    def set_auto_response(self, pair: tuple[str, str] | None) -> None:
        """Set or unset the auto-response."""
        if pair != self.auto_response:
            self.auto_response = pair
            self._state_changed()

    def set_event_timeout(self, timeout_ms: int) -> None:
        """Set the event timeout, 0 for none."""
        if timeout_ms != self.event_timeout_ms:
            self.event_timeout_ms = timeout_ms
            self._state_changed()

    def wait_until(self, awaitable: Awaitable[Any]) -> None:
        """Stay awake until *awaitable* has ended."""
        activation = self.activation
        future = asyncio.ensure_future(awaitable)
        if activation is None:
            return
        activation.tasks.add(future)
        future.add_done_callback(self._waited_until)

    def _waited_until(self, future: asyncio.Future[Any]) -> None:
        if not future.cancelled() and future.exception() is not None:
            self.host.user_error(f"{self.label} wait_until", future.exception())
        self.task_ended(future)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """A task that the object's code has started."""
        activation = self.activation
        if activation is not None:
            activation.tasks.add(task)
            task.add_done_callback(self.task_ended)

    def task_ended(self, task: asyncio.Future[Any]) -> None:
        """A task of the object has ended: it may be idle now."""
        activation = self.activation
        if activation is not None:
            activation.tasks.discard(task)
            self.host.note_idle(self)

    def block_concurrency_while(self, callback: Callable[[], Awaitable[T]]) -> asyncio.Future[T]:
        """Run *callback* while no event starts."""
        activation = self.activation
        if activation is None or activation.state is ActivationState.RESET:
            raise ObjectReset("the object was reset")
        activation.block()
        task = asyncio.ensure_future(self._blocking(activation, callback))
        task.add_done_callback(_seen)
        return task

    async def _blocking(self, activation: Activation, callback: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(BLOCK_TIMEOUT_S):
                result = await callback()
        except BaseException as error:
            if activation is self.activation:
                if isinstance(error, TimeoutError):
                    log.error("%s block_concurrency_while: took more than %g s", self.label, BLOCK_TIMEOUT_S)
                else:
                    self.host.user_error(f"{self.label} block_concurrency_while", error)
                self.reset("block_concurrency_while failed")
                raise ObjectReset("the object was reset: block_concurrency_while failed") from error
            raise
        if activation.unblock() and activation is self.activation:
            self.pump()
        return result

    def abort(self, reason: str | None) -> NoReturn:
        """Reset the object and end the handler that asks for it."""
        text = reason or "the object called abort()"
        # Nobody else may hear of it: a handler's caller is a socket, and a client learns of no more than the 1011.
        log.warning("%s reset itself: %s", self.label, text)
        self.reset(text)
        raise ObjectReset(text)

    async def tell_all(self, listeners: list[Callable[[Any], Any]], event: Any) -> None:
        """Call each listener of a standard socket; one that raises does not keep the event from the others."""
        for listener in listeners:
            try:
                result = listener(event)
                if isinstance(result, Awaitable):
                    await result
            except Exception as error:
                self.host.user_error(f"{self.label} {event.type} listener", error)

    # --- output ---

    def _plan_outbox(self) -> None:
        self.host.plan_outbox(self)

    def record_close(self, socket: Socket, code: int, reason: str, *, final: bool = False) -> None:
        """Close a connection whose 101 is on its way."""
        peer, counter = socket.peer, socket.counter
        assert peer is not None
        self.outbox.record(peer, lambda writer: writer.close(counter, code, reason, final))

    def record_attachment(self, socket: Socket, data: bytes) -> None:
        """Keep an attachment in the connection's passport."""
        peer, counter = socket.peer, socket.counter
        assert peer is not None
        self.outbox.record(peer, lambda writer: writer.attachment(counter, data), len(data))

    def inform(self, peer: Peer) -> None:
        """Tell *peer* what the object has set for its sockets, unless it knows."""
        if self.revision and peer not in self.informed:
            self.informed.add(peer)
            state = ObjectState(self.object_id, self.revision, self.event_timeout_ms, self.auto_response)
            self.outbox.record(peer, lambda writer: writer.object_state(state))

    def _state_changed(self) -> None:
        self.revision += 1
        self.informed.clear()
        for peer in {socket.peer for socket in self.sockets.newest_first() if socket.peer is not None}:
            if not peer.closed:
                self.inform(peer)


def _seen(future: asyncio.Future[Any]) -> None:
    """Nobody need await it: what it raised has been logged."""
    if not future.cancelled():
        future.exception()
