"""What the clients of a router that speak HTTP share."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate
from typing import Protocol

from ...common.cluster.cluster_map import ClusterMap
from ...common.errors import Unavailable
from ...common.limits import MAX_PARKED_REQUESTS
from ...common.settings.router import RouterConfig
from ..clients.context import ClientContext
from ..clients.descriptors import Descriptors
from ..clients.timers import ticks
from ..clients.work import STEPS_AT_ONCE
from ..formats.urls import Address, address, path_of
from ..owners.forwarding import Forwarding
from ..websocket.connection import Connection
from .bodies import Bodies
from .parser import RequestParser
from .phases import Phase, deadlines
from .room import Guest, Room

DRAIN_IDLE_S = 1.0
"""Seconds that a connection without a request stays open at a router that drains."""
_DATE_TICKS = ticks(1.0)


class HttpClient(Guest, Protocol):
    """A client that speaks HTTP (``connection.HttpConnection``)."""

    @property
    def has_request(self) -> bool:
        """Whether a request is coming, or waits for its answer."""
        ...

    @property
    def is_taking(self) -> bool:
        """Whether the client is on its way through a response."""
        ...

    def go_on(self) -> None:
        """A shard has entered the cluster: go on with the request that waited for one."""
        ...

    def drain(self) -> None:
        """The router drains: without a request, wait a little for one."""
        ...

    def give_up(self) -> None:
        """The router ends: there will be no answer to the request."""
        ...

    def abort(self) -> None:
        """End now."""
        ...

    def break_off(self, error: Exception) -> None:
        """*error*, a defect of ours, was met for this connection: end it, whatever it was doing."""
        ...


class Front:
    """What the HTTP connections of a router share.

    Args:
        config: The router's settings.
        shared: What the WebSockets share.
        forwarding: Who has the objects, and where requests are handed in.
        now: Monotonic seconds.

    Attributes:
        budgets: What clients take from all.
        descriptors: How many connections clients may have.
        forwarding: Who has the objects.
        desk: Where requests are handed in.
        open: The connections that speak HTTP at present.
        map: The cluster map.
        namespaces: Those that are public.
        has_shards: A shard has entered the cluster, so that the namespaces are known.
        own_host: What stands for the host that a client does not name; ``None``: the address that it has called.
        draining: Connections end with the answer to the request that they have sent last.
        ending: There is no time left: WebSockets that are opened now are closed at once.
        room: Who has to go when there are too many.
        deadlines: The deadline of each phase, in ticks.
        spent: The parser of all connections that are over. The timer wheel lets go of them only after a while, and
            their own parsers would be most of what they hold.
    """

    def __init__(
        self,
        config: RouterConfig,
        shared: ClientContext[Connection],
        forwarding: Forwarding,
        now: Callable[[], float],
    ) -> None:
        self.config = config
        self.shared = shared
        self.counters = shared.counters
        self.budgets = shared.budgets
        self.forwarding = forwarding
        self.desk = forwarding.desk
        self.open: set[HttpClient] = set()
        self.map = ClusterMap()
        self.namespaces: tuple[str, ...] = ()
        self.has_shards = False
        self.own_host: str | None = f"{config.host}:{config.port}"
        self.descriptors = Descriptors(1 << 30, held=0)  # until the router knows better
        self.now = now
        self.draining = False
        self.ending = False
        self._bodies = Bodies(shared.budgets.bodies, shared.counters, shared.wheel)
        self.spent = self.new_parser()
        self.spent.drop()
        self._waiting: dict[HttpClient, None] = {}
        self.room = Room(shared.budgets, shared.counters, shared.work, shared.defects)
        self.deadlines = deadlines(config, shared.stall_timeout)
        self._date = b""
        self._date_until = 0

    def new_parser(self) -> RequestParser:
        """The parser of a new connection."""
        return RequestParser(
            own_host=self.own_host or "",
            max_body_bytes=self.config.max_body_bytes,
            counters=self.counters,
            bodies=self._bodies,
            watch=self.shared.discards.watch,
        )

    def take_map(self, new: ClusterMap) -> None:
        """Follow a new cluster map."""
        self.map = new
        self.namespaces = new.namespaces
        self.has_shards = bool(new.shards)
        if self.has_shards and self._waiting:
            self.shared.work.add_own(self)

    def wait(self, connection: HttpClient) -> None:
        """Have *connection* called when the first shard has entered the cluster.

        Raises:
            Unavailable: Too many wait.
        """
        if len(self._waiting) >= MAX_PARKED_REQUESTS:
            raise Unavailable("no shard has entered the cluster yet; try again later")
        self._waiting[connection] = None

    def work(self) -> bool:
        """The first shard has entered the cluster: let those go on that wait for it, a few at a time."""
        for _ in range(STEPS_AT_ONCE):
            if not self._waiting or not self.has_shards:
                return False
            connection = next(iter(self._waiting))
            del self._waiting[connection]
            try:
                connection.go_on()
            except Exception as error:
                connection.break_off(error)
        return True

    def break_off(self, error: Exception) -> None:
        """*error*, a defect of ours, was raised by ``work``."""
        self.shared.defects.note("requests that waited for the first shard wait longer", error)

    def leave(self, connection: HttpClient) -> None:
        """*connection* has ended or become a WebSocket."""
        self.open.discard(connection)
        self._waiting.pop(connection, None)

    def address(self, target: str) -> Address:
        """The object that a request target names.

        Raises:
            RequestError: It names none.
        """
        return address(path_of(target), self.namespaces)

    def date(self) -> bytes:
        """The present time for a Date header, made once a second."""
        tick = self.shared.wheel.tick
        if tick >= self._date_until:
            self._date = formatdate(self.shared.wall(), usegmt=True).encode()
            self._date_until = tick + _DATE_TICKS
        return self._date

    def drain(self, *, ending: bool = False) -> None:
        """Let all connections end: those with a request after its answer, the others soon.

        Args:
            ending: Soon the router ends: requests that wait for the first shard wait no longer.
        """
        self.draining = True
        self.ending = self.ending or ending
        for phase in (Phase.FRESH, Phase.IDLE):
            self.deadlines[phase] = min(self.deadlines[phase], ticks(DRAIN_IDLE_S))
        for connection in list(self._waiting) if ending else ():
            connection.go_on()
        for connection in list(self.open):
            connection.drain()
