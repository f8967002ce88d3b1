"""A client whose side of the TCP handshake is played by hand, on a network device of our own.

Run by ``test_listener`` in a network namespace of its own (``unshare -rn``): the kernel under test takes a SYN, a
listener begins to drain, and only then does the client say its last word. Prints ``ok``, or fails.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import subprocess
import sys
from functools import partial

from roost.router.clients.transport import begin_with_loop
from roost.router.http.half_open import half_open
from roost.router.http.listener import Listener

OURS, THEIRS = "10.99.99.1", "10.99.99.2"
SYN, ACK, PUSH = 0x02, 0x10, 0x08
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


class Client:
    """Packets from and to ``THEIRS``, on the device ``tun0``."""

    def __init__(self) -> None:
        self.device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self.device, TUNSETIFF, struct.pack("16sH", b"tun0", IFF_TUN | IFF_NO_PI))
        subprocess.run(["ip", "address", "add", f"{OURS}/24", "dev", "tun0"], check=True)
        subprocess.run(["ip", "link", "set", "tun0", "up"], check=True)

    def send(self, source: int, target: int, flags: int, seq: int, ack: int = 0, data: bytes = b"") -> None:
        ends = socket.inet_aton(THEIRS) + socket.inet_aton(OURS)
        segment = struct.pack(">HHIIBBHHH", source, target, seq, ack, 5 << 4, flags, 1000, 0, 0) + data
        check = _checksum(ends + struct.pack(">BBH", 0, socket.IPPROTO_TCP, len(segment)) + segment)
        segment = segment[:16] + struct.pack(">H", check) + segment[18:]
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(segment), 1, 0, 64, socket.IPPROTO_TCP, 0) + ends
        os.write(self.device, head[:10] + struct.pack(">H", _checksum(head)) + head[12:] + segment)

    def received(self) -> list[tuple[int, int, int]]:
        """Port, flags and sequence number of the TCP segments that have come since."""
        found = []
        while True:
            try:
                packet = os.read(self.device, 2000)
            except BlockingIOError:
                return found
            if packet[0] >> 4 == 4 and packet[9] == socket.IPPROTO_TCP:
                _, port, seq = struct.unpack_from(">HHI", packet, 20)
                found.append((port, packet[33], seq))


def _checksum(data: bytes) -> int:
    padded = data + bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


class Server(asyncio.Protocol):
    """Keeps what it hears."""

    heard: asyncio.Queue[bytes]

    def data_received(self, data: bytes) -> None:
        self.heard.put_nowait(data)


async def main() -> None:
    client = Client()
    Server.heard = asyncio.Queue()
    listener = Listener(OURS, 0)
    listener.start(partial(begin_with_loop, Server))
    port = listener.port
    client.send(40_001, port, SYN, 100)
    ((_, flags, seq),) = client.received()
    assert flags == SYN | ACK, flags
    assert len(half_open(port) or ()) == 1
    draining = asyncio.create_task(listener.drain(handed_on=False))
    await asyncio.sleep(0.2)
    assert not draining.done(), "a handshake is under way"
    client.send(40_002, port, SYN, 500)
    assert [one for one in client.received() if one[0] == 40_002] == [], "a new client is turned away, in silence"
    client.send(40_001, port, ACK, 101, seq + 1)
    client.send(40_001, port, ACK | PUSH, 101, seq + 1, b"hello")
    assert await asyncio.wait_for(Server.heard.get(), 5) == b"hello"
    await asyncio.wait_for(draining, 5)
    assert half_open(port) == frozenset()
    print("ok")


if __name__ == "__main__":
    asyncio.run(main())
    sys.exit(0)
