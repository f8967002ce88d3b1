"""Between connections and the owners of their objects: which link a slot is attached to, and what is parked.

A slot is **attached** to the link to the shard that was last given its passports, and **parked** while there is none.
Records are sent to, and accepted from, that link only, whatever the map says.

``take_map`` is where that changes, for a first owner as for the next one after a death:

1. The link to a shard that is not in the map any more is closed. Its slots are parked; requests that were sent there
   fail with 502, since they may have been carried out; sockets accepted with ``accept()`` are closed with 1012, since
   what they were is lost with the instance.
2. Each parked slot that has an owner in the map is attached to it. For each object there the owner gets the passports
   of its connections (ghosts too), its state, then the unacknowledged events in order; after all that RESTORED for
   all its slots, those without connections as well.
3. Parked requests of these slots go out.

A slot whose owner in the map is another than the one it is attached to, while that one is still a member, stays as it
is: its owner has not let go of it.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable

from ..common.cluster_map import ClusterMap, Member
from ..common.errors import Unavailable
from ..common.ids import Incarnation, ObjectId, id_from_name, slot_of
from ..common.limits import SLOTS
from ..common.records import AcceptMode, Headers, HttpRequest
from .connection import Connection
from .frames import SERVICE_RESTART, TRY_AGAIN_LATER
from .http import Refusal
from .links import OwnerLink
from .objects import ObjectEntry
from .requests import Asker, Request, Requests
from .surroundings import Surroundings

log = logging.getLogger("roost.router")


class Forwarding:
    """Knows the owner of each slot and gets events and requests there, or keeps them until it can.

    Args:
        shared: What all connections share.
        connect: Makes the link to a shard that is new in the map.
        parked_ticks: How long connections and requests wait for an owner.
    """

    def __init__(self, shared: Surroundings, connect: Callable[[Member], OwnerLink], *, parked_ticks: int) -> None:
        self.requests = Requests()
        self._shared = shared
        self._connect = connect
        self._parked_ticks = parked_ticks
        self._attached: list[OwnerLink | None] = [None] * SLOTS
        self._links: dict[Incarnation, OwnerLink] = {}
        self._broken: set[Incarnation] = set()
        self._parked_since: dict[int, int] = {}
        self._held: dict[ObjectId, OwnerLink] = {}

    # --- requests of clients ---

    def ask(
        self,
        asker: Asker,
        *,
        namespace: str,
        name: str,
        method: str,
        url: str,
        headers: Headers,
        body: bytes,
        upgrade: bool,
    ) -> Request:
        """Send a request to its object, or park it.

        Args:
            asker: Who gets the answer.
            namespace: The object's namespace.
            name: The object's name.
            method: HTTP method.
            url: Absolute URL.
            headers: Header fields, names in lower case.
            body: The whole body.
            upgrade: It is a valid WebSocket handshake: a connection is reserved for it.

        Raises:
            Unavailable: Too many requests are parked, or the router has no connection numbers left.
        """
        shared = self._shared
        object_id = id_from_name(namespace, name)
        connection = None
        if upgrade:
            number = shared.connections.next_counter()
            entry = shared.objects.get(object_id)
            if entry is None:
                attached = self._attached[slot_of(object_id)]
                entry = ObjectEntry(object_id, namespace, name, attached, object_id in self._held)
                shared.objects.add(entry)
            connection = Connection(number, entry, shared, url)
        record = HttpRequest(
            request=self.requests.next_number(),
            connection=connection.number if connection is not None else 0,
            object_id=object_id,
            namespace=namespace,
            name=name,
            method=method,
            url=url,
            headers=headers,
            body=body,
        )
        request = Request(record, asker, connection, None, shared.wheel.tick)
        if self._may_go(request):
            self._send(request)
        else:
            try:
                self.requests.park(request)
            except Unavailable:
                if connection is not None:
                    connection.refuse()
                raise
        return request

    def abandon(self, request: Request) -> None:
        """The client is gone or has been answered otherwise. An upgrade that was sent may still be accepted: the
        object then hears at once that the client is gone."""
        if self.requests.abandon(request) and request.connection is not None:
            request.connection.refuse()

    def _may_go(self, request: Request) -> bool:
        link = self._attached[request.slot]
        return link is not None and not link.blocked and request.record.object_id not in self._held

    def _send(self, request: Request) -> None:
        link = self._attached[request.slot]
        assert link is not None
        self.requests.send(request, link)

    def _send_parked(self) -> None:
        if self.requests.parked:
            for request in self.requests.parked_where(self._may_go):
                if self._may_go(request):  # those before it may have blocked the link
                    self._send(request)

    # --- what shards say of themselves ---

    def hold(self, link: OwnerLink, object_id: ObjectId, held: bool) -> None:
        """The object's mailbox is full, or half empty again."""
        if held:
            self._held[object_id] = link
        else:
            self._held.pop(object_id, None)
        entry = self._shared.objects.get(object_id)
        if entry is not None:
            entry.held = held
        if not held:
            self.go_on()

    def go_on(self) -> None:
        """A link is not blocked any more, or there is room again: send what had to wait."""
        self._shared.go_on()
        self._send_parked()

    def link_broke(self, link: OwnerLink) -> None:
        """The session with a shard cannot go on: its process has ended, or one of both broke the wire's rules. What
        is attached there waits for another incarnation, which the map will name."""
        if self._links.get(link.remote) is link:
            self._broken.add(link.remote)
            self._detach([link])

    # --- the map ---

    @property
    def attached(self) -> int:
        """How many slots are attached."""
        return SLOTS - self._attached.count(None)

    def take_map(self, new: ClusterMap) -> None:
        """Follow a new cluster map. The caller then sets the map's version on the links before they flush."""
        alive = {member.incarnation for member in new.shards}
        self._broken &= alive
        self._detach([link for incarnation, link in self._links.items() if incarnation not in alive])
        for member in new.shards:
            if member.incarnation not in self._links and member.incarnation not in self._broken:
                self._links[member.incarnation] = self._connect(member)
        slots_of: dict[Incarnation, set[int]] = {}
        for slot, owner in enumerate(new.owners):
            if self._attached[slot] is None and owner in self._links:
                slots_of.setdefault(owner, set()).add(slot)
        for owner, slots in slots_of.items():
            self._attach(self._links[owner], slots, new.version)
        if slots_of:
            self.go_on()

    def _detach(self, links: list[OwnerLink]) -> None:
        """Close links to shards that are dead (or might as well be) and park what was attached to them."""
        shared = self._shared
        for link in links:
            log.info("shard %d is gone: its slots are parked", link.remote)
            link.close()
            del self._links[link.remote]
            shared.reports.drop(link)
            for slot, attached in enumerate(self._attached):
                if attached is link:
                    self._attached[slot] = None
                    self._parked_since[slot] = shared.wheel.tick
            self._held = {object_id: by for object_id, by in self._held.items() if by is not link}
            for entry in shared.objects.entries():
                if entry.link is link:
                    entry.link = None
                    entry.held = False
                    for connection in list(entry.connections.values()):
                        if connection.mode is AcceptMode.STANDARD:
                            connection.forget_events()
                            connection.close(SERVICE_RESTART, "the object's process ended")
            for request in self.requests.sent_to(link):
                self._fail_sent(request)

    @staticmethod
    def _fail_sent(request: Request) -> None:
        if request.connection is not None:
            request.connection.refuse()
        if request.asker is not None:
            request.asker.failed(
                Refusal(502, "the object's process ended before it answered; the request may have been carried out")
            )

    def _attach(self, link: OwnerLink, slots: set[int], map_version: int) -> None:
        shared, writer = self._shared, link.writer
        connections = 0
        for slot in slots:
            self._attached[slot] = link
            self._parked_since.pop(slot, None)
        for entry in shared.objects.entries():
            if entry.slot in slots:
                entry.link = link
                known = [connection for connection in entry.connections.values() if connection.known]
                for connection in known:
                    writer.restore(connection.passport())
                if not known:
                    entry.forget_state()  # whoever owns the object now has begun anew
                elif entry.state is not None:
                    writer.object_state(entry.state)
                for connection in known:
                    shared.counters.events_sent_again += len(connection.window.events)
                    connection.window.send_again(writer, connection.number)
                connections += len(known)
        writer.restored(map_version, array("H", sorted(slots)))
        link.flush_soon()
        log.info(
            "%d slots are attached to shard %d as map %d says, with %d connections",
            len(slots),
            link.remote,
            map_version,
            connections,
        )

    # --- time ---

    def on_second(self) -> None:
        """Give up what has been parked for too long. The shell calls this about once a second."""
        shared = self._shared
        before = shared.wheel.tick - self._parked_ticks
        for request in self.requests.parked_before(before):
            if request.connection is not None:
                request.connection.refuse()
            if request.asker is not None:
                request.asker.failed(Unavailable("the object cannot be reached at present; try again later"))
        expired = {slot for slot, since in self._parked_since.items() if since < before}
        if expired:
            for slot in expired:
                self._parked_since[slot] = shared.wheel.tick
            for entry in shared.objects.entries():
                if entry.slot in expired:
                    for connection in list(entry.connections.values()):
                        connection.close(TRY_AGAIN_LATER, "the object cannot be reached at present")
