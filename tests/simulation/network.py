"""The simulated network between routers and shards: links on which batches are late, lost, doubled or overtaken.

``SimDialer`` and ``SimAcceptor`` are endpoints as those of ``common.link`` are, over this network in ZeroMQ's place.
They behave as ZeroMQ does where that matters to a session: a shard's socket refuses a batch for a router that is not
connected, a router's socket takes everything and loses it or hands it over after a reconnect; batches of one
connection keep their order; nobody is told of a loss; a batch of a sender that the shard does not know is dropped.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from roost.common.ids import Incarnation
from roost.common.machine.counters import Counters
from roost.common.wire.endpoint import Endpoint, Link, Wiring
from roost.common.wire.records import Dialect, W
from roost.common.wire.session import HEADER_BYTES

from .loops import STEP_S, Process, Scheduler

Pair = tuple[Incarnation, Incarnation]
"""A router and a shard, in this order."""


@dataclass(slots=True)
class Weather:
    """What the network does to batches at present, on all links.

    Attributes:
        loss: Share of the batches that are lost.
        doubling: Share that comes twice.
        overtaking: Share that does not keep its place.
        delay_s: The longest delay.
    """

    loss: float = 0.0
    doubling: float = 0.0
    overtaking: float = 0.0
    delay_s: float = 0.001


class Network:
    """Carries batches between the endpoints that are registered.

    Args:
        scheduler: Simulated time.
        rng: Delays, losses and all that.

    Attributes:
        weather: Applies to each batch as it is sent.
        cut: Pairs whose connection is broken.
        deaf: Shards to which only a share of what routers have to say gets through, by the share that is lost. What a
            session says of itself does: so the other way goes on as if nothing were wrong.
        carried: Batches that arrived.
        lost: Batches that did not.
    """

    def __init__(self, scheduler: Scheduler, rng: random.Random) -> None:
        self.weather = Weather()
        self.cut: set[Pair] = set()
        self.deaf: dict[Incarnation, float] = {}
        self.carried = self.lost = 0
        self._scheduler = scheduler
        self._rng = rng
        self._endpoints: dict[Incarnation, SimDialer | SimAcceptor] = {}
        self._last: dict[tuple[Incarnation, Incarnation], float] = {}
        self._kept: dict[Pair, list[bytes]] = {}

    def register(self, endpoint: SimDialer | SimAcceptor) -> None:
        """*endpoint* can be reached from now on, until its process ends."""
        self._endpoints[endpoint.local] = endpoint

    def carry(self, sender: SimDialer | SimAcceptor, remote: Incarnation, batches: list[bytes]) -> bool:
        """Take batches from *sender* on their way to *remote*.

        Returns:
            Whether they were taken; if not, there is nobody at the other end.
        """
        if not sender.process.alive:
            return True  # what a dead process still does has no effect
        to_shard = isinstance(sender, SimDialer)
        pair = (sender.local, remote) if to_shard else (remote, sender.local)
        target = self._endpoints.get(remote)
        if target is None or not target.process.alive:
            self.lost += len(batches)
            return to_shard
        if pair in self.cut:
            if not to_shard:
                return False
            if self._rng.random() < 0.5:
                self._kept.setdefault(pair, []).extend(batches)
            else:
                self.lost += len(batches)
            return True
        if not to_shard and not target.knows(sender.local):
            return False  # the router has not connected yet
        for batch in batches:
            self._send(sender.local, target, batch)
        return True

    def heal(self, pair: Pair) -> None:
        """The connection of *pair* is there again: what a router's socket has kept goes out."""
        self.cut.discard(pair)
        router, shard = pair
        target = self._endpoints.get(shard)
        kept = self._kept.pop(pair, ())
        if target is not None and target.process.alive:
            for batch in kept:
                self._send(router, target, batch)

    def _send(self, sender: Incarnation, target: SimDialer | SimAcceptor, batch: bytes) -> None:
        rng, weather = self._rng, self.weather
        draw = rng.random
        deaf = self.deaf.get(target.local, 0.0) if len(batch) > HEADER_BYTES else 0.0
        if (weather.loss and draw() < weather.loss) or (deaf and draw() < deaf):
            self.lost += 1
            return
        at = self._scheduler.now + 0.00005 + weather.delay_s * draw() ** 3
        course = (sender, target.local)
        if not weather.overtaking or draw() >= weather.overtaking:
            at = max(at, self._last.get(course, 0.0) + STEP_S)
            self._last[course] = at
        self.carried += 1
        target.process.at(at, target.arrived, sender, batch)
        if weather.doubling and draw() < weather.doubling:
            target.process.at(at + weather.delay_s * 4 * draw(), target.arrived, sender, batch)


class _SimEndpoint(Endpoint):
    """An endpoint whose batches travel over the simulated network.

    Args:
        network: That network.
        process: The process whose endpoint it is.
        wiring: As for ``Endpoint``.
    """

    def __init__(self, network: Network, process: Process, wiring: Wiring) -> None:
        super().__init__(wiring)
        self.network = network
        self.process = process

    @property
    def local(self) -> Incarnation:
        return self._local

    @property
    def counters(self) -> Counters:
        return self._counters

    @property
    def links(self) -> list[Link[Any]]:
        """The links that are open."""
        return list(self._links.values())

    def knows(self, remote: Incarnation) -> bool:
        """Whether there is a link to *remote*."""
        return remote in self._links

    def arrived(self, sender: Incarnation, batch: bytes) -> None:
        """The network hands over a batch."""
        link = self._links.get(sender)
        if link is None or self._closed:
            self._counters.batches_unexpected += 1
            return
        self._deliver(link, batch, self._now())
        self.on_drained()
        self._received(link)

    def _transmit(self, link: Link[Any]) -> None:
        if not self.network.carry(self, link.remote, link.session.take_outgoing()):  # type: ignore[arg-type]
            link.session.lost()

    def _detach(self, link: Link[Any]) -> None:
        pass

    async def _close_sockets(self) -> None:
        pass


class SimDialer(_SimEndpoint):
    """A router's end, in the place of ``common.link.Dialer``."""

    def connect(self, remote: Incarnation, endpoint: str, dialect: Dialect[W]) -> Link[W]:
        """Begin the session with a shard."""
        return self._new_link(remote, dialect)


class SimAcceptor(_SimEndpoint):
    """A shard's end, in the place of ``common.link.Acceptor``."""

    def add_peer(self, remote: Incarnation, dialect: Dialect[W]) -> Link[W]:
        """Begin the session with a router."""
        return self._new_link(remote, dialect)

    def remove_peer(self, remote: Incarnation) -> None:
        """End the session with a router."""
        self._links[remote].close()
