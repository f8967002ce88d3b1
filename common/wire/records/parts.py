"""What has come over one link of payloads that go ahead of their records."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from io import BytesIO
from typing import Generic, Protocol, TypeVar

from ...errors import WireError
from .model import Form, Pieces
from .texts import LargeText

MAX_PARTS_BYTES = 1 << 30
"""Bytes of payloads whose record has not come: far above what senders have under way, so that only a broken member gets
here."""


class Arrived(Protocol):
    """A payload that comes, or has come."""

    def __len__(self) -> int:
        """Bytes that have come."""
        ...

    def add(self, part: memoryview) -> None:
        """More of it."""
        ...

    def join(self) -> bytes:
        """All of it."""
        ...

    def text(self) -> str:
        """All of it as text."""
        ...


P = TypeVar("P", bound=Arrived)


class Incoming(ABC, Generic[P]):
    """The payloads of one link whose records have not come yet. They end with the link.

    Attributes:
        size: Bytes of all of them.
    """

    __slots__ = ("_streams", "size")

    def __init__(self) -> None:
        self._streams: dict[int, P] = {}
        self.size = 0

    def __len__(self) -> int:
        return len(self._streams)

    @abstractmethod
    def _begin(self, form: Form, chars: int) -> P:
        """The first part of a payload has come."""

    def add(self, stream: int, part: memoryview, form: int = 0, chars: int = 0) -> None:
        """More of a payload; an empty part: it does not come.

        Args:
            stream: Which.
            part: Its next bytes.
            form: What all of it is (``Form``).
            chars: Characters of all of it, if that is text.

        Raises:
            WireError: More has come than any member sends, or it is not what was said.
        """
        payload = self._streams.get(stream)
        if not part:
            if payload is not None:
                self._forget(stream, payload)
            return
        self.size += len(part)
        if self.size > MAX_PARTS_BYTES:
            raise WireError(f"{self.size} bytes of payloads have come ahead of their records")
        if payload is None:
            payload = self._streams[stream] = self._begin(Form(form), chars)
        payload.add(part)

    def take(self, stream: int) -> P:
        """The payload of a record; the stream is free then.

        Raises:
            WireError: None has come.
        """
        payload = self._streams.get(stream)
        if payload is None:
            raise WireError(f"a record's payload should have come as stream {stream}, but none has")
        self._forget(stream, payload)
        return payload

    def _forget(self, stream: int, payload: P) -> None:
        del self._streams[stream]
        self.size -= len(payload)


class Parts(Incoming[Pieces]):
    """In pieces, for whoever passes them on.

    Args:
        watch: Told of each piece (``common.runtime.discards``).
    """

    __slots__ = ("_watch",)

    def __init__(self, watch: Callable[[memoryview], object] | None = None) -> None:
        super().__init__()
        self._watch = watch

    def _begin(self, form: Form, chars: int) -> Pieces:
        return Pieces([], 0)

    def add(self, stream: int, part: memoryview, form: int = 0, chars: int = 0) -> None:
        """As before."""
        super().add(stream, part, form, chars)
        if part and self._watch is not None:
            self._watch(part)


class Wholes(Incoming["Whole"]):
    """For whoever needs them whole: put together as they come, so that no record takes a turn of the loop."""

    __slots__ = ()

    def _begin(self, form: Form, chars: int) -> Whole:
        return Whole(form, chars)


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
