"""Which TCP handshakes at a port have begun and not ended, as the kernel tells over its ``sock_diag`` netlink socket.

The request is ``inet_diag_req_v2`` of ``linux/inet_diag.h`` behind a netlink head, the answers are ``inet_diag_msg``::

    nlmsghdr          length u32, type u16, flags u16, sequence u32, pid u32
    inet_diag_req_v2  family u8, protocol u8, extensions u8, padding u8, states u32, socket id
    inet_diag_msg     family u8, state u8, timer u8, retransmits u8, socket id, …
    socket id         source port be16, destination port be16, source 16 B, destination 16 B, interface u32, cookie u64
"""

from __future__ import annotations

import socket
import struct

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST_DUMP = 0x301
_SYN_RECV = 1 << 3
_HEAD = struct.Struct("=IHHII")
_ID_BYTES = 48
_ID_AT = _HEAD.size + 4
_WAIT_S = 0.1


def half_open(port: int) -> frozenset[bytes] | None:
    """The handshakes at *port*, of this process and all others, that wait for their client's last word.

    Returns:
        What tells each from all others; ``None`` where the system does not say.
    """
    try:
        return frozenset().union(*(_ask(family, port) for family in (socket.AF_INET, socket.AF_INET6)))
    except OSError:
        return None


def _ask(family: int, port: int) -> set[bytes]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_WAIT_S)
        wanted = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, _SYN_RECV)
        wanted += struct.pack(">H", port) + bytes(_ID_BYTES - 2)
        kernel.sendall(_HEAD.pack(_HEAD.size + len(wanted), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + wanted)
        found: set[bytes] = set()
        while _take(kernel.recv(1 << 16), found):
            pass
    return found


def _take(data: bytes, found: set[bytes]) -> bool:
    """Read one datagram of answers; returns whether more come."""
    at = 0
    while at + _HEAD.size <= len(data):
        length, kind, _, _, _ = _HEAD.unpack_from(data, at)
        if kind == _NLMSG_ERROR:
            raise OSError("the system does not tell of its sockets")
        if kind == _NLMSG_DONE or length < _HEAD.size:
            return False
        found.add(data[at + _ID_AT : at + _ID_AT + _ID_BYTES])
        at += (length + 3) & ~3
    return True
