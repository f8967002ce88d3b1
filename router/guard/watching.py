"""Keeps watch over the other members while no supervisor lives: the shell of ``judging``.

One task looks about once a second whether a supervisor lives. If none does, it looks at the members and does what
``judging`` decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from ...common.cluster.cluster_map import ClusterMap, Member, without_dead
from ...common.cluster.directory import Directory, update
from ...common.cluster.neighbours import Neighbours
from ...common.errors import DirectoryError
from ...common.ids import Incarnation
from ...common.runtime.clock import Clock
from .judging import Guard

log = logging.getLogger("roost.router")

LOOK_INTERVAL_S = 1.0
"""Seconds between two looks (design: a loop that stands still is noticed after one second)."""


class GuardWatch:
    """Looks, and acts.

    Args:
        guard: Decides.
        me: This router.
        directory: The directory that is to be changed.
        neighbours: The other members.
        clock: Monotonic time.
    """

    def __init__(
        self, guard: Guard, me: Incarnation, *, directory: Directory, neighbours: Neighbours, clock: Clock
    ) -> None:
        self._guard = guard
        self._me = me
        self._directory = directory
        self._neighbours = neighbours
        self._clock = clock
        self._map = ClusterMap()
        self._task: asyncio.Task[None] | None = None
        self._guarding = False
        self._failing = False

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
        """Stop watching. What a thread has begun comes to its end, nothing else is begun."""
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
        guarding = not self._neighbours.is_supervised()
        if guarding != self._guarding:
            self._guarding = guarding
            log.warning("no supervisor lives: watching the others" if guarding else "a supervisor lives again")
        if guarding:
            await self._look(self._map)
        else:
            self._guard.rest()

    async def _look(self, current: ClusterMap) -> None:
        others = [member for key, member in current.members.items() if key != self._me]
        findings = self._guard.look(self._clock.now(), current, await self._neighbours.look(others))
        for member, reason in findings.kill:
            log.error("%s is %s: killed", member.name, reason)
            if not await self._neighbours.fence(member):
                log.error("%s (process %d) was killed and has not ended yet", member.name, member.pid)
        for member in findings.remove:
            await self._remove(member)

    async def _remove(self, dead: Member) -> None:
        changed = False

        def change(current: ClusterMap) -> ClusterMap | None:
            nonlocal changed
            new = without_dead(current, dead.incarnation)
            changed = new is not None
            return new

        version = (await update(self._directory, change)).version
        if changed:
            log.warning("%s is dead: map %d does without it", dead.name, version)
