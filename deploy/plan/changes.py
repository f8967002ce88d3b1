"""Changes of a running cluster that somebody has asked for: what they have in common. Pure.

A change alters the staff step by step, each step when what it sees says that the one before is done. It never acts on
a process or on the map itself: the reconciling does that, and goes on with it however the change ends. One change is
under way at a time.

A change sees the cluster through ``Seen``, ten times a second and whenever something happens. Every wait for others has
a deadline: a start by the post's own patience, a move or an end by ``MOVE_PATIENCE_S`` without progress. **Progress**
is that fewer slots are in transit, or fewer posts on their way out, or fewer clients at those; a new map alone is none:
a member that dies again and again makes one every two seconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...common.cluster.cluster_map import NOBODY, ClusterMap, MemberKind
from ...common.errors import RoostError
from ...common.limits import SLOTS
from ...common.machine.counters import Reading
from .post import Post
from .staffing import Staff

MOVE_PATIENCE_S = 60.0
"""Seconds without progress after which a change stops waiting for slots; handlers have 5 s, a hung shard 30 s."""
ATTACH_PATIENCE_S = 10.0
"""Seconds that routers have to attach slots that have moved; they close those slots' sockets after 30."""
CALM_S = 0.5
"""Seconds between the start of new members and the moves to them. A start takes a core for as long; where there is none
to spare, others fall behind with their messages, and the pause of a move should not come on top of that."""
EXIT_FAILED = 1
"""Exit code of a command whose change failed."""


class ChangeRefused(RoostError):
    """A change cannot begin now; nothing was changed."""


class ChangeFailed(RoostError):
    """A change has failed; the message says what became of the cluster.

    Attributes:
        exit_code: For the command.
    """

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Seen:
    """The cluster at one moment, as a change sees it.

    Attributes:
        now: Monotonic seconds.
        map: The newest map.
        readings: What each member's counter file said last, by the member's name; of dead ones, too.
    """

    now: float
    map: ClusterMap
    readings: Mapping[str, Reading] = field(default_factory=dict)


_Life = tuple[str, int]
"""A member's name and its process."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a change ended.

    Attributes:
        sentence: What has happened, or why it has not.
        exit_code: For the command; 0 when it succeeded.
    """

    sentence: str
    exit_code: int = 0


class Change(ABC):
    """A change under way.

    Attributes:
        title: What is done, for ``status``: "scaling to 5 shards".
        lines: The progress so far, one sentence each.
        outcome: How it ended; ``None`` while it is under way.
    """

    def __init__(self, title: str, staff: Staff) -> None:
        self.title = title
        self.staff = staff
        self.lines: list[str] = []
        self.outcome: Outcome | None = None
        self._first: dict[_Life, Reading] | None = None
        self._last: dict[_Life, Reading] = {}
        self._to_do: tuple[int, ...] = ()
        self._progressed_at = 0.0

    def step(self, seen: Seen) -> None:
        """Go as far as what is seen allows."""
        if self.outcome is not None:
            return
        # By life, and kept: the file of a member that leaves goes before all is counted.
        self._last |= {(name, reading.pid): reading for name, reading in seen.readings.items()}
        if self._first is None:
            self._first, self._progressed_at = dict(self._last), seen.now
        to_do = self._count_to_do(seen)
        if any(now < before for now, before in zip(to_do, self._to_do, strict=False)):
            self._progressed_at = seen.now
        self._to_do = to_do
        self._step(seen)

    def _count_to_do(self, seen: Seen) -> tuple[int, ...]:
        leaving = [post.name for post in self.staff.posts.values() if post.leaving]
        readings = [seen.readings[name] for name in leaving if name in seen.readings]
        clients = sum(reading.values.get("connections", 0) for reading in readings)
        return len(seen.map.next_owners), len(leaving), clients

    @abstractmethod
    def _step(self, seen: Seen) -> None: ...

    def call_off(self, why: str) -> None:
        """It cannot go on: the cluster ends."""
        if self.outcome is None:
            self.outcome = Outcome(why, EXIT_FAILED)

    def to_dict(self) -> dict[str, Any]:
        """For the admin API."""
        ended = self.outcome is not None
        return {
            "title": self.title,
            "lines": list(self.lines),
            "done": ended,
            "sentence": self.outcome.sentence if self.outcome is not None else "",
            "exit_code": self.outcome.exit_code if self.outcome is not None else 0,
        }

    def _say(self, line: str) -> None:
        self.lines.append(line)

    def _is_stuck(self, seen: Seen, *, ends: bool = False) -> bool:
        """Whether nothing gets on.

        Args:
            seen: The cluster now.
            ends: Members are to end, and have their own time for it before they are killed.
        """
        # Twice: a router has it once to retire and once to drain.
        ending_s = 2 * self.staff.config.drain_timeout if ends else 0.0
        return seen.now - self._progressed_at >= MOVE_PATIENCE_S + ending_s

    def _are_gone(self, posts: Iterable[Post]) -> bool:
        """Whether none of these posts is there any more."""
        return not any(self.staff.posts.get(post.name) is post for post in posts)

    def _grown(self, counter: str, name: str = "", pid: int = 0) -> int:
        """By how much a total has grown since the change began: of all members, of one, or of one process."""
        lives = {life: found for life, found in self._last.items() if name in ("", life[0]) and pid in (0, life[1])}
        return growth(self._first or {}, lives, counter)

    def _unattached(self, seen: Seen) -> str:
        """Which routers lack slots, in words; empty when none does. The map says who owns a slot; a router that cannot
        reach the owner (it has no descriptor left, say) has the slot's sockets wait, and closes them in the end."""
        behind = []
        for post in self.staff.of_kind(MemberKind.ROUTER):
            reading = seen.readings.get(post.name)
            if post.serves and not post.leaving and reading is not None and reading.pid == post.pid:
                lacking = SLOTS - reading.values.get("slots_attached", SLOTS)
                if lacking:
                    behind.append(f"{post.name} has not attached {lacking:,} of {SLOTS:,} slots")
        return "; ".join(behind)

    def _wait_anew(self, seen: Seen) -> None:
        """Another stage begins: its patience, too."""
        self._progressed_at = seen.now


def seats_of_slots(map_: ClusterMap) -> list[str]:
    """The seat of each slot's owner."""
    return [map_.members[owner].seat if owner != NOBODY else "" for owner in map_.owners]


def owners_changed(before: ClusterMap, after: ClusterMap, *, within_seats: bool) -> int:
    """How many slots another shard owns now.

    Args:
        before: A map.
        after: A later one.
        within_seats: Whether a shard in the same seat counts as another one (a reload's successor does; the next
            process of a shard that was scaled does not).
    """
    if within_seats:
        return sum(one != other for one, other in zip(before.owners, after.owners, strict=True))
    return sum(one != other for one, other in zip(seats_of_slots(before), seats_of_slots(after), strict=True))


def growth(before: Mapping[_Life, Reading], after: Mapping[_Life, Reading], counter: str) -> int:
    """By how much a total of all processes has grown; one that was not there before began at 0."""
    grown = 0
    for life, reading in after.items():
        earlier = before.get(life)
        grown += reading.values.get(counter, 0) - (earlier.values.get(counter, 0) if earlier is not None else 0)
    return grown
