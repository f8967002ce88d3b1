"""What has come over one link of payloads that go ahead of their records."""

from __future__ import annotations

from ..errors import WireError
from .model import Pieces

MAX_PARTS_BYTES = 1 << 30
"""Bytes of payloads whose record has not come: far above what senders have under way, so that only a broken member gets
here."""


class Parts:
    """The payloads of one link whose records have not come yet. They end with the link.

    Attributes:
        size: Bytes of all of them.
    """

    __slots__ = ("_streams", "size")

    def __init__(self) -> None:
        self._streams: dict[int, Pieces] = {}
        self.size = 0

    def __len__(self) -> int:
        return len(self._streams)

    def add(self, stream: int, part: memoryview) -> None:
        """More of a payload; an empty part: it does not come.

        Raises:
            WireError: More has come than any member sends.
        """
        pieces = self._streams.get(stream)
        if not part:
            if pieces is not None:
                self._forget(stream, pieces)
            return
        if pieces is None:
            pieces = self._streams[stream] = Pieces([], 0)
        pieces.parts.append(part)
        pieces.size += len(part)
        self.size += len(part)
        if self.size > MAX_PARTS_BYTES:
            raise WireError(f"{self.size} bytes of payloads have come ahead of their records")

    def take(self, stream: int) -> Pieces:
        """The payload of a record; the stream is free then.

        Raises:
            WireError: None has come.
        """
        pieces = self._streams.get(stream)
        if pieces is None:
            raise WireError(f"a record's payload should have come as stream {stream}, but none has")
        self._forget(stream, pieces)
        return pieces

    def _forget(self, stream: int, pieces: Pieces) -> None:
        del self._streams[stream]
        self.size -= len(pieces)
