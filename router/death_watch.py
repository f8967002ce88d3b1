"""Tells at once when a process of this machine has ended.

Members of a cluster on one machine share its process ids. A pid descriptor becomes readable when its process ends,
whoever its parent is. Where the system has none (before Linux 5.3, other systems) nothing is told, and a death is
noticed by the next cluster map.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable


class DeathWatch:
    """Watches processes on *loop*."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: dict[int, Callable[[], None]] = {}

    def watch(self, pid: int, on_death: Callable[[], None]) -> None:
        """Have *on_death* called once, soon after the process has ended; soon, too, if there is no such process."""
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self._loop.call_soon(on_death)
            return
        except (AttributeError, OSError):
            return
        self._watched[descriptor] = on_death
        self._loop.add_reader(descriptor, self._died, descriptor)

    def _died(self, descriptor: int) -> None:
        on_death = self._watched.pop(descriptor)
        self._loop.remove_reader(descriptor)
        os.close(descriptor)
        on_death()

    def close(self) -> None:
        """Stop watching."""
        for descriptor in self._watched:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
        self._watched.clear()
