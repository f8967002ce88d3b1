"""A hosted object: what a shard knows of an object, awake or asleep, and all that its code can ask for.

The host gives it events; it decides whether they start, wait or wake it up. Its output goes to its outbox. While it
sleeps only this record, its sockets' packages and what it has set for them remain.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ...common.close_codes import ABNORMAL, INTERNAL_ERROR, VANISHED
from ...common.errors import ObjectReset
from ...common.ids import ObjectId, slot_of
from ...common.limits import CLOSE_TIMEOUT_S, MAILBOX_BYTES, MAILBOX_EVENTS
from ...common.wire.records import ObjectState, OutputWriter
from ..api.context import DurableObjectState
from ..api.web_socket import WebSocket
from ..outgoing.backlog import Close
from ..outgoing.outbox import Outbox
from ..outgoing.peers import Peer
from ..running.failures import Failure, in_words
from ..running.reasons import Reason
from ..stack import enough_stack
from . import accepting, pairs
from .activation import Activation, ActivationState
from .closing import How
from .jobs import CloseJob, Job, MessageJob
from .mailbox import Mailbox
from .misuse import Mistake
from .sockets import RouterPeer, Socket, Sockets
from .tries import Tries
from .unreturned import Unreturned

if TYPE_CHECKING:
    from .loader import HostedClass
    from .runtime import Runtime

T = TypeVar("T")

DRAIN_BYTES = 256 << 10
"""Bytes of an object's output up to which ``drain`` need not wait for the end of the turn."""
LARGE_EVENT_BYTES = 1 << 10
"""Bytes of an event from which on it counts in ``ShardCounters.events_bytes``."""

_STARTING = (ActivationState.ACTIVE, ActivationState.LEAVING)

log = logging.getLogger("roost.shard")


