"""A client's TCP connection as long as it speaks HTTP: the shell over ``RequestParser``.

Requests are answered one at a time in the order received. While one is with its object, those that were pipelined
behind it wait parsed, and nothing more is read. A connection that becomes a WebSocket hands its transport over to a
``Connection`` and is gone, so that an idle WebSocket does not carry an HTTP parser along.

A connection is always in one phase, which has its deadline (``phases``), and takes room that others may need more
(``room``).

What clients send ahead of an answer (behind a request, or behind an upgrade) waits as it came, and is counted:
``MAX_BEHIND_BYTES`` of a connection, ``MAX_AHEAD_BYTES`` of all together. For more there is no room: what is behind a
request is dropped, and an upgrade is refused.

A router that drains loses no request. It answers what its clients have sent, says ``Connection: close`` with the last
answer, and gives those without a request ``DRAIN_IDLE_S`` to send another one. A closed connection may always cross a
request: so an idle one is closed only when nothing of it lies unread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from ...common.close_codes import GOING_AWAY
from ...common.errors import RequestError, Unavailable
from ...common.limits import MAX_HEAD_BYTES
from ...common.wire.records import Headers, HttpResponse, Pieces
from ..clients.retirement import GONE
from ..clients.send_buffers import HIGH_WATER
from ..clients.shares import share_of
from ..clients.tcp import has_unread
from ..clients.timers import TICK_S
from ..clients.work import Ending
from ..clients.writers import NOWHERE, writer_of
from ..formats.http import (
    CONTINUE,
    BadResponseHeader,
    Refusal,
    checked_headers,
    declared_length,
    refusal_bytes,
    response_bytes,
)
from ..formats.urls import authority, path_of
from ..owners.requests import Request
from ..websocket import handshake
from ..websocket.connection import Connection
from ..websocket.handshake import Handshake
from .front import Front
from .own_pages import OWN_PATHS, own_page
from .parser import Incoming
from .phased import PhasedConnection
from .phases import COMING, Phase
from .room import TOO_MANY_CONNECTIONS, TOO_MANY_HANDSHAKES

log = logging.getLogger("roost.router")

MAX_BEHIND_BYTES = 64 << 10
"""Bytes that may wait behind a request that its object has: beyond that the connection ends with the answers to what is
parsed, and what is not is dropped."""
ENDING = "this router is ending; try again, and another one answers"
MAY_HAVE_BEEN = "The request may have been carried out, so look before you send it again"
CUT_SHORT = f"this router ended before the object answered. {MAY_HAVE_BEEN}"
TOO_MANY_AT_WORK = "too many requests of your address are being answered at present, and others need the room"
TOO_MUCH = "requests take too much of this router's memory at present; try again later"
UPGRADE_REQUIRED = 426


class HttpConnection(PhasedConnection):
    """One client's HTTP. Made by the listener for each TCP connection.

    Args:
        front: What the HTTP connections share.
    """

    __slots__ = ("_ahead", "_ended", "_handshake", "_incoming", "_memory", "_request", "_rest")

    def __init__(self, front: Front) -> None:
        super().__init__(front, front.new_parser())
        self._parser.on_evicted = self._evicted
        self._incoming: Incoming | None = None
        self._request: Request | None = None
        self._handshake: Handshake | None = None
        self._rest = bytearray()
        self._ended = False
        self._ahead = 0
        self._memory = 0

    # --- the transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are like it, but do not inherit from it
        try:
            self._begin(self._transport)
        except Exception as error:
            self.break_off(error)  # the loop would not say whose it was

    def _begin(self, transport: asyncio.Transport) -> None:
        front, counters = self._front, self._front.counters
        connections = front.budgets.http_connections
        connections.taken += 1
        front.open.add(self)
        self._writer = writer_of(transport, front.shared.turns)
        self.address = share_of(transport.get_extra_info("peername"))
        crowded = not front.room.takes(self.address)
        full = connections.taken + counters.connections > front.descriptors.for_clients
        if full:
            front.descriptors.refused(front.now())
            full = not front.room.make_room_for_descriptor(self.address)
        self._enter(Phase.FRESH)
        if front.own_host is None:
            host, port = transport.get_extra_info("sockname")[:2]
            self._parser.own_host = authority(host, port)
        if full:
            counters.turned_away += 1
            self._refuse(Unavailable("this router holds as many connections as it can; try again later"))
        elif crowded:
            self._refuse(Unavailable(TOO_MANY_CONNECTIONS))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._front.shared.reads.get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(self._front.shared.reads.whole[:nbytes].tobytes())

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        work = self._front.shared.work
        if self._phase is Phase.LINGERING:
            # It is dropped. The next read takes its turn: the transport would go on for as long as something is there.
            self._pause(True)
            work.add(self)
            return
        if self._phase is Phase.UPGRADE:
            self._keep(data)
        else:
            if work.takes(len(data)):
                self._parser.feed(data)
                self._serve()
            else:
                self._parser.keep(data)
                self._take_turn()
        self._count()
        self._front.room.relieve(self)

    def _take_turn(self) -> None:
        """Much has come in this turn of the loop, and what has come here is not looked at in it."""
        if self._may_parse():
            self._pause(True)
            self._front.shared.work.add(self)
            if self._phase is Phase.FRESH or self._phase is Phase.IDLE:
                self._enter(Phase.HEAD)
        else:
            self._serve()

    def eof_received(self) -> bool:
        if self._incoming is not None and self._phase is not Phase.UPGRADE:
            # It has sent all it wanted and waits for answers, as programs do that shut their sending side down.
            self._ended = True
            return True
        return not self._front.shared.work.ends(Ending(self._end_of_input, self))

    def _end_of_input(self) -> None:
        """The client's end has its turn."""
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        request = self._request
        self._leave()
        if request is not None:
            self._front.desk.abandon(request)

    def resume_writing(self) -> None:
        self._not_slow()
        if self._transport is not None:
            self._serve()

    def _leave(self) -> None:
        """This connection's part is over: it has ended, or goes on as a WebSocket."""
        if self._transport is None:
            return
        front = self._front
        self._not_slow()
        self._transport, self._writer = None, NOWHERE
        front.leave(self)
        front.budgets.http_connections.taken -= 1
        self._enter(Phase.OVER)
        self._release()
        self._drop_input()
        self._parser = front.spent
        self._incoming = self._request = self._handshake = None
        self._count()

    # --- requests, in turn ---

    def _serve(self) -> None:
        """Go on with what has been parsed, as far as the client takes the answers. What is not parsed yet takes its
        turn with what others have sent."""
        parser = self._parser
        while self._transport is not None and self._incoming is None and self._slow is None and parser.items:
            item = parser.items.popleft()
            if isinstance(item, Incoming):
                self._start(item)
            else:
                self._refuse(item)
        if self._transport is None or self._is_over():
            return
        if self._incoming is None and parser.expecting is not None and not parser.items:
            self._answer_expectation()
            if self._is_over():
                return
        if self._incoming is not None and self._phase is not Phase.UPGRADE:
            too_much = not self._count_ahead(parser.unparsed)
            if too_much or parser.unparsed > MAX_BEHIND_BYTES:
                parser.cut_behind(self._incoming)
                self._count_ahead(0)
        else:
            self._count_ahead(len(self._rest))
        self._pause(bool(parser.items) or parser.unparsed > 0 or self._slow is not None)
        if self._may_parse():
            self._front.shared.work.add(self)
        elif self._incoming is None:
            self._settle()

    def _may_parse(self) -> bool:
        """Whether something waits to be parsed, and what was parsed before is answered."""
        if self._transport is None or self._incoming is not None or self._slow is not None:
            return False
        return self._parser.unparsed > 0 and not self._parser.items

    def work(self) -> bool:
        """Parse a step of what the client has sent; returns whether there is more that can be parsed now."""
        if not self._may_parse():
            if self._phase is Phase.LINGERING:
                self._pause(False)
            return False
        self._parser.go_on()
        self._serve()
        self._count()
        self._front.room.relieve(self)
        return self._may_parse()

    def _count(self) -> None:
        """Count what it holds beside bodies."""
        memory = 0
        if self._transport is not None:
            incoming = self._incoming
            memory = self._parser.memory + (0 if incoming is None else incoming.memory)
            if self._ahead and not self._rest:
                memory -= self._ahead  # of its parser's: it has a bound of its own
        if memory != self._memory:
            self._front.budgets.heads.taken += memory - self._memory
            self._memory = memory
            self._front.shared.fit_reads()

    def give_way(self) -> None:
        """Requests take too much memory, and nobody else can make room: take no more of this client."""
        if self._transport is None or self._is_over():
            return
        if self._phase is Phase.UPGRADE:
            self._give_up_upgrade(Unavailable(TOO_MUCH))
        elif self._incoming is None:
            self._refuse(Unavailable(TOO_MUCH))
        else:
            self._parser.cut_behind(self._incoming)
            self._count_ahead(0)
            self._count()

    def _is_over(self) -> bool:
        return self._phase is Phase.LINGERING

    def _settle(self) -> None:
        """No request is with an object: see what we wait for."""
        parser = self._parser
        if self._slow is not None:
            self._enter(Phase.CLOGGED)
        elif parser.body_open:
            self._enter(Phase.BODY)
            self._body_came()
        elif parser.head_open:
            self._begin_head()
        elif self._ended or parser.finished:
            self._close()
        elif self._phase is not Phase.FRESH:
            self._enter(Phase.IDLE)

    def _begin_head(self) -> None:
        """A head has begun and is not complete."""
        if self._phase is not Phase.HEAD:
            try:
                self._front.room.make_room_for_handshake(self.address)
            except Unavailable as error:
                self._refuse(error)
            else:
                self._enter(Phase.HEAD)

    def _evicted(self) -> None:
        """The body that was coming had to make room: say so, once the requests before it are answered."""
        if self._transport is not None:
            self._serve()

    def _start(self, incoming: Incoming) -> None:
        """Begin with a request that is next."""
        self._front.counters.http_requests += 1
        self._incoming = incoming
        self._ask(incoming)

    def go_on(self) -> None:
        """A shard has entered the cluster: go on with the request that waited for one."""
        if self._incoming is not None and self._phase is Phase.WAITING:
            self._ask(self._incoming)
            self._serve()

    def _ask(self, incoming: Incoming) -> None:
        """Answer a request, or have its object answer it."""
        front, head = self._front, incoming.head
        try:
            own = own_page(head, front)
            if own is not None:
                self._respond(own.status, own.headers, own.body)
                return
            if not front.has_shards:
                if front.ending:
                    raise Unavailable(ENDING)
                front.wait(self)
                self._enter(Phase.WAITING)
                return
            target = front.address(head.target)
            if not front.room.takes_request(self.address):
                raise Unavailable(TOO_MUCH)
            if head.wants_websocket:
                self._handshake = handshake.begin(
                    head,
                    incoming.version,
                    max_message_bytes=front.config.max_message_bytes,
                    compression=front.config.compression,
                    watch=front.shared.discards.watch,
                )
                if self._phase is not Phase.HEAD:
                    front.room.make_room_for_handshake(self.address)
            self._request = front.desk.ask(
                self,
                namespace=target.namespace,
                name=target.name,
                method=head.method,
                url=head.url(self._writer.scheme),
                headers=head.headers,
                body=incoming.body,
                upgrade=self._handshake is not None,
                share=self.address,
                memory=incoming.memory + len(incoming.body),
            )
        except RequestError as error:
            self._handshake = None
            self.failed(error)
            return
        if self._handshake is None:
            self._enter(Phase.BUSY)
        else:
            self._enter(Phase.UPGRADE)
            if self._parser.rest:
                self._keep(self._parser.rest)

    def _release(self) -> None:
        """The body of the present request is not held here any more."""
        incoming = self._incoming
        if incoming is not None and incoming.body:
            self._parser.release(incoming.body)
            incoming.body = b""

    def _answer_expectation(self) -> None:
        """A client waits for a 100 before it sends a body: say so, unless the body could only be thrown away."""
        head, self._parser.expecting = self._parser.expecting, None
        assert head is not None
        assert self._transport is not None
        try:
            if path_of(head.target) not in OWN_PATHS and self._front.has_shards:
                self._front.address(head.target)
        except RequestError as error:
            self._refuse(error)
        else:
            self._transport.write(CONTINUE)

    # --- answers (Asker) ---

    def answered(self, response: HttpResponse) -> None:
        """The object gave an ordinary response."""
        try:
            headers = checked_headers(response.headers)
        except BadResponseHeader as error:
            self._bad_response(error)
            return
        if response.status == UPGRADE_REQUIRED:
            # It must say to what (RFC 9110 15.5.22), in fields that only the router may set.
            headers += handshake.OFFER
        self._respond(response.status, headers, response.body, declared=declared_length(response.headers))
        self._serve()

    def upgraded(self, connection: Connection, response: HttpResponse) -> None:
        """The object accepted the WebSocket."""
        front, transport, shake = self._front, self._transport, self._handshake
        assert transport is not None
        assert shake is not None
        try:
            data = shake.complete(response.headers)
        except BadResponseHeader as error:
            connection.accept_lost(response)
            self._bad_response(error)
            return
        transport.write(data)
        connection.accept(
            response,
            shake.protocol,
            transport,
            self._writer,
            subprotocol=shake.subprotocol,
            encoder=shake.encoder,
        )
        rest, paused, slow = bytes(self._rest), self._paused, self._slow is not None
        self._leave()
        transport.set_protocol(connection)  # type: ignore[arg-type]  # it has a protocol's methods
        transport.set_write_buffer_limits(HIGH_WATER)
        if slow:
            connection.pause_writing()  # the transport says so only when it changes
        if paused:
            transport.resume_reading()
        if rest:
            connection.data_received(rest)
        if front.ending:
            connection.close(GOING_AWAY, GONE)

    def failed(self, error: RequestError) -> None:
        """There is no answer of an object."""
        incoming = self._incoming
        assert incoming is not None
        assert self._transport is not None
        keep_alive = self._may_keep_alive(incoming)
        head_only = incoming.head.method == "HEAD"
        self._transport.write(
            refusal_bytes(
                error, date=self._front.date(), keep_alive=keep_alive, head_only=head_only, accept=incoming.head.accept
            )
        )
        waited = self._request is not None
        self._finish(keep_alive)
        if waited:
            self._serve()

    def _bad_response(self, error: BadResponseHeader) -> None:
        request = self._request
        assert request is not None
        log.error("object %r: %s", f"{request.record.namespace}/{request.record.name}", error)
        self.failed(Refusal(500, "the object's response has a header that cannot be sent; see the router's log"))

    def _respond(self, status: int, headers: Headers, body: bytes | Pieces, declared: int | None = None) -> None:
        incoming = self._incoming
        assert incoming is not None
        transport = self._transport
        assert transport is not None
        keep_alive = self._may_keep_alive(incoming)
        pieces = response_bytes(
            status,
            headers,
            body,
            date=self._front.date(),
            keep_alive=keep_alive,
            head_only=incoming.head.method == "HEAD",
            declared_length=declared,
        )
        transport.writelines(pieces)
        for piece in pieces if self._slow is not None else ():
            if self._slow is not None:  # else it was cut: all clients together had too much waiting
                self._front.shared.send_buffers.note(self._slow, piece)
        self._finish(keep_alive)

    def _may_keep_alive(self, incoming: Incoming) -> bool:
        if not incoming.head.keep_alive or incoming.head.wants_websocket:
            return False
        parser = self._parser
        return (
            not self._front.draining
            or bool(parser.items)
            or parser.unparsed > 0
            or parser.head_open
            or parser.body_open
        )

    def _finish(self, keep_alive: bool) -> None:
        """The present request is answered."""
        self._release()
        # The end of our own comes unasked: a request may be on its way, and a reset would take our answer along.
        linger = self._phase is Phase.UPGRADE or self._parser.rest != b"" or self._front.draining
        self._incoming = self._request = self._handshake = None
        if keep_alive:
            self._enter(Phase.IDLE)
        elif linger:
            self._linger()
        else:
            self._close()

    def _refuse(self, error: RequestError) -> None:
        """Answer what is no whole request, and end the connection. What has come of it may tell that it is a browser's;
        of bytes that are no request nothing is known, and the answer is a line of text."""
        assert self._transport is not None
        parser = self._parser
        self._transport.write(
            refusal_bytes(
                error, date=self._front.date(), keep_alive=False, head_only=parser.is_head, accept=parser.accept
            )
        )
        self._linger()

    # --- ending ---

    def _linger(self) -> None:
        """End our side; drop what still comes until the client has ended its own."""
        assert self._transport is not None
        self._drop_input()
        self._enter(Phase.LINGERING)
        self._pause(False)
        self._writer.half_close()

    def _close(self) -> None:
        assert self._transport is not None
        self._drop_input()
        self._enter(Phase.LINGERING)
        self._front.room.shares[Phase.LINGERING].remove(self)  # its end is under way
        self._transport.close()

    def _drop_input(self) -> None:
        """Nothing of what the client has sent will be looked at."""
        self._parser.drop()
        self._rest.clear()
        self._count_ahead(0)

    def _close_idle(self) -> None:
        """Close, unless a request has arrived that we have not read yet: the loop may be late."""
        assert self._transport is not None
        if not self._transport.is_closing() and has_unread(self._transport):
            self._look_again(1)
        else:
            self._close()

    def make_room(self) -> None:
        """There are too many, and this one matters least."""
        phase = self._phase
        if phase is Phase.UPGRADE:
            self._give_up_upgrade(Unavailable(TOO_MANY_HANDSHAKES))
        elif phase is Phase.WAITING or phase is Phase.BUSY:
            self._give_up_request()
        elif phase is Phase.HEAD or phase is Phase.BODY:
            self._refuse(Unavailable("too many requests do not arrive whole at present; try again later"))
        elif phase is Phase.FRESH or phase is Phase.IDLE:
            self._close()
        else:
            self._front.room.shares[phase].remove(self)
            self.abort()

    def _give_up_request(self) -> None:
        """Answer the request that an object works on, and end the connection."""
        request, incoming = self._request, self._incoming
        assert incoming is not None
        incoming.head.keep_alive = False
        if request is None or request.link is None:
            self.failed(Unavailable(TOO_MANY_AT_WORK))
        else:
            self.failed(Refusal(502, f"{TOO_MANY_AT_WORK}. {MAY_HAVE_BEEN}"))
        if request is not None:
            self._front.desk.abandon(request)

    def drain(self) -> None:
        """The router drains: without a request, wait a little for one."""
        if self._phase is Phase.FRESH or self._phase is Phase.IDLE:
            wait = self._front.deadlines[self._phase]
            self._deadline = min(self._deadline, self._front.shared.wheel.tick + wait)
            self._due = self._front.shared.wheel.schedule(self, wait)

    @property
    def has_request(self) -> bool:
        """Whether a request is coming, or waits for its answer."""
        return self._transport is not None and (self._incoming is not None or self._phase in COMING)

    def give_up(self) -> None:
        """The router ends: there will be no answer to the request, nor to those that are pipelined behind it."""
        request = self._request
        if self._incoming is None:
            self._refuse(Unavailable(ENDING))
            return
        self._parser.drop()
        if request is None or request.link is None:
            self.failed(Unavailable(ENDING))
        else:
            self.failed(Refusal(502, CUT_SHORT))
        if request is not None:
            self._front.desk.abandon(request)

    # --- reading ---

    def _keep(self, data: bytes) -> None:
        """Keep what the client sends while its upgrade is not answered; not too much of it."""
        self._rest += data
        if not self._count_ahead(len(self._rest)):
            self._give_up_upgrade(Unavailable("too much was sent ahead of answers at present; try again later"))
        elif len(self._rest) > MAX_HEAD_BYTES:
            self._pause(True)

    def _count_ahead(self, size: int) -> bool:
        """The client has sent *size* bytes ahead of an answer; returns whether there is room for those that are new."""
        ahead, more = self._front.budgets.ahead, size - self._ahead
        self._ahead = size
        ahead.taken += more
        return more <= 0 or not ahead.is_over

    # --- time ---

    def _expired(self) -> None:
        phase, transport = self._phase, self._transport
        assert transport is not None
        if phase in COMING and self._may_parse():
            self._look_again(self._front.deadlines[phase])  # it has come, and waits for its turn
        elif phase is Phase.HEAD:
            waited = self._front.deadlines[phase] * TICK_S
            self._refuse(Refusal(408, f"the request's head did not arrive whole within {waited:g} s; send it again"))
        elif phase is Phase.BODY:
            self._refuse(Refusal(408, self._slowness()))
        elif phase is Phase.UPGRADE:
            self._give_up_upgrade(Unavailable("the object did not answer the upgrade in time; try again later"))
        elif phase is Phase.WAITING:
            self.failed(Unavailable("no shard has entered the cluster yet; try again later"))
            self._serve()
        elif phase is Phase.FRESH or phase is Phase.IDLE:
            self._close_idle()
        elif not self._is_late():
            self._look_again(self._front.deadlines[phase])
        elif self._delivery is not None and not self._delivery.waiting and not transport.is_closing():
            self._front.room.shares[phase].remove(self)  # its end is under way
            transport.close()  # no reset: it may be reading what its system has
            self._look_again(self._front.deadlines[phase])
        else:
            self.abort()

    def _give_up_upgrade(self, error: Unavailable) -> None:
        request = self._request
        assert request is not None
        self.failed(error)
        self._front.desk.abandon(request)


def protocol_factory(front: Front) -> Callable[[], HttpConnection]:
    """Makes the protocol of each TCP connection that the listener accepts."""
    return lambda: HttpConnection(front)
