"""HTTP/1.1 as a router speaks it: what a request's head must be, and the bytes of a response.

``httptools`` parses; it refuses by itself what is ambiguous on the wire (Content-Length beside Transfer-Encoding,
folded or malformed header lines, bad chunk sizes, bare line feeds). The rules here are about what the lines mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from ...common.errors import BadRequest, BodyTooLarge, HeadTooLarge, RequestError, RoostError
from ...common.header_fields import CONNECTIONS_OWN
from ...common.limits import MAX_LIST_ELEMENTS, MAX_QUERY_FIELDS
from ...common.runtime import pages
from ...common.wire.records import Headers, Pieces
from .urls import check_host, split_target

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
ALLOWED = b"GET, HEAD, OPTIONS"
"""The methods of the router's own pages."""

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_MAX_LENGTH_DIGITS = 19
"""Of a length that a client can read. Python refuses to make a number of more than 4,300."""
_FORBIDDEN_IN_VALUE = re.compile(rb"[\r\n\0]")
_OURS = frozenset(name.encode() for name in CONNECTIONS_OWN)

HANDSHAKE_LISTS = frozenset((b"connection", b"upgrade", b"sec-websocket-extensions", b"sec-websocket-protocol"))
"""Lists in a handshake, which may come in several lines."""
HANDSHAKE_SINGLES = frozenset((b"sec-websocket-key", b"sec-websocket-version"))
"""What a client says once (RFC 6455 11.3.1 and 5)."""
_LISTS = HANDSHAKE_LISTS | HANDSHAKE_SINGLES | {b"expect", b"transfer-encoding"}
"""Fields that are taken apart as lists, here or in ``handshake``: an element, or a parameter of one, costs up to a
microsecond, and 30,000 fit into a head."""


class Refusal(RequestError):
    """A request that the router answers itself, with any status.

    Args:
        status: The HTTP status.
        sentence: What is wrong.
        headers: Header fields that the status asks for, such as ``Allow``.
    """

    def __init__(self, status: int, sentence: str, headers: Headers = ()) -> None:
        self.status = status
        self.headers = headers
        super().__init__(sentence)


class BadResponseHeader(RoostError):
    """An object's response has a header that no response may have: its request fails with 500."""


@dataclass(slots=True)
class RequestHead:
    """A request's head that is in order.

    Attributes:
        method: Upper case, as received.
        target: Path and query; ``*`` where OPTIONS asks about the server as a whole.
        host: Host and port that the client asked for.
        headers: Fields in order, names in lower case. ``host`` is that of an absolute target, if there was one, and
            ``upgrade`` is ``websocket`` alone where that was among the protocols offered.
        keep_alive: The client may send another request on this connection.
        expects_continue: It waits for a 100 before it sends the body.
        wants_websocket: It asks to upgrade to a WebSocket.
        has_body: A body follows, though it may be empty.
        length: The body's length where it is declared, else 0.
    """

    method: str
    target: str
    host: str
    headers: list[tuple[bytes, bytes]]
    keep_alive: bool
    expects_continue: bool
    wants_websocket: bool
    has_body: bool
    length: int = 0

    @property
    def accept(self) -> list[bytes]:
        """The values of the Accept headers."""
        return _values(self.headers, b"accept")

    def url(self, scheme: str) -> str:
        """The absolute URL as the client asked for it, by *scheme*."""
        return f"{scheme}://{self.host}{self.target}"


def examine(
    method: str,
    target: bytes,
    version: str,
    headers: Iterable[tuple[bytes, bytes]],
    *,
    own_host: str,
    max_body_bytes: int,
) -> RequestHead:
    """Check what the parser has taken from the wire.

    Args:
        method: As received.
        target: The request target.
        version: ``1.1``, ``1.0`` or whatever the client wrote.
        headers: Fields in order.
        own_host: Stands in where a client names no host; host and port as a URL has them.
        max_body_bytes: The largest body; a declared length beyond it is refused before it is read.

    Raises:
        BadRequest: The head contradicts itself or a rule of RFC 9112.
        BodyTooLarge: The declared body is larger than allowed.
        HeadTooLarge: Its lists have too many elements.
        Refusal: Its query has too many fields.
        Refusal: An HTTP version, method, transfer coding or expectation that we do not do.
    """
    if version == "0.9":
        raise BadRequest("the request line must end in HTTP/1.1")
    if version not in ("1.1", "1.0"):
        raise Refusal(505, f"this server speaks HTTP/1.1 and HTTP/1.0, got HTTP/{version}")
    fields = [(name.lower(), value) for name, value in headers]
    _check_lists(fields)
    if target.count(b"&") >= MAX_QUERY_FIELDS:
        raise Refusal(414, f"a URL's query can have at most {MAX_QUERY_FIELDS} fields")
    hosts = _values(fields, b"host")
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise BadRequest(f"a request must have one Host header, got {len(hosts)}")
    # An empty one is what clients send that ask for no host in particular, as health checks do (RFC 9110 7.2).
    host = hosts[0].decode("latin-1") if hosts and hosts[0] else own_host
    check_host(host)
    if method == "CONNECT":
        raise Refusal(405, "this server is no proxy: it does not do CONNECT", [(b"allow", ALLOWED)])
    if target == b"*" and method == "OPTIONS":
        authority, path = None, "*"
    else:
        authority, path = split_target(target.decode("latin-1"))
    if authority is not None and authority != host:
        # The target counts, and whoever handles the request is to see no other host (RFC 9112 3.2.2).
        check_host(authority, "the host of the request target")
        host = authority
        fields = [(b"host", host.encode("latin-1")), *(field for field in fields if field[0] != b"host")]
    lengths = _values(fields, b"content-length")
    codings = _tokens(_values(fields, b"transfer-encoding"))
    chunked = bool(codings)
    if chunked and version == "1.0":
        raise BadRequest("an HTTP/1.0 request may not have Transfer-Encoding (RFC 9112 6.1)")
    if chunked and codings != {b"chunked"}:
        raise Refusal(501, "the only transfer coding that this server knows is chunked")
    if lengths and int(lengths[0]) > max_body_bytes:
        raise BodyTooLarge(max_body_bytes)
    has_body = chunked or (bool(lengths) and int(lengths[0]) > 0)
    options = _tokens(_values(fields, b"connection"))
    wants_websocket = b"websocket" in _tokens(_values(fields, b"upgrade"))
    if wants_websocket:
        # Of the protocols that the client offers this is the one, whatever others stand beside it.
        fields = [field for field in fields if field[0] != b"upgrade"]
        fields.append((b"upgrade", b"websocket"))
    return RequestHead(
        method=method,
        target=path,
        host=host,
        headers=fields,
        # HTTP/1.0 knows keep-alive as an extension only; closing is always right.
        keep_alive=version == "1.1" and b"close" not in options,
        expects_continue=_expects_continue(fields, version) and has_body,
        wants_websocket=wants_websocket,
        has_body=has_body,
        length=int(lengths[0]) if lengths else 0,
    )


