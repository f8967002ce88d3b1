"""``self.ctx``: what an object asks of the runtime."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

from ...common.errors import ApiError, AutoResponseTooLong, EventTimeoutTooLong, OutboxFull
from ...common.limits import MAX_AUTO_RESPONSE_CHARS, MAX_EVENT_TIMEOUT_MS
from . import exact
from . import tags as tag_rules
from .life import Life
from .namespaces import DurableObjectId
from .ports import ObjectPort
from .spellings import also_named
from .web_socket import DONE, WebSocket, check_web_socket, payload_of, tags_of

if TYPE_CHECKING:
    from .web_socket import Sendable

T = TypeVar("T")


class WebSocketRequestResponsePair:
    """A text message and the text that answers it, without the object; for ``ctx.set_web_socket_auto_response``.

    Pairs of equal texts are equal.

    Args:
        request: The message, at most 2,048 characters. Only a whole text message that is equal to it is answered.
        response: The answer, at most 2,048 characters.

    Raises:
        TypeError: One of them is not a string. Their lengths are looked at when the pair is set.
    """

    __slots__ = ("_request", "_response")

    def __init__(self, request: str, response: str) -> None:
        for part, text in (("request", request), ("response", response)):
            if not isinstance(text, str):
                raise TypeError(f"the {part} of an auto-response is a str, got {text!r:.80}")
        self._request = exact.text(request)
        self._response = exact.text(response)

    def get_request(self) -> str:
        """The text that is answered."""
        return self._request

    def get_response(self) -> str:
        """The answer."""
        return self._response

    @property
    def request(self) -> str:
        """The same as ``get_request()``."""
        return self._request

    @property
    def response(self) -> str:
        """The same as ``get_response()``."""
        return self._response

    getRequest = get_request  # noqa: N815  # the original spellings
    getResponse = get_response  # noqa: N815

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, WebSocketRequestResponsePair)
            and other._request == self._request
            and other._response == self._response
        )

    def __hash__(self) -> int:
        return hash((self._request, self._response))

    def __repr__(self) -> str:
        return f"WebSocketRequestResponsePair({self._request!r}, {self._response!r})"


class DurableObjectState:
    """What an object asks of the runtime: ``self.ctx``. Good for one life of the instance, on the loop's thread.

    Once the instance has left memory, what is left of this life (a handler that is being cancelled, a thread) gets
    ``ObjectReset`` or ``ObjectGone`` from every method: the sockets and settings that are there now belong to another
    life. On another thread every method raises ``WrongThreadError``.
    """

    __slots__ = ("_hosted", "_life", "id")

    def __init__(self, life: Life, owner: ObjectPort[WebSocket]) -> None:
        self._life = life
        self._hosted = owner
        self.id: DurableObjectId = DurableObjectId(owner.object_id, owner.name or None)
        """The object's id: ``str(id)`` has 64 hex digits, ``id.name`` is the name it was reached by, if any."""

    @property
    def _owner(self) -> ObjectPort[WebSocket]:
        self._life.check()
        return self._hosted

    # --- sockets ---

    def accept_web_socket(self, ws: WebSocket, tags: Iterable[str] | None = ()) -> Awaitable[None]:
        """Accept the server end of a pair so that the socket outlives this instance: it hibernates with its object.

        Its events go to the class's handlers. Return the client end of the pair from ``fetch``: a socket whose client
        end is not returned is dropped as soon as that ``fetch`` has ended.

        Args:
            ws: The server end of a ``WebSocketPair``, not accepted before.
            tags: At most 10 distinct strings of at most 256 characters each, by which ``get_web_sockets`` and
                ``broadcast`` find the socket. Duplicates are dropped first; the empty string is a tag.

        Raises:
            TypeError: *ws* is not a WebSocket, or *tags* not a list of strings.
            TooManyTags: More than 10 distinct tags.
            TagTooLong: A tag of more than 256 characters.
            AlreadyAccepted: The socket, or its pair, was accepted or returned before.
            TooManyWebSockets: The object has 32,768.
            PackagesFull: All sockets of the object's process keep 512 MiB in tags, attachments and URLs (a setting).
            UnicodeEncodeError: A tag holds a lone surrogate, which UTF-8 does not have.
        """
        owner = self._owner
        handle = check_web_socket(ws, "accept_web_socket()")
        distinct = tag_rules.checked(tags)
        handle.check_acceptable(hibernatable=True)
        owner.accept_hibernatable(handle, distinct)
        return DONE  # as send() does

    def get_web_sockets(self, tag: str | None = None) -> list[WebSocket]:
        """The object's hibernatable sockets: all, newest first; or those with *tag*, oldest first.

        A socket that the object has closed stays in the list until its client has answered or gone: look at
        ``ws.ready_state`` before sending, or use ``broadcast``. Sockets that were accepted with ``ws.accept()`` are not
        in it.

        Args:
            tag: Only sockets with this tag; without it all.

        Raises:
            TypeError: *tag* is not a string.
        """
        sockets = self._owner.sockets
        if tag is None:
            return sockets.newest_first()
        if not isinstance(tag, str):
            raise TypeError(f"a tag is a string, got {tag!r:.80}")
        return sockets.tagged(tag)

    def broadcast(
        self, message: Sendable, tag: str | None = None, *, exclude: WebSocket | Iterable[WebSocket] = ()
    ) -> int:
        """Send *message* to all the object's hibernatable sockets that are open, or to those of them with *tag*.

        A socket that the object has closed, or whose client has, is still listed for a while and takes nothing: it is
        passed over. The message is written once, and leaves as one record to each router.

        Args:
            message: As for ``WebSocket.send``.
            tag: Only to sockets with this tag; without it to all.
            exclude: A socket, or several, that the message does not go to.

        Returns:
            How many sockets the message went to.

        Raises:
            OutboxFull: 64 MiB of the object's output wait. Clients that take what is sent have got the message all the
                same; clients for which much waits already have not.
            TypeError: *tag* is not a string, *exclude* holds something else than WebSockets, or *message* is of another
                type.
            ApiError, ValueError, UnicodeEncodeError: As for ``WebSocket.send``.
        """
        handles = self.get_web_sockets(tag)
        left_out = {
            check_web_socket(each, "the exclude of broadcast()")
            for each in ((exclude,) if isinstance(exclude, WebSocket) else exclude)
        }
        payload, told = payload_of(message), 0
        full: OutboxFull | None = None
        for handle in handles:
            if handle.ready_state == WebSocket.OPEN and handle not in left_out:
                try:
                    handle.send(payload)
                    told += 1
                except OutboxFull as error:
                    full = error  # of a slow client, perhaps: the others take theirs
        if full is not None:
            raise full
        return told

    def get_tags(self, ws: WebSocket) -> list[str]:
        """The tags of a socket, in the order given; also after it was closed.

        Args:
            ws: A socket that was accepted with ``accept_web_socket``.

        Raises:
            TypeError: *ws* is not a WebSocket.
            NotAccepted: *ws* was not accepted, or with ``ws.accept()``.
        """
        self._life.check()
        return tags_of(ws)

    @overload
    def set_web_socket_auto_response(
        self, web_socket_request_response_pair: WebSocketRequestResponsePair | None = None
    ) -> None: ...

    @overload
    def set_web_socket_auto_response(
        self,
        *,
        webSocketRequestResponsePair: WebSocketRequestResponsePair | None,  # noqa: N803
    ) -> None: ...

    @also_named(
        webSocketRequestResponsePair="web_socket_request_response_pair", pair="web_socket_request_response_pair"
    )
    def set_web_socket_auto_response(self, web_socket_request_response_pair: Any = None) -> None:
        """Answer a text message of any hibernatable socket, without waking the object and without an event.

        The router answers at once, so an answer may overtake what the object has sent before. What is set stays set
        while the object sleeps or moves, and when its shard dies; ``abort`` unsets it.

        Args:
            web_socket_request_response_pair: Request and response of at most 2,048 characters each; without it nothing
                is answered any more.

        Raises:
            TypeError: The pair is something else. The old pair stays.
            AutoResponseTooLong: One of the two has more than 2,048 characters. The old pair stays.
            UnicodeEncodeError: One of the two holds a lone surrogate, which UTF-8 does not have. The old pair stays.
        """
        owner, pair = self._owner, web_socket_request_response_pair
        if pair is None:
            owner.set_auto_response(None)
            return
        if not isinstance(pair, WebSocketRequestResponsePair):
            raise TypeError(f"set_web_socket_auto_response() takes a WebSocketRequestResponsePair, got {pair!r:.80}")
        request, response = exact.text(pair.request), exact.text(pair.response)
        for part, text in (("request", request), ("response", response)):
            if len(text) > MAX_AUTO_RESPONSE_CHARS:
                raise AutoResponseTooLong(part, len(text), MAX_AUTO_RESPONSE_CHARS)
            text.encode()
        owner.set_auto_response((request, response))

    def get_web_socket_auto_response(self) -> WebSocketRequestResponsePair | None:
        """The pair that is set, ``None`` if there is none."""
        pair = self._owner.auto_response
        return None if pair is None else WebSocketRequestResponsePair(*pair)

    def get_web_socket_auto_response_timestamp(self, ws: WebSocket) -> datetime.datetime | None:
        """When *ws* last got its auto-response (UTC), ``None`` if never. At most 100 ms late.

        Args:
            ws: A socket. One that was accepted with ``ws.accept()`` has no auto-responses.

        Raises:
            TypeError: *ws* is not a WebSocket.
        """
        self._life.check()
        socket = check_web_socket(ws, "get_web_socket_auto_response_timestamp()").socket
        if socket is None or socket.auto_response_time is None:
            return None
        return datetime.datetime.fromtimestamp(socket.auto_response_time, datetime.UTC)

    @overload
    def set_hibernatable_web_socket_event_timeout(self, timeout_ms: float | None = None) -> None: ...

    @overload
    def set_hibernatable_web_socket_event_timeout(self, *, timeoutMs: float | None) -> None: ...  # noqa: N803

    @also_named(timeoutMs="timeout_ms")
    def set_hibernatable_web_socket_event_timeout(self, timeout_ms: Any = None) -> None:
        """Cancel (and log) a handler of a socket's event that takes longer than *timeout_ms* milliseconds.

        Sockets and object go on. What is set stays set while the object sleeps or moves, and when its shard dies;
        ``abort`` unsets it.

        Args:
            timeout_ms: At most 604,800,000 (seven days), fractions are cut off; 0 or ``None`` for no limit.

        Raises:
            TypeError: It is not a number. The old value stays.
            ValueError: It is negative. The old value stays.
            EventTimeoutTooLong: It is over the limit. The old value stays.
        """
        owner = self._owner
        if timeout_ms is None:
            owner.set_event_timeout(0)
            return
        if not isinstance(timeout_ms, int | float) or isinstance(timeout_ms, bool):
            raise TypeError(f"an event timeout is a number of milliseconds, got {timeout_ms!r:.80}")
        timeout_ms = exact.number(timeout_ms)
        if not timeout_ms >= 0:
            raise ValueError(f"an event timeout cannot be negative, got {timeout_ms}")
        if timeout_ms > MAX_EVENT_TIMEOUT_MS:
            shown = MAX_EVENT_TIMEOUT_MS + 1 if timeout_ms == float("inf") else int(timeout_ms)
            raise EventTimeoutTooLong(shown, MAX_EVENT_TIMEOUT_MS)
        owner.set_event_timeout(int(timeout_ms))

    def get_hibernatable_web_socket_event_timeout(self) -> int | None:
        """The event timeout in milliseconds, ``None`` if there is none."""
        return self._owner.event_timeout_ms or None

    # --- the object's life ---

    def wait_until(self, awaitable: Awaitable[Any]) -> None:
        """Stay awake until *awaitable* has ended. What it raises is logged.

        Args:
            awaitable: A coroutine or future. A coroutine is started.

        Raises:
            TypeError: *awaitable* cannot be awaited.
        """
        self._owner.wait_until(awaitable)

    def block_concurrency_while(self, callback: Callable[[], Awaitable[T]]) -> asyncio.Future[T]:
        """Run *callback* while no event starts; at most 30 s. If it raises, or takes longer, the object is reset.

        In ``__init__`` call it without awaiting: the first event waits for it.

        Args:
            callback: An async function without arguments.

        Returns:
            A future to await for what the callback returns; it raises ``ObjectReset`` when the object was reset.
        """
        return self._owner.block_concurrency_while(callback)

    def abort(self, reason: str | None = None) -> NoReturn:
        """Reset the object: its sockets are closed with 1011 after what was sent before, its memory is gone.

        Auto-response and event timeout are unset. The next event constructs a new instance.

        Args:
            reason: For the log, beside the error id that clients get; in development clients get the reason itself.

        Raises:
            ObjectReset: Always, to end the handler that calls.
        """
        self._owner.abort(reason)

    @property
    def storage(self) -> NoReturn:
        """Not there yet: this version of roost has no storage.

        Raises:
            ApiError: Always.
        """
        raise ApiError("ctx.storage is not available in this version of roost: keep state in attachments or outside")

    # The original spellings.
    acceptWebSocket = accept_web_socket  # noqa: N815
    getWebSockets = get_web_sockets  # noqa: N815
    getTags = get_tags  # noqa: N815
    setWebSocketAutoResponse = set_web_socket_auto_response  # noqa: N815
    getWebSocketAutoResponse = get_web_socket_auto_response  # noqa: N815
    getWebSocketAutoResponseTimestamp = get_web_socket_auto_response_timestamp  # noqa: N815
    setHibernatableWebSocketEventTimeout = set_hibernatable_web_socket_event_timeout  # noqa: N815
    getHibernatableWebSocketEventTimeout = get_hibernatable_web_socket_event_timeout  # noqa: N815
    waitUntil = wait_until  # noqa: N815
    blockConcurrencyWhile = block_concurrency_while  # noqa: N815
