"""A client's TCP, as its protocol sees it: a transport of asyncio's that bounds what one client costs a turn.

It stands between the loop and a protocol. **What comes** is read by the loop's own transport for the first clients of a
router, which costs least and has a turn of its own for each of few; for all others it is read here, when ``Ready`` says
so: one read, and another one in its next turn. **What goes** is written here, since a loop's transport writes all that
the system takes, and to a client that reads as fast as we write that is 200 MB in one turn, 70 ms. Of what is not taken
of the ``FIRST`` bytes, or lies behind them, ``AT_ONCE`` bytes go when there is room, and more in a later turn. What
waits is kept in the pieces in which it came, which many clients may share.

A client that resets its connection ends in turn, as all ends do (``Work.ends``): nothing goes in or out any more, and
``connection_lost`` follows.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

from ...common.limits import CLIENTS_OF_THE_LOOP
from .ready import IN, OUT, Ready
from .work import Ending, Work

AT_ONCE = 256 << 10
"""Bytes that are written at once when there is room: some 0.1 ms."""
FIRST = 4 << 20
"""Bytes of a large write that are offered to the system where they come: some 2 ms. It takes no more of most clients,
and only what it does not take counts as waiting."""
MOST_PIECES = 128
"""Pieces of them."""
HIGH_WATER = 64 << 10
"""Bytes that may wait before a protocol is asked for a pause, as asyncio has it, until the protocol chooses."""
_NOT_NOW = (BlockingIOError, InterruptedError)


class ClientTransport(asyncio.Transport, asyncio.BufferedProtocol):
    """The transport of one client, and the protocol of the loop's transport if there is one.

    Args:
        loop: The loop.
        ready: Looks at sockets.
        work: Where ends take their turn.
        client: The socket, which does not block; closed with the transport.
        protocol: A protocol as asyncio has it, of the kind with a buffer.

    Attributes:
        get_buffer: The protocol's own, for whoever reads.
        buffer_updated: The same.
    """

    __slots__ = (
        "_buffer",
        "_descriptor",
        "_events",
        "_has_ended",
        "_high",
        "_inner",
        "_is_closing",
        "_is_dead",
        "_is_eof",
        "_is_paused",
        "_loop",
        "_low",
        "_protocol",
        "_ready",
        "_size",
        "_socket",
        "_work",
        "buffer_updated",
        "get_buffer",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, ready: Ready, work: Work, client: socket.socket, protocol: Any
    ) -> None:
        self._loop = loop
        self._ready = ready
        self._work = work
        self._socket = client
        self._descriptor = client.fileno()
        self._inner: asyncio.Transport | None = None
        self._buffer: deque[bytes | memoryview] | None = None
        """What waits; ``None``, since an empty one takes 700 bytes, when nothing does."""
        self._size = 0
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._events = 0
        self._is_paused = self._is_closing = self._is_eof = False
        self._is_dead = False
        """Nothing goes in or out any more."""
        self._has_ended = False
        """The protocol knows, or will in the next turn."""
        self._follow(protocol)

    def _follow(self, protocol: Any) -> None:
        self._protocol = protocol
        # In the place of methods: for each read one call less.
        self.get_buffer: Callable[[int], memoryview] = protocol.get_buffer  # type: ignore[assignment]
        self.buffer_updated: Callable[[int], None] = protocol.buffer_updated  # type: ignore[assignment]

    # --- the beginning ---

    def begin(self) -> None:
        """Tell the protocol, and read for it, when the socket is ready."""
        try:
            self._protocol.connection_made(self)
            self.resume_reading()
        except Exception as error:
            self._fail(error)

    def connection_made(self, inner: asyncio.BaseTransport) -> None:
        """The loop's transport *inner* reads for the protocol."""
        self._inner = inner  # type: ignore[assignment]  # uvloop's are like asyncio's, but do not inherit from them
        self._protocol.connection_made(self)

    # --- what a protocol asks ---

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``socket``, ``peername`` or ``sockname``."""
        try:
            if name == "socket":
                return self._socket
            if name == "peername":
                return self._socket.getpeername()
            if name == "sockname":
                return self._socket.getsockname()
        except OSError:
            pass  # it is over
        return default

    def get_protocol(self) -> Any:
        """Whom this transport serves."""
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        """Serve another protocol from now on."""
        self._follow(protocol)
        if self._inner is not None:
            self._inner.set_protocol(self)  # it takes over the two methods

    def is_closing(self) -> bool:
        """Whether it ends, or has ended."""
        return self._is_closing

    # --- what comes ---

    def pause_reading(self) -> None:
        """Read no more for now."""
        if self._inner is not None:
            self._inner.pause_reading()
        elif self._events & IN:
            self._look_for(self._events & ~IN)

    def resume_reading(self) -> None:
        """Read on."""
        if self._inner is not None:
            self._inner.resume_reading()
        elif not self._events & IN and not self._is_closing:
            self._look_for(self._events | IN)

    def on_ready(self, events: int) -> None:
        """The socket has something, or room, or has failed."""
        try:
            if self._events & OUT and events & ~IN:
                self._go_on()
            if self._events & IN and events & ~OUT:
                self._read()
        except Exception as error:
            self._fail(error)

    def _read(self) -> None:
        try:
            count = self._socket.recv_into(self.get_buffer(0))
        except _NOT_NOW:
            return
        except OSError as error:
            self._reset(error)
            return
        if count:
            self.buffer_updated(count)
        else:
            self.pause_reading()
            self.eof_received()

    def eof_received(self) -> bool:
        """The client sends no more. The loop's transport stays open: what is written has to leave before it ends."""
        if not self._protocol.eof_received():
            self.close()
        return True

    # --- what goes ---

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write *data*, which is not changed afterwards, behind what waits."""
        if not self._may_write() or not data:
            return
        assert not isinstance(data, bytearray)
        size, sent = len(data), 0
        if self._buffer is None:
            if size > AT_ONCE:
                self.writelines((data,))
                return
            try:
                sent = os.write(self._descriptor, data)
            except _NOT_NOW:
                pass
            except OSError as error:
                self._reset(error)
                return
            if sent == size:
                return
            self._buffer = deque()
            self._look_for(self._events | OUT)
        self._buffer.append(memoryview(data)[sent:] if sent else data)
        self._size += size - sent
        self._ask_for_a_pause()

    def writelines(self, pieces: Iterable[Any]) -> None:
        """Write *pieces* behind what waits; if nothing does, offer ``FIRST`` bytes of them to the system."""
        if not self._may_write():
            return
        buffer = self._buffer
        if buffer is None:
            self._buffer = buffer = deque()
        waited = len(buffer)
        for piece in pieces:
            if piece:
                buffer.append(piece)
                self._size += len(piece)
        if not waited:
            for _ in range(FIRST // AT_ONCE):
                if not self._send():
                    break
            if self._buffer is not None and not self._is_dead:
                self._look_for(self._events | OUT)
        self._ask_for_a_pause()

    def _may_write(self) -> bool:
        if self._is_eof:
            raise RuntimeError("write after write_eof")
        return not self._is_dead

    def _send(self) -> bool:
        """Write what the system takes of the next ``AT_ONCE`` bytes; returns whether there are more, and it may take
        them, too."""
        buffer, left = self._buffer, AT_ONCE
        pieces: list[bytes | memoryview] = []
        assert buffer is not None
        for piece in buffer:
            if len(piece) > left:
                pieces.append(memoryview(piece)[:left])
                break
            pieces.append(piece)
            left -= len(piece)
            if not left or len(pieces) == MOST_PIECES:
                break
        try:
            sent = os.writev(self._descriptor, pieces)
        except _NOT_NOW:
            return False
        except OSError as error:
            self._reset(error)
            return False
        more = sent == sum(map(len, pieces))
        self._size -= sent
        while sent:
            first = buffer[0]
            if len(first) > sent:
                buffer[0] = memoryview(first)[sent:]
                break
            sent -= len(first)
            buffer.popleft()
        if not buffer:
            self._buffer = None
            return False
        return more

    def _go_on(self) -> None:
        """There may be room: write on."""
        self._send()
        if self._is_dead:
            return
        if self._buffer is None:
            self._look_for(self._events & ~OUT)
        if self._is_paused and self._size <= self._low:
            self._is_paused = False
            self._protocol.resume_writing()
        if self._buffer is None and not self._is_dead:
            if self._is_closing:
                self._end(None)
            elif self._is_eof:
                self._shut_down()

    def _ask_for_a_pause(self) -> None:
        if self._size > self._high and not self._is_paused:
            self._is_paused = True
            try:
                self._protocol.pause_writing()
            except Exception as error:
                self._tell("protocol.pause_writing() failed", error)

    def get_write_buffer_size(self) -> int:
        """Bytes that wait."""
        return self._size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Where writing may go on, and where a pause is asked for."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Have the protocol asked for a pause when more than *high* bytes wait, and told when no more than *low* do."""
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        self._high, self._low = high, high // 4 if low is None else low
        self._ask_for_a_pause()

    def can_write_eof(self) -> bool:
        """TCP ends in halves."""
        return True

    def write_eof(self) -> None:
        """End our side, once what waits is written."""
        if not self._is_eof:
            self._is_eof = True
            if self._buffer is None and not self._is_dead:
                self._shut_down()

    def _shut_down(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._reset(error)

    # --- the end ---

    def close(self) -> None:
        """End, once what waits is written. Nothing is read any more."""
        if not self._is_closing:
            self._is_closing = True
            self.pause_reading()
            if self._buffer is None:
                self._end(None)

    def abort(self) -> None:
        """End now."""
        self._end(None)

    def _reset(self, error: OSError) -> None:
        """The client has ended everything."""
        if not self._is_dead:
            self._is_dead = True
            self.pause_reading()
            self._look_for(0)
            if self._work.ends(Ending(partial(self._end_in_turn, error), self)):
                self._end(error)

    def _end_in_turn(self, error: OSError) -> None:
        """Its turn has come: end within it."""
        if self._inner is not None:
            self._end(error)
        elif not self._has_ended:
            self.connection_lost(error)

    def _end(self, error: Exception | None) -> None:
        if self._has_ended:
            return
        self._has_ended = self._is_dead = self._is_closing = True
        self._look_for(0)
        if self._inner is not None:
            self._inner.abort()
        else:
            self._loop.call_soon(self.connection_lost, error)

    def connection_lost(self, error: Exception | None) -> None:
        """It is over."""
        self._has_ended = self._is_dead = self._is_closing = True
        try:
            self._protocol.connection_lost(error)
        finally:
            self._look_for(0)
            self._buffer = None
            self._size = 0
            self._protocol = self.get_buffer = self.buffer_updated = None  # type: ignore[assignment]
            if self._inner is not None:
                self._inner = None
                self._ready.loops -= 1
            else:
                self._socket.close()

    def _fail(self, error: Exception) -> None:
        """The protocol has raised *error*."""
        self.abort()
        self._tell("Fatal error on transport", error)

    break_off = _fail
    """Also when that was in a turn of its own."""

    def _tell(self, message: str, error: Exception) -> None:
        context = {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
        self._loop.call_exception_handler(context)

    def _look_for(self, events: int) -> None:
        before = self._events
        if events != before:
            self._events = events
            try:
                self._ready.change(self._descriptor, self, before, events)
            except OSError as error:
                self._events = 0
                self._reset(error)


class Transports:
    """Gives clients their transports.

    Args:
        loop: The loop.
        ready: Looks at the sockets that the loop does not look at.
        work: Where ends take their turn.
        protocol_factory: Makes the protocol of each client.
    """

    __slots__ = ("_factory", "_loop", "_ready", "_work")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, ready: Ready, work: Work, protocol_factory: Callable[[], object]
    ) -> None:
        self._loop = loop
        self._ready = ready
        self._work = work
        self._factory = protocol_factory

    def begin(self, client: socket.socket) -> None:
        """Begin with a client that was just accepted. An error of its protocol is raised if it cannot be made."""
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = ClientTransport(self._loop, self._ready, self._work, client, self._factory())
        if self._ready.loops >= CLIENTS_OF_THE_LOOP:
            transport.begin()
            return
        begin_with_loop(lambda: transport, client)
        self._ready.loops += 1

    def close(self) -> None:
        """Look at nobody any more."""
        self._ready.close()


def begin_with_loop(protocol_factory: Callable[[], asyncio.BaseProtocol], client: socket.socket) -> None:
    """Give *client* the transport of the running loop."""
    _drive(asyncio.get_running_loop().connect_accepted_socket(protocol_factory, client))


def _drive(beginning: Coroutine[Any, Any, object]) -> None:
    """Run the coroutine that makes a transport. All that it waits for is that the protocol is told, in the next turn:
    it needs no task, which would have begun with it a turn later."""
    try:
        made = beginning.send(None)
    except StopIteration:
        return
    made.add_done_callback(lambda _: _drive(beginning))
