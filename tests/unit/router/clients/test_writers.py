"""Which way frames go to a client: directly to its socket, or through the transport, and never past each other."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from roost.router.clients.timers import TICK_S
from roost.router.clients.writers import NOWHERE, DirectWriter, TlsWriter, TransportWriter, writer_of
from roost.router.websocket.connection import Connection
from tests.unit.router.fakes import FakeTransport, World

TURNS_S = 2 * TICK_S
"""After so long there has been a whole turn of the loop."""


class Client:
    """A connection with a socket, of which the test holds the other end."""

    def __init__(self) -> None:
        self.world = World()
        here, self.end = socket.socketpair()
        for each in (here, self.end):
            each.setblocking(False)
        here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.here = here
        self.connection: Connection
        self.transport: FakeTransport
        self.connection, self.transport = self.world.connect(socket=here)

    def received(self) -> bytes:
        parts = []
        try:
            while part := self.end.recv(1 << 16):
                parts.append(part)
        except BlockingIOError:
            pass
        return b"".join(parts)

    def fill(self) -> int:
        """Write directly until the socket takes no more; returns how much the transport got of it."""
        while not self.transport.written:
            self.connection.writer.write(b"x" * 1000)
        return len(self.transport.take())


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client()
    with client.here, client.end:
        yield client


def test_first_through_the_transport_which_has_the_handshake_then_directly(client: Client) -> None:
    client.connection.writer.write(b"one")
    client.world.pass_time(TICK_S)
    client.connection.writer.write(b"two")
    assert client.transport.take() == b"onetwo"
    client.world.pass_time(TURNS_S)
    client.connection.writer.write(b"three")
    assert (client.transport.take(), client.received()) == (b"", b"three")


def test_not_directly_while_the_transport_has_something_to_send(client: Client) -> None:
    client.transport.taken = False
    client.connection.writer.write(b"one")
    client.world.pass_time(1.0)
    client.connection.writer.write(b"two")
    client.transport.drain()
    client.connection.writer.write(b"three")
    assert client.transport.take() == b"onetwothree", "what was just given to it may not even be counted"
    client.transport.drain()
    client.world.pass_time(TURNS_S)
    client.connection.writer.write(b"four")
    assert (client.transport.take(), client.received()) == (b"", b"four")


def test_what_the_socket_does_not_take_goes_through_the_transport_and_so_does_the_next(client: Client) -> None:
    client.world.pass_time(TURNS_S)
    rest = client.fill()
    client.connection.writer.write(b"behind")
    assert client.transport.take() == b"behind"
    assert 0 < rest <= 1000
    assert (len(client.received()) + rest) % 1000 == 0
    client.world.pass_time(TURNS_S)
    client.connection.writer.write(b"again")
    assert client.received() == b"again"


def test_a_large_frame_of_which_a_part_is_sent_is_not_copied_for_each_client(client: Client) -> None:
    client.world.pass_time(TURNS_S)
    frame = bytes(1 << 20)
    client.connection.writer.write(frame)
    (rest,) = client.transport.written
    assert isinstance(rest, memoryview)
    assert rest.obj is frame
    assert len(client.received()) + len(rest) == len(frame)


def test_a_broken_connection_is_the_transports_to_find(client: Client) -> None:
    client.world.pass_time(TURNS_S)
    client.end.close()
    client.connection.writer.write(b"hello")
    assert client.transport.take() == b"hello"


def test_nothing_goes_to_the_descriptor_once_tcp_is_over(client: Client) -> None:
    """It may belong to another client by then."""
    client.world.pass_time(TURNS_S)
    client.connection.connection_lost(None)
    assert client.connection.writer is NOWHERE
    assert not client.connection.writable


def test_without_a_socket_all_goes_through_the_transport() -> None:
    world = World()
    connection, transport = world.connect()
    world.pass_time(1.0)
    connection.writer.write(b"hello")
    assert transport.take() == b"hello"


def test_what_encrypts_is_never_passed_by(client: Client) -> None:
    """Its transport has a socket, too: that below TLS."""
    transport = FakeTransport()
    transport.socket, transport.tls = client.here, object()
    writer = writer_of(transport, client.world.shared.turns)
    client.world.pass_time(TURNS_S)
    writer.write(b"hello")
    writer.write_pieces([b"in ", b"pieces"])
    assert (transport.take(), client.received()) == (b"helloin pieces", b"")
    writer.half_close()
    assert not transport.closed, "its client ends first, or a deadline comes"


def test_the_transport_says_which_writer_it_is(client: Client) -> None:
    plain, bare, encrypting = FakeTransport(), FakeTransport(), FakeTransport()
    plain.socket, encrypting.tls = client.here, object()
    writers = [writer_of(each, client.world.shared.turns) for each in (plain, bare, encrypting)]
    assert [(type(each), each.scheme) for each in writers] == [
        (DirectWriter, "http"),
        (TransportWriter, "http"),
        (TlsWriter, "https"),
    ]
    for each in writers:
        each.half_close()
    assert [each.eof for each in (plain, bare, encrypting)] == [True, True, False]


@pytest.mark.parametrize("directly", [True, False])
def test_while_somebody_watches_all_that_is_given_to_the_transport_is_told(client: Client, directly: bool) -> None:
    transport = FakeTransport()
    transport.socket = client.here if directly else None
    writer = writer_of(transport, client.world.shared.turns)
    told: list[object] = []
    writer.write(b"before")
    writer.watch = told.append
    writer.write(b"one")
    writer.write_pieces([b"two", b"three"])
    writer.watch = None
    writer.write(b"behind")
    assert told == [(b"one",), [b"two", b"three"]]
