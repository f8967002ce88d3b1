"""The server of the admin API: what a connection may cost, whoever it is."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from roost.deploy.supervisor import admin_server
from roost.deploy.supervisor.admin_server import MAX_CONNECTIONS, MAX_HEAD_BYTES, AdminServer
from tests.support.client import RawClient
from tests.support.waiting import until, within

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
LARGE = 1 << 20


async def app(scope: object, receive: object, send: object) -> None:
    """Answers everything with a megabyte."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % LARGE)]})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b"x" * LARGE})  # type: ignore[operator]


@pytest.fixture
async def server() -> AsyncIterator[AdminServer]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = AdminServer(app)
    serving = asyncio.ensure_future(server.run_on(listening))
    await until("the server to serve", lambda: server.started)
    yield server
    server.should_exit = True
    await serving


def port_of(server: AdminServer) -> int:
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port


async def answer(client: RawClient) -> bytes:
    return await within("an answer", client.reader.readuntil(b"\r\n\r\n"), 10)


async def ended(client: RawClient) -> None:
    async def read() -> None:
        try:
            while await client.reader.read(1 << 16):
                pass
        except ConnectionError:
            pass

    await within("the end of the connection", read(), 10)


@pytest.mark.parametrize(
    "unit", [b"a" * 1000, b"ab: cd\r\n" * 100, b"\r\n"], ids=["one long field", "many fields", "blank lines"]
)
async def test_a_head_has_a_bound(server: AdminServer, unit: bytes) -> None:
    """Fields without an end: 293 MB of them were 5.9 GB at the supervisor."""
    async with await RawClient.open(port_of(server)) as client:
        client.writer.write(GET[:-2] if unit != b"\r\n" else b"")
        try:
            for _ in range(20 * MAX_HEAD_BYTES // len(unit)):
                client.writer.write(unit)
                await client.writer.drain()
        except ConnectionError:
            return
        if unit != b"\r\n":  # those are dropped as they come
            assert b" 400 " in await answer(client)


async def test_what_is_pipelined_is_not_read(server: AdminServer) -> None:
    """One client's requests, whose answers it did not read, were 2 GB after 15 s."""
    async with await RawClient.open(port_of(server)) as client:
        transport = client.writer.transport
        transport.pause_reading()  # type: ignore[attr-defined]
        sent = 0
        while transport.get_write_buffer_size() < 1 << 20 and sent < 64 << 20:
            client.writer.write(GET * 1000)
            sent += len(GET) * 1000
            await asyncio.sleep(0)
        (connection,) = server.server_state.connections
        assert len(connection.conn._receive_buffer) < 1 << 20
        transport.abort()


async def test_who_sends_no_request_is_ended(server: AdminServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_server, "EXCHANGE_S", 0.2)
    async with await RawClient.open(port_of(server)) as idle, await RawClient.open(port_of(server)) as slow:
        slow.writer.write(GET[:10])
        await asyncio.gather(ended(idle), ended(slow))
    await until("all to be gone", lambda: not server.server_state.connections)


async def test_who_does_not_take_a_response_is_ended(server: AdminServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_server, "EXCHANGE_S", 0.2)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", port_of(server)))
        await loop.sock_sendall(client, GET * 64)
        await until("the connection to be made", lambda: bool(server.server_state.connections))
        await until("it to be gone", lambda: not server.server_state.connections)


async def test_there_are_so_many_connections_and_the_newest_are_served(server: AdminServer) -> None:
    async with AsyncExitStack() as opened:
        idle = [
            await opened.enter_async_context(await RawClient.open(port_of(server))) for _ in range(2 * MAX_CONNECTIONS)
        ]
        assert len(server.server_state.connections) <= MAX_CONNECTIONS
        client = await opened.enter_async_context(await RawClient.open(port_of(server)))
        client.writer.write(GET)
        assert b" 200 " in await answer(client)
        await asyncio.gather(*(ended(each) for each in idle[:MAX_CONNECTIONS]))


async def test_nobody_fills_the_log(server: AdminServer, caplog: pytest.LogCaptureFixture) -> None:
    for nonsense in (b"nonsense\r\n\r\n", GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"):
        async with await RawClient.open(port_of(server)) as client:
            client.writer.write(nonsense)
            await answer(client)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
