"""What one client costs the others in time: floods of whatever is small, and a neighbour that is served meanwhile.

``deploy/docs/security.md`` has figures. Here the machine may be busy, and the bounds are wide: most of these floods
once made the neighbour wait for seconds.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest

from roost.shard import DurableObject, Request, Response, WebSocket, WebSocketPair, WebSocketRequestResponsePair
from tests.cluster import Cluster
from tests.raw_client import BINARY, CONTINUATION, PING, PONG, TEXT, RawClient, frame, upgrade_head
from tests.waiting import until, within

FLOOD_S = 1.0
"""Seconds of each flood: several hundred turns of the loop."""
WORST_S = 0.4
"""Seconds for the neighbour's slowest echo, and for the longest turn."""
ATTACKERS = 3


class Echo(DurableObject):
    """Sends each message back, and answers ``ping`` without being woken."""

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        ctx.set_web_socket_auto_response(WebSocketRequestResponsePair("ping", "pong"))

    async def fetch(self, request: Request) -> Response:
        if request.headers.get("upgrade") != "websocket":
            return Response("here")
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server)
        return Response(None, status=101, web_socket=client)

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        ws.send(message)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(__name__) as cluster:
        yield cluster


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


def connected(port: int, path: str) -> socket.socket:
    """A WebSocket, as a plain socket."""
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    client.sendall(upgrade_head(path).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(1)
    assert head.startswith(b"HTTP/1.1 101"), head
    return client


def attack(port: int, what: str, reads: bool, until_s: float) -> None:
    """Send as fast as the router takes it; when it closes, begin anew."""
    first, unit = FLOODS[what]
    chunk = unit * ((1 << 18) // len(unit))
    is_http = b"HTTP" in first + unit
    while time.monotonic() < until_s:
        with suppress(OSError):
            client = socket.create_connection(("127.0.0.1", port), 10) if is_http else connected(port, "/echo/evil")
            with closing(client):
                client.settimeout(0.2)
                client.sendall(first)
                while time.monotonic() < until_s:
                    with suppress(TimeoutError):
                        client.send(chunk)
                    if reads:
                        with suppress(BlockingIOError):
                            if not client.recv(1 << 20, socket.MSG_DONTWAIT):
                                break


async def echoes(client: RawClient, until_s: float) -> list[float]:
    """Seconds that each of the neighbour's messages took."""
    took = []
    while time.monotonic() < until_s:
        began = time.monotonic()
        await client.send(frame(TEXT, "neighbour"))
        await client.expect(TEXT, "neighbour")
        took.append(time.monotonic() - began)
        await asyncio.sleep(0.002)
    return took


async def neighbour_of(cluster: Cluster, attacks: list[threading.Thread], until_s: float) -> list[float]:
    async with await RawClient.open(cluster.port) as client:
        await client.handshake("/echo/neighbour")
        for each in attacks:
            each.start()
        took = await within("the neighbour's echoes", echoes(client, until_s), 30)
        for each in attacks:
            await asyncio.to_thread(each.join, 10)
    return took


ANSWERED = ("pings", "requests for automatic responses", "pipelined requests")


@pytest.mark.parametrize(("what", "reads"), [*((what, True) for what in FLOODS), *((what, False) for what in ANSWERED)])
async def test_a_flood_of_what_is_small_does_not_keep_others_waiting(cluster: Cluster, what: str, reads: bool) -> None:
    before, until_s = await cluster.published(), time.monotonic() + FLOOD_S
    attacks = [threading.Thread(target=attack, args=(cluster.port, what, reads, until_s)) for _ in range(ATTACKERS)]
    took = await neighbour_of(cluster, attacks, until_s)
    assert len(took) > 10, "the neighbour was hardly served"
    assert max(took) < WORST_S
    after = await cluster.published()
    assert after["longest_turn_us"] <= max(before["longest_turn_us"], WORST_S * 1e6)
    assert after["defects"] == 0
    await until("the attackers to be gone", lambda: cluster.counters()["http_connections"] == 0)


async def test_every_request_of_a_long_pipeline_is_answered(cluster: Cluster) -> None:
    """Whether it is for the router, for an object, or offers a protocol that we do not speak."""
    count = 200
    unit = b"".join(
        b"GET %s HTTP/1.1\r\nHost: h\r\n%s\r\n" % (path, more)
        for path in (b"/healthz", b"/echo/x")
        for more in (b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n")
    )
    async with await RawClient.open(cluster.port) as client:
        client.writer.write(unit * count)
        for _ in range(4 * count):
            assert (await client.response()).status == 200
