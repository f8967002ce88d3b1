"""Ports for servers of tests, which nobody else is given: neither another test that runs beside this one nor a client.

A port that the kernel hands out for port 0 lies where it also takes the ports of outgoing connections from: between
the question and the server's ``bind``, a client of another test may have it. So ports are taken from below that
range, and a process that was given one holds its number (as the name of a socket in Linux's abstract namespace) until
it ends.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

_LOWEST = 10_000
_TRIES = 1_000
_held: dict[int, socket.socket] = {}


def free_port() -> int:
    """A port of 127.0.0.1 at which nobody listens, and which no other call has been given, in any process that lives.

    Raises:
        AssertionError: 1,000 ports were tried and each is in use.
    """
    highest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]) - 1
    for _ in range(_TRIES):
        port = random.SystemRandom().randint(_LOWEST, max(_LOWEST, highest))
        if port in _held:
            continue
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0roost-tests-port-{port}")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what has ended does not count
                probe.bind(("127.0.0.1", port))
        except OSError:
            name.close()
            continue
        _held[port] = name
        return port
    raise AssertionError(f"{_TRIES} ports from {_LOWEST} to {highest} were tried, and each is in use")
