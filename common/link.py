"""Links: sessions carried by ZeroMQ. The only module that knows ZeroMQ.

A shard's ``Acceptor`` binds one ROUTER socket; a router's ``Dialer`` connects one DEALER to each shard incarnation.
A ``Link`` is one session with the writer that collects its records: whoever writes records calls ``flush_soon``, and
at the end of the loop's turn they leave as one group. What comes in is handed to ``on_group``, whole groups in order.

How the sockets are driven
--------------------------
* Each socket's descriptor is watched by the loop. It signals *changes* only, and any call on the socket may use the
  signal up. So a drain receives until ZeroMQ has nothing left, and after sending ``EVENTS`` is asked, which costs
  about as much as all the rest: once per flush, not per batch.
* A drain ends after ``DRAIN_BATCHES`` batches and goes on in the next turn: timers and clients get theirs between.
* Nothing blocks, and no queue of ZeroMQ has a bound: the sessions' bounds hold. A batch that ZeroMQ refuses (nobody
  is there) or loses without a word is the session's to send again.
* Sessions need a few milliseconds' clock while batches are unconfirmed. One timer of the whole endpoint does it, and
  only while some session is busy.
* A DEALER calls itself by its router's incarnation, so that a shard can address a router before having heard from it.
  A new connection under that name replaces the old one.

Garbage (messages of unknown senders, batches of other clusters or incarnations, plain TCP) is dropped, counted in
``wire_garbage`` and logged at most once a minute. A group that does not parse is worse: the other end is a member and
broken. Its link is closed, and ``on_failed`` is called. Two incarnations have one session only: after that the owner
either does without the other member or starts anew under another incarnation.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import zmq
from zmq.utils.monitor import parse_monitor_message

from .clock import Clock
from .counters import Counters
from .errors import StartupError, WireError
from .ids import Incarnation
from .records import EventWriter, OutputWriter, RecordWriter
from .session import MAX_MESSAGE_BYTES, Session

W = TypeVar("W", bound=RecordWriter)

DRAIN_BATCHES = 64
"""Batches received in one turn of the loop."""
TICK_S = 0.005
"""Seconds between two looks at the clock while a session is busy."""
RECONNECT_S = 0.02
"""Seconds before a broken connection is tried again; doubling up to RECONNECT_AT_MOST_S."""
RECONNECT_AT_MOST_S = 0.2
HEARTBEAT_S = 1.0
"""Seconds between ZeroMQ's own heartbeats. They find a connection that died without a word, and one that another
connection under the same name has replaced: ZeroMQ leaves that open and deaf."""
HEARTBEAT_TIMEOUT_S = 5.0
LOG_INTERVAL_S = 60.0
"""Seconds between two log lines of one kind about garbage."""

_log = logging.getLogger("roost.link")

# Plain ints: each operation on pyzmq's flag enums costs as much as a send.
_NOBLOCK = int(zmq.NOBLOCK)
_NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_POLLIN = int(zmq.POLLIN)
_NOBODY = (errno.EAGAIN, errno.EHOSTUNREACH)


def routing_id(member: Incarnation) -> bytes:
    """What a router's sockets call themselves; never begins with 0, which ZeroMQ keeps for names of its own."""
    return b"r%08x" % member


class Link(Generic[W]):
    """One session of one router and one shard, with its writer. Made by a ``Dialer`` or an ``Acceptor``.

    Attributes:
        writer: Where records for the other end are collected.
        remote: The other end's incarnation.
        session: Numbers of what was sent and confirmed; do not call its methods.
        on_confirmed: Called with the link after ``session.confirmed`` has grown, once for a run of batches.
        on_unblocked: Called with the link when ``blocked`` has become false again.
        closed: The link is closed; writing to it has no effect.
    """

    __slots__ = (
        "_endpoint",
        "_routing_id",
        "_scheduled",
        "_seen_blocked",
        "_seen_confirmed",
        "_seen_resent",
        "closed",
        "on_confirmed",
        "on_unblocked",
        "remote",
        "session",
        "writer",
    )

    def __init__(self, endpoint: _Endpoint[W], remote: Incarnation, writer: W, session: Session) -> None:
        self.writer = writer
        self.remote = remote
        self.session = session
        self.on_confirmed: Callable[[Link[W]], None] | None = None
        self.on_unblocked: Callable[[Link[W]], None] | None = None
        self.closed = False
        self._endpoint = endpoint
        self._routing_id = routing_id(remote)
        self._scheduled = False
        self._seen_confirmed = 0
        self._seen_blocked = False
        self._seen_resent = 0

    @property
    def blocked(self) -> bool:
        """Too much is unconfirmed: send nothing that can wait, until ``on_unblocked``."""
        return self.session.blocked

    def flush_soon(self) -> None:
        """Send what the writer holds at the end of this turn of the loop. Cheap if that is planned already."""
        if not self._scheduled:
            self._scheduled = True
            self._endpoint.plan_flush(self)

    def flush(self) -> None:
        """Send what the writer holds now."""
        self._endpoint.flush(self)

    def close(self) -> None:
        """End the link. What it has not delivered is not delivered; the other end is told nothing."""
        if not self.closed:
            self.closed = True
            self._endpoint.forget(self)

    def note(self) -> None:
        """Call the callbacks that are due. For the endpoint, after something has come."""
        session = self.session
        if session.confirmed != self._seen_confirmed:
            self._seen_confirmed = session.confirmed
            if self.on_confirmed is not None:
                self.on_confirmed(self)
        if session.blocked != self._seen_blocked:
            self._seen_blocked = session.blocked
            if not session.blocked and self.on_unblocked is not None and not self.closed:
                self.on_unblocked(self)


