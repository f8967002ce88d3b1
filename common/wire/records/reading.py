"""Readers: they hand each record of a group to a sink, in the order sent.

A message and a SEND are read where they are met, as they are nearly all that comes. Each other kind has a function of
its own, and the tables ``_EVENTS`` and ``_OUTPUT`` say who sends it: a new kind is one function and one line.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...errors import WireError
from ...ids import OBJECT_ID_BYTES, ObjectId
from .layout import (
    ACK,
    AHEAD,
    ATTACHMENT,
    ATTACHMENT_HEAD,
    AUTO_TIMES,
    BEHIND,
    BIG_ENDIAN,
    CLOSE,
    CLOSE_HEAD,
    CLOSED,
    COUNT_HEAD,
    CUT,
    END_HEAD,
    FAILED,
    HOLD,
    MESSAGE,
    MESSAGE_AHEAD,
    MESSAGE_HEAD,
    NO_ATTACHMENT,
    OBJECT_STATE,
    ONE_ACK,
    OWED,
    OWED_HEAD,
    PART,
    PART_HEAD,
    RELEASED,
    REQUEST,
    REQUEST_HEAD,
    RESPONSE,
    RESPONSE_HEAD,
    RESTORE,
    RESTORE_HEAD,
    RESTORED,
    ROOM,
    ROOM_HEAD,
    SEND,
    SEND_AGAIN,
    SEND_AGAIN_HEAD,
    SEND_AHEAD,
    SEND_HEAD,
    SLOTS_HEAD,
    STATE_HEAD,
    U16,
    U32,
    U64,
)
from .model import (
    AcceptMode,
    CommonSink,
    EventSink,
    HttpRequest,
    HttpResponse,
    ObjectState,
    OutputSink,
    Passport,
    Pieces,
)
from .parts import Arrived, Incoming, Parts

_OF_ONE = U32.pack(1)
_MODES = frozenset(AcceptMode)

Reader = Callable[..., int]
"""``read_events``, ``read_output``: group, sink, parts, start, stop, payloads; returns where it stopped."""


def read_events(
    group: bytes,
    sink: EventSink,
    parts: Incoming[Any] | None = None,
    start: int = 0,
    stop: int | None = None,
    payloads: list[tuple[bytes, bool]] | None = None,
) -> int:
    """Hand the records of a router's *group* to *sink*.

    Args:
        group: Its records.
        sink: What takes them.
        parts: What has come on this link of payloads that go ahead; ``None`` if nothing can have.
        start: Where to begin: where an earlier call has stopped.
        stop: Where to stop, behind the record that ends there or later; ``None``: read all.
        payloads: No record of a router refers to an earlier one.

    Returns:
        Where it stopped.

    Raises:
        WireError: The group ends inside a record, or holds a record that no router sends. What stood before it has
            been handed over; the caller gives the link up.
    """
    unpack_message, on_message = MESSAGE_HEAD.unpack_from, sink.message
    position, end = start, len(group)
    stop = end if stop is None else stop
    try:
        while position < stop:
            if group[position] == MESSAGE:
                _, binary, deliveries, connection, seq, length = unpack_message(group, position)
                body = position + 19
                position = body + length
                if position > end:
                    raise WireError(f"a message of {length} bytes ends behind its group")
                data = group[body:position]
                on_message(connection, seq, deliveries, data if binary else data.decode())
            else:
                cursor = _Cursor(group, position)
                _EVENTS.get(group[position], _strange_event)(cursor, sink, Parts() if parts is None else parts)
                position = cursor.position
    except (struct.error, UnicodeDecodeError, ValueError, IndexError) as error:
        if not _is_ours(error):
            raise
        raise WireError(f"bad record in a router's group at byte {position} of {end}: {error}") from error
    return position


def read_output(
    group: bytes,
    sink: OutputSink,
    parts: Incoming[Any] | None = None,
    start: int = 0,
    stop: int | None = None,
    payloads: list[tuple[bytes, bool]] | None = None,
) -> int:
    """Hand the records of a shard's *group* to *sink*.

    Args:
        group: As for ``read_events``, as are *sink*, *parts*, *start* and *stop*.
        payloads: The messages of the group so far, for its later records: the same list for all calls.

    Returns:
        Where it stopped.

    Raises:
        WireError: As for ``read_events``.
    """
    if payloads is None:
        payloads = []
    unpack_send, on_send = SEND_HEAD.unpack_from, sink.send
    position, end = start, len(group)
    stop = end if stop is None else stop
    try:
        while position < stop:
            kind = group[position]
            if kind == SEND:
                _, binary, count, length = unpack_send(group, position)
                body = position + 10
                position = body + length
                data = group[body:position]
                payloads.append((data, bool(binary)))
                # The list of targets stands last, so this one check covers the payload as well.
                if count == 1:
                    connections: Sequence[int] = U32.unpack_from(group, position)
                    position += 4
                else:
                    cursor = _Cursor(group, position)
                    connections = cursor.numbers("I", count)
                    position = cursor.position
                on_send(connections, data, bool(binary))
            elif kind == ACK and group.startswith(_OF_ONE, position + 1):
                _, _, connection, first, last = ONE_ACK.unpack_from(group, position)
                position += ONE_ACK.size
                sink.acknowledge((connection,), (first,), (last,))
            else:
                cursor = _Cursor(group, position)
                if kind == SEND_AGAIN:
                    _, index, count = cursor.unpack(SEND_AGAIN_HEAD)
                    on_send(cursor.numbers("I", count), *payloads[index])
                else:
                    _OUTPUT.get(group[position], _strange_output)(cursor, sink, Parts() if parts is None else parts)
                position = cursor.position
    except (struct.error, UnicodeDecodeError, ValueError, IndexError) as error:
        if not _is_ours(error):
            raise
        raise WireError(f"bad record in a shard's group at byte {position} of {end}: {error}") from error
    return position


def _is_ours(error: Exception) -> bool:
    """Whether *error* arose in this module, so that the bytes are bad; or in the sink, which is a defect of its own."""
    trace = error.__traceback__
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_filename == __file__


def _joined(body: bytes | Arrived) -> bytes:
    return body if isinstance(body, bytes) else body.join()


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

    def flag(self) -> bool:
        """The u8 behind the record's type."""
        self.position += 2
        return bool(self.group[self.position - 1])

    def s32(self) -> bytes:
        return self.take(self.unpack(U32)[0])

    def body(self, parts: Incoming[Any]) -> bytes | Pieces:
        (length,) = self.unpack(U32)
        return parts.take(self.unpack(U32)[0]) if length == AHEAD else self.take(length)

    def part(self, parts: Incoming[Any]) -> None:
        _, stream, form, chars, length = self.unpack(PART_HEAD)
        start = self.position
        self.position = start + length
        if self.position > len(self.group):
            raise WireError(f"a part of {length} bytes at byte {start} ends behind its group of {len(self.group)}")
        part = memoryview(self.group)[start : self.position]  # no copy: most groups with a part are one
        parts.add(stream, part, form, chars)

    def text16(self) -> str:
        return self.take(self.unpack(U16)[0]).decode()

    def numbers(self, typecode: str, count: int) -> array[int]:
        numbers: array[int] = array(typecode)
        numbers.frombytes(self.take(count * numbers.itemsize))
        if BIG_ENDIAN:
            numbers.byteswap()
        return numbers

    def object_id(self) -> ObjectId:
        return ObjectId(self.take(OBJECT_ID_BYTES))

    def headers(self) -> list[tuple[bytes, bytes]]:
        (count,) = self.unpack(U16)
        return [(self.take(self.unpack(U16)[0]), self.s32()) for _ in range(count)]

    def tags(self) -> tuple[str, ...]:
        count = self.take(1)[0]
        return tuple(self.text16() for _ in range(count))

    def attachment(self) -> bytes | None:
        (length,) = self.unpack(U16)
        return None if length == NO_ATTACHMENT else self.take(length)

    def object_state(self) -> ObjectState:
        _, object_id, revision, timeout_ms, has_pair = self.unpack(STATE_HEAD)
        request, response = self.text16(), self.text16()
        return ObjectState(
            ObjectId(object_id),  # type: ignore[arg-type]  # the struct's 32s field is bytes
            revision,
            timeout_ms,
            (request, response) if has_pair else None,
        )


