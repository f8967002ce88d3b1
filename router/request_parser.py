"""From the bytes of a TCP connection to whole HTTP requests, or the reason why there are none."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

import httptools

from ..common.errors import BadRequest, BodyTooLarge, HeadTooLarge, RequestError, Unavailable
from ..common.limits import MAX_BODIES_IN_FLIGHT_BYTES, MAX_HEAD_BYTES
from .counters import RouterCounters
from .http import Refusal, RequestHead, examine

MAX_PIPELINED = 64
"""Whole requests that may wait behind the one being answered; the connection is closed after those."""
MAX_FRAMING_FACTOR = 16
"""Bytes of chunk framing for each byte of a body, beyond those that a head may have."""
_OTHER_PROTOCOLS = re.compile(rb" (RTSP|ICE)/")
"""Those whose requests the parser takes for HTTP of the version that they name, without saying so."""
_PROTOCOL_BYTES = 16
"""More than the longest of them has, with what stands around it."""


@dataclass(slots=True, eq=False)
class Incoming:
    """A request that has arrived whole.

    Attributes:
        head: Its head.
        version: Its HTTP version.
        body: Its body; the router's ``body_bytes`` counts it until ``RequestParser.release``.
    """

    head: RequestHead
    version: str
    body: bytes


class RequestParser:
    """Parses one connection's requests. Pure: bytes in, ``items`` out.

    Args:
        own_host: Host for requests that name none; may be set anew.
        max_body_bytes: Limit of a body.
        counters: ``body_bytes`` is the bound of all bodies together.

    Attributes:
        items: What has been parsed and not been taken: requests, at last perhaps an error to be answered.
        expecting: A head whose client waits for a 100 before it sends the body; reset by the caller.
        finished: Nothing will be parsed any more: after an error, an upgrade, or a request that is the last.
        rest: Bytes behind an upgrade, which belong to its protocol.
        head_open: A head has begun and is not complete.
        body_open: A head is complete, its body is not.
    """

    def __init__(self, *, own_host: str, max_body_bytes: int, counters: RouterCounters) -> None:
        self.items: deque[Incoming | RequestError] = deque()
        self.expecting: RequestHead | None = None
        self.finished = False
        self.rest = b""
        self.head_open = False
        self.body_open = False
        self.own_host = own_host
        self._max_body_bytes = max_body_bytes
        self._counters = counters
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._fault: RequestError | None = None
        self._raw = b""  # what is being parsed, and before it the request line that it goes on with
        self._raw_at = 0
        self._begin()

    def _begin(self) -> None:
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head: RequestHead | None = None
        self._version = ""
        self._protocol = ""  # another than HTTP, which the request line names
        self._head_size = 0  # of fields that are complete
        self._fed = 0  # bytes received since the message began, as far as they surely belong to it
        self._chunks: list[bytes] = []
        self._body_size = 0
        self._ignores_upgrade = False

    def feed(self, data: bytes) -> None:
        """Parse bytes; look at ``items`` and ``expecting`` afterwards."""
        if self.finished or self._parser is None:
            return
        before = len(self.items)
        self._raw += data
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            offset = upgrade.args[0]
            if self._ignores_upgrade:
                self._go_on_without_upgrade(data[offset:])
            else:
                self.finished = True
                self.rest = data[offset:]
            return
        except httptools.HttpParserError as error:
            self._refuse(self._fault or BadRequest(f"this is no valid HTTP request: {error}"))
            return
        finally:
            self._keep_first_line()
        if len(self.items) > MAX_PIPELINED:
            self._close_after(MAX_PIPELINED)
        elif len(self.items) == before:
            self._fed += len(data)
            if self.head_open and self._fed > MAX_HEAD_BYTES:
                self._refuse(HeadTooLarge(MAX_HEAD_BYTES))
            elif self.body_open and self._fed - self._body_size > MAX_HEAD_BYTES + MAX_FRAMING_FACTOR * self._body_size:
                self._refuse(BadRequest("the request's body consists of chunk framing for the most part"))

    def release(self, body: bytes) -> None:
        """The body of a request is not held any more."""
        self._counters.body_bytes -= len(body)

    def drop(self) -> None:
        """The connection is gone or has become another protocol's: let go of all that was received."""
        self.finished = True
        self._parser = None  # it refers back to this object: nobody should need the cycle collector
        self._drop_partial()
        for item in self.items:
            if isinstance(item, Incoming):
                self.release(item.body)
        self.items.clear()
        self._begin()

    def _refuse(self, error: RequestError) -> None:
        last = self.items[-1] if self.items else None
        if isinstance(last, Incoming) and not last.head.keep_alive:
            pass  # bytes behind the last request: nobody waits for an answer
        else:
            self._counters.bad_requests += 1
            self.items.append(error)
        self.finished = True
        self._drop_partial()

    def _close_after(self, count: int) -> None:
        while len(self.items) > count:
            item = self.items.pop()
            if isinstance(item, Incoming):
                self.release(item.body)
        last = self.items[-1]
        if isinstance(last, Incoming):
            last.head.keep_alive = False
        self.finished = True
        self._drop_partial()

    def _drop_partial(self) -> None:
        self._counters.body_bytes -= self._body_size
        self._body_size = 0
        self._chunks.clear()
        self.head_open = self.body_open = False
        self.expecting = None

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """The client offers a protocol that we do not speak, such as h2c: go on as if it had not (RFC 9110 7.8).

        The parser takes what follows such a head for the other protocol, the body too. So the head is parsed again
        without the offer.
        """
        assert self._head is not None
        lines = [f"{self._head.method} ".encode() + self._target + b" HTTP/1.1"]
        for name, value in self._headers:
            if name.lower() == b"connection":
                options = (option.strip() for option in value.split(b","))
                value = b", ".join(
                    option for option in options if option.lower() not in (b"upgrade", b"http2-settings")
                )
            if value and name.lower() not in (b"upgrade", b"http2-settings"):
                lines.append(name + b": " + value)
        self._parser = httptools.HttpRequestParser(self)
        self._begin()
        self.feed(b"\r\n".join((*lines, b"", b"")) + rest)

    # --- what httptools calls ---

    def on_message_begin(self) -> None:
        self._begin()
        self.head_open = True

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value) + 4)
        if self.head_open:  # trailers come here too, and are dropped
            self._headers.append((name, value.rstrip(b" \t")))  # white space in front is gone already (RFC 9110 5.5)

    def _count_head(self, size: int) -> None:
        self._head_size += size
        if self._head_size > MAX_HEAD_BYTES:
            raise self._faulty(HeadTooLarge(MAX_HEAD_BYTES))

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        self.head_open = False
        self.body_open = True
        self._version = parser.get_http_version()
        try:
            self._refuse_other_protocols()
            self._head = examine(
                parser.get_method().decode("ascii"),
                self._target,
                self._version,
                self._headers,
                own_host=self.own_host,
                max_body_bytes=self._max_body_bytes,
            )
        except RequestError as error:
            raise self._faulty(error) from None
        if parser.should_upgrade() and not self._head.wants_websocket:
            self._ignores_upgrade = True
        elif self._head.expects_continue:
            self.expecting = self._head

    def _keep_first_line(self) -> None:
        """What has been fed is parsed. Of a request line that may go on in the next piece, its end is kept."""
        if self.head_open and not self._headers:
            self._protocol = self._protocol or self._other_protocol()
            self._raw = self._raw[-len(self._target) - _PROTOCOL_BYTES :]
        else:
            self._raw = b""
        self._raw_at = 0

    def _other_protocol(self) -> str:
        """What the request line names in the place of HTTP; empty when it does not, as far as it has come."""
        if _OTHER_PROTOCOLS.search(self._raw, self._raw_at) is None or not self._target:
            return ""
        line = re.compile(re.escape(self._target) + rb" +(HTTP|RTSP|ICE)/")
        found = line.search(self._raw, self._raw_at)  # behind the lines of the requests before
        if found is None:
            return ""
        self._raw_at = found.end()
        return "" if found[1] == b"HTTP" else found[1].decode()

    def _refuse_other_protocols(self) -> None:
        protocol = self._protocol or self._other_protocol()
        if protocol:
            raise Refusal(505, f"this server speaks HTTP, got a request of {protocol}")

    def on_body(self, body: bytes) -> None:
        self.expecting = None  # it did not wait
        size = len(body)
        self._chunks.append(body)
        self._body_size += size
        self._counters.body_bytes += size
        if self._body_size > self._max_body_bytes:
            raise self._faulty(BodyTooLarge(self._max_body_bytes))
        if self._counters.body_bytes > MAX_BODIES_IN_FLIGHT_BYTES:
            raise self._faulty(Unavailable("this router holds too many request bodies at present; try again later"))

    def on_message_complete(self) -> None:
        if self._ignores_upgrade:
            return
        assert self._head is not None
        self.body_open = False
        self.expecting = None
        self.items.append(Incoming(self._head, self._version, b"".join(self._chunks)))
        self._chunks.clear()
        self._body_size = 0  # the item has it now
        if not self._head.keep_alive:
            self.finished = True

    def _faulty(self, error: RequestError) -> RequestError:
        # httptools hides what a callback raises behind an error of its own.
        self._fault = error
        return error
