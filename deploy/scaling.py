"""Scaling: more or fewer shards and routers, while the cluster runs. Pure.

Theory of operation::

    STARTING   new posts are staffed           all serve ──► the new shards get seats, shards that are too many
                                                             lose theirs: slots begin to move
    │ one of them cannot start ──► the new posts are dismissed, nothing has moved: FAILED
    ▼
    MOVING     slots on their way               settled, and the shards that had to leave are gone ──► routers that are
                                                too many are dismissed
    │ no progress for a minute ──► FAILED; the cluster goes on with it all the same
    ▼
    RETIRING   routers send their clients away  all gone ──► DONE

New shards get their seats all at once, when all of them are ready: a slot would move twice otherwise. Those with the
highest numbers leave. Routers leave last: while they are many, the moves' pauses are short.
"""

from __future__ import annotations

from enum import Enum

from ..common.cluster_map import MemberKind
from ..common.counters import PUBLISH_INTERVAL_S
from ..common.errors import ConfigError
from .changes import EXIT_FAILED, Change, Outcome, Seen, growth, owners_changed
from .post import Post, PostState
from .reconciling import is_settled
from .staffing import Staff, counted, in_order, listed, router_name, seat_name, shard_name


class Stage(Enum):
    """How far it is."""

    STARTING = "starting"
    """New members are on their way."""
    MOVING = "moving"
    """Slots are."""
    RETIRING = "retiring"
    """Clients are."""


class Scaling(Change):
    """A change of the number of members.

    Args:
        staff: The staff.
        shards: How many shards there should be; ``None``: as many as there are.
        routers: The same for routers.
        descriptors: How many a process may open here, for ``--connections``.

    Raises:
        ConfigError: There cannot be so many.
        DescriptorsTooFew: So few routers could not hold the connections that the cluster must be ready for.
    """

    def __init__(self, staff: Staff, *, shards: int | None, routers: int | None, descriptors: int) -> None:
        shard_count = len(staff.seats) if shards is None else shards
        router_count = len(staff.of_kind(MemberKind.ROUTER)) if routers is None else routers
        super().__init__(f"scaling to {counted(shard_count, 'shard')} and {counted(router_count, 'router')}", staff)
        # What members that are started later are told.
        self._config = staff.config.with_counts(shard_count, router_count)
        self._config.check_descriptors(descriptors)
        seats = {seat_name(number) for number in range(1, shard_count + 1)}
        routers_wanted = {router_name(number) for number in range(1, router_count + 1)}
        self._new_seats = in_order(seats - staff.seats.keys())
        self._old_seats = in_order(staff.seats.keys() - seats)
        present = {post.name for post in staff.of_kind(MemberKind.ROUTER)}
        self._new_routers = in_order(routers_wanted - present)
        self._old_routers = in_order(present - routers_wanted)
        names = {shard_name(seat, staff.generation) for seat in self._new_seats} | {*self._new_routers}
        leaving = names & staff.posts.keys()
        if leaving:
            raise ConfigError(f"{listed(leaving)} has not ended yet: try again in a moment")
        self._new: list[Post] | None = None
        self._leaving: list[Post] = []
        self._stage = Stage.STARTING
        self._began_at: Seen | None = None
        self._settled_at: Seen | None = None
        self._counted_at = 0.0
        self._told = 0

    def _step(self, seen: Seen) -> None:
        if self._stage is Stage.STARTING:
            self._start(seen)
        if self._stage is Stage.MOVING and self.outcome is None:
            self._move(seen)
        if self._stage is Stage.RETIRING and self.outcome is None:
            self._retire(seen)

    def _start(self, seen: Seen) -> None:
        if self._new is None:
            self._began_at = seen
            self._new = [self.staff.add_shard(seat, self.staff.generation) for seat in self._new_seats]
            self._new += [self.staff.add_router(name) for name in self._new_routers]
            if self._new:
                self._say(f"starting {listed(post.name for post in self._new)}")
        lost = [post for post in self._new if post.state in (PostState.ENDED, PostState.FAILED)]
        if lost:
            self.staff.dismiss(self._new)
            self.outcome = Outcome(f"nothing was changed: {lost[0].error}", lost[0].exit_code or EXIT_FAILED)
            return
        if not all(post.serves for post in self._new):
            return
        if self._new:
            self._say(f"{listed(post.name for post in self._new)} {'is' if len(self._new) == 1 else 'are'} ready")
        for post in self._new:
            if post.kind is MemberKind.SHARD:
                self.staff.seats[post.seat] = post.name
        self._leaving = [self.staff.posts[self.staff.seats[seat]] for seat in self._old_seats]
        self.staff.dismiss(self._leaving)
        self.staff.config = self._config
        if self._leaving:
            self._say(f"{listed(post.name for post in self._leaving)} hand over their slots")
        self._wait_anew(seen)
        self._stage = Stage.MOVING

    def _move(self, seen: Seen) -> None:
        gone = not any(post.name in self.staff.posts for post in self._leaving)
        if not (gone and is_settled(seen.map, self.staff)):
            if self._is_stuck(seen):
                self.outcome = Outcome(
                    f"the move does not get on: {counted(len(seen.map.next_owners), 'slot')} in transit; the cluster "
                    "goes on with it",
                    EXIT_FAILED,
                )
            return
        self._settled_at = seen
        # What moved last may not have been published by the routers yet.
        self._counted_at = seen.now + (2 * PUBLISH_INTERVAL_S if self._new_seats or self._old_seats else 0)
        if self._new_seats or self._old_seats:
            self._say(self._moved())
        leaving = [self.staff.posts[name] for name in self._old_routers if name in self.staff.posts]
        self._told = sum(
            seen.readings[post.name].values.get("connections", 0) for post in leaving if post.name in seen.readings
        )
        self._leaving = leaving
        self.staff.dismiss(leaving)
        if leaving:
            self._say(f"{listed(post.name for post in leaving)}: {counted(self._told, 'client')} to be sent away")
        self._stage = Stage.RETIRING

    def _moved(self) -> str:
        assert self._began_at is not None
        assert self._settled_at is not None
        slots = owners_changed(self._began_at.map, self._settled_at.map, within_seats=False)
        return f"{counted(slots, 'slot')} moved in {self._settled_at.now - self._began_at.now:.1f} s"

    def _retire(self, seen: Seen) -> None:
        # Each router has its own patience, after which it is told to end, then killed.
        if any(post.name in self.staff.posts for post in self._leaving) or seen.now < self._counted_at:
            return
        assert self._began_at is not None
        shards, routers = len(self.staff.seats), len(self.staff.of_kind(MemberKind.ROUTER))
        closed = growth(self._began_at.readings, seen.readings, "standard_closed")
        self.outcome = Outcome(
            f"{counted(shards, 'shard')} and {counted(routers, 'router')}: {self._moved()}; "
            f"{counted(closed, 'socket')} under accept() closed with 1012; "
            f"{counted(self._told, 'client')} told 1001"
        )
