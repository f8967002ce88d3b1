"""Simulated clients: real bytes of HTTP and WebSocket frames, over a TCP that is a few callbacks.

A client connects to one of the routers that listen, opens a WebSocket, sends messages that say what the room shall do,
and stays until the end or leaves in one of several ways. It notes what it sent, what of that its router has taken, and
what arrived.
"""

from __future__ import annotations

import random
import re
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any

from tests.support import frames

from .loops import STEP_S, Process
from .room import PING, PONG

if TYPE_CHECKING:
    from .cluster import Cluster


def frame(opcode: int, payload: bytes) -> bytes:
    """A client's frame, in which the payload stands as it is."""
    return frames.frame(opcode, payload, mask=frames.NO_MASK)


class Tcp:
    """A TCP connection: what the router has as its transport, and what the client does at its other end.

    Args:
        process: The router's process.
        client: Whose it is.

    Attributes:
        confirmed: Bytes of the router that the client has taken.
    """

    def __init__(self, process: Process, client: Client) -> None:
        self.process = process
        self.confirmed = 0
        self._client = client
        self._slow = False
        self._waiting: deque[bytes] = deque()  # written by the router, not taken by the client
        self._waits = 0
        self._high, self._low = 64 << 10, 16 << 10
        self._full = False
        self._taking = False
        self._ends: list[Any] = []  # what comes behind that: the end of the router's side, or of TCP
        self._came: deque[tuple[bytes, Any]] = deque()
        self._paused = False
        self._closing = False
        self._over = False
        self._last = 0.0
        self.protocol: Any = process.loop.factory()  # type: ignore[misc]  # there is a server: the client saw it
        self.protocol.connection_made(self)

    # --- the router's side ---

    def write(self, data: bytes) -> None:
        if self._over or not self.process.alive:
            return
        if self._slow or self._waiting:
            self._waiting.append(bytes(data))
            self._waits += len(data)
            self._ask_for_a_pause()
        else:
            self.confirmed += len(data)
            self._client.received(data)

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def write_eof(self) -> None:
        if not self._over and self.process.alive:
            self._behind(self._client.ended_by_router)

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            if self._came:
                self.process.at(self.process.loop.time(), self._read)

    def get_write_buffer_size(self) -> int:
        return self._waits

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        self._high, self._low = high, high // 4 if low is None else low
        self._ask_for_a_pause()

    def _ask_for_a_pause(self) -> None:
        if self._waits > self._high and not self._full:
            self._full = True
            self.protocol.pause_writing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self._closing

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def close(self) -> None:
        if self._closing or not self.process.alive:
            return
        self._closing = True
        self._behind(self._lost_soon)

    def abort(self) -> None:
        if self._over or not self.process.alive:
            return
        self._closing = True
        self._waiting.clear()
        self._ends.clear()
        self._waits = 0
        self._lost_soon()

    def _lost_soon(self) -> None:
        self.process.at(self.process.loop.time(), self._lost, None)

    def _behind(self, end: Any) -> None:
        """Have *end* called when the client has taken all that was written."""
        if self._waiting:
            self._ends.append(end)
        else:
            end()

    def _lost(self, error: Exception | None) -> None:
        if not self._over:
            self._over = True
            self.protocol.connection_lost(error)
            self._client.ended_by_router()

    # --- the client's side ---

    def slow_down(self, slow: bool) -> None:
        """The client takes nothing from now on, or goes on."""
        self._slow = slow
        self._take_soon()

    def _take_soon(self) -> None:
        if not self._slow and not self._taking and self._waiting:
            self._taking = True
            self.process.at(self.process.loop.time() + 0.001, self._take)

    def _take(self) -> None:
        self._taking = False
        if self._slow or self._over or not self._waiting:
            return
        data = self._waiting.popleft()
        self._waits -= len(data)
        self.confirmed += len(data)
        self._client.received(data)
        if self._full and self._waits <= self._low and not self._over:
            self._full = False
            self.protocol.resume_writing()
        if self._waiting:
            self._take_soon()
        else:
            ends, self._ends = self._ends, []
            for end in ends:
                end()

    def feed(self, data: bytes, mark: Any, delay_s: float) -> None:
        """Send bytes to the router; *mark* is noted as taken when it reads the last of them."""
        self._last = max(self._last + STEP_S, self.process.loop.time() + delay_s)
        self.process.at(self._last, self._arrive, data, mark)

    def _arrive(self, data: bytes, mark: Any) -> None:
        self._came.append((data, mark))
        self._read()

    def _read(self) -> None:
        while self._came and not self._paused and not self._closing and not self._over:
            data, mark = self._came.popleft()
            if data:
                if mark is not None:
                    self._client.taken(mark)
                self.protocol.data_received(data)
            elif not self.protocol.eof_received():
                self.close()

    def finish(self, delay_s: float) -> None:
        """The client sends no more."""
        self.feed(b"", None, delay_s)

    def reset(self, delay_s: float) -> None:
        """The client is gone, without a word."""
        self._last = max(self._last + STEP_S, self.process.loop.time() + delay_s)
        self.process.at(self._last, self._reset)

    def _reset(self) -> None:
        if not self._over:
            self._closing = True
            self._lost(ConnectionResetError())


