"""The host: hands the routers' events to objects, and the objects' output to the routers.

One turn of the loop: batches come (``RouterEvents``), each event is given to its object, the runner takes the handlers
through, their output gathers in outboxes. At the end of the turn one flush writes all outboxes, then the
acknowledgements of the events that have ended, to the links: one group to each router.

A **slot gate** is closed while some router of the map has not yet restored its connections of a slot that this shard
has come to own: no event of the slot is delivered before, so that an object knows all its sockets when it starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..common.cluster_map import ClusterMap
from ..common.errors import ObjectReset
from ..common.ids import Incarnation, ObjectId, Slot
from ..common.link import Link
from ..common.records import AcceptMode, HttpRequest, HttpResponse, ObjectState, OutputWriter, Passport
from .activation import Activation
from .config import ShardConfig
from .counters import ShardCounters
from .current import current
from .hosted import VANISHED, HostedObject
from .jobs import HANDLER_NAMES, Job, JobKind, Runner
from .loader import HostedClass
from .namespaces import Env
from .peers import Peer
from .responses import Answer, answer_of
from .sockets import Socket

log = logging.getLogger("roost.shard")


class Host:
    """All objects of a shard.

    Args:
        config: The shard's settings.
        classes: The user's classes by namespace.
        loop: The loop that all runs on.
        incarnation: This shard's incarnation.
        counters: Where things are counted.

    Attributes:
        env: What objects get as ``self.env``.
        peers: The routers of the map.
        runner: Takes jobs through users' code.
        watching: What runs besides jobs, for the watchdog; empty if nothing does.
    """

    def __init__(
        self,
        config: ShardConfig,
        classes: Mapping[str, HostedClass],
        loop: asyncio.AbstractEventLoop,
        incarnation: Incarnation,
        counters: ShardCounters,
    ) -> None:
        self.config = config
        self.counters = counters
        self.env = Env(config.variables, [hosted.cls.__name__ for hosted in classes.values()])
        self.runner = Runner(loop, self._suspended, self._ended)
        self.peers: list[Peer] = []
        self.watching = ""
        self._classes = classes
        self._loop = loop
        self._incarnation = incarnation
        self._objects: dict[ObjectId, HostedObject] = {}
        self._owned: set[Slot] = set()
        self._gates: dict[Slot, set[Incarnation]] = {}
        self._behind_gates: dict[Slot, dict[HostedObject, None]] = {}
        self._dirty: list[HostedObject] = []
        self._ended_events: list[tuple[HostedObject, Peer, int, int]] = []
        self._flush_planned = False
        self._drowsy: deque[tuple[float, HostedObject]] = deque()
        self._sleep_timer: asyncio.TimerHandle | None = None
        self._closing = False
        loop.set_task_factory(_task_of_object)

    # --- the map ---

    def follow(self, cluster_map: ClusterMap, links: Mapping[Incarnation, Link[OutputWriter]]) -> None:
        """A new map.

        Args:
            cluster_map: The map.
            links: A link to each of its routers.
        """
        for peer in [peer for peer in self.peers if peer.incarnation not in links]:
            self._lose(peer)
        known = {peer.incarnation for peer in self.peers}
        for incarnation, link in links.items():
            if incarnation not in known:
                self._meet(Peer(link))
        owned = set(cluster_map.slots_of(self._incarnation))
        routers = set(links)
        for slot in owned - self._owned:
            if routers:
                self._gates[slot] = set(routers)
        self._owned = owned
        self.counters.slots_owned = len(owned)
        self.counters.slots_waiting = len(self._gates)

    def _meet(self, peer: Peer) -> None:
        if len(self.peers) == 1:
            # With one router nobody kept marks: what its batches carry now counts as of its last one.
            first = self.peers[0]
            self.flush()
            for owner in self._objects.values():
                owner.marks[first] = first.link.session.sent
        peer.link.on_confirmed = lambda _: self._confirmed(peer)
        peer.link.on_unblocked = lambda _: self._plan_flush()
        self.peers.append(peer)

    def _lose(self, peer: Peer) -> None:
        """The router has left the map: its connections are gone (1006), and nobody waits for it any more."""
        peer.closed = True
        self.peers.remove(peer)
        peer.link.close()
        self._confirmed(peer)
        for slot in [slot for slot, missing in self._gates.items() if peer.incarnation in missing]:
            self._restored(peer, slot)
        for socket in list(peer.sockets.values()):
            self._vanish(socket)
        for owner in self._objects.values():
            owner.marks.pop(peer, None)
            owner.informed.discard(peer)

    def _vanish(self, socket: Socket) -> None:
        """Deliver that a connection is gone, without anybody to acknowledge it to."""
        socket.owner.deliver(Job(JobKind.CLOSED, socket.owner, socket, None, 0, 0, (1006, VANISHED, False), 0))

    def gated(self, owner: HostedObject) -> bool:
        """Whether the object must wait for routers to restore its slot; it is pumped when they have."""
        if owner.slot not in self._gates:
            return False
        self._behind_gates.setdefault(owner.slot, {})[owner] = None
        return True

    def _restored(self, peer: Peer, slot: Slot) -> None:
        missing = self._gates.get(slot)
        if missing is None:
            return
        missing.discard(peer.incarnation)
        if not missing:
            del self._gates[slot]
            for owner in self._behind_gates.pop(slot, ()):
                for other in {socket.peer for socket in owner.sockets.newest_first()}:
                    if other is not None and not other.closed:
                        owner.inform(other)
                owner.pump()

    # --- events of routers ---

    def object_for(self, object_id: ObjectId, namespace: str, name: str) -> HostedObject | None:
        """The object, new if it is not known; ``None`` if its namespace is not hosted."""
        owner = self._objects.get(object_id)
        if owner is None:
            hosted_class = self._classes.get(namespace)
            if hosted_class is None:
                return None
            owner = HostedObject(self, hosted_class, object_id, name)
            self._objects[object_id] = owner
        elif name and not owner.name:
            owner.name = name
        return owner

    def message(self, peer: Peer, counter: int, seq: int, deliveries: int, data: str | bytes) -> None:
        """A client's message."""
        self.counters.events += 1
        socket = peer.sockets.get(counter)
        if socket is None:
            self._skip(peer, counter, seq)
        else:
            owner = socket.owner
            owner.deliver(Job(JobKind.MESSAGE, owner, socket, peer, seq, deliveries, data, len(data)))

    def ended(self, peer: Peer, counter: int, seq: int, deliveries: int, kind: JobKind, data: tuple[Any, ...]) -> None:
        """A client's close, or its failure."""
        self.counters.events += 1
        socket = peer.sockets.get(counter)
        if socket is None:
            self._skip(peer, counter, seq)
        else:
            owner = socket.owner
            owner.deliver(Job(kind, owner, socket, peer, seq, deliveries, data, 0))

    def _skip(self, peer: Peer, counter: int, seq: int) -> None:
        """An event of a connection that is no more here: nothing to be done with it."""
        peer.acknowledge(counter, seq)
        self._plan_flush()

    def request(self, peer: Peer, request: HttpRequest) -> None:
        """A request or a handshake."""
        self.counters.events += 1
        self.counters.requests += 1
        owner = self.object_for(request.object_id, request.namespace, request.name)
        if owner is None:
            peer.writer.response(_text(request.request, 404, f"there is no namespace {request.namespace!r} here"))
            peer.link.flush_soon()
            return
        owner.deliver(Job(JobKind.FETCH, owner, None, peer, 0, 0, request, len(request.body)))

    def restore(self, peer: Peer, passport: Passport) -> None:
        """A connection that an earlier owner of its object had accepted."""
        owner = self.object_for(passport.object_id, passport.namespace, passport.name)
        if owner is None:
            peer.writer.close(passport.connection, 1011, f"there is no namespace {passport.namespace} any more", True)
            peer.link.flush_soon()
            return
        socket = Socket(owner, hibernatable=True, ordinal=passport.ordinal, tags=passport.tags)
        socket.peer = peer
        socket.counter = passport.connection
        socket.attachment = passport.attachment
        socket.url, socket.protocol = passport.url, passport.protocol
        socket.auto_response_time = passport.auto_response_time
        socket.closed_by_object = passport.closed_by_object
        owner.sockets.add(socket)
        owner.next_ordinal = max(owner.next_ordinal, passport.ordinal + 1)
        peer.sockets[socket.counter] = socket
        self.counters.sockets += 1

    def object_state(self, peer: Peer, state: ObjectState) -> None:
        """What an earlier owner of the object had set; the highest revision wins."""
        owner = self._objects.get(state.object_id)
        if owner is None or state.revision < owner.revision:
            return
        if state.revision > owner.revision:
            owner.revision = state.revision
            owner.auto_response = state.auto_response
            owner.event_timeout_ms = state.event_timeout_ms
            owner.informed.clear()
        owner.informed.add(peer)

    def restored(self, peer: Peer, slots: Sequence[int]) -> None:
        """*peer* has restored all that it holds for *slots*."""
        for slot in slots:
            self._restored(peer, Slot(slot))
        self.counters.slots_waiting = len(self._gates)

    # --- jobs ---

    def _suspended(self, job: Job) -> None:
        """A handler waits for something."""
        activation, owner = job.activation, job.owner
        assert activation is not None
        assert job.task is not None
        activation.jobs.add(job)
        limit = owner.event_timeout_ms / 1000
        if job.kind is JobKind.FETCH:
            return
        if job.kind is not JobKind.MESSAGE:
            assert job.socket is not None
            owner.forget(job.socket)
            own_limit = self.config.close_timeout_s
            limit = min(limit, own_limit) if limit else own_limit
        if limit:
            job.timer = self._loop.call_later(limit, self._overdue, job, limit)

    def _overdue(self, job: Job, limit: float) -> None:
        self.counters.timeouts += 1
        log.warning("%s was cancelled: it took more than %g s", job.label, limit)
        self.cancel(job, "it took too long")

    def cancel(self, job: Job, reason: str) -> None:
        """Cancel the handler of *job*, unless it is what runs right now."""
        if job.task is not None and job is not self.runner.running:
            job.cancelled_for = reason
            job.task.cancel()

    def _ended(self, job: Job, result: Any, error: BaseException | None) -> None:
        """A handler has ended."""
        owner, activation, socket, kind = job.owner, job.activation, job.socket, job.kind
        if job.task is not None:
            assert activation is not None
            activation.jobs.discard(job)
            if job.timer is not None:
                job.timer.cancel()
        if error is not None and not job.cancelled_for and not isinstance(error, ObjectReset):
            self.user_error(job.label, error)
        if kind is JobKind.MESSAGE or kind is JobKind.CLOSED or kind is JobKind.FAILED:
            assert socket is not None
            if kind is not JobKind.MESSAGE:
                owner.forget(socket)
                socket.gone = True
            if job.peer is not None and job.seq:
                self._ended_events.append((owner, job.peer, socket.counter, job.seq))
                if not self._flush_planned:
                    self._plan_flush()
        else:
            self._answer(job, activation, result, error)
        owner.finished(job)
        self.note_idle(owner)

    def abandon(self, job: Job, reason: str) -> None:
        """End *job* without having run it: a request is answered 500 with *reason*, an event counts as done with."""
        owner = job.owner
        if job.kind is JobKind.FETCH:
            self._respond(job, _text(job.request.request, 500, reason))
        else:
            assert job.socket is not None
            if job.kind is not JobKind.MESSAGE:
                owner.forget(job.socket)
            if job.peer is not None and job.seq:
                self._ended_events.append((owner, job.peer, job.socket.counter, job.seq))
                self._plan_flush()
        owner.finished(job)
        self.note_idle(owner)

    def user_error(self, where: str, error: BaseException | None) -> None:
        """The user's code has raised: log it with its traceback. Nothing else is hurt by it."""
        self.counters.errors += 1
        log.error("%s raised %s: %s", where, type(error).__name__, error, exc_info=error)

    @contextlib.contextmanager
    def watched(self, what: str) -> Iterator[None]:
        """Users' code runs here that is no job: tell the watchdog what it is."""
        before, self.watching = self.watching, what
        try:
            yield
        finally:
            self.watching = before

    # --- requests ---

    def _answer(self, job: Job, activation: Activation | None, result: Any, error: BaseException | None) -> None:
        request, owner = job.request, job.owner
        if error is not None:
            reason = f"the object was reset: {error}" if isinstance(error, ObjectReset) else job.cancelled_for
            self._respond(job, _text(request.request, 500, reason or "the object's fetch raised an exception"))
        elif activation is not None and not activation.has_fetch:
            self._respond(job, _text(request.request, 501, f"{request.namespace} does not handle requests (no fetch)"))
        else:
            try:
                answer = answer_of(request, result)
            except Exception as wrong:
                self.user_error(job.label, wrong)
                self._respond(job, _text(request.request, 500, "the object's fetch returned something unusable"))
            else:
                self._carry_out(job, answer)
        for socket, accepted_in in list(owner.accepting.items()):
            # Accepted, but its client end did not come back with the request it was accepted in.
            if accepted_in is job or accepted_in is None:
                del owner.accepting[socket]
                socket.held = None
                socket.gone = True
                self._vanish(socket)

    def _carry_out(self, job: Job, answer: Answer) -> None:
        owner, peer, socket, response = job.owner, job.peer, answer.socket, answer.response
        assert peer is not None
        if socket is not None:
            owner.accepting.pop(socket, None)
        if peer.closed:
            if socket is not None:
                socket.held = None
                self._vanish(socket)
            return
        connection = job.request.connection
        if socket is not None:
            socket.peer, socket.counter = peer, connection
            socket.url, socket.protocol = job.request.url, answer.protocol
            peer.sockets[connection] = socket
            self.counters.sockets += 1
            owner.inform(peer)
        self._respond(job, response)
        if answer.broken:
            owner.outbox.record(peer, lambda writer: writer.close(connection, 1006, "", True))
        if socket is not None:
            held, socket.held = socket.held or [], None
            for kind, *arguments in held:
                if kind == "send":
                    owner.outbox.send(peer, connection, arguments[0])
                else:
                    owner.record_close(socket, *arguments)

    def _respond(self, job: Job, response: HttpResponse) -> None:
        peer = job.peer
        if peer is not None and not peer.closed:
            job.owner.outbox.record(peer, lambda writer: writer.response(response), len(response.body))

    # --- output and acknowledgements ---

    def plan_outbox(self, owner: HostedObject) -> None:
        """*owner* has output: write it at the end of this turn."""
        self._dirty.append(owner)
        if not self._flush_planned:
            self._plan_flush()

    def _plan_flush(self) -> None:
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self.flush)

    def _confirmed(self, peer: Peer) -> None:
        if peer.confirmed():
            self._plan_flush()

    def flush(self) -> None:
        """Write what has gathered: outboxes, then the acknowledgements of events that have ended."""
        self._flush_planned = False
        peers = self.peers
        blocked = {peer for peer in peers if peer.link.blocked}
        dirty, self._dirty = self._dirty, []
        ended, self._ended_events = self._ended_events, []
        sends = 0
        if len(peers) <= 1 and not blocked:
            for owner in dirty:
                sends += owner.outbox.drain()[1]
            for _, peer, counter, seq in ended:
                peer.acknowledge(counter, seq)
            for peer in peers:
                peer.write_acks()
                peer.link.flush()
        else:
            sends = self._flush_several(peers, blocked, dirty, ended)
        self.counters.sends += sends

    def _flush_several(
        self,
        peers: list[Peer],
        blocked: set[Peer],
        dirty: list[HostedObject],
        ended: list[tuple[HostedObject, Peer, int, int]],
    ) -> int:
        sends = 0
        fresh: dict[HostedObject, set[Peer]] = {}
        for owner in dirty:
            if blocked and owner.outbox.goes_to(blocked):
                self._dirty.append(owner)  # until on_unblocked
                continue
            written, count = owner.outbox.drain()
            fresh[owner] = written
            sends += count
        later = []
        for event in ended:
            owner, peer, counter, seq = event
            if owner.outbox.planned and owner not in fresh:
                self._ended_events.append(event)  # its output has not left yet
            elif _elsewhere(owner, peer, fresh.get(owner, ())):
                later.append(event)
            else:
                peer.acknowledge(counter, seq)
        for peer in peers:
            peer.write_acks()
            peer.link.flush()
        for owner, written in fresh.items():
            for peer in written:
                owner.marks[peer] = peer.link.session.sent
        for owner, peer, counter, seq in later:
            peer.acknowledge_after(counter, seq, owner.marks)
        return sends

    # --- sleep ---

    def note_idle(self, owner: HostedObject) -> None:
        """*owner* may have become idle: let it fall asleep after a while."""
        owner.idle_since = self._loop.time()
        if not owner.drowsy and owner.activation is not None:
            owner.drowsy = True
            self._drowsy.append((owner.idle_since + self.config.hibernate_after_s, owner))
            if self._sleep_timer is None:
                self._sleep_timer = self._loop.call_at(self._drowsy[0][0], self._put_to_sleep)
        elif owner.forgettable:
            self._objects.pop(owner.object_id, None)

    def _put_to_sleep(self) -> None:
        """All objects wait equally long, so the queue is in the order of deadlines; one timer is enough."""
        self._sleep_timer = None
        now, patience = self._loop.time(), self.config.hibernate_after_s
        drowsy = self._drowsy
        while drowsy and drowsy[0][0] <= now:
            _, owner = drowsy.popleft()
            due = owner.idle_since + patience
            if owner.activation is None:
                owner.drowsy = False
            elif due > now or not owner.may_sleep:
                # Events since: look again when this idleness would be long enough. An object that is busy now comes
                # back by itself, but may end its last task without a word.
                drowsy.append((max(due, now + patience), owner) if due <= now else (due, owner))
                continue
            else:
                owner.drowsy = False
                owner.hibernate()
                self.counters.hibernations += 1
            if owner.forgettable:
                self._objects.pop(owner.object_id, None)
        if drowsy:
            self._sleep_timer = self._loop.call_at(drowsy[0][0], self._put_to_sleep)

    def count_objects(self) -> None:
        """Bring the figures up to date that are not counted as they change."""
        self.counters.objects_asleep = len(self._objects) - self.counters.objects_awake

    # --- the end ---

    async def aclose(self, deadline_s: float) -> None:
        """Let running handlers end, cancel those that have not within *deadline_s* seconds, and flush."""
        self._closing = True
        if self._sleep_timer is not None:
            self._sleep_timer.cancel()
        activations = [owner.activation for owner in self._objects.values() if owner.activation is not None]
        running: set[asyncio.Future[Any]] = set()
        for activation in activations:
            running.update(job.task for job in activation.jobs if job.task is not None)
        if running:
            await asyncio.wait(running, timeout=deadline_s)
        running |= {task for activation in activations for task in activation.tasks}
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=1.0)
        self.flush()


