"""Requests with heads that cost far more to read than to send."""

from __future__ import annotations

import socket
from contextlib import closing

from tests.attacks.registry import Target, attack
from tests.support.frames import upgrade_head

LONG = 60_000
UPGRADE = upgrade_head("/echo/evil").encode()[:-2]


def again_and_again(target: Target, request: bytes) -> None:
    """Send *request* on a connection of its own each time, and read what comes."""
    while target.goes_on:
        with closing(socket.create_connection(("127.0.0.1", target.port), 10)) as client:
            client.sendall(request)
            while client.recv(1 << 16):
                if request.startswith(UPGRADE):
                    break  # a 101, or a refusal


@attack("upgrades that offer 20,000 subprotocols")
def subprotocols(target: Target) -> None:
    again_and_again(target, UPGRADE + b"Sec-WebSocket-Protocol: " + b"a, " * (LONG // 3) + b"b\r\n\r\n")


@attack("upgrades with 30,000 elements in Connection")
def connection_options(target: Target) -> None:
    again_and_again(target, UPGRADE + b"Connection: " + b"a," * (LONG // 2) + b"b\r\n\r\n")


@attack("requests of RTSP with targets of 60 kB, each another one")
def rtsp_targets(target: Target) -> None:
    number = 0
    while target.goes_on:
        number += 1
        with closing(socket.create_connection(("127.0.0.1", target.port), 10)) as client:
            path = b"/%d/%d/" % (target.number, number) + b"x" * LONG
            client.sendall(b"GET " + path + b" RTSP/1.0\r\nHost: h\r\n\r\n")
            client.recv(1 << 16)


@attack("refused requests with 30,000 elements in Accept, pipelined")
def accepts(target: Target) -> None:
    request = b"GET /none/x HTTP/1.1\r\nHost: h\r\nAccept: " + b"a," * (LONG // 2) + b"b\r\n\r\n"
    with closing(socket.create_connection(("127.0.0.1", target.port), 10)) as client:
        while target.goes_on:
            client.sendall(request * 8)
            for _ in range(8):
                client.recv(1 << 16)
