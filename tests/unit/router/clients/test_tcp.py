"""How far a client has come, as the system says it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

from roost.router.clients.tcp import output_of


class Transport:
    """As much of a transport as is looked at."""

    def __init__(self, sock: Any) -> None:
        self._socket = sock

    def get_extra_info(self, name: str) -> Any:
        assert name == "socket"
        return self._socket


def connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    return ours, client


def test_what_the_client_does_not_read_is_not_taken_and_what_it_reads_is() -> None:
    ours, client = connected()
    with ours, client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        ours.setblocking(False)
        written = 0
        try:
            while True:
                written += ours.send(bytes(1 << 16))
        except BlockingIOError:
            pass
        # Not at once: some is on its way between the two halves of the loopback.
        settled(lambda: sum(output_of(Transport(ours))) == written)
        assert output_of(Transport(ours))[1] > 0
        left = written
        while left:
            left -= len(client.recv(1 << 20))
        settled(lambda: output_of(Transport(ours)) == (written, 0))


def settled(is_so: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 5
    while not is_so():
        assert time.monotonic() < give_up_at
        time.sleep(0.001)


def test_what_is_no_tcp_or_over_has_taken_nothing() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert output_of(Transport(one)) == (0, 0)
    assert output_of(Transport(one)) == (0, 0)
    assert output_of(Transport(None)) == (0, 0)