# --- of a router --------------------------------------------------------------------------------------------------


def _end(cursor: _Cursor, sink: EventSink, parts: Incoming[Any]) -> None:
    kind, clean, deliveries, connection, seq, code, length = cursor.unpack(END_HEAD)
    text = cursor.take(length).decode()
    if kind == CLOSED:
        sink.closed(connection, seq, deliveries, code, text, bool(clean))
    else:
        sink.failed(connection, seq, deliveries, code, text)


def _request(cursor: _Cursor, sink: EventSink, parts: Incoming[Any]) -> None:
    _, request, connection = cursor.unpack(REQUEST_HEAD)
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
            body=_joined(cursor.body(parts)),
        )
    )


def _restore(cursor: _Cursor, sink: EventSink, parts: Incoming[Any]) -> None:
    _, connection, flags, ordinal, next_seq, time = cursor.unpack(RESTORE_HEAD)
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


def _restored(cursor: _Cursor, sink: EventSink, parts: Incoming[Any]) -> None:
    _, map_version, count = cursor.unpack(SLOTS_HEAD)
    sink.restored(map_version, cursor.numbers("H", count))


def _room(cursor: _Cursor, sink: EventSink, parts: Incoming[Any]) -> None:
    _, _, connection, size = cursor.unpack(ROOM_HEAD)
    sink.room(connection, size)


def _behind(cursor: _Cursor, sink: EventSink, parts: Incoming[Any]) -> None:
    is_behind = cursor.flag()
    sink.behind(cursor.object_id(), is_behind)


def _message_ahead(cursor: _Cursor, sink: EventSink, parts: Incoming[Any]) -> None:
    _, binary, deliveries, connection, seq, stream = cursor.unpack(MESSAGE_HEAD)
    data = parts.take(stream)
    sink.message(connection, seq, deliveries, data.join() if binary else data.text())


