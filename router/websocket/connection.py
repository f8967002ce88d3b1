"""One client's WebSocket at the router.

Theory of operation
===================

The object is a third party to the closing of a connection: ``states`` has the table. What the router does follows from
who has closed so far.

Events of a connection are numbered in its window. The last is always CLOSED or FAILED, sent once: ``expects_events``
turns false with it. Nothing comes after it, whatever the client does.

Reading stops when an event cannot be taken: its window is full, its object is held, its link is blocked, or the router
holds too much. The frames that were parsed already, a step's at most, wait in ``_backlog``, TCP is not read, and no
deadline runs against the client. What it waits for calls ``go_on``: an acknowledgement, or the ``gate`` (see ``work``)
of its object or of all windows. A large message waits as well, and all behind it, until its payload has gone ahead to
its object's owner (``common.shipping``): before that it is in no window, and nobody has to know of it. Reading also
stops while more has come than a step's worth of frames: the connection takes its turn with others (``work``) until
nothing is left. A connection that is lost or failed meanwhile first delivers what it has sent, then the end. So the
order of events is the order of the wire.

A client that breaks the protocol may have sent valid messages before, whose answers are on their way. So the connection
does not fail at once: it is *failing* until the object is done with all events before, and their output is written, or
until the close timeout. Then the object hears of the failure, and the client gets its Close.

This module has no sockets. The transport's callbacks (``data_received`` and so on) are methods of ``Connection``
itself, because a second object per connection between the two would cost memory and a call for each message.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from websockets.frames import Opcode

from ...common.limits import WINDOW_BYTES, WINDOW_MESSAGES
from ...common.wire.records import AcceptMode, Ahead, HttpResponse, Passport
from ...common.wire.shipping import Shipment
from ..clients.gathering import AHEAD_BYTES, Payload
from ..clients.links import LARGE_BYTES, OwnerLink
from ..clients.objects import ObjectEntry
from ..clients.surroundings import Surroundings
from ..clients.work import AT_ONCE_BYTES, LEAST_COST, Ending, Gate
from ..clients.writers import Transport, Writer
from ..formats.compression import Encoder
from ..formats.frames import ABNORMAL, INTERNAL_ERROR, PING, TRY_AGAIN_LATER
from .client_frames import STEP_FRAMES, ClientError, ClientFrame, ClientFrames, close_of, is_one_message
from .outlet import Outlet
from .states import State, Trigger, after
from .window import EVENT_BYTES, SHORT_TEXT, SMALL_BYTES, End, Window, memory_of

log = logging.getLogger("roost.router")

UNFINISHED = "the server has too many unfinished messages"
"""The reason with which a client is closed whose message does not get on while others wait."""
VANISHED = "WebSocket disconnected without sending Close frame."
"""The reason with which an object hears of a client that is gone (the reference runtime's words)."""

# Looking up a member of an enumeration takes as long as a call.
_TEXT, _BINARY = Opcode.TEXT, Opcode.BINARY
_HIBERNATABLE = AcceptMode.HIBERNATABLE
_FRAME_COST = 64
"""What a frame costs in bytes that a turn takes apart at once (``work``): some 3 µs."""

_PENDING, _OPEN, _GHOST, _GONE = State.PENDING, State.OPEN, State.GHOST, State.GONE
_CLOSED_BY_CLIENT, _CLOSED_BY_OBJECT = State.CLOSED_BY_CLIENT, State.CLOSED_BY_OBJECT


def _bytes_of(frames: list[ClientFrame]) -> int:
    return sum([len(payload) for _, payload in frames])


class _Ships:
    """A large message of a client on its way to its object's owner, ahead of its record.

    Attributes:
        link: Where to.
        shipment: Its payload.
        ahead: Where that has gone, once it has.
    """

    __slots__ = ("ahead", "link", "shipment")

    def __init__(self, link: OwnerLink) -> None:
        self.link = link
        self.shipment: Shipment | None = None
        self.ahead: Ahead | None = None


class Connection(Outlet):
    """A client's WebSocket, from the handshake until the last of its events is acknowledged.

    Args:
        number: Its counter.
        entry: Its object; the connection enters itself there.
        shared: What all connections share; the connection enters itself in the table there.
        url: URL of the handshake.

    Attributes:
        entry: Its object.
        state: Where it is in its life.
        mode: How the object accepted it; PLAIN before that.
        known: The object's shard knows it: it is restored to a new owner.
        expects_events: The object still hears of it: the end has not been told.
        encoder: What compresses messages to it; ``None`` without compression.
        attachment: The serialised attachment, ``None`` when never set.
        window: Its events that are not acknowledged.
        gate: Where it waits for something else than room in its window; ``None`` if it does not.
    """

    __slots__ = (
        "_auto_time",
        "_backlog",
        "_backlog_bytes",
        "_client_close",
        "_closed_by_object",
        "_end_seq",
        "_heard",
        "_is_crowded",
        "_is_failing",
        "_late_pong",
        "_ordinal",
        "_pinged",
        "_protocol",
        "_ships",
        "_subprotocol",
        "_tags",
        "_url",
        "attachment",
        "encoder",
        "entry",
        "expects_events",
        "gate",
        "known",
        "mode",
        "state",
        "window",
    )

    _shared: Surroundings[Connection]

    def __init__(self, number: int, entry: ObjectEntry[Connection], shared: Surroundings[Connection], url: str) -> None:
        super().__init__(number, shared)
        self.entry = entry
        self.state = _PENDING
        self.mode = AcceptMode.PLAIN
        self.known = False
        self.expects_events = False
        self.encoder: Encoder | None = None
        self.attachment: bytes | None = None
        self.window = Window()
        self._url = url
        self._protocol: ClientFrames | None = None
        self._subprotocol = ""
        self._ordinal = 0
        self._tags: tuple[str, ...] = ()
        self._auto_time: float | None = None
        self._closed_by_object = False
        self._client_close: tuple[int, str] | None = None
        self._end_seq = 0
        self._backlog: list[ClientFrame] | None = None
        self._backlog_bytes = 0
        self.gate: Gate | None = None
        self._late_pong = b""
        self._ships: _Ships | None = None
        self._is_failing = self._is_crowded = False
        self._heard = self._pinged = 0
        entry.connections[number] = self
        shared.connections.add(self)

    @property
    def client_close(self) -> tuple[int, str] | None:
        """Code and reason of the client's Close; ``None`` when none has come."""
        return self._client_close

    def _link(self) -> OwnerLink | None:
        return self.entry.link

    def _to(self, trigger: Trigger) -> None:
        self.state = after(self.state, trigger)

    # --- the handshake's end ---

    def accept(
        self,
        response: HttpResponse,
        protocol: ClientFrames,
        transport: Transport,
        writer: Writer,
        *,
        subprotocol: str = "",
        encoder: Encoder | None = None,
    ) -> None:
        """The object has accepted and the 101 is written.

        Args:
            response: The object's answer, with what goes into the passport.
            protocol: The connection's protocol, open.
            transport: TCP.
            writer: What writes to it.
            subprotocol: As the object chose it.
            encoder: What compresses messages to it.
        """
        shared = self._shared
        self._accepted(response)
        self._protocol = protocol
        self._open(transport, writer)
        self._subprotocol, self.encoder = subprotocol, encoder
        self._heard = shared.wheel.tick
        shared.wheel.schedule(self, shared.ping_after)

    def accept_lost(self, response: HttpResponse) -> None:
        """The object has accepted a client that is gone, or whose 101 cannot be sent: it hears so at once."""
        self._accepted(response)
        self.connection_lost(None)

    def _accepted(self, response: HttpResponse) -> None:
        self._to(Trigger.ACCEPTED)
        self.mode = response.mode
        self.known = self.expects_events = response.mode is not AcceptMode.UNACCEPTED
        self._ordinal, self._tags = response.ordinal, response.tags
        self.attachment = response.attachment
        self._shared.counters.connections += 1

    def refuse(self) -> None:
        """There will be no connection: the object gave an ordinary answer, or none can come."""
        if self.state is _PENDING:
            self._to(Trigger.REFUSED)
            self._leave_tables()

    # --- what the transport calls ---

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

    def eof_received(self) -> bool:
        """The client sends no more bytes.

        Returns:
            Whether TCP stays open: for what we have to send, after a Close of the client or while we fail it; or
            until the turn of this end has come.
        """
        return self._ends_first or not self._shared.work.ends(Ending(self._end_of_input, self))

    @property
    def _ends_first(self) -> bool:
        """Whether it is we who end TCP, though the client sends no more."""
        return self.state is _CLOSED_BY_CLIENT or self._is_failing

    def _end_of_input(self) -> None:
        """The client's end has its turn."""
        if self._transport is not None and not self._ends_first:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """TCP is over."""
        try:
            self._lost()
        except Exception as defect:
            self._transport = None
            self.break_off(defect)

    def _lost(self) -> None:
        if self.state is _GHOST or self.state is _GONE:
            return
        shared = self._shared
        self._to(Trigger.LOST)
        self._gone()
        self._set_crowded(False)
        shared.counters.connections -= 1
        oldest = shared.connections.haunt(self)
        if self._protocol is not None:
            if not self._protocol.unparsed:
                self._protocol.give_up()  # no more of a message comes
            self._account(self._protocol)
        if not self.has_input:
            self._settle()
        if oldest is not None and oldest.state is _GHOST:
            shared.counters.ghosts_dropped += 1
            oldest.forget_events()

    # --- from the client ---

    def _take(self, frames: list[ClientFrame]) -> None:
        """Take frames in the order of the wire, until one has to wait."""
        entry = self.entry
        if self._ships is not None and (self._ships.link is not entry.link or not self.expects_events):
            self._stop_shipping()
        shared = self._shared
        link, window, counters = entry.link, self.window, shared.counters
        shut, room = entry.held or (link is not None and link.blocked), WINDOW_BYTES
        if counters.window_bytes > shared.windows_half:
            room = shared.window_share()
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
            if (
                shut
                or (events and (len(events) >= WINDOW_MESSAGES or window.size + takes > room))
                or (not room and takes > SMALL_BYTES)
            ):
                stopped_at, gate = position, shared.gate(entry, room)
                break
            is_large = size >= AHEAD_BYTES
            if is_large and link is not None and not self._has_gone_ahead(payload, link):
                stopped_at, gate = position, None
                break
            counters.window_bytes += takes
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

    def _has_gone_ahead(self, payload: Payload, link: OwnerLink) -> bool:
        """Whether a large message may be passed on, as its payload has gone ahead in pieces; if not, it goes, and all
        that the client has sent behind it waits as for anything else."""
        ships = self._ships
        if ships is None:
            self._ships = ships = _Ships(link)
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
        if ships is not None and ships.shipment is not None:
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

    def _client_closed(self, body: bytes) -> None:
        protocol, state = self._protocol, self.state
        assert protocol is not None
        try:
            code, reason = close_of(body, strict=state is _OPEN)
        except ClientError as error:
            protocol.failure = error  # as for any other frame that is wrong; the caller looks at that
            return
        if state is _OPEN:
            self._to(Trigger.CLIENT_CLOSE)
            self._client_close = (code, reason)
            if self.expects_events:
                self._end(End(False, code, reason, True, 0))
                self._set_deadline()
            else:
                self._echo()
        elif state is _CLOSED_BY_OBJECT or state is State.CLOSED_BY_ROUTER:
            if self.expects_events:
                self._end(End(False, code, reason, True, 0))
            self._to(Trigger.CLIENT_CLOSE)
            self._end_tcp()
        elif state is _GHOST and self.expects_events:
            # It closed properly, then ended TCP while its messages waited.
            self._end(End(False, code, reason, True, 0))

    def _settle(self) -> None:
        """All that the client sent has been taken: if that was all that comes, tell the object."""
        state, protocol = self.state, self._protocol
        if protocol is not None and protocol.failure is not None:
            if state is _GHOST:
                self._fail()
            elif (state is _OPEN or state is _CLOSED_BY_OBJECT) and not self._is_failing:
                self._is_failing = True
                if self.window.events:
                    self._set_deadline()  # answers to what came before are on their way
                else:
                    self._fail()
        if state is _GHOST:
            if self.expects_events:
                self._end(End(False, ABNORMAL, VANISHED, False, 0))
            self._forget_if_done()

    def _fail(self) -> None:
        """The client broke the protocol: tell it and the object."""
        protocol, shared, state = self._protocol, self._shared, self.state
        assert protocol is not None
        error = protocol.failure
        assert error is not None
        self._is_failing = False
        has_tcp = state is _OPEN or state is _CLOSED_BY_OBJECT
        if not has_tcp and not (state is _GHOST and self.expects_events):
            return  # another end has come meanwhile
        shared.counters.protocol_errors += 1
        if self.expects_events:
            self._end(End(True, error.code, error.description, False, 0))
        if has_tcp:
            if self.writable:
                self._write_close(error.code, error.description)
            self._to(Trigger.ROUTER_CLOSE)
            self._half_close()

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

    # --- events to the object ---

    def _end(self, end: End) -> None:
        """Tell the object of the end, once."""
        self.expects_events = False
        seq = self._end_seq = self.window.end(end)
        link = self.entry.link
        if link is not None:
            if self._shared.reports.pending:
                self._shared.reports.before_event(link, self.number)
            end.write(link.writer, self.number, seq)
            link.flush_soon()

    def acknowledge(self, first: int, last: int) -> bool:
        """The object's shard is done with the events *first* to *last*.

        Returns:
            Whether the caller has to pass on by ``handlers_ended``, once the object's output before is written, that
            the close handler has ended, or all handlers before a failure.
        """
        window, shared = self.window, self._shared
        shared.counters.window_bytes -= window.acknowledge(first, last)
        if self._end_seq and window.end_is_over():
            self.known = False  # TCP may take a while to end, and nobody would tell a new owner of it again
        if self._backlog is not None:
            if window.half_empty and (self.gate is None or self.gate is shared.crowded):
                self.go_on()
        elif self.state is _GHOST:
            self._forget_if_done()
        return first <= self._end_seq <= last or (self._is_failing and not window.events)

    def handlers_ended(self) -> None:
        """The object's close handler is over: if it has not closed by itself, the client gets its own Close back. Or
        all is answered that came before the client's failure."""
        if self.state is _CLOSED_BY_CLIENT:
            self._echo()
        elif self._is_failing:
            self._fail()

    # --- from the object ---

    def object_closed(self, code: int, reason: str, final: bool) -> None:
        """The object closes, or (*final*) forgets the connection: it was reset.

        Args:
            code: What the client is told; 1005 for a Close without a code, 1006 to end TCP without a Close.
            reason: Reason, at most 123 bytes.
            final: The object wants no event of it any more, and the client has nothing to wait for.
        """
        if self.state is _GONE or self.state is _PENDING:
            return
        if final:
            self._reset(code, reason)
            return
        self._closed_by_object = True
        if not self.writable:
            return  # TCP is over, or our Close is out: the closing that has begun goes on
        if code == ABNORMAL:
            self._to(Trigger.FINISHED)
            self._end_tcp()
            return
        self._write_close(code, reason)
        if self.state is _CLOSED_BY_CLIENT:
            self._to(Trigger.FINISHED)
            self._end_tcp()
        else:
            self._to(Trigger.OBJECT_CLOSE)
            self._set_deadline()

    def _reset(self, code: int, reason: str) -> None:
        self.known = self.expects_events = False
        self._shared.counters.window_bytes -= self.window.clear()
        state = self.state
        if state is _GHOST:
            self._forget_if_done()
        elif self.writable or state is _CLOSED_BY_OBJECT:
            if self.writable and code != ABNORMAL:
                self._write_close(code, reason)
            if code == ABNORMAL or state is _CLOSED_BY_CLIENT:
                self._to(Trigger.FINISHED)
                self._end_tcp()
            else:
                self._to(Trigger.ROUTER_CLOSE)
                self._half_close()
        self.go_on()  # nobody waits for its messages now, but its Close may be behind them

    def forget_events(self) -> None:
        """Nobody is left who knows the connection: its shard died and it cannot be restored."""
        self.known = self.expects_events = False
        self._shared.counters.window_bytes -= self.window.clear()
        if self._backlog is not None:
            self.go_on()
        elif self.state is _GHOST:
            self._forget_if_done()

    def poison(self, seq: int, reason: str) -> bool:
        """An event has ended its object's process, so that it is not sent again: the connection is closed with 1011.
        The other events stay, and the object hears of the close; but if the event was the end itself, the object does
        not hear of the connection any more.

        Returns:
            Whether the event was still kept.
        """
        event = self.window.drop(seq)
        if event is None:
            return False
        if isinstance(event, End):
            self.forget_events()
        else:
            self._shared.counters.window_bytes -= memory_of(event[0], event[1])
        self.close(INTERNAL_ERROR, reason)
        return True

    def passport(self) -> Passport:
        """What another shard needs to take the connection over."""
        entry = self.entry
        return Passport(
            connection=self.number,
            hibernatable=self.mode is _HIBERNATABLE,
            closed_by_object=self._closed_by_object,
            ordinal=self._ordinal,
            next_seq=self.window.next_seq,
            auto_response_time=self._auto_time,
            object_id=entry.object_id,
            namespace=entry.namespace,
            name=entry.name,
            url=self._url,
            protocol=self._subprotocol,
            tags=self._tags,
            attachment=self.attachment,
        )

    # --- from the router ---

    def close(self, code: int, reason: str) -> None:
        """Close for a reason of the router's own. The object is told at once, with the same code."""
        if self.expects_events:
            self._end(End(False, code, reason, False, 0))
        if self.writable:
            self._write_close(code, reason)
            if self.state is _CLOSED_BY_CLIENT:
                self._to(Trigger.FINISHED)
                self._end_tcp()
            else:
                self._to(Trigger.ROUTER_CLOSE)
                self._set_deadline()
        self.go_on()  # nobody waits for its messages now, but its Close may be behind them

    def close_or_break_off(self, code: int, reason: str) -> None:
        """As ``close``, for whoever closes one connection after the other: an error of ours ends this one only."""
        try:
            self.close(code, reason)
        except Exception as error:
            self.break_off(error)

    # --- closing ---

    def _echo(self) -> None:
        """Answer the client's Close with its own code, and end."""
        assert self._client_close is not None
        self._write_close(*self._client_close)
        self._to(Trigger.FINISHED)
        self._end_tcp()

    def on_tick(self, tick: int) -> None:
        """A time that this connection waited for has come."""
        if self._transport is None:
            return
        if self._deadline:
            if tick >= self._deadline:
                if self._puts_off() or self.owed:
                    self._deadline = self._shared.wheel.schedule(self, self._shared.close_timeout)
                else:
                    self._closing_took_too_long()
        elif self.state is _OPEN:
            self._check_life(tick)

    def _closing_took_too_long(self) -> None:
        if self.state is _CLOSED_BY_CLIENT:
            self._echo()
        elif self._is_failing:
            self._fail()
        elif self.has_input or (self._is_crowded and self.expects_events):
            self._set_deadline()  # its Close may be among what we do not read
        else:
            self.abort()

    def _check_life(self, tick: int) -> None:
        """Ping a client that has been silent, end one that does not answer."""
        shared = self._shared
        if self.has_input or self._is_crowded:
            self._heard = tick  # it may have answered: we do not read
        if self._pinged and self._heard < self._pinged:
            if self._puts_off():  # it is slow, and has not come to the ping yet
                shared.wheel.schedule(self, shared.ping_timeout)
            elif tick >= self._pinged + shared.ping_timeout:
                shared.counters.pings_unanswered += 1
                self.abort()
            return
        self._pinged = 0
        silent = tick - self._heard
        if silent < shared.ping_after:
            shared.wheel.schedule(self, shared.ping_after - silent)
            return
        self._pinged = tick
        self.writer.write(PING)
        self._watch_delivery()
        shared.wheel.schedule(self, shared.ping_timeout)

    # --- the end ---

    def break_off(self, error: Exception) -> None:
        """*error*, a defect of ours, was met for this connection, so what is known of it may be wrong: end it, whatever
        its state. TCP ends without another word, and the object hears that the client is gone."""
        shared = self._shared
        shared.defects.note(f"connection {self.number} of {self.entry.namespace}/{self.entry.name!r} is ended", error)
        self.writable = False
        self._is_failing = False
        if self._protocol is not None:
            self._protocol.give_up()
        # What it has sent its shard has, but for what is parked; what of that was acknowledged nobody knows any more.
        shared.counters.window_bytes -= self.window.clear()
        self._set_crowded(False)
        self._stop_shipping()
        if self._backlog is not None:
            self._backlog, self._backlog_bytes = None, 0
            self._leave_gate()
            shared.counters.stopped -= 1
        if self._transport is not None:
            self._transport.abort()  # ``connection_lost`` goes on from here
        elif self.state is not _GONE:
            try:
                if self.expects_events:
                    self._end(End(False, ABNORMAL, VANISHED, False, 0))
            finally:
                self._drop()

    def _drop(self) -> None:
        """Forget it by the way out that the table of states does not have."""
        shared = self._shared
        shared.counters.window_bytes -= self.window.clear()
        if self.state is not _PENDING and self.state is not _GHOST:
            shared.counters.connections -= 1
        self._gone()
        self.state, self.known = _GONE, False
        self._leave_tables()

    def _forget_if_done(self) -> None:
        if not self.window.events and not self.has_input:
            self._to(Trigger.FORGOTTEN)
            self._leave_tables()

    def _leave_tables(self) -> None:
        shared, entry = self._shared, self.entry
        self._stop_shipping()
        if self._protocol is not None:
            shared.unfinished.update(self, 0, 0)
            self._protocol = None
        shared.connections.remove(self)
        entry.connections.pop(self.number, None)
        shared.objects.release(entry)
