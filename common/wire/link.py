"""The sockets under links: the only module that knows ZeroMQ.

An ``Acceptor`` binds one ROUTER socket, a ``Dialer`` connects one DEALER to each incarnation that accepts: routers dial
shards. A member that does both has one of each. What they carry, and when, is the business of ``endpoint`` and
``session``; what it means, that of the link's dialect.

* Each socket's descriptor is watched by the loop. It signals *changes* only, and any call on the socket may use the
  signal up. So a drain receives until ``EVENTS`` says that there is nothing left (receiving in vain tells the same at
  twice the cost), and ``EVENTS`` is asked again after sending: once per flush, or once after a drain that led to some.
* A drain ends after ``DRAIN_BATCHES`` batches, ``DRAIN_BYTES`` or ``DRAIN_S``, and goes on in the next turn: timers and
  clients get theirs between. Of a long group it hands out a part; the link has the rest, which comes before all else.
* Nothing blocks, and no queue of ZeroMQ has a bound: the sessions' bounds hold. A batch that ZeroMQ refuses (nobody
  is there) or loses without a word is the session's to send again.
* A DEALER calls itself by its member's incarnation, so that who accepts can address it before having heard from it.
  A new connection under that name replaces the old one.
* What is no batch at all ends here: messages of other senders, and connections that do not speak ZeroMQ.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from ..errors import ConfigError, FolderTrouble, StartupError
from ..ids import Incarnation
from ..machine.apart import apart
from ..machine.run_folder import follow_folders, hidden_path, reachable
from ..machine.upkeep import is_file
from .endpoint import Endpoint, Link, Rest, Wiring
from .records import Dialect, W
from .session import MAX_MESSAGE_BYTES, sender_of

__all__ = ["Acceptor", "Dialer", "Link", "Rest", "Wiring"]

DRAIN_BATCHES = 64
"""Batches received in one turn of the loop."""
DRAIN_BYTES = 512 << 10
"""Bytes of them, and a batch more."""
DRAIN_S = 0.002
"""Seconds for which what has come is handed out in one turn of the loop."""
RECONNECT_S = 0.02
"""Seconds before a broken connection is tried again; doubling up to RECONNECT_AT_MOST_S."""
RECONNECT_AT_MOST_S = 0.2
HEARTBEAT_S = 1.0
"""Seconds between ZeroMQ's own heartbeats. They find a connection that died without a word, and one that another
connection under the same name has replaced: ZeroMQ leaves that open and deaf."""
HEARTBEAT_TIMEOUT_S = 5.0

# Plain ints: each operation on pyzmq's flag enums costs as much as a send.
_NOBLOCK = int(zmq.NOBLOCK)
_NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_POLLIN = int(zmq.POLLIN)
_EVENTS = int(zmq.EVENTS)
_NOBODY = (errno.EAGAIN, errno.EHOSTUNREACH)


def routing_id(member: Incarnation) -> bytes:
    """What a dialer's sockets call themselves; never begins with 0, which ZeroMQ keeps for names of its own."""
    return b"r%08x" % member