class RouterEvents:
    """The sink of one router's records: ``EventSink`` for the host."""

    __slots__ = ("_host", "_peer")

    def __init__(self, host: Host, peer: Peer) -> None:
        self._host = host
        self._peer = peer

    def message(self, connection: int, seq: int, deliveries: int, data: str | bytes) -> None:
        """See ``EventSink``."""
        self._host.message(self._peer, connection, seq, deliveries, data)

    def closed(self, connection: int, seq: int, deliveries: int, code: int, reason: str, clean: bool) -> None:
        """See ``EventSink``."""
        self._host.ended(self._peer, connection, seq, deliveries, JobKind.CLOSED, (code, reason, clean))

    def failed(self, connection: int, seq: int, deliveries: int, code: int, description: str) -> None:
        """See ``EventSink``."""
        self._host.ended(self._peer, connection, seq, deliveries, JobKind.FAILED, (code, description))

    def request(self, request: HttpRequest) -> None:
        """See ``EventSink``."""
        self._host.request(self._peer, request)

    def auto_response_times(self, connections: Sequence[int], times: Sequence[float]) -> None:
        """See ``EventSink``."""
        sockets = self._peer.sockets
        for counter, time in zip(connections, times, strict=True):
            socket = sockets.get(counter)
            if socket is not None:
                socket.auto_response_time = time

    def restore(self, passport: Passport) -> None:
        """See ``EventSink``."""
        self._host.restore(self._peer, passport)

    def restored(self, map_version: int, slots: Sequence[int]) -> None:
        """See ``EventSink``."""
        self._host.restored(self._peer, slots)

    def object_state(self, state: ObjectState) -> None:
        """See ``EventSink``."""
        self._host.object_state(self._peer, state)


def _elsewhere(owner: HostedObject, peer: Peer, written: set[Peer] | tuple[()]) -> bool:
    """Whether output of *owner* is unconfirmed at another router than *peer*."""
    if any(other is not peer for other in written):
        return True
    return any(
        other is not peer and not other.closed and other.link.session.confirmed < number
        for other, number in owner.marks.items()
    )


def _text(request: int, status: int, sentence: str) -> HttpResponse:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    return HttpResponse(request, status, AcceptMode.PLAIN, headers, sentence.encode() + b"\n")


def _task_of_object(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    """The loop's task factory: a task that an object's code starts keeps the object awake."""
    task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **options)
    owner = current.get()
    if owner is not None:
        owner.adopt(task)
    return task


__all__ = ["HANDLER_NAMES", "Host", "RouterEvents"]
