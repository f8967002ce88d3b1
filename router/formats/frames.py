"""WebSocket frames that a router sends (RFC 6455 5.2): unmasked, whole, made once and written to many.

Incoming frames are the business of ``client_frames``.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

from ...common.limits import MAX_CLOSE_REASON_BYTES

NO_STATUS = 1005
"""Stands for "a Close without a code"; never sent (RFC 6455 7.4.1)."""
ABNORMAL = 1006
"""Stands for "no Close at all"; never sent (RFC 6455 7.4.1)."""
GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
INVALID_DATA = 1007
MESSAGE_TOO_BIG = 1009
INTERNAL_ERROR = 1011
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013

PING = b"\x89\x00"
"""A ping without a body: any sign of life answers it."""

_FIN, _RSV1, _TEXT, _BINARY, _CLOSE, _PONG = 0x80, 0x40, 0x01, 0x02, 0x08, 0x0A
_TEXT_HEADS = tuple(bytes((_FIN | _TEXT, length)) for length in range(126))
_BINARY_HEADS = tuple(bytes((_FIN | _BINARY, length)) for length in range(126))
_HEAD_16 = struct.Struct("!BBH")
_HEAD_64 = struct.Struct("!BBQ")
_CODE = struct.Struct("!H")
_EMPTY_BLOCK = b"\x00\x00\xff\xff"
"""What a sync flush ends with."""
DEFLATE_STEP = 64 << 10
"""Bytes that are compressed at once of a large message: about 2 ms."""


def data_frame(payload: bytes, binary: bool) -> bytes:
    """A whole message in one frame."""
    length = len(payload)
    if length < 126:
        return (_BINARY_HEADS if binary else _TEXT_HEADS)[length] + payload
    return _long_head(_FIN | (_BINARY if binary else _TEXT), length) + payload


def deflated_frame(payload: bytes, binary: bool, window_bits: int) -> bytes:
    """A whole message in one compressed frame (RFC 7692), for any client without context takeover of ours.

    Args:
        payload: The message.
        binary: Binary or text.
        window_bits: 9 to 15, as agreed with the client.
    """
    deflate = zlib.compressobj(wbits=-window_bits, memLevel=5)
    # RFC 7692 7.2.1: the empty block that ends a sync flush is left out.
    body = (deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    first, length = _FIN | _RSV1 | (_BINARY if binary else _TEXT), len(body)
    return _head(first, length) + body


def frame_in_pieces(parts: Sequence[bytes | memoryview], size: int, binary: bool) -> list[bytes | memoryview]:
    """A whole message in one frame, whose payload has come in pieces: its head, and they, without a copy.

    Args:
        parts: The payload.
        size: Bytes of it.
        binary: Binary or text.
    """
    return [_head(_FIN | (_BINARY if binary else _TEXT), size), *parts]


class Deflating:
    """A large message on its way to becoming one compressed frame, a step at a time: 200 MB at once are seconds.

    Args:
        parts: The payload.
        binary: Binary or text.
        window_bits: 9 to 15, as agreed with the client.

    Attributes:
        frame: The frame in pieces, once ``step`` has returned true.
    """

    __slots__ = ("_at", "_binary", "_deflate", "_done", "_part", "_parts", "frame")

    def __init__(self, parts: Sequence[bytes | memoryview], binary: bool, window_bits: int) -> None:
        self._parts = parts
        self._binary = binary
        self._deflate = zlib.compressobj(wbits=-window_bits, memLevel=5)
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
        self._done.append(tail[: -len(_EMPTY_BLOCK)])  # RFC 7692 7.2.1
        first = _FIN | _RSV1 | (_BINARY if self._binary else _TEXT)
        self.frame = [_head(first, sum(map(len, self._done))), *self._done]
        return True


def pong_frame(body: bytes) -> bytes:
    """The answer to a ping of at most 125 bytes."""
    return bytes((_FIN | _PONG, len(body))) + body


def close_frame(code: int, reason: str) -> bytes:
    """A Close frame.

    Args:
        code: What to send; 1005 makes a frame without a code.
        reason: Cut, at a character, to the 123 bytes that fit.
    """
    if code == NO_STATUS:
        return bytes((_FIN | _CLOSE, 0))
    text = reason.encode()
    if len(text) > MAX_CLOSE_REASON_BYTES:
        text = text[:MAX_CLOSE_REASON_BYTES].decode(errors="ignore").encode()
    return bytes((_FIN | _CLOSE, 2 + len(text))) + _CODE.pack(code) + text


def _head(first: int, length: int) -> bytes:
    return bytes((first, length)) if length < 126 else _long_head(first, length)


def _long_head(first: int, length: int) -> bytes:
    return _HEAD_16.pack(first, 126, length) if length < 1 << 16 else _HEAD_64.pack(first, 127, length)