class _Channel:
    """A ZeroMQ socket watched by the loop: calls *drain* while there is something, in bounded runs.

    Args:
        loop: The loop that watches.
        socket: The socket; closed by ``close``.
        drain: Receives at most ``DRAIN_BATCHES`` messages and returns whether it stopped before the end.
    """

    __slots__ = ("_descriptor", "_drain", "_draining", "_events", "_loop", "_sent", "_socket", "closed", "recv", "send")

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: zmq.Socket[bytes], drain: Callable[[], bool]) -> None:
        self._loop = loop
        self._socket = socket
        self._drain = drain
        self._draining = False  # a run is under way or planned
        self._sent = False  # since the last look for something to receive, in a run
        self.closed = False
        # The methods below pyzmq's own conveniences: half the cost, and nothing here needs those.
        base: Any = super(zmq.Socket, socket)
        self.send: Callable[[bytes, int], object] = base.send
        self.recv: Callable[[int], bytes] = base.recv
        self._events: Callable[[int], int] = base.get
        self._descriptor = int(socket.getsockopt(zmq.FD))
        loop.add_reader(self._descriptor, self._readable)
        # The descriptor may have signalled before it was watched.
        self.note_sent()

    def has_input(self) -> bool:
        """Whether there is something to receive."""
        return self._events(_EVENTS) & _POLLIN != 0

    def note_sent(self) -> None:
        """Something was sent, and the signal may be used up by that: what can be received is received soon."""
        self._sent = True
        if not self._draining and self.has_input():
            self._draining = True
            self._loop.call_soon(self._run)

    def _readable(self) -> None:
        if not self._draining:
            self._draining = True
            self._run()

    def _run(self) -> None:
        if self.closed:
            return
        self._sent = False
        more = True
        try:
            more = self._drain()
        finally:
            # Also after an error, else the signal would be used up and the socket silent for ever.
            if not self.closed and (more or (self._sent and self.has_input())):
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

    def become_copy(self, ending: Any) -> None:
        self.send = self.recv = self._events = ending

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.remove_reader(self._descriptor)
            self._socket.close()


class _ZmqEndpoint(Endpoint):
    """An endpoint whose batches travel by ZeroMQ."""

    def __init__(self, wiring: Wiring) -> None:
        super().__init__(wiring)
        self._context = zmq.Context(io_threads=1)

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

    def _refused(self, link: Link[Any], error: zmq.ZMQError) -> None:
        """ZeroMQ would not take a batch."""
        if error.errno in _NOBODY:
            link.session.lost()
        else:
            self._fail(link, error)

    async def _end_context(self) -> None:
        """All sockets are closed: end ZeroMQ's thread, which takes some milliseconds."""
        with contextlib.suppress(RuntimeError):  # no thread is allowed now: it ends with the process
            await apart(self._context.term)


class Dialer(_ZmqEndpoint):
    """The side that connects: one DEALER socket for each incarnation.

    Args:
        wiring: What the process has for it.
        has_room: Whether batches may be received now; asked before each, and again in the next turn when not.
    """

    def __init__(self, wiring: Wiring, *, has_room: Callable[[], bool] = lambda: True) -> None:
        super().__init__(wiring)
        self._has_room = has_room
        self._channels: dict[Link[Any], _Channel] = {}

    def connect(self, remote: Incarnation, endpoint: str, dialect: Dialect[W]) -> Link[W]:
        """Begin the session with a member that accepts. It need not be there yet: what is sent waits.

        Args:
            remote: Its incarnation.
            endpoint: Its ZeroMQ address.
            dialect: What is said on the link.

        Raises:
            ValueError: There is a link to that incarnation, or *endpoint* is no address.
            OSError: The system has no descriptor or memory left for it.
        """
        link = self._new_link(remote, dialect)
        try:
            self._channels[link] = self._channel_to(endpoint, link)
        except BaseException:
            del self._links[remote]
            raise
        return link

    def _channel_to(self, endpoint: str, link: Link[Any]) -> _Channel:
        try:
            socket = self._new_socket(zmq.DEALER)
        except zmq.ZMQError as error:
            raise OSError(error.errno, f"no socket can be made: {error}") from error
        try:
            socket.setsockopt(zmq.ROUTING_ID, routing_id(self._local))
            socket.connect(reachable(endpoint))
        except (zmq.ZMQError, ConfigError) as error:
            socket.close()
            raise ValueError(f"{endpoint!r} is no address to connect to: {error}") from error
        return _Channel(self._loop, socket, lambda: self._drain(link))

    def _transmit(self, link: Link[Any]) -> None:
        channel = self._channels[link]
        send, sent = channel.send, 0
        try:
            for batch in link.session.take_outgoing():
                send(batch, _NOBLOCK)
                sent += 1
        except zmq.ZMQError as error:
            self._refused(link, error)
        self._counters.batches_out += sent
        channel.note_sent()

    def _drain(self, link: Link[Any]) -> bool:
        channel = self._channels[link]
        recv, has_input = channel.recv, channel.has_input
        now = self._now()
        until = now + DRAIN_S
        more, left = True, DRAIN_BYTES
        try:
            if link.rest and (not self._has_room() or self._go_on(link, until)):
                return True
            for _ in range(DRAIN_BATCHES):
                if not self._has_room():
                    break
                batch = recv(_NOBLOCK)
                self._deliver(link, batch, now, until)
                if channel.closed:
                    return False
                if not has_input():
                    more = bool(link.rest)
                    break
                left -= len(batch)
                if link.rest or left <= 0 or self._now() >= until:
                    break
        except zmq.Again:
            more = False  # the descriptor had signalled something else
        finally:
            self.on_drained()
        self._received(link)
        return more

    def _detach(self, link: Link[Any]) -> None:
        self._channels.pop(link).close()

    async def _close_sockets(self) -> None:
        await self._end_context()


