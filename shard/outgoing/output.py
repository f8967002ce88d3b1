"""The shard's output of one turn of the loop, and the acknowledgements behind it.

Outboxes that have something, and events that have ended, gather here; at the end of the turn one flush writes the
outboxes to the routers' links, then the acknowledgements: one group to each router. Acknowledgements alone call for no
flush: they wait for the next output, though not for long. A turn in which many events end is flushed **early** as well,
after the first few and then after twice as many each time: else the routers would have nothing to do while the shard
works, and the shard nothing while they write. Never inside a handler. What goes to a link that is **blocked** (too much
of it is unconfirmed) stays in its outbox, and so do the acknowledgements of that object's events; the same for one
object, of which much waits at that router (``behind``). What is held for one connection (see ``flow``) is another
matter: that delays the acknowledgements of this connection's events only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from ..counters import ShardCounters
from .backlog import Backlog
from .flow import Flow
from .outbox import Outbox
from .peers import Peer

FIRST_EARLY = 32
"""Events that end in one turn before its first early flush: some 300 µs of work."""
ACKS_WITHIN_S = 0.002
"""Seconds for which acknowledgements may wait for output to go with. A router keeps the events for as much longer; a
batch for every handler that ends without a word would cost more than the handler."""

P = TypeVar("P", bound=Peer)

EndedEvent = tuple[Outbox, Peer, int, int]
"""The object's outbox, and the event: its router, its connection's counter, its number."""


class Output(Generic[P]):
    """Outboxes and acknowledgements on their way to the links.

    Args:
        at_turns_end: Sees to it that ``flush`` is called at the end of the turn, if it is still ``planned`` then.
        later: Calls a function after so many seconds (``loop.call_later``).
        counters: Where messages are counted.

    Attributes:
        peers: The routers of the map.
        ended: Events that have ended and are not acknowledged.
        planned: A flush will come at the end of this turn.
        early_at: How many ``ended`` events call for ``flush_early`` before that.
        flow: What is held for connections that are full.
        pausing: Outboxes with a router where much of theirs waits.
        on_progress: Called when a router has confirmed something, or has gone.
        plan_outbox: What outboxes call when they stop being empty; one for all of them.
    """

    def __init__(
        self,
        at_turns_end: Callable[[], object],
        later: Callable[[float, Callable[[], None]], object],
        counters: ShardCounters,
    ) -> None:
        self.peers: list[P] = []
        self.ended: list[EndedEvent] = []
        self.planned = False
        self.early_at = FIRST_EARLY
        self.flow: Flow | None = None
        self.pausing = 0
        self.on_progress: Callable[[], None] | None = None
        self.plan_outbox: Callable[[Outbox], None] = self._plan_outbox
        self._at_turns_end = at_turns_end
        self._later = later
        self._acks_planned = False
        self._counters = counters
        self._dirty: list[Outbox] = []
        # What waits for a blocked link. Apart from the rest, so that no flush has to look through it again and again.
        self._stalled: list[Outbox] = []
        self._stalled_events: list[EndedEvent] = []
        # Events whose output was held and has gone into their outboxes.
        self._released: list[EndedEvent] = []

    def _plan_outbox(self, outbox: Outbox) -> None:
        if not self.planned:
            self.plan()
        self._dirty.append(outbox)

    def plan(self) -> None:
        """Flush at the end of this turn."""
        if not self.planned:
            self._at_turns_end()
            self.planned = True

    def note_ended(self, outbox: Outbox, peer: Peer, counter: int, seq: int) -> bool:
        """An event has ended: it is to be acknowledged behind what it has said.

        Args:
            outbox: Its object's.
            peer: The router it came from.
            counter: Its connection.
            seq: Its number.

        Returns:
            Whether so many have ended in this turn that it is time to ``flush_early``.
        """
        ended = self.ended
        ended.append((outbox, peer, counter, seq))
        if self.planned:
            return len(ended) >= self.early_at
        if len(ended) >= self.early_at:
            self.plan()
        elif not self._acks_planned:
            self._acks_planned = True
            self._later(ACKS_WITHIN_S, self._acks_due)
        return False

    def acknowledge_behind(self, outbox: Outbox, peer: Peer, counter: int, seq: int) -> None:
        """What an event had to wait for, which had ended before, has gone into *outbox*: acknowledge it behind that."""
        self._released.append((outbox, peer, counter, seq))
        self.plan()

    def _behind_held(self, ended: list[EndedEvent]) -> list[EndedEvent]:
        """Let the events of connections whose output is held wait for it; returns those that need not."""
        if self.flow is not None and self.flow.backlogs:
            ended = [event for event in ended if not _is_held(event)]
        if self._released:
            released, self._released = self._released, []
            ended += released
        return ended

    def _acks_due(self) -> None:
        self._acks_planned = False
        if self.ended:
            self.plan()

    # --- routers ---

    def meet(self, peer: P) -> None:
        """A router has come."""
        if len(self.peers) == 1:
            # With one router nobody kept marks: all that its batches have carried counts as of its last one.
            self.flush()
            self.peers[0].note_sent()
        peer.link.on_confirmed = lambda _: self._confirmed(peer)
        peer.link.on_unblocked = lambda _: self.unstall()
        self.peers.append(peer)

    def lose(self, peer: P) -> None:
        """A router has gone: what waited for it goes on without it."""
        peer.closed = True
        self.peers.remove(peer)
        peer.link.close()
        self._confirmed(peer)
        self.unstall()

    def unstall(self) -> None:
        """A link is not blocked any more, or gone; or a router is not behind any more: try again what waited."""
        if self._stalled:
            self._dirty = self._stalled + self._dirty
            self.ended = self._stalled_events + self.ended
            self._stalled, self._stalled_events = [], []
            self.plan()
        if self.flow is not None and (self.flow.ready or self.flow.shipping):
            self.plan()

    def _confirmed(self, peer: Peer) -> None:
        if peer.confirmed() or (self.flow is not None and self.flow.shipping):
            self.plan()
        if self.on_progress is not None:
            self.on_progress()

    def settle(self) -> None:
        """Write what has gathered, and every acknowledgement that has become due: a session knows of a confirmation a
        little before its link says so."""
        for peer in self.peers:
            peer.confirmed()
        self.flush()

    # --- the end of a turn ---

    def flush_early(self) -> None:
        """Write what has gathered so far, in the middle of a turn."""
        next_at, planned = 2 * self.early_at, self.planned
        self.flush()
        self.early_at, self.planned = next_at, planned

    def flush(self) -> None:
        """Write what has gathered."""
        flow, more = self.flow, False
        self.planned = False
        self.early_at = FIRST_EARLY
        if flow is not None:
            if flow.ready:
                more = flow.release()
            if flow.shipping:
                flow.ship_on()
        peers = self.peers
        dirty, self._dirty = self._dirty, []
        ended, self.ended = self.ended, []
        sends = 0
        if len(peers) == 1 and not (peers[0].link.blocked or self._stalled or self.pausing):
            for outbox in dirty:
                sends += outbox.drain()[1]
            if self._released or (flow is not None and flow.backlogs):
                ended = self._behind_held(ended)
            for _, peer, counter, seq in ended:
                peer.acknowledge(counter, seq)
            peers[0].write_acks()
            peers[0].link.flush()
        else:
            sends = self._flush_several(dirty, ended)
        self._counters.sends += sends
        if more:
            self.plan()

    def _flush_several(self, dirty: list[Outbox], ended: list[EndedEvent]) -> int:
        sends, peers = 0, self.peers
        blocked = {peer for peer in peers if peer.link.blocked}
        fresh: dict[Outbox, set[Peer]] = {}
        for outbox in dirty:
            if (blocked and outbox.goes_to(blocked)) or (outbox.behind is not None and outbox.goes_to(outbox.behind)):
                self._stalled.append(outbox)  # until that is over, or the router lost
                continue
            fresh[outbox], count = outbox.drain()
            sends += count
        later = []
        for event in self._behind_held(ended):
            outbox, peer, counter, seq = event
            if outbox.planned and outbox not in fresh:
                self._stalled_events.append(event)  # its output has not left yet
            elif any(other is not peer for other in fresh.get(outbox, ())) or outbox.unconfirmed(peers, peer):
                later.append(event)
            else:
                peer.acknowledge(counter, seq)
        for peer in peers:
            peer.write_acks()
            peer.link.flush()
        for outbox, written in fresh.items():
            outbox.mark(written)
        for outbox, peer, counter, seq in later:
            if peer.acknowledge_after(counter, seq, outbox.unconfirmed(peers, peer)):
                self.plan()
        return sends

    @property
    def confirmed(self) -> bool:
        """Whether every router has confirmed all that was written; one whose link was given up never will."""
        return all(peer.link.closed or peer.link.session.confirmed >= peer.link.session.sent for peer in self.peers)


def _is_held(event: EndedEvent) -> bool:
    _, peer, counter, seq = event
    backlog: Backlog | None = peer.held.get(counter)
    return backlog is not None and backlog.acknowledge(seq)
