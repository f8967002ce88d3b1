"""Giving parked slots to the owners that the map names.

Attaching is work in proportion to connections and events, so it is done in pieces of ``PIECE``, between which the loop
does other work. A slot stays parked until all of it is there (``attaching``), and if its owner goes before that, it is
taken back. A parked slot is passed over, and looked at again when that has changed, while

* what follows from the end of its former owner's part is not done (it is *unwinding*),
* its owner's link is blocked: events sent again count against the link's bound as all others do,
* its former owner's output has not taken effect: what an owner said before its slot was parked holds, even if it still
  waits in an object's output queue (a 101, a close), and the passports must have it,
* large messages that are to be sent again go ahead (``replay``),
* it has suspects, and waits for their stage of a trial (``poison``),
* its owner has just let go of it (``Slots.may_attach``).
"""

from __future__ import annotations

import logging
from array import array
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial

from ...common.ids import Incarnation, Slot
from ..clients.context import ClientContext
from ..clients.gathering import AHEAD_BYTES
from ..clients.links import OwnerLink
from ..clients.objects import ObjectEntry
from ..clients.output import has_actions
from ..websocket.connection import Connection
from .attaching import Attaching
from .attachments import Attachments
from .desk import RequestDesk
from .poison import Deaths
from .replay import AHEAD_AT_ONCE_BYTES, Replay
from .verdicts import Verdicts

log = logging.getLogger("roost.router")

PIECE = 512
"""Passports and events given to new owners in one turn of the loop: some 5 ms."""


