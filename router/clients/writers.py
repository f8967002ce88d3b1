"""The way to one client, chosen when its TCP is accepted.

What is written to a client may go to its socket **directly**, by one system call: the transport's own way costs twice
as much on top of it. But then nothing may stand between: what a transport of TLS has for a socket is the one below it,
and whoever wrote there would send in the clear, in the middle of its stream. So the transport is asked once, when it is
new, and what it answers decides for its life (``writer_of``):

================== ============== ======= ==========================================================================
writer             frames go      scheme  our side ends
================== ============== ======= ==========================================================================
DirectWriter       to the socket  http    alone: the client goes on sending until it has seen that
TransportWriter    by transport   http    the same way: there is no socket to write to
TlsWriter          by transport   https   with the other: TLS of an event loop cannot end one side
================== ============== ======= ==========================================================================

What the socket does not take goes through the transport, and so does all that follows, until that has been sent: order
is kept, and a slow client is the transport's to watch. Direct writing is safe for as long as the transport has not told
``connection_lost``: it closes the descriptor after that, never before (a test holds uvloop to it). After that, and
before a client is there, the writer is ``NOWHERE``.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, Protocol

from .turns import AGO, Turns

_DIRECTLY = -1
"""Instead of the time since when the transport may have something to send: it has nothing."""


class Transport(Protocol):
    """What a connection needs of its TCP transport (asyncio's, or a test's)."""

    def get_extra_info(self, name: str) -> Any: ...
    def write(self, data: bytes | memoryview) -> None: ...
    def writelines(self, pieces: Iterable[bytes | memoryview], /) -> None: ...
    def write_eof(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


def writer_of(transport: Transport, turns: Turns) -> Writer:
    """The writer of a client that was accepted.

    Args:
        transport: What leads to it.
        turns: Those of the loop.
    """
    if transport.get_extra_info("sslcontext") is not None:
        return TlsWriter(transport)
    socket = transport.get_extra_info("socket")
    if socket is None:
        return TransportWriter(transport)
    return DirectWriter(transport, socket.fileno(), turns)


class Writer(ABC):
    """Writes frames to one client, in order.

    Attributes:
        scheme: How URLs begin by which this client asks.
        watch: Told of each frame, as its pieces, that was given to the transport; ``None`` while nobody asks.
    """

    __slots__ = ("watch",)

    scheme = "http"

    def __init__(self) -> None:
        self.watch: Callable[[Sequence[bytes | memoryview]], object] | None = None

    @abstractmethod
    def write(self, frame: bytes) -> None:
        """Write a whole frame, of any size."""

    @abstractmethod
    def write_pieces(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Write a large frame that is in pieces.

        All of it goes to the transport at once, which copies nothing. So the frame is never half written while anything
        else is: what comes next is behind it.
        """

    @abstractmethod
    def follow(self) -> None:
        """Something was given to the transport itself: what is written next comes behind it."""

    @abstractmethod
    def half_close(self) -> None:
        """End our side, once all is sent; the client ends the other. Nothing is written after it."""


class TransportWriter(Writer):
    """Through the transport, whatever that does with it.

    Args:
        transport: What leads to the client.
    """

    __slots__ = ("_transport",)

    def __init__(self, transport: Transport) -> None:
        super().__init__()
        self._transport = transport

    def write(self, frame: bytes) -> None:
        self._transport.write(frame)
        if self.watch is not None:  # this frame may just have made the client slow
            self.watch((frame,))

    def write_pieces(self, pieces: Sequence[bytes | memoryview]) -> None:
        self._transport.writelines(pieces)
        if self.watch is not None:
            self.watch(pieces)

    def follow(self) -> None:
        pass  # all goes there

    def half_close(self) -> None:
        self._transport.write_eof()


class TlsWriter(TransportWriter):
    """Through a transport that encrypts. Its client ends both sides, or is ended by a deadline."""

    __slots__ = ()

    scheme = "https"

    def half_close(self) -> None:
        pass  # the loop's TLS would drop what the client still sends, as ``close`` does


class DirectWriter(TransportWriter):
    """Directly to the socket, and through the transport what the socket does not take.

    Args:
        transport: What leads to the client.
        descriptor: Its socket's.
        turns: Those of the loop.
    """

    __slots__ = ("_descriptor", "_queued_at", "_turns")

    def __init__(self, transport: Transport, descriptor: int, turns: Turns) -> None:
        super().__init__(transport)
        self._descriptor = descriptor
        self._turns = turns
        self._queued_at = turns.number
        """When something was last given to the transport, by ``turns``; ``_DIRECTLY``."""

    def write(self, frame: bytes) -> None:
        if self._queued_at == _DIRECTLY or self._may_go_direct():
            try:
                sent = os.write(self._descriptor, frame)
            except OSError:
                sent = 0  # there is no room; or the connection is broken, as the transport will find
            if sent == len(frame):
                return
            rest = memoryview(frame)[sent:] if sent else frame  # a view: a large frame may wait for many clients
        else:
            rest = frame
        self._queued_at = self._turns.mark()
        self._transport.write(rest)
        if self.watch is not None:
            self.watch((frame,))

    def write_pieces(self, pieces: Sequence[bytes | memoryview]) -> None:
        self._queued_at = self._turns.mark()
        super().write_pieces(pieces)

    def follow(self) -> None:
        self._queued_at = self._turns.mark()

    def _may_go_direct(self) -> bool:
        """Whether all has been sent that was given to the transport.

        What it was given in this turn of the loop it may not even count (see ``turns``).
        """
        if self._turns.number < self._queued_at + AGO or self._transport.get_write_buffer_size() > 0:
            return False
        self._queued_at = _DIRECTLY
        return True


class _Nowhere(Writer):
    """There is no client: it is not accepted yet, or TCP is over, and its descriptor may be another's."""

    __slots__ = ()

    def write(self, frame: bytes) -> NoReturn:
        raise AssertionError("there is no client to write to")

    def write_pieces(self, pieces: Sequence[bytes | memoryview]) -> NoReturn:
        raise AssertionError("there is no client to write to")

    def follow(self) -> NoReturn:
        raise AssertionError("there is no client to write to")

    def half_close(self) -> NoReturn:
        raise AssertionError("there is no client whose side could end")


NOWHERE: Writer = _Nowhere()
"""The writer of who has no client: whoever writes to it has not asked whether he may."""
