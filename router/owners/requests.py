"""Requests on their way to objects: numbered, and parked until they can be sent.

A request is sent to one owner at a time. An owner that lets go of the object in an orderly way has answered each
request that it had begun, so that those without an answer wait again, under their numbers, for the next owner. One
that an owner had when it died may have been carried out, and is never sent again. So a request keeps its headers and
its body until it is answered.

A client may leave while an object works on its request, and send the next one: nothing of that is held here any more,
but its shard has it until the handler ends. So what clients have *left* there is counted, by their addresses
(``Left``), and an address that has left much there gets no further requests through until some of it is answered.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from ...common.errors import RequestError, Unavailable
from ...common.ids import ObjectId, Slot, slot_of
from ...common.limits import MAX_PARKED_REQUESTS
from ...common.wire.records import Ahead, HttpRequest, HttpResponse
from ...common.wire.shipping import Shipment
from ..clients.gathering import AHEAD_BYTES
from ..clients.links import LARGE_BYTES, OwnerLink
from ..websocket.connection import Connection

MAX_LEFT_BYTES = 64 << 20
"""Bytes of requests that clients of one address may have left at shards."""
ALL_LEFT_BYTES = 256 << 20
"""And all together; beyond it, whoever has left any gets no more through, and no large request does."""
SMALL_BYTES = 64 << 10
"""Bytes of a request that is not large."""


class Asker(Protocol):
    """Who waits for an answer. Exactly one of these is called, once, unless the request is abandoned."""

    def answered(self, response: HttpResponse) -> None:
        """The object gave an ordinary response."""
        ...

    def upgraded(self, connection: Connection, response: HttpResponse) -> None:
        """The object accepted the WebSocket; call ``connection.accept`` before returning."""
        ...

    def failed(self, error: RequestError) -> None:
        """There will be no answer."""
        ...

    def break_off(self, error: Exception) -> None:
        """*error*, a defect of ours, was raised while one of those was called: end the client's connection."""
        ...


@dataclass(slots=True, eq=False)
class Request:
    """One request of a client.

    Attributes:
        record: What is sent.
        asker: Who waits; ``None`` once the client is gone.
        connection: The connection that an upgrade asks for, in state PENDING; ``None`` for plain HTTP.
        link: Where it was sent; ``None`` while it is parked.
        parked_at: Tick since which it waits for an owner.
        share: The address that it counts for.
        memory: Bytes that it takes, here and at its shard.
        shipment: Its body, while that goes ahead to the owner; the request follows it.
    """

    record: HttpRequest
    asker: Asker | None
    connection: Connection | None
    link: OwnerLink | None
    parked_at: int
    share: Hashable = ""
    memory: int = 0
    shipment: Shipment | None = None

    @property
    def slot(self) -> Slot:
        """The slot of the object."""
        return slot_of(self.record.object_id)


class Left:
    """Memory of requests that shards have and nobody waits for, by the address that they count for.

    Attributes:
        total: Bytes of all.
    """

    __slots__ = ("_of", "total")

    def __init__(self) -> None:
        self._of: dict[Hashable, int] = {}
        self.total = 0

    def takes(self, share: Hashable, memory: int) -> bool:
        """Whether one more request of *memory* bytes may be sent for *share*."""
        left = self._of.get(share, 0)
        if left > MAX_LEFT_BYTES:
            return False
        return self.total <= ALL_LEFT_BYTES or not (left or memory > SMALL_BYTES)

    def change(self, share: Hashable, memory: int) -> None:
        """So much more, or less, is left by *share*."""
        self.total += memory
        left = self._of.get(share, 0) + memory
        if left:
            self._of[share] = left
        else:
            self._of.pop(share, None)


