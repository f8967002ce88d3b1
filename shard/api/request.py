"""What ``fetch`` gets and returns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from ...common.errors import InvalidResponse
from ...common.limits import MAX_HEAD_BYTES, MAX_PAYLOAD_BYTES
from . import exact, json_text

if TYPE_CHECKING:
    from .web_socket import WebSocket

_TOKEN_CHARS = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


HeaderFields = Mapping[str, str] | Iterable[tuple[str, str]]
"""Header fields, as a mapping or as pairs."""


class MultiDict(Mapping[str, str]):
    """Names with one or more values each, in their order."""

    __slots__ = ("_items",)

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._items: dict[str, list[str]] = {}
        for name, value in items:
            self._items.setdefault(self._key(name), []).append(value)

    @staticmethod
    def _key(name: str) -> str:
        return name

    def __getitem__(self, name: str) -> str:
        """The first value of *name*."""
        return self._items[self._key(name)][0]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._key(name) in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def get_all(self, name: str) -> list[str]:
        """All values of *name*, in their order; empty if there is none."""
        return list(self._items.get(self._key(name), ()))

    def pairs(self) -> list[tuple[str, str]]:
        """Each name with each of its values."""
        return [(name, value) for name, values in self._items.items() for value in values]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.pairs()!r})"


class Headers(MultiDict):
    """HTTP header fields; names in any case are the same name.

    Looking a name up gives all its values as one, joined by ``", "``, as in the Fetch standard: a proxy that adds to a
    list, such as ``x-forwarded-for``, may do so in a line of its own. The lines of ``cookie`` are joined by ``"; "``
    (RFC 9113 8.2.3). Values of ``set-cookie`` can hold commas: ``get_set_cookie()`` has them apart.

    A ``Mapping``: ``headers.get(name)``, ``name in headers`` and loops over its names, which are in lower case, do what
    they do with a dict.

    Args:
        items: The fields, as pairs.
    """

    __slots__ = ()

    @staticmethod
    def _key(name: str) -> str:
        return name.lower()

    def __getitem__(self, name: str) -> str:
        """All values of *name* as one."""
        key = name.lower()
        values = self._items[key]
        return values[0] if len(values) == 1 else ("; " if key == "cookie" else ", ").join(values)

    def get_set_cookie(self) -> list[str]:
        """The values of ``set-cookie``, each for itself; empty if there is none."""
        return self.get_all("set-cookie")

    getSetCookie = get_set_cookie  # noqa: N815


class Query(MultiDict):
    """The decoded fields of a URL's query, a ``Mapping``: what ``Request.query`` gives.

    Looking a name up gives its first value; ``get_all`` has each. A name without a value has the empty string.
    """

    __slots__ = ()


class Request:
    """A client's HTTP request, whole: what ``DurableObject.fetch`` gets. Users make one in their own tests.

    Attributes:
        method: ``"GET"`` and so on.
        url: The absolute URL that the client asked for.
        headers: Header fields; for a name that came more than once ``headers[name]`` has all values as one,
            ``headers.get_all(name)`` has each.
        body: The body, whole; empty if there was none. At most 10 MiB (the setting ``router.max_body_bytes``).
    """

    __slots__ = ("_query", "body", "headers", "method", "url")

    def __init__(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: HeaderFields | None = None,
        body: bytes = b"",
    ) -> None:
        self.method: str = method
        self.url: str = url
        self.headers: Headers = headers if isinstance(headers, Headers) else Headers(_pairs(headers))
        self.body: bytes = body
        self._query: Query | None = None

    @property
    def path(self) -> str:
        """The URL's path as it came, percent escapes included."""
        return urlsplit(self.url).path

    @property
    def query(self) -> Query:
        """The fields of the URL's query, decoded. There are at most 1,024."""
        if self._query is None:
            self._query = Query(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))
        return self._query

    def text(self) -> str:
        """The body as UTF-8 text.

        Raises:
            UnicodeDecodeError: The body is not UTF-8.
        """
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON, as ``JSON.parse`` reads it: ints of any size, lone surrogates, the last of two equal keys.

        Raises:
            ValueError: The body is not JSON: a ``json.JSONDecodeError`` that says where, or a ``UnicodeDecodeError``.
        """
        return json_text.loads(self.body)

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.url}>"


class Response:
    """An object's answer: what ``DurableObject.fetch`` returns. Cannot be changed once made.

    Args:
        body: Text (goes out as UTF-8, with the content-type ``text/plain; charset=utf-8`` unless *headers* has one),
            bytes, or ``None``; at most 256 MiB.
        status: 200 to 599; 101 if and only if *web_socket* is given.
        headers: Header fields, as a mapping or as pairs. Those that belong to the connection (content-length,
            transfer-encoding, connection, …) are the router's. A ``Sec-WebSocket-Protocol`` beside *web_socket* is the
            subprotocol.
        web_socket: The client end of a ``WebSocketPair`` whose server end was accepted.
        webSocket: The same, in the original spelling.

    Raises:
        InvalidResponse: The status is out of range or does not go with the rest (a body with 204, 205 or 304, say), a
            header's name or value holds what no header may (control characters, line breaks, text that is not Latin-1),
            the body is larger than 256 MiB, or all headers together are larger than 64 KiB.
        TypeError: An argument is of a wrong type.
        UnicodeEncodeError: The body is text with a lone surrogate, which UTF-8 does not have.
    """

    __slots__ = ("_body", "_headers", "_status", "_web_socket")

    def __init__(
        self,
        body: str | bytes | bytearray | memoryview | None = None,
        status: int = 200,
        headers: HeaderFields | None = None,
        web_socket: WebSocket | None = None,
        webSocket: WebSocket | None = None,  # noqa: N803
    ) -> None:
        from .web_socket import check_web_socket

        if webSocket is not None:
            if web_socket is not None:
                raise TypeError("a response has one WebSocket: web_socket and webSocket are the same argument")
            web_socket = webSocket
        if not isinstance(status, int) or isinstance(status, bool):
            raise TypeError(f"a response's status must be an int, got {status!r:.80}")
        status = exact.integer(status)
        if web_socket is not None:
            check_web_socket(web_socket, "the web_socket of a Response")
            if status != HTTPStatus.SWITCHING_PROTOCOLS:
                raise InvalidResponse(f"a response with a WebSocket must have status 101, got {status}")
            if body:
                raise InvalidResponse("a response with a WebSocket has no body")
        elif not 200 <= status <= 599:
            raise InvalidResponse(f"a response's status must be 200 to 599 (101 only with a WebSocket), got {status}")
        if body is None:
            data = b""
        elif isinstance(body, str):
            data = exact.text(body).encode()
        elif isinstance(body, bytes | bytearray | memoryview):
            data = exact.octets(body)
        else:
            instead = "; use Response.json(value)" if isinstance(body, dict | list | tuple) else ""
            raise TypeError(f"a response's body must be str, bytes or None, got {type(body).__name__}{instead}")
        if data and status in (204, 205, 304):
            raise InvalidResponse(f"a response with status {status} has no body")
        pairs = [_checked_header(name, value) for name, value in _pairs(headers)]
        size = sum(len(name) + len(value) + 4 for name, value in pairs)  # ": " and the line's end
        if len(data) > MAX_PAYLOAD_BYTES:
            raise InvalidResponse(f"a response's body can have at most {MAX_PAYLOAD_BYTES} bytes, got {len(data)}")
        if size > MAX_HEAD_BYTES:
            raise InvalidResponse(f"a response's headers can have at most {MAX_HEAD_BYTES} bytes together, got {size}")
        if isinstance(body, str) and not any(name.lower() == "content-type" for name, _ in pairs):
            pairs.append(("content-type", "text/plain; charset=utf-8"))
        self._body = data
        self._status = status
        self._headers = Headers(pairs)
        self._web_socket = web_socket

    @property
    def body(self) -> bytes:
        """The body; empty if there is none."""
        return self._body

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._status

    @property
    def headers(self) -> Headers:
        """Header fields, the content-type of a text body among them."""
        return self._headers

    @property
    def web_socket(self) -> WebSocket | None:
        """The client end that it returns; ``None`` in any other answer."""
        return self._web_socket

    webSocket = web_socket  # noqa: N815  # the original spelling

    @classmethod
    def json(
        cls,
        value: Any,
        status: int = 200,
        headers: HeaderFields | None = None,
    ) -> Response:
        """A response whose body is *value* as JSON, as ``JSON.stringify`` writes it.

        Args:
            value: dict, list, tuple, str, int, float, bool, None, and subclasses of these; datetime, date, time, UUID,
                Enum, and dataclass instances. Keys that are not str are written as text, NaN and Infinity as ``null``.
            status: As for ``Response``.
            headers: As for ``Response``; the content-type is ``application/json`` unless they have one.

        Raises:
            TypeError: *value* holds something else.
            ValueError: *value* contains itself, or is nested more than 2,000 levels deep.
            InvalidResponse: As for ``Response``.
        """
        pairs = _pairs(headers)
        if not any(name.lower() == "content-type" for name, _ in pairs):
            pairs.append(("content-type", "application/json"))
        return cls(json_text.dumps(value), status=status, headers=pairs)

    def __repr__(self) -> str:
        return f"<Response {self.status}, {len(self.body)} bytes>"


def _pairs(headers: HeaderFields | None) -> list[tuple[str, str]]:
    if headers is None:
        return []
    if isinstance(headers, MultiDict):
        return headers.pairs()
    if isinstance(headers, Mapping):
        return list(headers.items())
    return [(name, value) for name, value in headers]


def _checked_header(name: object, value: object) -> tuple[str, str]:
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError(f"header names and values are strings, got {name!r:.80}: {value!r:.80}")
    name, value = exact.text(name), exact.text(value)
    if not name or not _TOKEN_CHARS.issuperset(name):
        raise InvalidResponse(f"{name!r:.80} is no header name (RFC 9110 5.1)")
    if any(char in "\r\n\0" or (char < " " and char != "\t") or char == "\x7f" for char in value):
        raise InvalidResponse(f"the value of header {name!r} holds a control character: {value!r:.80} (RFC 9110 5.5)")
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        raise InvalidResponse(f"the value of header {name!r} is not Latin-1 text: {value!r:.80}") from None
    return name, value
