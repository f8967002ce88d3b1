"""A part of a crowd: one process with up to ``MOST`` WebSockets that mostly do nothing.

``python -m tests.crowd.clients PORT SOURCE`` connects from the address *SOURCE* to 127.0.0.1:*PORT*, obeys commands on
stdin, lines of JSON (``crowd.Crowd`` writes them), and answers each with one line of JSON. Times are monotonic seconds,
which all processes of a machine have in common.

======================================= ===============================================================================
open first count objects path at_once   opens the connections ``first`` … ``first + count - 1``, ``at_once`` handshakes
seconds                                 at a time
expect text                             from now on each connection is to get this message exactly once
arrived seconds                         says when it has come to all
tell text below                         connections with a number less than ``below`` send a message
ask text every seconds                  every ``every``-th connection sends a message and waits for ``"number text"``
close code seconds                      all connections close, and wait for the answer and the end of TCP
closed seconds                          says when all have been closed by the other side
report                                  what there is, and what went wrong
======================================= ===============================================================================

A command that cannot be carried out in its ``seconds`` is answered with ``error``, which says how far it came. Pings
are answered all the time.

Everything is done by hand on ``epoll`` and bare descriptors: one connection costs this process some 200 bytes, one
message that comes as it should a read and a comparison.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import resource
import select
import socket
import statistics
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from tests.support import frames

MOST = 18_000
"""Connections of one process: the system gives it 20,000 descriptors here."""
READ_BYTES = 16 << 10
EVENTS = 512
"""Events taken from epoll at once."""
SEND_RUN = 64
"""Messages sent before what has come is read."""
EXAMPLES = 5
IP_BIND_ADDRESS_NO_PORT = 24
"""Linux: the port is chosen when the connection is made, so that each server's port has all ports of an address."""
VANISHED = 1006
"""A connection that ended without a Close."""

_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_STDIN = 0


class Failed(Exception):
    """A command cannot be carried out."""


class Ended(Exception):
    """Nobody gives commands any more."""


