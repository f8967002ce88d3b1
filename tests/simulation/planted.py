"""Defects planted on purpose, which the simulation must find: else its silence would prove nothing.

Each one removes a rule of the design from the real code while a run lasts. ``PLANTS`` says how many seeds it may take
at most until a check complains; ``test_planted`` holds it to that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from roost.common.cluster.cluster_map import ClusterMap
from roost.common.cluster.directory import MapWatch
from roost.common.ids import Incarnation, ObjectId, Slot
from roost.common.wire.endpoint import Link
from roost.common.wire.records import TO_SHARD, Ahead, EventWriter, OutputWriter
from roost.common.wire.session import HEADER_BYTES, Flag, Session
from roost.router import app as router_app
from roost.router.clients.objects import ObjectEntry
from roost.router.owners.attaching import Attaching
from roost.router.owners.receiving import Receiver
from roost.router.owners.slots import Slots as RouterSlots
from roost.router.websocket.connection import Connection
from roost.router.websocket.window import Window
from roost.shard.app import Shard
from roost.shard.events import RouterEvents
from roost.shard.moving.handover import Handover
from roost.shard.moving.release import Release
from roost.shard.moving.slots import Slots as ShardSlots
from roost.shard.moving.slots import SlotState
from roost.shard.objects.behind import Behind
from roost.shard.objects.hosted import HostedObject
from roost.shard.outgoing.backlog import Backlog
from roost.shard.outgoing.flow import Flow
from roost.shard.outgoing.outbox import Outbox
from roost.shard.outgoing.peers import Peer

from .network import SimDialer

Planting = contextlib.AbstractContextManager[Any]


def _acknowledge_at_once(self: Peer, counter: int, seq: int, waits: object) -> bool:
    self.acknowledge(counter, seq)
    return True


def ack_before_confirmation() -> Planting:
    """An event is acknowledged before the other routers have confirmed the output that came of it."""
    return mock.patch.object(Peer, "acknowledge_after", _acknowledge_at_once)


@contextlib.contextmanager
def no_owner_check() -> Iterator[None]:
    """Routers believe any shard, whether or not the slot is attached to it, and go on listening to one whose link they
    have closed. (The latter is a part of it: what is not heard need not be checked.)"""
    closed: dict[tuple[SimDialer, Incarnation], Link[Any]] = {}
    arrived = SimDialer.arrived

    def detach(self: SimDialer, link: Link[Any]) -> None:
        link.closed = False
        closed[self, link.remote] = link

    def listen(self: SimDialer, sender: Incarnation, batch: bytes) -> None:
        link = closed.get((self, sender))
        if link is None:
            arrived(self, sender, batch)
        elif not self._closed:
            self._deliver(link, batch, self._now())
            self.on_drained()
            self._received(link)

    def entry_of(self: Receiver, connection: Connection | None) -> Any:
        return None if connection is None else connection.entry

    def send(self: Receiver, connections: Sequence[int], data: bytes, binary: bool) -> None:
        self._send_to_many(connections, data, binary)

    def acknowledge(self: Receiver, connections: Sequence[int], firsts: Sequence[int], lasts: Sequence[int]) -> None:
        for number, first, last in zip(connections, firsts, lasts, strict=True):
            connection = self._get(number)
            if connection is not None and connection.acknowledge(first, last):
                connection.handlers_ended()

    with (
        mock.patch.object(Receiver, "_entry_of", entry_of),
        mock.patch.object(Receiver, "send", send),
        mock.patch.object(Receiver, "acknowledge", acknowledge),
        mock.patch.object(SimDialer, "_detach", detach),
        mock.patch.object(SimDialer, "arrived", listen),
        mock.patch.object(SimDialer, "knows", return_value=True),
    ):
        yield


def no_restored_barrier() -> Planting:
    """A shard delivers the events of a slot as they come, without waiting for any router's RESTORED."""
    follow = ShardSlots.follow
    return mock.patch.object(ShardSlots, "follow", lambda self, cluster_map, routers: follow(self, cluster_map, ()))


def close_not_kept() -> Planting:
    """The close of a client that goes while its shard is away is forgotten."""
    end = Connection._end

    def forgetful(self: Connection, event: Any) -> None:
        if self.entry.link is None:
            self.forget_events()
        else:
            end(self, event)

    return mock.patch.object(Connection, "_end", forgetful)


def ack_for_unknown_connection() -> Planting:
    """A shard acknowledges events of connections that it does not know, as if it had handled them."""
    message = RouterEvents.message

    def obliging(self: RouterEvents, connection: int, seq: int, deliveries: int, data: str | bytes) -> None:
        if connection not in self._peer.sockets:
            self._peer.acknowledge(connection, seq)
            self._host.output.plan()
        message(self, connection, seq, deliveries, data)

    return mock.patch.object(RouterEvents, "message", obliging)


