"""Reloading: new code in every shard, by a rolling move that can be taken back. Pure.

Theory of operation::

    CHECKING ── a process loads the app: refused, or it lacks a namespace that is hosted now ──► FAILED, nothing touched
    │ fine
    ▼
    STARTING   a successor for the next seat          ready, and calm ──► it gets the seat: the slots move to it
    MOVING     its slots on their way                 settled
    WATCHING   the first and the last one for ``canary_s``, the others for ``GLANCE_S``  ──► the next seat: STARTING
    │ all seats done, so that each successor was watched for ``canary_s`` at least
    ▼
    ENDING     the predecessors, which own nothing, are dismissed       all gone ──► DONE

    STARTING, MOVING, WATCHING ── trouble ──► RETURNING  all seats go back to the predecessors, successors are dismissed
                                              all gone, settled ──► FAILED: the old code goes on

*Trouble* is a successor that does not start, dies, or at which constructors fail while at the predecessors none has in
the minute before and since, at any successor and until the last one has been watched; a move that makes no progress;
and a router that has not attached all slots ``ATTACH_PATIENCE_S`` after a move. Objects keep their sockets meanwhile: a
shard tries a failing constructor again for 30 s before it resets an object that has moved.

New code is tried by the objects that wake up under it. Where none does, nothing is known of its constructors, and the
outcome says so. A class that has a ``trial_name`` is constructed once by the check as well (``shard.trial``).

Predecessors live until all is done, owning nothing, so that a rollback needs no start. A seat whose shard is not there
(it died and could not be started again, the reason to reload, perhaps) gets a successor all the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from ...common.cluster.cluster_map import ClusterMap
from ...common.errors import AppError, ConfigError
from ..report.status import CONSTRUCTIONS, FAILED_CONSTRUCTIONS
from .changes import ATTACH_PATIENCE_S, CALM_S, EXIT_FAILED, Change, Outcome, Seen, owners_changed
from .config import UpConfig
from .post import Post, PostState
from .reconciling import is_settled
from .staffing import Staff, counted, in_order, latest_generation, listed

CANARY_S = 2.0
"""Seconds for which the first successor is watched before the others follow, and all of them after the last change."""
LONGEST_CANARY_S = 3_600.0
"""The longest time for that: no other change can begin meanwhile, and none can be called off."""
GLANCE_S = 0.6
"""The same for each of the others: two publications of its counters."""
QUIET_S = 60.0
"""Seconds before a reload in which no constructor of the present code may have failed, if failures of the new code are
to say something."""


class Stage(Enum):
    """How far it is."""

    CHECKING = "checking"
    """A process of its own loads the app."""
    STARTING = "starting"
    """A successor is on its way."""
    MOVING = "moving"
    """Its slots are."""
    WATCHING = "watching"
    """It has them, and is watched."""
    ENDING = "ending"
    """All seats are taken over; the predecessors end."""
    RETURNING = "returning"
    """The predecessors get everything back; the successors end."""


class Reload(Change):
    """A change of the shards' code.

    Args:
        staff: The staff.
        map_: The map: names that are in it are not taken again.
        config: What successors are told.
        app: The app in words.
        canary_s: Seconds to watch the first successor.
        was_failing: Whether constructors of the present code have failed within ``QUIET_S``, so that failures of the
            new code say nothing.

    Raises:
        ConfigError: It cannot be watched for so long.
    """

    def __init__(
        self, staff: Staff, map_: ClusterMap, *, config: UpConfig, app: str, canary_s: float, was_failing: bool
    ) -> None:
        super().__init__(f"reloading {app}", staff)
        if not 0 <= canary_s <= LONGEST_CANARY_S:  # nor what is no number
            raise ConfigError(f"canary must be 0 to {LONGEST_CANARY_S:,g} s, got {canary_s:g}")
        self.config = config
        self._app = app
        self._canary_s = canary_s
        self._was_failing = was_failing
        # Shards of a reload that was taken back, or interrupted, may still be on their way out.
        self._generation = 1 + max(staff.generation, staff.latest_generation, latest_generation(map_.shards))
        # Seats whose shard serves first: a canary among messages finds more.
        self._order = in_order(staff.seats)
        self._order.sort(key=lambda seat: not staff.posts[staff.seats[seat]].serves)
        self._predecessors = {seat: staff.posts[staff.seats[seat]] for seat in self._order}
        self._successors: dict[str, Post] = {}
        self._stage = Stage.CHECKING
        self._before: Seen | None = None
        self._watch_until = 0.0
        self._why = ""
        self._moved = 0

    # --- the check ----------------------------------------------------------------------------------------------

    def checked(self, namespaces: Iterable[str], hosted: Iterable[str], constructed: Iterable[str] = ()) -> None:
        """The app loads.

        Args:
            namespaces: Those that it has classes for.
            hosted: Those that the cluster hosts now.
            constructed: Those of which an object was constructed on trial.
        """
        if self._stage is not Stage.CHECKING or self.outcome is not None:
            return
        missing = sorted(set(hosted) - set(namespaces))
        if missing:
            self.refused(
                f"{self._app} has no class for {' and '.join(map(repr, missing))}, which the cluster hosts now: the "
                "sockets there would have nobody"
            )
            return
        tried = sorted(constructed)
        self._say(f"{self._app} loads" + (f", and an object of {listed(tried)} was constructed" if tried else ""))
        self._stage = Stage.STARTING

    def refused(self, why: str, exit_code: int = AppError.exit_code) -> None:
        """The app cannot be used."""
        if self._stage is Stage.CHECKING and self.outcome is None:
            self.outcome = Outcome(f"nothing was changed: {why}", exit_code)

    # --- the move -----------------------------------------------------------------------------------------------

    def _step(self, seen: Seen) -> None:
        if self._before is None:
            self._before = seen
        if self._stage in (Stage.STARTING, Stage.MOVING, Stage.WATCHING):
            why = self._trouble(seen)
            if why:
                self._turn_back(why, seen)
        if self._stage is Stage.STARTING:
            self._start(seen)
        if self._stage is Stage.MOVING:
            self._move(seen)
        if self._stage is Stage.WATCHING:
            self._watch(seen)
        if self._stage is Stage.ENDING:
            self._end(seen)
        if self._stage is Stage.RETURNING:
            self._return(seen)

    @property
    def _seat(self) -> str:
        """The seat that is being taken over."""
        return self._order[len(self._successors) - 1]

    def _start(self, seen: Seen) -> None:
        if not self._successors or self._successors[self._seat].name in self.staff.seats.values():
            seat = self._order[len(self._successors)]
            post = self.staff.add_shard(seat, self._generation, self.config)
            self._successors[seat] = post
            self._say(f"starting {post.name}")
        post = self._successors[self._seat]
        if post.has_served_for(CALM_S, seen.now):
            self.staff.seats[post.seat] = post.name
            self._wait_anew(seen)
            self._stage = Stage.MOVING

    def _move(self, seen: Seen) -> None:
        if not is_settled(seen.map, self.staff):
            return
        post, owned = self._successors[self._seat], seen.map.slots_of(self._successors[self._seat].incarnation)
        is_canary, is_last = len(self._successors) == 1, len(self._successors) == len(self._order)
        watched_s = self._canary_s if is_canary or is_last else GLANCE_S
        watched = ("is" if is_canary else "all are") + f" watched for {watched_s:g} s"
        self._say(
            f"{post.name} has {counted(len(owned), 'slot')}" + (f" and {watched}" if is_canary or is_last else "")
        )
        self._watch_until = seen.now + max(watched_s, GLANCE_S)
        self._stage = Stage.WATCHING

    def _watch(self, seen: Seen) -> None:
        if seen.now < self._watch_until or self._unattached(seen):
            return
        if len(self._successors) < len(self._order):
            self._wait_anew(seen)
            self._stage = Stage.STARTING
            self._start(seen)
            return
        # From here on the new code is the cluster's.
        assert self._before is not None
        self._moved = owners_changed(self._before.map, seen.map, within_seats=True)
        self.staff.config, self.staff.generation = self.config, self._generation
        self.staff.dismiss(self._predecessors.values())
        self._wait_anew(seen)
        self._stage = Stage.ENDING

    def _end(self, seen: Seen) -> None:
        left = [post.name for post in self._predecessors.values() if self.staff.posts.get(post.name) is post]
        if left and not self._is_stuck(seen, ends=True):
            return
        assert self._before is not None
        sentence = (
            f"{self._app} runs on {counted(len(self._order), 'shard')}: {counted(self._moved, 'slot')} moved in "
            f"{seen.now - self._before.now:.1f} s; {counted(self._grown('standard_closed'), 'socket')} under accept() "
            "closed with 1012"
        )
        sentence += self._what_was_tried()
        if left:
            sentence += f"; {listed(left)} has not ended yet, and the cluster goes on with it"
        self.outcome = Outcome(sentence, EXIT_FAILED if left else 0)

    def _what_was_tried(self) -> str:
        """What is not known of the new code, or known and said nothing; empty when all is well."""
        successors = self._successors.values()
        untried = [
            post.name
            for post in successors
            if not self._grown(CONSTRUCTIONS, post.name, post.pid) and not self._failures(post, post.pid)
        ]
        failed = [post.name for post in successors if self._failures(post, post.pid)]
        said = ""
        if len(untried) == len(self._order):
            said += "; not tried: no object woke under the new code"
        elif untried:
            said += f"; not tried at {listed(untried)}: no object woke there"
        if failed:
            count = sum(self._failures(post, post.pid) for post in successors)
            said += f"; {counted(count, 'constructor')} failed at {listed(failed)}, as some of the old code had before"
        return said

    # --- the way back -------------------------------------------------------------------------------------------

    def _trouble(self, seen: Seen) -> str:
        """Why it cannot go on; empty when it can."""
        for post in self._successors.values():
            # An error: it has died, and its next process has not even been started.
            if post.error or post.state not in (PostState.WAITING, PostState.STARTING, PostState.READY):
                return post.error or f"{post.name} has ended"
        failed = {post.name: count for post in self._successors.values() if (count := self._failures(post, post.pid))}
        if failed and not self._was_failing and not any(map(self._failures, self._predecessors.values())):
            return (
                f"{counted(sum(failed.values()), 'constructor')} failed at {listed(failed)}, and none at "
                f"{listed(post.name for post in self._predecessors.values())} in the minute before and since"
            )
        if self._stage is Stage.WATCHING and seen.now >= self._watch_until + ATTACH_PATIENCE_S:
            return self._unattached(seen)
        if self._stage is Stage.MOVING and self._is_stuck(seen):
            return f"the move does not get on: {counted(len(seen.map.next_owners), 'slot')} in transit"
        return ""

    def _failures(self, post: Post, pid: int = 0) -> int:
        """Constructors that have failed at a post since the reload began, or at one process of it: a file with an
        earlier one's figures may be left under a successor's name."""
        return self._grown(FAILED_CONSTRUCTIONS, post.name, pid)

    def _turn_back(self, why: str, seen: Seen) -> None:
        self._why = why
        self.staff.dismiss(self._successors.values())
        for seat, post in self._predecessors.items():
            self.staff.seats[seat] = post.name
        self._say(f"{why}: going back to {listed(post.name for post in self._predecessors.values())}")
        self._wait_anew(seen)
        self._stage = Stage.RETURNING

    def _return(self, seen: Seen) -> None:
        if self._are_gone(self._successors.values()) and is_settled(seen.map, self.staff):
            self.outcome = Outcome(f"rolled back, the old code goes on: {self._why}", AppError.exit_code)
        elif self._is_stuck(seen, ends=not seen.map.next_owners):
            self.outcome = Outcome(
                f"{self._why}; the way back does not get on, {counted(len(seen.map.next_owners), 'slot')} in transit; "
                "the cluster goes on with it",
                EXIT_FAILED,
            )
