"""The user's handle of a connection, and the pair that ``fetch`` makes.

A ``WebSocketPair`` has a *server* end, which the object keeps, and a *client* end, which goes into the Response and
stands for the network connection; or both are used inside the object, and talk to each other (see ``pairs``). A server
end is accepted in one of two ways, for good: by ``ctx.accept_web_socket(server)`` it may sleep with its object and its
events go to the class's handlers; by ``server.accept()`` it keeps the object awake and its events go to its listeners.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Mapping
from dataclasses import dataclass
from threading import get_ident
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from ...common.close_codes import HIGHEST, LOWEST, NO_STATUS, UNSENDABLE
from ...common.errors import AlreadyAccepted, ApiError, InvalidCloseCode, InvalidCloseReason, NotAccepted, SocketClosed
from ...common.limits import MAX_CLOSE_REASON_BYTES
from . import attachments, exact, json_text
from .current import current, redelivered
from .life import Life
from .listeners import Listener, Listeners
from .ports import SocketPort, current_object
from .spellings import also_named

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    Sendable: TypeAlias = (
        str | ReadableBuffer | int | float | dict[Any, Any] | Mapping[str, object] | list[Any] | tuple[Any, ...] | None
    )
    """What ``WebSocket.send`` takes. A mapping must be a dict; ``Mapping`` is here since type checkers do not take a
    ``TypedDict`` for a dict. A ``ReadableBuffer`` is whatever is bytes-like."""

EventType = Literal["message", "close", "error"]
"""The events of a WebSocket."""


@dataclass(frozen=True, slots=True)
class MessageEvent:
    """A message has come: what a listener of ``message`` gets.

    Attributes:
        data: ``str`` for a text message, ``bytes`` for a binary one.
        type: ``"message"``.
    """

    data: str | bytes
    type: str = "message"


@dataclass(frozen=True, slots=True)
class CloseEvent:
    """The client has closed, or is gone: what a listener of ``close`` gets.

    Attributes:
        code: The client's close code; 1005 if its Close had none, 1006 if the connection ended without a Close.
        reason: The client's reason; a sentence of the runtime's for 1006.
        was_clean: Whether a Close came.
        type: ``"close"``.
    """

    code: int
    reason: str
    was_clean: bool
    type: str = "close"

    @property
    def wasClean(self) -> bool:  # noqa: N802  # the original spelling
        """The same as ``was_clean``."""
        return self.was_clean


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """The client broke the WebSocket protocol, and was closed for it: what a listener of ``error`` gets.

    Attributes:
        error: A ``WebSocketProtocolError``.
        type: ``"error"``.
    """

    error: Exception
    type: str = "error"

    @property
    def message(self) -> str:
        """The error's text."""
        return str(self.error)


