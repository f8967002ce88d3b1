"""What routers send, record by record: the sinks of the shard's links.

What clients say becomes a job and goes to its object. What routers know of objects (passports, what an object has set)
is taken over from them: while a slot is restored, and whenever a router has come later than others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from sys import getsizeof
from typing import TYPE_CHECKING, cast

from ..common.close_codes import INTERNAL_ERROR
from ..common.errors import OutboxFull
from ..common.ids import ObjectId, Slot, slot_of
from ..common.wire.records import EventSink, HttpRequest, ObjectState, Passport
from .moving.slots import SlotState
from .objects.jobs import CloseJob, ErrorJob, MessageJob
from .objects.packages import size_of
from .objects.request_jobs import RequestJob
from .objects.responses import refusal
from .objects.sockets import RouterPeer, Socket

if TYPE_CHECKING:
    from .host import Host
    from .objects.hosted import HostedObject

TOO_MUCH_INPUT = "this object's process has too many messages and requests at present; try again later"
FIELD_BYTES = 350
"""What a header field takes beside its text, in the two forms that there are of it."""


class RouterEvents(EventSink):
    """The sink of one router's records: ``EventSink`` for the host."""

    __slots__ = ("_host", "_peer")

    def __init__(self, host: Host, peer: RouterPeer) -> None:
        self._host = host
        self._peer = peer

    # --- what clients say ---

    def message(self, connection: int, seq: int, deliveries: int, data: str | bytes) -> None:
        """See ``EventSink``."""
        host, peer = self._host, self._peer
        host.counters.events += 1
        socket = peer.sockets.get(connection)
        if socket is None:
            # Its object has been reset, and the router hears so; or it has moved, and the router sends this again. To
            # acknowledge it would be wrong in the second case.
            host.counters.events_dropped += 1
        else:
            owner: HostedObject = socket.owner
            pair = owner.auto_response
            if pair is not None and data == pair[0] and socket.hibernatable:
                # This router did not know the pair yet when it passed the message on.
                self._auto_respond(socket, seq, pair[1])
                return
            if deliveries:
                host.counters.redelivered += 1
            # What it takes in memory, not its characters: one of them may take four bytes.
            size = len(data) if type(data) is bytes or data.isascii() else getsizeof(data)
            owner.deliver(MessageJob(owner, socket, peer, seq, deliveries, data, size))

    def closed(self, connection: int, seq: int, deliveries: int, code: int, reason: str, clean: bool) -> None:
        """See ``EventSink``."""
        socket = self._ended(connection, deliveries, has_gone=not clean)
        if socket is not None:
            owner: HostedObject = socket.owner
            owner.deliver(CloseJob(owner, socket, self._peer, seq, deliveries, code, reason, clean))

    def failed(self, connection: int, seq: int, deliveries: int, code: int, description: str) -> None:
        """See ``EventSink``."""
        socket = self._ended(connection, deliveries, has_gone=True)
        if socket is not None:
            owner: HostedObject = socket.owner
            owner.deliver(ErrorJob(owner, socket, self._peer, seq, deliveries, code, description))

    def _ended(self, connection: int, deliveries: int, *, has_gone: bool) -> Socket | None:
        """A client has closed, or failed; *has_gone*: it takes nothing any more.

        Returns:
            Its connection, to whose object this is to be delivered; ``None`` if it is not.
        """
        counters, socket = self._host.counters, self._peer.sockets.get(connection)
        counters.events += 1
        if has_gone:
            self._host.flow.gone(self._peer, connection)
        if socket is None or socket.ending:
            counters.events_dropped += 1
            return None
        if socket.owner.leaving:
            return None
        socket.ending = True
        if deliveries:
            counters.redelivered += 1
        return socket

    def _auto_respond(self, socket: Socket, seq: int, response: str) -> None:
        """Answer a client in its object's place, as its router will from now on; not after the object's close()."""
        if socket.owner.leaving:
            return  # its next owner answers
        peer, outbox, counter = self._peer, socket.owner.outbox, socket.counter
        if not socket.closed_by_object:
            socket.auto_response_time = now = self._host.wall()
            if socket.held is None:
                data = response.encode()
                outbox.record(peer, lambda writer: writer.send_one(counter, data, False), len(data), behind=counter)
            else:
                with contextlib.suppress(OutboxFull):  # a client that takes nothing goes without
                    socket.held.send(response)
            outbox.record(peer, lambda writer: writer.auto_response_times([counter], [now]))  # for the passport
        self._host.output.note_ended(outbox, peer, counter, seq)

    def request(self, request: HttpRequest) -> None:
        """See ``EventSink``."""
        host, peer = self._host, self._peer
        host.counters.events += 1
        host.counters.requests += 1
        slot = slot_of(request.object_id)
        if not host.slots.takes_requests(slot, peer.incarnation):
            if host.slots.state(slot) in (None, SlotState.RELEASED):
                self._answer_released(host.slots.version, [slot])
            return  # LEAVING: RELEASED is on its way to it. CLOSED: it has sent this again behind what it restores
        hosted = host.classes.get(request.namespace)
        # Routers know of public classes only; but a class may have been public before a reload.
        if hosted is None or not hosted.public:
            _refuse(peer, request, 404, f"there is no namespace {request.namespace!r} here")
            return
        size = _size_of(request)
        if not host.arrivals.takes(size):
            host.counters.requests_refused += 1
            _refuse(peer, request, 503, TOO_MUCH_INPUT)
            return
        owner = host.object_for(request.object_id, request.namespace, request.name)
        assert owner is not None
        owner.deliver(RequestJob(owner, peer, request, size))

    # --- what routers know of objects ---

    def auto_response_times(self, connections: Sequence[int], times: Sequence[float]) -> None:
        """See ``EventSink``."""
        sockets = self._peer.sockets
        for counter, at in zip(connections, times, strict=True):
            socket = sockets.get(counter)
            if socket is not None:
                socket.auto_response_time = at

    def restore(self, passport: Passport) -> None:
        """See ``EventSink``."""
        host, peer = self._host, self._peer
        if not host.slots.takes_passports(slot_of(passport.object_id)):
            return  # the RESTORED behind it is answered
        owner = host.object_for(passport.object_id, passport.namespace, passport.name)
        if owner is None:
            reason = f"there is no namespace {passport.namespace} any more"
            peer.writer.close(passport.connection, INTERNAL_ERROR, reason, True)
            peer.link.flush_soon()
            return
        socket = Socket(owner, hibernatable=True, ordinal=passport.ordinal, tags=passport.tags)
        socket.attachment = passport.attachment
        socket.url, socket.protocol = passport.url, passport.protocol
        socket.auto_response_time = passport.auto_response_time
        socket.closed_by_object = passport.closed_by_object
        owner.sockets.add(socket)
        host.packages.change(socket, size_of(passport.tags, passport.url, passport.attachment))
        owner.carried_over = True
        host.slots.holds(owner)  # also without events: routers may have to be told what others knew of it
        peer.attach(socket, passport.connection)
        host.numbers.saw_ordinal(passport.ordinal)
        host.counters.sockets += 1

    def object_state(self, state: ObjectState) -> None:
        """See ``EventSink``. The highest revision wins."""
        host, peer = self._host, self._peer
        host.numbers.saw_revision(state.revision)
        owner = host.objects.get(state.object_id)
        if owner is None and not host.slots.takes_passports(slot_of(state.object_id)):
            return
        known = host.remembered.get(state.object_id) if owner is None else owner.state
        if known is not None and known.revision >= state.revision:
            if known.revision > state.revision:
                _tell_state(peer, owner, known)
            return
        if owner is None:
            host.remembered.put(state)
        else:
            owner.take_state(state)
        if known is not None:
            for other in host.output.peers:
                if other is not peer:
                    _tell_state(other, owner, state)  # one of them has an older one

    def restored(self, map_version: int, slots: Sequence[int]) -> None:
        """See ``EventSink``."""
        host, peer, objects = self._host, self._peer, self._host.objects
        given = cast(Sequence[Slot], slots)
        open_before = [slot for slot in given if host.slots.state(slot) is SlotState.OPEN]
        change = host.slots.restored(peer.incarnation, map_version, given)
        for version, strangers in change.answers.items():
            self._answer_released(version, strangers)
        for slot in change.outdated:
            for owner in objects.in_slot(slot):
                host.behind.forget(peer, owner)
                owner.forget_router(peer)
        for slot in given:
            for owner in objects.in_slot(slot):
                if owner.held:
                    owner.tell_held(peer)  # it has dropped what it was told before it had attached the slot
        for slot in open_before:
            # A router that has come later: it may be the only one that is left, one day.
            for owner in objects.in_slot(slot):
                owner.inform(peer)
            for state in host.remembered.in_slot(slot):
                _tell_state(peer, None, state)
        host.apply(change)

    def _answer_released(self, map_version: int, slots: Sequence[Slot]) -> None:
        """The router takes this shard for the owner of slots that it is not."""
        self._peer.writer.released(map_version, slots)
        self._peer.link.flush_soon()

    # --- what clients take ---

    def room(self, connection: int, size: int) -> None:
        """See ``EventSink``."""
        self._host.flow.room(self._peer, connection, size)

    def behind(self, object_id: ObjectId, is_behind: bool) -> None:
        """See ``EventSink``."""
        self._host.behind.told(self._peer, object_id, is_behind)


