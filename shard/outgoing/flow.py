"""Backpressure of clients: what objects hold back for connections that are full, and the bound of all of it together.

A router keeps output for a client up to the connection's share (``send_buffer_bytes``). Beyond that it says ROOM 0: the
connection is **full**. From then on what its object sends to it waits here, in a ``Backlog``, until the router says how
much room there is; then a piece of that size leaves, and the router is asked again behind it (OWED 1), or told that no
more waits (OWED 0). Nobody else's output waits for that: neither that of the object's other connections, nor any
acknowledgement but those of the full connection's own events.

An object may send more in one turn than a router should have to keep before it can say so. So the shard does the same
by itself: of what one turn has for a connection, no more than a share leaves at a time (``Outbox.drain``).

OWED also answers the question what becomes of held output when its shard dies, which an acknowledged event may have
made: the router knows that some is lost, and closes the connection rather than go on with a gap.

**In pieces.** A large message waits in a backlog too, also when there is room for it: its bytes go ahead in pieces, and
meanwhile what else its object sends to that client waits behind it. Connections that get the same one share its bytes.
When the last piece is written, the message leaves: a record like any other, so acknowledgements, deaths and moves know
nothing of pieces. Bodies of responses go the same way (``large_responses``).

**All together**: when more than ``limit`` bytes are held, those that hold most are cut (CUT: the router closes with
1013) until a sixteenth is free; first of all those that wait for their clients. Who takes what comes is not cut for
being sent much: large messages have a bound of the same size for themselves, and one beyond that is refused to the
object that sends it, unless clients are cut for it that do not take theirs. What they hold of the bound counts for the
others up to three quarters: the last quarter is there for these alone.
"""

from __future__ import annotations

import logging
import sys
from array import array
from collections.abc import Callable
from heapq import merge

from ...common.budget import Budget
from ...common.limits import SEND_BUFFER_BYTES
from ...common.wire.records import Ahead
from ...common.wire.shipping import Shipment
from ..counters import ShardCounters
from .backlog import Backlog, Connection, Item
from .entries import Payload
from .large_responses import LargeResponses
from .outbox import Outbox
from .peers import Peer

RELEASE_BYTES = 2 << 20
"""Bytes of held output that leave in one turn, for all connections together: a payload that is held once for many goes
out for each of them."""
RELIEF = 16
"""The part of the bound, one of so many, that is free after a cut."""
LARGE_PART = 3, 4
"""The part of the bound that large messages may take from others."""

log = logging.getLogger("roost.shard")


class Shared:
    """A large message on its way to those connections of one router whose backlogs have it at the front.

    Args:
        flow: The shard's.
        peer: The router.
        outbox: The object's.
        data: The message.
        binary: Binary or text.
    """

    __slots__ = ("_backlogs", "_binary", "_data", "_flow", "_outbox", "_peer", "_shipment")

    def __init__(self, flow: Flow, peer: Peer, outbox: Outbox, data: Payload, binary: bool) -> None:
        self._flow = flow
        self._peer = peer
        self._outbox = outbox
        self._data = data
        self._binary = binary
        self._backlogs: dict[Backlog, None] = {}
        self._shipment = flow.ship_ahead(peer, outbox, data, self._shipped)

    def join(self, backlog: Backlog) -> None:
        """One connection more gets it."""
        self._backlogs[backlog] = None

    def leave(self, backlog: Backlog) -> None:
        """A connection does not get it any more; if none does, it does not leave."""
        del self._backlogs[backlog]
        if not self._backlogs:
            self._flow.forget(self._peer, self._outbox, self._data, self._binary)
            self._flow.cancel(self._peer, self._shipment)

    def _shipped(self, ahead: Ahead) -> None:
        self._flow.forget(self._peer, self._outbox, self._data, self._binary)
        backlogs, binary = list(self._backlogs), self._binary
        targets = array("I", [backlog.counter for backlog in backlogs])
        self._outbox.record(self._peer, lambda writer: writer.send_ahead(targets, ahead, binary))
        self._flow.counters.sends += len(targets)
        for backlog in backlogs:
            backlog.shipped()