class Giving:
    """Attaches parked slots.

    Args:
        shared: What all connections share.
        attachments: The table of owners and slots.
        desk: Where requests wait.
        deaths: Which slots wait for a trial.
        verdicts: What has to be done to an object before it is given away.
        soon: Calls a function in the next turn of the loop (``call_soon``); without it everything is done at once.
        new_attaching: What gives one slot to its owner.
        in_steps: Has what it is given done step by step, in this and later turns.
    """

    __slots__ = (
        "_attaching",
        "_attachments",
        "_behind_replays",
        "_blocked",
        "_candidates",
        "_deaths",
        "_desk",
        "_in_steps",
        "_new_attaching",
        "_planned",
        "_replays",
        "_shared",
        "_slots",
        "_soon",
        "_tally",
        "_unspoken",
        "_verdicts",
    )

    def __init__(
        self,
        shared: ClientContext[Connection],
        attachments: Attachments,
        desk: RequestDesk,
        deaths: Deaths,
        verdicts: Verdicts,
        *,
        soon: Callable[[Callable[[], None]], object] | None,
        new_attaching: type[Attaching] = Attaching,
        in_steps: Callable[[Iterator[None]], None],
    ) -> None:
        self._shared = shared
        self._attachments = attachments
        self._slots = attachments.slots
        self._desk = desk
        self._deaths = deaths
        self._verdicts = verdicts
        self._soon = soon
        self._new_attaching = new_attaching
        self._in_steps = in_steps
        self._candidates: OrderedDict[int, None] = OrderedDict()  # parked slots to look at
        self._planned = False  # in the next turn of the loop
        self._blocked = False  # a candidate was passed over because its owner's link was blocked
        self._attaching: dict[int, Attaching] = {}  # slots of which a part has been given to an owner
        # Objects of parked slots that have said what has not taken effect yet, and what is to be done then.
        self._unspoken: dict[ObjectEntry[Connection], Iterator[None]] = {}
        # Large messages that go ahead to the owners of parked slots; and parked slots that wait for those of others.
        self._replays: dict[int, Replay] = {}
        self._behind_replays: set[int] = set()
        # Slots and connections attached since that was last logged, by owner.
        self._tally: dict[Incarnation, list[int]] = {}

    def look_at_all(self) -> None:
        """Something has changed for all that is parked."""
        # Only what is parked can change: with all slots attached a new map costs next to nothing.
        if self._slots.parked:
            self.look_at(self._slots.parked)

    def look_at(self, slots: Collection[int]) -> None:
        """Attach *slots*, those that are parked and may be attached, in pieces; the first one now."""
        self._candidates.update(dict.fromkeys(slots))
        self._attach_candidates()

    def unblocked(self) -> None:
        """A link has room."""
        if self._blocked:
            self._blocked = False
            self.look_at_all()

    def is_under_way(self, slot: int) -> bool:
        """Whether a part of *slot* has been given to an owner."""
        return slot in self._attaching

    def log_tally(self) -> None:
        """Log what has been attached since the last call."""
        for incarnation, (slots, connections) in self._tally.items():
            name = self._attachments.name_of(incarnation)
            log.info("attached to %s: %d slots with %d connections", name, slots, connections)
        self._tally.clear()

    # --- taking back ---

    def take_back(self, slots: Collection[int], link: OwnerLink, steps: Iterator[None]) -> None:
        """*slots*, which were attached to *link* or on their way there, are parked: nothing more goes there.

        Args:
            slots: The slots.
            link: Where they were.
            steps: What follows. Until that is done the slots are not attached.
        """
        shared, has_reports = self._shared, link in self._shared.reports.pending
        self._desk.forget_holds(slots)
        for slot in slots:
            for entry in shared.objects.of_slot(slot):
                entry.belongs_to(None)
                if has_reports:
                    shared.reports.forget(link, entry.connections)  # the passports have the times
        self._in_steps(self._unwind(slots, steps))

    def _unwind(self, slots: Collection[int], steps: Iterator[None]) -> Iterator[None]:
        try:
            yield from steps
        except Exception as error:
            self._shared.defects.note("what was parked goes on with what is known of it", error)
        self.look_at(self._attachments.unwound(slots).candidates)

    def link_ended(self, link: OwnerLink) -> None:
        """Nothing is given to *link* any more: take back what was on its way."""
        for slot in [slot for slot, replay in self._replays.items() if replay.link is link]:
            self._end_replay(slot)
        for attaching in [each for each in self._attaching.values() if each.link is link]:
            self._undo(attaching)

    def _undo(self, attaching: Attaching) -> None:
        """The owner of a slot has gone before it had all of it."""
        del self._attaching[attaching.slot]
        self._attachments.taken_back((attaching.slot,))
        self.take_back((attaching.slot,), attaching.link, attaching.undo())

    # --- attaching ---

    def _attach_candidates(self) -> None:
        if self._planned:
            return
        while self._candidates:
            self._attach_piece()
            if self._candidates and self._soon is not None:
                self._planned = True
                self._soon(self._attach_more)
                return

    def _attach_more(self) -> None:
        self._planned = False
        self._attach_candidates()

    def _attach_piece(self) -> None:
        candidates, attachments, shared, tick = (
            self._candidates,
            self._attachments,
            self._shared,
            self._shared.wheel.tick,
        )
        current = attachments.map
        attached: dict[OwnerLink, list[int]] = {}
        poisoned: dict[Incarnation, Mapping[int, list[int]]] = {}
        left = PIECE
        while candidates and left > 0:
            slot, _ = candidates.popitem(last=False)
            owner = attachments.owner_of(slot)
            if owner is None:
                continue
            link = owner.link
            if link.blocked:
                self._blocked = True
                continue
            attaching = self._attaching.get(slot)
            if attaching is None:
                if not self._slots.may_attach(slot, current, tick):
                    continue
                if self._deaths.holds(Slot(slot), shared.wheel.seconds):
                    continue
                entries = shared.objects.of_slot(slot)
                if not all(self._has_spoken(entry) for entry in entries):
                    continue
                if not self._has_gone_ahead(slot, entries, link):
                    continue
                if owner.attached_at is None:
                    owner.attached_at = shared.wheel.seconds
                if entries:
                    if link.remote not in poisoned:
                        poisoned[link.remote] = self._deaths.poisoned(owner.member.seat)
                    prepare = partial(self._verdicts.prepare, poisoned=poisoned[link.remote])
                    attaching = self._new_attaching(Slot(slot), link, shared.objects, prepare)
                    self._attaching[slot] = attaching
                    if slot in self._replays:
                        attaching.ahead = self._replays[slot].take
            elif attaching.link is not link:
                self._undo(attaching)
                continue
            if attaching is not None:
                left = self._give(attaching, left)
                if attaching.is_broken:
                    continue
                if left <= 0:
                    candidates[slot] = None  # there may be more
                    candidates.move_to_end(slot, last=False)
                    break
                del self._attaching[slot]
            for state in shared.objects.remembered.in_slot(Slot(slot)):
                link.writer.object_state(state)
                left -= 1
            attachments.attached(slot, link, tick)
            self._end_replay(slot)
            attached.setdefault(link, []).append(slot)
        for link, slots in attached.items():
            link.writer.restored(current.version, array("H", sorted(slots)))
            link.flush_soon()
            self._tally.setdefault(link.remote, [0, 0])[0] += len(slots)
        for slots in attached.values():
            self._desk.send_parked(slots)

    def _give(self, attaching: Attaching, left: int) -> int:
        """Give the next piece of a slot to its owner; returns what is left of the piece, more than 0 with the last."""
        link, events, connections = attaching.link, attaching.events, attaching.connections
        try:
            if not attaching.is_broken:
                left = attaching.go_on(left)
        except Exception as error:
            attaching.is_broken = True
            link.give_up(error)  # half a slot is restored there: it must begin anew
        else:
            link.flush_soon()
        self._shared.counters.events_sent_again += attaching.events - events
        self._tally.setdefault(link.remote, [0, 0])[1] += attaching.connections - connections
        return left

    # --- what has to come first ---

    def _has_spoken(self, entry: ObjectEntry[Connection]) -> bool:
        """Whether all that the object said at its last owner has taken effect here. Else its slot is looked at again
        when it has. Messages to clients that still wait to be written do not matter."""
        if entry in self._unspoken:
            return False
        queue = entry.output
        if queue is None or not has_actions(queue):
            return True
        self.when_spoken(entry, iter(()))
        return False

    def when_spoken(self, entry: ObjectEntry[Connection], steps: Iterator[None]) -> None:
        """Do *steps* as soon as all that the object has said has taken effect, messages included. Its slot waits."""
        self._unspoken[entry] = steps
        entry.on_spoken = partial(self._spoken, entry)

    def _spoken(self, entry: ObjectEntry[Connection]) -> None:
        for _ in self._unspoken.pop(entry):
            pass
        self.look_at((entry.slot,))

    def _has_gone_ahead(self, slot: int, entries: Collection[ObjectEntry[Connection]], link: OwnerLink) -> bool:
        """Whether all large messages that are to be sent again have gone ahead to the owner. Else they go, and the slot
        is looked at again when they have."""
        replay = self._replays.get(slot)
        if replay is not None and replay.link is not link:
            self._end_replay(slot)
            replay = None
        connections = [
            connection
            for entry in entries
            for connection in entry.connections.values()
            if connection.window.size >= AHEAD_BYTES and connection.known
        ]
        if not connections:
            return True
        if replay is None:
            if sum(each.size for each in self._replays.values() if each.link is link) >= AHEAD_AT_ONCE_BYTES:
                self._behind_replays.add(slot)
                return False
            replay = self._replays[slot] = Replay(link, partial(self.look_at, (slot,)))
        return replay.send(connections)

    def _end_replay(self, slot: int) -> None:
        """A slot is attached, or goes elsewhere."""
        replay = self._replays.pop(slot, None)
        if replay is not None:
            replay.end()
            self._candidates.update(dict.fromkeys(self._behind_replays))
            self._behind_replays.clear()
