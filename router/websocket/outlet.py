"""What is written to one client, and what waits for it.

``Outlet`` is the half of a connection that faces TCP. It knows when a client is slow, and the ways in which TCP ends;
how frames get there is its writer's business (``writers``), why and when to close that of ``Connection``, which is an
outlet (a base class and not a part, because there are tens of thousands of them).

A client that is slow may be **full**: more waits for it than its share. Its shard is told so (ROOM 0), and how much may
come (ROOM n) when half of that has been taken; what its object sends meanwhile waits at the shard, which says whether
something does (OWED). A client that stalls is closed.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from ...common.close_codes import TRY_AGAIN_LATER
from ..clients.context import ClientContext
from ..clients.links import OwnerLink
from ..clients.progress import Delivery
from ..clients.send_buffers import HIGH_WATER, SlowClient
from ..clients.writers import NOWHERE, Transport, Writer
from ..formats.frames import close_frame

log = logging.getLogger("roost.router")

SLOW_CONSUMER = "slow consumer"
"""The reason with which a client is closed that does not take its output, and its object told."""


class Outlet(ABC):
    """What a connection writes to. A connection says what is done when something comes to pass.

    Args:
        number: The connection's counter.
        shared: What all connections share.

    Attributes:
        number: The connection's counter.
        writable: Messages may be written: TCP is there and our Close is not out.
        full: More waits here than the client's share, or did: its shard is to hear of it when there is room.
        owed: Output for it waits at its shard.
        writer: Where messages are written, while ``writable``.
    """

    __slots__ = (
        "_deadline",
        "_delivery",
        "_shared",
        "_slow",
        "_transport",
        "full",
        "number",
        "owed",
        "writable",
        "writer",
    )

    def __init__(self, number: int, shared: ClientContext[Any]) -> None:
        self.number = number
        self.writable = self.full = self.owed = False
        self._shared = shared
        self._transport: Transport | None = None
        self._slow: SlowClient | None = None
        self.writer = NOWHERE
        self._deadline = 0
        """Tick at which the closing is over if it has not come to its end before; 0 while nothing is closing."""
        self._delivery: Delivery | None = None
        """What the client has to take before it can come to what a deadline is for."""

    @abstractmethod
    def on_tick(self, tick: int) -> None:
        """A time that was waited for has come; among them the deadline, if there is one."""

    @abstractmethod
    def break_off(self, error: Exception) -> None:
        """*error*, a defect of ours, was met for this client: end it."""

    @abstractmethod
    def close(self, code: int, reason: str) -> None:
        """Close for a reason of the router's own, and tell the object."""

    @abstractmethod
    def _link(self) -> OwnerLink | None:
        """The link to the shard that sends to this client."""

    def _open(self, transport: Transport, writer: Writer) -> None:
        """*transport* leads to the client from now on; something may just have been given to it."""
        self._transport = transport
        self.writer = writer
        writer.follow()
        self.writable = True

    # --- a slow client ---

    def _note(self, pieces: Sequence[bytes | memoryview]) -> None:
        """A frame was given to the transport of a slow client."""
        slow, send_buffers, is_over = self._slow, self._shared.send_buffers, False
        if slow is None:
            return
        for piece in pieces:
            is_over = send_buffers.note(slow, piece)
            if not self.writable:
                return  # cut: all clients together had too much waiting
        if is_over and not self.full:
            self._fill()
            self._tell_room(0)

    def pause_writing(self) -> None:
        """The client does not take its output as fast as it comes: from now on what waits for it is watched."""
        if self._slow is None and self._transport is not None:
            self._slow = self._shared.send_buffers.add(self, self._transport, self._shared.wheel.tick)
            self.writer.watch = self._note

    def resume_writing(self) -> None:
        """The client has caught up; or, if it was full, has taken half of its share."""
        transport = self._transport
        if self.full and transport is not None:
            self._make_room()
            transport.set_write_buffer_limits(HIGH_WATER)
            if transport.get_write_buffer_size() > HIGH_WATER:
                return  # it has not caught up yet, and the transport has asked for a pause again
        self._not_slow()

    def _not_slow(self) -> None:
        slow, self._slow = self._slow, None
        if slow is not None:
            self.writer.watch = None
            self._shared.send_buffers.remove(slow)

    # --- the client's share ---

    @property
    def is_far_over(self) -> bool:
        """Twice the client's share waits here: what the router itself has to say need not be added to that."""
        transport, each = self._transport, self._shared.send_buffers.each
        return self.full and transport is not None and transport.get_write_buffer_size() > 2 * each

    def tell_if_full(self) -> None:
        """A new owner has the connection: it has to know if no more may come."""
        if self.full:
            self._tell_room(0)

    def owe(self, owed: bool) -> None:
        """Output for this client waits at its shard, which asks for room; or (not *owed*) none does any more."""
        self.owed = owed
        transport, each = self._transport, self._shared.send_buffers.each
        if not owed or self.full:
            return
        if not self.writable or transport is None:
            self._tell_room(each)  # where it goes there is room for everything
        elif (waiting := transport.get_write_buffer_size()) <= each // 2:
            self._tell_room(each - waiting)
        else:
            self._fill()

    def _fill(self) -> None:
        """Have the transport call when half of the client's share has been taken."""
        self.full = True
        each = self._shared.send_buffers.each
        assert self._transport is not None
        self._transport.set_write_buffer_limits(each, each // 2)

    def _make_room(self) -> None:
        self.full = False
        transport, each = self._transport, self._shared.send_buffers.each
        self._tell_room(each if transport is None else max(1, each - transport.get_write_buffer_size()))

    def _tell_room(self, size: int) -> None:
        link = self._link()
        if link is not None:
            link.writer.room(self.number, size)
            link.flush_soon()

    def stalled(self) -> None:
        """The client has taken nothing for long of what waits for it."""
        if self.writable:
            self._close_slow()

    def _close_slow(self) -> None:
        self._shared.counters.slow_consumers_closed += 1
        log.info("connection %d: %s, closed", self.number, SLOW_CONSUMER)
        self.close(TRY_AGAIN_LATER, SLOW_CONSUMER)
        self._delivery = None  # it has had its time

    def cut(self) -> None:
        """All clients together have too much waiting, here or at the shard, and this one has the largest share: give
        its memory back."""
        self._not_slow()
        self._shared.counters.send_buffers_cut += 1
        if self.writable:
            self._close_slow()
        self.abort()

    # --- the end of TCP ---

    def _write_close(self, code: int, reason: str) -> None:
        """Send our Close, the last that is written."""
        assert self._transport is not None
        self.writable = False
        self._transport.write(close_frame(code, reason))

    def _half_close(self) -> None:
        """End our side. The client ends the other: unread bytes would turn a whole end into a reset, and it might lose
        our Close."""
        self.writer.half_close()
        self._set_deadline()

    def _end_tcp(self) -> None:
        """End TCP once all is sent."""
        assert self._transport is not None
        self.writable = False
        self._set_deadline()
        self._transport.close()

    def _set_deadline(self) -> None:
        shared = self._shared
        self._watch_delivery()
        self._deadline = shared.wheel.schedule(self, shared.close_timeout)

    # --- progress: a deadline runs from the last ---

    def _watch_delivery(self) -> None:
        """A deadline begins: it does not end while the client takes what waits. If that is little, the deadline is not
        put off: the Close or ping that it is for would else put off its own end."""
        transport = self._transport
        self._delivery = None
        if transport is not None:
            taken, waiting = self._shared.output_of(transport)
            waiting += transport.get_write_buffer_size()
            if waiting > HIGH_WATER:
                self._delivery = Delivery(taken, waiting, self._shared.wheel.tick)

    @property
    def is_taking(self) -> bool:
        """Whether the client is on its way through what waits before a Close or ping: it is slow, not dead."""
        transport, delivery, shared = self._transport, self._delivery, self._shared
        if transport is None or delivery is None:
            return False
        taken, waiting = shared.output_of(transport)
        tick = shared.wheel.tick
        delivery.see(taken, waiting + transport.get_write_buffer_size(), tick, shared.least_progress)
        return not delivery.is_late(tick, shared.stall_timeout, 0)

    def _puts_off(self) -> bool:
        """Whether a deadline that has come is put off: the client is taking what waits, or has just come to its end."""
        if self.is_taking:
            return True
        delivery, self._delivery = self._delivery, None
        return delivery is not None and not delivery.waiting

    def abort(self) -> None:
        """End TCP now, with what has not been sent."""
        if self._transport is not None:
            self._transport.abort()

    def _gone(self) -> None:
        """TCP is over."""
        self._transport = None
        self.writable = False
        if self.full:
            self._make_room()  # what the shard still has is to go somewhere
        self.resume_writing()
        self.writer = NOWHERE
