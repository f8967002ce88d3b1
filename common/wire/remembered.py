"""What objects without sockets have set (``ObjectState``): kept for their next life, within a bound. Pure.

A shard keeps it for objects of which it knows nothing else any more, a router for objects without a connection there: a
shard tells every router, so that the next owner of a slot hears of it after a move and after a death. That something
was unset is kept as well: another router may not have heard of it yet, and the highest revision wins.

When the table is full, what was put longest ago is forgotten: the object begins its next life as it began the first.
"""

from __future__ import annotations

from collections import OrderedDict

from ..ids import ObjectId, Slot, slot_of
from ..limits import REMEMBERED_BYTES
from .records import ObjectState

ENTRY_BYTES = 512
"""What an entry takes beside its texts."""


def size_of(state: ObjectState) -> int:
    """Bytes that *state* counts with."""
    pair = state.auto_response
    return ENTRY_BYTES + (2 * (len(pair[0]) + len(pair[1])) if pair is not None else 0)


class Remembered:
    """States of objects, by id and by slot.

    Args:
        limit: Bytes that they may take together.

    Attributes:
        size: Bytes that they take.
        forgotten: How many were forgotten because the table was full.
    """

    __slots__ = ("_by_slot", "_limit", "_states", "forgotten", "size")

    def __init__(self, limit: int = REMEMBERED_BYTES) -> None:
        self._limit = limit
        self._states: OrderedDict[ObjectId, ObjectState] = OrderedDict()
        self._by_slot: dict[Slot, dict[ObjectId, None]] = {}
        self.size = 0
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._states)

    def get(self, object_id: ObjectId) -> ObjectState | None:
        """The object's state, which stays."""
        return self._states.get(object_id)

    def put(self, state: ObjectState) -> None:
        """Keep *state*, unless a newer one of the object is here."""
        known = self.take(state.object_id)
        if known is not None and known.revision > state.revision:
            state = known
        self._states[state.object_id] = state
        self._by_slot.setdefault(slot_of(state.object_id), {})[state.object_id] = None
        self.size += size_of(state)
        while self.size > self._limit:
            self.take(next(iter(self._states)))
            self.forgotten += 1

    def take(self, object_id: ObjectId) -> ObjectState | None:
        """The object's state, which is then kept by whoever takes it."""
        state = self._states.pop(object_id, None)
        if state is not None:
            self.size -= size_of(state)
            slot = slot_of(object_id)
            ids = self._by_slot[slot]
            del ids[object_id]
            if not ids:
                del self._by_slot[slot]
        return state

    def in_slot(self, slot: Slot) -> list[ObjectState]:
        """The states of a slot's objects."""
        return [self._states[object_id] for object_id in self._by_slot.get(slot, ())]

    def drop(self, slot: Slot) -> None:
        """The slot is somebody else's."""
        for object_id in list(self._by_slot.get(slot, ())):
            self.take(object_id)
