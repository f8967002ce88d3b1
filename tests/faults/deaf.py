"""Clients that do not read, and how much memory that costs a process."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from tests.support.frames import TEXT, frame, upgrade_head

RECEIVE_BUFFER_BYTES = 16 << 10
"""What the kernel keeps for such a client, more or less."""
DEADLINE_S = 20.0


class Deaf:
    """A WebSocket on a blocking socket that reads when it is told to. Opening it blocks."""

    def __init__(self, port: int, path: str) -> None:
        self._socket = socket.socket()
        self._socket.settimeout(DEADLINE_S)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._socket.connect(("127.0.0.1", port))
        self._socket.sendall(upgrade_head(path, f"Host: 127.0.0.1:{port}").encode())
        self._stream = self._socket.makefile("rb")
        assert b" 101 " in self._stream.readline()
        while self._stream.readline() != b"\r\n":
            pass

    def ask(self, count: int, size: int) -> None:
        """Ask for *count* messages of *size* bytes."""
        self._socket.sendall(frame(TEXT, f"{count} {size}"))

    def read(self, count: int) -> int:
        """Read *count* messages; gives their bytes."""
        size = 0
        while count:
            opcode, payload = self._frame()
            if opcode in (1, 2):
                size += len(payload)
                count -= 1
            elif opcode in (-1, 8):
                break
        return size

    def last_close(self) -> int:
        """Read everything that is there; gives the code of the Close at its end, 1006 without one."""
        while True:
            opcode, payload = self._frame()
            if opcode == -1:
                return 1006
            if opcode == 8:
                return int.from_bytes(payload[:2], "big")

    def _frame(self) -> tuple[int, bytes]:
        """The next frame's opcode, -1 at the end, and payload."""
        head = self._stream.read(2)
        if len(head) < 2:
            return -1, b""
        size = head[1]
        if size == 126:
            (size,) = struct.unpack(">H", self._stream.read(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", self._stream.read(8))
        return head[0] & 0x0F, self._stream.read(size)

    def close(self) -> None:
        """End TCP."""
        self._stream.close()
        self._socket.close()


class Memory:
    """The resident memory of a process, looked at again and again."""

    def __init__(self, pid: int) -> None:
        self._path = Path(f"/proc/{pid}/statm")
        self._first = self._most = self._bytes()

    def _bytes(self) -> int:
        return int(self._path.read_text().split()[1]) * 4096

    def look(self) -> None:
        """Note how much it is now."""
        self._most = max(self._most, self._bytes())

    @property
    def grown(self) -> int:
        """The most bytes that it had in any look above those of the first."""
        return self._most - self._first
