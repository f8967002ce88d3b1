"""Large payloads on their way over a link: in pieces, ahead of the records that they belong to.

Theory of operation
===================

A payload of 200 MB in a record of its own is a turn of the loop at both ends, and everybody else's record behind it
waits. So it goes **ahead**: as PARTs of a batch each, of which a link has ``UNDER_WAY_BYTES`` under way at most. What
others say travels between them. When the last part is written, whoever ships the payload is called and writes the
record that names it. So there are no half messages: the record is small, stands where its order wants it, and counts
when it comes; before that the other end has only bytes that belong to nothing, and forgets them with the link. What
must not overtake the record is its owner's to hold back.

=========== ================================================ ========================================================
a shipment  event                                            becomes
=========== ================================================ ========================================================
WAITING     there is room among those that have begun        BEGUN
            ``cancel``, the link ends                        forgotten
BEGUN       little is under way, and it is its turn          BEGUN; a part is written
            the last part is written                         shipped: its record is written; forgotten
            ``cancel``                                       forgotten at both ends (an empty PART)
            the link ends                                    forgotten at both ends
=========== ================================================ ========================================================

Owners take turns, a part each, and so do the shipments of one owner. What has begun is kept at the other end: beside
the largest no more than ``BEGUN_BYTES`` begin, so that small ones do not wait for a large one, and yet not everything
lies there half.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from itertools import chain, islice
from typing import TYPE_CHECKING, Protocol

from .records.model import Ahead, Pieces
from .records.writing import PIECE_BYTES

if TYPE_CHECKING:
    from .records import RecordWriter

UNDER_WAY_BYTES = 512 << 10
"""Bytes that a link may have under way, not confirmed, when another part leaves: what others' records wait behind."""
BEGUN_BYTES = 64 << 20
"""Bytes that payloads take at the other end which have begun beside the largest."""
LOOK_AHEAD = 32
"""Owners among those that wait who are looked at when a shipment has ended."""


class _Session(Protocol):
    @property
    def unconfirmed_bytes(self) -> int: ...


class Carrier(Protocol):
    """What shipping needs of a link."""

    @property
    def writer(self) -> RecordWriter: ...
    @property
    def session(self) -> _Session: ...
    @property
    def closed(self) -> bool: ...


def _nobody(ahead: Ahead) -> None:
    """Waits for nothing any more."""


class Shipment:
    """One payload on its way. Made by ``Shipping.ship``."""

    __slots__ = ("_at", "_next", "_on_shipped", "_view", "memory", "owner", "size", "stream")

    def __init__(self, data: bytes | str | Pieces, owner: Hashable, on_shipped: Callable[[Ahead], None]) -> None:
        self.owner = owner
        self.size = len(data)
        self.memory = data.memory if isinstance(data, Pieces) else self.size
        """Bytes that it takes at the other end."""
        self.stream = 0
        """Its number once it has begun; 0 before."""
        self._view: memoryview | str | Pieces = memoryview(data) if isinstance(data, bytes) else data
        self._at = self._next = 0
        self._on_shipped = on_shipped

    def write_piece(self, writer: RecordWriter) -> int:
        """Write what goes next; returns how many bytes that are."""
        view = self._view
        if isinstance(view, Pieces):
            piece: bytes | memoryview = view.parts[self._next]
            self._next += 1
            writer.part(self.stream, piece, view.form, view.chars)
        else:
            part = view[self._at : self._at + PIECE_BYTES]
            piece = part.encode("ascii") if isinstance(part, str) else part
            writer.part(self.stream, piece)
        self._at += len(piece)
        return len(piece)

    @property
    def is_whole(self) -> bool:
        """Whether all of it has gone."""
        return self._at >= self.size

    def shipped(self) -> None:
        """All of it has gone: its record may."""
        on_shipped = self._on_shipped
        self.forget()
        on_shipped(Ahead(self.stream))

    def forget(self) -> None:
        """Nothing of it is sent any more. Whoever is called refers back to this, as a rule: nobody should need the
        cycle collector to get the payload's memory back."""
        self._view = ""
        self._on_shipped = _nobody


