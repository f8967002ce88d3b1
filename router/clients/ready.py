"""Sockets of clients that the router looks at itself, for a slice of each turn of the loop.

The loop (libuv's) hands out all that is ready before it comes round: it asks the system for 1,024 events, and again up
to 48 times a turn as long as there are as many. When thousands of clients send something in one moment, or end, as when
a program ends that has thousands of sockets, they come in one turn, at 6 to 25 µs each: 45 ms for 7,500 ends. No
callback can stop that, since the cost is that of the call. So the loop looks at ``CLIENTS_OF_THE_LOOP`` sockets only.
All others are in an epoll of ours, which is one descriptor for the loop, and a turn takes from that what fits into
``READY_S``. The others stay ready; the system hands them out in turn, so that nobody has to wait for more than a round.

Clients that do not take their output are looked at here as well, however few they are.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Protocol

READY_S = 0.001
"""Seconds of a turn."""
AT_ONCE = 16
"""Sockets between two looks at the clock: of some 10 µs each, or 100 if they have, or take, a quarter of a megabyte."""
IN, OUT = int(select.EPOLLIN), int(select.EPOLLOUT)


class Watcher(Protocol):
    """Whose socket is looked at."""

    def on_ready(self, events: int) -> None:
        """The socket has something (``IN``), or room (``OUT``), or has failed: any other bit. Raises nothing."""
        ...


class Ready:
    """The sockets of one router that the loop does not look at.

    Args:
        now: Seconds, monotonic.

    Attributes:
        loops: How many clients the loop looks at by itself.
    """

    __slots__ = ("_epoll", "_loop", "_now", "_watchers", "loops")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._epoll = select.epoll()
        self._watchers: dict[int, Watcher] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.loops = 0

    def __len__(self) -> int:
        """How many sockets are looked at."""
        return len(self._watchers)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at them in each turn of *loop* from now on."""
        self._loop = loop
        loop.add_reader(self._epoll.fileno(), self.turn)

    def close(self) -> None:
        """Look at nobody any more."""
        if self._loop is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._loop = None
        self._epoll.close()
        self._watchers.clear()

    def change(self, descriptor: int, watcher: Watcher, before: int, events: int) -> None:
        """Look at a socket for something else; at once.

        Args:
            descriptor: Its number.
            watcher: Who is told.
            before: ``IN`` and ``OUT``, as it was looked at up to now; 0 if it was not.
            events: The same for what comes.

        Raises:
            OSError: The system has no memory left for it.
        """
        if self._epoll.closed:
            return
        if not before:
            self._epoll.register(descriptor, events)
            self._watchers[descriptor] = watcher
        elif events:
            self._epoll.modify(descriptor, events)
        else:
            del self._watchers[descriptor]
            self._epoll.unregister(descriptor)

    def turn(self) -> None:
        """Tell those that are ready, for one turn of the loop."""
        poll, watchers, now = self._epoll.poll, self._watchers, self._now
        until = now() + READY_S
        while True:
            ready = poll(0, AT_ONCE)
            for descriptor, events in ready:
                watcher = watchers.get(descriptor)
                if watcher is not None:  # else one before it has ended it
                    watcher.on_ready(events)
            if len(ready) < AT_ONCE or now() >= until:
                return