class _Endpoint(ABC, Generic[W]):
    """What ``Dialer`` and ``Acceptor`` share: sessions, flushing, the clock, garbage. They differ in their sockets."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        cluster_id: int,
        local: Incarnation,
        clock: Clock,
        on_group: Callable[[Link[W], bytes], None],
        counters: Counters,
        on_failed: Callable[[Link[W], Exception], None] | None,
    ) -> None:
        self._loop = loop
        self._cluster_id = cluster_id
        self._local = local
        self._now = clock.now
        self._on_group = on_group
        self._on_failed = on_failed
        self._counters = counters
        self._context = zmq.Context(io_threads=1)
        self._links: dict[Incarnation, Link[W]] = {}
        self._unflushed: list[Link[W]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._map_version = 0
        self._logged: dict[str, tuple[float, int]] = {}
        self._closed = False

    # --- for the owner ---

    @property
    def map_version(self) -> int:
        """Version of the map that this process has: stamped on what it sends; what came for it is delivered soon."""
        return self._map_version

    @map_version.setter
    def map_version(self, version: int) -> None:
        if version > self._map_version:
            self._map_version = version
            # Not at once: the owner may be in the middle of taking the map over.
            self._loop.call_soon(self._release)

    async def aclose(self) -> None:
        """Close all links and sockets. What has not gone out is dropped."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for link in list(self._links.values()):
            link.close()
        self._close_sockets()
        # Ends ZeroMQ's thread, which takes some milliseconds.
        await self._loop.run_in_executor(None, self._context.term)

    # --- for links ---

    def plan_flush(self, link: Link[W]) -> None:
        if not self._unflushed:
            self._loop.call_soon(self._flush_planned)
        self._unflushed.append(link)

    def _flush_planned(self) -> None:
        links, self._unflushed = self._unflushed, []
        for link in links:
            link._scheduled = False
            self.flush(link)

    def flush(self, link: Link[W]) -> None:
        groups = link.writer.take()
        if not groups or link.closed:
            return
        session = link.session
        now = self._now()
        try:
            for group in groups:
                session.send(group, self._map_version, now)
        except ValueError as error:
            # A group that cannot be sent would be missing there for ever, and nobody would know.
            self._fail(link, error)
            return
        if session.blocked:
            link._seen_blocked = True
        if session.outgoing:
            self._transmit(link)
        if self._timer is None:
            self._timer = self._loop.call_later(TICK_S, self._tick)

    def forget(self, link: Link[W]) -> None:
        if self._links.get(link.remote) is link:
            del self._links[link.remote]
        self._detach(link)

    # --- sockets ---

    @abstractmethod
    def _transmit(self, link: Link[W]) -> None:
        """Give the session's outgoing batches to ZeroMQ."""

    @abstractmethod
    def _detach(self, link: Link[W]) -> None:
        """The link is closed: let go of what only it used."""

    @abstractmethod
    def _close_sockets(self) -> None:
        """Close what is left once all links are."""

    def _new_socket(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        socket.setsockopt(zmq.RECONNECT_IVL, int(RECONNECT_S * 1000))
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, int(RECONNECT_AT_MOST_S * 1000))
        socket.setsockopt(zmq.HEARTBEAT_IVL, int(HEARTBEAT_S * 1000))
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(HEARTBEAT_TIMEOUT_S * 1000))
        return socket

    def _new_link(self, remote: Incarnation, writer: W) -> Link[W]:
        if remote in self._links:
            raise ValueError(f"there is a link to incarnation {remote} already")
        if self._closed:
            raise ValueError("the endpoint is closed")
        link = Link(self, remote, writer, Session(self._cluster_id, self._local, remote, self._now()))
        self._links[remote] = link
        return link

    def _refused(self, link: Link[W], error: zmq.ZMQError) -> None:
        """ZeroMQ would not take a batch."""
        if error.errno in _NOBODY:
            link.session.lost()
        else:
            self._fail(link, error)

    # --- what comes ---

    def _deliver(self, link: Link[W], batch: bytes, now: float) -> None:
        self._counters.batches_in += 1
        session = link.session
        try:
            groups = session.receive(batch, self._map_version, now)
        except WireError as error:
            self._garbage("batch", error)
            if session.failed:
                self._fail(link, error)
            return
        for group in groups:
            self._hand_out(link, group)
        if session.outgoing and not link.closed:
            self._transmit(link)

    def _hand_out(self, link: Link[W], group: bytes) -> None:
        if link.closed:
            return
        try:
            self._on_group(link, group)
        except WireError as error:
            self._counters.wire_garbage += 1
            self._fail(link, error)
        except Exception as error:
            # Part of the group may have been applied: going on would be worse than ending.
            _log.exception("link to incarnation %d: a group could not be applied", link.remote)
            self._fail(link, error)

    def _fail(self, link: Link[W], error: Exception) -> None:
        if link.closed:
            return
        self._counters.links_failed += 1
        _log.error("link to incarnation %d given up after batch %d: %s", link.remote, link.session.received, error)
        link.close()
        if self._on_failed is not None:
            self._on_failed(link, error)

    def _received(self, link: Link[W]) -> None:
        """A run of batches of *link* is over."""
        if link.closed:
            return
        if link.session.resent != link._seen_resent:
            self._counters.batches_resent += link.session.resent - link._seen_resent
            link._seen_resent = link.session.resent
        link.note()
        if self._timer is None and link.session.busy:
            self._timer = self._loop.call_later(TICK_S, self._tick)

    def _release(self) -> None:
        now = self._now()
        for link in list(self._links.values()):
            session = link.session
            try:
                groups = session.release(self._map_version, now)
            except WireError as error:
                self._garbage("batch", error)
                self._fail(link, error)
                continue
            for group in groups:
                self._hand_out(link, group)
            if session.outgoing and not link.closed:
                self._transmit(link)
            self._received(link)

    def _garbage(self, kind: str, reason: object) -> None:
        self._counters.wire_garbage += 1
        now = self._now()
        since, count = self._logged.get(kind, (-LOG_INTERVAL_S, 0))
        if now - since < LOG_INTERVAL_S and kind in self._logged:
            self._logged[kind] = since, count + 1
            return
        self._logged[kind] = now, 0
        more = f"; {count} more in the last {now - since:.0f} s" if count else ""
        _log.warning("dropped: %s%s", reason, more)

    # --- time ---

    def _tick(self) -> None:
        self._timer = None
        now = self._now()
        busy = False
        for link in list(self._links.values()):
            session = link.session
            if session.busy:
                session.tick(now)
                if session.outgoing:
                    self._transmit(link)
                busy = True
        if busy and self._timer is None:
            self._timer = self._loop.call_later(TICK_S, self._tick)


