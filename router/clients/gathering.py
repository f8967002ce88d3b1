"""A payload that a client sends, as it comes: a message in frames and fragments, or the body of a request.

It stays in the pieces in which it goes on to its object (``common.shipping``): to put 32 MiB together is a turn of the
loop, and to let go of them another one. What is small becomes ``bytes`` as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from sys import getsizeof

from ...common.limits import MAX_BATCH_BYTES
from ...common.wire.records import PIECE_BYTES, Form, Pieces

AHEAD_BYTES = MAX_BATCH_BYTES
"""Bytes of a payload from which on it goes ahead of its record, in pieces."""
_LONG = 128
"""Characters of a text from which on its size in memory tells how wide they are."""

Payload = bytes | Pieces
"""What a client has sent: in pieces if it has ``AHEAD_BYTES`` or more."""


class Gathering:
    """One payload that is coming.

    Args:
        watch: Told of each piece of a large one (``common.discards``).

    Attributes:
        size: Bytes that have come.
    """

    __slots__ = ("_chars", "_form", "_last", "_parts", "_watch", "size")

    def __init__(self, watch: Callable[[memoryview], object] | None = None) -> None:
        self._watch = watch
        self._parts: list[memoryview] | None = None
        self._last = bytearray()
        self._form = Form.BYTES
        self._chars = 0
        self.size = 0

    def add(self, data: bytes) -> None:
        """More of it."""
        last = self._last
        last += data
        self.size += len(data)
        while len(last) >= PIECE_BYTES:
            self._cut(PIECE_BYTES)

    def add_text(self, chars: int, form: Form) -> None:
        """What was added is text: *chars* characters more are complete, of the form *form*."""
        self._chars += chars
        if form > self._form:
            self._form = form

    def _cut(self, size: int) -> None:
        with memoryview(self._last) as whole, whole[:size] as first:
            piece = memoryview(bytes(first))
        del self._last[:size]
        if self._parts is None:
            self._parts = []
        self._parts.append(piece)
        if self._watch is not None:
            self._watch(piece)

    def whole(self) -> Payload:
        """All of it, now that it has come."""
        if self.size < AHEAD_BYTES:
            return b"".join((*(self._parts or ()), self._last))
        if self._last:
            self._cut(len(self._last))
        assert self._parts is not None
        return Pieces(self._parts, self.size, self._form, self._chars)


def form_of(text: str) -> Form:
    """How wide the widest character of *text* is."""
    if text.isascii():
        return Form.ASCII
    length = len(text)
    if length < _LONG:
        widest = ord(max(text))
        return Form.LATIN if widest < 1 << 8 else Form.WIDE if widest < 1 << 16 else Form.WIDEST
    size = getsizeof(text)
    return Form.LATIN if size < 2 * length else Form.WIDE if size < 4 * length else Form.WIDEST