class Flow:
    """The connections of a shard that are full.

    Args:
        held: Bytes that may be held for all of them together.
        acknowledge: Takes the acknowledgement of an event whose time has come: outbox, router, connection, number.
        plan: Sees to it that ``release`` is called at the end of this turn.
        counters: Where connections that are cut are counted.

    Attributes:
        backlogs: Those of all connections that are full.
        ready: Those of them whose router has room.
        responses: Large responses that wait for their turn.
        shipping: Routers to which something goes ahead.
        counters: See above.
        held: See above.
        large: Those of large messages among them.
        promised: Bytes of large messages that have been sent in this turn, and are not held yet.
    """

    __slots__ = (
        "_plan",
        "_shared",
        "acknowledge",
        "backlogs",
        "counters",
        "held",
        "large",
        "promised",
        "ready",
        "responses",
        "shipping",
    )

    def __init__(
        self,
        held: Budget,
        acknowledge: Callable[[Outbox, Peer, int, int], None],
        plan: Callable[[], None],
        counters: ShardCounters,
    ) -> None:
        self.acknowledge = acknowledge
        self._plan = plan
        self.ready: dict[Backlog, None] = {}
        self.held = held
        self.large = self.promised = 0
        self.counters = counters
        self.backlogs: dict[Backlog, None] = {}
        self.shipping: dict[Peer, None] = {}
        self._shared: dict[tuple[Peer, Outbox, int, bool], Shared] = {}
        self.responses = LargeResponses(lambda: held.left, self.ship_ahead)

    @property
    def waiting(self) -> int:
        """Connections for which something is held."""
        return sum(1 for backlog in self.backlogs if len(backlog))

    def begin(self, outbox: Outbox, peer: Peer, counter: int, *, at_once: bool = False) -> Backlog:
        """A connection is full from now on; or (*at_once*) is not, but what it gets takes more than this turn."""
        socket: Connection | None = peer.sockets.get(counter)
        backlog = Backlog(outbox, self, peer, counter, socket)
        if socket is not None:
            socket.held = backlog
        peer.held[counter] = backlog
        if outbox.backlogs is None:
            outbox.backlogs = {}
        outbox.backlogs[backlog] = None
        self.backlogs[backlog] = None
        if at_once or outbox.unheld:
            backlog.room = sys.maxsize if outbox.unheld else SEND_BUFFER_BYTES
            self.go_on(backlog)
        return backlog

    def go_on(self, backlog: Backlog) -> None:
        """Its router has room: what waits leaves in the next turns."""
        self.ready[backlog] = None
        self._plan()

    def ended(self, backlog: Backlog) -> None:
        """A connection is not full any more, or over."""
        peer = backlog.peer
        assert peer is not None
        if peer.held.get(backlog.counter) is backlog:
            del peer.held[backlog.counter]
        outbox = backlog.outbox
        if outbox.backlogs is not None:
            outbox.backlogs.pop(backlog, None)
            if not outbox.backlogs:
                outbox.backlogs = None
        self.backlogs.pop(backlog, None)
        self.ready.pop(backlog, None)

    # --- what routers say ---

    def room(self, peer: Peer, counter: int, size: int) -> None:
        """The router has room for so much output for the connection; 0: for none."""
        backlog: Backlog | None = peer.held.get(counter)
        if backlog is not None:
            # Of an object that moves all leaves, whatever room a router has told of meanwhile.
            if size and not backlog.dead and not backlog.outbox.unheld:
                backlog.room = size
                self.go_on(backlog)
        elif not size:
            socket: Connection | None = peer.sockets.get(counter)
            if socket is not None and not socket.gone and not socket.owner.outbox.unheld:
                self.begin(socket.owner.outbox, peer, counter)

    def gone(self, peer: Peer, counter: int) -> None:
        """The connection takes nothing any more."""
        backlog: Backlog | None = peer.held.get(counter)
        if backlog is not None:
            backlog.drop_messages()
            backlog.end()

    def lose(self, peer: Peer) -> None:
        """The router has gone, and all its connections."""
        for backlog in list(peer.held.values()):
            backlog.discard()
        self.responses.lose(peer)
        peer.shipping.clear()
        self.shipping.pop(peer, None)

    def release(self) -> bool:
        """Hand over to the outboxes, for this turn, what routers have room for and their links as well.

        Returns:
            Whether the next turn has more to do.
        """
        left = RELEASE_BYTES
        for backlog in list(self.ready):
            peer = backlog.peer
            assert peer is not None
            if peer.link.blocked:
                continue
            if left <= 0:
                return True
            del self.ready[backlog]
            left -= backlog.release(min(backlog.room, left))
        return False

    # --- what goes in pieces ---

    def ship(self, backlog: Backlog, data: Payload, binary: bool) -> Shared:
        """A large message at the front of *backlog* may leave."""
        peer, outbox = backlog.peer, backlog.outbox
        assert peer is not None
        shared = self._shared.get((peer, outbox, id(data), binary))
        if shared is None:
            shared = self._shared[peer, outbox, id(data), binary] = Shared(self, peer, outbox, data, binary)
        shared.join(backlog)
        return shared

    def forget(self, peer: Peer, outbox: Outbox, data: Payload, binary: bool) -> None:
        """No connection can join a large message any more."""
        del self._shared[peer, outbox, id(data), binary]

    def ship_ahead(self, peer: Peer, outbox: Outbox, data: Payload, on_shipped: Callable[[Ahead], None]) -> Shipment:
        """Send a payload ahead to a router, in turn with those of other objects."""
        self.shipping[peer] = None
        self._plan()
        return peer.shipping.ship(data, outbox, on_shipped)

    def cancel(self, peer: Peer, shipment: Shipment) -> None:
        """Nobody wants a payload any more that goes ahead."""
        peer.shipping.cancel(shipment)
        self._plan()  # its router is to forget what has come

    def ship_on(self) -> None:
        """Write what may be under way now of what goes ahead."""
        for peer in list(self.shipping):
            peer.shipping.work()
            if not len(peer.shipping):
                del self.shipping[peer]

    def keeps(self, outbox: Outbox) -> bool:
        """Whether something of an object that moves has not left yet."""
        return bool(outbox.backlogs) or self.responses.has(outbox)

    # --- what becomes of objects ---

    def let_go(self, outbox: Outbox) -> None:
        """The object moves, or its shard ends: all that is held leaves now, and nothing is held any more. Its routers
        keep what they get, and tell the next owner which connections are full.

        It leaves in the order in which the object made it, so that what was one record to many is one again. Where
        something goes in pieces, that and what is behind it leaves as fast as it can (``keeps`` tells whether it has).
        """
        outbox.unheld = True
        backlogs = []
        for backlog in list(outbox.backlogs or ()):
            if backlog.has_large:
                backlog.room = sys.maxsize
                self.go_on(backlog)
            else:
                backlogs.append(backlog)
        held = [[(item, backlog) for item in backlog.take()] for backlog in backlogs]
        for item, backlog in merge(*held, key=_place_of):
            backlog.hand_over(item)
        for backlog in backlogs:
            backlog.end()

    # --- the bound ---

    def grown(self, size: int, *, is_large: bool = False) -> None:
        """So much more is held."""
        self.held.taken += size
        if is_large:
            self.large += size
        elif self.held.taken - self.large > self._limit_beside_large:
            self._relieve()

    def shrunk(self, size: int, *, is_large: bool = False) -> None:
        """So much less is held."""
        self.held.taken -= size
        if is_large:
            self.large -= size

    @property
    def _limit_beside_large(self) -> int:
        part, of = LARGE_PART
        return self.held.limit - min(self.large, self.held.limit * part // of)

    @property
    def large_limit(self) -> int:
        """Bytes of large messages that may be on their way or held, all together; one has room whatever its size."""
        return self.held.limit

    def takes_large(self, size: int) -> bool:
        """Whether a large message of *size* bytes may be sent. If not, clients that do not take theirs are cut first,
        those that hold most."""
        limit = self.large_limit - size
        if self.large + self.promised > limit and self.large:
            waiting = [each for each in self.backlogs if each.waits_for_client and each.has_large]
            for backlog in sorted(waiting, key=_size_of, reverse=True):
                self._cut(backlog)
                if self.large + self.promised <= limit:
                    break
        if self.large + self.promised <= max(limit, 0):
            return True
        self.counters.large_refused += 1
        return False

    def _relieve(self) -> None:
        goal = self._limit_beside_large - self.held.limit // RELIEF
        # Who is not told of more room cannot help it; who is takes what comes.
        for backlog in sorted(self.backlogs, key=lambda each: (each.waits_for_client, each.size), reverse=True):
            if self.held.taken - self.large <= goal:
                break
            self._cut(backlog)

    def _cut(self, backlog: Backlog) -> None:
        peer, counter = backlog.peer, backlog.counter
        assert peer is not None
        self.counters.sockets_cut += 1
        log.warning(
            "connection %d of router %d is cut: of the output that clients do not take it has most, %d bytes",
            counter,
            peer.incarnation,
            backlog.size,
        )
        backlog.dead = True
        backlog.drop_messages()
        backlog.outbox.note(peer, lambda writer: writer.cut(counter))
        backlog.wake()


def _size_of(backlog: Backlog) -> int:
    return backlog.size


def _place_of(held: tuple[Item, Backlog]) -> int:
    return held[0].place
