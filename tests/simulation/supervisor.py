"""The supervisor of a simulated cluster: starts, restarts, removes, moves; a small copy of what ``roost up`` does.

It judges by deaths that it is told of, and by what the machine knows of frozen processes; its changes of the map are
those of ``common.cluster_map``, made by ``common.directory``. It can be dead: then nothing of this happens, but for
what routers do in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from roost.common import directory
from roost.common.cluster_map import ClusterMap, MemberKind, balancing, inherited, moving, without
from roost.common.errors import DirectoryError
from roost.common.limits import FROZEN_KILL_S, GRACE_S

from .cluster import Cluster, Member
from .loops import State
from .outside import SimDirectory

RETRY_S = 0.5
"""Seconds between two tries to change the map while its disk is full."""

if TYPE_CHECKING:
    from roost.common.ids import Incarnation


class Supervisor:
    """See the module.

    Args:
        cluster: The cluster.

    Attributes:
        alive: Whether there is a supervisor.
        lost_names: Shards that are not started again when they die: their slots go to others.
        wanted: Names of the members that should run; of shards with their seats.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.alive = True
        self.lost_names: set[str] = set()
        self.routers: dict[str, None] = {}
        self.seats: dict[str, str] = {}
        """The name of the shard that sits in each seat."""
        self.generation = 1
        self._cluster = cluster
        self._directory = SimDirectory(cluster.world, cluster.store)
        self._frozen_since: dict[Member, float] = {}
        cluster.names["supervisor"] = cluster.world
        cluster.on_death = self._died
        cluster.on_ready = self._ready
        self._look()

    # --- starting ---

    def start(self, routers: int, shards: int) -> None:
        """Start the cluster."""
        for number in range(1, shards + 1):
            self.seats[f"shard-{number}"] = f"shard-{number}"
            self._cluster.start_shard(f"shard-{number}")
        for number in range(1, routers + 1):
            self.add_router(f"router-{number}")

    def add_router(self, name: str) -> None:
        """Start one more router."""
        self.routers[name] = None
        self._cluster.start_router(name)

    def _ready(self, member: Member) -> None:
        if member.kind is MemberKind.SHARD:
            self.balance()

    # --- changing the map ---

    def _change(self, what: str, change: Callable[[ClusterMap], ClusterMap | None]) -> None:
        """Change the map, again and again while that fails."""
        if not self.alive:
            return
        try:
            directory.update(self._directory, change)
        except DirectoryError:
            self._cluster.later(RETRY_S, self._change, what, change)

    def balance(self) -> None:
        """Ask for the moves after which each seat has its share."""

        def change(current: ClusterMap) -> ClusterMap | None:
            seats: dict[str, Incarnation] = {}
            for seat, name in self.seats.items():
                member = current.named(name)
                if member is not None:
                    seats[seat] = member.incarnation
            if not seats or not current.has_owners or len(seats) < len(self.seats):
                return None
            moves = balancing(current, seats)
            return moving(current, moves) if moves else None

        self._change("balance", change)

    # --- deaths ---

    def _died(self, member: Member) -> None:
        self._frozen_since.pop(member, None)
        if not self.alive:
            return
        cluster = self._cluster
        if member.kind is MemberKind.ROUTER:
            cluster.later(0.3 * cluster.rng.random(), self._remove_router, member)
            if member.name in self.routers and not member.may_end:
                cluster.later(0.2 + cluster.rng.random(), self._restart_router, member.name)
        elif self.seats.get(member.seat) == member.name and member.name not in self.lost_names:
            cluster.later(0.02 + 0.5 * cluster.rng.random(), self._restart_shard, member)
        else:
            cluster.later(GRACE_S if member.killed else 0.0, self._give_away, member)

    def _restart_router(self, name: str) -> None:
        if self.alive and name in self.routers and name not in self._names():
            self._cluster.start_router(name)

    def _restart_shard(self, member: Member) -> None:
        if self.alive and member.name not in self._names() and self.seats.get(member.seat) == member.name:
            self._cluster.start_shard(member.name, member.seat if member.seat != member.name else "")

    def _names(self) -> set[str]:
        """Names of processes that have not ended."""
        return {member.name for member in self._cluster.members.values() if member.process.alive}

    def _remove_router(self, member: Member) -> None:
        def change(current: ClusterMap) -> ClusterMap | None:
            return without(current, member.incarnation) if member.incarnation in current.members else None

        self._change(f"remove {member.name}", change)

    def _give_away(self, member: Member) -> None:
        """A shard that is dead stays away: its slots go to the others."""

        def change(current: ClusterMap) -> ClusterMap | None:
            if member.incarnation not in current.members:
                return None
            return inherited(current, member.incarnation)

        try:
            self._change(f"give away the slots of {member.name}", change)
        except ValueError:  # nobody is left who could take them
            self.lost_names.discard(member.name)
            self.seats[member.seat] = member.name
            self._restart_shard(member)
            return
        if self.seats.get(member.seat) == member.name:
            del self.seats[member.seat]

    def _look(self) -> None:
        """Look for frozen processes, and end them when it is time."""
        cluster = self._cluster
        cluster.later(0.5, self._look)
        if not self.alive:
            return
        for member in cluster.members.values():
            if member.process.state is not State.FROZEN:
                self._frozen_since.pop(member, None)
            elif cluster.now - self._frozen_since.setdefault(member, cluster.now) >= FROZEN_KILL_S:
                cluster.kill(member.process)
