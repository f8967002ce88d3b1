"""WebSocket frames that a router sends (RFC 6455 5.2): unmasked, whole, made once and written to many.

Incoming frames are the business of ``client_frames``.
"""

from __future__ import annotations

import struct
import zlib

from ..common.limits import MAX_CLOSE_REASON_BYTES

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
    return (bytes((first, length)) if length < 126 else _long_head(first, length)) + body


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


def _long_head(first: int, length: int) -> bytes:
    return _HEAD_16.pack(first, 126, length) if length < 1 << 16 else _HEAD_64.pack(first, 127, length)
