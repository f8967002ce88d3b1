"""A router without sockets: transports and links that record, and a world of connections around them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any

from websockets.frames import Opcode

from roost.common.errors import RequestError
from roost.common.ids import ObjectId, id_from_name
from roost.common.limits import SLOTS
from roost.common.wire.records import (
    AcceptMode,
    HttpResponse,
    ObjectState,
)
from roost.router.budgets import Budgets
from roost.router.clients.auto_response import Reports
from roost.router.clients.connections import Connections
from roost.router.clients.context import ClientContext
from roost.router.clients.objects import ObjectEntry, Objects
from roost.router.clients.send_buffers import HIGH_WATER
from roost.router.clients.timers import TICK_S, Wheel
from roost.router.clients.writers import TransportWriter, writer_of
from roost.router.counters import RouterCounters
from roost.router.websocket.client_frames import ClientFrames
from roost.router.websocket.connection import Connection
from tests.support.frames import close_body, frame
from tests.support.links import LinkToShard

NAMESPACE = "chat-room"


class FakeTransport:
    """Records what a connection does to its TCP.

    Attributes:
        buffered: Bytes that the client has not taken.
        confirmed: Bytes that it has taken.
        in_system: Bytes that the system has of us, and the client's has not confirmed.
        taken: The client takes all at once, the usual case.
        slow: The protocol has been told to pause.
        socket: What the connection may write to directly; without one all goes through the transport.
        tls: What it encrypts by, if it does.
        sockname: The address that the client has called.
        peername: Its own.
    """

    def __init__(self) -> None:
        self.written: list[bytes | memoryview] = []
        self.buffered = 0
        self.taken = True
        self.slow = False
        self.high_water, self.low_water = 64 << 10, 16 << 10
        self.confirmed = self.in_system = 0
        self.paused = self.closed = self.aborted = self.eof = False
        self.protocol: Any = None
        self.socket: socket.socket | None = None
        self.tls: object = None
        self.sockname: tuple[Any, ...] = ()
        self.peername: tuple[Any, ...] = ("127.0.0.1", 50_000)

    def get_extra_info(self, name: str) -> Any:
        return {
            "socket": self.socket,
            "sockname": self.sockname,
            "peername": self.peername,
            "sslcontext": self.tls,
        }[name]

    def write(self, data: bytes | memoryview) -> None:
        assert not self.eof, "write after write_eof"
        self.written.append(data)
        self.confirmed += len(data) * self.taken
        if not self.taken:
            self.buffered += len(data)
            self._pause()

    def writelines(self, pieces: Iterable[bytes | memoryview]) -> None:
        high, self.high_water = self.high_water, 1 << 40
        for piece in pieces:
            self.write(piece)
        self.high_water = high
        self._pause()

    def _pause(self) -> None:
        if self.buffered > self.high_water and not self.slow:
            self.slow = True
            self.protocol.pause_writing()  # a transport says so from within the write

    def drain(self, left: int = 0) -> None:
        """The client takes what waits but for *left* bytes."""
        self.confirmed += self.buffered - left
        self.buffered = left
        if self.slow and left <= self.low_water:
            self.slow = False
            self.protocol.resume_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        self.high_water = high
        self.low_water = high // 4 if low is None else low
        self._pause()

    def write_eof(self) -> None:
        assert self.tls is None, "TLS of the loop has no such end"
        self.eof = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    @property
    def ending(self) -> bool:
        return self.closed or self.aborted

    def take(self) -> bytes:
        """All that was written since the last call."""
        data = b"".join(self.written)
        self.written.clear()
        return data


class FakeAsker:
    """Records the answer to a request."""

    def __init__(self) -> None:
        self.got: list[tuple[Any, ...]] = []

    def answered(self, response: HttpResponse) -> None:
        self.got.append(("answered", response))

    def upgraded(self, connection: Connection, response: HttpResponse) -> None:
        self.got.append(("upgraded", connection, response))
        self.transport = transport = FakeTransport()
        connection.accept(response, open_protocol(), transport, TransportWriter(transport))

    def failed(self, error: RequestError) -> None:
        self.got.append(("failed", error.status, str(error)))

    def break_off(self, error: Exception) -> None:
        self.got.append(("broken off", error))


def open_protocol(max_size: int = 1 << 20) -> ClientFrames:
    """A protocol behind its handshake."""
    return ClientFrames(max_size)


def client_frame(opcode: int, data: bytes = b"", fin: bool = True) -> bytes:
    """A frame as a client sends it: masked."""
    return frame(opcode, data, fin=fin)


def text(message: str) -> bytes:
    """A text message of a client."""
    return client_frame(Opcode.TEXT, message.encode())


def binary(message: bytes) -> bytes:
    """A binary message of a client."""
    return client_frame(Opcode.BINARY, message)


def close(code: int | None = 1000, reason: str = "") -> bytes:
    """A Close of a client."""
    return client_frame(Opcode.CLOSE, b"" if code is None else close_body(code, reason))


def _fake_output_of(transport: FakeTransport) -> tuple[int, int]:
    return transport.confirmed, transport.in_system


class World:
    """The context of clients, with one link and a clock that the test moves.

    Args:
        output_of: Tells how far a client has come; that of fake transports, unless there are real ones.
        least_rate: Bytes a second that a client must take.
        bounds: Those of ``Budgets``.
    """

    def __init__(
        self,
        *,
        output_of: Callable[[Any], tuple[int, int]] = _fake_output_of,
        least_rate: int = 0,
        **bounds: int,
    ) -> None:
        self.now = 100.0
        self.exhausted = 0
        self.work_now: Callable[[], float] = lambda: self.now
        """The clock of ``work``."""
        self.on_work: Callable[[], None] = lambda: None
        self.counters = RouterCounters()
        self.wheel = Wheel(self.now)
        self.link = LinkToShard()
        self._ready: list[Callable[[], None]] = []
        self.shared: ClientContext[Connection] = ClientContext(
            counters=self.counters,
            budgets=Budgets(self.counters, **bounds),
            wheel=self.wheel,
            reports=Reports(),
            connections=Connections(self._exhausted),
            objects=Objects(),
            wall=lambda: 1_700_000_000.0 + self.now,
            ping_after=400,
            ping_timeout=400,
            close_timeout=200,
            send_buffer_bytes=4 << 20,
            stall_timeout=600,
            least_rate=least_rate,
            output_of=output_of,
            on_work=lambda: self.on_work(),
            soon=self._ready.append,
            now=lambda: self.work_now(),
        )

    def run(self) -> None:
        """Do all work that is left over."""
        while self.shared.work.run():
            pass

    def pass_gates(self) -> None:
        """Something has passed that connections waited for, whatever it was: let them go on."""
        for slot in range(SLOTS):
            for entry in self.shared.objects.in_slot(slot):
                entry.hold(entry.held)
        self.shared.windows.unblocked(self.link)
        self.shared.on_tick()
        self.run()

    def _exhausted(self) -> None:
        self.exhausted += 1

    def turn(self) -> None:
        """Call what was to be called in the loop's next turn."""
        ready, self._ready[:] = list(self._ready), []
        for call in ready:
            call()

    def pass_time(self, seconds: float) -> None:
        """Let the wheel turn, and the loop once for each of its ticks."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now = min(end, self.now + TICK_S)
            self.turn()
            self.wheel.advance(self.now)
            self.shared.send_buffers.look(self.wheel.tick)

    def entry(self, name: str = "lobby", link: LinkToShard | None = None) -> ObjectEntry[Connection]:
        """The entry of an object, made if missing."""
        object_id = id_from_name(NAMESPACE, name)
        entry = self.shared.objects.get(object_id)
        if entry is None:
            entry = ObjectEntry(object_id, NAMESPACE, name, link or self.link)
            self.shared.objects.add(entry)
        return entry

    def pending(self, name: str = "lobby") -> Connection:
        """A connection whose object has not answered."""
        number = self.shared.connections.next_counter()
        return Connection(number, self.entry(name), self.shared, f"http://host/{NAMESPACE}/{name}")

    def connect(
        self,
        name: str = "lobby",
        mode: AcceptMode = AcceptMode.HIBERNATABLE,
        max_size: int = 1 << 20,
        socket: socket.socket | None = None,
    ) -> tuple[Connection, FakeTransport]:
        """An open connection; with a *socket* it may write to that directly."""
        connection = self.pending(name)
        transport = FakeTransport()
        transport.socket = socket
        transport.protocol, transport.high_water = connection, HIGH_WATER
        writer = writer_of(transport, self.shared.turns)
        connection.accept(accepted(mode), open_protocol(max_size), transport, writer)
        return connection, transport


def accepted(mode: AcceptMode = AcceptMode.HIBERNATABLE, request: int = 1, **fields: Any) -> HttpResponse:
    """A shard's 101."""
    return HttpResponse(request, 101, mode, fields.pop("headers", ()), **fields)


def state(object_id: ObjectId, revision: int = 1, pair: tuple[str, str] | None = ("ping", "pong")) -> ObjectState:
    """What an object has set."""
    return ObjectState(object_id, revision, 0, pair)
