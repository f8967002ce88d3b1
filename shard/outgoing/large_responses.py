"""Responses of some size, on their way to routers: their bodies go ahead in pieces, and together they have a bound.

A request of 50 bytes can make a response of many megabytes, and sixty of them in one turn would be two gigabytes in a
link, in front of what everybody else's object says. So the body of a large response goes ahead (see ``shipping``), in
turn with those of other objects, and the response behind it. What a response overtakes by waiting are only messages to
other clients. Small ones and upgrades leave with the object's outbox as ever.

**The bound** is shared with held output (``all_held_bytes``). What is free of it is also what one object may have: so
the first that makes much gets half of it, and there is room for others. A response beyond that is answered with 503.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ...common.wire.records import AcceptMode, Ahead, HttpResponse
from ...common.wire.shipping import Shipment
from .outbox import Outbox
from .peers import Peer

LARGE_BYTES = 64 << 10
"""Bytes of a body from which on a response waits for its turn."""


class ShipAhead(Protocol):
    """Sends a payload ahead to a router, in turn with those of other objects."""

    def __call__(self, peer: Peer, outbox: Outbox, data: bytes, on_shipped: Callable[[Ahead], None]) -> Shipment: ...


class LargeResponses:
    """Those of one shard.

    Args:
        free: Bytes that are free of the bound, these responses not counted.
        ship: Sends a body ahead.

    Attributes:
        size: Bytes of all that wait.
    """

    __slots__ = ("_free", "_of_outbox", "_ship", "_waiting", "size")

    def __init__(self, free: Callable[[], int], ship: ShipAhead) -> None:
        self._free = free
        self._ship = ship
        self._waiting: dict[int, tuple[Peer, Outbox, HttpResponse]] = {}
        """By the identity of the response."""
        self._of_outbox: dict[Outbox, int] = {}
        self.size = 0

    def __bool__(self) -> bool:
        """Whether some wait."""
        return bool(self._waiting)

    def has(self, outbox: Outbox) -> bool:
        """Whether some of this object wait."""
        return outbox in self._of_outbox

    @staticmethod
    def takes(response: HttpResponse) -> bool:
        """Whether *response* is one that waits for its turn."""
        return len(_body(response)) >= LARGE_BYTES and response.mode is AcceptMode.PLAIN

    def put(self, outbox: Outbox, peer: Peer, response: HttpResponse) -> bool:
        """Let *response* wait for its turn.

        Returns:
            Whether there is room for it. One response of any size has room when nothing else waits.
        """
        body = _body(response)
        size, own = len(body), self._of_outbox.get(outbox, 0)
        if self._waiting and own + size > self._free() - self.size:
            return False
        self._waiting[id(response)] = peer, outbox, response
        self._count(outbox, size)

        def shipped(ahead: Ahead) -> None:
            if self._waiting.pop(id(response), None) is not None:
                self._count(outbox, -size)
                outbox.respond(peer, response, ahead)

        self._ship(peer, outbox, body, shipped)
        return True

    def lose(self, peer: Peer) -> None:
        """The router has gone."""
        for key, (router, outbox, response) in list(self._waiting.items()):
            if router is peer:
                del self._waiting[key]
                self._count(outbox, -len(_body(response)))

    def _count(self, outbox: Outbox, change: int) -> None:
        self.size += change
        left = self._of_outbox.get(outbox, 0) + change
        if left:
            self._of_outbox[outbox] = left
        else:
            del self._of_outbox[outbox]


def _body(response: HttpResponse) -> bytes:
    body = response.body
    assert isinstance(body, bytes)  # of a response that an object has just made
    return body
