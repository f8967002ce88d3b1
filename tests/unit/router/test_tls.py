"""A client that speaks TLS: nothing is ever written past what encrypts."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop
from websockets.frames import Opcode

from roost.common.settings.router import RouterConfig
from roost.common.wire.records import AcceptMode, HttpRequest
from roost.router.clients.tcp import output_of
from roost.router.formats.frames import close_frame, data_frame
from roost.router.http.connection import protocol_factory
from roost.router.http.front import Front
from tests.support.waiting import DEADLINE_S, until
from tests.unit.router.fakes import NAMESPACE, World, accepted, client_frame, close
from tests.unit.router.rig import Rig, cluster, shard

UPGRADE = (
    f"GET /{NAMESPACE}/lobby HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's that need no certificate: nobody's identity matters here."""
    both = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context in both:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("AECDH-AES256-SHA:@SECLEVEL=0")
    both[1].check_hostname = False
    both[1].verify_mode = ssl.CERT_NONE
    return both


class Port:
    """A router's port that encrypts, with a client of it."""

    def __init__(self) -> None:
        self.rig = Rig(world=World(output_of=output_of))
        self.rig.take_map(cluster(1, shard(1)))
        world = self.rig.world
        self.front = Front(RouterConfig(name="r1"), world.shared, self.rig.forwarding, lambda: world.now)
        self.front.take_map(cluster(1, shard(1)))
        self.rig.links[1].take()
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def open(self) -> None:
        ours, theirs = contexts()
        server = await asyncio.get_running_loop().create_server(protocol_factory(self.front), "127.0.0.1", 0, ssl=ours)
        port = server.sockets[0].getsockname()[1]
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port, ssl=theirs)
        server.close()

    async def heard(self) -> list[tuple[Any, ...]]:
        """What the shard is told next."""
        heard: list[tuple[Any, ...]] = []

        def hears() -> bool:
            heard.extend(self.rig.links[1].take())
            return bool(heard)

        await until("the shard to be told something", hears)
        return heard

    async def asked(self) -> HttpRequest:
        """What the shard is asked next."""
        request: HttpRequest = (await self.heard())[0][1]
        return request

    def is_free(self) -> bool:
        """Whether nobody is there any more."""
        return not (self.front.open or self.rig.world.shared.connections.all())


def speaking(loop: Callable[[], asyncio.AbstractEventLoop], talk: Callable[[Port], Awaitable[None]]) -> None:
    async def talks() -> None:
        port = Port()
        async with asyncio.timeout(DEADLINE_S):
            await port.open()
            try:
                await talk(port)
                port.writer.close()
                await until("the client to be gone", port.is_free)
            finally:
                # Also when that has failed: uvloop never ends the closing of a loop with a TLS transport that is open.
                port.writer.transport.abort()
                with contextlib.suppress(OSError):
                    await port.writer.wait_closed()
                with contextlib.suppress(AssertionError):  # what has failed is to be said, not this
                    await until("the router's side to be gone", port.is_free, 1.0)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(talks())


LOOPS = pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])


@LOOPS
def test_a_websocket(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def talk(port: Port) -> None:
        rig = port.rig
        port.writer.write(UPGRADE)
        request = await port.asked()
        assert request.url == f"https://h/{NAMESPACE}/lobby"
        rig.receiver(1).response(accepted(AcceptMode.HIBERNATABLE, request.request))
        assert (await port.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        (connection,) = rig.world.shared.connections.all()
        for size in (1, 1_000, 10_000):
            rig.world.pass_time(1.0)  # what was given to the transport lies far behind
            payload = bytes(size)
            rig.receiver(1).send([connection.number], payload, True)
            assert await port.reader.readexactly(len(data_frame(payload, True))) == data_frame(payload, True)
        port.writer.write(client_frame(Opcode.TEXT, b"hello"))
        assert (await port.heard())[0][4] == "hello"
        connection.close(1001, "the router is ending")
        assert await port.reader.readexactly(4 + 20) == close_frame(1001, "the router is ending")
        port.writer.write(close(1001))
        assert await port.reader.read() == b""
        rig.receiver(1).acknowledge([connection.number], [1], [2])

    speaking(loop, talk)


@LOOPS
def test_a_client_that_breaks_the_protocol_hears_why(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Our side cannot end alone: its Close ends TCP, or the deadline does."""

    async def talk(port: Port) -> None:
        rig = port.rig
        port.writer.write(UPGRADE)
        request = await port.asked()
        rig.receiver(1).response(accepted(AcceptMode.HIBERNATABLE, request.request))
        await port.reader.readuntil(b"\r\n\r\n")
        (connection,) = rig.world.shared.connections.all()
        port.writer.write(b"\x81\x01x")
        reason = "a client's frames must be masked"
        assert await port.reader.readexactly(4 + len(reason)) == close_frame(1002, reason)
        rig.world.pass_time(60.0)
        assert await port.reader.read() == b""
        rig.receiver(1).acknowledge([connection.number], [1], [1])

    speaking(loop, talk)


@LOOPS
def test_a_request_that_is_refused(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def talk(port: Port) -> None:
        port.writer.write(b"nonsense\r\n\r\n")
        assert (await port.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        port.rig.world.pass_time(60.0)
        assert b"\r\n\r\n" not in await port.reader.read()

    speaking(loop, talk)
