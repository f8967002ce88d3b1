"""What the supervisor sees of the members without asking them: their counters, their rates, whether they live."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ...common.errors import WireError
from ...common.machine.counters import Figure, Reading, read_counters
from ...common.machine.liveness import Liveness, Verdict
from ...common.machine.run_folder import counters_path
from ..plan.post import Post, PostState
from ..processes.run_folder import forget
from ..report.status import FAILED_CONSTRUCTIONS, Rates

log = logging.getLogger("roost.supervisor")


class Observation:
    """Readings of all members' counter files.

    Args:
        run: The run folder.
        stall_kill_s: Seconds that a loop may stand still.
        is_running: Whether a process is on a processor (``processes.is_running``).
    """

    def __init__(self, run: Path, *, stall_kill_s: float, is_running: Callable[[int], bool]) -> None:
        self._run = run
        self._stall_kill_s = stall_kill_s
        self._is_running = is_running
        self._readings: dict[str, Reading] = {}
        self._rates: dict[str, Rates] = {}
        self._liveness: dict[str, tuple[int, Liveness]] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._unreadable: set[str] = set()
        self._unseen: set[str] = set()  # whose last reading is an old one
        self._failed_at: dict[str, float] = {}

    @property
    def readings(self) -> Mapping[str, Reading]:
        """The last reading of each member, dead ones included; a copy."""
        return dict(self._readings)

    @property
    def figures(self) -> dict[str, Figure]:
        """What each counter is that some member has published."""
        return {name: figure for reading in self._readings.values() for name, figure in reading.figures.items()}

    def read(self, posts: Iterable[Post], now: float) -> None:
        """Read every member's counters. One whose counters are not found is not judged until they are again."""
        for post in posts:
            try:
                reading = read_counters(counters_path(self._run, post.name))
            except FileNotFoundError:
                self._unseen.add(post.name)
                self._rates.pop(post.name, None)  # or a dead one would go on at its last rate
                continue
            except (OSError, WireError) as error:
                if post.name not in self._unreadable:
                    log.warning("the counters of %s cannot be read: %s", post.name, error)
                self._unreadable.add(post.name)
                self._unseen.add(post.name)
                continue
            self._unseen.discard(post.name)
            self._unreadable.discard(post.name)
            before = self._readings.get(post.name)
            failed = (
                before.values.get(FAILED_CONSTRUCTIONS, 0) if before is not None and before.pid == reading.pid else 0
            )
            # Those of the first reading may be from just before.
            if reading.values.get(FAILED_CONSTRUCTIONS, 0) > failed:
                self._failed_at[post.name] = now
            self._readings[post.name] = reading
            self._rates.setdefault(post.name, Rates()).add(now, reading.pid, reading.totals)

    def judge(self, posts: Iterable[Post], now: float) -> list[tuple[Post, Verdict]]:
        """Judge by the last readings who lives; about once a second.

        Returns:
            The members that are to be killed, with the reason.
        """
        fatal = []
        for post in posts:
            reading = self._readings.get(post.name)
            # One that starts or ends has a deadline of its own.
            if (
                post.state is not PostState.READY
                or reading is None
                or reading.pid != post.pid
                or post.name in self._unseen
            ):
                self._liveness.pop(post.name, None)
                self._verdicts.pop(post.name, None)
                continue
            pid, liveness = self._liveness.get(post.name, (0, None))
            if liveness is None or pid != post.pid:
                liveness = Liveness(stall_kill_s=self._stall_kill_s)
                self._liveness[post.name] = (post.pid, liveness)
            before = self._verdicts.get(post.name, Verdict.ALIVE)
            verdict = liveness.observe(now, reading.publications, reading.beats, self._is_running(post.pid))
            self._verdicts[post.name] = verdict
            if verdict is Verdict.BLOCKED and before is Verdict.ALIVE:
                log.warning("%s does not get on: its loop stands still", post.name)
            if verdict.is_fatal:
                fatal.append((post, verdict))
        return fatal

    def condition(self, post: Post) -> Verdict:
        """What was thought of a member last."""
        return self._verdicts.get(post.name, Verdict.ALIVE)

    def reading(self, post: Post) -> Reading | None:
        """What the post's present process has counted."""
        reading = self._readings.get(post.name)
        return reading if reading is not None and reading.pid == post.pid else None

    def rates(self, post: Post) -> Mapping[str, float]:
        """How fast it counts, a second."""
        rates = self._rates.get(post.name)
        return rates.per_second() if rates is not None else {}

    def has_failed(self, post: Post, since: float) -> bool:
        """Whether a constructor has raised at the post, or may have, since that time."""
        return self._failed_at.get(post.name, -math.inf) >= since

    def forget(self, post: Post) -> None:
        """A post is given up; its figures go, its file as well."""
        for held in (self._readings, self._rates, self._liveness, self._verdicts, self._failed_at):
            held.pop(post.name, None)
        self._unseen.discard(post.name)
        forget(self._run, post.name)
