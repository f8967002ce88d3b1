"""Large messages that a new owner of their object gets: they go ahead to it before their slot is attached.

What is sent again when a slot is attached leaves in one turn, and 32 MiB are a turn of 50 ms at both ends. So large
messages go ahead in pieces, as they did to the first owner (``common.shipping``), while the slot stays parked; when the
last one has gone, it is attached, and the records that name them leave among all others.

What has gone ahead and is not attached yet lies at the shard. Beyond ``AHEAD_AT_ONCE_BYTES`` of it on a link the next
slot waits; what one slot has beyond that goes whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from ...common.wire.records import Ahead
from ...common.wire.shipping import Shipment
from ..clients.links import OwnerLink
from ..websocket.connection import Connection

AHEAD_AT_ONCE_BYTES = 256 << 20
"""Bytes on one link: a quarter of what its other end takes for a member that is broken."""

_Key = tuple[int, int]
"""A connection's counter, and the number of the message."""


class Replay:
    """The large messages of one slot on their way to one owner.

    Args:
        link: To the owner.
        on_gone: Called when all that were under way have gone.

    Attributes:
        link: See above.
        size: Bytes of them.
    """

    __slots__ = ("_gone", "_on_gone", "_under_way", "link", "size")

    def __init__(self, link: OwnerLink, on_gone: Callable[[], object]) -> None:
        self.link = link
        self.size = 0
        self._under_way: dict[_Key, Shipment] = {}
        self._gone: dict[_Key, tuple[Shipment, Ahead]] = {}
        self._on_gone = on_gone

    def send(self, connections: Iterable[Connection]) -> bool:
        """Send the large messages of *connections*, those of the slot's objects, that have not been sent.

        Returns:
            Whether all of them have gone.
        """
        for connection in connections:
            for seq, payload in connection.window.large:
                key = connection.number, seq
                if key in self._gone or key in self._under_way:
                    continue
                if self.size + payload.size > AHEAD_AT_ONCE_BYTES and self.size:
                    break
                self.size += payload.size
                self._under_way[key] = self.link.ship(payload, connection, partial(self._shipped, key))
        return not self._under_way

    def _shipped(self, key: _Key, ahead: Ahead) -> None:
        self._gone[key] = self._under_way.pop(key), ahead
        if not self._under_way:
            self._on_gone()

    def take(self, connection: int, seq: int) -> Ahead | None:
        """Where a message has gone, whose record is written now; ``None`` if it has not."""
        found = self._gone.pop((connection, seq), None)
        return None if found is None else found[1]

    def end(self) -> None:
        """Nobody wants those any more that were not taken: their clients are gone, or the slot goes elsewhere."""
        shipments = [*self._under_way.values(), *(shipment for shipment, _ in self._gone.values())]
        self._under_way.clear()
        self._gone.clear()
        for shipment in shipments:
            self.link.cancel(shipment)
