"""Tells at once when a process of this machine has ended.

Members of a cluster on one machine share its process ids. A pid descriptor becomes readable when its process ends,
whoever its parent is. While there is no descriptor left for one, the watch is tried again every ``AGAIN_S``: until then
a death is noticed by the next cluster map only.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

AGAIN_S = 1.0
"""Seconds after which a process is tried again that could not be watched."""

log = logging.getLogger("roost.deaths")


class DeathWatch:
    """Watches processes on *loop*."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: dict[int, Callable[[], None]] = {}
        self._unwatched: dict[int, asyncio.TimerHandle] = {}  # by process

    def watch(self, pid: int, on_death: Callable[[], None]) -> None:
        """Have *on_death* called once, soon after the process has ended; soon, too, if there is no such process."""
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self._unwatched.pop(pid, None)
            self._loop.call_soon(on_death)
            return
        except OSError as error:
            if pid not in self._unwatched:
                log.error("process %d cannot be watched for now, its death would be noticed late: %s", pid, error)
            self._unwatched[pid] = self._loop.call_later(AGAIN_S, self.watch, pid, on_death)
            return
        self._unwatched.pop(pid, None)
        self._watched[descriptor] = on_death
        self._loop.add_reader(descriptor, self._died, descriptor)

    def _died(self, descriptor: int) -> None:
        on_death = self._watched.pop(descriptor)
        self._loop.remove_reader(descriptor)
        os.close(descriptor)
        on_death()

    def close(self) -> None:
        """Stop watching."""
        for timer in self._unwatched.values():
            timer.cancel()
        self._unwatched.clear()
        for descriptor in self._watched:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
        self._watched.clear()
