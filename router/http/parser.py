"""From the bytes of a TCP connection to whole HTTP requests, or the reason why there are none.

One read of a socket may hold 10,000 requests, 40,000 chunks or 50,000 header fields, each of which ``httptools`` calls
us for. So bytes are parsed in **steps**: a few ``PIECE_BYTES``, or until a request is whole. What is left waits as it
came (``unparsed``) until the requests before it are answered and ``go_on`` is called. A body whose length was declared
costs nothing but its copy, and is taken as it comes.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import httptools

from ...common.errors import BadRequest, BodyTooLarge, HeadTooLarge, RequestError
from ...common.limits import MAX_HEAD_BYTES, MAX_HEADER_FIELDS, MAX_TARGET_BYTES
from ..clients.gathering import Gathering, Payload
from ..counters import RouterCounters
from ..formats.http import Refusal, RequestHead, examine
from .bodies import Bodies

PIECE_BYTES = 512
"""Bytes that are parsed without looking at what has come of them: at most some 20 requests, or 100 fields or chunks."""
PIECES = 4
"""Pieces of a step."""
FIRST_PIECES = 8
"""Pieces of the step that is done when bytes come: nearly all heads are whole then, cookies and all."""
FIELD_BYTES = 400
"""Bytes that a header field takes beside its text: here some 170, at its shard, in two forms, some 350. A test holds it
to that."""
REQUEST_BYTES = 4 << 10
"""The same for a request as such, the handler that may wait at its shard included."""
MAX_FRAMING_FACTOR = 16
"""Bytes of chunk framing for each byte of a body, beyond those that a head may have."""
_OTHER_PROTOCOLS = re.compile(rb" (?:RTSP|ICE)/")
"""Those whose requests the parser takes for HTTP of the version that they name, without saying so."""
_PROTOCOLS = re.compile(rb" (HTTP|RTSP|ICE)/")
_PROTOCOL_BYTES = 5
"""Less than one of them has in front of its slash, with the space: so much may have come of it and not be found."""
_HEAD_ENDS = b"\r\n\r\n"


@dataclass(slots=True, eq=False)
class Incoming:
    """A request that has arrived whole.

    Attributes:
        head: Its head.
        version: Its HTTP version.
        body: Its body; it counts among the router's bodies until ``RequestParser.release``.
        memory: Bytes that it takes beside the body, here and at its shard.
    """

    head: RequestHead
    version: str
    body: Payload
    memory: int


class RequestParser:
    """Parses one connection's requests. Pure: bytes in, ``items`` out.

    Whoever uses it calls ``feed`` and, as long as bytes are ``unparsed`` and all ``items`` taken, ``go_on``.

    Args:
        own_host: Host for requests that name none; may be set anew.
        max_body_bytes: Limit of a body.
        counters: Where requests that are refused are counted.
        bodies: The account of all bodies: who has to make room when they are too much.
        watch: Told of each piece of a large body (``common.discards``).

    Attributes:
        items: What has been parsed and not been taken: requests, at last perhaps an error to be answered.
        expecting: A head whose client waits for a 100 before it sends the body; reset by the caller.
        finished: Nothing will be parsed any more: after an error, an upgrade, or a request that is the last.
        rest: Bytes behind an upgrade, which belong to its protocol.
        head_open: A head has begun and is not complete.
        body_open: A head is complete, its body is not.
        unparsed: Bytes that wait for ``go_on``.
        on_evicted: Called when the body that was coming had to make room: there is an error among ``items``.
    """

    def __init__(
        self,
        *,
        own_host: str,
        max_body_bytes: int,
        counters: RouterCounters,
        bodies: Bodies,
        watch: Callable[[memoryview], object] | None = None,
    ) -> None:
        self.items: deque[Incoming | RequestError] = deque()
        self.expecting: RequestHead | None = None
        self.finished = False
        self.rest = b""
        self.head_open = False
        self.body_open = False
        self.unparsed = 0
        self.own_host = own_host
        self._max_body_bytes = max_body_bytes
        self._counters = counters
        self._bodies = bodies
        self._watch = watch
        self.on_evicted: Callable[[], None] | None = None
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._fault: RequestError | None = None
        self._waiting = b""
        self._raw = b""  # what is being parsed, and before it the request line that it goes on with
        self._raw_at = 0  # where to look for that line's protocol
        self._begin()

    def _begin(self) -> None:
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head: RequestHead | None = None
        self._version = ""
        self._protocol = ""  # which the request line names, where that had to be looked for
        self._head_size = 0  # of fields that are complete
        self._fed = 0  # bytes received since the message began, as far as they surely belong to it
        self._body: Gathering | None = None  # until some of it has come
        self._declared = 0
        self._ignores_upgrade = False

    @property
    def memory(self) -> int:
        """Bytes that is held takes, beside bodies."""
        head = self._head_size + FIELD_BYTES * len(self._headers) if self.head_open or self.body_open else 0
        parsed = sum([item.memory for item in self.items if isinstance(item, Incoming)]) if self.items else 0
        return head + parsed + self.unparsed

    @property
    def has_more(self) -> bool:
        """Whether anything has come of another request than those taken."""
        return bool(self.items) or self.unparsed > 0 or self.head_open or self.body_open

    @property
    def is_head(self) -> bool:
        """Whether the request that came last, whole or not, is a HEAD."""
        return bool(self._target) and self._parser is not None and self._parser.get_method() == b"HEAD"

    @property
    def accept(self) -> list[bytes]:
        """The values of its Accept headers, as far as they have come."""
        return [value for name, value in self._headers if name.lower() == b"accept"]

    def keep(self, data: bytes) -> None:
        """Take bytes, and parse nothing of them: they are unparsed."""
        if self.finished or self._parser is None:
            return
        if self.unparsed:
            data = self._waiting[-self.unparsed :] + data
        self._keep(data, 0)

    def feed(self, data: bytes) -> None:
        """Take bytes and parse a step of them; look at ``items`` and ``expecting`` afterwards."""
        if self.finished or self._parser is None:
            return
        if self.unparsed:
            data = self._waiting[-self.unparsed :] + data
        self._parse(data, 0, FIRST_PIECES)

    def go_on(self) -> None:
        """Parse another step of what is unparsed; look at ``items`` and ``expecting`` afterwards."""
        if self.unparsed:
            self._parse(self._waiting, len(self._waiting) - self.unparsed, PIECES)

    def _parse(self, data: bytes, start: int, pieces: int) -> None:
        end = len(data)
        while start < end and pieces > 0 and not self.items and not self.finished:
            pieces -= 1
            # Of a body with a declared length there is one call for each piece, however large.
            stop = min(end, start + max(PIECE_BYTES, self._declared - self.body_size if self.body_open else 0))
            again = self._parse_piece(data[start:stop] if stop - start < end else data)
            start = stop
            if self.finished and self._is_upgrade():
                self.rest += data[start:]
            if again:
                # The head without an offer that we do not take, and what came behind it.
                data, start = again + data[start:], 0
                end = len(data)
        self._keep(data, start)

    def _is_upgrade(self) -> bool:
        last = self.items[-1] if self.items else None
        return isinstance(last, Incoming) and last.head.wants_websocket

    def _keep(self, data: bytes, start: int) -> None:
        self.unparsed = len(data) - start if not self.finished else 0
        self._waiting = data if self.unparsed else b""

    def _parse_piece(self, data: bytes) -> bytes:
        """Parse bytes; returns what is to be parsed next, before all others."""
        assert self._parser is not None
        before = len(self.items)
        self._raw += data
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            offset = upgrade.args[0]
            if self._ignores_upgrade:
                return self._without_upgrade() + data[offset:]
            self.finished = True
            self.rest = data[offset:]
            return b""
        except httptools.HttpParserError as error:
            self._refuse(self._fault or BadRequest(f"this is no valid HTTP request: {error}"))
            return b""
        finally:
            self._keep_first_line()
        if len(self.items) == before:
            self._fed += len(data)
            size = self.body_size
            if self.head_open and self._fed > MAX_HEAD_BYTES:
                self._refuse(HeadTooLarge(MAX_HEAD_BYTES))
            elif self.body_open and self._fed - size > MAX_HEAD_BYTES + MAX_FRAMING_FACTOR * size:
                self._refuse(BadRequest("the request's body consists of chunk framing for the most part"))
        return b""

    def cut_behind(self, incoming: Incoming) -> None:
        """Parse nothing more: the connection ends with the last request that is parsed, or else with *incoming*, which
        came before."""
        last = self.items[-1] if self.items else incoming
        if isinstance(last, Incoming):
            last.head.keep_alive = False
        self.finished = True
        self._drop_partial()

    def release(self, body: Payload) -> None:
        """The body of a request is not held any more."""
        self._bodies.budget.taken -= len(body)

    def drop(self) -> None:
        """The connection is gone or has become another protocol's: let go of all that was received."""
        self.finished = True
        self._parser = self.on_evicted = None  # they refer back to this object: nobody should need the cycle collector
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

    @property
    def body_size(self) -> int:
        """Bytes of the body that is coming, as far as they have come."""
        return 0 if self._body is None else self._body.size

    def evict(self, error: RequestError) -> None:
        """The body that is coming has to make room for others: answer *error*, after the requests before it."""
        self._refuse(error)
        if self.on_evicted is not None:
            self.on_evicted()

    def _drop_partial(self) -> None:
        self._bodies.end(self)
        self._bodies.budget.taken -= self.body_size
        self._body = None
        self._waiting, self.unparsed = b"", 0
        self.head_open = self.body_open = False
        self.expecting = None

    def _without_upgrade(self) -> bytes:
        """The client offers a protocol that we do not speak, such as h2c: go on as if it had not (RFC 9110 7.8).

        The parser takes what follows such a head for the other protocol, the body too. So the head is parsed again
        without the offer; this is it.
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
        self.body_open = False
        self._begin()
        return b"\r\n".join((*lines, b"", b""))

    # --- what httptools calls ---

    def on_message_begin(self) -> None:
        self._begin()
        self.head_open = True

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._count_head(len(url))
        if len(self._target) > MAX_TARGET_BYTES:
            raise self._faulty(Refusal(414, f"a request's target can have at most {MAX_TARGET_BYTES:,} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value) + 4)
        if len(self._headers) >= MAX_HEADER_FIELDS:
            raise self._faulty(HeadTooLarge(MAX_HEADER_FIELDS, "fields"))
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
        self._declared = self._head.length
        if parser.should_upgrade() and not self._head.wants_websocket:
            self._ignores_upgrade = True
        elif self._head.expects_continue:
            self.expecting = self._head

    def _keep_first_line(self) -> None:
        """What has been fed is parsed. A request line that may go on in the next piece is kept, until it tells its
        protocol."""
        if not self.head_open or self._headers or self._protocol:
            self._raw, self._raw_at = b"", 0
            return
        behind = self._raw.rfind(_HEAD_ENDS, self._raw_at)
        if behind >= 0:  # of a request before
            self._raw, self._raw_at = self._raw[behind + len(_HEAD_ENDS) :], 0
        self._find_protocol()

    def _find_protocol(self) -> None:
        """Note what the request line names in the place of HTTP, or that, as far as it has come. Each byte is looked at
        once: a line may have 64 KiB, and come in as many pieces."""
        raw, target = self._raw, self._target
        if not target:
            return
        assert self._parser is not None
        method = self._parser.get_method()
        for found in _PROTOCOLS.finditer(raw, self._raw_at):
            before = raw[: found.start()].rstrip(b" ")
            if before.endswith(target) and before[: -len(target)].rstrip(b" ").endswith(method):
                self._protocol = found[1].decode("ascii")
                self._raw_at = found.end()  # behind the lines of the requests before
                return
        self._raw_at = max(self._raw_at, len(raw) - _PROTOCOL_BYTES)

    def _refuse_other_protocols(self) -> None:
        if not self._protocol and _OTHER_PROTOCOLS.search(self._raw, self._raw_at) is not None:
            self._find_protocol()
        if self._protocol not in ("", "HTTP"):
            raise Refusal(505, f"this server speaks HTTP, got a request of {self._protocol}")

    def on_body(self, body: bytes) -> None:
        self.expecting = None  # it did not wait
        if self._body is None:
            self._body = Gathering(self._watch)
        self._body.add(body)
        self._bodies.budget.taken += len(body)
        if self._body.size > self._max_body_bytes:
            raise self._faulty(BodyTooLarge(self._max_body_bytes))
        try:
            self._bodies.grew(self)
        except RequestError as error:
            raise self._faulty(error) from None

    def on_message_complete(self) -> None:
        if self._ignores_upgrade:
            return
        assert self._head is not None
        self.body_open = False
        self.expecting = None
        memory = REQUEST_BYTES + self._head_size + FIELD_BYTES * len(self._headers)
        body = b"" if self._body is None else self._body.whole()
        self.items.append(Incoming(self._head, self._version, body, memory))
        self._body = None  # the item has it now
        self._bodies.end(self)
        if not self._head.keep_alive:
            self.finished = True

    def _faulty(self, error: RequestError) -> RequestError:
        # httptools hides what a callback raises behind an error of its own.
        self._fault = error
        return error
