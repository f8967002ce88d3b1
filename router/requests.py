"""Requests on their way to objects: numbered, sent once, or parked until they can be sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..common.errors import RequestError, Unavailable
from ..common.ids import Slot, slot_of
from ..common.limits import MAX_PARKED_REQUESTS
from ..common.records import HttpRequest, HttpResponse
from .links import OwnerLink

if TYPE_CHECKING:
    from .connection import Connection


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


@dataclass(slots=True, eq=False)
class Request:
    """One request of a client.

    Attributes:
        record: What is sent.
        asker: Who waits; ``None`` once the client is gone.
        connection: The connection that an upgrade asks for, in state PENDING; ``None`` for plain HTTP.
        link: Where it was sent; ``None`` while it is parked.
        parked_at: Tick since which it waits for an owner.
    """

    record: HttpRequest
    asker: Asker | None
    connection: Connection | None
    link: OwnerLink | None
    parked_at: int

    @property
    def slot(self) -> Slot:
        """The slot of the object."""
        return slot_of(self.record.object_id)


class Requests:
    """The requests of a router that have not been answered."""

    __slots__ = ("_last", "_parked", "_sent")

    def __init__(self) -> None:
        self._last = 0
        self._sent: dict[int, Request] = {}
        self._parked: dict[int, Request] = {}

    @property
    def parked(self) -> int:
        """How many wait."""
        return len(self._parked)

    def next_number(self) -> int:
        """A number that no unanswered request has."""
        while True:
            self._last = self._last % 0xFFFFFFFF + 1
            if self._last not in self._sent and self._last not in self._parked:
                return self._last

    def park(self, request: Request) -> None:
        """Let *request* wait.

        Raises:
            Unavailable: Too many wait already.
        """
        if len(self._parked) >= MAX_PARKED_REQUESTS:
            raise Unavailable(f"{MAX_PARKED_REQUESTS} requests wait for their objects already; try again later")
        self._parked[request.record.request] = request

    def send(self, request: Request, link: OwnerLink) -> None:
        """Send *request* to its owner, parked or not."""
        number = request.record.request
        self._parked.pop(number, None)
        self._sent[number] = request
        request.link = link
        record = request.record
        link.writer.request(record)
        link.flush_soon()
        # Its number and object are still needed, its body and headers are not.
        request.record = HttpRequest(
            number, record.connection, record.object_id, record.namespace, record.name, record.method, "", (), b""
        )

    def take(self, number: int, link: OwnerLink) -> Request | None:
        """The request that a response from *link* answers, which is then forgotten; ``None`` if it sent none such."""
        request = self._sent.get(number)
        if request is None or request.link is not link:
            return None
        return self._sent.pop(number)

    def abandon(self, request: Request) -> bool:
        """Nobody waits for the answer any more.

        Returns:
            Whether the request had not been sent: then it is forgotten, otherwise its answer will still come.
        """
        request.asker = None
        return self._parked.pop(request.record.request, None) is not None

    def sent_to(self, link: OwnerLink) -> Iterator[Request]:
        """Forget and hand out those sent to *link*, which is dead."""
        for request in [request for request in self._sent.values() if request.link is link]:
            del self._sent[request.record.request]
            yield request

    def parked_where(self, may_go: Callable[[Request], bool]) -> list[Request]:
        """Those parked, oldest first, for which *may_go* is true."""
        return [request for request in self._parked.values() if may_go(request)]

    def parked_before(self, tick: int) -> Iterator[Request]:
        """Forget and hand out those that have been parked since before *tick*."""
        for request in self.parked_where(lambda request: request.parked_at < tick):
            del self._parked[request.record.request]
            yield request
