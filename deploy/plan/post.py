"""Posts: places in a cluster that must be staffed, and what to do when whoever holds one dies. Pure.

Theory of operation::

    WAITING ── started() ──► STARTING ── ready() ──► READY ◄── adopted()
       ▲                        │                      │
       │        never ready:    │ ended()              │ ended()
       │        Abort ──► ENDED ┤                      │
       ├─── Restart(delay) ─────┴──────────────────────┤
       │                                               │ exit code "starting again would not help":
    ask_to_end()                                       └─ GiveUp ──► FAILED   (from STARTING as well)
       ▼
    ENDED ◄── ended(): Done ── ENDING ◄── ask_to_end() ── STARTING, READY, RETIRING
                                  ▲
                                  └── out of patience ── RETIRING ◄── retire() ── READY (a router)

A post that ``leaves`` is not staffed any more: a process of it that dies is not missed. A ``FAILED`` one may be tried
again (``try_again``) when somebody asks for it.

The first start of a post is different from later ones: nobody depends on it yet, so whatever fails gives it up with one
sentence. Later, a member that fails to come back must not take down those that serve.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ...common.cluster.cluster_map import MemberKind
from ...common.errors import STARTUP_EXIT_CODES, DataFolderInUse, StartupError
from ...common.ids import Incarnation
from ...common.runtime.startup import DEFECT_EXIT_CODE

RESTART_DELAYS_S = (0.0, 0.1, 0.5, 1.0, 2.0)
"""Seconds before the first, second, … restart in a row; the last one from then on (design)."""
STEADY_AFTER_S = 10.0
"""Seconds of service after which a death begins a new row."""


class PostState(StrEnum):
    """Where a post stands."""

    STARTING = "starting"
    """Its process runs and has not reported yet."""
    READY = "ready"
    """Its process serves."""
    WAITING = "waiting"
    """There is no process; the next one comes after a delay."""
    FAILED = "failed"
    """Its process cannot start, and trying again would not help."""
    RETIRING = "retiring"
    """Its process, a router, sends its clients away a few at a time and then ends."""
    ENDING = "ending"
    """Its process was told to drain and end."""
    ENDED = "ended"
    """It had to end, and has."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Start the next process after ``delay_s`` seconds."""

    delay_s: float
    why: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Leave the post empty; the others go on."""

    why: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Abort:
    """The post cannot be staffed for the first time: whoever wanted it must do without, or end."""

    why: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Done:
    """It ended because it was told to, or nobody needs it any more."""


Verdict = Restart | GiveUp | Abort | Done


class Post:
    """One named place for a router or shard.

    Args:
        name: The member's name.
        kind: Router or shard.
        argv: The arguments that its processes are started with.
        seat: A shard's seat; its name when it is not given.

    Attributes:
        state: See ``PostState``.
        pid: The present process, 0 when there is none.
        incarnation: What the present process reported, 0 before.
        since: When the present process was started (monotonic seconds).
        restarts: Starts after the first one.
        error: Why the last process died; empty once the next one serves.
        exit_code: What a start that failed for good ended with.
        leaving: The post is to be given up, once its process may end.
        is_stale: It was taken over with other arguments than are wanted now: a change puts another one in its place.
        due_at: When the next process is to be started, in WAITING.
        deadline: When patience with the present process ends, in STARTING, RETIRING and ENDING.
        lost_at: When the last process that served died; ``None`` while one serves.
    """

    def __init__(self, name: str, kind: MemberKind, argv: Sequence[str] = (), *, seat: str = "") -> None:
        self.name = name
        self.kind = kind
        self.argv = tuple(argv)
        self.seat = seat or name
        self.state = PostState.WAITING
        self.pid = 0
        self.incarnation = Incarnation(0)
        self.since = 0.0
        self.restarts = -1
        self.error = ""
        self.exit_code = 0
        self.leaving = False
        self.is_stale = False
        self.due_at = 0.0
        self.deadline = math.inf
        self.lost_at: float | None = None
        self._served = False
        self._ready_at: float | None = None
        self._deaths_in_a_row = 0

    @property
    def serves(self) -> bool:
        """Whether it has a process that does its work."""
        return self.state is PostState.READY

    def has_served_for(self, seconds: float, now: float) -> bool:
        """Whether it serves, and has for so long."""
        return self.serves and self._ready_at is not None and now - self._ready_at >= seconds

    @property
    def has_served(self) -> bool:
        """Whether some process of it has served, so that clients may wait for the next one."""
        return self._served

    def started(self, pid: int, now: float, patience_s: float = math.inf) -> None:
        """A process was started for it, and has *patience_s* seconds to get ready."""
        assert self.state is PostState.WAITING, self.state
        self.state, self.pid, self.since = PostState.STARTING, pid, now
        self.deadline = now + patience_s
        self.restarts += 1
        self._ready_at = None

    def ready(self, incarnation: Incarnation, now: float) -> None:
        """Its process reported that it serves."""
        self.incarnation = incarnation
        if self.state is PostState.STARTING:
            self.state, self.error, self._served, self._ready_at = PostState.READY, "", True, now
            self.deadline, self.lost_at = math.inf, None

    def adopted(self, pid: int, incarnation: Incarnation, now: float, *, since: float) -> None:
        """A process that was there before holds it.

        Args:
            pid: The process.
            incarnation: Its incarnation.
            now: Monotonic seconds.
            since: When that process was started.
        """
        assert self.state is PostState.WAITING, self.state
        self.state, self.pid, self.incarnation, self.since = PostState.READY, pid, incarnation, since
        self.restarts, self._served, self._ready_at = 0, True, now

    def missed(self, now: float) -> None:
        """It was held by a process that died before anybody watched: its next start is not its first."""
        self.restarts, self._served, self.lost_at, self.due_at = 0, True, now, now

    def retire(self, deadline: float) -> None:
        """Its process lets its clients go; *deadline* is when it must have ended by itself."""
        assert self.state is PostState.READY, self.state
        self.state, self.deadline = PostState.RETIRING, deadline

    def try_again(self, now: float) -> None:
        """It is staffed again, though that had failed for good."""
        assert self.state is PostState.FAILED, self.state
        self.state, self.due_at = PostState.WAITING, now

    def ask_to_end(self, deadline: float = math.inf) -> bool:
        """Its process must end.

        Args:
            deadline: When its process must have ended by itself.

        Returns:
            Whether there is a process to be told.
        """
        if self.pid:
            self.state, self.deadline = PostState.ENDING, deadline
            return True
        if self.state in (PostState.WAITING, PostState.FAILED):
            self.state = PostState.ENDED
        return False

    def ended(self, exit_code: int | None, error: str, now: float) -> Verdict:
        """Its process ended.

        Args:
            exit_code: As ``Popen.returncode`` has it: negative for a signal; ``None`` when nobody could know.
            error: The sentence that the process reported, or empty.
            now: Monotonic seconds.
        """
        was, self.pid, self.incarnation, self.deadline = self.state, 0, Incarnation(0), math.inf
        if self._served and self.lost_at is None:
            self.lost_at = now
        if self.leaving or was in (PostState.ENDING, PostState.RETIRING):
            self.state = PostState.ENDED
            return Done()
        why = f"{self.name}: {error}" if error else f"{self.name} {how_it_ended(exit_code)}"
        if was is PostState.STARTING and not error:
            why += " before it was ready"
        self.error = why
        final = exit_code is not None and exit_code in STARTUP_EXIT_CODES
        if not self._served:
            self.state = PostState.ENDED
            self.exit_code = exit_code if final and exit_code is not None else StartupError.exit_code
            return Abort(why, self.exit_code)
        # A name that is still held is no reason to give up here: its holder was ours and is dead, so a process that
        # user code forked has inherited the lock, and will end sooner or later.
        if final and exit_code is not None and exit_code != DataFolderInUse.exit_code:
            self.state, self.exit_code = PostState.FAILED, exit_code
            return GiveUp(why, exit_code)
        if self._ready_at is not None and now - self._ready_at >= STEADY_AFTER_S:
            self._deaths_in_a_row = 0
        delay_s = RESTART_DELAYS_S[min(self._deaths_in_a_row, len(RESTART_DELAYS_S) - 1)]
        self._deaths_in_a_row += 1
        return self._again(delay_s, why, now)

    def _again(self, delay_s: float, why: str, now: float) -> Restart:
        self.state, self.due_at = PostState.WAITING, now + delay_s
        return Restart(delay_s, why)

    def is_given_up(self, now: float, grace_s: float) -> bool:
        """Whether nobody needs to wait for its next process: there is none to come, or it takes too long."""
        if self.state in (PostState.FAILED, PostState.ENDED) or (self.leaving and not self.pid):
            return True
        return self.lost_at is not None and now - self.lost_at >= grace_s


def how_it_ended(exit_code: int | None) -> str:
    """An exit code in words: "ended with exit code 3", "was ended by SIGKILL", "ended"."""
    if exit_code is None:
        return "ended"
    if exit_code == DEFECT_EXIT_CODE:
        return f"ended because of an error of roost's own, which its log has (exit code {exit_code})"
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was ended by signal {-exit_code}"
