"""WebSocket frames that a router sends (RFC 6455 5.2): unmasked, whole, made once and written to many.

Compressed ones are made in ``compression``; incoming frames are the business of ``client_frames``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ...common.close_codes import NO_STATUS
from ...common.limits import MAX_CLOSE_REASON_BYTES

PING = b"\x89\x00"
"""A ping without a body: any sign of life answers it."""

FIN, RSV1 = 0x80, 0x40
_TEXT, _BINARY, _CLOSE, _PONG = 0x01, 0x02, 0x08, 0x0A
_TEXT_HEADS = tuple(bytes((FIN | _TEXT, length)) for length in range(126))
_BINARY_HEADS = tuple(bytes((FIN | _BINARY, length)) for length in range(126))
_HEAD_16 = struct.Struct("!BBH")
_HEAD_64 = struct.Struct("!BBQ")
_CODE = struct.Struct("!H")


def data_frame(payload: bytes, binary: bool) -> bytes:
    """A whole message in one frame."""
    length = len(payload)
    if length < 126:
        return (_BINARY_HEADS if binary else _TEXT_HEADS)[length] + payload
    return _long_head(FIN | opcode_of(binary), length) + payload


def frame_in_pieces(parts: Sequence[bytes | memoryview], size: int, binary: bool) -> list[bytes | memoryview]:
    """A whole message in one frame, whose payload has come in pieces: its head, and they, without a copy.

    Args:
        parts: The payload.
        size: Bytes of it.
        binary: Binary or text.
    """
    return [frame_head(FIN | opcode_of(binary), size), *parts]


def pong_frame(body: bytes) -> bytes:
    """The answer to a ping of at most 125 bytes."""
    return bytes((FIN | _PONG, len(body))) + body


def close_frame(code: int, reason: str) -> bytes:
    """A Close frame.

    Args:
        code: What to send; 1005 makes a frame without a code.
        reason: Cut, at a character, to the 123 bytes that fit.
    """
    if code == NO_STATUS:
        return bytes((FIN | _CLOSE, 0))
    text = reason.encode()
    if len(text) > MAX_CLOSE_REASON_BYTES:
        text = text[:MAX_CLOSE_REASON_BYTES].decode(errors="ignore").encode()
    return bytes((FIN | _CLOSE, 2 + len(text))) + _CODE.pack(code) + text


def opcode_of(binary: bool) -> int:
    """The opcode of a message."""
    return _BINARY if binary else _TEXT


def frame_head(first: int, length: int) -> bytes:
    """What stands before *length* bytes of payload; *first* has the flags and the opcode."""
    return bytes((first, length)) if length < 126 else _long_head(first, length)


def _long_head(first: int, length: int) -> bytes:
    return _HEAD_16.pack(first, 126, length) if length < 1 << 16 else _HEAD_64.pack(first, 127, length)