class Stage(Enum):
    """How far a client has come."""

    NEW = "not connected"
    ASKING = "has sent its handshake"
    OPEN = "has its 101, and nobody has closed"
    CLOSING = "one side has closed"
    OVER = "its connection has ended"
    REFUSED = "got another answer than 101, or none"


class Client:
    """One client and its WebSocket.

    Args:
        cluster: Where.
        number: Its number, by which rooms know it.
        room: The room's name.
        tag: The tag of its socket, or none.

    Attributes:
        stage: See ``Stage``.
        router: The process that it is connected to.
        sent: How many messages it has sent.
        accepted: When its router has read each of them, by number.
        pings: Automatic requests among what was sent.
        pongs: Answers to those.
        arrived: Payloads that came: tenure, slot, number, and the text.
        left: How it went, if it went by itself: the close event that the room should hear of.
        closed_by: Code of the Close that came from the router, before any of its own.
        status: Status of the answer to its handshake.
        router_died: The router's process ended while it was connected.
        broken_off_at: When its router met an error of its own for it, and so ended TCP without a word; -1 if never.
        broken_off_unknown: That was when it should have been restored to a shard, which so never knew of it.
        was_slow: It has taken nothing for a while.
    """

    def __init__(self, cluster: Cluster, number: int, room: str, tag: str) -> None:
        self.number = number
        self.room = room
        self.tag = tag
        self.stage = Stage.NEW
        self.router: Process | None = None
        self.opened_at = -1.0
        self.over_at = -1.0
        self.sent = 0
        self.accepted: dict[int, float] = {}
        self.pings = self.pongs = 0
        self.arrived: list[tuple[str, int, int, str]] = []
        self.left: tuple[int, str, bool] | None = None
        self.left_at = -1.0
        self.closed_by: int | None = None
        self.closed_at = -1.0
        self.status = 0
        self.router_died = False
        self.broken_off_at = -1.0
        self.broken_off_unknown = False
        self.was_slow = False
        self._cluster = cluster
        self._rng = cluster.client_rng
        self._tcp: Tcp | None = None
        self._buffer = b""

    # --- what it does ---

    def connect(self, router: Process) -> None:
        """Open a connection to *router* and ask for a WebSocket."""
        self.stage = Stage.ASKING
        self.router = router
        router.at(router.loop.time() + self._delay(), self._connected)

    def _connected(self) -> None:
        router = self.router
        assert router is not None
        if router.loop.factory is None or self.router_died:
            self._over()
            return
        self._tcp = Tcp(router, self)
        query = f"c={self.number}" + (f"&tag={self.tag}" if self.tag else "")
        head = (
            f"GET /room/{self.room}?{query} HTTP/1.1\r\nhost: roost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            f"sec-websocket-version: 13\r\nsec-websocket-key: {frames.KEY}\r\n\r\n"
        )
        self._feed(head.encode(), None)

    def say(self, verb: str, argument: str = "") -> None:
        """Send a message, if the connection is open."""
        if self.stage is not Stage.OPEN:
            return
        self.sent += 1
        text = f"{verb} {self.number} {self.sent} {argument}"
        if self._cluster.history.tracing:
            self._cluster.history.note(f"client {self.number} says {text}")
        self._feed(frame(1 + (self.sent % 7 == 0), text.encode()), self.sent)

    def ping(self) -> None:
        """Send what a room may have an automatic response to."""
        if self.stage is Stage.OPEN:
            self.pings += 1
            self._feed(frame(1, PING.encode()), None)

    def close(self, code: int = 1000, reason: str = "bye") -> None:
        """Close properly."""
        if self.stage is Stage.OPEN:
            self._leave((code, reason, True))
            self._feed(frame(8, code.to_bytes(2, "big") + reason.encode()), None)

    def slow_down(self, slow: bool) -> None:
        """Take nothing of what comes, or go on."""
        if self._tcp is not None:
            self.was_slow |= slow
            if self._cluster.history.tracing:
                self._cluster.history.note(f"client {self.number} {'stops' if slow else 'goes on'} reading")
            self._tcp.slow_down(slow)

    def vanish(self) -> None:
        """End TCP without a word."""
        if self.stage in (Stage.OPEN, Stage.CLOSING) and self._tcp is not None:
            if self.left is None and self.closed_by is None:
                self._leave((1006, "WebSocket disconnected without sending Close frame.", False))
            self._tcp.reset(self._delay())
            self._over()

    def _leave(self, event: tuple[int, str, bool]) -> None:
        self.stage = Stage.CLOSING
        self.left, self.left_at = event, self._cluster.now
        if self._cluster.history.tracing:
            self._cluster.history.note(f"client {self.number} leaves with {event[0]}")

    def _feed(self, data: bytes, mark: Any) -> None:
        tcp, delay = self._tcp, self._delay()
        assert tcp is not None
        if len(data) > 8 and self._rng.random() < 0.1:
            cut = self._rng.randrange(1, len(data))
            tcp.feed(data[:cut], None, delay)
            data = data[cut:]
        tcp.feed(data, mark, delay)

    def _delay(self) -> float:
        return 0.002 * self._rng.random()

    # --- what it hears ---

    def taken(self, number: int) -> None:
        """The router has read a whole message."""
        self.accepted[number] = self._cluster.now

    def received(self, data: bytes) -> None:
        """Bytes of the router."""
        self._buffer += data
        if self.stage is Stage.ASKING:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            self.status = int(head.split()[1])
            if self.status != 101:
                self._refused()
                return
            self.stage = Stage.OPEN
            self.opened_at = self._cluster.now
            self._buffer = rest
        self._take_frames()

    def _refused(self) -> None:
        self.stage = Stage.REFUSED
        if self._cluster.history.tracing:
            self._cluster.history.note(f"client {self.number} is refused: {self._buffer!r}")

    def _take_frames(self) -> None:
        while len(self._buffer) >= 2 and self.stage in (Stage.OPEN, Stage.CLOSING):
            opcode, length, start = self._buffer[0] & 15, self._buffer[1], 2
            if length == 126:
                length, start = int.from_bytes(self._buffer[2:4], "big"), 4
            if len(self._buffer) < start + length:
                return
            payload = self._buffer[start : start + length]
            self._buffer = self._buffer[start + length :]
            if opcode == 8:
                self._closed(payload)
            elif opcode in (1, 2):
                self._message(payload.decode())
            elif opcode == 9:
                self._feed(frame(10, payload), None)

    def _message(self, text: str) -> None:
        if text == PONG:
            self.pongs += 1
            return
        key, slot, number, label = text.split()
        if label == PING:
            self.pongs += 1
        self.arrived.append((key, int(slot), int(number), text))
        if self._cluster.history.tracing:
            self._cluster.history.note(f"client {self.number} gets {text}")

    def _closed(self, payload: bytes) -> None:
        code = int.from_bytes(payload[:2], "big") if payload else 1005
        if self._cluster.history.tracing:
            self._cluster.history.note(f"client {self.number} is closed: {code} {payload[2:]!r}")
        if self.left is None:
            self.closed_by = code
            self.closed_at = self._cluster.now
            self.stage = Stage.CLOSING
            # Like a browser: it answers with the same code and waits for the router to end TCP.
            self._cluster.later(0.01 * self._rng.random(), self._answer, payload)
        else:
            self._over()

    def _answer(self, payload: bytes) -> None:
        if self.stage is Stage.CLOSING and self._tcp is not None and not self.router_died:
            self._feed(frame(8, payload), None)
            self._tcp.finish(self._delay())

    def ended_by_router(self) -> None:
        """TCP is over, or the router sends no more."""
        if self.stage is Stage.ASKING:
            self._refused()
        elif self.stage in (Stage.OPEN, Stage.CLOSING):
            if self.stage is Stage.OPEN:
                if self.broken_off_at >= 0:
                    self._leave((1006, "WebSocket disconnected without sending Close frame.", False))
                    self.left_at = self.broken_off_at
                else:
                    self.closed_by = self.closed_by or 1006
            if self._tcp is not None and not self._tcp.is_closing():
                self._tcp.finish(self._delay())
            self._over()

    def lose_router(self) -> None:
        """The router's process has ended."""
        self.router_died = True
        if self.stage is Stage.ASKING:
            self._refused()
        elif self.stage in (Stage.OPEN, Stage.CLOSING):
            self._over()

    def _over(self) -> None:
        if self.stage is Stage.ASKING:
            self._refused()
        else:
            self.stage = Stage.OVER
            self.over_at = self._cluster.now