class _Channel:
    """A ZeroMQ socket watched by the loop: calls *drain* while there is something, in bounded runs.

    Args:
        loop: The loop that watches.
        socket: The socket; closed by ``close``.
        drain: Receives at most ``DRAIN_BATCHES`` messages and returns whether it stopped before the end.
    """

    __slots__ = ("_descriptor", "_drain", "_draining", "_loop", "_socket", "closed", "events", "recv", "send")

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: zmq.Socket[bytes], drain: Callable[[], bool]) -> None:
        self._loop = loop
        self._socket = socket
        self._drain = drain
        self._draining = False  # a run is under way or planned
        self.closed = False
        # The methods below pyzmq's own conveniences: half the cost, and nothing here needs those.
        base: Any = super(zmq.Socket, socket)
        self.send: Callable[[bytes, int], object] = base.send
        self.recv: Callable[[int], bytes] = base.recv
        self.events: Callable[[int], int] = base.get
        self._descriptor = int(socket.getsockopt(zmq.FD))
        loop.add_reader(self._descriptor, self._readable)
        # The descriptor may have signalled before it was watched.
        self.check()

    def check(self) -> None:
        """After sending: plan a run if there is something to receive, for the signal may be used up."""
        if not self._draining and self.events(zmq.EVENTS) & _POLLIN:
            self._draining = True
            self._loop.call_soon(self._run)

    def _readable(self) -> None:
        if not self._draining:
            self._draining = True
            self._run()

    def _run(self) -> None:
        if self.closed:
            return
        more = True
        try:
            more = self._drain()
        finally:
            # Also after an error, else the signal would be used up and the socket silent for ever.
            if more and not self.closed:
                self._loop.call_soon(self._run)
            else:
                self._draining = False

    def rest(self) -> int:
        """Drop the frames that are left of a message that has too many; returns how many."""
        count = 0
        while self._socket.getsockopt(zmq.RCVMORE):
            self.recv(_NOBLOCK)
            count += 1
        return count

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.remove_reader(self._descriptor)
            self._socket.close()


