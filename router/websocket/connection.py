"""One client's WebSocket at the router.

Theory of operation
===================

The object is a third party to the closing of a connection: ``states`` has the table. What the router does follows from
who has closed so far.

Events of a connection are numbered in its window. The last is always CLOSED or FAILED, sent once: ``expects_events``
turns false with it. Nothing comes after it, whatever the client does.

A client that breaks the protocol may have sent valid messages before, whose answers are on their way. So the connection
does not fail at once: it is *failing* until the object is done with all events before, and their output is written, or
until the close timeout. Then the object hears of the failure, and the client gets its Close.

What comes from the client and what goes to it are two halves of it, ``inlet`` and ``outlet``. They are base classes and
not parts, because there are tens of thousands of connections, and each message goes through. For the same reason the
transport's callbacks (``data_received`` and so on) are methods of the connection itself. None of these modules has
sockets.
"""

from __future__ import annotations

import logging

from ...common.close_codes import ABNORMAL, INTERNAL_ERROR, VANISHED
from ...common.wire.records import AcceptMode, HttpResponse, Passport
from ..clients.context import ClientContext
from ..clients.links import OwnerLink
from ..clients.objects import ObjectEntry
from ..clients.work import Ending
from ..clients.writers import Transport, Writer
from ..formats.compression import Encoder
from ..formats.frames import PING
from .client_frames import ClientError, ClientFrames, close_of
from .inlet import Inlet
from .states import State, Trigger, after
from .window import End, memory_of

log = logging.getLogger("roost.router")


# Looking up a member of an enumeration takes as long as a call.
_HIBERNATABLE = AcceptMode.HIBERNATABLE
_PENDING, _OPEN, _GHOST, _GONE = State.PENDING, State.OPEN, State.GHOST, State.GONE
_CLOSED_BY_CLIENT, _CLOSED_BY_OBJECT = State.CLOSED_BY_CLIENT, State.CLOSED_BY_OBJECT


class Connection(Inlet):
    """A client's WebSocket, from the handshake until the last of its events is acknowledged.

    Args:
        number: Its counter.
        entry: Its object; the connection enters itself there.
        shared: What all connections share; the connection enters itself in the table there.
        url: URL of the handshake.

    Attributes:
        known: The object's shard knows it: it is restored to a new owner.
        encoder: What compresses messages to it; ``None`` without compression.
        attachment: The serialised attachment, ``None`` when never set.
    """

    __slots__ = (
        "_client_close",
        "_closed_by_object",
        "_end_seq",
        "_is_failing",
        "_ordinal",
        "_subprotocol",
        "_tags",
        "_url",
        "attachment",
        "encoder",
        "known",
    )

    entry: ObjectEntry[Connection]
    _shared: ClientContext[Connection]

    def __init__(
        self, number: int, entry: ObjectEntry[Connection], shared: ClientContext[Connection], url: str
    ) -> None:
        super().__init__(number, entry, shared)
        self.known = False
        self.encoder: Encoder | None = None
        self.attachment: bytes | None = None
        self._url = url
        self._subprotocol = ""
        self._ordinal = 0
        self._tags: tuple[str, ...] = ()
        self._closed_by_object = False
        self._client_close: tuple[int, str] | None = None
        self._end_seq = 0
        self._is_failing = False
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
        shared.window_bytes.taken -= window.acknowledge(first, last)
        if self._end_seq and window.end_is_over():
            self.known = False  # TCP may take a while to end, and nobody would tell a new owner of it again
        if self._backlog is not None:
            if window.half_empty and (self.gate is None or self.gate is shared.windows.crowded):
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
        self._shared.window_bytes.taken -= self.window.clear()
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
        self._shared.window_bytes.taken -= self.window.clear()
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
            self._shared.window_bytes.taken -= memory_of(event[0], event[1])
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
        shared.window_bytes.taken -= self.window.clear()
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
        shared.window_bytes.taken -= self.window.clear()
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