class _Done:
    """What ``send`` and its like return: they act at once, and to await them is allowed and changes nothing."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield

    def __repr__(self) -> str:
        return "<done>"


DONE: Awaitable[None] = _Done()
"""One for all calls."""


class WebSocket:
    """One end of a connection, made by ``WebSocketPair``; the same handle for as long as its object is in memory.

    Its methods work on the loop's thread, for as long as the instance is in memory that got it: else they raise
    ``WrongThreadError``, or ``ObjectReset`` or ``ObjectGone``.

    You may set attributes of your own on it. They are lost when the object leaves memory, unlike the attachment.

    Attributes:
        CONNECTING: A value of ``ready_state`` that no socket of an object has.
        OPEN: The value of ``ready_state`` before either side has closed.
        CLOSING: The value after one side has.
        CLOSED: The value after both have.
    """

    __slots__ = (
        "__dict__",
        "__weakref__",
        "_early_attachment",
        "_life",
        "_listeners",
        "_other",
        "_server_end",
        "_socket",
        "_used",
    )

    CONNECTING = READY_STATE_CONNECTING = 0
    OPEN = READY_STATE_OPEN = 1
    CLOSING = READY_STATE_CLOSING = 2
    CLOSED = READY_STATE_CLOSED = 3

    def __init__(self, *, server_end: bool) -> None:
        self._server_end = server_end
        self._life: Life | None = current.get()  # the one that made it; that of its object, once it is accepted
        self._other: WebSocket | None = None
        self._socket: SocketPort[WebSocket] | None = None
        self._used = False
        self._early_attachment: bytes | None = None
        self._listeners: Listeners | None = None

    # --- accepting ---

    def accept(self) -> Awaitable[None]:
        """Accept the connection for this life of the object, which stays in memory as long as the socket is open.

        Its events go to the listeners of ``add_event_listener``. When its shard ends, or the object moves to another
        shard, the client is closed with 1012. A second call is ignored.

        With both ends of a pair accepted inside the object they talk to each other: what one sends is the other's
        message event, and so with ``close()``. The client end cannot go into a Response any more then.

        Raises:
            TypeError: The socket was accepted with ``ctx.accept_web_socket``.
            TooManyWebSockets: The object has 32,768 of this kind.
            AlreadyAccepted: The socket, or its pair, was returned in a Response, or dropped because it was not.
        """
        self._check_life()
        socket = self._socket
        if socket is not None:
            if socket.hibernatable:
                raise TypeError("a WebSocket that was accepted with accept_web_socket() cannot be accepted again")
            return DONE
        current_object().accept_standard(self)
        return DONE

    @overload
    def add_event_listener(
        self,
        event: EventType,
        callback_function: Listener,
        options: Mapping[str, Any] | bool | None = None,
        *,
        once: bool = False,
    ) -> None: ...

    @overload
    def add_event_listener(
        self,
        event: EventType,
        *,
        callbackFunction: Listener,  # noqa: N803
        options: Mapping[str, Any] | bool | None = None,
        once: bool = False,
    ) -> None: ...

    @also_named(callbackFunction="callback_function", type="event", callback="callback_function")
    def add_event_listener(
        self,
        event: Any,
        callback_function: Any,
        options: Mapping[str, Any] | bool | None = None,
        *,
        once: bool = False,
    ) -> None:
        """Call *callback_function* with each event of that name, behind the listeners that were added before.

        A function that was added already is not added again. A socket that was accepted with ``ctx.accept_web_socket``
        has no events for listeners: they go to the class's handlers.

        Args:
            event: ``"message"``, ``"close"`` or ``"error"``.
            callback_function: A function, sync or async, of a ``MessageEvent``, ``CloseEvent`` or ``ErrorEvent``; or an
                object with a method ``handle_event`` (``handleEvent``). What it raises is logged.
            options: As in the DOM. ``{"once": True}`` counts; anything else changes nothing.
            once: Only for the first event.

        Raises:
            ValueError: There is no such event.
            TypeError: *event* is not a string, or *callback_function* cannot be called, or it is a generator.
        """
        self._check_life()
        _check_event(event)
        if isinstance(options, Mapping):
            once = once or bool(options.get("once"))
        if self._listeners is None:
            self._listeners = Listeners()
        self._listeners.add(event, callback_function, once=once)
        if self._socket is not None and self._socket.hibernatable:
            self._socket.owner.listens_in_vain()

    @overload
    def remove_event_listener(self, event: EventType, callback_function: Listener) -> None: ...

    @overload
    def remove_event_listener(self, event: EventType, *, callbackFunction: Listener) -> None: ...  # noqa: N803

    @also_named(callbackFunction="callback_function", type="event", callback="callback_function")
    def remove_event_listener(self, event: Any, callback_function: Any) -> None:
        """Call *callback_function* no longer; nothing happens if it was not added.

        Args:
            event: ``"message"``, ``"close"`` or ``"error"``.
            callback_function: What was added before.

        Raises:
            ValueError: There is no such event.
            TypeError: *event* is not a string.
        """
        self._check_life()
        _check_event(event)
        if self._listeners is not None:
            self._listeners.remove(event, callback_function)

    @property
    def has_listeners(self) -> bool:
        """Whether a listener was ever added."""
        return self._listeners is not None

    def listeners(self, type: str) -> list[Callable[[Any], Any]]:
        """Those that an event of *type* is told to, in the order added."""
        return [] if self._listeners is None else self._listeners.of(type)

    # --- talking ---

    def send(self, message: Sendable) -> Awaitable[None]:
        """Send a message to the client. It is on its way when this returns; ``await`` is allowed and not needed.

        Messages to one client keep their order. What is sent before the Response of the handshake goes out behind it,
        what is sent after the client is gone goes nowhere. With both ends of a pair accepted inside the object the
        other end gets the message.

        Args:
            message: str goes out as text, bytes-like as binary (copied). int, float, bool and ``None`` are cast to text
                (``true``, ``null``); dict, list and tuple go out as JSON text, as ``JSON.stringify`` writes it (see
                ``Response.json``). At most 256 MiB.

        Raises:
            NotAccepted: The socket has not been accepted.
            SocketClosed: The object has called ``close()``.
            OutboxFull: 64 MiB of the object's output wait: it sends faster than its clients take it (see ``drain``).
            ApiError: The message alone has more than 256 MiB.
            TypeError: Another type, or one in a dict or list that JSON does not carry.
            ValueError: A dict or list that contains itself.
            UnicodeEncodeError: Text with a lone surrogate, which UTF-8 does not have.
        """
        socket = self._socket
        if socket is None:
            raise NotAccepted(f"accept the WebSocket before sending: {self._how_to_accept()}")
        life = self._life
        if get_ident() != life.thread:  # type: ignore[union-attr]  # it has one since the accept
            life.refuse()  # type: ignore[union-attr]
        if socket.closed_by_object:
            raise SocketClosed("send() after close()")
        kind = type(message)
        if kind is not str and kind is not bytes:
            message = payload_of(message)
        if socket.gone:
            return DONE
        if socket.held is None:
            socket.owner.outbox.send(socket.peer, socket.counter, message)  # type: ignore[arg-type]  # bound with the 101
        elif socket.is_local:
            socket.pass_message(message)  # type: ignore[arg-type]  # text or bytes by now
        else:
            socket.held.send(message)  # type: ignore[arg-type]
        return DONE

    def close(self, code: int | None = None, reason: str | None = None) -> Awaitable[None]:
        """Close the connection, behind what was sent to it; ``await`` is allowed and waits for nothing.

        The client has 10 s to answer, and may go on sending until then; ``web_socket_close`` is called when it has
        answered, or is gone. In ``web_socket_close`` itself this is the answer to the client. A second call is ignored,
        as is one after the client vanished.

        Args:
            code: 1000 to 4999 except 1004, 1005, 1006 and 1015; ``None`` for a Close without a code.
            reason: At most 123 UTF-8 bytes; only together with a code.

        Raises:
            NotAccepted: The socket has not been accepted.
            InvalidCloseCode: The code may not be sent. The socket stays open.
            InvalidCloseReason: The reason is too long, stands without a code, or is not UTF-8. The socket stays open.
            TypeError: The code is not an int, or the reason not a str. The socket stays open.
        """
        self._check_life()
        socket = self._socket
        if socket is None:
            raise NotAccepted(f"accept the WebSocket before closing: {self._how_to_accept()}")
        number, text = _checked_close(code, reason)
        if socket.closed_by_object or socket.gone:
            return DONE
        socket.record_close(number, text)
        socket.closed_by_object = True
        return DONE

    def drain(self) -> Coroutine[Any, Any, None]:
        """Wait until the object's process has nothing left of what was sent to the client.

        Whoever sends much awaits this after each piece, and so sends as fast as the client takes it. It returns at once
        if less than 256 KiB of the object's output wait for the end of this turn of the loop, before the Response of
        the handshake, and when the connection is over: what was sent then goes nowhere.

        Raises:
            NotAccepted: The socket has not been accepted.
        """
        self._check_life()
        socket = self._socket
        if socket is None:
            raise NotAccepted(f"accept the WebSocket before draining: {self._how_to_accept()}")
        return socket.drained()

    # --- what is known ---

    @property
    def ready_state(self) -> int:
        """``WebSocket.OPEN`` (1), ``WebSocket.CLOSING`` (2) or ``WebSocket.CLOSED`` (3).

        The object's own ``close()`` and the client's end count one each. A socket that is not accepted yet is open.
        """
        if self._socket is None:
            return self.OPEN
        return self._socket.ready_state

    @property
    def buffered_amount(self) -> int:
        """Bytes of the messages that were sent and wait in the object's process.

        They wait until the end of this turn of the loop, or until the client has taken more of what its router holds
        for it (4 MiB; the setting ``router.send_buffer_bytes``).
        """
        socket, life = self._socket, self._life
        if socket is None:
            return 0
        if life is not None and get_ident() != life.thread:
            life.refuse()
        held = socket.held
        waiting = 0 if held is None else held.size
        peer = socket.peer
        return waiting if peer is None else waiting + socket.owner.outbox.bytes_for(peer, socket.counter)

    @property
    def url(self) -> str | None:
        """The URL of the handshake; ``None`` before its Response has been returned."""
        return (self._socket.url or None) if self._socket is not None else None

    @property
    def protocol(self) -> str:
        """The subprotocol: what the Response of the handshake has set as ``Sec-WebSocket-Protocol``, else empty."""
        return self._socket.protocol if self._socket is not None else ""

    @property
    def extensions(self) -> str:
        """Always empty: extensions are between router and client."""
        return ""

    @property
    def binary_type(self) -> str:
        """Always ``"arraybuffer"``: binary messages come as ``bytes``. To set another one raises ``ValueError``."""
        return "arraybuffer"

    @binary_type.setter
    def binary_type(self, value: str) -> None:
        if value != "arraybuffer":
            raise ValueError(f"binary messages come as bytes: the only binary_type is 'arraybuffer', not {value!r:.80}")

    @property
    def redelivered(self) -> bool:
        """Whether the event being handled may have been handled before, by a shard that died before it could say so.

        It is the same for all sockets: it tells of the event whose handler asks.
        """
        return redelivered.get()

    # --- attachments ---

    def serialize_attachment(self, value: Any) -> Awaitable[None]:
        """Keep a copy of *value* with the socket, through hibernation, moves and crashes of a shard.

        Later changes of *value* are not kept. Works before the accept, too.

        Args:
            value: What structured clone carries, of Python's types: ``None``, bool, int, float, str, bytes, bytearray,
                memoryview, list, tuple (comes back as a list), dict, OrderedDict, set, frozenset, datetime, date, time,
                timedelta, Decimal, Fraction, UUID, patterns and exceptions. Shared references and cycles are kept. The
                table is in ``deploy/docs/attachments.md``.

        Raises:
            DataCloneError: *value* holds something else; the message says what, where, and what to use instead. The
                earlier value stays.
            AttachmentTooLarge: More than 2,048 bytes once serialised (the setting ``shard.max_attachment_bytes`` allows
                more). The earlier value stays.
            OutboxFull: 64 MiB of the object's output wait. The earlier value stays.
            PackagesFull: The sockets of all objects of the process keep 512 MiB together (the setting
                ``shard.all_attachments_bytes``). The earlier value stays.
        """
        self._check_life()
        socket = self._socket
        owner = current_object() if socket is None else socket.owner
        data = attachments.serialize(value, owner.max_attachment_bytes)
        if socket is None:
            self._early_attachment = data
        else:
            kept = socket.hibernatable and not socket.gone
            more = len(data) - len(socket.attachment or b"")
            if kept:
                socket.check_package(more)
            if kept and socket.peer is not None:
                owner.outbox.check_room(len(data))
                socket.record_attachment(data)
            socket.attachment = data
            if kept:
                socket.grow_package(more)
        return DONE

    def deserialize_attachment(self) -> Any:
        """A fresh copy of what ``serialize_attachment`` has kept last; ``None`` if it never has.

        Raises:
            DataCloneError: What is kept cannot be read: a later version of roost has written it, or it is damaged.
                Serialise another value, or close the socket.
        """
        self._check_life()
        return attachments.deserialize(self._early_attachment if self._socket is None else self._socket.attachment)

    def _check_life(self) -> None:
        """Raises:
        LifeOver: The life of the object that made or accepted it is over.
        WrongThreadError: This is another thread than the loop's.
        """
        life = self._life
        if life is not None:
            life.check()

    def _how_to_accept(self) -> str:
        if self._used and not self._server_end:
            return "this client end went into a Response and is the network's; talk to the server end"
        if not self._server_end:
            return "call accept() on this client end to talk through it inside the object, or return it in a Response"
        return "call ctx.accept_web_socket(ws) or ws.accept()"

    # The original spellings.
    addEventListener = add_event_listener  # noqa: N815
    removeEventListener = remove_event_listener  # noqa: N815
    serializeAttachment = serialize_attachment  # noqa: N815
    deserializeAttachment = deserialize_attachment  # noqa: N815
    readyState = ready_state  # noqa: N815
    binaryType = binary_type  # noqa: N815
    bufferedAmount = buffered_amount  # noqa: N815

    def __repr__(self) -> str:
        end = "server" if self._server_end else "client"
        return f"<WebSocket {end} end, ready_state {self.ready_state}>"

    # --- for the runtime ---

    @property
    def socket(self) -> SocketPort[WebSocket] | None:
        """The package behind this handle; ``None`` before the accept."""
        return self._socket

    @property
    def early_attachment(self) -> bytes | None:
        """What was serialised before the accept."""
        return self._early_attachment

    @property
    def other(self) -> WebSocket | None:
        """The other end of the pair; ``None`` once the pair was used, and on a handle made for a package."""
        return self._other

    @property
    def is_server_end(self) -> bool:
        """Whether this is the end that the object keeps."""
        return self._server_end

    @property
    def used(self) -> bool:
        """Whether this end, or its pair, has gone into a Response."""
        return self._used

    def mark_used(self) -> None:
        """The pair has gone into a Response. Its ends need each other no longer; unlinked, they are freed at once."""
        self._used = True
        other, self._other = self._other, None
        if other is not None:
            other._used = True
            other._other = None

    def check_acceptable(self, *, hibernatable: bool) -> None:
        """Whether it can be accepted now; with ``accept()`` also when the other end is accepted inside the object.

        Raises:
            AlreadyAccepted: It cannot be accepted (any more).
        """
        if self._socket is not None:
            how = "accept_web_socket" if self._socket.hibernatable else "accept"
            raise AlreadyAccepted(f"the WebSocket was accepted already, with {how}()")
        other = self._other._socket if self._other is not None else None
        if self._used or (other is not None and hibernatable):
            raise AlreadyAccepted("the other end of this WebSocket's pair was accepted or used in a Response already")
        if other is not None and other.gone:
            raise AlreadyAccepted(
                "this WebSocket's pair was dropped: the event that accepted its other end has ended before"
            )
        if other is not None and other.owner is not current_object():
            raise AlreadyAccepted("the other end of this WebSocket's pair was accepted by another object")

    def bind(self, socket: SocketPort[WebSocket]) -> None:
        """The socket is accepted."""
        self._socket = socket
        self._life = socket.owner.activation
        socket.live = self
        socket.attachment, self._early_attachment = self._early_attachment, None

    @classmethod
    def of(cls, socket: SocketPort[WebSocket]) -> WebSocket:
        """The handle of a package: the one it has, or a new one."""
        handle = socket.live
        if handle is None:
            # Field by field: an object that lists its sockets for the first time makes tens of thousands at once.
            handle = cls.__new__(cls)
            handle._server_end = handle._used = True
            handle._other = handle._early_attachment = handle._listeners = None
            handle._socket = socket
            handle._life = socket.owner.activation
            socket.live = handle
        return handle


class WebSocketPair:
    """The two ends of a new connection: ``client, server = WebSocketPair()``.

    The object accepts the server end and keeps it; the client end goes into a Response, and is the network's from then
    on. Both ends can also be accepted inside the object with ``WebSocket.accept``: they talk to each other then.

    Attributes:
        client: The client end; also ``pair[0]``.
        server: The server end; also ``pair[1]``.
    """

    __slots__ = ("client", "server")

    def __init__(self) -> None:
        self.client: WebSocket = WebSocket(server_end=False)
        self.server: WebSocket = WebSocket(server_end=True)
        self.client._other = self.server
        self.server._other = self.client

    def __iter__(self) -> Iterator[WebSocket]:
        return iter((self.client, self.server))

    def __getitem__(self, index: int) -> WebSocket:
        return (self.client, self.server)[index]

    def __len__(self) -> int:
        return 2


def payload_of(message: Any) -> str | bytes:
    """What goes out for *message*: see ``WebSocket.send``, whose errors it raises."""
    if isinstance(message, str):
        return exact.text(message)  # of a subclass only its text goes out, whatever else it can do
    if message is None:
        return "null"
    if isinstance(message, bool):
        return "true" if message else "false"
    if isinstance(message, int | float):
        return json_text.number_text(message)
    if isinstance(message, dict | list | tuple):
        try:
            return json_text.dumps(message).decode()
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"send() cannot write this {type(message).__name__}: {error}") from error
    try:
        return memoryview(message).tobytes()
    except TypeError:
        raise TypeError(
            f"send() takes str, bytes-like, int, float, bool, None, dict, list or tuple, got {type(message).__name__}: "
            f"{message!r:.80}"
        ) from None


def _check_event(event: object) -> None:
    if not isinstance(event, str):
        raise TypeError(f"an event's name is a string, got {event!r:.80}")
    if event not in ("message", "close", "error"):
        raise ValueError(f"a WebSocket has the events message, close and error, not {event!r:.80}")


def _checked_close(code: object, reason: object) -> tuple[int, str]:
    number, text = NO_STATUS, ""
    if code is not None:
        if not isinstance(code, int) or isinstance(code, bool):
            raise TypeError(f"a close code is an int, got {code!r:.80}")
        number = exact.integer(code)
        if not LOWEST <= number <= HIGHEST or number in UNSENDABLE:
            raise InvalidCloseCode(number)
    if reason is not None:
        if not isinstance(reason, str):
            raise TypeError(f"a close reason is a str, got {reason!r:.80}")
        text = exact.text(reason)
        if code is None:
            raise InvalidCloseReason(f"a close reason needs a code beside it, got only {text!r:.80}")
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            raise InvalidCloseReason(f"a close reason must be UTF-8 text, got {text!r:.80}") from error
        if size > MAX_CLOSE_REASON_BYTES:
            raise InvalidCloseReason(
                f"a close reason can have at most {MAX_CLOSE_REASON_BYTES} UTF-8 bytes, got {size}"
            )
    return number, text


def check_web_socket(value: object, what: str) -> WebSocket:
    """*value*, which must be a WebSocket.

    Raises:
        TypeError: It is none.
    """
    if type(value) is not WebSocket:  # the runtime makes them all: nothing else is one, whatever it says of itself
        raise TypeError(f"{what} takes a WebSocket, got {value!r:.80}")
    return value


def tags_of(value: object) -> list[str]:
    """The tags of an accepted, hibernatable socket.

    Raises:
        TypeError: *value* is no WebSocket.
        NotAccepted: It was not accepted with ``accept_web_socket``.
    """
    socket = check_web_socket(value, "get_tags()").socket
    if socket is None:
        raise NotAccepted("call accept_web_socket() before asking for the tags of a WebSocket")
    if not socket.hibernatable:
        raise NotAccepted("only a WebSocket accepted with accept_web_socket() has tags")
    return list(socket.tags)


__all__ = [
    "ApiError",
    "CloseEvent",
    "ErrorEvent",
    "EventType",
    "MessageEvent",
    "WebSocket",
    "WebSocketPair",
    "check_web_socket",
    "tags_of",
]