def attached_to_who_let_go() -> Planting:
    """A router attaches a slot again to the very shard that has just let go of it."""
    return mock.patch.object(RouterSlots, "may_attach", return_value=True)


def released_before_acks() -> Planting:
    """A shard lets go of a slot without waiting until the acknowledgements of what it handled have left."""

    def let_go(self: Release) -> None:
        settling, self._settling = self._settling, []
        if settling:
            self._let_go([slot for slots, _ in settling for slot in slots])

    return mock.patch.object(Release, "_let_go_of_settled", let_go)


def cancelled_not_named() -> Planting:
    """RELEASED does not name the events whose handlers were cancelled."""
    return mock.patch.object(Release, "drop", return_value=None)


def moved_as_if_crashed() -> Planting:
    """Events that come again because of a live move are marked as redelivered."""
    return mock.patch.object(Window, "take_back", return_value=None)


def duplicates_not_dropped() -> Planting:
    """A session hands out batches again that it has had."""
    receive = Session._receive_other

    def gullible(self: Session, batch: bytes, number: int, *rest: Any) -> list[bytes]:
        again = 0 < number <= self.received and len(batch) > HEADER_BYTES and rest[2] == 0
        groups = receive(self, batch, number, *rest)
        return [*groups, batch[HEADER_BYTES:]] if again else groups

    return mock.patch.object(Session, "_receive_other", gullible)


def attachment_not_kept() -> Planting:
    """Routers do not put attachments into passports."""
    return mock.patch.object(Receiver, "attachment", return_value=None)


def handlers_not_awaited() -> Planting:
    """A shard lets go of an object while its handlers still run."""
    return mock.patch.object(HostedObject, "try_to_leave", return_value=True)


def old_requests_taken() -> Planting:
    """A shard carries out a request that a router had sent before the slot left and came back."""

    def takes(self: ShardSlots, slot: Slot, router: Incarnation) -> bool:
        return self.state(slot) in (SlotState.CLOSED, SlotState.OPEN)

    return mock.patch.object(ShardSlots, "takes_requests", takes)


def output_waits_for_maps() -> Planting:
    """A router holds output back until it has the shard's map, and loses it when the shard ends before that."""
    return mock.patch.object(router_app, "TO_SHARD", replace(TO_SHARD, waits_for_maps=True))


def state_not_told() -> Planting:
    """Routers do not tell a new owner what the object had set."""
    return mock.patch.object(EventWriter, "object_state", return_value=None)


def given_up_in_silence() -> Planting:
    """A router that gives a link up closes it and tells nobody."""
    give_up = Session.give_up

    def silent(self: Session, now: float) -> None:
        give_up(self, now)
        self.outgoing.clear()

    return _all(
        mock.patch.object(Session, "give_up", silent),
        mock.patch.object(Session, "_control", _no_giving_up(Session._control)),
    )


def _no_giving_up(control: Callable[[Session, int], None]) -> Callable[[Session, int], None]:
    def wrapped(self: Session, flag: int) -> None:
        if flag != Flag.GAVE_UP:
            control(self, flag)

    return wrapped


def _nothing(self: Connection, error: Exception) -> None:
    pass


def shard_goes_on() -> Planting:
    """A shard logs an error of its own, and goes on with what it was doing."""
    return mock.patch.object(Shard, "_crash", return_value=None)


