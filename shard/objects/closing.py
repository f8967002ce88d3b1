"""Closing: how the life of an object's instance ends, whatever it ends for, in one order of stages.

========= ============================================== =============================================================
stage     what it means                                  which ends of a life have it
========= ============================================== =============================================================
lets run  nothing new starts, what runs may end          a move (``release``), the end of the shard (``Host.aclose``):
                                                         each has a time for that
asks      each handler and task is cancelled once, then  all that find something running; ``LAST_STEPS_S``
          left alone: it may wait in a ``finally``, to
          save something, say
insists   what has not ended is cancelled once more      a reset and its like; ``AGAIN_S``
over      what its code asks of the runtime raises       all; a reset and its like from the beginning
          (``life``), and what it has left with the
          loop does not come
stopped   none of its code takes another step            all
closed    what the instance holds is closed, which may   all
          take time (``Activation.at_close``)
========= ============================================== =============================================================

Only then the object's next life begins, here or elsewhere: there are never two at a time. So the object has the life as
its ``former`` one until then; its slot is not released before, and no process ends. A life of which nothing runs and
that holds nothing, such as most that fall asleep, goes through all stages in one call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

from ...common.errors import LifeOver, ObjectGone, ObjectReset
from ..running.reasons import Reason
from ..running.tasks import cancel

if TYPE_CHECKING:
    from ..running.own_loop import OwnLoop
    from ..running.runner import Runner
    from .activation import Activation

LAST_STEPS_S = 1.0
"""Seconds that cancelled handlers and tasks have to end."""
AGAIN_S = 0.25
"""Seconds between two looks for what has begun since and has to be cancelled, and from the last one to the end."""

log = logging.getLogger("roost.shard")


class How(Enum):
    """What a life ends for. The value is what code of it hears that goes on in spite of that."""

    SLEEPS = "the object has fallen asleep since, and this is code of its former life"
    """The object is idle. Nothing runs."""
    RESET = f"{Reason.RESET.value}, and this is code of its former life"
    """It has called ``abort``, or code of it has failed that the life depends on."""
    FAILED = "the object could not be constructed"
    """Its constructor has raised."""
    MOVES = "the object has moved to another process since, and this is code of its former life"
    """Another shard has the object from now on."""

    @property
    def over(self) -> LifeOver:
        """What code of the life gets to hear."""
        return ObjectReset(self.value) if self is How.RESET else ObjectGone(self.value)


class Closings:
    """The lives of a shard's objects that close.

    Args:
        loop: The runtime's loop.
        runner: Knows what runs.
    """

    def __init__(self, loop: OwnLoop, runner: Runner[Any]) -> None:
        self._loop = loop
        self._runner = runner
        self._tasks: dict[Activation, asyncio.Task[None]] = {}
        self._waiting: dict[Activation, asyncio.Future[None]] = {}
        self._is_closed = False

    def close(self, life: Activation, how: How) -> None:
        """*life* is over: let it go through all stages that are left."""
        life.close(how.over)
        self.end(life)

    def end(self, life: Activation) -> None:
        """End the code of *life*, which is over; also of one that goes on in spite of that."""
        if life in self._tasks:
            return
        if life.has_ended:
            if self._runs(life):
                return  # its handler, which has caused this, ends (``look_at``), or comes here again when it waits
            if life.closers is None:
                life.stop()
                return
        life.owner.former = life
        life.ask_to_end(Reason.RESET)
        self._tasks[life] = task = self._loop.create_task(self._run(life))
        task.add_done_callback(partial(self._gone, life), context=self._loop.context)

    def look_at(self, life: Activation) -> None:
        """A handler or a task of *life*, which is over, has ended."""
        if life.has_ended and not life.stopped:
            self.end(life)
            self._wake(life)

    def stop(self, life: Activation) -> None:
        """None of the code of *life*, which is over, takes another step."""
        for job in list(life.jobs):
            job.give_up(job.cancelled_for or Reason.RESET)
        life.stop()
        self._wake(life)

    # --- the stages ---

    async def _run(self, life: Activation) -> None:
        until = self._loop.now() + LAST_STEPS_S
        while (left := until - self._loop.now()) > 0 and not await self._has_ended(life, min(AGAIN_S, left)):
            if self._loop.now() < until:
                life.ask_to_end(Reason.RESET)  # for what has begun since
        if not life.has_ended:
            life.insist(Reason.RESET)
            if not await self._has_ended(life, AGAIN_S):
                log.error("%s: code of a former life goes on in spite of being cancelled, and is stopped", life.label)
        self.stop(life)
        for closer in life.take_closers():
            await closer()

    def _gone(self, life: Activation, task: asyncio.Task[None]) -> None:
        del self._tasks[life]
        if task.cancelled() or self._is_closed:
            return
        error = task.exception()
        if error is not None:
            raise error  # of our own: the loop's exception handler ends the process
        life.owner.former_has_gone(life)

    async def _has_ended(self, life: Activation, within_s: float) -> bool:
        if not life.has_ended:
            self._waiting[life] = self._loop.create_future()
            timer = self._loop.call_later(within_s, partial(self._wake, life))
            try:
                await self._waiting[life]
            finally:
                del self._waiting[life]
                timer.cancel()
        return life.has_ended

    def _wake(self, life: Activation) -> None:
        waiting = self._waiting.get(life)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _runs(self, life: Activation) -> bool:
        job = self._runner.running
        return job is not None and job.activation is life

    # --- the end of the shard ---

    async def aclose(self, lives: Iterable[Activation]) -> None:
        """The shard ends: no code of *lives* takes another step, and what they hold is closed, within reason.

        Events whose handlers end by this are not acknowledged, and requests are not answered.
        """
        self._is_closed = True
        for life in lives:
            for job in life.jobs:
                job.stopped = True
                assert job.task is not None
                cancel(job.task)
            life.stop()
            self._wake(life)
            if life.closers is not None and life not in self._tasks:
                self._tasks[life] = task = self._loop.create_task(self._run(life))
                task.add_done_callback(partial(self._gone, life), context=self._loop.context)
        tasks = list(self._tasks.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=LAST_STEPS_S)
            for task in late:
                task.cancel()
