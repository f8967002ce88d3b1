"""A router without sockets: transports and links that record, and a world of connections around them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Hashable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

from websockets.frames import Opcode

from roost.common.errors import RequestError
from roost.common.ids import Incarnation, ObjectId, id_from_name
from roost.common.limits import SLOTS
from roost.common.wire.records import (
    AcceptMode,
    Ahead,
    EventWriter,
    HttpRequest,
    HttpResponse,
    ObjectState,
    Parts,
    Passport,
    read_events,
)
from roost.common.wire.shipping import Shipment, Shipping
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
from tests.raw_client import frame

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
        self.written: list[bytes] = []
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

    def write(self, data: bytes) -> None:
        assert not self.eof, "write after write_eof"
        self.written.append(data)
        self.confirmed += len(data) * self.taken
        if not self.taken:
            self.buffered += len(data)
            self._pause()

    def writelines(self, pieces: Iterable[bytes]) -> None:
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


class FakeLink:
    """A link whose records can be read back."""

    def __init__(self, remote: int = 7) -> None:
        self.remote = Incarnation(remote)
        self.writer = EventWriter()
        self.blocked = False
        self.closed = False
        self.flushes = 0
        self.session = SimpleNamespace(unconfirmed_bytes=0)
        self.shipping = Shipping(self)
        self.parts = Parts()

    def ship(self, data: bytes, owner: Hashable, on_shipped: Callable[[Ahead], None]) -> Shipment:
        """What is shipped has gone, pieces and all, when the records are read."""
        return self.shipping.ship(data, owner, on_shipped)

    def cancel(self, shipment: Shipment) -> None:
        if not self.closed and not self.shipping.cancel(shipment) and shipment.stream:
            self.writer.part(shipment.stream, b"")

    def flush_soon(self) -> None:
        assert not self.closed
        self.flushes += 1

    flush = flush_message = flush_soon

    def close(self) -> None:
        self.closed = True

    def take(self) -> list[tuple[Any, ...]]:
        """The records written since the last call, as tuples that begin with their name."""
        sink = RecordingSink()
        goes_on = True
        while goes_on:
            goes_on = not self.closed and len(self.shipping) > 0
            self.flushes += goes_on and self.shipping.work()
            for group in self.writer.take():
                read_events(group, sink, self.parts)
        assert not sink.records or self.flushes, "records were written and not flushed"
        self.flushes = 0
        return sink.records


class RecordingSink:
    """An event sink that keeps what it gets."""

    def __init__(self) -> None:
        self.records: list[tuple[Any, ...]] = []

    def message(self, connection: int, seq: int, deliveries: int, data: str | bytes) -> None:
        self.records.append(("message", connection, seq, deliveries, data))

    def closed(self, connection: int, seq: int, deliveries: int, code: int, reason: str, clean: bool) -> None:
        self.records.append(("closed", connection, seq, deliveries, code, reason, clean))

    def failed(self, connection: int, seq: int, deliveries: int, code: int, description: str) -> None:
        self.records.append(("failed", connection, seq, deliveries, code, description))

    def request(self, request: HttpRequest) -> None:
        self.records.append(("request", request))

    def auto_response_times(self, connections: Sequence[int], times: Sequence[float]) -> None:
        self.records.append(("auto_times", list(connections), list(times)))

    def restore(self, passport: Passport) -> None:
        self.records.append(("restore", passport))

    def restored(self, map_version: int, slots: Sequence[int]) -> None:
        self.records.append(("restored", map_version, list(slots)))

    def room(self, connection: int, size: int) -> None:
        self.records.append(("room", connection, size))

    def behind(self, object_id: ObjectId, is_behind: bool) -> None:
        self.records.append(("behind", object_id, is_behind))

    def object_state(self, state: ObjectState) -> None:
        self.records.append(("object_state", state))


class FakeAsker:
    """Records the answer to a request."""

    def __init__(self) -> None:
        self.got: list[tuple[Any, ...]] = []

    def answered(self, response: HttpResponse) -> None:
        self.got.append(("answered", response))

    def upgraded(self, connection: Connection, response: HttpResponse) -> None:
        self.got.append(("upgraded", connection, response))
        transport = FakeTransport()
        connection.accept(response, open_protocol(), transport, TransportWriter(transport))

    def failed(self, error: RequestError) -> None:
        self.got.append(("failed", error.status, str(error)))

    def break_off(self, error: Exception) -> None:
        self.got.append(("broken off", error))


def open_protocol(max_size: int = 1 << 20) -> ClientFrames:
    """A protocol behind its handshake."""
    return ClientFrames(max_size)


def client_frame(opcode: Opcode, data: bytes = b"", fin: bool = True) -> bytes:
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
    body = b"" if code is None else code.to_bytes(2, "big") + reason.encode()
    return client_frame(Opcode.CLOSE, body)


def _fake_output_of(transport: FakeTransport) -> tuple[int, int]:
    return transport.confirmed, transport.in_system


class World:
    """The context of clients, with one link and a clock that the test moves.

    Args:
        output_of: Tells how far a client has come; that of fake transports, unless there are real ones.
        bounds: Those of ``ClientContext``.
    """

    def __init__(self, *, output_of: Callable[[Any], tuple[int, int]] = _fake_output_of, **bounds: int) -> None:
        self.now = 100.0
        self.exhausted = 0
        self.on_work: Callable[[], None] = lambda: None
        self.counters = RouterCounters()
        self.wheel = Wheel(self.now)
        self.link = FakeLink()
        self._ready: list[Callable[[], None]] = []
        self.shared = ClientContext(
            counters=self.counters,
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
            output_of=output_of,
            on_work=lambda: self.on_work(),
            soon=self._ready.append,
            now=lambda: self.now,
            **bounds,
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

    def entry(self, name: str = "lobby", link: FakeLink | None = None) -> ObjectEntry:
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
