"""Letting go of slots: the way from LEAVING to RELEASED (see ``slots``).

For each slot that the map sends away:

1. Its objects **leave**: what waits for them is dropped unacknowledged, for routers hold it and send it to the next
   owner; what still arrives is dropped as well. Only the closes of connections whose router has died are still
   delivered here, since nobody else knows of those connections.
2. Handlers that run, requests that have begun, ``wait_until`` and ``block_concurrency_while`` come to their end. Tasks
   that nobody waits for are cancelled after them. What has not ended within ``handlers_s`` is cancelled, what does not
   let itself be cancelled is given up ``LAST_STEPS_S`` later: such events are not acknowledged, come again at the next
   owner, and RELEASED names them.
3. Outboxes leave, what goes in pieces piece by piece, and the acknowledgements of all that has ended are written. With
   several routers these may have to wait until others have confirmed (``peers``), so the release waits for that. It
   waits for a confirmation of every router in any case, as a sign of life: should one be dead without anybody's knowing
   yet, the closes of its connections have to be delivered here, and after the release nobody would know of them.
4. The lives that are left close (``closing``), which may take time as well.
5. RELEASED goes out on every link, behind all that; the objects are forgotten; and the next map is proposed.

Each slot goes as soon as it can, together with those that can at the same moment: an idle object does not wait for a
busy one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...common.ids import Slot
from ..objects.closing import LAST_STEPS_S, How
from ..running.reasons import Reason

if TYPE_CHECKING:
    from ...common.wire.remembered import Remembered
    from ..objects.hosted import HostedObject
    from ..objects.jobs import SocketJob
    from ..objects.objects import Objects
    from ..objects.sockets import RouterPeer
    from ..outgoing.flow import Flow
    from ..outgoing.output import Output
    from ..outgoing.peers import Peer
    from ..running.own_loop import OwnLoop
    from .slots import Slots

log = logging.getLogger("roost.shard")


class Release:
    """The slots that a shard lets go of.

    Args:
        loop: The runtime's loop.
        slots: The states of the shard's slots.
        objects: The shard's objects.
        remembered: What objects have set of which nothing else is known any more.
        output: Their output.
        flow: What of it is held.
        unhold: Lets all that is held for an object leave.
        handlers_s: Seconds that handlers have to end.
    """

    def __init__(
        self,
        loop: OwnLoop,
        slots: Slots[HostedObject],
        objects: Objects[HostedObject],
        remembered: Remembered,
        output: Output[RouterPeer],
        flow: Flow,
        unhold: Callable[[HostedObject], None],
        handlers_s: float,
    ) -> None:
        self._loop = loop
        self._slots = slots
        self._objects = objects
        self._remembered = remembered
        self._output = output
        self._flow = flow
        self._unhold = unhold
        self._handlers_s = handlers_s
        self._busy: dict[Slot, set[HostedObject]] = {}  # what has to end before the slot can go
        self._changed: dict[HostedObject, None] = {}  # objects to look at again
        self._ended: list[Slot] = []  # nothing runs any more
        self._settling: list[tuple[list[Slot], dict[Peer, int]]] = []  # with the batches to be confirmed first
        self._closing: list[Slot] = []  # all is confirmed
        self._cancelled: dict[Slot, list[SocketJob]] = {}
        self._planned = False
        self._timers: set[asyncio.TimerHandle] = set()
        self.on_released: Callable[[list[Slot]], None] = lambda slots: None
        """Called with the slots that have been let go of: their next owners are to be proposed."""

    def __bool__(self) -> bool:
        """Whether some slot is on its way out."""
        return bool(self._busy or self._ended or self._settling or self._closing)

    def begin(self, slots: list[Slot]) -> None:
        """Let go of *slots*, which are LEAVING."""
        log.info("%d slots move to other shards", len(slots))
        for slot in slots:
            owners = self._objects.in_slot(slot)
            for owner in owners:
                self._unhold(owner)
                owner.leave()
            busy = {owner for owner in owners if not owner.try_to_leave()}
            if busy:
                self._busy[slot] = busy
            else:
                self._ended.append(slot)
        busy_now = [owner for slot in slots for owner in self._busy.get(slot, ())]
        if busy_now:
            self._limit(busy_now)
        self._plan()

    def wait_for(self, owner: HostedObject) -> None:
        """*owner*, which leaves, has something to do once more: its slot goes after that."""
        slot = owner.slot
        for slots in (self._ended, self._closing):
            if slot in slots:
                slots.remove(slot)
        for slots, _ in self._settling:
            if slot in slots:
                slots.remove(slot)
        busy = self._busy.setdefault(slot, set())
        if owner not in busy:
            busy.add(owner)
            self._limit([owner])

    def look_at(self, owner: HostedObject) -> None:
        """Something of *owner*, which leaves, has ended."""
        self._changed[owner] = None
        self._plan()

    def drop(self, job: SocketJob) -> None:
        """The handler of *job* was cancelled so that its object can move: the event comes again at the next owner."""
        if job.peer is not None:
            self._cancelled.setdefault(job.owner.slot, []).append(job)

    # --- time ---

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        def run() -> None:
            self._timers.discard(timer)
            action()

        timer = self._loop.call_later(seconds, run)
        self._timers.add(timer)

    def close(self) -> None:
        """Stop: the shard ends, and with it every wait."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._planned = True

    def _plan(self) -> None:
        if not self._planned:
            self._planned = True
            self._loop.call_soon(self._look)

    # --- what has not ended in time ---

    # By object, not by slot: a slot that comes back and leaves again has other objects, whose time begins anew.

    def _limit(self, owners: list[HostedObject]) -> None:
        self._after(self._handlers_s, lambda: self._cancel(owners))

    def _still_busy(self, owners: list[HostedObject]) -> list[HostedObject]:
        return [owner for owner in owners if owner in self._busy.get(owner.slot, ())]

    def _cancel(self, owners: list[HostedObject]) -> None:
        owners = self._still_busy(owners)
        for owner in owners:
            log.warning(
                "%s moves: what it does has taken more than %g s and is cancelled", owner.label, self._handlers_s
            )
            owner.insist(Reason.MOVES)
        if owners:
            self._after(LAST_STEPS_S, lambda: self._give_up(owners))

    def _give_up(self, owners: list[HostedObject]) -> None:
        for owner in self._still_busy(owners):
            log.error(
                "%s moves: its code goes on in spite of being cancelled, which has no effect any more", owner.label
            )
            owner.give_up(Reason.MOVES)
            self.look_at(owner)

    # --- step by step ---

    def _look(self) -> None:
        self._planned = False
        changed, self._changed = self._changed, {}
        for owner in changed:
            busy = self._busy.get(owner.slot)
            if busy is not None and owner in busy and owner.try_to_leave():
                busy.discard(owner)
                if not busy:
                    del self._busy[owner.slot]
                    self._ended.append(owner.slot)
        if self._ended:
            self._settle()
        if self._closing:
            self._release_closed()

    def _settle(self) -> None:
        """Let output and acknowledgements of what has ended leave."""
        output = self._output
        output.flush()
        stalled = {
            slot
            for slot in self._ended
            if any(owner.outbox.planned or self._flow.keeps(owner.outbox) for owner in self._objects.in_slot(slot))
        }
        ended = [slot for slot in self._ended if slot not in stalled]
        self._ended = list(stalled)  # tried again when routers have confirmed something
        if ended:
            for peer in output.peers:
                peer.ask_for_a_sign()
            # An acknowledgement waits for batches that have been sent by now, if at all.
            self._settling.append((ended, {peer: peer.link.session.sent for peer in output.peers}))
        self._let_go_of_settled()
        output.on_progress = self._go_on if self._ended or self._settling else None

    def _go_on(self) -> None:
        """Routers have confirmed something, or have gone."""
        if self._ended:
            self._plan()
        self._let_go_of_settled()
        if not (self._ended or self._settling):
            self._output.on_progress = None

    def _let_go_of_settled(self) -> None:
        settled: list[Slot] = []
        settling: list[tuple[list[Slot], dict[Peer, int]]] = []
        for slots, waits in self._settling:
            if all(peer.closed or peer.link.session.confirmed >= number for peer, number in waits.items()):
                settled += slots
            else:
                settling.append((slots, waits))
        self._settling = settling
        if settled:
            self._let_go(settled)

    def _let_go(self, slots: list[Slot]) -> None:
        """Close the lives that are left in *slots*, and release those where that took no time."""
        for slot in slots:
            for owner in self._objects.in_slot(slot):
                owner.close(How.MOVES)
        self._closing += slots
        self._release_closed()

    def _release_closed(self) -> None:
        slots = [slot for slot in self._closing if all(owner.former is None for owner in self._objects.in_slot(slot))]
        if slots:
            self._closing = [slot for slot in self._closing if slot not in slots]
            self._release(slots)

    def _release(self, slots: list[Slot]) -> None:
        self._output.settle()
        cancelled = [job for slot in slots for job in self._cancelled.pop(slot, ())]
        for peer in self._output.peers:
            jobs = [job for job in cancelled if job.peer is peer]
            peer.writer.released(
                self._slots.version,
                slots,
                [job.socket.counter for job in jobs],
                [job.seq for job in jobs],
            )
            peer.link.flush_soon()
        for slot in slots:
            for owner in self._objects.in_slot(slot):
                owner.let_go()
                self._objects.remove(owner)
            self._remembered.drop(slot)
        self._slots.released(slots)
        log.info("%d slots are released, %d events come again", len(slots), len(cancelled))
        self.on_released(slots)
