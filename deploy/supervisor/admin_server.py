"""The HTTP server of the admin API, which every program and every web page on this machine may connect to.

So what a connection may cost the supervisor has bounds, whoever it is: a head of ``MAX_HEAD_BYTES``, one request at a
time with those behind it unread, ``EXCHANGE_S`` until a request has come and its response has gone out, and
``MAX_CONNECTIONS`` connections, of which the oldest goes that no request of is being answered. The supervisor needs
its descriptors to start members again.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 64
"""Connections at a time, and as many that wait to be accepted."""
MAX_HEAD_BYTES = 16 << 10
"""Bytes of a request's line and headers."""
EXCHANGE_S = 10.0
"""Seconds from the beginning of a connection, or from its last response, until the next response is taken whole."""


class AdminConnection(H11Protocol):
    """One connection. Its parser is h11: that of httptools takes heads and pipelines without a bound."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._arm()
        self._make_room()

    def _make_room(self) -> None:
        """Keep to ``MAX_CONNECTIONS``: end the oldest without a request, or else this one."""
        others = [each for each in self.connections if isinstance(each, AdminConnection)]
        if len(others) <= MAX_CONNECTIONS:
            return
        idle = [each for each in others if each is not self and (each.cycle is None or each.cycle.response_complete)]
        victim = min(idle, key=AdminConnection.ends_at, default=self)
        victim.connections.discard(victim)  # its end is under way
        victim.transport.abort()

    def ends_at(self) -> float:
        """When its deadline is: the sooner, the older its last sign of life."""
        return self._deadline.when() if self._deadline is not None else 0.0

    def on_response_complete(self) -> None:
        """A response is written: as long again for the client to take it, and to send another request."""
        self._arm()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """TCP has ended."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        super().connection_lost(exc)

    def _arm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(EXCHANGE_S, self.transport.abort)


class AdminServer(uvicorn.Server):
    """A uvicorn that serves one socket within another program: signals stay that program's.

    Args:
        app: What it serves.
    """

    def __init__(self, app: ASGIApp) -> None:
        settings: dict[str, Any] = {"lifespan": "off", "ws": "none", "timeout_graceful_shutdown": 1}
        # Its warnings are about requests that make no sense: whoever likes could fill the log with them.
        settings |= {"log_config": None, "log_level": "error", "access_log": False}
        super().__init__(
            uvicorn.Config(
                app,
                http=AdminConnection,
                h11_max_incomplete_event_size=MAX_HEAD_BYTES,
                backlog=MAX_CONNECTIONS,
                **settings,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def run_on(self, listening: socket.socket) -> None:
        """Serve until ``should_exit`` is set."""
        await self.serve(sockets=[listening])
