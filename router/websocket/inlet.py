"""The half of a connection that takes what its client sends: apart, into the window, on to the object.

Reading stops when an event cannot be taken: its window is full, its object is held, its link is blocked, or the router
holds too much. The frames that were parsed already, a step's at most, wait in ``_backlog``, TCP is not read, and no
deadline runs against the client. What it waits for calls ``go_on``: an acknowledgement, or the ``gate`` (see ``work``)
of its object or of all windows. A large message waits as well, and all behind it, until its payload has gone ahead to
its object's owner (``common.shipping``): before that it is in no window, and nobody has to know of it. Reading also
stops while more has come than a step's worth of frames: the connection takes its turn with others (``work``) until
nothing is left. A connection that is lost or failed meanwhile first delivers what it has sent, then the end. So the
order of events is the order of the wire.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

from websockets.frames import Opcode

from ...common.close_codes import TRY_AGAIN_LATER
from ...common.limits import WINDOW_BYTES, WINDOW_MESSAGES
from ...common.wire.records import AcceptMode, Ahead
from ...common.wire.shipping import Shipment
from ..clients.context import ClientContext
from ..clients.gathering import AHEAD_BYTES, Payload
from ..clients.links import LARGE_BYTES, OwnerLink
from ..clients.objects import ObjectEntry
from ..clients.work import AT_ONCE_BYTES, LEAST_COST, Gate
from .client_frames import STEP_FRAMES, ClientFrame, ClientFrames, is_one_message
from .outlet import Outlet
from .states import State
from .window import EVENT_BYTES, SHORT_TEXT, SMALL_BYTES, Window, memory_of

log = logging.getLogger("roost.router")

UNFINISHED = "the server has too many unfinished messages"
"""The reason with which a client is closed whose message makes no progress while others wait."""

# Looking up a member of an enumeration takes as long as a call.
_TEXT, _BINARY = Opcode.TEXT, Opcode.BINARY
_HIBERNATABLE = AcceptMode.HIBERNATABLE
_GHOST = State.GHOST
_FRAME_COST = 64
"""What a frame costs in bytes that a turn takes apart at once (``work``): some 3 µs."""


def _bytes_of(frames: list[ClientFrame]) -> int:
    return sum([len(payload) for _, payload in frames])


class _Ships:
    """A large message of a client on its way to its object's owner, ahead of its record.

    Attributes:
        link: Where to.
        takes: Bytes of all windows that are kept for it: its shard has it before its record comes, and so before it is
            in its window.
        shipment: Its payload.
        ahead: Where that has gone, once it has.
    """

    __slots__ = ("ahead", "link", "shipment", "takes")

    def __init__(self, link: OwnerLink, takes: int) -> None:
        self.link = link
        self.takes = takes
        self.shipment: Shipment | None = None
        self.ahead: Ahead | None = None


class Inlet(Outlet):
    """What comes from one client. A connection says what follows from its ends.

    Args:
        number: The connection's counter.
        entry: Its object.
        shared: What all connections share.

    Attributes:
        entry: Its object.
        state: Where it is in its life.
        mode: How the object accepted it; PLAIN before that.
        expects_events: The object still hears of it: the end has not been told.
        window: Its events that are not acknowledged.
        gate: Where it waits for something else than room in its window; ``None`` if it does not.
    """

    __slots__ = (
        "_auto_time",
        "_backlog",
        "_backlog_bytes",
        "_heard",
        "_is_crowded",
        "_late_pong",
        "_pinged",
        "_protocol",
        "_ships",
        "entry",
        "expects_events",
        "gate",
        "mode",
        "state",
        "window",
    )

    def __init__(self, number: int, entry: ObjectEntry[Any], shared: ClientContext[Any]) -> None:
        super().__init__(number, shared)
        self.entry = entry
        self.state = State.PENDING
        self.mode = AcceptMode.PLAIN
        self.expects_events = False
        self.window = Window()
        self.gate: Gate | None = None
        self._protocol: ClientFrames | None = None
        self._auto_time: float | None = None
        self._backlog: list[ClientFrame] | None = None
        self._backlog_bytes = 0
        self._late_pong = b""
        self._ships: _Ships | None = None
        self._is_crowded = False
        self._heard = self._pinged = 0

    @abstractmethod
    def _client_closed(self, body: bytes) -> None:
        """The client's Close has come, behind all that was taken before."""

    @abstractmethod
    def _settle(self) -> None:
        """All that the client sent has been taken: if that was all that comes, tell the object."""

    # --- what has come ---

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        protocol = self._protocol
        assert protocol is not None
        shared = self._shared
        self._heard = shared.wheel.tick
        work = shared.work
        if work.taken > AT_ONCE_BYTES and not is_one_message(data):
            protocol.put_off(data)
            self._look_after(protocol)
            return
        frames = protocol.receive(data)
        if protocol.has_news or len(frames) > 1:
            work.taken += LEAST_COST + _FRAME_COST * (len(frames) or min(len(data) // 6, STEP_FRAMES))
        if frames:
            if self._backlog is None:
                self._take(frames)
            else:
                self._backlog += frames
                self._backlog_bytes += _bytes_of(frames)
                protocol.has_news = True
        if protocol.has_news:
            self._look_after(protocol)

    @property
    def get_buffer(self) -> Callable[[int], memoryview]:
        """Where the transport reads into."""
        return self._shared.reads.get_buffer

    def buffer_updated(self, count: int) -> None:
        """*count* bytes of the client are there."""
        self.data_received(self._shared.reads.whole[:count].tobytes())

    def work(self) -> bool:
        """Take a step of what has come and is not parsed.

        Returns:
            Whether there is more, that can be taken now.
        """
        protocol = self._protocol
        if protocol is None or not protocol.unparsed or self._backlog is not None:
            return False  # it is over; or stopped, and ``go_on`` brings it back
        frames = protocol.go_on()
        if frames:
            self._take(frames)
        self._look_after(protocol)
        if self._backlog is not None:
            return False
        if protocol.unparsed:
            return True
        self._taken_all()
        return False

    def _look_after(self, protocol: ClientFrames) -> None:
        """What nearly all that clients send does not need."""
        self._account(protocol)
        if protocol.pongs:
            self._answer(protocol)
        if self._backlog is None:
            if protocol.unparsed:
                if self._transport is not None:
                    self._transport.pause_reading()
                self._shared.work.add(self)
            elif protocol.failure is not None:
                self._settle()

    def _taken_all(self) -> None:
        """Nothing is left of what has come: read on, or see to the end."""
        if self.state is _GHOST and self._protocol is not None:
            self._protocol.give_up()  # no more of a message comes
        self._resume()
        self._settle()

    @property
    def has_input(self) -> bool:
        """Whether something that the client has sent waits to be taken."""
        return self._backlog is not None or (self._protocol is not None and self._protocol.unparsed > 0)

    def _take(self, frames: list[ClientFrame]) -> None:
        """Take frames in the order of the wire, until one has to wait."""
        entry = self.entry
        if self._ships is not None and (self._ships.link is not entry.link or not self.expects_events):
            self._stop_shipping()
        shared = self._shared
        link, window, counters = entry.link, self.window, shared.counters
        shut, room = entry.held or (link is not None and link.blocked), WINDOW_BYTES
        window_bytes = shared.window_bytes
        if window_bytes.taken > window_bytes.half:
            room = shared.windows.share()
        request = entry.auto_request if self.mode is _HIBERNATABLE else None
        written = False
        answers, stopped_at, close, gate = 0, -1, None, None
        for position, (opcode, payload) in enumerate(frames):
            if opcode is _TEXT:
                binary = False
            elif opcode is _BINARY:
                binary = True
            else:
                close = payload
                break
            if not self.expects_events:
                continue
            if request is not None and not binary and payload == request:
                if self.is_far_over:  # it asks and does not take the answers
                    stopped_at, gate = position, None
                    break
                answers += self._note_answer()
                continue
            size = len(payload)
            takes = size + EVENT_BYTES if size <= SHORT_TEXT else memory_of(payload, binary)
            events = window.events
            is_large = size >= AHEAD_BYTES
            if shut or (
                (
                    (events and (len(events) >= WINDOW_MESSAGES or window.size + takes > room))
                    or (not room and takes > SMALL_BYTES)
                )
                and not (is_large and self._ships is not None)
            ):
                stopped_at, gate = position, shared.windows.gate(entry, room)
                break
            if is_large and link is not None:
                if not self._has_gone_ahead(payload, link, takes):
                    stopped_at, gate = position, None
                    break
            else:
                window_bytes.taken += takes
            counters.messages_in += 1
            counters.bytes_in += size
            if link is None:
                window.add(payload, binary, 0)
            else:
                seq = window.add(payload, binary, 1)
                if shared.reports.pending:
                    shared.reports.before_event(link, self.number)
                if is_large:
                    link.writer.message_ahead(self.number, seq, 0, self._ahead(), binary)
                else:
                    link.writer.message(self.number, seq, 0, payload, binary)  # type: ignore[arg-type]  # not large
                written = True
                if size > SHORT_TEXT and link.writer.size >= LARGE_BYTES:
                    link.flush()  # what comes behind meets the link's bounds
                    shut = link.blocked
        if written:
            link.flush_message()  # type: ignore[union-attr]  # written only with a link
        if answers:
            counters.auto_responses += answers
            self.writer.write(entry.auto_frame * answers)  # which may close the connection: it is too slow
        if close is not None:
            self._client_closed(close)  # type: ignore[arg-type]  # a Close is not large
        elif stopped_at >= 0:
            frames = frames[stopped_at:] if stopped_at else frames
            if self.expects_events:
                self._stop(frames, gate)
            else:
                self._take(frames)  # nobody waits for them now: none of them stops it

    # --- what goes ahead ---

    def _has_gone_ahead(self, payload: Payload, link: OwnerLink, takes: int) -> bool:
        """Whether a large message may be passed on, as its payload has gone ahead in pieces; if not, it goes, and all
        that the client has sent behind it waits as for anything else. It has its room among all windows from then on.
        """
        ships = self._ships
        if ships is None:
            self._ships = ships = _Ships(link, takes)
            self._shared.window_bytes.taken += takes
            ships.shipment = link.ship(payload, self, partial(self._shipped, ships))
        return ships.ahead is not None

    def _shipped(self, ships: _Ships, ahead: Ahead) -> None:
        ships.ahead = ahead
        try:
            self.go_on()
        except Exception as error:
            self.break_off(error)

    def _ahead(self) -> Ahead:
        """Where the payload has gone that is passed on now."""
        ships, self._ships = self._ships, None
        assert ships is not None
        assert ships.ahead is not None
        return ships.ahead

    def _stop_shipping(self) -> None:
        """The message does not go there."""
        ships, self._ships = self._ships, None
        if ships is not None:
            self._shared.window_bytes.taken -= ships.takes
            if ships.shipment is not None:
                ships.link.cancel(ships.shipment)

    @property
    def sends_ahead(self) -> bool:
        """Whether a large message is on its way to its object's owner."""
        return self._ships is not None

    def leave_owner(self) -> None:
        """Its object has no owner any more: what was on its way there, and is not passed on, waits for the next."""
        self._stop_shipping()
        try:
            self.go_on()
        except Exception as error:
            self.break_off(error)

    # --- answers of the router's own ---

    def answered_automatically(self, time: float) -> None:
        """The shard has answered in the object's place at *time*, Unix seconds."""
        self._auto_time = max(self._auto_time or time, time)

    def _note_answer(self) -> bool:
        """Note that the client is answered in the object's place; not after its close(), nor is the message passed on
        then. The answers to all that was read together are written together."""
        if not self.writable:
            return False
        shared, link = self._shared, self.entry.link
        self._auto_time = now = shared.wall()
        if link is not None:
            shared.reports.note(link, self.number, now)
        return True

    def _answer(self, protocol: ClientFrames) -> None:
        """Answer the client's pings: all that were read together at once; of those of a client that does not take its
        output only the last (RFC 6455 5.5.3), and once it does."""
        pongs, protocol.pongs = protocol.pongs, []
        if not self.writable:
            return  # nothing comes after our Close, no pong either
        if self._slow is not None:
            self._late_pong = pongs[-1]
        else:
            self.writer.write(b"".join(pongs))

    def resume_writing(self) -> None:
        """The client has caught up; or, if it was full, has taken half of its share."""
        super().resume_writing()
        if self._slow is None:
            pong, self._late_pong = self._late_pong, b""
            if pong and self.writable:
                self.writer.write(pong)
        if self._backlog and not self.full and self.gate is None:
            self.go_on()

    # --- backpressure ---

    def _stop(self, frames: list[ClientFrame], gate: Gate | None) -> None:
        """*frames* have to wait: for room in the window, or at a *gate*."""
        shared = self._shared
        if self._backlog is None:
            shared.counters.stopped += not self._is_crowded
            if self._transport is not None:
                self._transport.pause_reading()
        self._backlog, self._backlog_bytes = frames, _bytes_of(frames)
        assert self._protocol is not None
        self._protocol.has_news = True
        self.gate = gate
        if gate is not None:
            gate.add(self)

    def _leave_gate(self) -> None:
        gate, self.gate = self.gate, None
        if gate is not None:
            gate.remove(self)

    def go_on(self) -> None:
        """Try to take what waits. Calling it too early does no harm."""
        backlog, shared, protocol = self._backlog, self._shared, self._protocol
        if not backlog:
            return  # nothing waits; or, when it is empty and not None, this very method is at work below
        self._backlog = []
        self._leave_gate()
        self._take(backlog)
        if self._backlog:
            self._count_unfinished()
            return
        self._backlog, self._backlog_bytes = None, 0
        shared.counters.stopped -= not self._is_crowded
        self._count_unfinished()
        if protocol is not None and protocol.unparsed:
            shared.work.add(self)
        else:
            self._taken_all()

    def _resume(self) -> None:
        """Read on, if nothing else stands against it."""
        transport = self._transport
        if transport is None or self.has_input or self._is_crowded or self.state is State.ENDING:
            return
        self._heard = self._shared.wheel.tick
        self._pinged = 0
        transport.resume_reading()

    def _account(self, protocol: ClientFrames) -> None:
        """Count what has come and is in no window yet; stop reading if there is too much of it at this router."""
        protocol.has_news = False
        transport = self._transport
        waits = self._backlog_bytes + protocol.unparsed
        if transport is None:
            self._shared.unfinished.update(self, 0, 0, waits)  # a ghost begins nothing
            self._shared.fit_reads()
            return
        fits = self._shared.unfinished.update(self, protocol.held, protocol.left, waits)
        self._shared.fit_reads()
        if not fits and not self._is_crowded:
            self._set_crowded(True)
            transport.pause_reading()

    def _count_unfinished(self) -> None:
        if self._protocol is not None:
            self._account(self._protocol)

    def _set_crowded(self, is_crowded: bool) -> None:
        if is_crowded is not self._is_crowded:
            self._is_crowded = is_crowded
            if self._backlog is None:
                self._shared.counters.stopped += 1 if is_crowded else -1

    def read_on(self) -> None:
        """There is room for the message that it has begun."""
        self._set_crowded(False)
        self._resume()

    def cut_message(self) -> None:
        """Others wait for the room that its unfinished message takes, which does not grow: give it up, and close."""
        log.info("connection %d: %s, closed", self.number, UNFINISHED)
        if self._protocol is not None:
            self._protocol.give_up()
        self._set_crowded(False)
        self.close(TRY_AGAIN_LATER, UNFINISHED)
        self._count_unfinished()
        self._resume()
