"""The messages of the load tester. Each says who sent it, its number and when it was due, and carries its checksum.

::

    ┌──────┬──────┬────────┬──────────┬──────────┬────────┬─────────┬──────────┐
    │ kind │ run  │ sender │ sequence │ due      │ late   │ filler  │ checksum │
    │ E, B │ 4    │ 5      │ 7        │ 10       │ 5      │ any     │ 8        │
    └──────┴──────┴────────┴──────────┴──────────┴────────┴─────────┴──────────┘

All but the kind are lower-case hexadecimal digits, so a message may go as text or binary. ``due`` is in microseconds
since the beginning of the run, ``late`` how many microseconds later it was sent; the checksum is the CRC-32 of all
before it. The filler differs from message to message, and so do equal parts of two of them.
"""

from __future__ import annotations

from typing import NamedTuple
from zlib import crc32

ECHO, BROADCAST = "E", "B"
MIN_BYTES = 40
"""Bytes of a message without filler."""
MAX_SEQUENCE = 16**7 - 1
MAX_LATE_US = 16**5 - 1
"""Lateness is cut to this: one second."""

_HEAD = 32
_STRIPE = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-+"


class Message(NamedTuple):
    """What a message says."""

    kind: str
    sender: int
    sequence: int
    due_us: int
    late_us: int


class Codec:
    """Writes and reads the messages of one run.

    Args:
        run: A number that other runs do not have, up to 16 bits: what is left of one is not taken for ours.
        size: Bytes of each message, at least ``MIN_BYTES``.
    """

    def __init__(self, run: int, size: int) -> None:
        self._run, self._size = f"{run:04x}", size
        self._marks = (f"{ECHO}{self._run}".encode(), f"{BROADCAST}{self._run}".encode())
        length = size - MIN_BYTES
        self._stripes = _STRIPE * (length // len(_STRIPE) + 2)
        self._filler = length

    def encode(self, kind: str, sender: int, sequence: int, due_us: int, late_us: int) -> bytes:
        """A message."""
        start = sequence & 63
        body = (
            f"{kind}{self._run}{sender:05x}{sequence:07x}{due_us:010x}{min(late_us, MAX_LATE_US):05x}".encode()
            + self._stripes[start : start + self._filler]
        )
        return body + b"%08x" % crc32(body)

    def decode(self, payload: bytes) -> Message | None:
        """Read a message.

        Returns:
            What it says; ``None`` when it is not whole. ``is_ours`` tells whether it ever was a message of this run.
        """
        if len(payload) != self._size or payload[:5] not in self._marks:
            return None
        try:
            if int(payload[-8:], 16) != crc32(payload[:-8]):
                return None
            return Message(
                chr(payload[0]),
                int(payload[5:10], 16),
                int(payload[10:17], 16),
                int(payload[17:27], 16),
                int(payload[27:_HEAD], 16),
            )
        except ValueError:
            return None

    def is_ours(self, payload: bytes) -> bool:
        """Whether what ``decode`` does not take looks like a message of ours that something has happened to."""
        return len(payload) == self._size or payload[:5] in self._marks

    def is_within(self, payload: bytes) -> bool:
        """Whether a message of ours stands somewhere in a longer one of the server's own, as in a chat's."""
        return len(payload) > self._size and any(mark in payload for mark in self._marks)
