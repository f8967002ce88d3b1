"""Keeps watch over the other members while no supervisor lives: the shell of ``judging``.

One task looks about once a second whether somebody holds the supervisor's lock. If nobody does, it looks at the members
and does what ``judging`` decides. A thread reads the files and waits for a killed process to be gone, which may take
seconds: the loop has clients to serve.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from ...common.cluster.cluster_map import ClusterMap, Member
from ...common.cluster.directory import Directory, update
from ...common.errors import DirectoryError, WireError
from ...common.ids import Incarnation
from ...common.machine.counters import read_counters
from ...common.runtime.clock import Clock
from ...common.runtime.processes import is_running, kill_member
from ...common.runtime.startup import holder_of, is_holder
from .judging import Guard, Sight, map_without

log = logging.getLogger("roost.router")

LOOK_INTERVAL_S = 1.0
"""Seconds between two looks (design: a loop that stands still is noticed after one second)."""
SUPERVISOR = "supervisor"
"""The name that a supervisor holds in the run folder."""


class GuardWatch:
    """Looks, and acts.

    Args:
        guard: Decides.
        me: This router.
        directory: The directory that is to be changed.
        run: The run folder.
        clock: Monotonic time.
    """

    def __init__(self, guard: Guard, me: Incarnation, *, directory: Directory, run: Path, clock: Clock) -> None:
        self._guard = guard
        self._me = me
        self._directory = directory
        self._run = run
        self._clock = clock
        self._map = ClusterMap()
        self._task: asyncio.Task[None] | None = None
        self._guarding = False
        self._supervisor = 0
        self._failing = False
        self._closing = False

    def take_map(self, new: ClusterMap) -> None:
        """Follow a new cluster map."""
        self._map = new

    def start(self) -> None:
        """Begin to watch, until ``aclose``."""
        self._task = asyncio.get_running_loop().create_task(self._watch(), name="guard")
        self._task.add_done_callback(self._ended)

    @staticmethod
    def _ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.critical("nobody watches the other members any more", exc_info=task.exception())

    async def aclose(self) -> None:
        """Stop watching. A step that the thread has begun comes to its end, the next one is not begun."""
        self._closing = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            try:
                await self._step()
            except Exception as error:
                # Whatever it is (a full disk, no descriptor, no thread): it must not be the end of watching.
                if not self._failing:
                    known = isinstance(error, DirectoryError | OSError)
                    log.error(
                        "the other members cannot be watched, trying again: %s",
                        error,
                        exc_info=None if known else error,
                    )
                self._failing = True
            else:
                self._failing = False

    async def _step(self) -> None:
        holder = holder_of(self._run, SUPERVISOR)
        # One whose lock was tidied away puts it back within a second.
        self._supervisor = holder or (self._supervisor if is_holder(self._run, SUPERVISOR, self._supervisor) else 0)
        guarding = holder is None and not self._supervisor
        if guarding != self._guarding:
            self._guarding = guarding
            log.warning("no supervisor lives: watching the others" if guarding else "a supervisor lives again")
        if guarding:
            for dead in await asyncio.to_thread(self._look, self._map):
                if not self._closing:
                    await self._remove(dead)
        else:
            self._guard.rest()

    # --- in the thread ---

    def _look(self, current: ClusterMap) -> tuple[Member, ...]:
        """Look at the members, and kill those who do not work; returns those who are dead."""
        sights = {key: self._see(member) for key, member in current.members.items() if key != self._me}
        findings = self._guard.look(self._clock.now(), current, sights)
        for member, reason in findings.kill:
            if self._closing:
                break
            log.error("%s is %s: killed", member.name, reason)
            if not kill_member(self._run, member.name, member.pid):
                log.error("%s (process %d) was killed and has not ended yet", member.name, member.pid)
        return findings.remove

    def _see(self, member: Member) -> Sight:
        if not is_holder(self._run, member.name, member.pid):
            return Sight(False)
        try:
            reading = read_counters(self._run / f"{member.name}.counters")
        except (OSError, WireError):
            return Sight(True)  # nothing that could be judged, which is no sign of death
        if reading.pid != member.pid:
            return Sight(True)
        return Sight(True, (reading.publications, reading.beats), is_running(member.pid))

    async def _remove(self, dead: Member) -> None:
        changed = False

        def change(current: ClusterMap) -> ClusterMap | None:
            nonlocal changed
            new = map_without(current, dead)
            changed = new is not None
            return new

        version = (await update(self._directory, change)).version
        if changed:
            log.warning("%s is dead: map %d does without it", dead.name, version)