class Caller:
    """A client of plain HTTP: one request, one answer.

    Attributes:
        status: Of the answer; 0 if there was none.
        answers: How many came.
    """

    def __init__(self, cluster: Cluster, number: int, room: str, wait: str = "", size: int = 0) -> None:
        self.number = number
        self.room = room
        self.status = 0
        self.answers = 0
        self.router: Process | None = None
        self.router_died = False
        self.stage = Stage.NEW
        self._cluster = cluster
        self._wait = wait
        self._size = size
        self._buffer = b""

    def call(self, router: Process) -> None:
        """Send the request."""
        self.router = router
        self.stage = Stage.ASKING
        router.at(router.loop.time() + 0.001, self._connected)

    def _connected(self) -> None:
        assert self.router is not None
        if self.router.loop.factory is None:
            self.stage = Stage.REFUSED
            return
        tcp = Tcp(self.router, self)  # type: ignore[arg-type]
        query = f"c={self.number}" + (f"&wait={self._wait}" if self._wait else "")
        query += f"&size={self._size}" if self._size else ""
        method, body = ("POST", "b" * (self._size // 10)) if self._size else ("GET", "")
        head = f"{method} /room/{self.room}?{query} HTTP/1.1\r\nhost: roost\r\ncontent-length: {len(body)}\r\n\r\n"
        tcp.feed((head + body).encode(), None, 0.001)

    def received(self, data: bytes) -> None:
        self._buffer += data
        head, _, body = self._buffer.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if length is not None and len(body) == int(length[1]):
            self.status = int(head.split()[1])
            if self.status == 200 and len(body) < self._size:
                self._cluster.history.fault(f"the answer to request {self.number} lacks bytes: it has {len(body)}")
            self.answers += 1
            self.stage = Stage.OVER
            self._buffer = b""
            if self._cluster.history.tracing:
                self._cluster.history.note(f"request {self.number} is answered {self.status}")

    def taken(self, mark: Any) -> None:
        pass

    def ended_by_router(self) -> None:
        if self.stage is Stage.ASKING:
            self.stage = Stage.REFUSED

    def lose_router(self) -> None:
        self.router_died = True
        if self.stage is Stage.ASKING:
            self.stage = Stage.REFUSED


def weighted(rng: random.Random, choices: dict[str, float]) -> str:
    """One of *choices* by weight."""
    return rng.choices(list(choices), list(choices.values()))[0]
