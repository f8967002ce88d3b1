"""What a client says on a WebSocket, as bytes: handshakes and frames, good and bad."""

from __future__ import annotations

import base64
import hashlib
import struct
import zlib
from collections.abc import Mapping

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
NO_MASK = bytes(4)

KEY = base64.b64encode(bytes(16)).decode()
ACCEPT = base64.b64encode(hashlib.sha1(f"{KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()


def frame(
    opcode: int,
    payload: bytes | str = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    mask: bytes | None = None,
    length: int | None = None,
) -> bytes:
    """One WebSocket frame (RFC 6455 5.2), of a client or of a server.

    Args:
        opcode: 0 to 15, reserved ones too.
        payload: Its body; text is encoded.
        fin: Whether the message ends here.
        rsv: The three reserved bits, 0 to 7.
        masked: As a client's must be, and a server's must not.
        mask: Its four bytes; ``NO_MASK`` leaves the payload as it is, and costs least.
        length: The length that the head claims, when it is to be wrong.
    """
    body = payload.encode() if isinstance(payload, str) else payload
    size = len(body) if length is None else length
    head = bytes((fin << 7 | rsv << 4 | opcode,))
    bit = 0x80 if masked else 0
    if size < 126:
        head += bytes((bit | size,))
    elif size < 1 << 16:
        head += struct.pack(">BH", bit | 126, size)
    else:
        head += struct.pack(">BQ", bit | 127, size)
    if not masked:
        return head + body
    if mask is NO_MASK:
        return head + mask + body
    if mask is None:
        mask = zlib.crc32(body, opcode).to_bytes(4, "big")  # names of tests say what is sent: the same in every process
    key = (mask * (len(body) // 4 + 1))[: len(body)]
    return head + mask + (int.from_bytes(body, "big") ^ int.from_bytes(key, "big")).to_bytes(len(body), "big")


def close_body(code: int, reason: str = "") -> bytes:
    return struct.pack(">H", code) + reason.encode()


def upgrade_head(path: str, *more: str, leave_out: str = "") -> str:
    """The head of a handshake; header lines in *more* come last, *leave_out* names one to leave out."""
    standard: Mapping[str, str] = {
        "Host": "test",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    given = {line.partition(":")[0].lower() for line in more}
    lines = [f"{name}: {value}" for name, value in standard.items() if name.lower() not in given and name != leave_out]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, *more]) + "\r\n\r\n"
