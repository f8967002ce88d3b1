"""The router's connections by counter."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic

from ...common.errors import Unavailable
from ...common.limits import MAX_GHOSTS
from .client import C

MAX_COUNTER = 0xFFFFFFFF
"""The last counter: connection ids are unique for ever, so a router that has used it must end."""


class Connections(Generic[C]):
    """Gives out counters and finds connections by them.

    Args:
        on_exhausted: Called once, when the last counter is given out: the router has to drain.

    Attributes:
        get: ``get(counter)`` is the connection, or ``None`` (bound once: it is called for each record).
    """

    __slots__ = ("_by_counter", "_ghosts", "_last", "_on_exhausted", "get")

    def __init__(self, on_exhausted: Callable[[], None], last: int = 0) -> None:
        self._by_counter: dict[int, C] = {}
        self._ghosts: OrderedDict[int, C] = OrderedDict()  # finds its first at once, whatever left before it
        self._last = last
        self._on_exhausted = on_exhausted
        self.get = self._by_counter.get

    def __len__(self) -> int:
        return len(self._by_counter)

    @property
    def ghosts(self) -> int:
        """How many ghosts there are."""
        return len(self._ghosts)

    def next_counter(self) -> int:
        """A counter that no connection of this router has had: 1 is the first, 0 stands for none.

        Raises:
            Unavailable: All have been used.
        """
        if self._last >= MAX_COUNTER:
            raise Unavailable("this router has given out all its connection numbers and is about to be replaced")
        self._last += 1
        if self._last == MAX_COUNTER:
            self._on_exhausted()
        return self._last

    def add(self, connection: C) -> None:
        """Keep a new connection."""
        self._by_counter[connection.number] = connection

    def remove(self, connection: C) -> None:
        """Forget a connection; fine if it was forgotten before."""
        self._by_counter.pop(connection.number, None)
        self._ghosts.pop(connection.number, None)

    def haunt(self, ghost: C) -> C | None:
        """A connection has become a ghost.

        Returns:
            The oldest ghost, to be dropped because there are more than ``MAX_GHOSTS``; else ``None``.
        """
        ghosts = self._ghosts
        ghosts[ghost.number] = ghost
        return next(iter(ghosts.values())) if len(ghosts) > MAX_GHOSTS else None

    def all(self) -> list[C]:
        """All connections, oldest first; safe to change the table by."""
        return list(self._by_counter.values())
