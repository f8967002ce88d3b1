"""One client that speaks HTTP on its way through the phases: deadlines, progress, and the ways in which it ends.

This is the half of a connection that faces TCP and time; what a phase is for is the business of ``HttpConnection``,
which is such a one (a base class and not a part, because each connect makes one).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

from ..clients.progress import Delivery, Progress
from ..clients.send_buffers import SlowClient
from ..clients.timers import TICK_S
from ..clients.writers import NOWHERE
from .front import Front
from .parser import RequestParser
from .phases import HANDSHAKES, Phase


class PhasedConnection(asyncio.BufferedProtocol, ABC):
    """A connection that is in one phase at any time.

    Args:
        front: What the HTTP connections share.
        parser: Takes apart what the client sends.

    Attributes:
        address: What it counts for among those that there may be too many of (``shares``).
    """

    __slots__ = (
        "_body",
        "_deadline",
        "_delivery",
        "_due",
        "_front",
        "_parser",
        "_paused",
        "_phase",
        "_slow",
        "_transport",
        "_writer",
        "address",
    )

    def __init__(self, front: Front, parser: RequestParser) -> None:
        self._front = front
        self._parser = parser
        self.address: str | bytes = ""
        self._transport: asyncio.Transport | None = None
        self._writer = NOWHERE
        self._phase = Phase.IDLE
        self._deadline = 0
        self._due = 0
        self._paused = False
        self._slow: SlowClient | None = None
        self._body: Progress | None = None
        self._delivery: Delivery | None = None

    @abstractmethod
    def _expired(self) -> None:
        """The deadline of the present phase has come."""

    @abstractmethod
    def _count(self) -> None:
        """Count what it holds, which may have changed."""

    @abstractmethod
    def make_room(self) -> None:
        """There are too many, and this one matters least: end."""

    @abstractmethod
    def give_way(self) -> None:
        """Requests take too much memory, and nobody else can make room: take no more of this client."""

    # --- phases and their deadlines ---

    def _enter(self, phase: Phase) -> None:
        """Change the phase and with it the deadline; staying in a phase keeps its deadline."""
        if phase is self._phase:
            return
        front = self._front
        front.budgets.handshakes.taken += (phase in HANDSHAKES) - (self._phase in HANDSHAKES)
        shares = front.room.shares
        if self._phase in shares:
            shares[self._phase].remove(self)
        if phase in shares:
            shares[phase].add(self, self.address)
        self._phase = phase
        self._count()
        if phase is Phase.BODY:
            self._body = Progress(self._parser.body_size, front.shared.wheel.tick)
        elif phase is Phase.LINGERING:
            self._delivery = Delivery(*self._output(), front.shared.wheel.tick)
        wait = front.deadlines[phase]
        self._deadline = front.shared.wheel.tick + wait if wait else 0
        if wait and (not self._due or self._due > self._deadline + 1):
            self._due = front.shared.wheel.schedule(self, wait)

    def on_tick(self, tick: int) -> None:
        """The wheel calls at the earliest time that was asked for; the deadline may have moved since."""
        if tick < self._due:
            return  # superseded by a later call
        self._due = 0
        if self._transport is None or not self._deadline:
            return
        if tick < self._deadline:
            self._due = self._front.shared.wheel.schedule(self, self._deadline - tick)
        else:
            self._deadline = 0
            self._expired()

    def _look_again(self, wait: int) -> None:
        """Come back in *wait* ticks, in the same phase."""
        self._deadline = self._front.shared.wheel.tick + wait
        self._due = self._front.shared.wheel.schedule(self, wait)

    # --- progress ---

    def _body_came(self) -> None:
        """A body that comes has two deadlines: for its next bytes, and for its next step at the least rate."""
        shared, body = self._front.shared, self._body
        assert body is not None
        tick = shared.wheel.tick
        body.look(self._parser.body_size, tick, shared.least_progress)
        self._deadline = min(tick + self._front.deadlines[Phase.BODY], body.since + shared.stall_timeout)

    def _slowness(self) -> str:
        """What a client is told whose body comes too slowly."""
        shared, body = self._front.shared, self._body
        if body is not None and shared.wheel.tick - body.since >= shared.stall_timeout:
            waited = shared.stall_timeout * TICK_S
            return (
                f"less than {shared.least_progress} bytes of the request's body came within {waited:g} s; send it again"
            )
        waited = self._front.deadlines[Phase.BODY] * TICK_S
        return f"nothing of the request's body came for {waited:g} s; send it again"

    def _output(self) -> tuple[int, int]:
        """Bytes that the client has taken, and that it has not."""
        transport = self._transport
        assert transport is not None
        taken, waiting = self._front.shared.output_of(transport)
        return taken, waiting + transport.get_write_buffer_size()

    def _is_late(self) -> bool:
        """Whether the client has stalled with its last response, or has all of it and does not end."""
        delivery, shared = self._delivery, self._front.shared
        if delivery is None:
            return True
        delivery.see(*self._output(), shared.wheel.tick, shared.least_progress)
        return delivery.is_late(shared.wheel.tick, shared.stall_timeout, self._front.deadlines[Phase.LINGERING])

    @property
    def is_taking(self) -> bool:
        """Whether the client is on its way through a response."""
        if self._transport is None or self._phase is not Phase.LINGERING:
            return self._phase is Phase.CLOGGED
        return not self._is_late() and self._delivery is not None and self._delivery.waiting > 0

    # --- the transport ---

    def _pause(self, pause: bool) -> None:
        if pause != self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def pause_writing(self) -> None:
        if self._transport is not None:
            shared = self._front.shared
            self._slow = shared.send_buffers.add(self, self._transport, shared.wheel.tick)

    def _not_slow(self) -> None:
        slow, self._slow = self._slow, None
        if slow is not None:
            self._front.shared.send_buffers.remove(slow)

    # --- ends without a word ---

    def abort(self) -> None:
        """End now."""
        if self._transport is not None:
            self._transport.abort()

    def break_off(self, error: Exception) -> None:
        """*error*, a defect of ours, was met for this connection: end it, whatever it was doing."""
        self._front.shared.defects.note("an HTTP connection is ended", error)
        self.abort()

    def cut(self) -> None:
        """All clients together have too much waiting, and this one has the largest share."""
        self._front.counters.send_buffers_cut += 1
        self.abort()

    def stalled(self) -> None:
        """The client takes nothing of its response."""
        self._front.counters.slow_consumers_closed += 1
        self.abort()
