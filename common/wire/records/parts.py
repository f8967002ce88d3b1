"""What has come over one link of payloads that go ahead of their records."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Protocol

from ...errors import WireError
from .model import Form, Pieces
from .texts import LargeText

MAX_PARTS_BYTES = 1 << 30
"""Bytes of payloads whose record has not come: far above what senders have under way, so that only a broken member gets
here."""


class Arrived(Protocol):
    """A payload that has come."""

    def __len__(self) -> int: ...
    def join(self) -> bytes:
        """All of it."""
        ...

    def text(self) -> str:
        """All of it as text."""
        ...


class Parts:
    """The payloads of one link whose records have not come yet: in pieces, for whoever passes them on. They end with
    the link.

    Args:
        watch: Told of each piece (``common.discards``).

    Attributes:
        size: Bytes of all of them.
    """

    __slots__ = ("_streams", "_watch", "size")

    def __init__(self, watch: Callable[[memoryview], object] | None = None) -> None:
        self._streams: dict[int, Pieces] = {}
        self._watch = watch
        self.size = 0

    def __len__(self) -> int:
        return len(self._streams)

    def add(self, stream: int, part: memoryview, form: int = 0, chars: int = 0) -> None:
        """More of a payload; an empty part: it does not come.

        Args:
            stream: Which.
            part: Its next bytes.
            form: What all of it is (``Form``).
            chars: Characters of all of it, if that is text.

        Raises:
            WireError: More has come than any member sends.
        """
        pieces = self._streams.get(stream)
        if not part:
            if pieces is not None:
                self._forget(stream, len(pieces))
            return
        if pieces is None:
            pieces = self._streams[stream] = Pieces([], 0)
        pieces.parts.append(part)
        pieces.size += len(part)
        self._count(len(part))
        if self._watch is not None:
            self._watch(part)

    def take(self, stream: int) -> Pieces:
        """The payload of a record; the stream is free then.

        Raises:
            WireError: None has come.
        """
        pieces = self._streams.get(stream)
        if pieces is None:
            raise _missing(stream)
        self._forget(stream, len(pieces))
        return pieces

    def _count(self, size: int) -> None:
        self.size += size
        if self.size > MAX_PARTS_BYTES:
            raise WireError(f"{self.size} bytes of payloads have come ahead of their records")

    def _forget(self, stream: int, size: int) -> None:
        del self._streams[stream]
        self.size -= size


class Wholes(Parts):
    """The same for whoever needs them whole: put together as they come, so that no record takes a turn of the loop."""

    __slots__ = ("_wholes",)

    def __init__(self) -> None:
        super().__init__()
        self._wholes: dict[int, Whole] = {}

    def __len__(self) -> int:
        return len(self._wholes)

    def add(self, stream: int, part: memoryview, form: int = 0, chars: int = 0) -> None:
        """As before."""
        whole = self._wholes.get(stream)
        if not part:
            if whole is not None:
                self._forget(stream, len(whole))
            return
        self._count(len(part))
        if whole is None:
            whole = self._wholes[stream] = Whole(Form(form), chars)
        whole.add(part)

    def take(self, stream: int) -> Whole:  # type: ignore[override]  # both are ``Arrived``
        """As before."""
        whole = self._wholes.get(stream)
        if whole is None:
            raise _missing(stream)
        self._forget(stream, len(whole))
        return whole

    def _forget(self, stream: int, size: int) -> None:
        del self._wholes[stream]
        self.size -= size


class Whole:
    """A payload that is put together as it comes.

    Args:
        form: What it is.
        chars: Characters of a text.
    """

    __slots__ = ("_bytes", "_size", "_text")

    def __init__(self, form: Form, chars: int) -> None:
        self._size = 0
        # What ``getvalue`` gives is the buffer that was written to, and no copy of it.
        self._bytes = BytesIO() if form is Form.BYTES else None
        self._text = None if form is Form.BYTES else LargeText(chars, form)

    def __len__(self) -> int:
        return self._size

    def add(self, part: memoryview) -> None:
        """More of it."""
        self._size += len(part)
        if self._text is not None:
            self._text.add(part)
        elif self._bytes is not None:
            self._bytes.write(part)

    def join(self) -> bytes:
        """All of it, once. It is not said to be text."""
        return self.text().encode() if self._bytes is None else self._bytes.getvalue()

    def text(self) -> str:
        """All of it, once.

        Raises:
            WireError, UnicodeDecodeError: It is not what was said.
        """
        return self.join().decode() if self._text is None else self._text.take()


def _missing(stream: int) -> WireError:
    return WireError(f"a record's payload should have come as stream {stream}, but none has")