class Dialer(_Endpoint[EventWriter]):
    """A router's side: one DEALER socket for each shard incarnation.

    Args:
        loop: The loop that all this runs on.
        cluster_id: The directory's random number.
        local: This router's incarnation.
        clock: Monotonic time.
        on_group: Called with each group of records that comes, in order. A ``WireError`` gives the link up.
        counters: Where batches and garbage are counted.
        on_failed: Called after a link was given up, with the reason. The link is closed already.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        cluster_id: int,
        local: Incarnation,
        clock: Clock,
        on_group: Callable[[Link[EventWriter], bytes], None],
        counters: Counters,
        on_failed: Callable[[Link[EventWriter], Exception], None] | None = None,
    ) -> None:
        super().__init__(
            loop=loop,
            cluster_id=cluster_id,
            local=local,
            clock=clock,
            on_group=on_group,
            counters=counters,
            on_failed=on_failed,
        )
        self._channels: dict[Link[EventWriter], _Channel] = {}

    def connect(self, remote: Incarnation, endpoint: str) -> Link[EventWriter]:
        """Begin the session with a shard. It need not be there yet: what is sent waits.

        Args:
            remote: The shard's incarnation.
            endpoint: Its ZeroMQ address.

        Raises:
            ValueError: There is a link to that incarnation, or *endpoint* is no address.
        """
        link = self._new_link(remote, EventWriter())
        socket = self._new_socket(zmq.DEALER)
        try:
            socket.setsockopt(zmq.ROUTING_ID, routing_id(self._local))
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            socket.close()
            del self._links[remote]
            raise ValueError(f"{endpoint!r} is no address to connect to: {error}") from error
        self._channels[link] = _Channel(self._loop, socket, lambda: self._drain(link))
        return link

    def _transmit(self, link: Link[EventWriter]) -> None:
        channel = self._channels[link]
        send, sent = channel.send, 0
        try:
            for batch in link.session.take_outgoing():
                send(batch, _NOBLOCK)
                sent += 1
        except zmq.ZMQError as error:
            self._refused(link, error)
        self._counters.batches_out += sent
        channel.check()

    def _drain(self, link: Link[EventWriter]) -> bool:
        recv = self._channels[link].recv
        now = self._now()
        more = True
        try:
            for _ in range(DRAIN_BATCHES):
                self._deliver(link, recv(_NOBLOCK), now)
                if link.closed:
                    return False
        except zmq.Again:
            more = False
        self._received(link)
        return more

    def _detach(self, link: Link[EventWriter]) -> None:
        self._channels.pop(link).close()

    def _close_sockets(self) -> None:
        assert not self._channels


class Acceptor(_Endpoint[OutputWriter]):
    """A shard's side: one ROUTER socket for all routers.

    Args:
        loop: The loop that all this runs on.
        cluster_id: The directory's random number.
        local: This shard's incarnation.
        endpoint: The ZeroMQ address to bind; it should contain the incarnation, so that no router meets another one.
        clock: Monotonic time.
        on_group: Called with each group of records that comes, in order. A ``WireError`` gives the link up.
        counters: Where batches and garbage are counted.
        on_failed: Called after a link was given up, with the reason. The link is closed already.

    Raises:
        StartupError: The address cannot be bound.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        cluster_id: int,
        local: Incarnation,
        endpoint: str,
        clock: Clock,
        on_group: Callable[[Link[OutputWriter], bytes], None],
        counters: Counters,
        on_failed: Callable[[Link[OutputWriter], Exception], None] | None = None,
    ) -> None:
        super().__init__(
            loop=loop,
            cluster_id=cluster_id,
            local=local,
            clock=clock,
            on_group=on_group,
            counters=counters,
            on_failed=on_failed,
        )
        self._by_name: dict[bytes, Link[OutputWriter]] = {}
        socket = self._new_socket(zmq.ROUTER)
        monitor: zmq.Socket[bytes] | None = None
        try:
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
            if endpoint.startswith("tcp:"):
                monitor = socket.get_monitor_socket(
                    zmq.Event.ACCEPTED
                    | zmq.Event.HANDSHAKE_SUCCEEDED
                    | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
                    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
                    | zmq.Event.HANDSHAKE_FAILED_AUTH
                    | zmq.Event.DISCONNECTED
                )
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            if monitor is not None:
                socket.disable_monitor()
                monitor.close()
            socket.close()
            self._context.term()
            raise StartupError(f"cannot bind the shard's address {endpoint}: {error}") from error
        self.endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        """The address bound, with the port that the system chose if ``endpoint`` left it open."""
        self._socket = socket
        self._channel = _Channel(loop, socket, self._drain)
        self._strangers = 0  # connections accepted that have not shown to speak ZeroMQ
        self._monitor = _Channel(loop, monitor, self._drain_monitor) if monitor is not None else None

    def add_peer(self, remote: Incarnation) -> Link[OutputWriter]:
        """Begin the session with a router of the map. It need not have connected yet: what is sent waits.

        Raises:
            ValueError: There is a link to that incarnation.
        """
        link = self._new_link(remote, OutputWriter())
        self._by_name[link._routing_id] = link
        return link

    def remove_peer(self, remote: Incarnation) -> None:
        """The router is not in the map any more: close its link, if there is one."""
        link = self._links.get(remote)
        if link is not None:
            link.close()

    def _transmit(self, link: Link[OutputWriter]) -> None:
        send, name, sent = self._channel.send, link._routing_id, 0
        try:
            for batch in link.session.take_outgoing():
                send(name, _NOBLOCK_MORE)
                send(batch, _NOBLOCK)
                sent += 1
        except zmq.ZMQError as error:
            self._refused(link, error)
        self._counters.batches_out += sent
        self._channel.check()

    def _drain(self) -> bool:
        recv, by_name = self._channel.recv, self._by_name
        now = self._now()
        touched: dict[Link[OutputWriter], None] = {}
        more = True
        try:
            for _ in range(DRAIN_BATCHES):
                name = recv(_NOBLOCK)
                batch = recv(_NOBLOCK)
                link = by_name.get(name)
                if link is None:
                    self._counters.batches_in += 1
                    self._garbage("sender", self._stranger(name, batch))
                    continue
                garbage = self._counters.wire_garbage
                self._deliver(link, batch, now)
                touched[link] = None
                if garbage != self._counters.wire_garbage:
                    self._channel.rest()
                if self._channel.closed:
                    return False
        except zmq.Again:
            more = False
        for link in touched:
            self._received(link)
        return more

    def _stranger(self, name: bytes, batch: bytes) -> str:
        # A message of several frames would shift all later ones by a frame, were its rest not dropped here.
        frames = 1 + self._channel.rest()
        return f"a message of {len(batch)} bytes in {frames} frame(s) from {name!r}, which is no router of the map"

    def _drain_monitor(self) -> bool:
        assert self._monitor is not None
        try:
            for _ in range(DRAIN_BATCHES):
                frames = [self._monitor.recv(_NOBLOCK), self._monitor.recv(_NOBLOCK)]
                event = parse_monitor_message(frames)["event"]
                if event == zmq.Event.ACCEPTED:
                    self._strangers += 1
                elif event == zmq.Event.HANDSHAKE_SUCCEEDED:
                    self._strangers = max(0, self._strangers - 1)
                elif self._strangers:
                    # A failed handshake, which an end may follow, or an end without a handshake. Which connection
                    # ended is not told: a router that shakes hands in that very moment may be taken for it.
                    self._strangers -= 1
                    self._garbage("connection", "a connection to the shard's address that does not speak ZeroMQ")
        except zmq.Again:
            return False
        return True

    def _detach(self, link: Link[OutputWriter]) -> None:
        self._by_name.pop(link._routing_id, None)

    def _close_sockets(self) -> None:
        if self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close()
        self._channel.close()
