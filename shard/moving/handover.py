"""Proposing the maps by which released slots come to their next owners.

Until a proposal succeeds the slots rest: their sockets and what clients send wait at the routers.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from ...common.cluster.cluster_map import handed_over
from ...common.cluster.directory import Directory, update
from ...common.errors import DirectoryError
from ...common.ids import Incarnation, Slot

AGAIN_AFTER_S = 0.5
"""Seconds before a proposal that failed is made again."""

log = logging.getLogger("roost.shard")


class Handover:
    """The released slots of a shard that are to be handed over.

    Args:
        directory: The directory.
        incarnation: This shard's.
        on_done: Called with the slots and the version of the map that holds since.
        room: Entered for a proposal, which may need descriptors.
    """

    def __init__(
        self,
        directory: Directory,
        incarnation: Incarnation,
        on_done: Callable[[Collection[Slot], int], None],
        room: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._directory = directory
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
            # Nobody awaits this task, and a shard that keeps what it has let go of serves it to nobody.
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"{len(self._slots)} slots are not handed over", "exception": error}
            )

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
        propose = partial(handed_over, owner=self._incarnation, slots=slots)
        failing = False
        while True:
            try:
                with self._room():
                    version = (await update(self._directory, propose)).version
            except DirectoryError as error:
                if not failing:
                    log.error("%d slots wait to be handed over: %s", len(slots), error)
                failing = True
                await asyncio.sleep(AGAIN_AFTER_S)
                continue
            if failing:
                log.warning("the directory can be written again")
            return version

    async def aclose(self) -> None:
        """Stop. What has not been handed over goes to its next owner once this shard is known to have ended."""
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
