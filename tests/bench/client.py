"""A cheap echo client: as many round trips as the server allows, in a closed loop.

Each connection sends a prebuilt masked frame and sends the next when its echo has come. Nothing is parsed beyond the
comparison with the frame that is expected, so that the client costs as little as a client in Python can. It says how
much of a processor it used; over 90 % the figures are the client's, not the server's.

``python tests/bench/client.py --url ws://127.0.0.1:8787/echo/a --connections 64 --seconds 5`` prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import statistics
import struct
import sys
import time
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

CLIENT_BOUND = 0.9
"""Share of one processor from which on the client limits the figures."""

_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
_MASK = bytes((0x37, 0xFA, 0x21, 0x3D))


def masked_frame(payload: bytes, opcode: int = 1) -> bytes:
    """A client's frame (RFC 6455 5.3) with a fixed mask: one is as good as another between programs of ours."""
    length = len(payload)
    head = bytes((0x80 | opcode, 0x80 | length)) if length < 126 else struct.pack("!BBH", 0x80 | opcode, 0xFE, length)
    repeated = _MASK * (length // 4 + 1)
    body = int.from_bytes(payload, "big") ^ int.from_bytes(repeated[:length], "big")
    return head + _MASK + body.to_bytes(length, "big")


def server_frame(payload: bytes, opcode: int = 1) -> bytes:
    """The same message as a server frames it."""
    length = len(payload)
    return (
        bytes((0x80 | opcode, length)) if length < 126 else struct.pack("!BBH", 0x80 | opcode, 126, length)
    ) + payload


def handshake(host: str, path: str) -> bytes:
    """The request for an upgrade."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {_KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


class Run:
    """What the connections of a run share.

    Attributes:
        latencies: Seconds of each round trip.
        running: Whether a connection sends again.
    """

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.running = True
        self.connections: list[Connection] = []
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, reason: str) -> None:
        if not self.failure.done():
            self.failure.set_exception(RuntimeError(reason))


class Connection(asyncio.Protocol):
    """One client. Its payload is its own: equal payloads of one turn would travel once."""

    def __init__(self, run: Run, request: bytes, payload: bytes) -> None:
        self.run = run
        self.request = request
        self.frame, self.expected = masked_frame(payload), server_frame(payload)
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.buffer = b""
        self.open = False
        self.idle = True
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        run = self.run
        if not self.open:
            self._handshake(data)
            return
        if data != self.expected:
            self.buffer += data
            if len(self.buffer) < len(self.expected):
                return
            if self.buffer != self.expected:
                run.fail(f"expected the echo, got {self.buffer[:80]!r}")
                return
            self.buffer = b""
        now = time.perf_counter()
        run.latencies.append(now - self.sent_at)
        if run.running:
            self.sent_at = now
            self.transport.write(self.frame)
        else:
            self.idle = True

    def _handshake(self, data: bytes) -> None:
        self.buffer += data
        if b"\r\n\r\n" not in self.buffer:
            return
        if not self.buffer.startswith(b"HTTP/1.1 101") or not self.buffer.endswith(b"\r\n\r\n"):
            self.opened.set_exception(RuntimeError(f"no upgrade: {self.buffer[:200]!r}"))
            return
        self.buffer = b""
        self.open = True
        self.opened.set_result(None)

    def begin(self) -> None:
        self.idle = False
        self.sent_at = time.perf_counter()
        self.transport.write(self.frame)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(RuntimeError(f"the connection ended in the handshake: {exc}"))
        elif self.run.running:
            self.run.fail(f"a connection ended: {exc}")


async def measure(
    url: str, connections: int, size: int, seconds: float, warm_s: float = 0.5, objects: int = 1
) -> dict[str, Any]:
    """Run for *seconds* after *warm_s*.

    Args:
        url: Where; ``{object}`` in it is replaced by 0 … *objects* - 1, in turn.
        connections: How many.
        size: Bytes of the payload, ASCII text.
        seconds: Length of what is measured.
        warm_s: Seconds before that.
        objects: How many different names.

    Returns:
        round_trips_per_s, p50_us, p99_us, max_us, client_cpu (share of one processor), client_bound; and round_trips,
        the number of all, those before and after what is measured included.
    """
    loop = asyncio.get_running_loop()
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    run = Run()
    for number in range(connections):
        request = handshake(f"{host}:{port}", (parts.path or "/").replace("{object}", str(number % objects)))
        payload = (b"%08d" % number + b"0123456789abcdef" * (size // 16 + 1))[:size]
        _, connection = await loop.create_connection(partial(Connection, run, request, payload), host, port)
        await asyncio.wait_for(connection.opened, 15)
        run.connections.append(connection)
    gc.freeze()
    gc.disable()  # latencies are floats: there is nothing to collect, and a pause would be the client's
    for connection in run.connections:
        connection.begin()
    await asyncio.wait([run.failure], timeout=warm_s)
    began, cpu, first = time.perf_counter(), _cpu(), len(run.latencies)
    await asyncio.wait([run.failure], timeout=seconds)
    took, used, last = time.perf_counter() - began, _cpu() - cpu, len(run.latencies)
    run.running = False
    if run.failure.done():
        run.failure.result()
    run.failure.cancel()
    deadline = loop.time() + 5
    while not all(connection.idle for connection in run.connections):
        if loop.time() > deadline:
            raise RuntimeError("some echoes never came")
        await asyncio.sleep(0.01)
    for connection in run.connections:
        connection.transport.close()
    await asyncio.sleep(0.05)
    latencies = sorted(run.latencies[first:last])
    cuts = statistics.quantiles(latencies, n=100)
    return {
        "round_trips_per_s": round(len(latencies) / took, 1),
        "p50_us": round(cuts[49] * 1e6, 1),
        "p99_us": round(cuts[98] * 1e6, 1),
        "max_us": round(latencies[-1] * 1e6, 1),
        "round_trips": len(run.latencies),
        "client_cpu": round(used / took, 3),
        "client_bound": used / took > CLIENT_BOUND,
    }


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--size", type=int, default=64, help="bytes of a message, at most 65,535")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warm", type=float, default=0.5)
    parser.add_argument("--objects", type=int, default=1, help="names that replace {object} in the URL, in turn")
    options = parser.parse_args()
    result = uvloop.run(
        measure(options.url, options.connections, options.size, options.seconds, options.warm, options.objects)
    )
    json.dump(result, sys.stdout)
    print()


if __name__ == "__main__":
    main()
