"""The objects that a shard knows, by id, and by slot: a slot that moves takes its objects along."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from ...common.ids import ObjectId, Slot, slot_of
from ...common.limits import SLOTS


class Placed(Protocol):
    """An object that has a place."""

    @property
    def object_id(self) -> ObjectId: ...
    @property
    def slot(self) -> Slot: ...


O = TypeVar("O", bound=Placed)  # noqa: E741


class Objects(Generic[O]):
    """Objects, awake or asleep, in one table for each slot: together they are no larger than one for all."""

    __slots__ = ("_by_slot", "_count")

    def __init__(self) -> None:
        self._by_slot: list[dict[ObjectId, O] | None] = [None] * SLOTS
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, object_id: ObjectId) -> O | None:
        """The object, if it is known."""
        table = self._by_slot[slot_of(object_id)]
        return None if table is None else table.get(object_id)

    def add(self, owner: O) -> None:
        """Keep a new object."""
        table = self._by_slot[owner.slot]
        if table is None:
            self._by_slot[owner.slot] = table = {}
        table[owner.object_id] = owner
        self._count += 1

    def remove(self, owner: O) -> None:
        """Forget an object; nothing happens if another has its place, or none."""
        table = self._by_slot[owner.slot]
        if table is not None and table.get(owner.object_id) is owner:
            del table[owner.object_id]
            self._count -= 1
            if not table:
                self._by_slot[owner.slot] = None

    def in_slot(self, slot: Slot) -> list[O]:
        """The objects of a slot; safe to change the table by."""
        table = self._by_slot[slot]
        return [] if table is None else list(table.values())

    def __iter__(self) -> Iterator[O]:
        for table in self._by_slot:
            if table is not None:
                yield from table.values()