class Shipping:
    """What one end of a link ships.

    Args:
        link: The link. Its other end has to be flushed after ``work``.
    """

    __slots__ = ("_begun", "_begun_bytes", "_is_at_work", "_largest", "_last", "_link", "_waiting")

    def __init__(self, link: Carrier) -> None:
        self._link = link
        self._last = 0
        self._begun: OrderedDict[Hashable, deque[Shipment]] = OrderedDict()
        """By owner, all in the order of their turns."""
        self._begun_bytes = 0
        self._largest = 0
        self._is_at_work = False
        self._waiting: OrderedDict[Hashable, deque[Shipment]] = OrderedDict()

    def __len__(self) -> int:
        """How many owners have something on its way."""
        return len(self._begun | self._waiting) if self._waiting else len(self._begun)

    def ship(self, data: bytes | str | Pieces, owner: Hashable, on_shipped: Callable[[Ahead], None]) -> Shipment:
        """Send a payload ahead, when its turn comes.

        Args:
            data: The payload, not empty; ``str`` only if it is ASCII.
            owner: Who takes turns with others.
            on_shipped: Called by ``work`` when all of it is written. Writes the record, which must not be forgotten: it
                is what frees the stream. May ship and cancel.
        """
        shipment = Shipment(data, owner, on_shipped)
        self._waiting.setdefault(owner, deque()).append(shipment)
        self._begin(owner)
        return shipment

    def cancel(self, shipment: Shipment) -> bool:
        """Nobody wants it any more.

        Returns:
            Whether that ends it; else it has been shipped.
        """
        owner = shipment.owner
        if shipment in self._begun.get(owner, ()):
            if shipment.stream and not self._link.closed:
                self._link.writer.part(shipment.stream, b"")
            self._ended(shipment)
            shipment.forget()
            return True
        if shipment in self._waiting.get(owner, ()):
            self._waiting[owner].remove(shipment)
            if not self._waiting[owner]:
                del self._waiting[owner]
            shipment.forget()
            return True
        return False

    def clear(self) -> None:
        """The link has ended."""
        for shipment in chain(*self._begun.values(), *self._waiting.values()):
            shipment.forget()
        self._begun.clear()
        self._waiting.clear()
        self._begun_bytes = self._largest = 0

    def work(self) -> bool:
        """Write what may be under way now.

        Returns:
            Whether something was written.
        """
        if self._is_at_work:
            return False  # who was told that something has been shipped has flushed the link
        self._is_at_work = True
        try:
            return self._write()
        finally:
            self._is_at_work = False

    def _write(self) -> bool:
        link, begun = self._link, self._begun
        writer, before = link.writer, link.session.unconfirmed_bytes
        left, wrote = UNDER_WAY_BYTES - before - writer.size, False
        while left > 0 and begun:
            owner, own = begun.popitem(last=False)
            begun[owner] = own  # behind the others
            shipment = own[0]
            own.rotate(-1)
            if not shipment.stream:
                shipment.stream = self._last = self._last % 0xFFFFFFFF + 1
            left -= shipment.write_piece(writer)
            wrote = True
            if shipment.is_whole:
                self._ended(shipment)
                shipment.shipped()
        return wrote

    def _ended(self, shipment: Shipment) -> None:
        own = self._begun[shipment.owner]
        own.remove(shipment)
        if not own:
            del self._begun[shipment.owner]
        self._begun_bytes -= shipment.memory
        if shipment.memory == self._largest:
            self._largest = max((each.memory for own in self._begun.values() for each in own), default=0)
        for owner in list(islice(self._waiting, LOOK_AHEAD)):
            self._begin(owner)

    def _begin(self, owner: Hashable) -> None:
        """Let the next one of *owner* begin, if there is room."""
        waiting = self._waiting[owner]
        size = waiting[0].memory
        if self._begun_bytes + size - max(size, self._largest) > BEGUN_BYTES:
            return
        self._begun.setdefault(owner, deque()).append(waiting.popleft())
        self._begun_bytes += size
        self._largest = max(self._largest, size)
        if waiting:
            self._waiting.move_to_end(owner)
        else:
            del self._waiting[owner]
