"""Writers: they collect the records of one link until it is flushed."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

from ...ids import ObjectId
from ...limits import MAX_BATCH_BYTES
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
from .model import AcceptMode, Ahead, Headers, HttpRequest, HttpResponse, ObjectState, Passport, Pieces

PIECE_BYTES = MAX_BATCH_BYTES - PART_HEAD.size
"""Bytes of a PART that is a batch by itself."""


class RecordWriter:
    """Collects the records of one link until they are flushed.

    A group is cut, between records, once it has reached ``MAX_BATCH_BYTES``, so that a reader never waits for more
    than one batch unless a single record is larger than that.
    """

    __slots__ = ("_groups", "_parts", "_sealed_size", "_size")

    def __init__(self) -> None:
        self._parts: list[bytes | memoryview] = []
        self._size = 0
        self._groups: list[bytes] = []
        self._sealed_size = 0

    @property
    def size(self) -> int:
        """Bytes collected since the last ``take``."""
        return self._sealed_size + self._size

    @property
    def parts(self) -> int:
        """Pieces of records collected since the last group was cut."""
        return len(self._parts)

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

    def part(self, stream: int, data: bytes | memoryview, form: int = 0, chars: int = 0) -> None:
        """More of a payload that goes ahead as *stream*, at most ``PIECE_BYTES``; none: it does not come.

        It is a group, and so a batch, by itself: nothing is joined at the other end.

        Args:
            stream: Which.
            data: Its next bytes.
            form: What all of it is (``Form``).
            chars: Characters of all of it, if that is text.
        """
        if self._parts:
            self._seal()
        self._parts += (PART_HEAD.pack(PART, stream, form, chars, len(data)), data)
        self._size = PART_HEAD.size + len(data)
        self._seal()

    def object_state(self, state: ObjectState) -> None:
        """Tell what the object has set for its sockets."""
        request, response = state.auto_response or ("", "")
        head = STATE_HEAD.pack(
            OBJECT_STATE,
            state.object_id,
            state.revision,
            state.event_timeout_ms,
            state.auto_response is not None,
        )
        self._add(head + _s16(request.encode()) + _s16(response.encode()))

    def auto_response_times(self, connections: Sequence[int], times: Sequence[float]) -> None:
        """When each of *connections* last got its auto-response, in Unix seconds."""
        self._add(COUNT_HEAD.pack(AUTO_TIMES, len(connections)) + _packed("I", connections) + _packed("d", times))


class EventWriter(RecordWriter):
    """Writes a router's records; the methods mirror ``EventSink``."""

    __slots__ = ()

    def message(self, connection: int, seq: int, deliveries: int, payload: bytes, binary: bool) -> None:
        """One whole message of a client; *payload* is valid UTF-8 unless *binary*."""
        length = len(payload)
        self._parts.append(MESSAGE_HEAD.pack(MESSAGE, binary, deliveries, connection, seq, length))
        self._parts.append(payload)
        self._size += length + 19
        if self._size >= MAX_BATCH_BYTES:
            self._seal()

    def message_ahead(self, connection: int, seq: int, deliveries: int, payload: Ahead, binary: bool) -> None:
        """The same for a message whose payload has gone ahead."""
        self._add(MESSAGE_HEAD.pack(MESSAGE_AHEAD, binary, deliveries, connection, seq, payload.stream))

    def closed(self, connection: int, seq: int, deliveries: int, code: int, reason: str, clean: bool) -> None:
        """The client has closed (*clean*), or is gone."""
        text = reason.encode()
        self._add(END_HEAD.pack(CLOSED, clean, deliveries, connection, seq, code, len(text)) + text)

    def failed(self, connection: int, seq: int, deliveries: int, code: int, description: str) -> None:
        """The client broke the protocol; *code* is what it was told."""
        text = description.encode()
        self._add(END_HEAD.pack(FAILED, 0, deliveries, connection, seq, code, len(text)) + text)

    def request(self, request: HttpRequest, body: Ahead | None = None) -> None:
        """An HTTP request or a WebSocket handshake; *body* if that has gone ahead."""
        self._add(
            b"".join(
                (
                    REQUEST_HEAD.pack(REQUEST, request.request, request.connection),
                    request.object_id,
                    _s16(request.namespace.encode()),
                    _s16(request.name.encode()),
                    _s16(request.method.encode()),
                    _s32(request.url.encode()),
                    _headers(request.headers),
                    _body(request.body, body),
                )
            )
        )

    def restore(self, passport: Passport) -> None:
        """Attach a connection to its new owner."""
        time = passport.auto_response_time
        flags = passport.hibernatable | passport.closed_by_object << 1 | (time is not None) << 2
        self._add(
            b"".join(
                (
                    RESTORE_HEAD.pack(
                        RESTORE,
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
        self._add(SLOTS_HEAD.pack(RESTORED, map_version, len(slots)) + _packed("H", slots))

    def room(self, connection: int, size: int) -> None:
        """*size* bytes of output may be sent to the connection; 0: none until the next of these."""
        self._add(ROOM_HEAD.pack(ROOM, 0, connection, min(size, 0xFFFFFFFF)))

    def behind(self, object_id: ObjectId, is_behind: bool) -> None:
        """Much output of the object waits to be written here: send no more; or (not *is_behind*) go on."""
        self._add(bytes((BEHIND, is_behind)) + object_id)


class OutputWriter(RecordWriter):
    """Writes a shard's records; the methods mirror ``OutputSink``."""

    __slots__ = ("_binary", "_payloads", "_text")

    def __init__(self) -> None:
        super().__init__()
        # The payloads of this group and their indices, by kind: equal bytes of the other kind are another payload.
        self._text: dict[bytes, int] = {}
        self._binary: dict[bytes, int] = {}
        self._payloads = 0

    def _seal(self) -> None:
        super()._seal()
        self._text.clear()
        self._binary.clear()
        self._payloads = 0

    def send(self, connections: array[int], data: bytes, binary: bool) -> None:
        """One message to each of *connections* (``array("I")``); equal payloads of a group travel once."""
        self._send(len(connections), _le_bytes(connections), data, binary)

    def send_one(self, connection: int, data: bytes, binary: bool) -> None:
        """The same for a single connection."""
        self._send(1, U32.pack(connection), data, binary)

    def send_ahead(self, connections: array[int], payload: Ahead, binary: bool) -> None:
        """One message, whose payload has gone ahead, to each of *connections*."""
        self._add(SEND_HEAD.pack(SEND_AHEAD, binary, len(connections), payload.stream) + _le_bytes(connections))

    def _send(self, count: int, targets: bytes, data: bytes, binary: bool) -> None:
        payloads = self._binary if binary else self._text
        index = payloads.get(data)
        if index is None:
            payloads[data] = self._payloads
            self._payloads += 1
            length = len(data)
            self._parts += (SEND_HEAD.pack(SEND, binary, count, length), data, targets)
            self._size += 10 + length + len(targets)
        else:
            self._parts += (SEND_AGAIN_HEAD.pack(SEND_AGAIN, index, count), targets)
            self._size += 9 + len(targets)
        if self._size >= MAX_BATCH_BYTES:
            self._seal()

    def acknowledge(self, connections: array[int], firsts: array[int], lasts: array[int]) -> None:
        """The events ``firsts[i]`` to ``lasts[i]`` of ``connections[i]`` are done with (arrays "I", "Q", "Q")."""
        count = len(connections)
        if count == 1:
            self._add(ONE_ACK.pack(ACK, 1, connections[0], firsts[0], lasts[0]))
        else:
            self._add(COUNT_HEAD.pack(ACK, count) + _le_bytes(connections) + _le_bytes(firsts) + _le_bytes(lasts))

    def close(self, connection: int, code: int, reason: str, final: bool = False) -> None:
        """Close a connection: see the layout for the codes 1005 and 1006, and for *final*."""
        text = reason.encode()
        self._add(CLOSE_HEAD.pack(CLOSE, final, connection, code, len(text)) + text)

    def attachment(self, connection: int, attachment: bytes) -> None:
        """The connection's attachment, serialised, at most 16,384 bytes."""
        self._add(ATTACHMENT_HEAD.pack(ATTACHMENT, connection, len(attachment)) + attachment)

    def response(self, response: HttpResponse, body: Ahead | None = None) -> None:
        """The answer to a request; *body* if that has gone ahead."""
        parts = [
            RESPONSE_HEAD.pack(RESPONSE, response.request, response.status, response.mode),
            _headers(response.headers),
            _body(response.body, body),
        ]
        if response.mode is not AcceptMode.PLAIN:
            parts += (U64.pack(response.ordinal), _tags(response.tags), _attachment(response.attachment))
        self._add(b"".join(parts))

    def hold(self, object_id: ObjectId, held: bool) -> None:
        """Stop (or go on) reading the object's clients: its mailbox is full (or half empty)."""
        self._add(bytes((HOLD, held)) + object_id)

    def released(
        self, map_version: int, slots: Sequence[int], connections: Sequence[int] = (), seqs: Sequence[int] = ()
    ) -> None:
        """Nothing of *slots* comes from this shard any more.

        Args:
            map_version: The map that this follows from.
            slots: The slots.
            connections: For each event whose handler was cancelled by this the counter of its connection.
            seqs: The numbers of those events.
        """
        self._add(
            SLOTS_HEAD.pack(RELEASED, map_version, len(slots))
            + _packed("H", slots)
            + U32.pack(len(connections))
            + _packed("I", connections)
            + _packed("Q", seqs)
        )

    def owed(self, connection: int, owed: bool) -> None:
        """Output for the connection waits here until the router says ROOM; or (not *owed*) none does any more."""
        self._add(OWED_HEAD.pack(OWED, owed, connection))

    def cut(self, connection: int) -> None:
        """Close a connection that does not take its output: too much waits here for all, and most for this one."""
        self._add(OWED_HEAD.pack(CUT, 0, connection))


def _le_bytes(numbers: array[int] | array[float]) -> bytes:
    if BIG_ENDIAN:
        numbers = array(numbers.typecode, numbers)
        numbers.byteswap()
    return numbers.tobytes()


def _packed(typecode: str, numbers: Iterable[float]) -> bytes:
    return _le_bytes(array(typecode, numbers))


def _s16(data: bytes) -> bytes:
    return U16.pack(len(data)) + data


def _s32(data: bytes) -> bytes:
    return U32.pack(len(data)) + data


def _body(body: bytes | Pieces, ahead: Ahead | None) -> bytes:
    if ahead is not None:
        return U32.pack(AHEAD) + U32.pack(ahead.stream)
    return _s32(body.join() if isinstance(body, Pieces) else body)


def _headers(headers: Headers) -> bytes:
    parts = [U16.pack(len(headers))]
    for name, value in headers:
        parts += (_s16(name), _s32(value))
    return b"".join(parts)


def _tags(tags: Sequence[str]) -> bytes:
    return bytes((len(tags),)) + b"".join(_s16(tag.encode()) for tag in tags)


def _attachment(attachment: bytes | None) -> bytes:
    return U16.pack(NO_ATTACHMENT) if attachment is None else _s16(attachment)
