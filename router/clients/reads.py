"""How much one read of a client's socket may bring.

What is read has to be kept until it is parsed, and taken. A connection is stopped once too much of that waits, but its
next read may bring 256 KiB before anybody can say so; 8,000 clients that begin a message in the same moment would have
2 GB read. So sockets are read into one buffer, which all connections of a router share, and its size says how much
comes: ``MOST_BYTES`` as long as little waits, beyond that an even share of what may wait freely. While clients' work is
left over (see ``work``), a read brings less: 250 KiB take as long to read as all else that is done in such a turn.

The transport asks for the buffer before each read. The question is answered without a call of Python code: that is what
a dictionary is for whose only value is the buffer, whatever size the transport suggests.
"""

from __future__ import annotations

from collections.abc import Callable

MOST_BYTES = 250 << 10
"""Bytes of a read, usually: what comes of it is just smaller than what has pages of its own (``common.heap``)."""
BUSY_BYTES = 32 << 10
"""The same while clients' work is left over. Larger reads cost less for each byte."""
LEAST_BYTES = 1 << 10
"""Bytes that every read may bring."""


class _Answers(dict[int, memoryview]):
    """The present buffer, for each size that a transport has suggested."""

    buffer: memoryview

    def __missing__(self, suggested: int) -> memoryview:
        self[suggested] = self.buffer
        return self.buffer


class Reads:
    """The buffer of one router.

    Args:
        freely: Bytes that may wait before reads become smaller.

    Attributes:
        get_buffer: What a transport asks; see ``asyncio.BufferedProtocol``.
        size: Bytes that a read brings at most.
        whole: The buffer: what has just been read is at its beginning.
    """

    __slots__ = ("_answers", "_freely", "get_buffer", "size", "whole")

    def __init__(self, freely: int) -> None:
        self._freely = freely
        self.whole = memoryview(bytearray(MOST_BYTES))
        self._answers = _Answers()
        self._answers.buffer = self.whole
        self.get_buffer: Callable[[int], memoryview] = self._answers.__getitem__
        self.size = MOST_BYTES

    def fit(self, waiting: int, connections: int, *, busy: bool = False) -> None:
        """Choose the size of reads.

        Args:
            waiting: Bytes that were read and wait.
            connections: How many sockets are read.
            busy: Work of clients is left over.
        """
        size = most = BUSY_BYTES if busy else MOST_BYTES
        if waiting >= self._freely:
            share = max(LEAST_BYTES, self._freely // (connections or 1))
            size = min(most, 1 << share.bit_length() - 1)  # in steps: it need not change with each connection
        if size != self.size:
            self.size = size
            self._answers.buffer = self.whole[:size]
            self._answers.clear()