def _check_lists(fields: Iterable[tuple[bytes, bytes]]) -> None:
    elements = 0
    for name, value in fields:
        if name in _LISTS:
            elements += 1 + value.count(b",") + value.count(b";") + value.count(b"\\")
    if elements > MAX_LIST_ELEMENTS:
        raise HeadTooLarge(MAX_LIST_ELEMENTS, "list elements")


def _values(fields: Iterable[tuple[bytes, bytes]], wanted: bytes) -> list[bytes]:
    return [value for name, value in fields if name == wanted]


def _tokens(values: Iterable[bytes]) -> set[bytes]:
    """The elements of a list that may stand in several lines; empty ones count for nothing (RFC 9110 5.6.1)."""
    tokens = {token.strip(b" \t").lower() for value in values for token in value.split(b",")}
    tokens.discard(b"")
    return tokens


def _expects_continue(fields: list[tuple[bytes, bytes]], version: str) -> bool:
    expectations = _tokens(_values(fields, b"expect"))
    if not expectations or version == "1.0":
        return False
    if expectations != {b"100-continue"}:
        raise Refusal(417, "the only expectation that this server can meet is 100-continue")
    return True


def checked_headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The header fields that a response of user code may set; those that are the router's own are left out.

    Raises:
        BadResponseHeader: A name is no token, or a value holds CR, LF or NUL: the client would read something else
            than the object said (response splitting).
    """
    checked = []
    for name, value in headers:
        if not _TOKEN.fullmatch(name):
            raise BadResponseHeader(f"a response header is called {name[:80]!r}, which is no token")
        if _FORBIDDEN_IN_VALUE.search(value):
            raise BadResponseHeader(f"the response header {name[:80]!r} has CR, LF or NUL in its value {value[:80]!r}")
        if name.lower() not in _OURS:
            checked.append((name, value))
    return checked


def response_bytes(
    status: int,
    headers: Headers,
    body: bytes | Pieces,
    *,
    date: bytes,
    keep_alive: bool,
    head_only: bool = False,
    declared_length: int | None = None,
) -> list[bytes | memoryview]:
    """A whole response, in one piece; or in several that are not copied, where the body is.

    Args:
        status: 200 to 599.
        headers: Fields that have been checked.
        body: The body; not sent where the status or ``head_only`` forbids one.
        date: The present time as HTTP writes it.
        keep_alive: Whether the connection stays open after it.
        head_only: The request was a HEAD: the length is told, the body is not sent.
        declared_length: For a HEAD, the length that a GET would have given if it is not that of *body*.
    """
    parts = [b"HTTP/1.1 %d %s\r\ndate: %s\r\n" % (status, _PHRASES.get(status, b""), date)]
    for name, value in headers:
        parts.append(b"%s: %s\r\n" % (name, value))
    if status == 204 or status == 304:
        body = b""
    else:
        length = len(body)
        if head_only and declared_length is not None:
            length = declared_length
        parts.append(b"content-length: %d\r\n" % length)
    parts.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
    if head_only:
        body = b""
    if isinstance(body, Pieces):
        return [b"".join(parts), *body.parts]
    parts.append(body)
    return [b"".join(parts)]


def declared_length(headers: Headers) -> int | None:
    """The Content-Length that user code has set, if it is a number; it matters for a HEAD only."""
    for name, value in headers:
        if name.lower() == b"content-length" and value.isdigit() and len(value) <= _MAX_LENGTH_DIGITS:
            return int(value)
    return None


def refusal_bytes(
    error: RequestError, *, date: bytes, keep_alive: bool, head_only: bool = False, accept: Iterable[bytes] = ()
) -> bytes:
    """The response that tells a client, in a sentence, why its request is refused.

    Args:
        error: What is wrong.
        date: The present time as HTTP writes it.
        keep_alive: Whether the connection stays open after it.
        head_only: The request was a HEAD.
        accept: The values of the request's Accept headers: a browser gets a page instead of a line of text.
    """
    content_type, body = pages.refusal(error.status, str(error), accept)
    headers = [content_type, *getattr(error, "headers", ())]
    (data,) = response_bytes(error.status, headers, body, date=date, keep_alive=keep_alive, head_only=head_only)
    return bytes(data)
