"""How much one read of a client's socket may bring."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
import uvloop

from roost.router.clients.reads import BUSY_BYTES, LEAST_BYTES, MOST_BYTES, Reads
from tests.support.waiting import until
from tests.unit.router.fakes import World, client_frame

FREELY = 1 << 20


def test_reads_are_large_as_long_as_little_waits() -> None:
    reads = Reads(FREELY)
    reads.fit(FREELY - 1, 1_000_000)
    assert len(reads.get_buffer(65_536)) == reads.size == MOST_BYTES


@pytest.mark.parametrize(("connections", "size"), [(0, MOST_BYTES), (8, 1 << 17), (9, 1 << 16), (10_000, LEAST_BYTES)])
def test_beyond_that_all_together_bring_no_more_than_may_wait_freely(connections: int, size: int) -> None:
    reads = Reads(FREELY)
    assert len(reads.get_buffer(65_536)) == MOST_BYTES
    reads.fit(FREELY, connections)
    assert reads.size == size
    assert {len(reads.get_buffer(suggested)) for suggested in (-1, 65_536, 65_536)} == {size}
    assert size == LEAST_BYTES or connections * size <= FREELY or connections < 2
    reads.fit(0, connections)
    assert len(reads.get_buffer(65_536)) == MOST_BYTES


def test_a_busy_router_brings_no_more_than_an_even_share_either() -> None:
    reads = Reads(FREELY)
    reads.fit(0, 1, busy=True)
    assert len(reads.get_buffer(65_536)) == BUSY_BYTES
    reads.fit(FREELY, 1 << 8, busy=True)
    assert len(reads.get_buffer(65_536)) == FREELY >> 8


def test_what_was_read_is_copied_out_of_the_buffer() -> None:
    world = World()
    client = world.connect()[0]
    for message in (b"hello", b"world"):
        frame = client_frame(2, message)
        client.get_buffer(-1)[: len(frame)] = frame
        client.buffer_updated(len(frame))
    assert [event[0] for event in client.window.events.values()] == [b"hello", b"world"]


def test_unfinished_messages_make_reads_small_and_their_ends_large_again() -> None:
    world = World(all_windows_bytes=32 << 20)
    clients = [world.connect(max_size=4 << 20)[0] for _ in range(20)]
    begun = client_frame(2, bytes(100_000), fin=False)
    for client in clients:
        client.data_received(begun)
    assert world.shared.reads.size < MOST_BYTES
    for client in clients:
        client.connection_lost(None)
    world.run()
    world.shared.on_tick()
    assert world.shared.reads.size == MOST_BYTES


def test_reads_are_small_while_work_of_clients_is_left_over() -> None:
    world = World()
    flooding, other = world.connect()[0], world.connect()[0]
    sent = client_frame(9, b"") * (BUSY_BYTES // 6)
    flooding.data_received(sent)
    world.run()
    assert world.shared.reads.size == BUSY_BYTES, "who floods reads on"
    world.shared.on_tick()
    assert world.shared.reads.size == MOST_BYTES
    flooding.data_received(sent)
    world.run()
    other.data_received(client_frame(2, bytes(100), fin=False))
    assert world.shared.reads.size == MOST_BYTES, "as does anybody, but for the first read"


def test_a_transport_reads_no_more_than_the_buffer_that_it_was_given_last() -> None:
    """uvloop's, which routers run on; also when its protocol was another before, as with each WebSocket."""
    reads = Reads(FREELY)

    class Second:
        got: list[int]
        get_buffer = reads.get_buffer

        def buffer_updated(self, count: int) -> None:
            self.got.append(count)
            reads.fit(FREELY, 16)

        def connection_lost(self, error: Exception | None) -> None: ...
        def eof_received(self) -> None: ...

    second = Second()
    second.got = []

    class First(asyncio.BufferedProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport: Any = transport

        def get_buffer(self, sizehint: int) -> memoryview:
            return reads.get_buffer(sizehint)

        def buffer_updated(self, nbytes: int) -> None:
            second.got.append(nbytes)
            self.transport.set_protocol(second)
            reads.fit(FREELY, 32)

    async def run() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.setblocking(False)
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_connection(First, sock=ours)
            await loop.sock_sendall(theirs, b"x")
            await until("the first byte", lambda: len(second.got) == 1)
            data = bytes(1 << 20)
            sending = asyncio.create_task(loop.sock_sendall(theirs, data))
            await until("all that was sent", lambda: sum(second.got) == 1 + len(data))
            await sending
            transport.abort()
        sizes = second.got[1:]
        assert max(sizes[:1]) <= FREELY // 32
        assert max(sizes[1:]) <= FREELY // 16

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
