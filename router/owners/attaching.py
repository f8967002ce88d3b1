"""A slot on its way to a new owner: passports, object states and unacknowledged events, step by step.

An object may have 32,768 sockets, each with 256 events, and all of it has to be there before RESTORED. So it is given
in steps, between which the loop does other work. Until the last one the slot stays *parked*: no requests go out, and
what the owner says of the slot as a whole is stale. For its connections it is otherwise:

* One whose turn has come is attached for good. What its client sends goes to the owner, behind its passport and the
  events before, and the owner may close it.
* Those whose turn has not come have no owner yet. They see their object through a *part* of its entry that has none, so
  that their events go on waiting in their windows.

The owner opens the slot when it has RESTORED from every router, and lets go of it after that only. So nothing has been
begun that was sent to it before; and the one thing that can come between is that it dies, or its link breaks. Then all
is as if this had never begun (``undo``, in steps as well): events count as sent once less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from ...common.ids import Slot
from ...common.wire.records import Ahead, ObjectState
from ..clients.links import OwnerLink
from ..clients.objects import ObjectEntry, Objects
from ..websocket.connection import Connection

BYTES_OF_EVENT = 16 << 10
"""A larger event counts as several: its bytes are copied."""


class Attaching:
    """One slot, and the owner that it is given to.

    Args:
        slot: The slot.
        link: The link to the owner.
        objects: The router's objects.
        prepare: Called with each object before it is given away: whatever has to be done to it first, in steps.

    Attributes:
        slot: See above.
        link: See above.
        events: How many events have been sent to the owner.
        ahead: Tells where a large message has gone ahead, by its connection and its number.
        is_broken: An error of ours has come between: the owner has to start anew.
    """

    __slots__ = ("_begun", "_given", "_objects", "_prepare", "_steps", "ahead", "events", "is_broken", "link", "slot")

    def __init__(
        self,
        slot: Slot,
        link: OwnerLink,
        objects: Objects[Connection],
        prepare: Callable[[ObjectEntry[Connection]], Iterator[None]],
    ) -> None:
        self.slot = slot
        self.link = link
        self.events = 0
        self.is_broken = False
        self.ahead: Callable[[int, int], Ahead | None] = lambda connection, seq: None
        self._objects = objects
        self._prepare = prepare
        self._begun: dict[ObjectEntry[Connection], None] = {}
        self._given: list[Connection] = []
        self._steps = self._attach()

    @property
    def connections(self) -> int:
        """How many have been given to the owner."""
        return len(self._given)

    def go_on(self, left: int) -> int:
        """Give more to the owner, if *left* is more than 0.

        Returns:
            What is left of it: a passport, an event or a large one's part takes 1. More than 0: all has been given.
        """
        for cost in self._steps:
            left -= cost
            if left <= 0:
                return left
        return left

    def _attach(self) -> Iterator[int]:
        # Some come meanwhile: with a handshake at most, which waits as well. After the last look nothing comes between.
        while entries := [entry for entry in self._objects.in_slot(self.slot) if entry not in self._begun]:
            for entry in entries:
                for _ in self._prepare(entry):
                    yield 1
                yield from self._give(entry)

    def _give(self, entry: ObjectEntry[Connection]) -> Iterator[int]:
        connections = list(entry.connections.values())
        part = entry.without_owner() if len(connections) > 1 else None
        if part is not None:
            for connection in connections:
                connection.entry = part
        self._begun[entry] = None
        entry.belongs_to(self.link)
        state = entry.state
        for connection in connections:
            connection.entry = entry
            if connection.known:
                yield self._give_one(connection, state)
                state = None
                if part is not None and connection.gate is not None and connection.gate is part.gate:
                    connection.go_on()
        if state is not None:
            self.link.writer.object_state(state)
        if entry.is_behind:
            entry.tell_behind()
        yield 1

    def _give_one(self, connection: Connection, state: ObjectState | None) -> int:
        writer, window = self.link.writer, connection.window
        try:
            passport = connection.passport()
        except Exception as error:
            connection.forget_events()  # its new owner never hears of it
            connection.break_off(error)
            return 1
        writer.restore(passport)
        if state is not None:
            writer.object_state(state)  # some events may be requests for its automatic response
        connection.tell_if_full()
        window.send_again(writer, connection.number, partial(self.ahead, connection.number))
        self._given.append(connection)
        self.events += len(window.events)
        return 1 + len(window.events) + window.size // BYTES_OF_EVENT

    def undo(self) -> Iterator[None]:
        """The owner has gone, and has begun nothing: its objects have no owner, as before."""
        self._steps = iter(())
        given, self._given = self._given, []
        for connection in given:
            connection.window.take_back(())
            yield
        for entry in self._begun:
            for connection in list(entry.connections.values()):
                connection.entry = entry
                if connection.sends_ahead:
                    connection.leave_owner()
                elif connection.gate is not None:
                    connection.go_on()
                yield
