"""What the records say: the wide ones as values, all of them as the methods of two sinks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from ...errors import WireError
from ...ids import ObjectId

Headers = Sequence[tuple[bytes, bytes]]
"""HTTP header fields in their order, as bytes."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """For writers: a payload that has gone ahead of its record in PARTs, on the same link.

    Attributes:
        stream: The number that they had.
    """

    stream: int


class Form(IntEnum):
    """What a payload that goes ahead is: text is put together in memory as wide as its widest character."""

    BYTES = 0
    """No text, or nobody needs to know."""
    ASCII = 1
    LATIN = 2
    """Characters below 256."""
    WIDE = 3
    """Characters of two bytes."""
    WIDEST = 4


_WIDTHS = {Form.LATIN: 1, Form.WIDE: 2, Form.WIDEST: 4}


class Pieces:
    """A payload in pieces. It is not joined unless somebody needs it whole.

    Attributes:
        parts: Its bytes, in order, ``PIECE_BYTES`` of them at most in each.
        size: How many bytes it has.
        form: What it is, if whoever sends it knows.
        chars: Characters of a text.
    """

    __slots__ = ("chars", "form", "parts", "size")

    def __init__(self, parts: list[memoryview], size: int, form: Form = Form.BYTES, chars: int = 0) -> None:
        self.parts = parts
        self.size = size
        self.form = form
        self.chars = chars

    def __len__(self) -> int:
        return self.size

    def add(self, part: memoryview) -> None:
        """More of it."""
        self.parts.append(part)
        self.size += len(part)

    def join(self) -> bytes:
        """All of it, in one piece."""
        return b"".join(self.parts)

    def text(self) -> str:
        """All of it as text.

        Raises:
            UnicodeDecodeError: It is no UTF-8.
        """
        return self.join().decode()

    def isascii(self) -> bool:
        """As ``bytes.isascii``, of a payload whose form is known."""
        return self.form == Form.ASCII

    @property
    def memory(self) -> int:
        """Bytes that it takes where it is put together: one wide character makes all of a text's so wide."""
        return _WIDTHS[self.form] * self.chars if self.form in _WIDTHS else self.size


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
        body: The whole body; at a router in pieces if it is large.
    """

    request: int
    connection: int
    object_id: ObjectId
    namespace: str
    name: str
    method: str
    url: str
    headers: Headers
    body: bytes | Pieces


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An object's answer to a request.

    Attributes:
        request: Number of the request.
        status: HTTP status, 101 when ``mode`` is not PLAIN.
        mode: What has become of the connection.
        headers: Header fields in order.
        body: The whole body, as bytes where the response is made; empty with a 101.
        ordinal: Place of the connection in the object's order of accepts.
        tags: Tags of the connection.
        attachment: Its serialised attachment, ``None`` when never set.
    """

    request: int
    status: int
    mode: AcceptMode
    headers: Headers
    body: bytes | Pieces = b""
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


class Sink:
    """What an end of a link does with each record that comes, in the order sent.

    A sink names what it takes. All else is **refused**: a record of a kind that the other end may send, but not here,
    breaks the wire's rules, and the link is given up.
    """

    __slots__ = ()

    def refuse(self, kind: str) -> None:
        """A record has come that is not taken.

        Raises:
            WireError: Always, unless a subclass knows better.
        """
        raise WireError(f"a record {kind} has come where none is taken")


class CommonSink(Sink):
    """What either end may send."""

    __slots__ = ()

    def object_state(self, state: ObjectState) -> None:
        self.refuse("OBJECT_STATE")

    def auto_response_times(self, connections: Sequence[int], times: Sequence[float]) -> None:
        self.refuse("AUTO_TIMES")


class EventSink(CommonSink):
    """What a shard does with each record of a router, in the order sent."""

    __slots__ = ()

    def message(self, connection: int, seq: int, deliveries: int, data: str | bytes) -> None:
        self.refuse("MESSAGE")

    def closed(self, connection: int, seq: int, deliveries: int, code: int, reason: str, clean: bool) -> None:
        self.refuse("CLOSED")

    def failed(self, connection: int, seq: int, deliveries: int, code: int, description: str) -> None:
        self.refuse("FAILED")

    def request(self, request: HttpRequest) -> None:
        self.refuse("REQUEST")

    def restore(self, passport: Passport) -> None:
        self.refuse("RESTORE")

    def restored(self, map_version: int, slots: Sequence[int]) -> None:
        self.refuse("RESTORED")

    def room(self, connection: int, size: int) -> None:
        self.refuse("ROOM")

    def behind(self, object_id: ObjectId, is_behind: bool) -> None:
        self.refuse("BEHIND")


class OutputSink(CommonSink):
    """What a router does with each record of a shard, in the order sent."""

    __slots__ = ()

    def send(self, connections: Sequence[int], data: bytes, binary: bool) -> None:
        self.refuse("SEND")

    def send_pieces(self, connections: Sequence[int], data: Pieces, binary: bool) -> None:
        self.refuse("SEND_AHEAD")

    def acknowledge(self, connections: Sequence[int], firsts: Sequence[int], lasts: Sequence[int]) -> None:
        self.refuse("ACK")

    def close(self, connection: int, code: int, reason: str, final: bool) -> None:
        self.refuse("CLOSE")

    def attachment(self, connection: int, attachment: bytes) -> None:
        self.refuse("ATTACHMENT")

    def response(self, response: HttpResponse) -> None:
        self.refuse("RESPONSE")

    def hold(self, object_id: ObjectId, held: bool) -> None:
        self.refuse("HOLD")

    def released(self, map_version: int, slots: Sequence[int], connections: Sequence[int], seqs: Sequence[int]) -> None:
        self.refuse("RELEASED")

    def owed(self, connection: int, owed: bool) -> None:
        self.refuse("OWED")

    def cut(self, connection: int) -> None:
        self.refuse("CUT")
