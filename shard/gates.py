"""Slot gates: a slot that this shard has come to own delivers nothing before every router has restored it.

So an object knows all its sockets before it starts. A gate opens when each router of the map that named this shard
has said ``RESTORED`` for its slot, or has left the map.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from ..common.ids import Incarnation, Slot

if TYPE_CHECKING:
    from .hosted import HostedObject


class SlotGates:
    """The gates that are closed, and the objects that wait behind them."""

    __slots__ = ("_missing", "_waiting")

    def __init__(self) -> None:
        self._missing: dict[Slot, set[Incarnation]] = {}
        self._waiting: dict[Slot, dict[HostedObject, None]] = {}

    def __len__(self) -> int:
        return len(self._missing)

    def close(self, slots: Iterable[Slot], routers: Collection[Incarnation]) -> None:
        """Close the gates of *slots* until each of *routers* has restored them; without routers nobody need."""
        if routers:
            for slot in slots:
                self._missing[slot] = set(routers)

    def holds(self, owner: HostedObject) -> bool:
        """Whether *owner* must wait. If so, it is among those that ``restored`` or ``lost`` returns later."""
        if owner.slot not in self._missing:
            return False
        self._waiting.setdefault(owner.slot, {})[owner] = None
        return True

    def restored(self, router: Incarnation, slots: Iterable[Slot]) -> list[HostedObject]:
        """*router* has restored *slots*.

        Returns:
            The objects that need wait no longer, in the order in which they came.
        """
        free: list[HostedObject] = []
        for slot in slots:
            missing = self._missing.get(slot)
            if missing is not None:
                missing.discard(router)
                if not missing:
                    del self._missing[slot]
                    free += self._waiting.pop(slot, ())
        return free

    def lost(self, router: Incarnation) -> list[HostedObject]:
        """*router* has left the map: it restores nothing any more. Returns what ``restored`` returns."""
        return self.restored(router, [slot for slot, missing in self._missing.items() if router in missing])
