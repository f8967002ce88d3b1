"""The routers of the map as output sees them, and when events of theirs may be acknowledged.

An event is done with once its handler has ended **and every other router has confirmed the batches that carry what the
object had put out before that**: else a router that dies with such a batch would take output with it that no
redelivery brings back. On the router's own link the order of records does it, as the acknowledgement travels behind.

So each outbox remembers for each router the number of the last batch with output of it. With one router, or when an
object's output went to the event's own router only, the acknowledgement is written at once.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Mapping
from typing import Any

from ...common.ids import Incarnation
from ...common.wire.link import Link
from ...common.wire.records import OutputWriter
from ...common.wire.shipping import Shipping


class _Acks:
    """Acknowledgements as they will be written, and the last range of each connection among them."""

    __slots__ = ("counters", "firsts", "last_of", "lasts")

    def __init__(self) -> None:
        self.counters = array("I")
        self.firsts = array("Q")
        self.lasts = array("Q")
        self.last_of: dict[int, int] = {}  # counter → index

    def clear(self) -> None:
        """They are written."""
        del self.counters[:], self.firsts[:], self.lasts[:]
        self.last_of.clear()


class _Waiting:
    """An acknowledgement that waits for the confirmations of other routers."""

    __slots__ = ("counter", "missing", "peer", "seq")

    def __init__(self, peer: Peer, counter: int, seq: int) -> None:
        self.peer = peer
        self.counter = counter
        self.seq = seq
        self.missing = 0

    def __lt__(self, other: _Waiting) -> bool:
        return self.seq < other.seq  # any order will do: it only breaks a tie between equal batch numbers


class Peer:
    """One router: its link, what waits for connections of it, and the acknowledgements it is owed.

    What uses a router knows more of it than the router of what uses it: tables are of whatever is put into them.

    Attributes:
        incarnation: The router's incarnation.
        link: The link to it.
        writer: The link's writer.
        sockets: Its connections, by counter (see ``RouterPeer``).
        held: The backlogs of its connections that are full, by counter.
        shipping: What goes ahead to it in pieces.
        sent_unmarked: The last batch that may carry output for which no outbox has a mark.
        closed: The router has left the map; nothing goes there any more.
    """

    __slots__ = (
        "_acks",
        "_awaiting",
        "closed",
        "held",
        "incarnation",
        "link",
        "sent_unmarked",
        "shipping",
        "sockets",
        "writer",
    )

    def __init__(self, link: Link[OutputWriter]) -> None:
        self.incarnation: Incarnation = link.remote
        self.link = link
        self.writer = link.writer
        self.sockets: Mapping[int, Any] = {}
        self.held: dict[int, Any] = {}
        self.shipping = Shipping(link)
        self.sent_unmarked = 0
        self.closed = False
        self._acks = _Acks()
        self._awaiting: list[tuple[int, _Waiting]] = []  # a heap by batch number

    def note_sent(self) -> None:
        """All that went out so far may be output of any object."""
        self.sent_unmarked = self.link.session.sent

    def acknowledge(self, counter: int, seq: int) -> None:
        """The event *seq* of a connection is done with; neighbours merge into one range."""
        acks = self._acks
        at = acks.last_of.get(counter)
        if at is not None and acks.lasts[at] == seq - 1:
            acks.lasts[at] = seq
        else:
            acks.last_of[counter] = len(acks.lasts)
            acks.counters.append(counter)
            acks.firsts.append(seq)
            acks.lasts.append(seq)

    def acknowledge_after(self, counter: int, seq: int, waits: Iterable[tuple[Peer, int]]) -> bool:
        """As ``acknowledge``, once each router in *waits* has confirmed the batch named there.

        Returns:
            Whether that is now: write the acknowledgements.
        """
        waiting = _Waiting(self, counter, seq)
        for peer, number in waits:
            waiting.missing += 1
            heapq.heappush(peer._awaiting, (number, waiting))
        if not waiting.missing:
            self.acknowledge(counter, seq)
        return not waiting.missing

    def confirmed(self) -> set[Peer]:
        """This router has confirmed more, or has left.

        Returns:
            The routers that are owed acknowledgements by that: flush their links.
        """
        number, awaiting, owed = self.link.session.confirmed, self._awaiting, set()
        while awaiting and (self.closed or awaiting[0][0] <= number):
            waiting = heapq.heappop(awaiting)[1]
            waiting.missing -= 1
            if not waiting.missing and not waiting.peer.closed:
                waiting.peer.acknowledge(waiting.counter, waiting.seq)
                owed.add(waiting.peer)
        return owed

    def ask_for_a_sign(self) -> None:
        """Send something to be confirmed: acknowledgements of nothing."""
        nothing = _Acks()
        self.writer.acknowledge(nothing.counters, nothing.firsts, nothing.lasts)
        self.link.flush()

    def write_acks(self) -> bool:
        """Write the acknowledgements owed, as one record behind all output; says whether there were any."""
        acks = self._acks
        if not acks.last_of:
            return False
        self.writer.acknowledge(acks.counters, acks.firsts, acks.lasts)
        acks.clear()
        return True
