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
then the slot is *unwinding*, and not attached. Attaching is done in pieces of ``PIECE``, between which the loop does
other work; a slot stays parked until all of it is there (``attaching``), and if its owner goes before that, it unwinds
again. An owner whose link is blocked gets no piece for as long: events sent again count against the link's bound as all
others do. Slots with suspects may have to wait for their stage of a trial.

What kills shards is not tried for ever: see ``poison``.
"""

from __future__ import annotations

import logging
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from functools import partial

from ...common.cluster.cluster_map import ClusterMap, Member
from ...common.errors import Unavailable
from ...common.ids import Incarnation, ObjectId, Slot, id_from_name, slot_of
from ...common.limits import MAX_PARKED_REQUESTS
from ...common.wire.records import AcceptMode, Headers, HttpRequest, Pieces
from ..clients.gathering import AHEAD_BYTES
from ..clients.links import OwnerLink
from ..clients.objects import ObjectEntry
from ..clients.output import Broadcast
from ..clients.surroundings import Surroundings
from ..clients.timers import TICK_S
from ..clients.work import Errand
from ..formats.frames import SERVICE_RESTART, TRY_AGAIN_LATER
from ..formats.http import Refusal
from ..websocket.connection import Connection
from .attaching import Attaching
from .poison import Death, Deaths
from .replay import AHEAD_AT_ONCE_BYTES, Replay
from .requests import Asker, Request, Requests
from .slots import Slots

log = logging.getLogger("roost.router")

PIECE = 512
"""Passports and events given to new owners in one turn of the loop: some 5 ms."""
REQUESTS_AT_ONCE = 64
"""Parked requests sent in one step of the loop's turn: some 0.5 ms."""
POISONED = "a message of this connection ended its object's process"
OUTPUT_LOST = "output was lost with the object's process"
TOO_MUCH_LEFT = (
    "objects work on too many requests whose clients have not waited for the answer, of your address most; try again "
    "later"
)
REFUSED = "the object has ended its process again and again; it is refused for a while"


