"""Links, and what a process keeps for all of its links: sessions, flushing, the clock, garbage.

A ``Link`` is one session with the writer that collects its records: whoever writes records calls ``flush_soon``, and
at the end of the loop's turn they leave as one group. What comes in is handed to ``on_group``, whole groups in order.
How batches travel is for the subclasses of ``Endpoint`` in ``link`` to know.

* Links that have something to send flush in one callback a turn, not in one each. A message that comes alone, as the
  last few did, leaves at once instead: waiting for the turn's end, it would meet no other and cost a turn.
* Sessions need a few milliseconds' clock while batches are unconfirmed. One timer of the endpoint serves them all, and
  only while one of them is busy.
* What is said on a link is its ``Dialect``: any two members may have one. Where it says so, a batch that names a newer
  map waits for that.
* Garbage (batches of unknown senders, of other clusters or incarnations, of none) is dropped, counted in
  ``wire_garbage`` and logged at most once a minute.
* A group that does not parse, or cannot be applied, is worse: one of both ends is broken. The link is given up: the
  owner finds it closed and is called by ``on_failed``, and the other end is told until it is gone (``session``). Two
  incarnations have one session only, so a shard whose link has failed starts anew under another incarnation: else it
  would wait for that router's confirmations for ever, and others' events with it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from typing import Any, Generic

from ..errors import WireError
from ..ids import Incarnation
from ..machine.counters import Counters
from ..runtime.clock import Clock
from .records import Ahead, Dialect, Incoming, Parts, Pieces, W
from .session import Session
from .shipping import Shipment, Shipping

ALONE_S = 50e-6
"""Seconds without a flush before a message that is taken to be alone: the next one of the same turn comes sooner."""
ALONE_PARTS = 2
"""Parts of a group that holds one message."""
ALONE_TURNS = 4
"""Turns with one message each before the next one is taken to be alone: a busy process has such turns, too, but seldom
several in a row."""
TICK_S = 0.005
"""Seconds between two looks at the clock while a session is busy."""
LOG_INTERVAL_S = 60.0
"""Seconds between two log lines of one kind about garbage."""
_ANY_MAP = 1 << 32
"""A version above all that a batch can name."""

_log = logging.getLogger("roost.link")


Rest = Callable[[], bool]
"""Hands out the next step of a long group; returns whether there is more."""


class Link(Generic[W]):
    """One session of two members, with its writer. Made by a ``Dialer`` or an ``Acceptor``.

    Attributes:
        dialect: What is said on it.
        read: Reads what comes (``Dialect.read``).
        writer: Where records for the other end are collected.
        remote: The other end's incarnation.
        name: What the other end is called in logs.
        session: Numbers of what was sent and confirmed; do not call its methods.
        parts: What has come of payloads that go ahead of their records.
        on_confirmed: Called with the link after ``session.confirmed`` has grown, once for a run of batches.
        on_unblocked: Called with the link when ``blocked`` has become false again.
        blocked: Too much is unconfirmed: send nothing that can wait, until ``on_unblocked``.
        closed: The link is closed, or was given up; writing to it has no effect.
        rest: What has come and is not handed out yet: the rest of a long group, and groups behind it. For the endpoint.
        takes_to: The newest map that a batch may name now. For the endpoint.
    """

    __slots__ = (
        "_endpoint",
        "_is_handing_out",
        "_scheduled",
        "_seen_confirmed",
        "_seen_resent",
        "_shipping",
        "blocked",
        "closed",
        "dialect",
        "name",
        "on_confirmed",
        "on_unblocked",
        "parts",
        "read",
        "remote",
        "rest",
        "session",
        "takes_to",
        "writer",
    )

    def __init__(self, endpoint: Endpoint, remote: Incarnation, dialect: Dialect[W], session: Session) -> None:
        self.dialect = dialect
        self.read = dialect.read
        self.writer: W = dialect.new_writer()
        self.remote = remote
        self.name = f"incarnation {remote}"
        self.session = session
        self.parts = endpoint.new_parts()
        self.on_confirmed: Callable[[Link[W]], None] | None = None
        self.on_unblocked: Callable[[Link[W]], None] | None = None
        self.blocked = self.closed = False
        self.rest: deque[bytes | Rest] = deque()
        self.takes_to = endpoint.map_version if dialect.waits_for_maps else _ANY_MAP
        self._is_handing_out = False
        self._endpoint = endpoint
        self._scheduled = False
        self._seen_confirmed = 0
        self._seen_resent = 0
        self._shipping: Shipping | None = None

    def flush_soon(self) -> None:
        """Send what the writer holds at the end of this turn of the loop. Cheap if that is planned already."""
        if not self._scheduled:
            self._scheduled = True
            self._endpoint.plan_flush(self)

    def flush_message(self) -> None:
        """Send what the writer holds: now, if it is a message that probably stays alone in this turn, else at its end.

        For who has just written a client's message, and has nothing to do before it leaves.
        """
        if not self._scheduled:
            if self._endpoint.expects_one():
                self._endpoint.flush(self)
            else:
                self._scheduled = True
                self._endpoint.plan_flush(self)

    def flush(self) -> None:
        """Send what the writer holds now."""
        self._endpoint.flush(self)

    def ship(self, data: bytes | Pieces, owner: Hashable, on_shipped: Callable[[Ahead], None]) -> Shipment:
        """Send a payload ahead of its record, in pieces: see ``shipping``. Flushes carry it on, whoever makes them."""
        if self._shipping is None:
            self._shipping = Shipping(self)
        shipment = self._shipping.ship(data, owner, on_shipped)
        self.flush_soon()
        return shipment

    def cancel(self, shipment: Shipment) -> None:
        """Nobody wants a payload any more that was to go ahead, or has gone: its record is not written."""
        shipment.forget()
        if self._shipping is not None and not self.closed:
            if not self._shipping.cancel(shipment) and shipment.stream:
                self.writer.part(shipment.stream, b"")
            self.flush_soon()

    def close(self) -> None:
        """End the link. What it has not delivered is not delivered; the other end is told nothing.

        One that was given up is closed for its owner already; its endpoint forgets it with the other end (``keep``).
        """
        if not self.closed:
            self._endpoint.finish(self)
            self.closed = True
            self._endpoint.forget(self)

    def give_up(self, error: Exception) -> None:
        """Its owner cannot go on with it, because of *error*: as when what came could not be applied."""
        self._endpoint.given_up(self, error)

    def note(self) -> None:
        """Call the callbacks that are due. For the endpoint, after something has come."""
        session = self.session
        if session.confirmed != self._seen_confirmed:
            self._seen_confirmed = session.confirmed
            if self._shipping is not None and len(self._shipping) and not self.closed:
                self.flush_soon()
            if self.on_confirmed is not None:
                self.on_confirmed(self)
        if session.blocked != self.blocked:
            self.blocked = session.blocked
            if not self.blocked and self.on_unblocked is not None and not self.closed:
                self.on_unblocked(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """What a process gives its endpoints.

    Attributes:
        loop: The loop that all this runs on.
        cluster_id: The directory's random number.
        local: This process's incarnation.
        clock: Monotonic time.
        on_group: Called with each group of records that comes, in order. A ``WireError`` gives the link up. Of a long
            group it does a part and returns what does the rest, step by step, in later turns of the loop.
        counters: Where batches and garbage are counted.
        on_failed: Called soon after a link was given up, with the reason. The link is closed already.
        on_defect: Called at once with an error of our own, and is to end the process (``defects``). Without it the link
            that the error was met for is given up.
        new_parts: Makes what takes the payloads of a link that come ahead of their records.
    """

    loop: asyncio.AbstractEventLoop
    cluster_id: int
    local: Incarnation
    clock: Clock
    on_group: Callable[[Link[Any], bytes], Rest | None]
    counters: Counters
    on_failed: Callable[[Link[Any], Exception], None] | None = None
    on_defect: Callable[[Exception], None] | None = None
    new_parts: Callable[[], Incoming[Any]] = Parts


class Endpoint(ABC):
    """A process's end of links; ``Dialer`` and ``Acceptor`` add the sockets.

    Args:
        wiring: What the process has for it.

    Attributes:
        on_drained: Called after each run of groups that were handed out.
        new_parts: See ``Wiring``.
    """

    def __init__(self, wiring: Wiring) -> None:
        self._loop = wiring.loop
        # A record may be written while an object's code runs; what keeps the links going must not be that object's.
        self._runtime = contextvars.copy_context()
        self._cluster_id = wiring.cluster_id
        self._local = wiring.local
        self._now = wiring.clock.now
        self._on_group = wiring.on_group
        self._on_failed = wiring.on_failed
        self._on_defect = wiring.on_defect
        self._counters = wiring.counters
        self._links: dict[Incarnation, Link[Any]] = {}
        self.on_drained: Callable[[], None] = lambda: None
        self.new_parts = wiring.new_parts
        self._unflushed: list[Link[Any]] = []
        self._alone = 0  # turns in a row that have flushed one message
        self._flushed_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._map_version = 0
        self._logged: dict[str, tuple[float, int]] = {}
        self._closed = False

    # --- for the owner ---

    @property
    def map_version(self) -> int:
        """Version of the map that this process has: stamped on what it sends; what came for it is delivered soon."""
        return self._map_version

    @map_version.setter
    def map_version(self, version: int) -> None:
        if version > self._map_version:
            self._map_version = version
            waiting = self._waiting_for_maps()
            for link in waiting:
                link.takes_to = version
            if waiting:
                # Not at once: the owner may be in the middle of taking the map over.
                self._loop.call_soon(self._release)

    def _waiting_for_maps(self) -> list[Link[Any]]:
        return [link for link in self._links.values() if link.dialect.waits_for_maps]

    async def aclose(self) -> None:
        """Close all links and sockets. What has not gone out is dropped."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.keep(())
        await self._close_sockets()

    def keep(self, members: Collection[Incarnation]) -> None:
        """Forget the links to all others, among them those that were given up: their other ends are gone."""
        for link in [link for remote, link in self._links.items() if remote not in members]:
            self.finish(link)
            link.closed = True
            self.forget(link)

    # --- for links ---

    def expects_one(self) -> bool:
        """Whether the message that was just written is probably alone in this turn."""
        if self._alone < ALONE_TURNS:
            return False
        now = self._now()
        if now - self._flushed_at <= ALONE_S:
            self._alone = 0
        self._flushed_at = now
        return self._alone > 0

    def plan_flush(self, link: Link[Any]) -> None:
        if not self._unflushed:
            self._loop.call_soon(self._flush_planned)
        self._unflushed.append(link)

    def flush_planned(self) -> None:
        """Send now what is planned for the end of this turn, if anything is: before something that takes long."""
        if self._unflushed:
            self._flush_planned()

    def _flush_planned(self) -> None:
        links, self._unflushed = self._unflushed, []
        if not links:
            return
        self._alone = self._alone + 1 if len(links) == 1 and links[0].writer.parts <= ALONE_PARTS else 0
        for link in links:
            link._scheduled = False  # of all before the first: one whose flush fails keeps no other from being planned
        for link in links:
            self.flush(link)

    def flush(self, link: Link[Any]) -> None:
        if link._shipping is not None and not link.closed:
            link._shipping.work()
        groups = link.writer.take()
        if not groups or link.closed:
            return
        session = link.session
        now = self._now()
        try:
            for group in groups:
                session.send(group, self._map_version, now)
        except Exception as error:
            # It would be missing there for ever, and nobody would know. What it carried counts as sent here, and is not
            # unconfirmed: a shard would acknowledge what has led to it.
            self._defect(link, "a group was not sent", error)
            return
        if session.blocked:
            link.blocked = True
        if session.outgoing:
            self._put_out(link)
        if self._timer is None:
            self._timer = self._loop.call_later(TICK_S, self._tick, context=self._runtime)

    def forget(self, link: Link[Any]) -> None:
        if link._shipping is not None:
            link._shipping.clear()
        if self._links.get(link.remote) is link:
            del self._links[link.remote]
        self._detach(link)

    def given_up(self, link: Link[Any], error: Exception) -> None:
        self._defect(link, "its owner cannot go on", error)

    # --- sockets ---

    @abstractmethod
    def _transmit(self, link: Link[Any]) -> None:
        """Give the session's outgoing batches to ZeroMQ."""

    @abstractmethod
    def _detach(self, link: Link[Any]) -> None:
        """The link is closed: let go of what only it used."""

    @abstractmethod
    async def _close_sockets(self) -> None:
        """Close what is left once all links are."""

    def _new_link(self, remote: Incarnation, dialect: Dialect[W]) -> Link[W]:
        if remote in self._links:
            raise ValueError(f"there is a link to incarnation {remote} already")
        if self._closed:
            raise ValueError("the endpoint is closed")
        link = Link(self, remote, dialect, Session(self._cluster_id, self._local, remote, self._now()))
        self._links[remote] = link
        return link

    # --- what comes ---

    def _deliver(self, link: Link[Any], batch: bytes, now: float, until: float = math.inf) -> None:
        """Take a batch and hand out what is complete with it, until the time is *until*; the rest is the link's."""
        self._counters.batches_in += 1
        session = link.session
        try:
            groups = session.receive(batch, link.takes_to, now)
        except WireError as error:
            if session.failed:
                self._fail(link, error)
            else:
                self._garbage("batch", error)
            return
        for group in groups:
            if link.rest:
                link.rest.append(group)
            else:
                self._hand_out(link, group)
        if link.rest:
            self._go_on(link, until)
        if session.outgoing:
            self._put_out(link)

    def _go_on(self, link: Link[Any], until: float) -> bool:
        """Hand out what is left of what has come, until the time is *until*; returns whether there is more."""
        rest = link.rest
        while rest:
            link._is_handing_out = True
            try:
                self._hand_out(link, rest.popleft())
            finally:
                link._is_handing_out = False
            if self._now() >= until:
                break
        return bool(rest)

    def finish(self, link: Link[Any]) -> None:
        """Hand out at once what is left: the other end takes it for received, and may have built on that."""
        if link.rest and not link._is_handing_out:
            self._go_on(link, math.inf)

    def _hand_out(self, link: Link[Any], what: bytes | Rest) -> None:
        """Hand out a group, or the next step of one."""
        if link.closed:
            return
        try:
            rest = self._on_group(link, what) if isinstance(what, bytes) else what if what() else None
            if rest is not None:
                link.rest.appendleft(rest)
        except WireError as error:
            self._counters.wire_garbage += 1
            self._fail(link, error)
        except Exception as error:
            # Part of the group may have been applied: going on would be worse than ending.
            self._defect(link, "a group could not be applied", error)

    def _put_out(self, link: Link[Any]) -> None:
        """Transmit. A link for which that fails is given up, and keeps no other from its turn."""
        try:
            self._transmit(link)
        except Exception as error:
            self._defect(link, "batches could not be sent", error)

    def _defect(self, link: Link[Any], what: str, error: Exception) -> None:
        """An error of our own was met for *link*."""
        if self._on_defect is not None:
            self._on_defect(error)
        else:
            _log.critical("link to %s: %s", link.name, what, exc_info=error)
        self._fail(link, error)

    def _fail(self, link: Link[Any], error: Exception) -> None:
        if link.closed:
            return
        self._counters.links_failed += 1
        _log.error("link to %s given up after batch %d: %s", link.name, link.session.received, error)
        link.closed = True
        link.session.give_up(self._now())
        self._put_out(link)
        self._watch(link)
        if self._on_failed is not None:
            # Not here: whoever has just written a record may be in the middle of something.
            self._loop.call_soon(self._tell_failed, link, error)

    def _tell_failed(self, link: Link[Any], error: Exception) -> None:
        if self._on_failed is not None and not self._closed:
            self._on_failed(link, error)

    def _received(self, link: Link[Any]) -> None:
        """A run of batches of *link* is over."""
        if link.closed:
            return
        if link.session.resent != link._seen_resent:
            self._counters.batches_resent += link.session.resent - link._seen_resent
            link._seen_resent = link.session.resent
        link.note()
        self._watch(link)

    def _release(self) -> None:
        now = self._now()
        for link in self._waiting_for_maps():
            session = link.session
            try:
                groups = session.release(link.takes_to, now)
            except WireError as error:
                self._fail(link, error)
                continue
            link.rest.extend(groups)
            self.finish(link)
            if session.outgoing:
                self._put_out(link)
            self._received(link)
        self.on_drained()

    def _garbage(self, kind: str, reason: object) -> None:
        self._counters.wire_garbage += 1
        now = self._now()
        since, count = self._logged.get(kind, (-LOG_INTERVAL_S, 0))
        if now - since < LOG_INTERVAL_S and kind in self._logged:
            self._logged[kind] = since, count + 1
            return
        self._logged[kind] = now, 0
        more = f"; {count} more in the last {now - since:.0f} s" if count else ""
        _log.warning("dropped: %s%s", reason, more)

    # --- time ---

    def _watch(self, link: Link[Any]) -> None:
        if self._timer is None and link.session.busy:
            self._timer = self._loop.call_later(TICK_S, self._tick, context=self._runtime)

    def _tick(self) -> None:
        self._timer = None
        now = self._now()
        busy = False
        for link in list(self._links.values()):
            session = link.session
            if session.busy:
                busy = True
                try:
                    session.tick(now)
                except Exception as error:
                    self._defect(link, "its clock has failed", error)
                    continue
                if session.outgoing:
                    self._put_out(link)
        if busy and self._timer is None:
            self._timer = self._loop.call_later(TICK_S, self._tick, context=self._runtime)
