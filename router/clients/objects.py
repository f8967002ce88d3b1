"""The router's view of objects: which of its sockets belong to one, where its shard is, what it has set."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from typing import Generic

from ...common.ids import ObjectId, Slot, slot_of
from ...common.wire.records import ObjectState
from ...common.wire.remembered import Remembered
from ..formats.frames import data_frame
from .client import C
from .links import OwnerLink
from .output import Broadcast
from .work import Gate


class ObjectEntry(Generic[C]):
    """One object that has a connection at this router, or a handshake on its way.

    Attributes:
        object_id: Its id.
        namespace: Its namespace.
        name: Its name.
        slot: Its slot.
        link: The link to its owner; ``None`` while it is parked.
        is_full: Its mailbox is full.
        is_behind: Much of its output waits to be written here: until some of that is, its clients may not cause more.
        held: Nothing new is sent to it: it is one of both.
        pending_writes: Writes of its output that wait.
        connections: Its connections at this router by counter, ghosts and handshakes included.
        state: What it has set for all its sockets, as last told.
        auto_request: Request of its automatic response, ``None`` without one.
        auto_frame: The response, as a frame.
        output: What waits to be written to its clients; ``None`` (the usual case) when nothing does.
        on_spoken: Called once nothing waits to be written any more, if somebody waits for that.
        gate: Where its connections wait while it takes nothing; ``None`` when none has had to.
    """

    __slots__ = (
        "auto_frame",
        "auto_request",
        "connections",
        "gate",
        "held",
        "is_behind",
        "is_full",
        "link",
        "name",
        "namespace",
        "object_id",
        "on_spoken",
        "output",
        "pending_writes",
        "slot",
        "state",
    )

    def __init__(
        self, object_id: ObjectId, namespace: str, name: str, link: OwnerLink | None = None, held: bool = False
    ) -> None:
        self.object_id = object_id
        self.namespace = namespace
        self.name = name
        self.slot: Slot = slot_of(object_id)
        self.link = link
        self.held = self.is_full = held
        self.is_behind = False
        self.pending_writes = 0
        self.connections: dict[int, C] = {}
        self.state: ObjectState | None = None
        self.auto_request: bytes | None = None
        self.auto_frame = b""
        self.output: deque[Broadcast | Callable[[], None]] | None = None
        self.on_spoken: Callable[[], None] | None = None
        self.gate: Gate | None = None

    def without_owner(self) -> ObjectEntry[C]:
        """A part of the object: as those of its connections see it which its new owner does not have yet. Not in any
        table."""
        part: ObjectEntry[C] = ObjectEntry(self.object_id, self.namespace, self.name)
        part.connections = self.connections
        part.auto_request, part.auto_frame = self.auto_request, self.auto_frame
        part.held = part.is_behind = self.is_behind
        return part

    def is_shut(self) -> bool:
        """Whether nothing new is sent to it now, because of itself or of the link to its owner."""
        return self.held or (self.link is not None and self.link.blocked)

    def belongs_to(self, link: OwnerLink | None) -> None:
        """It has another owner, or (``None``) is parked. What its connections waited for may have passed."""
        self.link = link
        self.hold(False)

    def hold(self, held: bool) -> None:
        """Its mailbox is full, or half empty again."""
        self.is_full = held
        self._look()

    def fall_behind(self, is_behind: bool) -> None:
        """Much of its output waits, or not so much any more: its shard keeps the rest until then."""
        self.is_behind = is_behind
        self.tell_behind()
        self._look()

    def tell_behind(self) -> None:
        """Tell its owner whether it is behind."""
        link = self.link
        if link is not None:
            link.writer.behind(self.object_id, self.is_behind)
            link.flush_soon()

    def _look(self) -> None:
        self.held = self.is_full or self.is_behind
        if self.gate is not None:
            self.gate.open()

    def set_state(self, state: ObjectState) -> None:
        """Take over what the object has set; an older revision than the known one changes nothing."""
        if self.state is not None and self.state.revision > state.revision:
            return
        self.state = state
        if state.auto_response is None:
            self.auto_request, self.auto_frame = None, b""
        else:
            request, response = state.auto_response
            self.auto_request, self.auto_frame = request.encode(), data_frame(response.encode(), False)


class Objects(Generic[C]):
    """The objects that have a connection here, by slot. An object is forgotten with the last of them, but for what it
    has set.

    Attributes:
        remembered: What objects without a connection here have set.
    """

    __slots__ = ("_by_slot", "_count", "remembered")

    def __init__(self) -> None:
        self._by_slot: dict[Slot, dict[ObjectId, ObjectEntry[C]]] = {}
        self._count = 0
        self.remembered = Remembered()

    def __len__(self) -> int:
        return self._count

    def get(self, object_id: ObjectId) -> ObjectEntry[C] | None:
        """The object's entry, if it has a connection here."""
        entries = self._by_slot.get(slot_of(object_id))
        return None if entries is None else entries.get(object_id)

    def add(self, entry: ObjectEntry[C]) -> None:
        """Keep a new entry, whose first connection is about to be added."""
        self._by_slot.setdefault(entry.slot, {})[entry.object_id] = entry
        self._count += 1
        state = self.remembered.take(entry.object_id)
        if state is not None:
            entry.set_state(state)

    def release(self, entry: ObjectEntry[C]) -> None:
        """Forget *entry*, or what it is a part of, if it has no connection left."""
        entries = self._by_slot.get(entry.slot)
        known = None if entry.connections or entries is None else entries.get(entry.object_id)
        if known is not None and entries is not None and known.connections is entry.connections:
            entry = known
            del entries[entry.object_id]
            self._count -= 1
            if entry.state is not None:
                self.remembered.put(entry.state)
            entry.gate = None  # it refers back to the entry: nobody should need the cycle collector
            if not entries:
                del self._by_slot[entry.slot]

    def of_slot(self, slot: int) -> Collection[ObjectEntry[C]]:
        """The entries of a slot, for as long as the table does not change."""
        entries = self._by_slot.get(Slot(slot))
        return () if entries is None else entries.values()

    def in_slot(self, slot: int) -> list[ObjectEntry[C]]:
        """The entries of a slot, safe to change the table by."""
        entries = self._by_slot.get(Slot(slot))
        return [] if entries is None else list(entries.values())