def _strange_event(cursor: _Cursor, sink: EventSink, parts: Incoming[Any]) -> None:
    raise WireError(f"no router sends a record of type {cursor.group[cursor.position]:#04x}")


# --- of a shard ---------------------------------------------------------------------------------------------------


def _acknowledge(cursor: _Cursor, sink: OutputSink, parts: Incoming[Any]) -> None:
    _, count = cursor.unpack(COUNT_HEAD)
    sink.acknowledge(cursor.numbers("I", count), cursor.numbers("Q", count), cursor.numbers("Q", count))


def _close(cursor: _Cursor, sink: OutputSink, parts: Incoming[Any]) -> None:
    _, final, connection, code, length = cursor.unpack(CLOSE_HEAD)
    sink.close(connection, code, cursor.take(length).decode(), bool(final))


def _attachment(cursor: _Cursor, sink: OutputSink, parts: Incoming[Any]) -> None:
    _, connection, length = cursor.unpack(ATTACHMENT_HEAD)
    sink.attachment(connection, cursor.take(length))


def _response(cursor: _Cursor, sink: OutputSink, parts: Incoming[Any]) -> None:
    _, request, status, mode = cursor.unpack(RESPONSE_HEAD)
    headers, body = cursor.headers(), cursor.body(parts)
    if mode not in _MODES:
        raise WireError(f"a response has no mode {mode}")
    if mode == AcceptMode.PLAIN:
        sink.response(HttpResponse(request, status, AcceptMode.PLAIN, headers, body))
        return
    (ordinal,) = cursor.unpack(U64)
    tags, attachment = cursor.tags(), cursor.attachment()
    sink.response(HttpResponse(request, status, AcceptMode(mode), headers, body, ordinal, tags, attachment))


def _send_ahead(cursor: _Cursor, sink: OutputSink, parts: Incoming[Any]) -> None:
    _, binary, count, stream = cursor.unpack(SEND_HEAD)
    sink.send_pieces(cursor.numbers("I", count), parts.take(stream), bool(binary))


def _hold(cursor: _Cursor, sink: OutputSink, parts: Incoming[Any]) -> None:
    held = cursor.flag()
    sink.hold(cursor.object_id(), held)


def _released(cursor: _Cursor, sink: OutputSink, parts: Incoming[Any]) -> None:
    _, map_version, count = cursor.unpack(SLOTS_HEAD)
    slots = cursor.numbers("H", count)
    (cancelled,) = cursor.unpack(U32)
    sink.released(map_version, slots, cursor.numbers("I", cancelled), cursor.numbers("Q", cancelled))


def _owed(cursor: _Cursor, sink: OutputSink, parts: Incoming[Any]) -> None:
    _, owed, connection = cursor.unpack(OWED_HEAD)
    sink.owed(connection, bool(owed))


def _cut(cursor: _Cursor, sink: OutputSink, parts: Incoming[Any]) -> None:
    _, _, connection = cursor.unpack(OWED_HEAD)
    sink.cut(connection)


def _strange_output(cursor: _Cursor, sink: OutputSink, parts: Incoming[Any]) -> None:
    raise WireError(f"no shard sends a record of type {cursor.group[cursor.position]:#04x}")


# --- of either ----------------------------------------------------------------------------------------------------


def _object_state(cursor: _Cursor, sink: CommonSink, parts: Incoming[Any]) -> None:
    sink.object_state(cursor.object_state())


def _auto_times(cursor: _Cursor, sink: CommonSink, parts: Incoming[Any]) -> None:
    _, count = cursor.unpack(COUNT_HEAD)
    sink.auto_response_times(cursor.numbers("I", count), cursor.numbers("d", count))


def _part(cursor: _Cursor, sink: CommonSink, parts: Incoming[Any]) -> None:
    cursor.part(parts)


_EVENTS: Mapping[int, Callable[[_Cursor, EventSink, Incoming[Any]], None]] = {
    CLOSED: _end,
    FAILED: _end,
    REQUEST: _request,
    RESTORE: _restore,
    RESTORED: _restored,
    ROOM: _room,
    BEHIND: _behind,
    MESSAGE_AHEAD: _message_ahead,
    OBJECT_STATE: _object_state,
    AUTO_TIMES: _auto_times,
    PART: _part,
}
"""What a router sends beside MESSAGE."""
_OUTPUT: Mapping[int, Callable[[_Cursor, OutputSink, Incoming[Any]], None]] = {
    ACK: _acknowledge,
    CLOSE: _close,
    ATTACHMENT: _attachment,
    RESPONSE: _response,
    SEND_AHEAD: _send_ahead,
    HOLD: _hold,
    RELEASED: _released,
    OWED: _owed,
    CUT: _cut,
    OBJECT_STATE: _object_state,
    AUTO_TIMES: _auto_times,
    PART: _part,
}
"""What a shard sends beside SEND and SEND_AGAIN."""