class Part:
    """The connections, by descriptor.

    Args:
        port: Where the cluster listens.
        source: The address that they come from; one of 127.0.0.0/8 has 28,000 ports.
    """

    def __init__(self, port: int, source: str) -> None:
        self._port, self._source = port, source
        self._epoll = select.epoll()
        self._epoll.register(_STDIN, select.EPOLLIN)
        self._commands = b""
        # Connections that are open, with their numbers; and those that are not yet, with the time of their beginning.
        self._open: dict[int, int] = {}
        self._shaking: dict[int, tuple[int, float]] = {}
        self._unsent: dict[int, bytes] = {}  # the requests of those whose TCP is not there yet
        self._rest: dict[int, bytes] = {}
        self._took: list[float] = []
        # What each of them is to get: the frame, the payload, and the descriptors to which it has not come.
        self._frame: bytes | None = None
        self._payload = b""
        self._missing: set[int] = set()
        self._first_at = self._last_at = 0.0
        self._twice = 0
        self._asked: dict[int, float] = {}
        self._question = ""
        self._closing: set[int] = set()  # those that have sent their Close
        self._codes: dict[int, int] = {}
        self._ended: Counter[int] = Counter()
        self._strange = 0
        self._examples: list[str] = []
        self._pings = 0

    # --- commands -----------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Obey until stdin ends."""
        try:
            while True:
                while b"\n" not in self._commands:
                    self._turn(-1)
                line, _, self._commands = self._commands.partition(b"\n")
                words = json.loads(line)
                obey: Callable[..., dict[str, Any]] = getattr(self, f"do_{words.pop('do')}")
                try:
                    answer = obey(**words)
                except Failed as error:
                    answer = {"error": str(error)}
                print(json.dumps(answer), flush=True)
        except Ended:
            pass

    def do_open(self, first: int, count: int, objects: int, path: str, at_once: int, seconds: float) -> dict[str, Any]:
        """Open connections; ``{object}`` and ``{number}`` in *path* are replaced."""
        if len(self._open) + count > MOST:
            raise Failed(f"{len(self._open) + count:,} connections are more than the {MOST:,} of one process")
        wanted = len(self._open) + count
        numbers = iter(range(first, first + count))
        self._took = []

        def begin() -> None:
            while len(self._shaking) < at_once:
                number = next(numbers, None)
                if number is None:
                    return
                target = path.replace("{object}", str(number % objects)).replace("{number}", str(number))
                self._connect(number, frames.upgrade_head(target, f"Host: 127.0.0.1:{self._port}").encode())

        begin()
        self._until(
            lambda: begin() or len(self._open) == wanted,
            seconds,
            lambda: (
                f"{wanted - len(self._open):,} of {count:,} connections were not opened, {len(self._shaking)} of "
                f"them were in the handshake and {len(self._unsent)} without TCP"
            ),
        )
        return {"open": len(self._open), "ended_at": time.monotonic(), "handshakes_s": _spread(self._took)}

    def do_expect(self, text: str) -> dict[str, Any]:
        """From now on each connection is to get *text*."""
        if self._missing:
            raise Failed(f"{len(self._missing):,} connections still lack the message before")
        self._payload = text.encode()
        self._frame = frames.frame(_TEXT, self._payload, masked=False)
        self._missing = set(self._open)
        self._first_at = self._last_at = 0.0
        self._twice = 0
        return {"expecting": len(self._missing)}

    def do_arrived(self, seconds: float) -> dict[str, Any]:
        """Wait until what is expected has come to all."""
        among = len(self._missing)
        self._until(
            lambda: not self._missing,
            seconds,
            lambda: f"the message has not come to {len(self._missing):,} of {among:,} connections",
        )
        return {"first_at": self._first_at, "last_at": self._last_at, "twice": self._twice}

    def do_tell(self, text: str, below: int) -> dict[str, Any]:
        """Send *text* on the connections with the lowest numbers."""
        frame = frames.frame(_TEXT, text)
        began = time.monotonic()
        count = self._send_on([fd for fd, number in self._open.items() if number < below], lambda fd: frame)
        return {"told": count, "began_at": began}

    def do_ask(self, text: str, every: int, seconds: float) -> dict[str, Any]:
        """Have connections say something, each of which is to be answered by its own number and the text."""
        self._question, self._took = text, []
        frame = frames.frame(_TEXT, text)

        def ask(fd: int) -> bytes:
            self._asked[fd] = time.monotonic()
            return frame

        began = time.monotonic()
        count = self._send_on([fd for fd, number in self._open.items() if number % every == 0], ask)
        self._until(
            lambda: not self._asked,
            seconds,
            lambda: f"{len(self._asked):,} of {count:,} questions were not answered",
        )
        return {"answered": len(self._took), "began_at": began, "ended_at": time.monotonic(), "took_s": self._took}

    def do_close(self, code: int, seconds: float) -> dict[str, Any]:
        """Close all connections."""
        self._closing = set(self._open)
        frame = frames.frame(_CLOSE, struct.pack(">H", code))
        began, among = time.monotonic(), len(self._open)
        self._send_on(list(self._open), lambda fd: frame)
        self._until(
            lambda: not self._open, seconds, lambda: f"{len(self._open):,} of {among:,} connections were not closed"
        )
        return {"closed": among, "began_at": began, "ended_at": time.monotonic()}

    def do_closed(self, seconds: float) -> dict[str, Any]:
        """Wait until the other side has closed all connections."""
        self._until(lambda: not self._open, seconds, lambda: f"{len(self._open):,} connections are still open")
        return {"ended_at": time.monotonic()}

    def do_report(self) -> dict[str, Any]:
        """What there is."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "open": len(self._open),
            "ended": dict(self._ended),
            "strange": self._strange,
            "examples": self._examples,
            "pings": self._pings,
            "cpu_s": usage.ru_utime + usage.ru_stime,
        }

    def _until(self, done: Callable[[], Any], seconds: float, state: Callable[[], str]) -> None:
        give_up_at = time.monotonic() + seconds
        while not done():
            left = give_up_at - time.monotonic()
            if left <= 0:
                raise Failed(f"after {seconds:g} s {state()}; {self._strange} strange messages: {self._examples}")
            self._turn(min(left, 0.1))

    def _send_on(self, fds: Iterable[int], frame: Callable[[int], bytes]) -> int:
        """Send a frame on each; what comes meanwhile is read, so that nobody takes this process for a slow client."""
        sent = 0
        for fd in fds:
            if fd in self._open:
                os.write(fd, frame(fd))
                sent += 1
                if sent % SEND_RUN == 0:
                    self._turn(0)
        return sent

    # --- descriptors --------------------------------------------------------------------------------------------------

    def _connect(self, number: int, request: bytes) -> None:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        made.setsockopt(socket.SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        made.bind((self._source, 0))
        code = made.connect_ex(("127.0.0.1", self._port))
        if code not in (0, errno.EINPROGRESS):
            raise Failed(f"connection {number} cannot be made: {os.strerror(code)}")
        fd = made.detach()
        self._shaking[fd] = number, time.monotonic()
        try:
            os.write(fd, request)  # on one machine TCP is there at once
        except BlockingIOError:
            self._unsent[fd] = request
            self._epoll.register(fd, select.EPOLLOUT)
        else:
            self._epoll.register(fd, select.EPOLLIN)

    def _turn(self, seconds: float) -> None:
        """Wait for something to happen, *seconds* at most (-1: for ever), and deal with it."""
        read, expected, missing = os.read, self._frame, self._missing
        events = self._epoll.poll(seconds, EVENTS)
        for fd, _ in events:
            if fd == _STDIN:
                self._hear()
                continue
            if fd in self._unsent:
                self._send_request(fd)
                continue
            try:
                data = read(fd, READ_BYTES)
            except ConnectionResetError:
                data = b""
            if data == expected and fd in missing:
                missing.remove(fd)
                if not self._first_at:
                    self._first_at = time.monotonic()
                if not missing:
                    self._last_at = time.monotonic()
            elif not data:
                self._over(fd)
            elif fd in self._shaking:
                self._shake(fd, data)
            else:
                self._frames(fd, data)

    def _hear(self) -> None:
        said = os.read(_STDIN, READ_BYTES)
        if not said:
            raise Ended
        self._commands += said

    def _send_request(self, fd: int) -> None:
        number, _ = self._shaking[fd]
        try:
            os.write(fd, self._unsent.pop(fd))
        except OSError as error:
            raise Failed(f"connection {number} cannot be made: {error.strerror}") from error
        self._epoll.modify(fd, select.EPOLLIN)

    def _shake(self, fd: int, data: bytes) -> None:
        data = self._rest.pop(fd, b"") + data
        head, ending, rest = data.partition(b"\r\n\r\n")
        if not ending:
            self._rest[fd] = data
            return
        number, began = self._shaking.pop(fd)
        if not head.startswith(b"HTTP/1.1 101"):
            os.close(fd)
            raise Failed(f"connection {number} was refused: {head[:200]!r} {rest[:200]!r}")
        self._took.append(time.monotonic() - began)
        self._open[fd] = number
        if rest:
            self._frames(fd, rest)

    def _frames(self, fd: int, data: bytes) -> None:
        """What the cluster has sent: frames by hand (RFC 6455 5.2), since all of them are ours."""
        data = self._rest.pop(fd, b"") + data
        at, end = 0, len(data)
        while end - at >= 2:
            size, start = data[at + 1], at + 2
            if size >= 126:
                width = 2 if size == 126 else 8
                size = int.from_bytes(data[start : start + width], "big")
                start += width
            if end - start < size:
                break
            self._got(fd, data[at] & 0x0F, data[start : start + size])
            at = start + size
        if at < end:
            self._rest[fd] = data[at:]

    def _got(self, fd: int, opcode: int, payload: bytes) -> None:
        if opcode == _PING:
            self._pings += 1
            os.write(fd, frames.frame(_PONG, payload))
        elif opcode == _CLOSE:
            self._codes[fd] = struct.unpack(">H", payload[:2])[0] if payload else 1005
            if fd not in self._closing:
                os.write(fd, frames.frame(_CLOSE, payload[:2]))
        elif opcode == _TEXT and payload == self._payload:
            if fd in self._missing:
                self._missing.remove(fd)
                self._last_at = time.monotonic()
                self._first_at = self._first_at or self._last_at
            else:
                self._twice += 1
        elif opcode == _TEXT and fd in self._asked and payload == f"{self._open[fd]} {self._question}".encode():
            self._took.append(round(time.monotonic() - self._asked.pop(fd), 6))
        else:
            self._note(f"connection {self._open[fd]} got {payload[:80]!r}, type {opcode}")

    def _over(self, fd: int) -> None:
        """The connection has ended."""
        os.close(fd)
        if fd in self._shaking:
            number, _ = self._shaking.pop(fd)
            raise Failed(f"connection {number} ended in the handshake")
        del self._open[fd]
        self._rest.pop(fd, None)
        self._asked.pop(fd, None)
        self._missing.discard(fd)
        self._closing.discard(fd)
        self._ended[self._codes.pop(fd, VANISHED)] += 1

    def _note(self, what: str) -> None:
        self._strange += 1
        if len(self._examples) < EXAMPLES:
            self._examples.append(what)


def _spread(values: list[float]) -> dict[str, float]:
    if len(values) < 2:
        return {"p50": values[0], "p99": values[0], "max": values[0]} if values else {}
    cuts = statistics.quantiles(values, n=100)
    return {"p50": cuts[49], "p99": cuts[98], "max": max(values)}


def main(port: int, source: str) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.disable()  # nothing here makes cycles, and a pause would be taken for one of the cluster
    Part(port, source).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
