"""What the router's core needs of a link to a shard: a little less than ``common.link.Link`` has."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol

from ...common.ids import Incarnation
from ...common.limits import MAX_BATCH_BYTES
from ...common.wire.records import Ahead, EventWriter, Pieces
from ...common.wire.shipping import Shipment

LARGE_BYTES = 4 * MAX_BATCH_BYTES
"""Bytes of a link's writer from which on nobody waits for the end of the turn: ``flush``."""


class OwnerLink(Protocol):
    """A session with one incarnation of a shard. Records written leave in order; none is lost while both live."""

    @property
    def remote(self) -> Incarnation:
        """The shard's incarnation."""
        ...

    @property
    def writer(self) -> EventWriter:
        """Where records are written; ``flush_soon`` after each, ``flush_message`` after clients' messages."""
        ...

    @property
    def blocked(self) -> bool:
        """Too much is unconfirmed: no new messages and requests; control records pass."""
        ...

    def flush_soon(self) -> None:
        """Send what was written at the end of this loop turn."""
        ...

    def flush(self) -> None:
        """Send what was written now. For what is large: what comes behind meets the link's bounds then."""
        ...

    def flush_message(self) -> None:
        """The same behind a client's message, which leaves at once if it is probably alone."""
        ...

    def ship(self, data: bytes | Pieces, owner: Hashable, on_shipped: Callable[[Ahead], None]) -> Shipment:
        """Send a large payload ahead of its record, in pieces (``common.shipping``); *on_shipped* writes the record.
        Not called before this returns, nor when the session has ended."""
        ...

    def cancel(self, shipment: Shipment) -> None:
        """Nobody wants a payload any more that goes ahead, or has gone: its record is not written."""
        ...

    def close(self) -> None:
        """End the session: nothing of it is received any more."""
        ...

    def give_up(self, error: Exception) -> None:
        """*error*, a defect of ours, has left the session half done: the shard is told, and has to start anew."""
        ...
