"""What writing directly to a client's socket relies on (router/clients/writers): a descriptor is closed only after
its protocol has heard ``connection_lost``. Else it could belong to another client already."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from roost.router.clients import transport as transports
from roost.router.clients.ready import Ready
from roost.router.clients.work import Work
from roost.router.http.listener import Listener
from tests.support.waiting import within


class Protocol(asyncio.BufferedProtocol):
    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(bytearray(100))

    def __init__(self) -> None:
        self.made: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()
        self.inode_at_end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.descriptor = -1
        self.inode = 0

    def connection_made(self, transport: Any) -> None:
        self.descriptor = transport.get_extra_info("socket").fileno()
        self.inode = os.fstat(self.descriptor).st_ino
        self.made.set_result(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.inode_at_end.set_result(os.fstat(self.descriptor).st_ino)


def reset(client: socket.socket, transport: asyncio.Transport) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def end(client: socket.socket, transport: asyncio.Transport) -> None:
    client.close()


def broken_write(client: socket.socket, transport: asyncio.Transport) -> None:
    transport.pause_reading()
    reset(client, transport)
    for _ in range(3):
        transport.write(b"to nobody")
    transport.resume_reading()


ENDS: list[Callable[[socket.socket, asyncio.Transport], None]] = [
    reset,
    end,
    broken_write,
    lambda client, transport: transport.abort(),
    lambda client, transport: transport.close(),
]


@pytest.mark.parametrize("by_loop", [0, 1], ids=["read by us", "read by the loop"])
@pytest.mark.parametrize("ending", ENDS, ids=["reset", "end", "broken write", "abort", "close"])
def test_a_descriptor_outlives_connection_lost(
    ending: Callable[[socket.socket, asyncio.Transport], None], by_loop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transports, "CLIENTS_OF_THE_LOOP", by_loop)

    async def main() -> None:
        accepted: asyncio.Future[Protocol] = asyncio.get_running_loop().create_future()

        def accept() -> Protocol:
            accepted.set_result(Protocol())
            return accepted.result()

        listener, loop = Listener("127.0.0.1", 0), asyncio.get_running_loop()
        ready, work = Ready(time.monotonic), Work(lambda: None, time.monotonic)
        ready.start(loop)
        with contextlib.closing(ready), contextlib.closing(listener):
            listener.start(transports.Transports(loop, ready, work, accept).begin)
            with socket.create_connection(("127.0.0.1", listener.port)) as client:
                protocol = await within("the connection", accepted)
                ending(client, await within("the transport", protocol.made))
                assert await within("the end", protocol.inode_at_end) == protocol.inode

    uvloop.run(main())
