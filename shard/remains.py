"""What remains of lives that are over: handlers and tasks that have been cancelled and have not ended.

Most end when they are cancelled. Some wait in a ``finally``, to save something, say: each is cancelled once and then
left alone for ``LAST_STEPS_S``. Some catch everything: what has not ended by then is cancelled once more, and
``AGAIN_S`` later it is stopped: it never takes another step, whatever it waits for. Their object begins its next life
after that, so that there are never two at a time. What they ask of the runtime meanwhile raises (see ``life``).
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from .activation import Activation
from .reasons import Reason
from .release import LAST_STEPS_S
from .tasks import cancel

if TYPE_CHECKING:
    from .jobs import Job
    from .own_loop import OwnLoop
    from .runner import Runner

AGAIN_S = 0.25
"""Seconds between two looks for what has begun since and has to be cancelled, and from the last one to the end."""

log = logging.getLogger("roost.shard")


class Remains:
    """The lives of a shard's objects that are over and whose code has not ended.

    Args:
        loop: The runtime's loop.
        runner: Knows what runs.
    """

    def __init__(self, loop: OwnLoop, runner: Runner[Job]) -> None:
        self._loop = loop
        self._runner = runner
        self._timers: dict[Activation, asyncio.TimerHandle] = {}

    def add(self, life: Activation) -> None:
        """*life* is over: end its code. The object's next life waits for that, if it does not end at once."""
        if life in self._timers:
            return
        if not life.has_ended:
            life.owner.former = life
            self._cancel(life)
            until = self._loop.now() + LAST_STEPS_S
            self._timers[life] = self._loop.call_later(AGAIN_S, partial(self._again, life, until))
        elif not self._runs(life):
            life.stop()
        # else it stops when its handler, which has caused this, ends; and comes here again if that waits instead

    def _runs(self, life: Activation) -> bool:
        job = self._runner.running
        return job is not None and job.activation is life

    def _cancel(self, life: Activation) -> None:
        """Cancel what has not been, by anybody."""
        for job in list(life.jobs):
            if job is self._runner.running:
                self._loop.call_soon(job.cancel, Reason.RESET)  # it cannot be now, and may wait once more
            elif job.cancelled_for is None:
                job.cancel(Reason.RESET)
        life.ask_tasks_to_end()

    def _again(self, life: Activation, until: float) -> None:
        left = until - self._loop.now()
        if left > 0:
            self._cancel(life)
            self._timers[life] = self._loop.call_later(min(AGAIN_S, left), partial(self._again, life, until))
            return
        for job in list(life.jobs):
            job.cancel(Reason.RESET)
        for task in life.tasks:
            cancel(task)
        self._timers[life] = self._loop.call_later(AGAIN_S, partial(self._end, life))

    def _end(self, life: Activation) -> None:
        log.error("%s: code of a former life goes on in spite of being cancelled, and is stopped", life.owner.label)
        self.stop(life)

    def stop(self, life: Activation) -> None:
        """End the code of *life*, which is over, here and now."""
        for job in list(life.jobs):
            job.give_up(job.cancelled_for or Reason.RESET)
        self._gone(life)

    def look_at(self, life: Activation) -> None:
        """A handler or a task of *life*, which is over, has ended."""
        if life.has_ended and not life.stopped:
            self._gone(life)

    def _gone(self, life: Activation) -> None:
        timer = self._timers.pop(life, None)
        if timer is not None:
            timer.cancel()
        life.stop()
        if life.owner.former is life:
            self._loop.call_soon(life.owner.former_has_gone, life)
