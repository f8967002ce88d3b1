"""Room for clients that speak HTTP: who has to go when there are too many, or when they take too much.

A connection costs a client next to nothing, so there are bounds. Of ``MAX_HTTP_CONNECTIONS`` that are no WebSockets
those go first that have nothing at stake (``GO_FIRST``), of ``MAX_HANDSHAKES_IN_FLIGHT`` those whose head does not
come; and only then those that an object works on, of an address that has twice as many as the one that comes: objects
may take as long as they like, and a client may ask as many of them as it likes. Of each kind it is the oldest of the
address that has most (``shares``). Who has sent nothing takes no place from who has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Protocol

from ...common.errors import Unavailable
from ...common.limits import MAX_HANDSHAKES_IN_FLIGHT, MAX_HTTP_CONNECTIONS
from ..budgets import Budgets
from ..clients.defects import Defects
from ..clients.descriptors import TOLD
from ..clients.shares import Shares
from ..clients.work import Errand, Work
from ..counters import RouterCounters
from .phases import AT_WORK, GO_FIRST, Phase

TOO_MANY_CONNECTIONS = f"{MAX_HTTP_CONNECTIONS} requests are being answered already; try again later"
TOO_MANY_HANDSHAKES = f"{MAX_HANDSHAKES_IN_FLIGHT} handshakes are in flight already; try again later"


class Guest(Protocol):
    """A client that takes room."""

    address: str | bytes
    """What it counts for."""

    def __hash__(self) -> int: ...

    def make_room(self) -> None:
        """There are too many, and this one matters least: end."""
        ...

    def give_way(self) -> None:
        """Requests take too much memory, and nobody else can make room: take no more of this client."""
        ...


class Room:
    """The room of one router.

    Args:
        budgets: What there is: connections, handshakes, bytes of heads.
        counters: Where those are counted that go for others.
        work: Where is done what takes longer.
        defects: Where errors of our own are noted.

    Attributes:
        shares: The clients by phase, and in each by address.
    """

    __slots__ = ("_budgets", "_counters", "_defects", "_latest", "_relieves", "_work", "shares")

    def __init__(self, budgets: Budgets, counters: RouterCounters, work: Work, defects: Defects) -> None:
        self._budgets = budgets
        self._counters = counters
        self._work = work
        self._defects = defects
        self.shares: dict[Phase, Shares[Guest]] = {phase: Shares() for phase in (*GO_FIRST, *AT_WORK)}
        self._latest: Guest | None = None  # whose request takes too much, with those of others
        self._relieves = False  # that is under way

    def takes(self, address: str | bytes) -> bool:
        """A connection has come from *address*, and is counted: whether it may stay."""
        return not self._budgets.http_connections.is_over or self.make_room(address)

    def takes_request(self, address: str | bytes) -> bool:
        """A request has come from *address*: whether there is memory for it."""
        return not self._budgets.heads.is_over or self.make_room_at_work(address)

    def make_room(self, address: str | bytes) -> bool:
        """One connection more comes than there may be, from *address*: end another that matters less.

        Returns:
            Whether there was one.
        """
        return self._make_room(GO_FIRST) or self.make_room_at_work(address)

    def make_room_for_descriptor(self, address: str | bytes) -> bool:
        """Clients hold all descriptors that they may have: end a connection that matters less than the one that comes.

        Those that are being told why they are refused do not count for one: who came in their place would stay. But
        there are few of them at a time.

        Returns:
            Whether there was one.
        """
        if len(self.shares[Phase.LINGERING]) >= TOLD:
            self._make_room((Phase.LINGERING,))
        first = tuple(phase for phase in GO_FIRST if phase is not Phase.LINGERING)
        return self._make_room(first) or self.make_room_at_work(address)

    def _make_room(self, phases: Collection[Phase]) -> bool:
        for phase in phases:
            victim = self.shares[phase].first_of_largest()
            if victim is not None:
                self._counters.http_evicted += 1
                victim.make_room()
                return True
        return False

    def make_room_at_work(self, address: str | bytes) -> bool:
        """End one that an object works on, of an address that has far more of them than the one that comes.

        Returns:
            Whether there was one.
        """
        for phase in AT_WORK:
            share = self.shares[phase]
            if share.largest > 2 * share.size(address) and self._make_room((phase,)):
                return True
        return False

    def make_room_for_handshake(self, address: str | bytes) -> None:
        """A handshake from *address* begins: if there are too many, end another that matters less.

        Raises:
            Unavailable: There is none.
        """
        if self._budgets.handshakes.fits(1):
            return
        upgrades = self.shares[Phase.UPGRADE]
        victim = self.shares[Phase.HEAD].first_of_largest()
        if victim is None and upgrades.largest > 2 * upgrades.size(address):
            victim = upgrades.first_of_largest()
        if victim is None:
            raise Unavailable(TOO_MANY_HANDSHAKES)
        self._counters.http_evicted += 1
        victim.make_room()

    def relieve(self, latest: Guest) -> None:
        """If requests take too much memory, or too many heads have begun: heads that do not come whole go first, then
        what *latest* has sent. When very much comes in one turn, they go in later ones."""
        heads, handshakes, work = self._budgets.heads, self._budgets.handshakes, self._work
        if heads.taken <= heads.limit and handshakes.taken <= handshakes.limit:
            return
        self._latest = latest
        if not self._relieves:
            self._relieves = True
            errand = Errand(self._relief(), self._not_relieved)
            if work.is_full or errand.work():
                work.add_own(errand)

    def _relief(self) -> Iterator[None]:
        heads, handshakes = self._budgets.heads, self._budgets.handshakes
        while True:
            too_much = heads.is_over
            if not too_much and not handshakes.is_over:
                break
            latest = self._latest
            assert latest is not None
            if not (self._make_room((Phase.HEAD,)) or (too_much and self.make_room_at_work(latest.address))):
                if too_much:
                    latest.give_way()
                break
            yield
        self._relieves, self._latest = False, None

    def _not_relieved(self, error: Exception) -> None:
        """*error*, a defect of ours, was raised while some were ended for others."""
        self._relieves, self._latest = False, None
        self._defects.note("requests that take too much go on until the next comes", error)
