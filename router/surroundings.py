"""What the connections of a router share, and what each needs of its transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from typing import Protocol as Interface

from .auto_response import Reports
from .connections import Connections
from .counters import RouterCounters
from .objects import Objects
from .timers import Wheel

if TYPE_CHECKING:
    from .connection import Connection


class Transport(Interface):
    """What a connection needs of its TCP transport (asyncio's, or a test's)."""

    def write(self, data: bytes) -> None: ...
    def write_eof(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class Surroundings:
    """What all connections of a router share.

    Args:
        counters: The router's counters; ``window_bytes`` among them is the bound of all windows together.
        wheel: The timer wheel.
        reports: Where the times of automatic responses are noted.
        connections: The table of connections.
        objects: The table of objects.
        wall: Unix time, seconds.
        ping_after: Ticks of silence before a ping.
        ping_timeout: Ticks for an answer.
        close_timeout: Ticks for a closing to come to its end.
        send_buffer_bytes: What may wait for one client.

    Attributes:
        stopped: Connections that wait for something else than their own window, by counter.
    """

    __slots__ = (
        "close_timeout",
        "connections",
        "counters",
        "objects",
        "ping_after",
        "ping_timeout",
        "reports",
        "send_buffer_bytes",
        "stopped",
        "wall",
        "wheel",
    )

    def __init__(
        self,
        *,
        counters: RouterCounters,
        wheel: Wheel,
        reports: Reports,
        connections: Connections,
        objects: Objects,
        wall: Callable[[], float],
        ping_after: int,
        ping_timeout: int,
        close_timeout: int,
        send_buffer_bytes: int,
    ) -> None:
        self.counters = counters
        self.wheel = wheel
        self.reports = reports
        self.connections = connections
        self.objects = objects
        self.wall = wall
        self.ping_after = ping_after
        self.ping_timeout = ping_timeout
        self.close_timeout = close_timeout
        self.send_buffer_bytes = send_buffer_bytes
        self.stopped: dict[int, Connection] = {}

    def go_on(self) -> None:
        """Something that stopped connections may have passed: try each of them again."""
        if self.stopped:
            stopped, self.stopped = self.stopped, {}
            for connection in stopped.values():
                connection.go_on()
