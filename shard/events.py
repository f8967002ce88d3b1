"""What routers send, handed to the host record by record: the sinks of the shard's links."""

from __future__ import annotations

from collections.abc import Sequence
from sys import getsizeof
from typing import TYPE_CHECKING, cast

from ..common.ids import ObjectId, Slot
from ..common.wire.records import EventSink, HttpRequest, ObjectState, Passport
from .jobs import CloseJob, ErrorJob, MessageJob

if TYPE_CHECKING:
    from .host import Host
    from .peers import Peer


class RouterEvents(EventSink):
    """The sink of one router's records: ``EventSink`` for the host."""

    __slots__ = ("_host", "_peer")

    def __init__(self, host: Host, peer: Peer) -> None:
        self._host = host
        self._peer = peer

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
            owner = socket.owner
            pair = owner.auto_response
            if pair is not None and data == pair[0] and socket.hibernatable:
                # This router did not know the pair yet when it passed the message on.
                host.auto_respond(peer, socket, seq, pair[1])
                return
            if deliveries:
                host.counters.redelivered += 1
            # What it takes in memory, not its characters: one of them may take four bytes.
            size = len(data) if type(data) is bytes or data.isascii() else getsizeof(data)
            owner.deliver(MessageJob(owner, socket, peer, seq, deliveries, data, size))

    def closed(self, connection: int, seq: int, deliveries: int, code: int, reason: str, clean: bool) -> None:
        """See ``EventSink``."""
        peer = self._peer
        socket = self._host.connection_ended(peer, connection, deliveries, has_gone=not clean)
        if socket is not None:
            owner = socket.owner
            owner.deliver(CloseJob(owner, socket, peer, seq, deliveries, code, reason, clean))

    def failed(self, connection: int, seq: int, deliveries: int, code: int, description: str) -> None:
        """See ``EventSink``."""
        peer = self._peer
        socket = self._host.connection_ended(peer, connection, deliveries, has_gone=True)
        if socket is not None:
            owner = socket.owner
            owner.deliver(ErrorJob(owner, socket, peer, seq, deliveries, code, description))

    def request(self, request: HttpRequest) -> None:
        """See ``EventSink``."""
        self._host.request(self._peer, request)

    def auto_response_times(self, connections: Sequence[int], times: Sequence[float]) -> None:
        """See ``EventSink``."""
        sockets = self._peer.sockets
        for counter, time in zip(connections, times, strict=True):
            socket = sockets.get(counter)
            if socket is not None:
                socket.auto_response_time = time

    def restore(self, passport: Passport) -> None:
        """See ``EventSink``."""
        self._host.restore(self._peer, passport)

    def restored(self, map_version: int, slots: Sequence[int]) -> None:
        """See ``EventSink``."""
        self._host.restored(self._peer, map_version, cast(Sequence[Slot], slots))

    def room(self, connection: int, size: int) -> None:
        """See ``EventSink``."""
        self._host.flow.room(self._peer, connection, size)

    def behind(self, object_id: ObjectId, is_behind: bool) -> None:
        """See ``EventSink``."""
        self._host.behind.told(self._peer, object_id, is_behind)

    def object_state(self, state: ObjectState) -> None:
        """See ``EventSink``."""
        self._host.object_state(self._peer, state)


class LastEvents(EventSink):
    """The sink while the shard ends: no event starts any more. Routers keep events, unacknowledged, for the next owner
    of their slots; a request is refused, since it cannot wait without the router's knowing that it was not begun."""

    __slots__ = ("_host", "_peer")

    def __init__(self, host: Host, peer: Peer) -> None:
        self._host = host
        self._peer = peer

    def refuse(self, kind: str) -> None:
        """All else may come, and means nothing any more."""

    def request(self, request: HttpRequest) -> None:
        """See ``EventSink``."""
        self._host.refuse(self._peer, request, 503, "the object's process ends; try again")
