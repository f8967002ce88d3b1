"""Whether a process lives, judged by what it counts. Pure.

Each member counts two numbers in its counter file (``counters``): its event loop one, a thread of its own the other.
A watcher looks at them about once a second, and judges by its own clock and by nothing that the watched one says of
time::

    both grow                         ALIVE
    the loop's stands still           BLOCKED after BLOCKED_LOOP_REPORT_S: user code holds the loop; it is reported
                                      STALLED after STALL_KILL_S: it does not end; the process is to be killed
    both stand still                  FROZEN after FROZEN_KILL_S: stopped (SIGSTOP, a debugger, a swapped-out machine);
                                      the process is to be killed, since it may go on at any time as if nothing had been

A thread that never lets go of Python's lock (a regular expression that backtracks for ever, say) stops both numbers,
too, but it is busy, not stopped: the system says that the process runs, and it has the longer time.

Time counts in steps: between two looks no more than ``MAX_STEP_S`` goes by, however late the second one comes. So a
watcher that was stopped itself finds everybody alive, and not everybody dead.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..limits import BLOCKED_LOOP_REPORT_S, FROZEN_KILL_S, STALL_KILL_S

MAX_STEP_S = 1.5
"""Seconds between two looks that count at most; watchers look once a second."""


class Verdict(Enum):
    """What to think of a process."""

    ALIVE = "alive"
    """It works."""
    BLOCKED = "blocked"
    """Its loop has stood still for a while: something holds it up."""
    STALLED = "stalled"
    """Its loop has stood still for too long: kill it."""
    FROZEN = "frozen"
    """It is stopped as a whole, for too long: kill it."""

    @property
    def is_fatal(self) -> bool:
        """Whether the process is to be killed."""
        return self in (Verdict.STALLED, Verdict.FROZEN)


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look at a process has found.

    Attributes:
        lives: Its process holds its name.
        counts: What its loop and its thread have counted (``Reading.publications``, ``Reading.beats``); ``None`` when
            it has published nothing that can be read.
        running: The system says that it is on a processor or waits for one.
    """

    lives: bool
    counts: tuple[int, int] | None = None
    running: bool = False


class Liveness:
    """The judgement of one process, from its start on.

    Args:
        blocked_s: Seconds that the loop may stand still before that is worth a report.
        stall_kill_s: Seconds after which the loop counts as stalled.
        frozen_kill_s: Seconds after which a process without any sign counts as frozen.
    """

    def __init__(
        self,
        *,
        blocked_s: float = BLOCKED_LOOP_REPORT_S,
        stall_kill_s: float = STALL_KILL_S,
        frozen_kill_s: float = FROZEN_KILL_S,
    ) -> None:
        self._blocked_s = blocked_s
        self._stall_kill_s = stall_kill_s
        self._frozen_kill_s = frozen_kill_s
        self._looked_at: float | None = None
        self._publications = self._beats = -1
        self._loop_stood_s = 0.0
        self._process_stood_s = 0.0

    def observe(self, now: float, publications: int, beats: int, running: bool) -> Verdict:
        """Judge by one more look.

        Args:
            now: The watcher's monotonic seconds.
            publications: What the process's loop has counted.
            beats: What its thread has counted.
            running: The system says that the process is on a processor or waits for one (``processes.is_running``).
        """
        step = 0.0 if self._looked_at is None else min(max(now - self._looked_at, 0.0), MAX_STEP_S)
        self._looked_at = now
        self._loop_stood_s = self._loop_stood_s + step if publications == self._publications else 0.0
        self._process_stood_s = self._process_stood_s + step if beats == self._beats and not running else 0.0
        self._publications, self._beats = publications, beats
        if self._loop_stood_s >= self._stall_kill_s:
            return Verdict.STALLED
        if self._loop_stood_s and self._process_stood_s >= self._frozen_kill_s:
            return Verdict.FROZEN
        return Verdict.BLOCKED if self._loop_stood_s >= self._blocked_s else Verdict.ALIVE
