"""What the system knows of a client's TCP: how far the client has come with what was written to it, and whether
something has come that nobody has read."""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios
from typing import Any, Protocol

_BYTES_ACKED = struct.Struct("=Q")
_BYTES_ACKED_AT = 120
"""Where ``tcpi_bytes_acked`` stands in Linux's ``struct tcp_info``, from Linux 4.1 on."""
_COUNT = struct.Struct("=i")


class HasSocket(Protocol):
    """What is needed of a transport."""

    def get_extra_info(self, name: str) -> Any: ...


def output_of(transport: HasSocket) -> tuple[int, int]:
    """How far a client has come with what was written to it. 4 µs.

    Returns:
        Bytes that the client's system has confirmed since the connection began, and bytes that this system has and
        the client's has not confirmed; 0 and 0 for what is not TCP, or over.
    """
    sock = transport.get_extra_info("socket")
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED_AT + _BYTES_ACKED.size)
        taken = _BYTES_ACKED.unpack_from(info, _BYTES_ACKED_AT)[0]
        return taken, _COUNT.unpack(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(_COUNT.size)))[0]
    except (OSError, AttributeError, struct.error):
        return 0, 0


def has_unread(transport: HasSocket) -> bool:
    """Whether the system has received bytes of a client, or its end, that the loop has not given to the protocol."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return False
    look = select.poll()
    look.register(sock.fileno(), select.POLLIN)
    return bool(look.poll(0))
