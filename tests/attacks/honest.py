"""No attacks: as much honest traffic as some of them make, to compare a neighbour's p99 with. No goals hold for it."""

from __future__ import annotations

import selectors
import socket
from contextlib import suppress

from tests.attacks.crowds import CROWD
from tests.attacks.floods import connected
from tests.attacks.registry import Target, attack
from tests.support.frames import TEXT, frame

MESSAGE = frame(TEXT, "x" * 64)
ANSWER_BYTES = 2 + 64
UNDER_WAY = 100
"""Messages of a busy client that are not answered yet."""


def echo(target: Target, paths: list[str], under_way: int) -> None:
    """Have *under_way* messages under way on each of some WebSockets: one follows when an answer has come."""
    with selectors.DefaultSelector() as ready:
        for path in paths:
            client = connected(target.port, path)
            client.setblocking(False)
            ready.register(client, selectors.EVENT_READ)
            client.send(MESSAGE * under_way)
        came = dict.fromkeys(ready.get_map(), 0)
        while target.goes_on:
            for key, _ in ready.select(0.1):
                client = key.fileobj
                assert isinstance(client, socket.socket)
                with suppress(BlockingIOError):
                    came[key.fd] += len(client.recv(1 << 16))
                    answers, came[key.fd] = divmod(came[key.fd], ANSWER_BYTES)
                    client.send(MESSAGE * answers)


@attack(f"{CROWD} WebSockets of an object, a message of 64 bytes on each whenever the last is answered", honest=True)
def honest_crowd(target: Target) -> None:
    echo(target, [f"/echo/busy{target.number}"] * CROWD, 1)


@attack(f"a WebSocket with {UNDER_WAY} messages of 64 bytes under way, always", honest=True)
def honest_few(target: Target) -> None:
    echo(target, [f"/echo/busy{target.number}"], UNDER_WAY)
