"""Posts: places in a cluster that must be staffed, and what to do when whoever holds one dies. Pure.

Theory of operation::

    WAITING ── started() ──► STARTING ── ready() ──► READY
       ▲                        │                      │
       │        never ready:    │ ended()              │ ended()
       │        Abort ──► ENDED ┤                      │
       ├─── Restart(delay) ─────┴──────────────────────┤
       │                                               │ exit code "starting again would not help":
    ask_to_end()                                       └─ GiveUp ──► FAILED   (from STARTING as well)
       ▼
    ENDED ◄── ended(): Done ── ENDING ◄── ask_to_end() ── STARTING, READY

The first start of a cluster is different from later ones: nobody depends on it yet, so whatever fails ends it all with
one sentence. Later, a member that fails to come back must not take down those that serve.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import StrEnum

from ..common.cluster_map import MemberKind
from ..common.errors import STARTUP_EXIT_CODES, DataFolderInUse, StartupError
from ..common.ids import Incarnation

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
    """Its process died; the next one comes after a delay."""
    FAILED = "failed"
    """Its process cannot start, and trying again would not help."""
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
    """The cluster cannot start: end everything."""

    why: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Done:
    """It ended because it was told to."""


Verdict = Restart | GiveUp | Abort | Done


class Post:
    """One named place for a router or shard.

    Attributes:
        name: The member's name.
        kind: Router or shard.
        state: See ``PostState``.
        pid: The present process, 0 when there is none.
        incarnation: What the present process reported, 0 before.
        since: When the present process was started (monotonic seconds).
        restarts: Starts after the first one.
        error: Why the last process died; empty once the next one serves.
    """

    def __init__(self, name: str, kind: MemberKind) -> None:
        self.name = name
        self.kind = kind
        self.state = PostState.WAITING
        self.pid = 0
        self.incarnation = Incarnation(0)
        self.since = 0.0
        self.restarts = -1
        self.error = ""
        self._served = False
        self._ready_at: float | None = None
        self._deaths_in_a_row = 0

    def started(self, pid: int, now: float) -> None:
        """A process was started for it."""
        assert self.state is PostState.WAITING, self.state
        self.state, self.pid, self.since = PostState.STARTING, pid, now
        self.restarts += 1
        self._ready_at = None

    def ready(self, incarnation: Incarnation, now: float) -> None:
        """Its process reported that it serves."""
        self.incarnation = incarnation
        if self.state is PostState.STARTING:
            self.state, self.error, self._served, self._ready_at = PostState.READY, "", True, now

    def ask_to_end(self) -> bool:
        """It must end.

        Returns:
            Whether there is a process to be told.
        """
        if self.pid:
            self.state = PostState.ENDING
            return True
        if self.state is PostState.WAITING:
            self.state = PostState.ENDED
        return False

    def ended(self, exit_code: int, error: str, now: float) -> Verdict:
        """Its process ended.

        Args:
            exit_code: As ``Popen.returncode`` has it: negative for a signal.
            error: The sentence that the process reported, or empty.
            now: Monotonic seconds.
        """
        was, self.pid, self.incarnation = self.state, 0, Incarnation(0)
        if was is PostState.ENDING:
            self.state = PostState.ENDED
            return Done()
        why = f"{self.name}: {error}" if error else f"{self.name} {how_it_ended(exit_code)}"
        if was is PostState.STARTING and not error:
            why += " before it was ready"
        self.error = why
        if not self._served:
            self.state = PostState.ENDED
            return Abort(why, exit_code if exit_code in STARTUP_EXIT_CODES else StartupError.exit_code)
        # A name that is still held is no reason to give up here: its holder was our child and is dead, so a process
        # that user code forked has inherited the lock, and will end sooner or later.
        if exit_code in STARTUP_EXIT_CODES and exit_code != DataFolderInUse.exit_code:
            self.state = PostState.FAILED
            return GiveUp(why, exit_code)
        if self._ready_at is not None and now - self._ready_at >= STEADY_AFTER_S:
            self._deaths_in_a_row = 0
        delay_s = RESTART_DELAYS_S[min(self._deaths_in_a_row, len(RESTART_DELAYS_S) - 1)]
        self._deaths_in_a_row += 1
        self.state = PostState.WAITING
        return Restart(delay_s, why)


def how_it_ended(exit_code: int) -> str:
    """An exit code in words: "ended with exit code 3", "was ended by SIGKILL"."""
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was ended by signal {-exit_code}"
