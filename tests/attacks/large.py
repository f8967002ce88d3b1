"""Payloads of many megabytes: what an object makes of few bytes, and what a client sends."""

from __future__ import annotations

import selectors
import socket
from contextlib import suppress

from tests.attacks.floods import connected
from tests.attacks.registry import Bound, Target, attack
from tests.support.frames import TEXT, frame

MIB = 1 << 20
LARGE = Bound("router", 256 * MIB, "one message of any size")


def take(target: Target, *clients: socket.socket, size: int) -> None:
    """Read *size* bytes from each, as fast as they come; one that ends before is passed over."""
    left = dict.fromkeys(clients, size)
    buffer = bytearray(MIB)
    with selectors.DefaultSelector() as ready:
        for client in clients:
            ready.register(client, selectors.EVENT_READ)
        while left and target.goes_on:
            for key, _ in ready.select(0.1):
                client = key.fileobj
                assert isinstance(client, socket.socket)
                count = client.recv_into(buffer)
                left[client] -= count
                if not count or left[client] <= 0 or buffer.startswith(b"HTTP/1.1 5"):
                    ready.unregister(client)
                    del left[client]


@attack("asks an object for a message of 200 MB, and reads it, again and again", bound=LARGE, attackers=1)
def large_message(target: Target) -> None:
    with connected(target.port, "/big/evil") as client:
        while target.goes_on:
            client.sendall(frame(TEXT, "1 200000000"))
            take(target, client, size=200_000_010)


@attack("asks an object for 100 messages of 2 MB, and reads them, again and again", bound=LARGE, attackers=1)
def large_messages(target: Target) -> None:
    with connected(target.port, "/big/evil") as client:
        while target.goes_on:
            client.sendall(frame(TEXT, "100 2000000"))
            take(target, client, size=100 * 2_000_010)


@attack(
    "asks an object 60 times at once for a response of 35 MB, and reads what comes, again and again",
    bound=Bound("shard", 512 * MIB, "`all_held_bytes`"),
    attackers=1,
)
def large_responses(target: Target) -> None:
    clients = []
    try:
        for _ in range(60):
            clients.append(client := socket.create_connection(("127.0.0.1", target.port), 30))
            client.sendall(b"GET /big/evil?size=35000000 HTTP/1.1\r\nHost: roost\r\n\r\n")
        take(target, *clients, size=35_000_000)
    finally:
        for client in clients:
            client.close()


@attack("sends messages of 32 MiB to an object, which says how long they are", bound=LARGE, attackers=1)
def large_input(target: Target) -> None:
    _say(target, "x" * (32 * MIB))


@attack("sends texts of 32 MiB with one emoji to an object, which says how long they are", bound=LARGE, attackers=1)
def wide_input(target: Target) -> None:
    _say(target, "x" * (32 * MIB - 4) + "\N{GRINNING FACE}")


def _say(target: Target, message: str) -> None:
    data = frame(TEXT, message)
    with connected(target.port, "/big/evil") as client, suppress(TimeoutError):
        while target.goes_on:
            client.sendall(data)
            client.recv(100)