def handover_goes_on() -> Planting:
    """A shard that meets an error of its own while it hands slots over keeps them, and says nothing."""

    def unheard(self: Handover, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()

    return mock.patch.object(Handover, "_ended", unheard)


def connection_goes_on() -> Planting:
    """A router logs an error of its own, and does not end the connection that it was met for."""
    return mock.patch.object(Connection, "break_off", _nothing)


def failed_map_counts() -> Planting:
    """A map that could not be taken is not handed over again."""
    take = MapWatch._take

    def forgetful(self: MapWatch, found: ClusterMap) -> bool:
        take(self, found)
        return True

    return mock.patch.object(MapWatch, "_take", forgetful)


def half_restored() -> Planting:
    """A router that fails while it restores a slot does not give the link up."""
    return mock.patch.object(SimDialer, "given_up", return_value=None)


@contextlib.contextmanager
def _all(*plantings: Planting) -> Iterator[None]:
    with contextlib.ExitStack() as planted:
        for each in plantings:
            planted.enter_context(each)
        yield


def held_output_overtaken() -> Planting:
    """What is sent to a connection that is full leaves at once, past what was held before."""
    send = Backlog.send

    def hasty(self: Backlog, payload: str | bytes) -> None:
        if self.peer is None or not len(self):
            send(self, payload)
        else:
            self.outbox.send(self.peer, self.counter, payload)

    return mock.patch.object(Backlog, "send", hasty)


def held_output_forgotten() -> Planting:
    """A shard does not send what it holds before it lets go of an object."""

    def let_go(outbox: Outbox) -> None:
        outbox.unheld = True
        for backlog in list(outbox.backlogs or ()):
            backlog.drop_messages()
            backlog.end()

    return mock.patch.object(Flow, "let_go", staticmethod(let_go))


def lost_output_unsaid() -> Planting:
    """Connections go on although output for them was lost with their shard."""
    owe = Connection.owe

    def careless(self: Connection, owed: bool) -> None:
        owe(self, owed)
        self.owed = False

    return mock.patch.object(Connection, "owe", careless)


def room_not_told() -> Planting:
    """A router does not say that a client has taken half of its share."""
    tell = Connection._tell_room
    return mock.patch.object(Connection, "_tell_room", lambda self, size: None if size else tell(self, size))


@contextlib.contextmanager
def large_output_overtaken() -> Iterator[None]:
    """What an object sends to a client while a large message for it is on its way in pieces leaves at once."""
    send = Backlog.send

    def overtaking(self: Backlog, payload: str | bytes) -> None:
        if self.shipment is not None and self.peer is not None:
            self.outbox.send(self.peer, self.counter, payload)
        else:
            send(self, payload)

    with mock.patch.object(Backlog, "send", overtaking):
        yield


def large_output_left_behind() -> Planting:
    """A slot is let go of while output of its objects is on its way in pieces."""
    return mock.patch.object(Flow, "keeps", return_value=False)


@contextlib.contextmanager
def pieces_mixed_up() -> Iterator[None]:
    """Payloads that go ahead at the same time have the same stream."""
    part, send_ahead = OutputWriter.part, OutputWriter.send_ahead

    def one_part(self: OutputWriter, stream: int, data: bytes | memoryview) -> None:
        part(self, 1, data)

    def one_send(self: OutputWriter, connections: Any, payload: Ahead, binary: bool) -> None:
        send_ahead(self, connections, Ahead(1), binary)

    with mock.patch.object(OutputWriter, "part", one_part), mock.patch.object(OutputWriter, "send_ahead", one_send):
        yield


def pause_without_end() -> Planting:
    """An object that pauses, since much of its output waits at a router, does not go on when that has been written."""
    told = Behind.told

    def deaf(self: Behind, peer: Peer, object_id: ObjectId, is_behind: bool) -> None:
        if is_behind:
            told(self, peer, object_id, is_behind)

    return mock.patch.object(Behind, "told", deaf)


def said_before_restored() -> Planting:
    """What a client says goes to its object's new owner although that does not have the client yet."""
    return mock.patch.object(ObjectEntry, "without_owner", lambda self: self)


def half_given_counts() -> Planting:
    """An owner is said to have all of a slot when it has the first piece."""

    def go_on(self: Attaching, left: int) -> int:
        given(self, left)
        return 1

    given = Attaching.go_on
    return mock.patch.object(Attaching, "go_on", go_on)


@dataclass(frozen=True, slots=True)
class Plant:
    """A defect that can be planted.

    Attributes:
        plant: Plants it, for as long as the context lasts.
        seeds: Seeds within which it is found, from the first one on.
        theme: What their runs are full of, for one that needs several things to happen at once.
    """

    plant: Callable[[], Planting]
    seeds: int
    theme: str = ""


PLANTS: dict[str, Plant] = {
    plant.__name__: Plant(plant, *found)
    for plant, *found in (
        (ack_before_confirmation, 200, "crashes"),
        (no_owner_check, 200, "expulsions"),
        (no_restored_barrier, 200),
        (close_not_kept, 200),
        (ack_for_unknown_connection, 500, "bounces"),
        (attached_to_who_let_go, 200, "moves"),
        (released_before_acks, 500),
        (cancelled_not_named, 500),
        (moved_as_if_crashed, 100),
        (duplicates_not_dropped, 200),
        (attachment_not_kept, 50),
        (handlers_not_awaited, 100),
        (old_requests_taken, 100, "bounces"),
        (output_waits_for_maps, 200, "moves"),
        (state_not_told, 100),
        (given_up_in_silence, 100, "defects"),
        (shard_goes_on, 50, "defects"),
        (handover_goes_on, 200, "defects"),
        (connection_goes_on, 200, "defects"),
        (failed_map_counts, 100, "maps"),
        (half_restored, 1000, "defects"),
        (held_output_overtaken, 100, "slow"),
        (held_output_forgotten, 100, "slow"),
        (lost_output_unsaid, 200, "slow"),
        (room_not_told, 50, "slow"),
        (large_output_overtaken, 100, "large"),
        (large_output_left_behind, 200, "large"),
        (pieces_mixed_up, 50, "large"),
        (pause_without_end, 50),
        (said_before_restored, 100, "halves"),
        (half_given_counts, 50),
    )
}
