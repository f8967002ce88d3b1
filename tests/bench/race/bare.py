"""The limit in Python: ``epoll``, ``socket.recv`` and ``socket.send``, and next to no protocol.

It answers the handshake of RFC 6455, finds the ends of short text frames, and that is all: no pings, no fragments, no
buffers for slow clients, no objects. A path that begins with ``/cast`` gets a server that sends each message to all of
its connections, in a loop of ``socket.send`` of one frame; any other path gets its messages back. What is slower than
this pays for what this lacks.

Several processes share the port (``SO_REUSEPORT``), as roost's routers do; what is to be sent to all travels to the
others over socket pairs::

    python tests/bench/race/bare.py --port 9000 --processes 2
"""

from __future__ import annotations

import argparse
import base64
import gc
import hashlib
import os
import select
import signal
import socket
import struct
from collections.abc import Callable

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_LONGEST = 65_535
"""Bytes of a message; longer ones end the connection."""
_BACKLOG = 4096


def accept_key(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept of a key (RFC 6455 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID).digest())


def unmasked(frame: bytes, at: int, length: int) -> bytes:
    """The *length* bytes after the mask that lies at *at*."""
    mask = int.from_bytes((frame[at : at + 4] * (length // 4 + 1))[:length], "big")
    return (int.from_bytes(frame[at + 4 : at + 4 + length], "big") ^ mask).to_bytes(length, "big")


def text_frame(payload: bytes) -> bytes:
    """The frame of a server."""
    length = len(payload)
    return (bytes((0x81, length)) if length < 126 else struct.pack("!BBH", 0x81, 126, length)) + payload


class Server:
    """One process: a listener, its connections, and a way to each of the other processes."""

    def __init__(self, port: int, others: list[socket.socket]) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._casting: dict[int, Callable[[bytes], int]] = {}
        self._others = others
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen(_BACKLOG)
        self._listener.setblocking(False)
        self._watch(self._listener, self._accept)
        for other in others:
            self._watch(other, lambda other=other: self._cast(other.recv(_LONGEST + 4)))  # type: ignore[misc]

    def run(self) -> None:
        """Serve until a signal ends the process."""
        handlers, poll = self._handlers, self._epoll.poll
        while True:
            for descriptor, _ in poll():
                handlers[descriptor]()

    def _watch(self, watched: socket.socket, handler: Callable[[], None]) -> None:
        self._handlers[watched.fileno()] = handler
        self._epoll.register(watched, select.EPOLLIN)

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except BlockingIOError:
            return
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = bytearray()

        def shake_hands() -> None:
            try:
                data = accepted.recv(65_536)
            except ConnectionError:
                data = b""
            head.extend(data)
            if not data or len(head) > 65_536:
                self._end(accepted)
            elif head.endswith(b"\r\n\r\n"):
                lines = bytes(head).split(b"\r\n")
                keys = [line[18:].strip() for line in lines if line[:18].lower() == b"sec-websocket-key:"]
                if not keys:
                    self._end(accepted)
                    return
                accepted.send(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: " + accept_key(keys[0]) + b"\r\n\r\n"
                )
                self._serve(accepted, casts=lines[0].startswith(b"GET /cast"))

        self._watch(accepted, shake_hands)

    def _serve(self, client: socket.socket, casts: bool) -> None:
        receive, send = client.recv, client.send
        cast, others = self._cast, self._others
        rest = b""

        def receive_frames() -> None:
            nonlocal rest
            try:
                data = receive(65_536)
            except ConnectionError:
                data = b""
            if not data:
                self._end(client)
                return
            if rest:
                data = rest + data
            position, end = 0, len(data)
            while end - position >= 6:
                length, at = data[position + 1] & 0x7F, position + 2
                if length == 126:
                    length, at = int.from_bytes(data[at : at + 2], "big"), at + 2
                if data[position] != 0x81 or length == 127:
                    self._end(client)
                    return
                if end - at < 4 + length:
                    break
                position = at + 4 + length
                frame = text_frame(unmasked(data, at, length))
                if casts:
                    for other in others:
                        other.send(frame)
                    cast(frame)
                else:
                    send(frame)
            rest = data[position:]

        self._handlers[client.fileno()] = receive_frames
        if casts:
            self._casting[client.fileno()] = send

    def _cast(self, frame: bytes) -> None:
        # A client that has left since the last poll, or does not read, ends the program: there is no such client here.
        for send in self._casting.values():
            send(frame)

    def _end(self, client: socket.socket) -> None:
        self._epoll.unregister(client)
        self._casting.pop(client.fileno(), None)
        del self._handlers[client.fileno()]
        client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    count: int = options.processes
    ways: list[list[socket.socket]] = [[] for _ in range(count)]
    for one in range(count):
        for other in range(one):
            ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ways[one].append(ends[0])
            ways[other].append(ends[1])
    children = []
    number = 0
    for number in reversed(range(count)):
        if number == 0:
            break
        child = os.fork()
        if child == 0:
            break
        children.append(child)
    if number == 0:

        def end(*_: object) -> None:
            for child in children:
                os.kill(child, signal.SIGTERM)
            for child in children:
                os.waitpid(child, 0)
            os._exit(0)

        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
    gc.disable()  # closures are cycles; a collection in the middle of a broadcast would be unlike the limit
    Server(options.port, ways[number]).run()


if __name__ == "__main__":
    main()
