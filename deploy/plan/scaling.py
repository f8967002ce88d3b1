"""Scaling: more or fewer shards and routers, while the cluster runs. Pure.

Theory of operation::

    STARTING   new posts are staffed, failed    all serve ──► after ``CALM_S`` the new shards get seats, those too many
               ones are tried again                          lose theirs: slots begin to move
    │ a new one cannot start ──► the new posts are dismissed, nothing has moved: FAILED
    ▼
    MOVING     slots on their way               settled, and the shards that had to leave are gone ──► routers that are
                                                too many are dismissed
    │ no progress for a minute ──► FAILED; the cluster goes on with it all the same
    ▼
    RETIRING   routers send their clients away  all gone, or no progress ──► DONE

New shards get their seats all at once, when all of them are ready: a slot would move twice otherwise. Those with the
highest numbers leave. Routers leave last: while they are many, the moves' pauses are short. A router that ``is_stale``,
told something else than is wanted now, is too many, and another one with a name of its own is new: so the port is never
without a listener, and a setting that does not work is found while the old ones serve.

A post that had failed and fails again stops nothing, as it stood there before; the outcome says so.
"""

from __future__ import annotations

from enum import Enum

from ...common.cluster.cluster_map import MemberKind
from ...common.machine.counters import PUBLISH_INTERVAL_S
from .changes import ATTACH_PATIENCE_S, CALM_S, EXIT_FAILED, Change, ChangeRefused, Outcome, Seen, owners_changed
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
        ChangeRefused: A name that is needed has not been given back yet.
    """

    def __init__(self, staff: Staff, *, shards: int | None, routers: int | None, descriptors: int) -> None:
        present = {post.seat: post for post in staff.of_kind(MemberKind.ROUTER)}
        shard_count = len(staff.seats) if shards is None else shards
        router_count = len(present) if routers is None else routers
        super().__init__(f"scaling to {counted(shard_count, 'shard')} and {counted(router_count, 'router')}", staff)
        # What members that are started later are told.
        self._config = staff.config.with_counts(shard_count, router_count)
        self._config.check_descriptors(descriptors)
        seats = {seat_name(number) for number in range(1, shard_count + 1)}
        self._new_seats = in_order(seats - staff.seats.keys())
        self._old_seats = in_order(staff.seats.keys() - seats)
        leaving = {shard_name(seat, staff.generation) for seat in self._new_seats} & staff.posts.keys()
        if leaving:
            raise ChangeRefused(f"{listed(leaving)} has not ended yet: try again in a moment")
        places = {router_name(number) for number in range(1, router_count + 1)}
        staying = {place for place in places & present.keys() if not present[place].is_stale}
        self._new_routers = in_order(places - staying)
        self._old_routers = [post for place, post in present.items() if place not in staying]
        self._new: list[Post] | None = None
        self._retried: list[Post] = []
        self._leaving: list[Post] = []
        self._stage = Stage.STARTING
        self._began_at: Seen | None = None
        self._settled_at: Seen | None = None
        self._counted_at = 0.0
        self._told: dict[str, int] = {}

    def _step(self, seen: Seen) -> None:
        if self._stage is Stage.STARTING:
            self._start(seen)
        if self._stage is Stage.MOVING and self.outcome is None:
            self._move(seen)
        if self._stage is Stage.RETIRING and self.outcome is None:
            self._retire(seen)

    # --- starting -----------------------------------------------------------------------------------------------

    def _start(self, seen: Seen) -> None:
        if self._new is None:
            self._began_at = seen
            self._new = self._add_posts(seen.now)
        lost = [post for post in self._new if post.state in (PostState.ENDED, PostState.FAILED)]
        if lost:
            self.staff.dismiss(self._new)
            self.outcome = Outcome(f"nothing was changed: {lost[0].error}", lost[0].exit_code or EXIT_FAILED)
            return
        if not all(post.has_served_for(CALM_S, seen.now) for post in self._new):
            return
        # Those that do not come back do not keep the others from it, however long they take.
        if any(post.state in _ON_THEIR_WAY for post in self._retried) and not self._is_stuck(seen):
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

    def _add_posts(self, now: float) -> list[Post]:
        self._retried = [
            post
            for post in self._staying()
            if post.state is PostState.FAILED and post not in self._old_routers and post.seat not in self._old_seats
        ]
        if self._retried:
            self._say(f"trying {listed(post.name for post in self._retried)} again")
        for post in self._retried:
            post.try_again(now)
        new = [self.staff.add_shard(seat, self.staff.generation) for seat in self._new_seats]
        new += [self.staff.add_router(place) for place in self._new_routers]
        if new:
            self._say(f"starting {listed(post.name for post in new)}")
        return new

    def _staying(self) -> list[Post]:
        return [*self.staff.holders, *self.staff.of_kind(MemberKind.ROUTER)]

    # --- moving and retiring ------------------------------------------------------------------------------------

    def _move(self, seen: Seen) -> None:
        if not (self._are_gone(self._leaving) and is_settled(seen.map, self.staff)):
            if self._is_stuck(seen, ends=not seen.map.next_owners):
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
        self._leaving = [post for post in self._old_routers if self.staff.posts.get(post.name) is post]
        self.staff.dismiss(self._leaving)
        self._count_told(seen)
        if self._leaving:
            clients = counted(sum(self._told.values()), "client")
            self._say(f"{listed(post.name for post in self._leaving)}: {clients} to be sent away")
        self._wait_anew(seen)
        self._stage = Stage.RETIRING

    def _moved(self) -> str:
        assert self._began_at is not None
        assert self._settled_at is not None
        slots = owners_changed(self._began_at.map, self._settled_at.map, within_seats=False)
        return f"{counted(slots, 'slot')} moved in {self._settled_at.now - self._began_at.now:.1f} s"

    def _count_told(self, seen: Seen) -> None:
        """Who is at a router when it begins to retire is told; those may come back to the next one before it does."""
        for post in self._leaving:
            reading = seen.readings.get(post.name)
            if post.state is PostState.READY and reading is not None and reading.pid == post.pid:
                self._told[post.name] = reading.values.get("connections", 0)

    def _retire(self, seen: Seen) -> None:
        self._count_told(seen)
        # Each router has its own patience, after which it is told to end, then killed.
        left = [post.name for post in self._leaving if self.staff.posts.get(post.name) is post]
        if (left and not self._is_stuck(seen, ends=True)) or seen.now < self._counted_at:
            return
        unattached = self._unattached(seen)
        if unattached and seen.now < self._counted_at + ATTACH_PATIENCE_S:
            return
        sentence = (
            f"{self._moved()}; {counted(self._grown('standard_closed'), 'socket')} under accept() closed with 1012; "
            f"{counted(sum(self._told.values()), 'client')} told 1001"
        )
        if left:
            sentence += f"; {listed(left)} has not ended yet, and the cluster goes on with it"
        if unattached:
            sentence += f"; {unattached}"
        idle = [post for post in self._staying() if not post.serves]
        for post in idle:
            sentence += f"; {post.name} does not serve ({post.error or post.state.value})"
        shards = sum(post.serves for post in self.staff.holders)
        routers = sum(post.serves for post in self.staff.of_kind(MemberKind.ROUTER))
        self.outcome = Outcome(
            f"{counted(shards, 'shard')} and {counted(routers, 'router')}: {sentence}",
            EXIT_FAILED if left or unattached or any(post.state is PostState.FAILED for post in idle) else 0,
        )


_ON_THEIR_WAY = (PostState.WAITING, PostState.STARTING)
