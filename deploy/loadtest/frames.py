"""WebSocket frames by hand (RFC 6455 5.2): a client in Python should cost less than the server that it loads."""

from __future__ import annotations

import struct

from ...common.close_codes import NO_STATUS
from ...common.errors import RoostError

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
NO_MASK = bytes(4)
"""A mask of zeros, which leaves the payload as it is: masks protect proxies from scripts in browsers, not from us."""
MAX_MESSAGE_BYTES = 64 << 20
"""Bytes of a message that is taken from a server."""

_U16 = struct.Struct(">H")
_U64 = struct.Struct(">Q")


class BrokenFrames(RoostError):
    """The server breaks the protocol; the message says how."""


def client_frame(opcode: int, payload: bytes) -> bytes:
    """A whole message, or a control frame, as a client sends it."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 65_536:
        head = bytes((0x80 | opcode, 0xFE)) + _U16.pack(size)
    else:
        head = bytes((0x80 | opcode, 0xFF)) + _U64.pack(size)
    return head + NO_MASK + payload


def close_frame(code: int) -> bytes:
    """A Close with a code."""
    return client_frame(CLOSE, _U16.pack(code))


def close_code(payload: bytes) -> int:
    """The code of a Close; ``NO_STATUS`` when there is none."""
    return _U16.unpack_from(payload)[0] if len(payload) >= 2 else NO_STATUS


class FrameReader:
    """Cuts a stream of bytes into messages and control frames."""

    __slots__ = ("_kind", "_parts", "_rest", "_want")

    def __init__(self) -> None:
        self._rest: bytes | bytearray = b""
        self._want = 0  # bytes that _rest needs before it is worth a look: a long message comes in many pieces
        self._kind = 0
        self._parts: list[bytes] | None = None

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take bytes.

        Returns:
            What has become whole: opcodes with payloads, fragments joined.

        Raises:
            BrokenFrames: The server breaks the protocol; nothing more may be fed.
        """
        if self._rest:
            rest = self._rest if isinstance(self._rest, bytearray) else bytearray(self._rest)
            rest += data
            if len(rest) < self._want:
                self._rest = rest
                return []
            data = bytes(rest)
        found: list[tuple[int, bytes]] = []
        at, end = 0, len(data)
        self._want = 0
        while end - at >= 2:
            first, size, start = data[at], data[at + 1], at + 2
            if size >= 126:
                if size >= 128:
                    raise BrokenFrames("a frame of the server is masked")
                width = 2 if size == 126 else 8
                if end - start < width:
                    break
                size = int.from_bytes(data[start : start + width], "big")
                start += width
                if size > MAX_MESSAGE_BYTES:
                    raise BrokenFrames(f"a frame of {size:,} bytes")
            if end - start < size:
                self._want = start + size - at
                break
            at = start + size
            payload = data[start:at]
            if first == 0x81 or first == 0x82:  # whole, by far the most common
                if self._parts is not None:
                    raise BrokenFrames("a new message in the middle of another one")
                found.append((first & 0x0F, payload))
            else:
                self._unusual(first, payload, found)
        self._rest = data[at:]
        return found

    def _unusual(self, first: int, payload: bytes, found: list[tuple[int, bytes]]) -> None:
        final, opcode = first & 0x80, first & 0x0F
        if first & 0x70:
            raise BrokenFrames("a frame with reserved bits")
        if opcode in (CLOSE, PING, PONG):
            if not final or len(payload) > 125:
                raise BrokenFrames("a control frame that is long or in parts")
            found.append((opcode, payload))
            return
        if opcode in (TEXT, BINARY):
            if self._parts is not None:
                raise BrokenFrames("a new message in the middle of another one")
            self._kind, self._parts = opcode, [payload]  # not final: those do not come here
            return
        if opcode != CONTINUATION or self._parts is None:
            raise BrokenFrames(f"a frame with opcode {opcode} that does not belong here")
        self._parts.append(payload)
        if sum(map(len, self._parts)) > MAX_MESSAGE_BYTES:
            raise BrokenFrames("a message that never ends")
        if final:
            found.append((self._kind, b"".join(self._parts)))
            self._parts = None
