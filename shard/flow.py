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

**All together**: when more than ``limit`` bytes are held, those that hold most are cut (CUT: the router closes with
1013) until a sixteenth is free.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from heapq import merge
from typing import TYPE_CHECKING

from .backlog import Backlog
from .counters import ShardCounters
from .large_responses import LargeResponses

if TYPE_CHECKING:
    from .outbox import Outbox
    from .peers import Peer

RELEASE_BYTES = 8 << 20
"""Bytes of held output that leave in one turn, for all connections together: a payload that is held once for many goes
out for each of them."""
RELIEF = 16
"""The part of the bound, one of so many, that is free after a cut."""

log = logging.getLogger("roost.shard")


class Flow:
    """The connections of a shard that are full.

    Args:
        limit: Bytes that may be held for all of them together.
        acknowledge: Takes the acknowledgement of an event whose time has come: outbox, router, connection, number.
        plan: Sees to it that ``release`` is called at the end of this turn.
        counters: Where connections that are cut are counted.

    Attributes:
        backlogs: Those of all connections that are full.
        ready: Those of them whose router has room.
        responses: Large responses that wait for their turn.
        total: Bytes held.
    """

    __slots__ = ("_counters", "_limit", "_plan", "acknowledge", "backlogs", "ready", "responses", "total")

    def __init__(
        self,
        limit: int,
        acknowledge: Callable[[Outbox, Peer, int, int], None],
        plan: Callable[[], None],
        counters: ShardCounters,
    ) -> None:
        self.acknowledge = acknowledge
        self._plan = plan
        self.ready: dict[Backlog, None] = {}
        self.total = 0
        self._counters = counters
        self._limit = limit
        self.backlogs: dict[Backlog, None] = {}
        self.responses = LargeResponses(lambda: self._limit - self.total, plan)

    @property
    def waiting(self) -> int:
        """Connections for which something is held."""
        return sum(1 for backlog in self.backlogs if len(backlog))

    def begin(self, outbox: Outbox, peer: Peer, counter: int) -> Backlog:
        """A connection is full from now on."""
        socket = peer.sockets.get(counter)
        backlog = Backlog(outbox, self, peer, counter, socket)
        if socket is not None:
            socket.held = backlog
        peer.held[counter] = backlog
        if outbox.backlogs is None:
            outbox.backlogs = {}
        outbox.backlogs[backlog] = None
        self.backlogs[backlog] = None
        return backlog

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
        backlog = peer.held.get(counter)
        if backlog is not None:
            if size and not backlog.dead:
                backlog.room = size
                self.ready[backlog] = None
                self._plan()
        elif not size:
            socket = peer.sockets.get(counter)
            if socket is not None and not socket.gone and not socket.owner.outbox.unheld:
                self.begin(socket.owner.outbox, peer, counter)

    def gone(self, peer: Peer, counter: int) -> None:
        """The connection takes nothing any more."""
        backlog = peer.held.get(counter)
        if backlog is not None:
            backlog.drop_messages()
            backlog.end()

    def lose(self, peer: Peer) -> None:
        """The router has gone, and all its connections."""
        for backlog in list(peer.held.values()):
            backlog.discard()
        self.responses.lose(peer)

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

    # --- what becomes of objects ---

    def let_go(self, outbox: Outbox) -> None:
        """The object moves, or its shard ends: all that is held leaves now, and nothing is held any more. Its routers
        keep what they get, and tell the next owner which connections are full.

        It leaves in the order in which the object made it, so that what was one record to many is one again.
        """
        outbox.unheld = True
        backlogs = list(outbox.backlogs or ())
        held = [[(item, backlog) for item in backlog.take()] for backlog in backlogs]
        for item, backlog in merge(*held, key=_place_of):
            backlog.hand_over(item)
        for backlog in backlogs:
            backlog.end()
        self.responses.let_go(outbox)

    # --- the bound ---

    def grown(self, size: int) -> None:
        """So much more is held."""
        self.total += size
        if self.total > self._limit:
            self._relieve()

    def shrunk(self, size: int) -> None:
        """So much less is held."""
        self.total -= size

    def _relieve(self) -> None:
        goal = self._limit - self._limit // RELIEF
        largest = sorted(self.backlogs, key=lambda backlog: backlog.size, reverse=True)
        for backlog in largest:
            if self.total <= goal:
                break
            self._cut(backlog)

    def _cut(self, backlog: Backlog) -> None:
        peer, counter = backlog.peer, backlog.counter
        assert peer is not None
        self._counters.sockets_cut += 1
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


def _place_of(held: tuple[tuple[int, object, bool], Backlog]) -> int:
    return held[0][0]
