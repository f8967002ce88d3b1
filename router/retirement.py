"""How a router that is to go leaves its clients: one after the other, at an even rate.

A client that is told to go away comes back at once, to another router. All of them in the same second would be a
thundering herd for those routers and for the objects, so they are told in small steps.
"""

from __future__ import annotations

from collections import deque

from .connections import Connections
from .frames import GOING_AWAY

GONE = "the router is ending"
"""The reason that clients are given."""
_MAX_STEP_S = 0.1
"""Seconds of a step that count, so that a step that comes late is not a burst."""


class Retirement:
    """Closes all connections, oldest first.

    Args:
        connections: The connections.
        rate: How many are closed in a second.
        now: Seconds, monotonic.
    """

    __slots__ = ("_allowance", "_at", "_connections", "_left", "_rate")

    def __init__(self, connections: Connections, rate: float, now: float) -> None:
        self._connections = connections
        self._rate = rate
        self._at = now
        self._allowance = 0.0
        self._left: deque[int] = deque()

    def step(self, now: float) -> bool:
        """Close as many as are due; call it every few hundredths of a second.

        Returns:
            Whether every client has been told.
        """
        self._allowance += self._rate * min(now - self._at, _MAX_STEP_S)
        self._at = now
        if not self._left:
            # At first all; later those whose handshake was under way.
            self._left.extend(connection.number for connection in self._connections.all() if connection.writable)
        while self._left and self._allowance >= 1:
            connection = self._connections.get(self._left.popleft())
            if connection is not None and connection.writable:
                self._allowance -= 1
                connection.close_or_break_off(GOING_AWAY, GONE)
        self._allowance = min(self._allowance, 1.0)
        return not self._left and not any(connection.writable for connection in self._connections.all())
