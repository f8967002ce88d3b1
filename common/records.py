"""The records that routers and shards exchange: their byte layout, writers and readers.

A *group* is the records of one flush, back to back; a link carries it in one batch, or in several when it is large
(``session``). All numbers are little-endian. Connections appear as the 32-bit counter of their router: the other half
of their id is the link's. ``s16`` is a u16 length and that many bytes, ``s32`` the same with a u32; text is UTF-8.

Router to shard (*events*)::

    0x01 MESSAGE      u8 binary · u8 deliveries · u32 connection · u64 seq · s32 payload
    0x02 CLOSED       u8 clean · u8 deliveries · u32 connection · u64 seq · u16 code · s16 reason
    0x03 FAILED       u8 0 · u8 deliveries · u32 connection · u64 seq · u16 code · s16 description
    0x04 REQUEST      u32 request · u32 connection (0: plain HTTP) · id[32] · s16 namespace · s16 name · s16 method
                      · s32 url · headers · s32 body
    0x05 AUTO_TIMES   u32 n · u32 connection[n] · f64 unix_time[n]
    0x06 RESTORE      u32 connection · u8 flags (1 hibernatable, 2 closed by the object, 4 has an auto-response time)
                      · u64 ordinal · u64 next_seq · f64 auto_response_time · id[32] · s16 namespace · s16 name
                      · s32 url · s16 protocol · tags · s16 attachment
    0x07 RESTORED     u32 map_version · u16 n · u16 slot[n]

Shard to router (*output*)::

    0x41 SEND         u8 binary · u32 n · s32 payload, then u32 connection[n]; the payload gets the group's next index
    0x42 SEND_AGAIN   u32 payload index · u32 n, then u32 connection[n]
    0x43 ACK          u32 n · u32 connection[n] · u64 first_seq[n] · u64 last_seq[n]
    0x44 CLOSE        u8 final · u32 connection · u16 code · s16 reason; 1005: a Close without a code,
                      1006: end the connection without a Close; final: no event of it is wanted any more
    0x45 ATTACHMENT   u32 connection · s16 attachment
    0x46 RESPONSE     u32 request · u16 status · u8 mode (0 plain, 1 hibernatable, 2 accept(), 3 not accepted)
                      · headers · s32 body · if mode ≠ 0: u64 ordinal · tags · s16 attachment
    0x47 HOLD         u8 held · id[32]
    0x48 RELEASED     u32 map_version · u16 n · u16 slot[n]

Either way::

    0x60 OBJECT_STATE id[32] · u64 revision · u32 event_timeout_ms (0: none) · u8 has_pair · s16 request · s16 response

``headers`` is a u16 count of ``s16 name · s32 value``; ``tags`` a u8 count of ``s16``; an attachment of length 0xFFFF
was never set. ``deliveries`` counts the times that an event has been sent before. Record types 0x70 to 0x7F are kept
for calls between objects.

Readers hand each record to a *sink* as they meet it, without building anything between: this is the road of every
message. A group that does not parse raises ``WireError`` at the bad record.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from .errors import WireError
from .ids import OBJECT_ID_BYTES, ObjectId
from .limits import MAX_BATCH_BYTES

Headers = Sequence[tuple[bytes, bytes]]
"""HTTP header fields in their order, as bytes."""

_MESSAGE, _CLOSED, _FAILED, _REQUEST, _AUTO_TIMES, _RESTORE, _RESTORED = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07
_SEND, _SEND_AGAIN, _ACK, _CLOSE, _ATTACHMENT, _RESPONSE = 0x41, 0x42, 0x43, 0x44, 0x45, 0x46
_HOLD, _RELEASED = 0x47, 0x48
_OBJECT_STATE = 0x60

_MESSAGE_HEAD = struct.Struct("<BBBIQI")
_END_HEAD = struct.Struct("<BBBIQHH")
_SEND_HEAD = struct.Struct("<BBII")
_SEND_AGAIN_HEAD = struct.Struct("<BII")
_COUNT_HEAD = struct.Struct("<BI")
_CLOSE_HEAD = struct.Struct("<BBIHH")
_ATTACHMENT_HEAD = struct.Struct("<BIH")
_RESTORE_HEAD = struct.Struct("<BIBQQd")
_REQUEST_HEAD = struct.Struct("<BII")
_RESPONSE_HEAD = struct.Struct("<BIHB")
_SLOTS_HEAD = struct.Struct("<BIH")
_STATE_HEAD = struct.Struct("<B32sQIB")
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")

NO_ATTACHMENT = 0xFFFF
"""The length that says "never set": no attachment can be that long."""

_BIG_ENDIAN = sys.byteorder == "big"


class AcceptMode(IntEnum):
    """What a RESPONSE says of the connection that it answers."""

    PLAIN = 0
    """No WebSocket: an ordinary HTTP response."""
    HIBERNATABLE = 1
    """``ctx.accept_web_socket``: the router holds its passport."""
    STANDARD = 2
    """``ws.accept()``: its listeners live in the instance, so it cannot move."""
    UNACCEPTED = 3
    """A 101 whose server end nobody accepted: open, and its messages go nowhere."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A client's request, on its way to an object.

    Attributes:
        request: Number of the request, unique within its link.
        connection: Counter of the connection that a WebSocket handshake asks for; 0 for plain HTTP.
        object_id: The object that it is for.
        namespace: The object's namespace.
        name: The object's name; empty for an object with a unique id.
        method: The HTTP method, upper case as received.
        url: The absolute URL as the client asked for it.
        headers: Header fields in order, names in lower case.
        body: The whole body.
    """

    request: int
    connection: int
    object_id: ObjectId
    namespace: str
    name: str
    method: str
    url: str
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An object's answer to a request.

    Attributes:
        request: Number of the request.
        status: HTTP status, 101 when ``mode`` is not PLAIN.
        mode: What has become of the connection.
        headers: Header fields in order.
        body: The whole body; empty with a 101.
        ordinal: Place of the connection in the object's order of accepts.
        tags: Tags of the connection.
        attachment: Its serialised attachment, ``None`` when never set.
    """

    request: int
    status: int
    mode: AcceptMode
    headers: Headers
    body: bytes = b""
    ordinal: int = 0
    tags: tuple[str, ...] = ()
    attachment: bytes | None = None


