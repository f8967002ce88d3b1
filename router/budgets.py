"""The bounds of a router: what its clients take from all, each as a budget that the counter of its figure reads."""

from __future__ import annotations

from ..common.budget import Budget
from ..common.limits import (
    MAX_AHEAD_BYTES,
    MAX_BODIES_IN_FLIGHT_BYTES,
    MAX_HANDSHAKES_IN_FLIGHT,
    MAX_HEADS_BYTES,
    MAX_HTTP_CONNECTIONS,
    ROUTER_SEND_BUFFERS_BYTES,
    ROUTER_WINDOWS_BYTES,
)
from .counters import RouterCounters


class Budgets:
    """Those of one router.

    Args:
        counters: Its counters, which read them.
        all_windows_bytes: Bound of all messages of clients together: three quarters for windows, a quarter for what is
            in none yet.
        all_send_buffers_bytes: Bound of what waits for slow clients.

    Attributes:
        windows: Bytes of messages that are not acknowledged (``window``).
        unfinished: Bytes of messages that have begun to come, or wait for their window (``unfinished``).
        send_buffers: Bytes that wait for clients (``send_buffers``).
        bodies: Bytes of request bodies (``bodies``).
        heads: Bytes of requests beside their bodies, and of what has come and is not parsed.
        ahead: Bytes that clients have sent ahead of answers.
        handshakes: Requests whose head has begun and is not complete, and upgrades that are not answered.
        http_connections: TCP connections that have not become WebSockets.
    """

    __slots__ = (
        "ahead",
        "bodies",
        "handshakes",
        "heads",
        "http_connections",
        "send_buffers",
        "unfinished",
        "windows",
    )

    def __init__(
        self,
        counters: RouterCounters,
        *,
        all_windows_bytes: int = ROUTER_WINDOWS_BYTES,
        all_send_buffers_bytes: int = ROUTER_SEND_BUFFERS_BYTES,
    ) -> None:
        self.unfinished = Budget(all_windows_bytes // 4)
        self.windows = Budget(all_windows_bytes - self.unfinished.limit)
        self.send_buffers = Budget(all_send_buffers_bytes)
        self.bodies = Budget(MAX_BODIES_IN_FLIGHT_BYTES)
        self.heads = Budget(MAX_HEADS_BYTES)
        self.ahead = Budget(MAX_AHEAD_BYTES)
        self.handshakes = Budget(MAX_HANDSHAKES_IN_FLIGHT)
        self.http_connections = Budget(MAX_HTTP_CONNECTIONS)
        counters.read(
            window_bytes=self.windows,
            unfinished_bytes=self.unfinished,
            send_buffer_bytes=self.send_buffers,
            body_bytes=self.bodies,
            head_bytes=self.heads,
            ahead_bytes=self.ahead,
            handshakes_in_flight=self.handshakes,
            http_connections=self.http_connections,
        )

    @property
    def waiting_input(self) -> int:
        """Bytes that were read from clients and wait to be taken, bodies aside."""
        return self.unfinished.taken + self.heads.taken + self.ahead.taken

    @property
    def held_bytes(self) -> int:
        """Bytes of clients that this router holds."""
        each = (self.windows, self.unfinished, self.bodies, self.send_buffers, self.heads)
        return sum(budget.taken for budget in each)
