"""Between connections and the owners of their objects: which link a slot is attached to, and what is parked.

Theory of operation
===================

A slot is **attached** to the link to the shard that was last given its passports, and **parked** while there is none.
Records are sent to, and accepted from, that link only, whatever the map says. The map only says where a *parked* slot
goes: an attached one stays until its owner lets go of it, or is dead.

========== ============================================== ===========================================================
a slot is  event                                          becomes
========== ============================================== ===========================================================
parked     the map names an owner that is in it and whose attached: the owner gets passports, object states, the
           link is not broken, the owner has not just let unacknowledged events in order, then RESTORED for the slot,
           go of the slot (``Slots.may_attach``), and all also when there is nothing in it; requests that waited go out
           that objects there said before has taken
           effect
attached   RELEASED on that link                          parked, a *move*: requests without an answer wait again,
                                                          under their numbers; events that the owner had not begun
                                                          count as not sent
attached   the link's process has ended, its session is   parked, a *death*: requests that were sent fail with 502, as
           broken, or the map has dropped its shard       they may have been carried out; events that were sent come
                                                          again as redelivered; the shard's last words are read
attached   RELEASED on another link, or from before the   attached: it is an old answer
           map by which the slot was attached
either     a new map, a new link                          unchanged, but for the rows above
========== ============================================== ===========================================================

Either way of parking closes sockets accepted with ``accept()`` (1012): what they were is lost with the instance. And
either way what an owner said before it was parked holds, even if it still waits in an object's output queue (a 101, a
close): the passports must have it, so the slot is attached only behind it.

A slot whose owner leaves the map in good order has been released before. So nothing is attached to such a link and
nothing was sent on it that has no answer: closing it parks nothing, fails nothing.

Parking and attaching are work in proportion to connections and events. A slot is parked at once, so that nothing more
goes to its old owner. What follows for its objects, its requests and its connections is done in steps (``work``); until
then the slot is *unwinding*, and not attached. Attaching is the business of ``giving``, requests are that of ``desk``.

What kills shards is not tried for ever: see ``poison`` and ``verdicts``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from ...common.close_codes import SERVICE_RESTART, TRY_AGAIN_LATER
from ...common.cluster.cluster_map import ClusterMap, Member
from ...common.ids import ObjectId, slot_of
from ...common.wire.records import AcceptMode
from ..clients.context import ClientContext
from ..clients.links import OwnerLink
from ..clients.objects import ObjectEntry
from ..clients.output import has_actions
from ..clients.work import Errand
from ..formats.http import Refusal
from ..websocket.connection import Connection
from .attaching import Attaching
from .attachments import Attachments, Ended, Moves, Owner
from .closing import Closing
from .desk import RequestDesk
from .giving import Giving
from .poison import Death, Deaths
from .requests import Request
from .verdicts import Verdicts

log = logging.getLogger("roost.router")

OUTPUT_LOST = "output was lost with the object's process"


class Forwarding:
    """Knows the owner of each slot, and what follows when a slot has another one, or none.

    Args:
        shared: What all connections share.
        connect: Makes the link to a shard that is new in the map.
        parked_ticks: How long connections and requests wait for an owner.
        soon: Calls a function in the next turn of the loop (``call_soon``); without it everything is done at once.
        last_words: Reads how a shard died, ``None`` if that is not known.
        new_attaching: What gives one slot to its owner.

    Attributes:
        desk: Where clients' requests are handed in.
    """

    def __init__(
        self,
        shared: ClientContext[Connection],
        connect: Callable[[Member], OwnerLink],
        *,
        parked_ticks: int,
        soon: Callable[[Callable[[], None]], object] | None = None,
        last_words: Callable[[Member], Death | None] | None = None,
        new_attaching: type[Attaching] = Attaching,
    ) -> None:
        self._shared = shared
        self._connect = connect
        self._parked_ticks = parked_ticks
        self._soon = soon
        self._last_words = last_words
        self._attachments = Attachments(shared.wheel.tick)
        self._slots = self._attachments.slots
        self._unconnected = False  # some shard of the map has no link
        self._deaths = Deaths()
        self._closing = Closing(self._in_steps)
        self.desk = RequestDesk(shared, self._slots, self._deaths)
        self._verdicts = Verdicts(shared, self._deaths, self.desk, self._closing)
        self._giving = Giving(
            shared,
            self._attachments,
            self.desk,
            self._deaths,
            self._verdicts,
            soon=soon,
            new_attaching=new_attaching,
            in_steps=self._in_steps,
        )

    # --- what shards say of themselves ---

    def speaks_for(self, link: OwnerLink, object_id: ObjectId) -> bool:
        """Whether the object's slot is attached to *link*."""
        return self._slots.links[slot_of(object_id)] is link

    def unblocked(self, link: OwnerLink) -> None:
        """*link* is not blocked any more: send what had to wait for it."""
        self._giving.unblocked()
        self._shared.windows.unblocked(link)
        self.desk.unblocked(link)

    def released(
        self,
        link: OwnerLink,
        map_version: int,
        slots: Sequence[int],
        connections: Sequence[int] = (),
        seqs: Sequence[int] = (),
    ) -> None:
        """A shard has let go of slots; those that are attached to its link are parked.

        Args:
            link: Who says so.
            map_version: The map that it had.
            slots: The slots.
            connections: With *seqs*: the events that it had begun to handle and did not end. Whoever handles them next
                is told that they come again; the other events have not been begun.
            seqs: Their numbers.
        """
        shared = self._shared
        begun: dict[int, set[int]] = {}
        for number, seq in zip(connections, seqs, strict=True):
            begun.setdefault(number, set()).add(seq)
        parked = self._attachments.released(link, map_version, slots, shared.wheel.tick).released
        if not parked:
            shared.counters.stale_records += 1
            return
        shared.counters.slots_released += len(parked)
        self._giving.take_back(parked, link, self._moved(parked, begun))

    def _moved(self, slots: list[int], begun: Mapping[int, Collection[int]]) -> Iterator[None]:
        """What follows from the release of *slots*, which are parked."""
        again: list[Request] = []
        for slot in slots:
            for entry in self._shared.objects.in_slot(slot):
                for connection in list(entry.connections.values()):
                    if connection.known:
                        connection.window.take_back(begun.get(connection.number, ()))
                    yield
                yield from self._park(entry, "the object moves to another process", died=False)
            waiting = self.desk.requests.sent_of(slot)
            for request in waiting:
                request.parked_at = self._slots.parked[slot]
            again += waiting
            yield
        self.desk.wait_again(again)

    def _in_steps(self, steps: Iterator[None]) -> None:
        """Have *steps* done in this and later turns of the loop."""
        if self._soon is None:
            _do_all(steps)
        else:
            self._shared.work.add_own(
                Errand(steps, lambda error: self._shared.defects.note("what was parked may wait for long", error))
            )

    def link_broke(self, link: OwnerLink) -> None:
        """The session with a shard cannot go on: one of both broke the wire's rules. What is attached there waits for
        another owner, which the map will name."""
        self._give_up(link, died=False)

    def shard_died(self, link: OwnerLink) -> None:
        """The process of a shard has ended. The map may say so much later: until then nothing should go to a dead
        process, and what is parked meanwhile has certainly not been delivered."""
        owner = self._attachments.owner_at(link)
        if owner is not None and not self._slots.of(link):
            # Every router counts the deaths of an object, also one that had not attached anything there yet.
            death = self._last_words(owner.member) if self._last_words is not None else None
            self._in_steps(self._verdicts.judge(owner.member, death, owner.attached_at))
        self._give_up(link, died=True)

    def _give_up(self, link: OwnerLink, *, died: bool) -> None:
        if self._attachments.owner_at(link) is not None:
            link.close()  # first: what it has brought counts as of before
            self._carry_out(self._attachments.lost(link, died=died, tick=self._shared.wheel.tick))

    # --- the map ---

    @property
    def attached(self) -> int:
        """How many slots are attached."""
        return self._slots.attached

    def take_map(self, new: ClusterMap) -> None:
        """Follow a new cluster map. The caller then sets the map's version on the links before they flush."""
        for owner in self._attachments.gone_in(new):
            owner.link.close()
        self._carry_out(self._attachments.follow(new, self._shared.wheel.tick))

    def _carry_out(self, moves: Moves) -> None:
        """Do what follows from something that has happened to owners and slots."""
        for ended in moves.ended:
            self._end(ended)
        if moves.lacking:
            self._connect_all(moves.lacking)
        # Only what is parked can change: with all slots attached a new map costs next to nothing.
        self._giving.look_at(moves.candidates)

    def _connect_all(self, lacking: Collection[Member]) -> None:
        """Make the links that are lacking; what fails now (no descriptor is left, say) is tried again each second."""
        self._unconnected = False
        for member in lacking:
            try:
                link = self._connect(member)
            except (OSError, ValueError) as error:
                self._unconnected = True
                log.error("there is no link to %s for now: %s", member.name, error)
                continue
            self._attachments.connected(member, link)

    # --- parking ---

    def _end(self, ended: Ended) -> None:
        """An owner is dead (or might as well be), or has left the map: what was attached to its link is parked."""
        shared, owner, slots = self._shared, ended.owner, ended.slots
        link, member = owner.link, owner.member
        shared.reports.drop(link)
        shared.windows.link_ended(link)
        self._giving.link_ended(link)
        if not slots:
            log.info("%s has gone; none of its slots was attached", member.name)
            return
        log.warning("%s is gone: its %d slots are parked", member.name, len(slots))
        death = self._last_words(member) if ended.died and self._last_words is not None else None
        self._giving.take_back(slots, link, self._ended(slots, owner, ended.died, death))

    def _ended(self, slots: Sequence[int], owner: Owner, died: bool, death: Death | None) -> Iterator[None]:
        """What follows from the end of the owner of *slots*, which are parked."""
        for slot in slots:
            for entry in self._shared.objects.in_slot(slot):
                yield from self._park(entry, "the object's process ended", died=True)
            for request in self.desk.requests.sent_of(slot):
                self.desk.fail(
                    request,
                    Refusal(
                        502,
                        "the object's process ended before it answered: the request may have been carried out, so look "
                        "before you send it again",
                    ),
                )
                yield
            yield
        if died:
            yield from self._verdicts.judge(owner.member, death, owner.attached_at)

    def _park(self, entry: ObjectEntry[Connection], reason: str, *, died: bool) -> Iterator[None]:
        """An object of a slot that is parked; its owner has *died*, or let go of it."""
        for connection in [each for each in entry.connections.values() if each.sends_ahead]:
            connection.leave_owner()
            yield
        queue = entry.output
        if queue is None:
            yield from self._end_unmovable(entry, reason, died)
        elif has_actions(queue) or any(
            _is_standard(connection) or connection.owed for connection in entry.connections.values()
        ):
            # What it said before comes first: messages to them, perhaps a 101 that makes one more.
            self._giving.when_spoken(entry, self._end_unmovable(entry, reason, died))

    def _end_unmovable(self, entry: ObjectEntry[Connection], reason: str, died: bool) -> Iterator[None]:
        """Close what cannot go on at another owner: the object's sockets that were accepted with ``accept()``, and
        those for which output waited at an owner that has *died*, since what follows would have a gap before it."""
        counters = self._shared.counters
        for connection in list(entry.connections.values()):
            owed, connection.owed = connection.owed, False
            if _is_standard(connection):
                counters.standard_closed += connection.writable
                self._closing.forget_and_close(connection, SERVICE_RESTART, reason)
            elif died and owed and connection.writable:
                counters.output_lost += 1
                log.warning("connection %d is closed: output for it was lost, as %s", connection.number, reason)
                connection.close_or_break_off(SERVICE_RESTART, OUTPUT_LOST)
            yield

    # --- time ---

    def on_second(self) -> None:
        """Look after what has been parked for long. The shell calls this about once a second."""
        shared = self._shared
        self._giving.log_tally()
        # First who has waited too long: what is tried below may only be tried in vain once more.
        before = shared.wheel.tick - self._parked_ticks
        if self.desk.requests.parked:
            self._in_steps(self.desk.fail_parked(before))
        late = [
            slot for slot, since in self._slots.parked.items() if since < before and not self._giving.is_under_way(slot)
        ]
        for slot in late:
            self._slots.parked[slot] = shared.wheel.tick
        if late:
            self._in_steps(self._close_parked([slot for slot in late if not self._deaths.tried(slot)]))
        on_trial = [slot for slot in self._deaths.look(shared.wheel.seconds) if slot in self._slots.parked]
        self._giving.look_at([*on_trial, *self._slots.let_go])  # of these some may have been in transit for long
        if self._unconnected:
            self._connect_all(self._attachments.lacking)
            self._giving.look_at_all()

    def _close_parked(self, slots: list[int]) -> Iterator[None]:
        """Close connections whose objects have had no owner for too long; where a trial is on, there is one, and its
        stage comes."""
        for slot in slots:
            for entry in self._shared.objects.in_slot(slot) if slot in self._slots.parked else ():
                for connection in list(entry.connections.values()):
                    connection.close_or_break_off(TRY_AGAIN_LATER, "the object cannot be reached at present")
                    yield
            yield


def _is_standard(connection: Connection) -> bool:
    return connection.mode is AcceptMode.STANDARD and connection.known


def _do_all(steps: Iterator[None]) -> None:
    """Do what is usually done in steps at once."""
    for _ in steps:
        pass