@dataclass(frozen=True, slots=True)
class Passport:
    """What a router knows of a connection: enough to attach it to any shard.

    Attributes:
        connection: The connection's counter.
        hibernatable: False for a connection accepted with ``accept()``.
        closed_by_object: The object has called ``close()``; a ``send`` raises.
        ordinal: Place in the object's order of accepts.
        next_seq: Number of the connection's next event.
        auto_response_time: Unix seconds of the last auto-response, ``None`` if there was none.
        object_id: The object.
        namespace: The object's namespace.
        name: The object's name; empty for an object with a unique id.
        url: URL of the handshake.
        protocol: Subprotocol, empty if none.
        tags: Tags, first given first.
        attachment: Serialised attachment, ``None`` when never set.
    """

    connection: int
    hibernatable: bool
    closed_by_object: bool
    ordinal: int
    next_seq: int
    auto_response_time: float | None
    object_id: ObjectId
    namespace: str
    name: str
    url: str
    protocol: str
    tags: tuple[str, ...]
    attachment: bytes | None


@dataclass(frozen=True, slots=True)
class ObjectState:
    """What an object has set for all its sockets. The highest revision wins.

    Attributes:
        object_id: The object.
        revision: Grows by one with each change.
        event_timeout_ms: Milliseconds an event handler may take, 0 for no limit.
        auto_response: Request and response text, ``None`` when unset.
    """

    object_id: ObjectId
    revision: int
    event_timeout_ms: int
    auto_response: tuple[str, str] | None


class EventSink(Protocol):
    """What a shard does with each record of a router, in the order sent."""

    def message(self, connection: int, seq: int, deliveries: int, data: str | bytes) -> None: ...
    def closed(self, connection: int, seq: int, deliveries: int, code: int, reason: str, clean: bool) -> None: ...
    def failed(self, connection: int, seq: int, deliveries: int, code: int, description: str) -> None: ...
    def request(self, request: HttpRequest) -> None: ...
    def auto_response_times(self, connections: Sequence[int], times: Sequence[float]) -> None: ...
    def restore(self, passport: Passport) -> None: ...
    def restored(self, map_version: int, slots: Sequence[int]) -> None: ...
    def object_state(self, state: ObjectState) -> None: ...