def _refuse(peer: RouterPeer, request: HttpRequest, status: int, sentence: str) -> None:
    """Answer a request that no object gets."""
    peer.writer.response(refusal(request, status, sentence))
    peer.link.flush_soon()


def _tell_state(peer: RouterPeer, owner: HostedObject | None, state: ObjectState) -> None:
    """*peer* remembers an older one, perhaps; if it has sockets of *owner*, it is told once the gate opens."""
    if owner is None or owner not in peer.objects:
        peer.writer.object_state(state)
        peer.link.flush_soon()


def _size_of(request: HttpRequest) -> int:
    """Bytes that a request takes: headers without a body may be 64 KiB."""
    fields = sum([len(name) + len(value) for name, value in request.headers])
    return len(request.body) + len(request.url) + fields + FIELD_BYTES * len(request.headers)


class LastEvents(EventSink):
    """The sink while the shard ends: no event starts any more. Routers keep events, unacknowledged, for the next owner
    of their slots; a request is refused, since it cannot wait without the router's knowing that it was not begun."""

    __slots__ = ("_peer",)

    def __init__(self, peer: RouterPeer) -> None:
        self._peer = peer

    def refuse(self, kind: str) -> None:
        """All else may come, and means nothing any more."""

    def request(self, request: HttpRequest) -> None:
        """See ``EventSink``."""
        _refuse(self._peer, request, 503, "the object's process ends; try again")
