"""Floods of whatever is small: it costs its sender nothing, and once made everybody else wait for seconds."""

from __future__ import annotations

import socket
from contextlib import closing, suppress
from functools import partial

from tests.attacks.registry import Attack, Target, add
from tests.support.frames import BINARY, CONTINUATION, PING, PONG, TEXT, frame, upgrade_head

BEGUN = frame(BINARY, b"x", fin=False)
POST = b"POST /echo/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
FLOODS: dict[str, tuple[bytes, bytes]] = {
    "pings": (b"", frame(PING)),
    "pongs": (b"", frame(PONG)),
    "empty fragments": (BEGUN, frame(CONTINUATION, fin=False)),
    "requests for automatic responses": (b"", frame(TEXT, "ping")),
    "empty messages": (b"", frame(TEXT)),
    "chunks of two bytes": (POST, b"2\r\nab\r\n"),
    "header fields": (b"GET /echo/x HTTP/1.1\r\nHost: h\r\n", b"a:b\r\n"),
    "pipelined requests": (b"", b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"),
    "offers of h2c": (b"", b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
}
"""What comes first, and what is sent again and again. What begins with HTTP needs no handshake."""
ANSWERED = ("pings", "requests for automatic responses", "empty messages", "pipelined requests")
"""Those that are sent by clients that do not read the answers, too."""


def connected(port: int, path: str) -> socket.socket:
    """A WebSocket, as a plain socket."""
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    client.sendall(upgrade_head(path).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        if not byte:
            raise ConnectionError(f"no handshake: {head!r}")
        head += byte
    assert head.startswith(b"HTTP/1.1 101"), head
    return client


def flood(what: str, reads: bool, target: Target) -> None:
    """Send as fast as the router takes it; when it closes, begin anew."""
    first, unit = FLOODS[what]
    chunk = unit * ((1 << 18) // len(unit))
    is_http = b"HTTP" in first + unit
    while target.goes_on:
        with suppress(OSError):
            port = target.port
            client = socket.create_connection(("127.0.0.1", port), 10) if is_http else connected(port, "/echo/evil")
            with closing(client):
                client.settimeout(0.2)
                client.sendall(first)
                while target.goes_on:
                    with suppress(TimeoutError):
                        client.send(chunk)
                    if reads:
                        with suppress(BlockingIOError):
                            if not client.recv(1 << 20, socket.MSG_DONTWAIT):
                                break


def _enter(what: str, reads: bool) -> None:
    name, sends = what.replace(" ", "-"), f"{what}, as fast as they are read"
    if not reads:
        name, sends = f"{name}-unread", f"{sends}; no answer is read"
    add(Attack(name, sends, partial(flood, what, reads)))


for _what in FLOODS:
    _enter(_what, reads=True)
    if _what in ANSWERED:
        _enter(_what, reads=False)
