"""The desk at which clients' requests are handed in: they go to the owner of their object, or wait here until they can.

A request waits while the slot of its object is parked, while the link to the owner is blocked, and while the object's
mailbox is full, as its owner says (HOLD).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Hashable, Iterator

from ...common.errors import Unavailable
from ...common.ids import ObjectId, Slot, id_from_name, slot_of
from ...common.limits import MAX_PARKED_REQUESTS
from ...common.wire.records import Headers, HttpRequest, Pieces
from ..clients.context import ClientContext
from ..clients.links import OwnerLink
from ..clients.objects import ObjectEntry
from ..formats.http import Refusal
from ..websocket.connection import Connection
from .poison import Deaths
from .requests import Asker, Request, Requests
from .slots import Slots

REQUESTS_AT_ONCE = 64
"""Parked requests sent in one step of the loop's turn: some 0.5 ms."""
TOO_MUCH_LEFT = (
    "objects work on too many requests whose clients have not waited for the answer, of your address most; try again "
    "later"
)
REFUSED = "the object has ended its process again and again; it is refused for a while"


class RequestDesk:
    """Takes requests in.

    Args:
        shared: What all connections share.
        slots: Which link each slot is attached to.
        deaths: Which objects are refused.

    Attributes:
        requests: Those that have no answer yet.
    """

    __slots__ = ("_deaths", "_held", "_shared", "_slots", "_to_send", "requests")

    def __init__(self, shared: ClientContext[Connection], slots: Slots, deaths: Deaths) -> None:
        self.requests = Requests()
        self._shared = shared
        self._slots = slots
        self._deaths = deaths
        self._held: dict[Slot, set[ObjectId]] = {}
        self._to_send: OrderedDict[int, None] = OrderedDict()  # slots whose parked requests may be sent

    def ask(
        self,
        asker: Asker,
        *,
        namespace: str,
        name: str,
        method: str,
        url: str,
        headers: Headers,
        body: bytes | Pieces,
        upgrade: bool,
        share: Hashable = "",
        memory: int = 0,
    ) -> Request:
        """Send a request to its object, or park it.

        Args:
            asker: Who gets the answer.
            namespace: The object's namespace.
            name: The object's name.
            method: HTTP method.
            url: Absolute URL.
            headers: Header fields, names in lower case.
            body: The whole body; the caller counts it until the request is answered or abandoned.
            upgrade: It is a valid WebSocket handshake: a connection is reserved for it.
            share: The address that it counts for.
            memory: Bytes that it takes, here and at its shard.

        Raises:
            Unavailable: Too many requests are parked, the object is refused because it ends shards, or the router has
                no connection numbers left.
        """
        shared = self._shared
        object_id = id_from_name(namespace, name)
        if self._deaths.refuses_any and self._deaths.refuses(object_id, shared.wheel.seconds):
            raise Unavailable(REFUSED)
        if not self.requests.left.takes(share, memory):
            raise Unavailable(TOO_MUCH_LEFT)
        connection = None
        if upgrade:
            number = shared.connections.next_counter()
            entry = shared.objects.get(object_id)
            if entry is None:
                attached = self._slots.links[slot_of(object_id)]
                entry = ObjectEntry(object_id, namespace, name, attached, self.is_held(object_id))
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
        request = Request(record, asker, connection, None, shared.wheel.tick, share, memory)
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

    def fail(self, request: Request, error: Refusal | Unavailable) -> None:
        """There is no answer to *request*, which is not among ``requests`` any more."""
        if request.connection is not None:
            request.connection.refuse()
        if request.asker is not None:
            try:
                request.asker.failed(error)
            except Exception as defect:
                request.asker.break_off(defect)

    # --- requests that wait ---

    def send_parked(self, slots: Collection[int]) -> None:
        """Send the requests for objects of *slots*, as far as they may go now; some in each turn of the loop."""
        if self.requests.parked:
            self._to_send.update(dict.fromkeys(slots))
            if self.work():
                self._shared.work.add_own(self)

    def unblocked(self, link: OwnerLink) -> None:
        """*link* has room: send what had to wait for it."""
        if self.requests.parked:
            self.send_parked([slot for slot in self.requests.parked_slots if self._slots.links[slot] is link])

    def work(self) -> bool:
        """Send some of the requests that need not wait any longer; returns whether there are more."""
        left = REQUESTS_AT_ONCE
        while self._to_send:
            slot, _ = self._to_send.popitem(last=False)
            for request in self.requests.parked_in(slot):
                if left == 0:
                    self._to_send[slot] = None
                    return True
                if self._may_go(request):  # those before it may have blocked the link
                    self._send(request)
                    left -= 1
        return False

    def break_off(self, error: Exception) -> None:
        """*error*, a defect of ours, was raised by ``work``."""
        self._shared.defects.note("requests that waited are sent later", error)

    def wait_again(self, requests: list[Request]) -> None:
        """Requests that an owner had and did not begin."""
        wanted = []
        for request in requests:
            if request.asker is not None:
                wanted.append(request)
            elif request.connection is not None:
                request.connection.refuse()  # its client is gone, and no object has heard of it
        for request in self.requests.park_again(wanted):
            self.fail(
                request, Unavailable(f"{MAX_PARKED_REQUESTS} requests wait for their objects already; try again later")
            )

    def fail_parked(self, before: int) -> Iterator[None]:
        """Answer requests that have waited for an owner since before that tick, step by step."""
        for request in self.requests.parked_before(before):
            self.fail(request, Unavailable("the object cannot be reached at present; try again later"))
            yield

    def _may_go(self, request: Request) -> bool:
        link = self._slots.links[request.slot]
        return link is not None and not link.blocked and not self.is_held(request.record.object_id)

    def _send(self, request: Request) -> None:
        link = self._slots.links[request.slot]
        assert link is not None
        self.requests.send(request, link)

    # --- objects whose mailboxes are full ---

    def hold(self, link: OwnerLink, object_id: ObjectId, held: bool) -> None:
        """The object's mailbox is full, or half empty again, says the shard at the other end of *link*."""
        slot = slot_of(object_id)
        if self._slots.links[slot] is not link:
            self._shared.counters.stale_records += 1
            return
        if held:
            self._held.setdefault(slot, set()).add(object_id)
        else:
            of_slot = self._held.get(slot, set())
            of_slot.discard(object_id)
            if not of_slot:
                self._held.pop(slot, None)
        entry = self._shared.objects.get(object_id)
        if entry is not None:
            entry.hold(held)
        if not held:
            self.send_parked((slot,))

    def is_held(self, object_id: ObjectId) -> bool:
        """Whether its mailbox is full, as its owner says."""
        return bool(self._held) and object_id in self._held.get(slot_of(object_id), ())

    def forget_holds(self, slots: Collection[int]) -> None:
        """*slots* have no owner any more: their next one says what it holds."""
        for slot in slots:
            self._held.pop(Slot(slot), None)
