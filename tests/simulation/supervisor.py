"""The supervisor of a simulated cluster: starts, restarts, removes, moves; a small copy of what ``roost up`` does.

It compares what should be with what is, again and again, as the real one does (``deploy/reconciling``): it is told of
deaths, knows from the machine which processes are frozen, and changes the map by the functions of
``common.cluster_map``. It may be dead for a while: then nothing of this happens, but for what routers do in its place.
"""

from __future__ import annotations

from collections.abc import Callable

from roost.common.cluster.cluster_map import ClusterMap, MemberKind, balancing, inherited, moving, without
from roost.common.errors import DirectoryError
from roost.common.ids import Incarnation, Slot
from roost.common.limits import FROZEN_KILL_S, GRACE_S

from .cluster import Cluster, Member
from .loops import State

TURN_S = 0.25
"""Seconds between two looks."""


class Supervisor:
    """See the module.

    Args:
        cluster: The cluster.

    Attributes:
        alive: Whether there is a supervisor.
        routers: Names of the routers that should run.
        seats: The shard that should hold each seat, by name.
        lost: Shards that are not started again when they die: their slots go to others.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.alive = False
        self.routers: dict[str, None] = {}
        self.seats: dict[str, str] = {}
        self.lost: set[str] = set()
        self._successors: dict[str, str] = {}
        self._generation = 1
        self._unbalanced = False
        self._due: dict[str, float] = {}
        self._frozen_since: dict[Member, float] = {}
        self._cluster = cluster
        cluster.on_death = self._died
        cluster.on_ready = self._ready

    # --- its own life ---

    def begin(self) -> None:
        """Start; what runs already is taken over."""
        if not self.alive:
            self.alive = True
            self._frozen_since.clear()
            self._unbalanced = True
            self._cluster.names["supervisor"] = self._cluster.world
            self._turn()

    def die(self) -> None:
        """It is killed."""
        self.alive = False
        self._cluster.names.pop("supervisor", None)

    # --- what should be ---

    def add_router(self, name: str) -> None:
        """There should be one more router."""
        self.routers[name] = None

    def add_shard(self) -> None:
        """There should be one more shard."""
        self._generation += 1
        name = f"shard-{len(self.seats) + 1}.{self._generation}"
        self.seats[name] = name

    def remove_shard(self, name: str) -> None:
        """A shard should go, if it is not the last one."""
        seats = [seat for seat, holder in self.seats.items() if holder == name]
        if seats and len(self.seats) > 1:
            del self.seats[seats[0]]
            self._unbalanced = True

    def replace_shard(self, name: str) -> None:
        """A successor should take a shard's seat."""
        seats = [seat for seat, holder in self.seats.items() if holder == name]
        if seats and self.alive:
            self._generation += 1
            successor = f"{seats[0]}.{self._generation}"
            self._successors[successor] = seats[0]
            self._cluster.start_shard(successor, seats[0])

    # --- what happens ---

    def _ready(self, member: Member) -> None:
        seat = self._successors.pop(member.name, None)
        if seat is not None and seat in self.seats:
            self.seats[seat] = member.name
        self._unbalanced = True
        self._soon(0.0)

    def _died(self, member: Member) -> None:
        self._frozen_since.pop(member, None)
        self._successors.pop(member.name, None)
        rng = self._cluster.rng
        self._due[member.name] = self._cluster.now + (0.02 if rng.random() < 0.5 else 0.5 * rng.random())
        self._soon(0.01 + 0.05 * rng.random())

    def _soon(self, seconds: float) -> None:
        self._cluster.later(seconds, self._look)

    def _turn(self) -> None:
        if self.alive:
            self._cluster.later(TURN_S, self._turn)
            self._look()

    def _look(self) -> None:
        if not self.alive:
            return
        self._end_frozen()
        try:
            self._remove_dead()
            self._start_missing()
            self._end_leaving()
            if self._unbalanced:
                self._balance()
        except DirectoryError:
            pass  # the next turn tries again

    def _end_frozen(self) -> None:
        cluster = self._cluster
        for member in list(cluster.members.values()):
            if member.process.state is not State.FROZEN:
                self._frozen_since.pop(member, None)
            elif cluster.now - self._frozen_since.setdefault(member, cluster.now) >= FROZEN_KILL_S:
                cluster.kill(member.process)

    def _change(self, change: Callable[[ClusterMap], ClusterMap | None]) -> None:
        new = change(self._cluster.store.map)
        if new is not None:
            self._cluster.store.propose(new)

    def _remove_dead(self) -> None:
        cluster = self._cluster
        for entry in list(cluster.store.map.members.values()):
            member = cluster.member_of(entry.incarnation)
            if member is None or member.process.alive:
                continue
            if member.kind is MemberKind.ROUTER:
                self._change(lambda current, gone=entry.incarnation: _without(current, gone))  # type: ignore[misc]
            elif self._is_given_up(member):
                self._give_away(member)

    def _is_given_up(self, dead: Member) -> bool:
        if dead.name in self.seats.values() and dead.name not in self.lost:
            return False  # it is started again under its name
        current = self._cluster.store.map
        concerned = dead.incarnation in current.owners or dead.incarnation in current.next_owners.values()
        return not concerned or self._cluster.now - dead.died_at >= GRACE_S

    def _give_away(self, dead: Member) -> None:
        try:
            self._change(
                lambda current: inherited(current, dead.incarnation) if dead.incarnation in current.members else None
            )
        except ValueError:  # nobody is left who could take its slots
            self.lost.discard(dead.name)
            self.seats.setdefault(dead.seat, dead.name)
            return
        for seat, name in list(self.seats.items()):
            if name == dead.name:
                del self.seats[seat]
        self._unbalanced = True

    def _start_missing(self) -> None:
        cluster = self._cluster
        living = {member.name for member in cluster.members.values() if member.process.alive}
        for name in self.routers:
            if name not in living and cluster.now >= self._due.get(name, 0.0):
                cluster.start_router(name)
        for seat, name in list(self.seats.items()):
            if name not in living and name not in self.lost and cluster.now >= self._due.get(name, 0.0):
                cluster.start_shard(name, seat)

    def _end_leaving(self) -> None:
        current = self._cluster.store.map
        for member in self._cluster.serving(MemberKind.SHARD):
            if (
                member.name not in self.seats.values()
                and member.name not in self._successors
                and member.incarnation not in current.owners
                and member.incarnation not in current.next_owners.values()
                and not member.may_end
            ):
                self._cluster.terminate(member.process)

    def _balance(self) -> None:
        serving = {member.incarnation for member in self._cluster.serving(MemberKind.SHARD)}
        waits = False

        def change(current: ClusterMap) -> ClusterMap | None:
            nonlocal waits
            seats: dict[str, Incarnation] = {}
            for seat, name in self.seats.items():
                entry = current.named(name)
                if entry is not None:
                    seats[seat] = entry.incarnation
            if not seats or not current.has_owners:
                waits = True
                return None
            wanted = balancing(current, seats)
            moves = {slot: to for slot, to in wanted.items() if to in serving and current.owners[slot] in serving}
            waits = len(moves) < len(wanted) or len(seats) < len(self.seats) or bool(current.next_owners)
            return moving(current, moves) if moves else None

        self._change(change)
        self._unbalanced = waits

    # --- other people's hands ---

    def move(self, moves: dict[Slot, Incarnation]) -> None:
        """Somebody asks for moves that balance nothing."""
        try:
            self._change(lambda current: moving(current, _possible(current, moves)))
        except DirectoryError:
            pass  # the disk is full: it was only a wish

    def expel(self, member: Member) -> None:
        """Somebody takes a member off the map that has not ended: one on another machine, say, that does not answer."""
        cluster = self._cluster
        if not member.process.alive or member.incarnation not in cluster.store.map.members:
            return  # somebody else was faster

        def change(current: ClusterMap) -> ClusterMap | None:
            if member.kind is MemberKind.ROUTER:
                return without(current, member.incarnation)
            return inherited(current, member.incarnation)

        try:
            self._change(change)
        except (DirectoryError, ValueError):
            return  # it cannot be done
        cluster.expelled(member)


def _without(current: ClusterMap, gone: Incarnation) -> ClusterMap | None:
    return without(current, gone) if gone in current.members else None


def _possible(current: ClusterMap, moves: dict[Slot, Incarnation]) -> dict[Slot, Incarnation]:
    return {slot: to for slot, to in moves.items() if to in current.members and current.owners[slot] != to}