class HostedObject:
    """What a shard knows of an object.

    Attributes:
        runtime: The shard.
        hosted_class: The user's class.
        object_id: The object's id.
        name: Its name; empty for one with a unique id.
        slot: The slot of its id.
        sockets: Its hibernatable sockets.
        standard: Its sockets accepted with ``accept()``.
        unreturned: Accepted sockets whose client end has not been returned.
        auto_response: Request and response of the auto-response, ``None`` when unset.
        event_timeout_ms: Milliseconds that a handler may take, 0 for no limit.
        revision: Grows with each change of those two; 0 if there was none.
        outbox: Output that has not left.
        mailbox: Events that wait.
        unfinished: Events that have come and not ended.
        activation: The life of its instance, ``None`` while it sleeps.
        former: The life before, which has not closed yet: there is no next one before (see ``closing``).
        leaving: Its slot moves to another shard: events of routers are not for this one any more.
        carried_over: It has come here with its sockets from an earlier owner, and was not constructed since.
        idle_since: Loop time at which it last became idle.
        queued_for_sleep: It is in the shard's queue of objects that may fall asleep.
    """

    __slots__ = (
        "_tries",
        "_unfinished_bytes",
        "activation",
        "auto_response",
        "carried_over",
        "event_timeout_ms",
        "former",
        "held",
        "hosted_class",
        "idle_since",
        "leaving",
        "mailbox",
        "name",
        "object_id",
        "outbox",
        "queued_for_sleep",
        "revision",
        "runtime",
        "slot",
        "sockets",
        "standard",
        "unfinished",
        "unreturned",
    )

    def __init__(
        self, runtime: Runtime[HostedObject], hosted_class: HostedClass, object_id: ObjectId, name: str
    ) -> None:
        self.runtime = runtime
        self.hosted_class = hosted_class
        self.object_id = object_id
        self.name = name
        self.slot = slot_of(object_id)
        self.sockets = Sockets(WebSocket.of)
        # Made when needed, as is all that few objects have.
        self.standard: set[Socket] | None = None
        self.unreturned: Unreturned[Socket] | None = None
        self.auto_response: tuple[str, str] | None = None
        self.event_timeout_ms = 0
        self.revision = 0
        self.outbox = Outbox(runtime.output.plan_outbox, flow=runtime.flow)
        self.mailbox: Mailbox[Job] = Mailbox()
        self.unfinished = 0
        self._unfinished_bytes = 0
        self.held = False
        self.leaving = False
        self.carried_over = False
        self._tries: Tries | None = None
        self.activation: Activation | None = None
        self.former: Activation | None = None
        self.idle_since = 0.0
        self.queued_for_sleep = False

    @property
    def label(self) -> str:
        """The object for logs: namespace and name; its id when it has no name."""
        # The name is a client's: it may hold line breaks, which would forge lines of the log.
        name = self.name if self.name.isprintable() else ascii(self.name)[1:-1]
        return f"{self.hosted_class.namespace}/{name or self.object_id.hex()}"

    @property
    def max_attachment_bytes(self) -> int:
        """Bytes that a serialised attachment may have."""
        return self.runtime.config.max_attachment_bytes

    # --- events ---

    def deliver(self, job: Job) -> None:
        """Take an event: start it, or let it wait until it may. Once the object leaves, events of routers are dropped
        unacknowledged: they come again at its next owner."""
        if self.leaving:
            if job.peer is not None:
                return
            self.runtime.note_busy(self)
        self.unfinished += 1
        self._unfinished_bytes += job.size
        if job.size >= LARGE_EVENT_BYTES:
            arrivals = self.runtime.arrivals
            budget = arrivals.budget
            budget.taken += job.size
            if budget.taken > budget.half:
                arrivals.grown(self)
        if not self.held and (self.unfinished > MAILBOX_EVENTS or self._unfinished_bytes > MAILBOX_BYTES):
            self._set_held(True)
        activation = self.activation
        runner = self.runtime.runner
        # What the runner still has of a blocked activation comes back to the mailbox: later events stay behind it.
        if activation is not None and (activation.is_open or runner):
            job.activation = activation
            runner.start(job)
        else:
            self.mailbox.put(job.source, job)
            if self._tries is not None:
                self._tries.wait_for_code = False
            self.pump()

    def pass_message(self, socket: Socket, message: str | bytes) -> None:
        """One end of a local pair has sent *message*; see ``pairs``."""
        pairs.pass_message(socket, message)

    def hear(self, socket: Socket, message: str | bytes) -> None:
        """The other end of a local pair (see ``pairs``) has sent *message* to *socket*."""
        self.runtime.loop.call_now(self.deliver, MessageJob(self, socket, None, 0, 0, message, len(message)))

    def hear_close(self, socket: Socket, code: int, reason: str) -> None:
        """The other end of a local pair has closed."""
        if socket.hibernatable:
            # Its handler may take as long as it likes; the other end is answered meanwhile, as a client is.
            self.runtime.loop.call_later(CLOSE_TIMEOUT_S, partial(pairs.handler_ended, socket, code, reason))
        socket.ending = True
        self.runtime.loop.call_now(self.deliver, CloseJob(self, socket, None, 0, 0, code, reason, True))

    def take_back(self, job: Job) -> None:
        """The runner met *job* when its activation could not take it: the job waits, or ends with its activation."""
        activation, job.activation = job.activation, None
        if self.leaving and job.peer is not None:
            self._drop(job)
        elif activation is self.activation:
            self.mailbox.put(job.source, job)
        else:
            job.abandon(Reason.RESET.value if activation is None else activation.why_reset)

    def pump(self) -> None:
        """Start what waits, as far as it may start; wakes the object up if it sleeps."""
        if self.runtime.holds(self) or (self.carried_over and self.runtime.is_closing):
            return  # at the end nothing is constructed that would be reset if that failed
        while self.mailbox and self.former is None and (self._tries is None or not self._tries.is_waiting):
            woken = self.activation is None
            if woken and not self._wake():
                continue  # that job, or all of them, has been dealt with
            activation = self.activation
            if activation is None or activation.state not in _STARTING:
                return
            jobs = []
            while self.mailbox:
                job = self.mailbox.take()
                job.activation = activation
                jobs.append(job)
            # The runner may still hold later events of an object that was blocked in between, but none of one that
            # has just woken up: that one need not go before other objects.
            if woken:
                for job in jobs:
                    self.runtime.runner.start(job)
            else:
                self.runtime.runner.start_first(jobs)

    @property
    def unfinished_bytes(self) -> int:
        """Payload of the events that have come and not ended."""
        return self._unfinished_bytes

    def finished(self, job: Job) -> None:
        """*job* has ended, in whatever way."""
        self._count_out(job)
        if self.unreturned is not None:
            self.drop_unreturned()
        if not self.unfinished:
            self.runtime.note_idle(self)

    def _count_out(self, job: Job) -> None:
        self.unfinished -= 1
        self._unfinished_bytes -= job.size
        if job.size >= LARGE_EVENT_BYTES:
            arrivals = self.runtime.arrivals
            arrivals.budget.taken -= job.size
            arrivals.shrunk()
        if self.held:
            self.go_on_if_it_may()

    def hold(self) -> None:
        """Let its clients not be read, until ``go_on_if_it_may``."""
        if not self.held:
            self._set_held(True)

    def go_on_if_it_may(self) -> None:
        """Let its clients be read again, unless it has too much still."""
        if (
            self.held
            and self.unfinished <= MAILBOX_EVENTS // 2
            and self._unfinished_bytes <= MAILBOX_BYTES // 2
            and not self.runtime.arrivals.holds(self)
        ):
            self._set_held(False)

    def _set_held(self, held: bool) -> None:
        self.held = held
        for peer in self.runtime.output.peers:
            self.tell_held(peer)

    def tell_held(self, peer: Peer) -> None:
        """Let *peer* stop reading the object's clients, or go on."""
        peer.writer.hold(self.object_id, self.held)
        peer.link.flush_soon()

    # --- waking up, falling asleep ---

    def _wake(self) -> bool:
        """Construct the instance; says whether that went well. If not, the waiting events have been answered, or wait
        for another try."""
        runtime = self.runtime
        self.activation = activation = Activation(self)
        runtime.counters.objects_awake += 1
        try:
            with runtime.runner.constructing(self):
                activation.construct(runtime.env, DurableObjectState(activation, self))
        except BaseException as error:
            runtime.counters.constructions_failed += 1
            failure = runtime.errors.failed(How.FAILED.value, f"{self.label} __init__", error)
            if activation.state is ActivationState.OVER:
                return False  # the constructor has called abort()
            if self._try_again_later():
                if self._tries is not None and self._tries.wait_for_code:
                    self._answer_waiting(failure)
                return False
            first = self.mailbox.take()
            if first.wants_answer:
                self.close(How.FAILED)
                first.abandon(failure.text)
            else:
                first.abandon("")
                self.reset(failure)
            return False
        runtime.counters.constructions += 1
        self.carried_over = False
        self._tries = None
        return True

    def _try_again_later(self) -> bool:
        """After a move or a crash a constructor that fails may be new code that is about to be rolled back: its sockets
        wait for that. Says whether there is another try."""
        if not self.carried_over or self.leaving or self.runtime.is_closing:
            return False
        tries = self._tries = self._tries or Tries(self.runtime.loop, self.pump)
        if self.runtime.config.development:
            tries.wait_for_code = True  # the next code will be another shard's
        else:
            delay_s = tries.plan()
            if delay_s is None:
                self._tries = None
                return False
            log.warning("%s __init__ is tried again in %.1f s: the object has just come here", self.label, delay_s)
        self.close(How.FAILED)
        return True

    def _answer_waiting(self, failure: Failure) -> None:
        """Whoever waits for an answer gets it; what sockets have said waits for other code."""
        waiting = []
        while self.mailbox:
            waiting.append(self.mailbox.take())
        for job in waiting:
            if job.wants_answer:
                job.abandon(failure.text)
            else:
                self.mailbox.put(job.source, job)

    def stop_retrying(self) -> None:
        """The constructor is not tried again here."""
        if self._tries is not None:
            self._tries.stop()

    def close(self, how: How) -> None:
        """The instance leaves memory, by the stages of ``closing``: the next life begins after the last of them."""
        life, self.activation = self.activation, None
        if life is not None:
            self.runtime.counters.objects_awake -= 1
            self.runtime.counters.lives_ended += 1
            self.sockets.sleep()  # the next life has handles of its own
            self.runtime.closings.close(life, how)

    def former_has_gone(self, life: Activation) -> None:
        """*life* has closed: the next one may begin."""
        if self.former is life:
            self.former = None
            self.pump()
            self.runtime.note_idle(self)

    def last_timer(self, now: float) -> float:
        """When the last timer of its code fires, or has fired; 0 without any. Seconds of the loop's clock."""
        activation = self.activation
        return 0.0 if activation is None else activation.pending.last_timer(now)

    @property
    def may_sleep(self) -> bool:
        """Whether nothing keeps the instance in memory, timers apart; without one, whether there is nothing to be
        done."""
        activation = self.activation
        if activation is None:
            return not self.unfinished and not self.outbox.planned and self.former is None
        return activation.idle and not self.unfinished and not self.standard and not self.unreturned

    def hibernate(self) -> None:
        """Drop the instance; the sockets stay, as packages. Only when it ``may_sleep``."""
        self.close(How.SLEEPS)
        self.standard = self.unreturned = None

    @property
    def forgettable(self) -> bool:
        """Whether nothing is left that another life would need, but for what it has set (``state``)."""
        return (
            self.activation is None
            and self.former is None
            and not len(self.sockets)
            and not self.standard
            and not self.mailbox
            and not self.unfinished
            and not self.outbox.planned
            and not self.outbox.holds
            and not self.runtime.flow.responses.has(self.outbox)
        )

    def reset(self, failure: Failure) -> None:
        """End this life and all sockets of the object: Close 1011 behind what was sent before, and no events.

        Args:
            failure: What the public hears; whoever calls has logged it.
        """
        self.runtime.counters.resets += 1
        activation = self.activation
        if activation is not None:
            activation.failure = activation.failure or failure
        self.close(How.RESET)
        if self.auto_response is not None or self.event_timeout_ms:
            # Told before the sockets go: routers may keep what they know of the object for some time after.
            self.auto_response, self.event_timeout_ms = None, 0
            self._state_changed()
        everything = self._all_sockets()
        closed: dict[Peer, list[int]] = {}  # there may be 32,768: one entry of the outbox for all those of a router
        for socket in everything:
            if socket.peer is not None and not socket.gone:
                if socket.held is not None or self.outbox.sends_much:
                    self.record_close(socket, INTERNAL_ERROR, failure.reason, final=True)  # behind what waits, or will
                else:
                    closed.setdefault(socket.peer, []).append(socket.counter)
            socket.gone = True
            pairs.part(socket)
            self.drop_held(socket)
            self.forget(socket)
        for peer, counters in closed.items():
            self.outbox.record(peer, partial(_close_all, counters, INTERNAL_ERROR, failure.reason))
        self.unreturned = None
        while self.mailbox:
            self.mailbox.take().abandon(failure.text)
        self.runtime.note_idle(self)

    # --- moving to another shard (see ``release``) ---

    def leave(self) -> None:
        """The slot moves: drop what waits, for routers hold it, and start nothing more."""
        self.leaving = True
        self.stop_retrying()
        waiting = []
        while self.mailbox:
            waiting.append(self.mailbox.take())
        for job in waiting:
            if job.peer is None:
                self.mailbox.put(job.source, job)
            else:
                self._drop(job)
        for socket in [*self.sockets, *(self.standard or ())]:
            if socket.mate is not None:
                # Local pairs end with the instance, as sockets of ``accept()`` do: they must not keep it from leaving.
                socket.gone = True
                pairs.part(socket)
                self.forget(socket)
        if self.activation is not None:
            self.activation.leave()
        self.pump()

    def forget_router(self, peer: Peer) -> None:
        """What *peer* has restored and sent belongs to an earlier stay of the slot; it will do so again. For an object
        that has not begun."""
        waiting = []
        while self.mailbox:
            waiting.append(self.mailbox.take())
        for job in waiting:
            if job.peer is peer:
                job.has_ended = True
                self._count_out(job)
            else:
                self.mailbox.put(job.source, job)
        for socket in [socket for socket in self.sockets if socket.peer is peer]:
            socket.gone = True
            self.forget(socket)

    def _drop(self, job: Job) -> None:
        """Forget *job* without having run it: its event comes again at the object's next owner."""
        job.has_ended = True
        self._count_out(job)
        self.runtime.note_idle(self)

    def try_to_leave(self) -> bool:
        """Whether all has ended that must before the object can go; tasks that nobody waits for are cancelled last."""
        activation = self.activation
        if self.unfinished or self.former is not None:
            return False
        if activation is not None and not activation.has_come_to_rest:
            return False
        if activation is None:
            return True
        activation.ask_tasks_to_end()
        return not activation.tasks

    def insist(self, why: Reason) -> None:
        """Cancel what still runs."""
        if self.activation is not None:
            self.activation.insist(why)

    def give_up(self, why: Reason) -> None:
        """What still runs, or waits, does not count any more: this life is over. A close that comes after this (of a
        router that has died) begins another one."""
        life = self.activation
        if life is not None:
            for job in list(life.jobs):
                job.give_up(why)
            self.close(How.MOVES)
            self.runtime.closings.stop(life)
        if self.former is not None:
            self.runtime.closings.stop(self.former)
        while self.mailbox:
            self.mailbox.take().abandon(why.value)

    def let_go(self) -> None:
        """Another shard has the object from now on: nothing that is left of it here has any effect."""
        self.close(How.MOVES)
        for socket in self._all_sockets():
            socket.gone = True
            self.drop_held(socket)
            self.forget(socket)
        self.standard = self.unreturned = None

    # --- sockets ---

    def _all_sockets(self) -> Iterable[Socket]:
        """Those that nobody has returned as well, each once; safe to change the indexes by."""
        unreturned = () if self.unreturned is None else self.unreturned.take_all()
        return dict.fromkeys([*self.sockets, *(self.standard or ()), *unreturned])

    def forget(self, socket: Socket) -> None:
        """Take *socket* out of every index; its package lives on in handles that the user keeps."""
        socket.live = None  # they refer to each other, and nobody will ask for the handle again
        self.sockets.remove(socket)
        self.runtime.packages.forget(socket)
        if self.standard:
            self.standard.discard(socket)
        if socket.peer is not None and socket.peer.detach(socket):
            self.runtime.counters.sockets -= 1

    # --- what the object's code asks for ---

    def accept_hibernatable(self, handle: WebSocket, tags: tuple[str, ...]) -> None:
        """Accept the server end of a pair for hibernation."""
        accepting.accept_hibernatable(self, handle, tags)

    def accept_standard(self, handle: WebSocket) -> None:
        """Accept the server end of a pair for this life of the instance."""
        accepting.accept_standard(self, handle)

    def listens_in_vain(self) -> None:
        """A listener was added to a socket whose events go to the class's handlers."""
        self.runtime.misuse.note(self, Mistake.LISTENS_IN_VAIN)

    def has_unreturned(self, job: Job, returned: Socket | None) -> bool:
        """Whether *job* has accepted a socket besides the one that it has *returned*."""
        return self.unreturned is not None and self.unreturned.has_another(job, returned)

    def returned(self, socket: Socket) -> None:
        """The client end of *socket* is in a Response, or used inside the object."""
        unreturned = self.unreturned
        if unreturned is not None:
            unreturned.returned(socket)
            if not unreturned:
                self.unreturned = None

    def opened(self, socket: Socket, peer: RouterPeer, connection: int) -> None:
        """The 101 of *socket* is on its way: it is number *connection* at *peer*."""
        self.returned(socket)
        if self not in peer.objects:
            self.inform(peer)
        peer.attach(socket, connection)
        self.runtime.counters.sockets += 1

    def drop_unreturned(self) -> None:
        """Sockets whose client end was in no Response by the end of the event that accepted them are gone."""
        if self.unreturned is None:
            return
        dropped = self.unreturned.take_overdue(none_runs=not self.unfinished)
        if not self.unreturned:
            self.unreturned = None
        for socket in dropped:
            self.drop_held(socket)
            socket.gone = True
        for socket in dropped:
            self.vanish(socket)

    def vanish(self, socket: Socket) -> None:
        """Deliver that a connection is gone, without anybody to acknowledge it to; not if its end has come already."""
        if not socket.ending:
            socket.ending = True
            self.deliver(CloseJob(self, socket, None, 0, 0, ABNORMAL, VANISHED, False))

    def drop_held(self, socket: Socket) -> None:
        """What was sent before the 101 goes nowhere: there will be none."""
        held = socket.held
        if held is not None and held.peer is None:
            socket.held = None
            held.discard()

    def set_auto_response(self, pair: tuple[str, str] | None) -> None:
        """Set or unset the auto-response."""
        if pair != self.auto_response:
            enough_stack()
            self.auto_response = pair
            self._state_changed()

    def set_event_timeout(self, timeout_ms: int) -> None:
        """Set the event timeout, 0 for none."""
        if timeout_ms != self.event_timeout_ms:
            enough_stack()
            self.event_timeout_ms = timeout_ms
            self._state_changed()

    def wait_until(self, awaitable: Awaitable[Any]) -> None:
        """Stay awake until *awaitable* has ended."""
        life = self.activation
        assert life is not None  # ``ctx`` has looked
        enough_stack()
        life.wait_until(awaitable)

    def block_concurrency_while(self, callback: Callable[[], Awaitable[T]]) -> asyncio.Future[T]:
        """Run *callback* while no event starts."""
        life = self.activation
        assert life is not None  # ``ctx`` has looked
        enough_stack()
        return life.block_while(callback)

    def abort(self, reason: str | None) -> NoReturn:
        """Reset the object and end the handler that asks for it."""
        enough_stack()
        text = in_words(reason) if reason is not None else "the object called abort()"
        failure = self.runtime.errors.failure(Reason.RESET.value, text)
        log.warning("%s reset itself: %s (error id %s)", self.label, text, failure.id)
        self.runtime.loop.call_now(self.reset, failure)
        raise ObjectReset(text)

    # --- output ---

    def record_close(self, socket: Socket, code: int, reason: str, *, final: bool = False) -> None:
        """Close a connection, behind what was sent to it, or an end of a local pair."""
        if socket.mate is not None:
            pairs.pass_close(socket, code, reason)
            return
        close = Close(socket, code, reason, final)
        if socket.held is not None:
            socket.held.record(close)
        else:
            assert socket.peer is not None
            self.outbox.record(socket.peer, close, behind=socket.counter)

    async def drained(self, socket: Socket) -> None:
        """Wait until nothing that was sent to *socket* is here any more."""
        loop, outbox = asyncio.get_running_loop(), self.outbox
        while not socket.gone:
            held = socket.held
            if held is None:
                if outbox.size < DRAIN_BYTES or not outbox.planned:
                    return
                if outbox.waiters is None:
                    outbox.waiters = []
                waiters = outbox.waiters
            elif held.peer is None or not len(held):
                return
            else:
                waiters = held.waiters
            progress = loop.create_future()
            waiters.append(partial(_wake, progress))
            await progress

    def record_attachment(self, socket: Socket, data: bytes) -> None:
        """Keep an attachment in the connection's passport."""
        peer, counter = socket.peer, socket.counter
        assert peer is not None
        self.outbox.record(peer, lambda writer: writer.attachment(counter, data), len(data))

    def inform(self, peer: Peer) -> None:
        """Tell *peer* what the object has set for its sockets, if it ever has."""
        state = self.state
        if state is not None:
            self.outbox.record(peer, lambda writer: writer.object_state(state))

    @property
    def state(self) -> ObjectState | None:
        """What it has set for its sockets; ``None`` if it never has."""
        if not self.revision:
            return None
        return ObjectState(self.object_id, self.revision, self.event_timeout_ms, self.auto_response)

    def take_state(self, state: ObjectState) -> None:
        """It has set this in an earlier life, or at another shard."""
        self.revision = state.revision
        self.auto_response = state.auto_response
        self.event_timeout_ms = state.event_timeout_ms

    def _state_changed(self) -> None:
        self.revision = self.runtime.numbers.next_revision()
        # To all, also those without a socket of it: what one router remembers outlives this process.
        for peer in self.runtime.output.peers:
            self.inform(peer)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _close_all(counters: list[int], code: int, reason: str, writer: OutputWriter) -> None:
    """Close connections that their object does not know any more."""
    for counter in counters:
        writer.close(counter, code, reason, True)
