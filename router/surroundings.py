"""What the connections of a router share, and what each needs of its transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from typing import Protocol as Interface

from ..common.limits import ROUTER_SEND_BUFFERS_BYTES, ROUTER_WINDOWS_BYTES, WINDOW_BYTES
from .auto_response import Reports
from .connections import Connections
from .counters import RouterCounters
from .defects import Defects
from .objects import Objects
from .send_buffers import SendBuffers
from .tcp import output_of
from .timers import Wheel
from .unfinished import Unfinished

if TYPE_CHECKING:
    from .connection import Connection


class Transport(Interface):
    """What a connection needs of its TCP transport (asyncio's, or a test's)."""

    def get_extra_info(self, name: str) -> Any: ...
    def write(self, data: bytes | memoryview) -> None: ...
    def write_eof(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
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
        send_buffer_bytes: What may wait here for one client.
        all_send_buffers_bytes: What may wait here for all clients together.
        stall_timeout: Ticks for which a client may take nothing of what waits for it.
        least_rate: Bytes a second that it must take over that time; 0: any byte will do.
        output_of: Tells how far a client has come with its output, of its transport.
        all_windows_bytes: Bound of all messages of clients together: three quarters for windows, a quarter for what is
            in none yet.

    Attributes:
        defects: Where errors of our own code are counted and logged.
        send_buffers: What waits for slow clients.
        unfinished: Messages that have begun to come.
        stopped: Connections that wait for something else than their own window, by counter.
        are_full: The bound of all windows has stopped somebody, who is to be tried again.
        windows_half: Half of what all windows may hold: up to that each connection may fill its own.
    """

    __slots__ = (
        "_windows_bound",
        "are_full",
        "close_timeout",
        "connections",
        "counters",
        "defects",
        "objects",
        "output_of",
        "ping_after",
        "ping_timeout",
        "reports",
        "send_buffers",
        "stopped",
        "unfinished",
        "wall",
        "wheel",
        "windows_half",
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
        stall_timeout: int,
        least_rate: int = 0,
        output_of: Callable[[Any], tuple[int, int]] = output_of,
        all_send_buffers_bytes: int = ROUTER_SEND_BUFFERS_BYTES,
        all_windows_bytes: int = ROUTER_WINDOWS_BYTES,
    ) -> None:
        self.counters = counters
        self.defects = Defects(counters)
        self.wheel = wheel
        self.reports = reports
        self.connections = connections
        self.objects = objects
        self.wall = wall
        self.ping_after = ping_after
        self.ping_timeout = ping_timeout
        self.close_timeout = close_timeout
        self.output_of = output_of
        self.send_buffers = SendBuffers(
            send_buffer_bytes,
            all_send_buffers_bytes,
            patience=stall_timeout,
            least_rate=least_rate,
            output_of=output_of,
        )
        self.stopped: dict[int, Connection] = {}
        self.unfinished = Unfinished(all_windows_bytes // 4, counters, wheel)
        self._windows_bound = all_windows_bytes - all_windows_bytes // 4
        self.windows_half = self._windows_bound // 2
        self.are_full = False

    def window_share(self) -> int:
        """Bytes that the window of one connection may hold when all together hold more than ``windows_half``.

        The other half is shared out evenly, so that a connection that holds little goes on, while those that have
        brought it so far are not read until they have less. Even if all use their share, that is no more than the
        bound; what is beyond it in spite of that (a window that was empty admits one message of any size) stops
        everybody: then the answer is 0.
        """
        counters = self.counters
        if counters.window_bytes >= self._windows_bound:
            self.are_full = True
            return 0
        return max(1, min(WINDOW_BYTES, self.windows_half // (counters.connections or 1)))

    def relieved(self) -> None:
        """Windows have got room. If their bound had stopped everybody, and half of it is free, all are tried again."""
        if self.counters.window_bytes <= self.windows_half:
            self.are_full = False
            self.go_on()

    def go_on(self) -> None:
        """Something that stopped connections may have passed: try each of them again."""
        if self.stopped:
            stopped, self.stopped = self.stopped, {}
            for connection in stopped.values():
                try:
                    connection.go_on()
                except Exception as error:
                    connection.break_off(error)