class Forwarding:
    """Knows the owner of each slot and gets events and requests there, or keeps them until it can.

    Args:
        shared: What all connections share.
        connect: Makes the link to a shard that is new in the map.
        parked_ticks: How long connections and requests wait for an owner.
        soon: Calls a function in the next turn of the loop (``call_soon``); without it everything is done at once.
        last_words: Reads how a shard died, ``None`` if that is not known.
    """

    def __init__(
        self,
        shared: Surroundings[Connection],
        connect: Callable[[Member], OwnerLink],
        *,
        parked_ticks: int,
        soon: Callable[[Callable[[], None]], object] | None = None,
        last_words: Callable[[Member], Death | None] | None = None,
    ) -> None:
        self.requests = Requests()
        self._shared = shared
        self._connect = connect
        self._parked_ticks = parked_ticks
        self._soon = soon
        self._last_words = last_words
        self._map = ClusterMap()
        self._slots = Slots(shared.wheel.tick)
        self._links: dict[Incarnation, OwnerLink] = {}
        self._shards: dict[Incarnation, Member] = {}  # those of _links, also after the map has dropped them
        self._broken: set[Incarnation] = set()
        self._unconnected = False  # some shard of the map has no link
        self._held: dict[Slot, set[ObjectId]] = {}  # objects whose mailboxes are full, as their owners say
        self._unwinding: set[int] = set()  # parked slots whose former owner's part is not over here
        self._attaching: dict[int, Attaching] = {}  # parked slots of which a part has been given to an owner
        self._deaths = Deaths()
        self._attached_at: dict[Incarnation, float] = {}  # when shards were given their first slots
        # Parked slots to look at; and whether that is planned for the next turn of the loop.
        self._candidates: OrderedDict[int, None] = OrderedDict()
        # Slots whose parked requests may be sent.
        self._to_send: OrderedDict[int, None] = OrderedDict()
        self._planned = False
        # A candidate was passed over because its owner's link was blocked.
        self._blocked = False
        # Objects behind whose output a look at their slot is queued.
        self._behind_output: set[ObjectId] = set()
        # Connections that are to be closed, with code and reason; and whether that is under way.
        self._closing: deque[tuple[Connection, int, str]] = deque()
        self._closes = False
        # Slots and connections attached since that was last logged, by owner.
        self._tally: dict[Incarnation, list[int]] = {}
        # Large messages that go ahead to the owners of parked slots; and parked slots that wait for those of others.
        self._replays: dict[int, Replay] = {}
        self._behind_replays: set[int] = set()

    # --- requests of clients ---

    def ask(
        self,
        asker: Asker,
        *,
        namespace: str,
        name: str,
        method: str,
        url: str,
        headers: Headers,
        body: bytes | Pieces,
        upgrade: bool,
        share: Hashable = "",
        memory: int = 0,
    ) -> Request:
        """Send a request to its object, or park it.

        Args:
            asker: Who gets the answer.
            namespace: The object's namespace.
            name: The object's name.
            method: HTTP method.
            url: Absolute URL.
            headers: Header fields, names in lower case.
            body: The whole body; the caller counts it until the request is answered or abandoned.
            upgrade: It is a valid WebSocket handshake: a connection is reserved for it.
            share: The address that it counts for.
            memory: Bytes that it takes, here and at its shard.

        Raises:
            Unavailable: Too many requests are parked, the object is refused because it ends shards, or the router has
                no connection numbers left.
        """
        shared = self._shared
        object_id = id_from_name(namespace, name)
        if self._deaths.refuses_any and self._deaths.refuses(object_id, self._now()):
            raise Unavailable(REFUSED)
        if not self.requests.left.takes(share, memory):
            raise Unavailable(TOO_MUCH_LEFT)
        connection = None
        if upgrade:
            number = shared.connections.next_counter()
            entry = shared.objects.get(object_id)
            if entry is None:
                attached = self._slots.links[slot_of(object_id)]
                entry = ObjectEntry(object_id, namespace, name, attached, self._is_held(object_id))
                shared.objects.add(entry)
            connection = Connection(number, entry, shared, url)
        record = HttpRequest(
            request=self.requests.next_number(),
            connection=connection.number if connection is not None else 0,
            object_id=object_id,
            namespace=namespace,
            name=name,
            method=method,
            url=url,
            headers=headers,
            body=body,
        )
        request = Request(record, asker, connection, None, shared.wheel.tick, share, memory)
        if self._may_go(request):
            self._send(request)
        else:
            try:
                self.requests.park(request)
            except Unavailable:
                if connection is not None:
                    connection.refuse()
                raise
        return request

    def abandon(self, request: Request) -> None:
        """The client is gone or has been answered otherwise. An upgrade that was sent may still be accepted: the
        object then hears at once that the client is gone."""
        if self.requests.abandon(request) and request.connection is not None:
            request.connection.refuse()

    def _may_go(self, request: Request) -> bool:
        link = self._slots.links[request.slot]
        return link is not None and not link.blocked and not self._is_held(request.record.object_id)

    def _send(self, request: Request) -> None:
        link = self._slots.links[request.slot]
        assert link is not None
        self.requests.send(request, link)

    def _send_parked(self, slots: Collection[int]) -> None:
        """Send the requests for objects of *slots*, as far as they may go now; some in each turn of the loop."""
        if self.requests.parked:
            self._to_send.update(dict.fromkeys(slots))
            if self.work():
                self._shared.work.add_own(self)

    def work(self) -> bool:
        """Send some of the requests that need not wait any longer; returns whether there are more."""
        left = REQUESTS_AT_ONCE
        while self._to_send:
            slot, _ = self._to_send.popitem(last=False)
            for request in self.requests.parked_in(slot):
                if left == 0:
                    self._to_send[slot] = None
                    return True
                if self._may_go(request):  # those before it may have blocked the link
                    self._send(request)
                    left -= 1
        return False

    def break_off(self, error: Exception) -> None:
        """*error*, a defect of ours, was raised by ``work``."""
        self._shared.defects.note("requests that waited are sent later", error)

    @staticmethod
    def _fail(request: Request, error: Refusal | Unavailable) -> None:
        if request.connection is not None:
            request.connection.refuse()
        if request.asker is not None:
            try:
                request.asker.failed(error)
            except Exception as defect:
                request.asker.break_off(defect)

    # --- what shards say of themselves ---

    def hold(self, link: OwnerLink, object_id: ObjectId, held: bool) -> None:
        """The object's mailbox is full, or half empty again."""
        if not self.speaks_for(link, object_id):
            self._shared.counters.stale_records += 1
            return
        slot = slot_of(object_id)
        if held:
            self._held.setdefault(slot, set()).add(object_id)
        else:
            of_slot = self._held.get(slot, set())
            of_slot.discard(object_id)
            if not of_slot:
                self._held.pop(slot, None)
        entry = self._shared.objects.get(object_id)
        if entry is not None:
            entry.hold(held)
        if not held:
            self._send_parked((slot,))

    def _is_held(self, object_id: ObjectId) -> bool:
        return bool(self._held) and object_id in self._held.get(slot_of(object_id), ())

    def speaks_for(self, link: OwnerLink, object_id: ObjectId) -> bool:
        """Whether the object's slot is attached to *link*."""
        return self._slots.links[slot_of(object_id)] is link

    def unblocked(self, link: OwnerLink) -> None:
        """*link* is not blocked any more: send what had to wait for it."""
        if self._blocked:
            self._blocked = False
            self._candidates.update(dict.fromkeys(self._slots.parked))
            self._attach_candidates()
        self._shared.unblocked(link)
        if self.requests.parked:
            self._send_parked([slot for slot in self.requests.parked_slots if self._slots.links[slot] is link])

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
        shared, table = self._shared, self._slots
        tick = shared.wheel.tick
        begun: dict[int, set[int]] = {}
        for number, seq in zip(connections, seqs, strict=True):
            begun.setdefault(number, set()).add(seq)
        parked = [slot for slot in slots if table.release(slot, link, map_version, tick)]
        if not parked:
            shared.counters.stale_records += 1
            return
        shared.counters.slots_released += len(parked)
        self._unattach(parked, link)
        self._in_steps(self._unwind(parked, self._moved(parked, begun)))

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
            waiting = self.requests.sent_of(slot)
            for request in waiting:
                request.parked_at = self._slots.parked[slot]
            again += waiting
            yield
        self._wait_again(again)

    def _unattach(self, slots: Collection[int], link: OwnerLink) -> None:
        """*slots*, which were attached to *link*, are parked: nothing more goes there."""
        shared, has_reports = self._shared, link in self._shared.reports.pending
        for slot in slots:
            self._held.pop(Slot(slot), None)
            for entry in shared.objects.of_slot(slot):
                entry.belongs_to(None)
                if has_reports:
                    shared.reports.forget(link, entry.connections)  # the passports have the times
        self._unwinding.update(slots)

    def _unwind(self, slots: list[int], steps: Iterator[None]) -> Iterator[None]:
        """Do *steps*, with which the part of the former owner of *slots* is over; then they may be attached."""
        try:
            yield from steps
        except Exception as error:
            self._shared.defects.note("what was parked goes on with what is known of it", error)
        self._unwinding.difference_update(slots)
        self._candidates.update(dict.fromkeys(slots))
        self._attach_candidates()

    def _in_steps(self, steps: Iterator[None]) -> None:
        """Have *steps* done in this and later turns of the loop."""
        if self._soon is None:
            _do_all(steps)
        else:
            self._shared.work.add_own(
                Errand(steps, lambda error: self._shared.defects.note("what was parked may wait for long", error))
            )

    def _wait_again(self, requests: list[Request]) -> None:
        """Requests that an owner had and did not begin."""
        wanted = []
        for request in requests:
            if request.asker is not None:
                wanted.append(request)
            elif request.connection is not None:
                request.connection.refuse()  # its client is gone, and no object has heard of it
        for request in self.requests.park_again(wanted):
            self._fail(
                request, Unavailable(f"{MAX_PARKED_REQUESTS} requests wait for their objects already; try again later")
            )

    def link_broke(self, link: OwnerLink) -> None:
        """The session with a shard cannot go on: one of both broke the wire's rules. What is attached there waits for
        another owner, which the map will name."""
        self._give_up(link, died=False)

    def shard_died(self, link: OwnerLink) -> None:
        """The process of a shard has ended. The map may say so much later: until then nothing should go to a dead
        process, and what is parked meanwhile has certainly not been delivered."""
        if self._links.get(link.remote) is link and not self._slots.of(link):
            # Every router counts the deaths of an object, also one that had not attached anything there yet.
            member = self._shards[link.remote]
            death = self._last_words(member) if self._last_words is not None else None
            self._in_steps(self._judge(member, death))
        self._give_up(link, died=True)

    def _give_up(self, link: OwnerLink, *, died: bool) -> None:
        if self._links.get(link.remote) is link:
            self._broken.add(link.remote)
            self._end(link, died=died)
            self._attach_candidates()

    # --- the map ---

    @property
    def attached(self) -> int:
        """How many slots are attached."""
        return self._slots.attached

    def take_map(self, new: ClusterMap) -> None:
        """Follow a new cluster map. The caller then sets the map's version on the links before they flush."""
        self._map = new
        shards = new.shards
        alive = {member.incarnation for member in shards}
        self._broken &= alive
        for link in [link for incarnation, link in self._links.items() if incarnation not in alive]:
            self._end(link, died=True)
        self._connect_all()
        # Only what is parked can change: with all slots attached a new map costs next to nothing.
        if self._slots.parked:
            self._candidates.update(dict.fromkeys(self._slots.parked))
            self._attach_candidates()

    def _connect_all(self) -> None:
        """Make the links that are lacking; what fails now (no descriptor is left, say) is tried again each second."""
        self._unconnected = False
        for member in self._map.shards:
            if member.incarnation not in self._links and member.incarnation not in self._broken:
                try:
                    link = self._connect(member)
                except (OSError, ValueError) as error:
                    self._unconnected = True
                    log.error("there is no link to %s for now: %s", member.name, error)
                    continue
                self._links[member.incarnation] = link
                self._shards[member.incarnation] = member

    # --- parking ---

    def _end(self, link: OwnerLink, *, died: bool) -> None:
        """Close the link to a shard that has left the map or is dead (or might as well be) and park what is there."""
        shared = self._shared
        link.close()
        del self._links[link.remote]
        member = self._shards.pop(link.remote)
        shared.reports.drop(link)
        shared.link_ended(link)
        for slot in [slot for slot, replay in self._replays.items() if replay.link is link]:
            self._end_replay(slot)
        slots = self._slots.of(link)
        for attaching in [each for each in self._attaching.values() if each.link is link]:
            self._undo(attaching)
        if not slots:
            log.info("%s has gone; none of its slots was attached", member.name)
            return
        log.warning("%s is gone: its %d slots are parked", member.name, len(slots))
        death = self._last_words(member) if died and self._last_words is not None else None
        for slot in slots:
            self._slots.park(slot, shared.wheel.tick)
        self._unattach(slots, link)
        self._in_steps(self._unwind(slots, self._ended(slots, member, died, death)))

    def _ended(self, slots: list[int], member: Member, died: bool, death: Death | None) -> Iterator[None]:
        """What follows from the end of the owner of *slots*, which are parked."""
        for slot in slots:
            for entry in self._shared.objects.in_slot(slot):
                yield from self._park(entry, "the object's process ended", died=True)
            for request in self.requests.sent_of(slot):
                self._fail(
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
            yield from self._judge(member, death)

    def _park(self, entry: ObjectEntry[Connection], reason: str, *, died: bool) -> Iterator[None]:
        """An object of a slot that is parked; its owner has *died*, or let go of it."""
        for connection in [each for each in entry.connections.values() if each.sends_ahead]:
            connection.leave_owner()
            yield
        queue = entry.output
        if queue is None:
            yield from self._end_unmovable(entry, reason, died)
        elif _has_actions(queue) or any(
            _is_standard(connection) or connection.owed for connection in entry.connections.values()
        ):
            # What it said before comes first: messages to them, perhaps a 101 that makes one more.
            queue.append(lambda: _do_all(self._end_unmovable(entry, reason, died)))

    def _end_unmovable(self, entry: ObjectEntry[Connection], reason: str, died: bool) -> Iterator[None]:
        """Close what cannot go on at another owner: the object's sockets that were accepted with ``accept()``, and
        those for which output waited at an owner that has *died*, since what follows would have a gap before it."""
        counters = self._shared.counters
        for connection in list(entry.connections.values()):
            owed, connection.owed = connection.owed, False
            if _is_standard(connection):
                counters.standard_closed += connection.writable
                self._forget_and_close(connection, SERVICE_RESTART, reason)
            elif died and owed and connection.writable:
                counters.output_lost += 1
                log.warning("connection %d is closed: output for it was lost, as %s", connection.number, reason)
                connection.close_or_break_off(SERVICE_RESTART, OUTPUT_LOST)
            yield

    # --- attaching ---

    def _undo(self, attaching: Attaching) -> None:
        """The owner of a slot has gone before it had all of it."""
        slot = attaching.slot
        del self._attaching[slot]
        self._unattach((slot,), attaching.link)
        self._in_steps(self._unwind([slot], attaching.undo()))

    def _prepare(self, entry: ObjectEntry[Connection], poisoned: Mapping[int, list[int]]) -> Iterator[None]:
        """Do what an object's new owner is not to have to do with."""
        if self._deaths.refuses_any and self._deaths.refuses(entry.object_id, self._now()):
            yield from self._refuse(entry)
        if poisoned:
            self._drop_poisoned(entry, poisoned)

    def _attach_candidates(self) -> None:
        """Attach what may be attached, in pieces; the first one now."""
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
        candidates, current, shared, tick = self._candidates, self._map, self._shared, self._shared.wheel.tick
        attached: dict[Incarnation, list[int]] = {}
        poisoned: dict[Incarnation, Mapping[int, list[int]]] = {}
        left = PIECE
        while candidates and left > 0:
            slot, _ = candidates.popitem(last=False)
            link = self._links.get(current.owners[slot])
            if link is None or slot not in self._slots.parked or slot in self._unwinding:
                continue
            if link.blocked:
                self._blocked = True
                continue
            attaching = self._attaching.get(slot)
            if attaching is None:
                if not self._slots.may_attach(slot, current, tick) or self._deaths.holds(Slot(slot), self._now()):
                    continue
                entries = shared.objects.of_slot(slot)
                if not all(self._has_spoken(entry) for entry in entries):
                    continue
                if not self._has_gone_ahead(slot, entries, link):
                    continue
                owner = link.remote
                self._attached_at.setdefault(owner, self._now())
                if entries:
                    if owner not in poisoned:
                        poisoned[owner] = self._deaths.poisoned(self._shards[owner].seat)
                    attaching = self._attaching[slot] = Attaching(
                        Slot(slot), link, shared.objects, partial(self._prepare, poisoned=poisoned[owner])
                    )
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
            self._slots.attach(slot, link, current.version, shared.wheel.tick)
            self._end_replay(slot)
            attached.setdefault(link.remote, []).append(slot)
        for owner, slots in attached.items():
            link = self._links[owner]
            link.writer.restored(current.version, array("H", sorted(slots)))
            link.flush_soon()
            self._tally.setdefault(owner, [0, 0])[0] += len(slots)
        for slots in attached.values():
            self._send_parked(slots)

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
            replay = self._replays[slot] = Replay(link, partial(self._look_again, slot))
        return replay.send(connections)

    def _look_again(self, slot: int) -> None:
        self._candidates[slot] = None
        self._attach_candidates()

    def _end_replay(self, slot: int) -> None:
        """A slot is attached, or goes elsewhere."""
        replay = self._replays.pop(slot, None)
        if replay is not None:
            replay.end()
            self._candidates.update(dict.fromkeys(self._behind_replays))
            self._behind_replays.clear()

    def _has_spoken(self, entry: ObjectEntry[Connection]) -> bool:
        """Whether all that the object said at its last owner has taken effect here. Else its slot is looked at again
        when it has. Messages to clients that still wait to be written do not matter."""
        queue = entry.output
        if queue is None or not _has_actions(queue):
            return True
        if entry.object_id not in self._behind_output:
            self._behind_output.add(entry.object_id)
            queue.append(partial(self._output_done, entry))
        return False

    def _output_done(self, entry: ObjectEntry[Connection]) -> None:
        self._behind_output.discard(entry.object_id)
        self._candidates[entry.slot] = None
        self._attach_candidates()

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

    # --- what ends shards ---

    def _now(self) -> float:
        return self._shared.wheel.tick * TICK_S

    def _in_words(self, object_id: ObjectId) -> str:
        """An object for logs: namespace and name where a connection of it tells them, else its id."""
        entry = self._shared.objects.get(object_id)
        if entry is None or not entry.name:
            return object_id.hex()
        return f"{entry.namespace}/{entry.name}"

    def _judge(self, member: Member, death: Death | None) -> Iterator[None]:
        """A shard has died that had slots of ours, or objects that we may hear of: note what was at work."""
        lived_s = self._now() - self._attached_at.pop(member.incarnation, self._now())
        if death is None:
            return
        running = death.running
        if running is not None:
            log.warning(
                "%s died while object %s ran (connection %d, event %d)%s",
                member.name,
                self._in_words(running.object_id),
                running.connection,
                running.seq,
                f", which had held the loop for {death.stood_s:.0f} s" if death.is_hang else "",
            )
        if death.waiting:
            log.warning(
                "%s died while %d events of %d objects had begun and not ended",
                member.name,
                len(death.waiting),
                len({each.object_id for each in death.waiting}),
            )
        for object_id in self._deaths.note(death, member.seat, self._now(), lived_s):
            self._shared.counters.objects_refused += 1
            log.error(
                "object %s was at work at deaths of shards again and again: it is refused for %g s",
                self._in_words(object_id),
                self._deaths.refusal_s(object_id),
            )
            for request in self.requests.parked_for(object_id):
                self._fail(request, Unavailable(REFUSED))
            entry = self._shared.objects.get(object_id)
            if entry is not None:
                yield from self._refuse(entry)

    def _refuse(self, entry: ObjectEntry[Connection]) -> Iterator[None]:
        """Close the sockets of an object that ends shards. It does not hear of that, nor of what they sent: any of
        these events might do it again."""
        for connection in list(entry.connections.values()):
            if connection.known:
                self._forget_and_close(connection, TRY_AGAIN_LATER, "the object is refused for a while")
                yield

    def _drop_poisoned(self, entry: ObjectEntry[Connection], poisoned: Mapping[int, list[int]]) -> None:
        """Close the object's connections with events that must not be sent, and forget these events."""
        for connection in [connection for number, connection in entry.connections.items() if number in poisoned]:
            for seq in poisoned[connection.number]:
                self._deaths.forget(connection.number, seq)
                if connection.poison(seq, POISONED):
                    self._shared.counters.poisoned += 1
                    log.error(
                        "connection %d of object %s is closed: event %d, which may have ended a shard, is dropped",
                        connection.number,
                        self._in_words(entry.object_id),
                        seq,
                    )

    # --- closing many connections ---

    def _forget_and_close(self, connection: Connection, code: int, reason: str) -> None:
        """Close a connection whose object shall not hear of it any more: from now on nobody is given it."""
        try:
            connection.forget_events()
        except Exception as error:
            connection.break_off(error)
        self._close_in_turn((connection,), code, reason)

    def _close_in_turn(self, connections: Collection[Connection], code: int, reason: str) -> None:
        """Close connections in steps: an object may have 32,768, and each Close is a write."""
        self._closing.extend((connection, code, reason) for connection in connections)
        if not self._closes:
            self._closes = True
            self._in_steps(self._close_them())

    def _close_them(self) -> Iterator[None]:
        while self._closing:
            connection, code, reason = self._closing.popleft()
            connection.close_or_break_off(code, reason)
            yield
        self._closes = False

    # --- time ---

    def on_second(self) -> None:
        """Look after what has been parked for long. The shell calls this about once a second."""
        shared = self._shared
        for owner, (slots, connections) in self._tally.items():
            name = self._shards[owner].name if owner in self._shards else f"incarnation {owner}"
            log.info("attached to %s: %d slots with %d connections", name, slots, connections)
        self._tally.clear()
        # First who has waited too long: what is tried below may only be tried in vain once more.
        before = shared.wheel.tick - self._parked_ticks
        if self.requests.parked:
            self._in_steps(self._fail_parked(before))
        late = [slot for slot, since in self._slots.parked.items() if since < before and slot not in self._attaching]
        for slot in late:
            self._slots.parked[slot] = shared.wheel.tick
        if late:
            self._in_steps(self._close_parked([slot for slot in late if not self._deaths.tried(slot)]))
        on_trial = self._deaths.look(self._now())
        self._candidates.update(dict.fromkeys(slot for slot in on_trial if slot in self._slots.parked))
        self._candidates.update(dict.fromkeys(self._slots.let_go))  # some may have been in transit for long
        self._attach_candidates()
        if self._unconnected:
            self._connect_all()
            self._candidates.update(dict.fromkeys(self._slots.parked))
            self._attach_candidates()

    def _close_parked(self, slots: list[int]) -> Iterator[None]:
        """Close connections whose objects have had no owner for too long; where a trial is on, there is one, and its
        stage comes."""
        for slot in slots:
            for entry in self._shared.objects.in_slot(slot) if slot in self._slots.parked else ():
                for connection in list(entry.connections.values()):
                    connection.close_or_break_off(TRY_AGAIN_LATER, "the object cannot be reached at present")
                    yield
            yield

    def _fail_parked(self, before: int) -> Iterator[None]:
        """Answer requests that have waited for an owner since before that tick."""
        for request in self.requests.parked_before(before):
            self._fail(request, Unavailable("the object cannot be reached at present; try again later"))
            yield


def _is_standard(connection: Connection) -> bool:
    return connection.mode is AcceptMode.STANDARD and connection.known


def _has_actions(queue: Collection[Broadcast | Callable[[], None]]) -> bool:
    """Whether an object's output queue holds more than messages to clients."""
    return not all(isinstance(item, Broadcast) for item in queue)


def _do_all(steps: Iterator[None]) -> None:
    """Do what is usually done in steps at once."""
    for _ in steps:
        pass
