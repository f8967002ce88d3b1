"""Crowds: each client sends little, and they are many."""

from __future__ import annotations

import socket
from contextlib import suppress

from tests.attacks.floods import connected
from tests.attacks.registry import Target, attack
from tests.support.frames import PING, frame

CROWD = 700
"""Connections of each attacker."""
PINGS = frame(PING) * 60
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"


def _in_bursts(clients: list[socket.socket], burst: bytes, target: Target) -> None:
    """Send *burst* on all of them, read what has come, and begin again."""
    while target.goes_on:
        for client in clients:
            with suppress(BlockingIOError):
                client.send(burst, socket.MSG_DONTWAIT)
        for client in clients:
            with suppress(BlockingIOError):
                if not client.recv(1 << 16, socket.MSG_DONTWAIT):
                    return


@attack(f"60 pings on each of {CROWD} WebSockets at once, again and again")
def crowd_of_pings(target: Target) -> None:
    clients = [connected(target.port, f"/echo/evil{target.number}") for _ in range(CROWD)]
    _in_bursts(clients, PINGS, target)


@attack(f"a request on each of {CROWD} connections at once, again and again")
def crowd_of_requests(target: Target) -> None:
    clients = [socket.create_connection(("127.0.0.1", target.port), 10) for _ in range(CROWD)]
    _in_bursts(clients, REQUEST, target)


@attack("connects, and closes the connection, as often as it can")
def connects_and_closes(target: Target) -> None:
    while target.goes_on:
        socket.create_connection(("127.0.0.1", target.port), 10).close()
