"""Proposing the maps by which released slots come to their next owners.

A write to the directory takes milliseconds, and seconds when the disk is in trouble, so it is done on a thread with a
connection of its own. Until it succeeds the slots rest: their sockets and what clients send wait at the routers.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

from ..common.cluster.cluster_map import handed_over
from ..common.cluster.directory_file import SqliteDirectory, update
from ..common.errors import DirectoryError
from ..common.ids import Incarnation, Slot
from ..common.machine.apart import apart

AGAIN_AFTER_S = 0.5
"""Seconds before a proposal that failed is made again."""

log = logging.getLogger("roost.shard")


class Handover:
    """The released slots of a shard that are to be handed over.

    Args:
        directory: The directory's file.
        cluster_id: The cluster whose directory it must be.
        incarnation: This shard's.
        room: Entered for a proposal, which needs descriptors.
        on_done: Called with the slots and the version of the map that holds since.
    """

    def __init__(
        self,
        directory: Path,
        cluster_id: int,
        incarnation: Incarnation,
        on_done: Callable[[Collection[Slot], int], None],
        room: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._path = directory
        self._cluster_id = cluster_id
        self._incarnation = incarnation
        self._on_done = on_done
        self._room = room
        self._slots: set[Slot] = set()
        self._context = contextvars.copy_context()
        self._task: asyncio.Task[None] | None = None

    def add(self, slots: Collection[Slot]) -> None:
        """Hand *slots* over; those of several calls together, if that is sooner."""
        self._slots.update(slots)
        if self._task is None:
            self._begin()

    def _begin(self) -> None:
        # In the runtime's own context: an object's code may just have ended, whose task this must not be.
        self._task = self._context.run(asyncio.get_running_loop().create_task, self._run())
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.critical("%d slots are not handed over before the next ones are", len(self._slots), exc_info=error)

    async def _run(self) -> None:
        try:
            while self._slots:
                slots = tuple(self._slots)
                version = await self._until_proposed(slots)
                self._slots.difference_update(slots)
                self._on_done(slots, version)
        finally:
            self._task = None  # here, not when the loop comes to tell: what is added next must find nobody at work

    async def _until_proposed(self, slots: Collection[Slot]) -> int:
        failing = False
        while True:
            try:
                version = await apart(self._propose, slots)
            except (DirectoryError, RuntimeError) as error:  # the latter: no thread is allowed now
                if not failing:
                    log.error("%d slots wait to be handed over: %s", len(slots), error)
                failing = True
                await asyncio.sleep(AGAIN_AFTER_S)
                continue
            if failing:
                log.warning("the directory can be written again")
            return version

    def _propose(self, slots: Collection[Slot]) -> int:
        with self._room():
            return self._propose_now(slots)

    def _propose_now(self, slots: Collection[Slot]) -> int:
        directory = SqliteDirectory(self._path, create=False, cluster_id=self._cluster_id)
        try:
            return update(directory, partial(handed_over, owner=self._incarnation, slots=slots)).version
        finally:
            directory.close()

    async def aclose(self) -> None:
        """Stop. What has not been handed over goes to its next owner once this shard is known to have ended."""
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