class Acceptor(_ZmqEndpoint):
    """The side that is connected to: one ROUTER socket for all who dial.

    Args:
        wiring: What the process has for it.
        endpoint: The ZeroMQ address to bind; it should contain the incarnation, so that nobody meets another one.

    Raises:
        StartupError: The address cannot be bound.
    """

    def __init__(self, wiring: Wiring, endpoint: str) -> None:
        super().__init__(wiring)
        self._by_name: dict[bytes, Link[Any]] = {}
        self._unread: dict[Link[Any], None] = {}  # those with something that is not handed out yet
        self._names: dict[Link[Any], bytes] = {}
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
            socket.bind(reachable(endpoint))
            self._file = self._bound(endpoint)
        except (zmq.ZMQError, OSError, ConfigError) as error:
            if monitor is not None:
                socket.disable_monitor()
                monitor.close()
            socket.close()
            self._context.term()
            sentence = f"cannot bind the shard's address {endpoint}: {error}"
            raise FolderTrouble.or_else(getattr(error, "errno", None), sentence, StartupError) from error
        self.endpoint = endpoint if self._file else socket.getsockopt_string(zmq.LAST_ENDPOINT)
        """The address bound, with the port that the system chose if ``endpoint`` left it open."""
        self.path = Path(endpoint.removeprefix("ipc://"))
        self._socket = socket
        self._hidden = False
        self._channel = _Channel(self._loop, socket, self._drain)
        self._strangers = 0  # connections accepted that have not shown to speak ZeroMQ
        self._monitor = _Channel(self._loop, monitor, self._drain_monitor) if monitor is not None else None

    @staticmethod
    def _bound(endpoint: str) -> tuple[int, int] | None:
        """Which file a Unix socket is; ``None`` for an address of another kind."""
        if not endpoint.startswith("ipc://"):
            return None
        info = os.stat(endpoint.removeprefix("ipc://"))
        return info.st_dev, info.st_ino

    def restore(self) -> bool:
        """Listen at the address anew if the socket is gone from its folder. Routers that are connected stay so.

        Returns:
            Whether it was gone.

        Raises:
            OSError: It cannot be made now.
        """
        if self._file is None or self._channel.closed or self._hidden or is_file(self.path, *self._file):
            return False
        follow_folders()
        try:
            # Beside the old listener, which nobody can find any more: ending that one would end its connections.
            self._socket.bind(reachable(self.endpoint))
        except zmq.ZMQError as error:
            raise OSError(error.errno, f"cannot listen at {self.endpoint}: {error}") from error
        self._file = self._bound(self.endpoint)
        return True

    def hide(self) -> None:
        """Let nobody find the address, from any thread: whoever wants to connect tries again until ``show``. ZeroMQ
        ends the process when it accepts a connection and no descriptor is left for it."""
        if self._file is not None and not self._hidden:
            self._hidden = True
            with contextlib.suppress(OSError):  # somebody has removed it, which comes to the same
                os.rename(self.path, hidden_path(self.path))

    def show(self) -> None:
        """Undo ``hide``."""
        if self._hidden:
            with contextlib.suppress(OSError):  # ``restore`` makes it anew
                os.rename(hidden_path(self.path), self.path)
            self._hidden = False

    def become_copy(self, ending: Callable[..., Any]) -> None:
        """This process was forked off the one whose sockets these are: *ending* is called instead of any use of them,
        and ends it."""
        for channel in (self._channel, self._monitor):
            if channel is not None:
                channel.become_copy(ending)

    def add_peer(self, remote: Incarnation, dialect: Dialect[W]) -> Link[W]:
        """Begin the session with a member of the map that dials. It need not have connected yet: what is sent waits.

        Args:
            remote: Its incarnation.
            dialect: What is said on the link.

        Raises:
            ValueError: There is a link to that incarnation.
        """
        link = self._new_link(remote, dialect)
        name = routing_id(remote)
        self._by_name[name], self._names[link] = link, name
        return link

    def remove_peer(self, remote: Incarnation) -> None:
        """The router is not in the map any more: close its link, if there is one."""
        link = self._links.get(remote)
        if link is not None:
            link.close()

    def _transmit(self, link: Link[Any]) -> None:
        send, name, sent = self._channel.send, self._names[link], 0
        try:
            for batch in link.session.take_outgoing():
                send(name, _NOBLOCK_MORE)
                send(batch, _NOBLOCK)
                sent += 1
        except zmq.ZMQError as error:
            self._refused(link, error)
        self._counters.batches_out += sent
        self._channel.note_sent()

    def _drain(self) -> bool:
        channel, by_name = self._channel, self._by_name
        recv, has_input = channel.recv, channel.has_input
        now = self._now()
        until = now + DRAIN_S
        touched = self._unread
        more, left = True, DRAIN_BYTES
        try:
            if touched and any(link.rest and self._go_on(link, until) for link in touched):
                return True
            for _ in range(DRAIN_BATCHES):
                name = recv(_NOBLOCK)
                batch = recv(_NOBLOCK)
                link = by_name.get(name)
                if link is None:
                    self._stranger(name, batch)
                else:
                    garbage = self._counters.wire_garbage
                    self._deliver(link, batch, now, until)
                    touched[link] = None
                    if garbage != self._counters.wire_garbage:
                        channel.rest()
                    if channel.closed:
                        return False
                if link is not None and link.rest:
                    break
                if not has_input():
                    more = False
                    break
                left -= len(batch)
                if left <= 0 or self._now() >= until:
                    break
        except zmq.Again:
            more = False  # the descriptor had signalled something else
        finally:
            self.on_drained()
        self._unread = {link: None for link in touched if link.rest} if more else {}
        for link in touched:
            self._received(link)
        return more

    def _stranger(self, name: bytes, batch: bytes) -> None:
        self._counters.batches_in += 1
        # A message of several frames would shift all later ones by a frame, were its rest not dropped here.
        frames = 1 + self._channel.rest()
        sender = sender_of(batch, self._cluster_id, self._local)
        if sender is not None and name == routing_id(sender) and frames == 1:
            # A router that has entered the map a moment before this shard hears of it, or has left it and does not
            # know yet. The former sends again what is dropped here.
            self._counters.batches_unexpected += 1
            return
        size = len(batch)
        self._garbage(
            "sender", f"a message of {size} bytes in {frames} frame(s) from {name!r}, which is no router here"
        )

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

    def _detach(self, link: Link[Any]) -> None:
        self._by_name.pop(self._names.pop(link))

    async def _close_sockets(self) -> None:
        if self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close()
        self._channel.close()
        await self._end_context()
        if self._file is not None and is_file(self.path, *self._file):
            self.path.unlink()
