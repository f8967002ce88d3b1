"""What a router lets through of what clients send: read as others read it, with a URL that objects can parse."""

from __future__ import annotations

from urllib.parse import urlsplit

import h11
from hypothesis import example, given
from hypothesis import strategies as st

from roost.common.budget import Budget
from roost.common.errors import RequestError
from roost.router.clients.timers import Wheel
from roost.router.counters import RouterCounters
from roost.router.formats.http import RequestHead, examine
from roost.router.http.bodies import Bodies
from roost.router.http.parser import Incoming, RequestParser
from roost.shard import Request

# --- hosts ---

_PIECES = st.sampled_from(
    [
        "a",
        "host",
        "example.org",
        "127.0.0.1",
        "[",
        "]",
        "::1",
        "[::1]",
        ":",
        "@",
        "%",
        "%41",
        "%25",
        "/",
        "?",
        "#",
        "80",
        "65536",
        "00000",
        "-1",
        "+1",
        "\u0661",
        "\xfc",
        "\u212b",
        " ",
        "\t",
        "\r",
        "\0",
        "\\",
        "v1.",
        "x" * 300,
        "..",
        "_",
    ]
)
hosts = st.one_of(st.lists(_PIECES, max_size=6).map("".join), st.text(max_size=12))
tails = st.one_of(
    st.sampled_from(["/room/x", "/room/x?a=1&b=%zz&&=&c", "//a/b?x", "/[::1?[", "/@:?;#f", "/room/x?" + "a&" * 2000]),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=12).map(lambda tail: "/" + tail),
)


def let_through(target: str, host: str) -> RequestHead | None:
    try:
        line, value = target.encode("latin-1"), host.encode("latin-1")
        return examine("GET", line, "1.1", [(b"Host", value)], own_host="own:1", max_body_bytes=10)
    except (RequestError, UnicodeEncodeError):
        return None


@given(hosts, tails, st.booleans())
@example("[::1]:0", "/", False)
@example("[v1.x]", "/", False)
@example("a:" + "9" * 5000, "/", True)
@example("[::1%25lo]", "/", True)
def test_an_object_can_parse_the_url_of_whatever_is_let_through(host: str, tail: str, absolute: bool) -> None:
    head = let_through(f"ws://{host}{tail}" if absolute else tail, "h" if absolute else host)
    if head is None:
        return
    headers = [(name.decode(), value.decode("latin-1")) for name, value in head.headers]
    request = Request(head.url("http"), headers=headers)
    parts = urlsplit(request.url)
    assert (parts.scheme, parts.netloc) == ("http", head.host)
    assert parts.hostname
    assert parts.port is None or 0 <= parts.port <= 65_535
    assert parts.username is None
    assert request.headers["host"] == (host and head.host)
    assert request.path.startswith("/")
    assert isinstance(dict(request.query), dict)


# --- whole requests, and the same read by h11 ---

_LINES = st.sampled_from(
    [
        b"Host: h",
        b"Host: other",
        b"Host : h",
        b"Content-Length: 3",
        b"Content-Length: 3, 3",
        b"content-length: 4",
        b"Content-Length: +3",
        b"Content-Length: 0x3",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"transfer-encoding:\tchunked ",
        b"Transfer-Encoding:\x0bchunked",
        b"Transfer-Encoding: x",
        b"Connection: close",
        b"Connection: , keep-alive,",
        b"X-A: b\r\n c",
        b"X-A: b\0",
        b"X-A: b\rc",
        b"X-A:",
        b"X-A: \xff",
        b"X A: b",
        b": b",
        b" X-A: b",
        b"Expect: 100-continue",
    ]
)
_STARTS = st.sampled_from(
    [
        b"POST /a/b HTTP/1.1",
        b"POST /a/b?c HTTP/1.0",
        b"GET /a/b HTTP/1.1",
        b"POST /a HTTP/1.1 ",
        b"POST /a b HTTP/1.1",
        b"POST /a",
        b"post /a HTTP/1.1",
        b"POST /a HTTP/11",
    ]
)
_BODIES = st.sampled_from(
    [
        b"",
        b"abc",
        b"abcd",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"3;x=y\r\nabc\r\n0\r\n\r\n",
        b"3\nabc\n0\n\n",
        b"03\r\nabc\r\n0\r\nT: x\r\n\r\n",
        b"3 \r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"-1\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ]
)


def as_h11_reads_it(data: bytes) -> tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage), event
    headers = [(bytes(name), bytes(value)) for name, value in request.headers]
    return bytes(request.method), bytes(request.target), headers, body


@given(_STARTS, st.lists(_LINES, max_size=5), _BODIES)
def test_what_is_let_through_is_read_as_another_parser_reads_it(start: bytes, lines: list[bytes], body: bytes) -> None:
    data = b"\r\n".join([start, *lines, b"", body])
    counters = RouterCounters()
    parser = RequestParser(
        own_host="own:1", max_body_bytes=1000, counters=counters, bodies=Bodies(Budget(1 << 20), counters, Wheel(0.0))
    )
    parser.feed(data)
    first = parser.items[0] if parser.items else None
    if not isinstance(first, Incoming):
        return
    head = first.head
    theirs = as_h11_reads_it(data)
    assert theirs == (head.method.encode(), head.target.encode(), head.headers, first.body)
