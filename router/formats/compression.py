"""Compressed frames (RFC 7692): what makes them, for the clients of a group.

A connection that agreed to compression has an encoder. Output asks an encoder once for each message that one of its
connections gets, in the order in which the messages are written, and gives all of them that one frame. Routers agree
to compression without context, so that the frame depends on the message and the window alone, and all clients with one
window are a group (``encoder_for``). One that kept the context of what it has compressed before would be the encoder of
one connection.

A large message is compressed in steps (``Deflating``): 200 MB at once are seconds.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from .frames import FIN, RSV1, frame_head, opcode_of

DEFLATE_STEP = 64 << 10
"""Bytes that are compressed at once: about 2 ms."""
_EMPTY_BLOCK = b"\x00\x00\xff\xff"
"""What a sync flush ends with; it is left out at the end of a message (RFC 7692 7.2.1)."""
_MEMORY_LEVEL = 5


class Encoder:
    """Makes the frames of a group of clients that agreed to one window, and that have no context.

    Args:
        window_bits: 9 to 15, as agreed with them.

    Attributes:
        window_bits: See above.
    """

    __slots__ = ("window_bits",)

    def __init__(self, window_bits: int) -> None:
        self.window_bits = window_bits

    def frame(self, payload: bytes, binary: bool) -> bytes:
        """A whole message in one frame.

        Args:
            payload: The message.
            binary: Binary or text.
        """
        deflate = self._deflate()
        body = (deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH))[: -len(_EMPTY_BLOCK)]
        return frame_head(FIN | RSV1 | opcode_of(binary), len(body)) + body

    def begin(self, parts: Sequence[bytes | memoryview], binary: bool) -> Deflating:
        """The same for a large message, which is compressed in steps.

        Args:
            parts: The payload.
            binary: Binary or text.
        """
        return Deflating(self._deflate(), parts, binary)

    def _deflate(self) -> zlib._Compress:
        """What compresses the next message."""
        return zlib.compressobj(wbits=-self.window_bits, memLevel=_MEMORY_LEVEL)


_GROUPS = {window_bits: Encoder(window_bits) for window_bits in range(9, 16)}


def encoder_for(window_bits: int) -> Encoder:
    """The encoder of all clients that agreed to a window of 9 to 15 bits, without context."""
    return _GROUPS[window_bits]


class Deflating:
    """A large message on its way to becoming one compressed frame, a step at a time.

    Args:
        deflate: What compresses it.
        parts: The payload.
        binary: Binary or text.

    Attributes:
        frame: The frame in pieces, once ``step`` has returned true.
    """

    __slots__ = ("_at", "_binary", "_deflate", "_done", "_part", "_parts", "frame")

    def __init__(self, deflate: zlib._Compress, parts: Sequence[bytes | memoryview], binary: bool) -> None:
        self._parts = parts
        self._binary = binary
        self._deflate = deflate
        self._part = self._at = 0
        self._done: list[bytes] = []
        self.frame: list[bytes | memoryview] = []

    def step(self) -> bool:
        """Compress the next ``DEFLATE_STEP`` bytes; returns whether that was all."""
        if self.frame:
            return True
        if self._part < len(self._parts):
            part = self._parts[self._part]
            data = self._deflate.compress(part[self._at : self._at + DEFLATE_STEP])
            if data:
                self._done.append(data)
            self._at += DEFLATE_STEP
            if self._at >= len(part):
                self._part, self._at = self._part + 1, 0
        if self._part < len(self._parts):
            return False
        tail = self._deflate.flush(zlib.Z_SYNC_FLUSH)
        assert tail.endswith(_EMPTY_BLOCK)
        self._done.append(tail[: -len(_EMPTY_BLOCK)])
        self.frame = [frame_head(FIN | RSV1 | opcode_of(self._binary), sum(map(len, self._done))), *self._done]
        return True
