"""How a router that is to go leaves its clients: one after the other, at an even rate.

A client that is told to go away comes back at once, to another router. All of them in the same second would be a
thundering herd for those routers and for the objects, so they are told in small steps.
"""

from __future__ import annotations

from collections import deque
from typing import Generic

from ...common.close_codes import GOING_AWAY
from .client import C
from .connections import Connections

GONE = "the router is ending"
"""The reason that clients are given."""
_MAX_STEP_S = 0.1
"""Seconds of a step that count, so that a step that comes late is not a burst."""
_MOST_A_STEP = 512
"""Connections closed in a step, whatever the rate: some 5 ms."""
_LOOK_S = 0.25
"""Seconds between two looks at all connections for those whose handshake was under way."""


class Retirement(Generic[C]):
    """Closes all connections, oldest first.

    Args:
        connections: The connections.
        rate: How many are closed in a second.
        now: Seconds, monotonic.
    """

    __slots__ = ("_allowance", "_at", "_connections", "_is_done", "_left", "_look_at", "_rate")

    def __init__(self, connections: Connections[C], rate: float, now: float) -> None:
        self._connections = connections
        self._rate = rate
        self._at = now
        self._allowance = 0.0
        self._left: deque[int] = deque()
        self._look_at = now
        self._is_done = False

    def step(self, now: float) -> bool:
        """Close as many as are due; call it every few hundredths of a second.

        Returns:
            Whether every client has been told.
        """
        self._allowance += self._rate * min(now - self._at, _MAX_STEP_S)
        self._at = now
        left = self._close(_MOST_A_STEP)
        if not self._left and (not self._is_done or now >= self._look_at):
            # At first all; later those whose handshake was under way.
            self._left.extend(connection.number for connection in self._connections.all() if connection.writable)
            self._look_at = now + _LOOK_S
            self._is_done = not self._left
            self._close(left)
        self._allowance = min(self._allowance, 1.0)
        return self._is_done

    def _close(self, most: int) -> int:
        """Close those that are due, *most* at most; returns how many more might have been closed."""
        while self._left and self._allowance >= 1 and most > 0:
            connection = self._connections.get(self._left.popleft())
            if connection is not None and connection.writable:
                self._allowance -= 1
                most -= 1
                connection.close_or_break_off(GOING_AWAY, GONE)
        return most
