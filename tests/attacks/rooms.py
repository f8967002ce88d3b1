"""Clients of one object, each of whose messages becomes one for each of the others."""

from __future__ import annotations

import selectors
import socket
from contextlib import suppress

from tests.attacks.floods import connected
from tests.attacks.registry import Bound, Target, attack
from tests.support.frames import TEXT, frame

SOCKETS = 400
"""Of each attacker."""
AT_ONCE = 16
"""Messages that each of them sends."""


@attack(
    "400 sockets of one room each, which all talk and read",
    bound=Bound("router", 64 << 20, "output that waits to be written"),
    seconds=8.0,
)
def room_that_talks(target: Target) -> None:
    clients: list[socket.socket] = []
    try:
        with selectors.DefaultSelector() as ready:
            for _ in range(SOCKETS):
                clients.append(client := connected(target.port, "/room/evil"))
                client.setblocking(False)
                ready.register(client, selectors.EVENT_READ)
            while target.goes_on:
                for client in clients:
                    with suppress(BlockingIOError):
                        client.send(frame(TEXT, "hello") * AT_ONCE)
                for key, _ in ready.select(0.1):
                    assert isinstance(key.fileobj, socket.socket)
                    with suppress(BlockingIOError):
                        key.fileobj.recv(1 << 20)
    finally:
        for client in clients:
            client.close()