class Requests:
    """The requests of a router that have not been answered.

    Attributes:
        last: The number that was given last.
        left: What clients that are gone have left at shards.
    """

    __slots__ = ("_parked", "_parked_of_slot", "_sent", "_sent_of_slot", "last", "left")

    def __init__(self) -> None:
        self.last = 0
        self.left = Left()
        self._sent: dict[int, Request] = {}
        self._sent_of_slot: dict[Slot, dict[int, Request]] = {}
        self._parked: dict[int, Request] = {}
        self._parked_of_slot: dict[Slot, dict[int, Request]] = {}

    @property
    def parked(self) -> int:
        """How many wait."""
        return len(self._parked)

    def next_number(self) -> int:
        """A number that no unanswered request has."""
        while True:
            self.last = self.last % 0xFFFFFFFF + 1
            if self.last not in self._sent and self.last not in self._parked:
                return self.last

    def park(self, request: Request) -> None:
        """Let *request* wait.

        Raises:
            Unavailable: Too many wait already.
        """
        if len(self._parked) >= MAX_PARKED_REQUESTS:
            raise Unavailable(f"{MAX_PARKED_REQUESTS} requests wait for their objects already; try again later")
        self._parked[request.record.request] = request
        self._parked_of_slot.setdefault(request.slot, {})[request.record.request] = request

    def _unpark(self, request: Request) -> bool:
        """*request* waits no more; returns whether it did."""
        number = request.record.request
        if self._parked.pop(number, None) is None:
            return False
        of_slot = self._parked_of_slot[request.slot]
        del of_slot[number]
        if not of_slot:
            del self._parked_of_slot[request.slot]
        return True

    def send(self, request: Request, link: OwnerLink) -> None:
        """Send *request* to its owner, parked or not."""
        number = request.record.request
        self._unpark(request)
        self._sent[number] = request
        self._sent_of_slot.setdefault(request.slot, {})[number] = request
        request.link = link
        record = request.record
        if len(record.body) >= AHEAD_BYTES:
            request.shipment = link.ship(record.body, record.object_id, partial(self._shipped, request, record, link))
            return
        link.writer.request(record)
        if link.writer.size >= LARGE_BYTES:
            link.flush()  # or a hundred bodies might be there three times before anybody notices that it is too much
        else:
            link.flush_soon()

    @staticmethod
    def _shipped(request: Request, record: HttpRequest, link: OwnerLink, ahead: Ahead) -> None:
        """The body has gone ahead. The client may have left meanwhile, which the object does not hear of."""
        request.shipment = None
        link.writer.request(record, ahead)
        link.flush_soon()

    def take(self, number: int, link: OwnerLink) -> Request | None:
        """The request that a response from *link* answers, which is then forgotten; ``None`` if it sent none such."""
        request = self._sent.get(number)
        if request is None or request.link is not link:
            return None
        self._forget_sent(request)
        slot = request.slot
        of_slot = self._sent_of_slot[slot]
        del of_slot[number]
        if not of_slot:
            del self._sent_of_slot[slot]
        return request

    def abandon(self, request: Request) -> bool:
        """Nobody waits for the answer any more.

        Returns:
            Whether the request had not been sent: then it is forgotten, otherwise its answer will still come.
        """
        had_asker, request.asker = request.asker is not None, None
        if self._unpark(request):
            return True
        if had_asker and self._sent.get(request.record.request) is request:
            self.left.change(request.share, request.memory)
        # It will not be sent again: its number and its object are all that is still needed.
        request.record = replace(request.record, url="", headers=(), body=b"")
        return False

    def _forget_sent(self, request: Request) -> None:
        del self._sent[request.record.request]
        if request.asker is None:
            self.left.change(request.share, -request.memory)

    def sent_of(self, slot: int) -> list[Request]:
        """Forget and hand out those sent for the objects of *slot*, oldest first: their owner is not the owner now."""
        requests = list(self._sent_of_slot.pop(Slot(slot), {}).values())
        for request in requests:
            self._forget_sent(request)
            if request.shipment is not None and request.link is not None:
                request.link.cancel(request.shipment)
            request.link = request.shipment = None
        return requests

    def park_again(self, requests: list[Request]) -> list[Request]:
        """Let requests wait that an owner had and did not begin, ahead of those that have waited before. Since when
        they wait (``parked_at``) is the caller's to say.

        Returns:
            Those that there is no room for.
        """
        room = max(MAX_PARKED_REQUESTS - len(self._parked), 0)
        again = {request.record.request: request for request in requests[:room]}
        self._parked = {**again, **self._parked}
        of_slots: dict[Slot, dict[int, Request]] = {}
        for number, request in again.items():
            of_slots.setdefault(request.slot, {})[number] = request
        for slot, of_slot in of_slots.items():
            self._parked_of_slot[slot] = {**of_slot, **self._parked_of_slot.get(slot, {})}
        return requests[room:]

    @property
    def parked_slots(self) -> list[Slot]:
        """The slots for whose objects requests wait."""
        return list(self._parked_of_slot)

    def parked_in(self, slot: int) -> list[Request]:
        """Those that wait for objects of *slot*, oldest first."""
        return list(self._parked_of_slot.get(Slot(slot), {}).values())

    def parked_for(self, object_id: ObjectId) -> Iterator[Request]:
        """Forget and hand out those that wait for one object."""
        for request in self.parked_in(slot_of(object_id)):
            if request.record.object_id == object_id and self._unpark(request):
                yield request

    def parked_before(self, tick: int) -> Iterator[Request]:
        """Forget and hand out those that have been parked since before *tick*."""
        for request in [request for request in self._parked.values() if request.parked_at < tick]:
            if self._unpark(request):
                yield request
