"""Memory that many clients have a cluster hold for them, each a little: they send as much as is taken, and then wait.

Each has its documented bound (``deploy/docs/protocol.md``), which the growth of the process is compared with.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from itertools import chain, repeat

from roost.common.limits import (
    LINK_UNCONFIRMED_BYTES,
    MAX_BODIES_IN_FLIGHT_BYTES,
    MAX_HEADS_BYTES,
    REMEMBERED_BYTES,
    ROUTER_WINDOWS_BYTES,
    SHARD_HELD_BYTES,
)
from roost.common.wire.shipping import BEGUN_BYTES
from tests.attacks.floods import connected
from tests.attacks.registry import Attack, Bound, Target, add
from tests.support.frames import BINARY, CONTINUATION, TEXT, frame

KIB, MIB = 1 << 10, 1 << 20
SLOW = "tests.attacks.slow_app"
UNFINISHED = Bound("router", ROUTER_WINDOWS_BYTES // 4, "unfinished messages")
WINDOWS = ROUTER_WINDOWS_BYTES - ROUTER_WINDOWS_BYTES // 4
REQUESTS = Bound("router", MAX_HEADS_BYTES, "requests beside their bodies")
BODIES = Bound("router", MAX_BODIES_IN_FLIGHT_BYTES + LINK_UNCONFIRMED_BYTES, "bodies, and a link's unconfirmed")
SECONDS = 12.0

Pieces = Callable[[int], Iterator[bytes]]
"""What a client sends, one after the other: of the client with that number."""


def hoard(count: int, path: str, pieces: Pieces, target: Target) -> None:
    """Open *count* connections, WebSockets where there is a *path*, send on all of them what is taken, and keep them.

    Args:
        count: How many.
        path: Where to, with the client's number for ``{}``; empty for plain TCP.
        pieces: What each sends.
        target: The cluster.
    """
    with ExitStack() as opened:
        unsent: dict[int, tuple[socket.socket, memoryview, Iterator[bytes]]] = {}
        poll = select.epoll()
        opened.callback(poll.close)
        for number in range(count):
            if not target.goes_on:
                break
            with suppress(OSError):  # refused
                if path:
                    client = connected(target.port, path.format(target.number * count + number))
                else:
                    client = socket.create_connection(("127.0.0.1", target.port), 10)
                opened.enter_context(client)
                client.setblocking(False)
                unsent[client.fileno()] = client, memoryview(b""), pieces(number)
                poll.register(client, select.EPOLLOUT)
        while target.goes_on:
            for descriptor, _ in poll.poll(0.1):
                client, rest, more = unsent[descriptor]
                try:
                    rest = rest or memoryview(next(more))
                    unsent[descriptor] = client, rest[client.send(rest) :], more
                except BlockingIOError:
                    unsent[descriptor] = client, rest, more
                except (StopIteration, OSError):  # all is sent, or the router has closed
                    poll.unregister(descriptor)


def names(target: Target) -> None:
    """Ask one object after the other, each but once."""
    with socket.create_connection(("127.0.0.1", target.port), 10) as client:
        number = 0
        while target.goes_on:
            asked = range(number, number + 20)
            client.sendall(
                b"".join(
                    f"GET /echo/{target.number}-{name}-{'n' * 400} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
                    for name in asked
                )
            )
            number += 20
            got = b""
            while got.count(b"HTTP/1.1 ") < 20 or not got.endswith(b"here"):
                more = client.recv(64 * KIB)
                if not more:
                    raise ConnectionError("closed")
                got += more


def comings(target: Target) -> None:
    """Open WebSockets and go, again and again."""
    while target.goes_on:
        with ExitStack() as opened:
            for number in range(50):
                opened.enter_context(connected(target.port, f"/echo/{number}"))


def _begun(part: bytes, times: int) -> Pieces:
    """A message in parts that does not end."""
    return lambda number: chain((frame(BINARY, part, fin=False),), repeat(frame(CONTINUATION, part, fin=False), times))


def _head(fields: bytes) -> Pieces:
    return lambda number: iter((b"GET /echo/x HTTP/1.1\r\nHost: h\r\n" + fields,))


def _body(length: int, sent: int, query: str = "") -> Pieces:
    def pieces(number: int) -> Iterator[bytes]:
        yield f"POST /slow/{number}{query} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n".encode()
        yield bytes(sent)

    return pieces


def _slow_messages(payload: bytes, opcode: int, times: int) -> Pieces:
    return lambda number: repeat(frame(opcode, payload), times)


def _enter(name: str, sends: str, count: int, path: str, pieces: Pieces, bound: Bound, **more: object) -> None:
    add(Attack(name, sends, partial(hoard, count, path, pieces), bound, seconds=SECONDS, **more))  # type: ignore[arg-type]


_enter(
    "unfinished-messages",
    "400 WebSockets each, 15 fragments of 64 KiB on each, and no end",
    400,
    "/echo/{}",
    _begun(bytes(64 * KIB), 14),
    UNFINISHED,
)
_enter(
    "unfinished-frames",
    "400 WebSockets each, 1,000,000 bytes of a frame of 1 MiB on each",
    400,
    "/echo/{}",
    lambda number: iter((b"\x82\xff" + struct.pack(">Q", MIB) + bytes(4) + bytes(1_000_000),)),
    UNFINISHED,
)
_enter(
    "many-begin",
    "2,500 WebSockets each, one fragment of a byte and half a frame's head on each",
    2500,
    "/echo/{}",
    lambda number: iter((frame(BINARY, b"x", fin=False) + b"\x80",)),
    UNFINISHED,
)
_enter(
    "fragments-of-a-byte",
    "400 WebSockets each, one message in fragments of a byte on each",
    400,
    "/echo/{}",
    lambda number: chain((frame(BINARY, b"x", fin=False),), repeat(frame(CONTINUATION, b"x", fin=False) * 5000, 100)),
    UNFINISHED,
)
_enter(
    "fragments-of-50-bytes",
    "1,500 WebSockets each, one message in fragments of 50 bytes on each",
    1500,
    "/echo/{}",
    _begun(bytes(50), 6000),
    UNFINISHED,
)
_enter(
    "windows-of-empty-messages",
    "1,500 WebSockets each, 300 empty messages on each to objects that do not end with one",
    1500,
    "/slow/{}",
    _slow_messages(b"", TEXT, 300),
    Bound("shard", WINDOWS, "a router's windows"),
    app=SLOW,
)
_enter(
    "windows-of-wide-texts",
    "300 WebSockets each, texts of 300 kB with one emoji on each to such objects",
    300,
    "/slow/{}",
    _slow_messages(b"x" * 300_000 + "\N{GRINNING FACE}".encode(), TEXT, 10),
    Bound("shard", WINDOWS, "a router's windows"),
    app=SLOW,
)
_enter(
    "heads-without-an-end",
    "2,500 connections each, 250 header fields of 240 bytes on each",
    2500,
    "",
    _head(b"".join(b"x%d: %s\r\n" % (number, b"v" * 240) for number in range(250))),
    REQUESTS,
)
_enter(
    "heads-of-short-fields",
    "2,500 connections each, 250 empty header fields on each",
    2500,
    "",
    _head(b"".join(b"x%d:\r\n" % number for number in range(250))),
    REQUESTS,
)
_enter(
    "long-urls",
    "1,200 WebSockets each, opened with a URL of 8,000 bytes",
    1200,
    "/echo/{}?" + "q" * 7960,
    lambda number: iter(()),
    Bound("router", 3 * 1200 * 8 * KIB, "their URLs"),
)
_enter(
    "bodies-in-chunks",
    "200 connections each, bodies in chunks of two bytes",
    200,
    "",
    lambda number: chain(
        (b"POST /slow/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",), repeat(b"2\r\nxx\r\n" * 10_000)
    ),
    BODIES,
    app=SLOW,
)
_enter(
    "bodies-that-stop",
    "30 connections each, 10,400,000 of 10,485,760 bytes of a body on each",
    30,
    "",
    _body(10 * MIB, 10_400_000),
    BODIES,
    app=SLOW,
)
_enter(
    "bodies-of-slow-objects",
    "30 connections each, a body of 10 MiB on each to objects that do not answer",
    30,
    "",
    _body(10 * MIB, 10 * MIB),
    BODIES,
    app=SLOW,
)
_enter(
    "bodies-beyond-the-shards-bound",
    "the same, and the shard's `all_events_bytes` is 64 MiB",
    30,
    "",
    _body(10 * MIB, 10 * MIB),
    Bound("shard", 64 * MIB + BEGUN_BYTES, "`all_events_bytes`, and what is coming"),
    app=SLOW,
    shard={"all_events_bytes": 64 * MIB},
)
_enter(
    "tags-and-attachments",
    "1,200 WebSockets each, of which the object keeps 10 tags and 2 kB; `all_attachments_bytes` is 8 MiB",
    1200,
    "/keeper/{}",
    lambda number: iter(()),
    Bound("shard", 8 * MIB + 3600 * 4 * KIB, "`all_attachments_bytes`, and 4 KiB of a WebSocket"),
    shard={"all_attachments_bytes": 8 * MIB},
)
_enter(
    "requests-of-slow-objects",
    "1,500 connections each, a request of 4 kB on each to objects that do not answer",
    1500,
    "",
    lambda number: iter((f"GET /slow/{number} HTTP/1.1\r\nHost: h\r\nx: {'v' * 4000}\r\n\r\n".encode(),)),
    REQUESTS,
    app=SLOW,
)
add(
    Attack(
        "names",
        "requests to one object after the other, each name once",
        names,
        Bound("shard", REMEMBERED_BYTES, "what is remembered"),
        seconds=SECONDS,
        shard={"hibernate_after_s": 1.0},
    )
)
add(
    Attack(
        "comings",
        "50 WebSockets opened and left, again and again",
        comings,
        Bound("router", REMEMBERED_BYTES, "what is remembered"),
        seconds=SECONDS,
    )
)
add(
    Attack(
        "deaf-room",
        "400 WebSockets of a room each; one says 1,000 bytes again and again, the others read nothing",
        partial(hoard, 400, "/room/deaf", lambda number: repeat(frame(TEXT, "x" * 1000)) if not number else iter(())),
        Bound("shard", SHARD_HELD_BYTES, "held output"),
        seconds=SECONDS,
    )
)
add(
    Attack(
        "deaf-room-of-small-messages",
        "the same with messages of a byte",
        partial(hoard, 400, "/room/deaf", lambda number: repeat(frame(TEXT, "x") * 100) if not number else iter(())),
        Bound("shard", SHARD_HELD_BYTES, "held output"),
        seconds=SECONDS,
    )
)