class OutputSink(Protocol):
    """What a router does with each record of a shard, in the order sent."""

    def send(self, connections: Sequence[int], data: bytes, binary: bool) -> None: ...
    def acknowledge(self, connections: Sequence[int], firsts: Sequence[int], lasts: Sequence[int]) -> None: ...
    def close(self, connection: int, code: int, reason: str, final: bool) -> None: ...
    def attachment(self, connection: int, attachment: bytes) -> None: ...
    def response(self, response: HttpResponse) -> None: ...
    def hold(self, object_id: ObjectId, held: bool) -> None: ...
    def released(self, map_version: int, slots: Sequence[int]) -> None: ...
    def object_state(self, state: ObjectState) -> None: ...


# --- writing ------------------------------------------------------------------------------------------------------


class RecordWriter:
    """Collects the records of one link until they are flushed.

    A group is cut, between records, once it has reached ``MAX_BATCH_BYTES``, so that a reader never waits for more
    than one batch unless a single record is larger than that.
    """

    __slots__ = ("_groups", "_parts", "_sealed_size", "_size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._groups: list[bytes] = []
        self._sealed_size = 0

    @property
    def size(self) -> int:
        """Bytes collected since the last ``take``."""
        return self._sealed_size + self._size

    def take(self) -> list[bytes]:
        """The groups collected, oldest first; the writer is empty afterwards."""
        if self._parts:
            self._seal()
        groups, self._groups = self._groups, []
        self._sealed_size = 0
        return groups

    def _seal(self) -> None:
        self._groups.append(b"".join(self._parts))
        self._parts.clear()
        self._sealed_size += self._size
        self._size = 0

    def _add(self, record: bytes) -> None:
        self._parts.append(record)
        self._size += len(record)
        if self._size >= MAX_BATCH_BYTES:
            self._seal()

    def object_state(self, state: ObjectState) -> None:
        """Tell what the object has set for its sockets."""
        request, response = state.auto_response or ("", "")
        head = _STATE_HEAD.pack(
            _OBJECT_STATE,
            state.object_id,
            state.revision,
            state.event_timeout_ms,
            state.auto_response is not None,
        )
        self._add(head + _s16(request.encode()) + _s16(response.encode()))


class EventWriter(RecordWriter):
    """Writes a router's records; the methods mirror ``EventSink``."""

    __slots__ = ()

    def message(self, connection: int, seq: int, deliveries: int, payload: bytes, binary: bool) -> None:
        """One whole message of a client; *payload* is valid UTF-8 unless *binary*."""
        length = len(payload)
        self._parts.append(_MESSAGE_HEAD.pack(_MESSAGE, binary, deliveries, connection, seq, length))
        self._parts.append(payload)
        self._size += length + 19
        if self._size >= MAX_BATCH_BYTES:
            self._seal()

    def closed(self, connection: int, seq: int, deliveries: int, code: int, reason: str, clean: bool) -> None:
        """The client has closed (*clean*), or is gone."""
        text = reason.encode()
        self._add(_END_HEAD.pack(_CLOSED, clean, deliveries, connection, seq, code, len(text)) + text)

    def failed(self, connection: int, seq: int, deliveries: int, code: int, description: str) -> None:
        """The client broke the protocol; *code* is what it was told."""
        text = description.encode()
        self._add(_END_HEAD.pack(_FAILED, 0, deliveries, connection, seq, code, len(text)) + text)

    def request(self, request: HttpRequest) -> None:
        """An HTTP request or a WebSocket handshake."""
        self._add(
            b"".join(
                (
                    _REQUEST_HEAD.pack(_REQUEST, request.request, request.connection),
                    request.object_id,
                    _s16(request.namespace.encode()),
                    _s16(request.name.encode()),
                    _s16(request.method.encode()),
                    _s32(request.url.encode()),
                    _headers(request.headers),
                    _s32(request.body),
                )
            )
        )

    def auto_response_times(self, connections: Sequence[int], times: Sequence[float]) -> None:
        """When each of *connections* last got its auto-response, in Unix seconds."""
        self._add(_COUNT_HEAD.pack(_AUTO_TIMES, len(connections)) + _packed("I", connections) + _packed("d", times))

    def restore(self, passport: Passport) -> None:
        """Attach a connection to its new owner."""
        time = passport.auto_response_time
        flags = passport.hibernatable | passport.closed_by_object << 1 | (time is not None) << 2
        self._add(
            b"".join(
                (
                    _RESTORE_HEAD.pack(
                        _RESTORE,
                        passport.connection,
                        flags,
                        passport.ordinal,
                        passport.next_seq,
                        time or 0.0,
                    ),
                    passport.object_id,
                    _s16(passport.namespace.encode()),
                    _s16(passport.name.encode()),
                    _s32(passport.url.encode()),
                    _s16(passport.protocol.encode()),
                    _tags(passport.tags),
                    _attachment(passport.attachment),
                )
            )
        )

    def restored(self, map_version: int, slots: Sequence[int]) -> None:
        """All connections of *slots* that this router has are attached, as map *map_version* says."""
        self._add(_SLOTS_HEAD.pack(_RESTORED, map_version, len(slots)) + _packed("H", slots))


class OutputWriter(RecordWriter):
    """Writes a shard's records; the methods mirror ``OutputSink``."""

    __slots__ = ("_payloads",)

    def __init__(self) -> None:
        super().__init__()
        self._payloads: dict[tuple[bool, bytes], int] = {}

    def _seal(self) -> None:
        super()._seal()
        self._payloads.clear()

    def send(self, connections: array[int], data: bytes, binary: bool) -> None:
        """One message to each of *connections* (``array("I")``); equal payloads of a group travel once."""
        payloads = self._payloads
        key = (binary, data)
        index = payloads.get(key)
        targets = _le_bytes(connections)
        if index is None:
            payloads[key] = len(payloads)
            length = len(data)
            self._parts += (_SEND_HEAD.pack(_SEND, binary, len(connections), length), data, targets)
            self._size += 10 + length + len(targets)
        else:
            self._parts += (_SEND_AGAIN_HEAD.pack(_SEND_AGAIN, index, len(connections)), targets)
            self._size += 9 + len(targets)
        if self._size >= MAX_BATCH_BYTES:
            self._seal()

    def acknowledge(self, connections: array[int], firsts: array[int], lasts: array[int]) -> None:
        """The events ``firsts[i]`` to ``lasts[i]`` of ``connections[i]`` are done with (arrays "I", "Q", "Q")."""
        self._add(
            _COUNT_HEAD.pack(_ACK, len(connections)) + _le_bytes(connections) + _le_bytes(firsts) + _le_bytes(lasts)
        )

    def close(self, connection: int, code: int, reason: str, final: bool = False) -> None:
        """Close a connection: see the layout for the codes 1005 and 1006, and for *final*."""
        text = reason.encode()
        self._add(_CLOSE_HEAD.pack(_CLOSE, final, connection, code, len(text)) + text)

    def attachment(self, connection: int, attachment: bytes) -> None:
        """The connection's attachment, serialised, at most 16,384 bytes."""
        self._add(_ATTACHMENT_HEAD.pack(_ATTACHMENT, connection, len(attachment)) + attachment)

    def response(self, response: HttpResponse) -> None:
        """The answer to a request."""
        parts = [
            _RESPONSE_HEAD.pack(_RESPONSE, response.request, response.status, response.mode),
            _headers(response.headers),
            _s32(response.body),
        ]
        if response.mode is not AcceptMode.PLAIN:
            parts += (_U64.pack(response.ordinal), _tags(response.tags), _attachment(response.attachment))
        self._add(b"".join(parts))

    def hold(self, object_id: ObjectId, held: bool) -> None:
        """Stop (or go on) reading the object's clients: its mailbox is full (or half empty)."""
        self._add(bytes((_HOLD, held)) + object_id)

    def released(self, map_version: int, slots: Sequence[int]) -> None:
        """Nothing of *slots* comes from this shard any more."""
        self._add(_SLOTS_HEAD.pack(_RELEASED, map_version, len(slots)) + _packed("H", slots))


def _le_bytes(numbers: array[int] | array[float]) -> bytes:
    if _BIG_ENDIAN:
        numbers = array(numbers.typecode, numbers)
        numbers.byteswap()
    return numbers.tobytes()


def _packed(typecode: str, numbers: Iterable[float]) -> bytes:
    return _le_bytes(array(typecode, numbers))


def _s16(data: bytes) -> bytes:
    return _U16.pack(len(data)) + data


def _s32(data: bytes) -> bytes:
    return _U32.pack(len(data)) + data


def _headers(headers: Headers) -> bytes:
    parts = [_U16.pack(len(headers))]
    for name, value in headers:
        parts += (_s16(name), _s32(value))
    return b"".join(parts)


def _tags(tags: Sequence[str]) -> bytes:
    return bytes((len(tags),)) + b"".join(_s16(tag.encode()) for tag in tags)


def _attachment(attachment: bytes | None) -> bytes:
    return _U16.pack(NO_ATTACHMENT) if attachment is None else _s16(attachment)


# --- reading ------------------------------------------------------------------------------------------------------


def read_events(group: bytes, sink: EventSink) -> None:
    """Hand each record of a router's *group* to *sink*.

    Raises:
        WireError: The group ends inside a record, or holds a record that no router sends. What stood before it has
            been handed over; the caller gives the link up.
    """
    unpack_message, on_message = _MESSAGE_HEAD.unpack_from, sink.message
    position, end = 0, len(group)
    try:
        while position < end:
            if group[position] == _MESSAGE:
                _, binary, deliveries, connection, seq, length = unpack_message(group, position)
                start = position + 19
                position = start + length
                if position > end:
                    raise WireError(f"a message of {length} bytes ends behind its group")
                data = group[start:position]
                on_message(connection, seq, deliveries, data if binary else data.decode())
            else:
                cursor = _Cursor(group, position)
                _read_event(cursor, sink)
                position = cursor.position
    except (struct.error, UnicodeDecodeError, ValueError, IndexError) as error:
        raise WireError(f"bad record in a router's group at byte {position} of {end}: {error}") from error


def _read_event(cursor: _Cursor, sink: EventSink) -> None:
    kind = cursor.group[cursor.position]
    if kind in (_CLOSED, _FAILED):
        _, clean, deliveries, connection, seq, code, length = cursor.unpack(_END_HEAD)
        text = cursor.take(length).decode()
        if kind == _CLOSED:
            sink.closed(connection, seq, deliveries, code, text, bool(clean))
        else:
            sink.failed(connection, seq, deliveries, code, text)
    elif kind == _REQUEST:
        _, request, connection = cursor.unpack(_REQUEST_HEAD)
        sink.request(
            HttpRequest(
                request=request,
                connection=connection,
                object_id=cursor.object_id(),
                namespace=cursor.text16(),
                name=cursor.text16(),
                method=cursor.text16(),
                url=cursor.s32().decode(),
                headers=cursor.headers(),
                body=cursor.s32(),
            )
        )
    elif kind == _AUTO_TIMES:
        _, count = cursor.unpack(_COUNT_HEAD)
        sink.auto_response_times(cursor.numbers("I", count), cursor.numbers("d", count))
    elif kind == _RESTORE:
        _, connection, flags, ordinal, next_seq, time = cursor.unpack(_RESTORE_HEAD)
        sink.restore(
            Passport(
                connection=connection,
                hibernatable=bool(flags & 1),
                closed_by_object=bool(flags & 2),
                ordinal=ordinal,
                next_seq=next_seq,
                auto_response_time=time if flags & 4 else None,
                object_id=cursor.object_id(),
                namespace=cursor.text16(),
                name=cursor.text16(),
                url=cursor.s32().decode(),
                protocol=cursor.text16(),
                tags=cursor.tags(),
                attachment=cursor.attachment(),
            )
        )
    elif kind == _RESTORED:
        _, map_version, count = cursor.unpack(_SLOTS_HEAD)
        sink.restored(map_version, cursor.numbers("H", count))
    elif kind == _OBJECT_STATE:
        sink.object_state(cursor.object_state())
    else:
        raise WireError(f"no router sends a record of type {kind:#04x}")


def read_output(group: bytes, sink: OutputSink) -> None:
    """Hand each record of a shard's *group* to *sink*.

    Raises:
        WireError: As for ``read_events``.
    """
    payloads: list[tuple[bytes, bool]] = []
    unpack_send, on_send = _SEND_HEAD.unpack_from, sink.send
    position, end = 0, len(group)
    try:
        while position < end:
            if group[position] == _SEND:
                _, binary, count, length = unpack_send(group, position)
                start = position + 10
                position = start + length
                data = group[start:position]
                payloads.append((data, bool(binary)))
                # The list of targets stands last, so this one check covers the payload as well.
                if count == 1:
                    connections: Sequence[int] = _U32.unpack_from(group, position)
                    position += 4
                else:
                    cursor = _Cursor(group, position)
                    connections = cursor.numbers("I", count)
                    position = cursor.position
                on_send(connections, data, bool(binary))
            else:
                cursor = _Cursor(group, position)
                if group[position] == _SEND_AGAIN:
                    _, index, count = cursor.unpack(_SEND_AGAIN_HEAD)
                    on_send(cursor.numbers("I", count), *payloads[index])
                else:
                    _read_output(cursor, sink)
                position = cursor.position
    except (struct.error, UnicodeDecodeError, ValueError, IndexError) as error:
        raise WireError(f"bad record in a shard's group at byte {position} of {end}: {error}") from error


def _read_output(cursor: _Cursor, sink: OutputSink) -> None:
    kind = cursor.group[cursor.position]
    if kind == _ACK:
        _, count = cursor.unpack(_COUNT_HEAD)
        sink.acknowledge(cursor.numbers("I", count), cursor.numbers("Q", count), cursor.numbers("Q", count))
    elif kind == _CLOSE:
        _, final, connection, code, length = cursor.unpack(_CLOSE_HEAD)
        sink.close(connection, code, cursor.take(length).decode(), bool(final))
    elif kind == _ATTACHMENT:
        _, connection, length = cursor.unpack(_ATTACHMENT_HEAD)
        sink.attachment(connection, cursor.take(length))
    elif kind == _RESPONSE:
        _, request, status, mode = cursor.unpack(_RESPONSE_HEAD)
        headers, body = cursor.headers(), cursor.s32()
        if mode == AcceptMode.PLAIN:
            sink.response(HttpResponse(request, status, AcceptMode.PLAIN, headers, body))
        else:
            (ordinal,) = cursor.unpack(_U64)
            sink.response(
                HttpResponse(
                    request,
                    status,
                    AcceptMode(mode),
                    headers,
                    body,
                    ordinal,
                    cursor.tags(),
                    cursor.attachment(),
                )
            )
    elif kind == _HOLD:
        cursor.position += 2
        sink.hold(held=bool(cursor.group[cursor.position - 1]), object_id=cursor.object_id())
    elif kind == _RELEASED:
        _, map_version, count = cursor.unpack(_SLOTS_HEAD)
        sink.released(map_version, cursor.numbers("H", count))
    elif kind == _OBJECT_STATE:
        sink.object_state(cursor.object_state())
    else:
        raise WireError(f"no shard sends a record of type {kind:#04x}")


class _Cursor:
    """A place in a group. Every read checks that the group goes on that far."""

    __slots__ = ("group", "position")

    def __init__(self, group: bytes, position: int) -> None:
        self.group = group
        self.position = position

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        values = layout.unpack_from(self.group, self.position)
        self.position += layout.size
        return values

    def take(self, length: int) -> bytes:
        start = self.position
        self.position = start + length
        if self.position > len(self.group):
            raise WireError(f"a field of {length} bytes at byte {start} ends behind its group of {len(self.group)}")
        return self.group[start : self.position]

    def s32(self) -> bytes:
        return self.take(self.unpack(_U32)[0])

    def text16(self) -> str:
        return self.take(self.unpack(_U16)[0]).decode()

    def numbers(self, typecode: str, count: int) -> array[int]:
        numbers: array[int] = array(typecode)
        numbers.frombytes(self.take(count * numbers.itemsize))
        if _BIG_ENDIAN:
            numbers.byteswap()
        return numbers

    def object_id(self) -> ObjectId:
        return ObjectId(self.take(OBJECT_ID_BYTES))

    def headers(self) -> list[tuple[bytes, bytes]]:
        (count,) = self.unpack(_U16)
        return [(self.take(self.unpack(_U16)[0]), self.s32()) for _ in range(count)]

    def tags(self) -> tuple[str, ...]:
        count = self.take(1)[0]
        return tuple(self.text16() for _ in range(count))

    def attachment(self) -> bytes | None:
        (length,) = self.unpack(_U16)
        return None if length == NO_ATTACHMENT else self.take(length)

    def object_state(self) -> ObjectState:
        _, object_id, revision, timeout_ms, has_pair = self.unpack(_STATE_HEAD)
        request, response = self.text16(), self.text16()
        return ObjectState(
            ObjectId(object_id),  # type: ignore[arg-type]  # the struct's 32s field is bytes
            revision,
            timeout_ms,
            (request, response) if has_pair else None,
        )
