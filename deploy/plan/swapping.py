"""Swapping: new code in development, at once. Pure.

A reload (``reloading``) is careful: it tries the app in a process of its own, lets new shards come to rest, watches the
first one, and can go back. Somebody who has just saved a file wants to see what he wrote::

    STARTING   a successor in each seat     all ready ──► they get the seats: the slots move to them
    MOVING     the slots on their way       settled, or ``HURRY_S`` later ──► the predecessors end: DONE when they have
    │
    ├── a successor does not start ──► it is dismissed, the old code goes on: FAILED
    └── one has not in ``HURRY_S``, and something else is saved ──► it is killed: what was saved since comes next

Code that fails later than that is not taken back: its errors are what is to be seen. A predecessor that does not let go
(a handler in a debugger, an endless loop that was just corrected) is killed, which moves its objects as a death does.
"""

from __future__ import annotations

from enum import Enum

from ...common.cluster.cluster_map import ClusterMap
from ...common.errors import AppError
from .changes import Change, Outcome, Seen
from .config import UpConfig
from .post import Post, PostState
from .reconciling import is_settled
from .staffing import Staff, latest_generation

HURRY_S = 2.0
"""Seconds that predecessors have to hand their slots over, and successors to start when others are wanted already."""


class Stage(Enum):
    """How far it is."""

    STARTING = "starting"
    """The successors are on their way."""
    MOVING = "moving"
    """The slots are."""
    ENDING = "ending"
    """The predecessors end."""
    RETURNING = "returning"
    """The successors do: they did not start."""


def next_generation(staff: Staff, map_: ClusterMap) -> int:
    """That of the successors of a swap that begins now."""
    return 1 + max(staff.generation, staff.latest_generation, latest_generation(map_.shards))


class Swap(Change):
    """New code for all shards, without a way back once it has started.

    Args:
        staff: The staff.
        map_: The map: names that are in it are not taken again.
    """

    def __init__(self, staff: Staff, map_: ClusterMap) -> None:
        super().__init__("taking what was saved", staff)
        self.config: UpConfig = staff.config
        self._generation = next_generation(staff, map_)
        self._predecessors = {seat: staff.posts[name] for seat, name in staff.seats.items()}
        self._successors: dict[str, Post] = {}
        self._stage = Stage.STARTING
        self._began_at: float | None = None
        self._hurry_at = 0.0
        self._is_overtaken = False
        self._why = ""

    def overtake(self) -> None:
        """Something else was saved: a successor that does not come to its end of loading (it waits for something, or
        goes in circles) need not be waited for."""
        self._is_overtaken = True

    def _step(self, seen: Seen) -> None:
        if self._began_at is None:
            self._began_at = seen.now
            for seat in self._predecessors:
                self._successors[seat] = self.staff.add_shard(seat, self._generation)
        if self._stage is Stage.STARTING:
            self._start(seen)
        if self._stage is Stage.MOVING:
            self._move(seen)
        if self._stage is Stage.ENDING and self._are_gone(self._predecessors.values()):
            self.outcome = Outcome(f"new code after {seen.now - self._began_at:.1f} s")
        if self._stage is Stage.RETURNING and self._are_gone(self._successors.values()):
            exit_code = 0 if self._is_overtaken else AppError.exit_code
            self.outcome = Outcome(f"the code that ran before goes on{self._why}", exit_code)

    def _start(self, seen: Seen) -> None:
        posts = self._successors.values()
        for post in posts:
            # An error: it has died, and its next process has not even been started.
            if post.error or post.state not in (PostState.WAITING, PostState.STARTING, PostState.READY):
                # A shard that cannot load the code has said so at length.
                if post.exit_code != AppError.exit_code:
                    self._why = f": {post.error or f'{post.name} has ended'}"
                self.staff.dismiss(posts)
                self._stage = Stage.RETURNING
                return
        assert self._began_at is not None
        if self._is_overtaken and seen.now >= self._began_at + HURRY_S:
            self._why = ": what was saved before has not loaded, and something else was saved since"
            self.staff.dismiss(posts)
            for post in posts:
                post.ask_to_end(seen.now)
            self._stage = Stage.RETURNING
            return
        if all(post.serves and post.incarnation in seen.map.members for post in posts):
            for seat, post in self._successors.items():
                self.staff.seats[seat] = post.name
            self.staff.generation = self._generation
            self._hurry_at = seen.now + HURRY_S
            self._stage = Stage.MOVING

    def _move(self, seen: Seen) -> None:
        is_late = seen.now >= self._hurry_at
        if not is_late and not is_settled(seen.map, self.staff):
            return
        self.staff.dismiss(self._predecessors.values())
        if is_late:
            for post in self._predecessors.values():
                post.ask_to_end(seen.now)
        self._stage = Stage.ENDING
