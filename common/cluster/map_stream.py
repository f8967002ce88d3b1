"""A stream of maps that keeps the newest only: who is slow skips versions, and holds up nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from .cluster_map import ClusterMap


class MapStream:
    """What ``Directory.changes`` returns.

    Args:
        first: Reads the current map, with which the stream begins.
    """

    def __init__(self, first: Callable[[], Awaitable[ClusterMap]]) -> None:
        self._first = first
        self._given = -1
        self._newest: ClusterMap | None = None
        self._came = asyncio.Event()
        self._ended = False

    def put(self, found: ClusterMap) -> None:
        """There is a map, which may be newer than those before."""
        if self._newest is None or found.version > self._newest.version:
            self._newest = found
            self._came.set()

    def end(self) -> None:
        """There will be no more."""
        self._ended = True
        self._came.set()

    def __aiter__(self) -> MapStream:
        return self

    async def __anext__(self) -> ClusterMap:
        if self._given < 0:
            found = await self._first()
            self._given = found.version
            return found
        while self._newest is None or self._newest.version <= self._given:
            if self._ended:
                raise StopAsyncIteration
            self._came.clear()
            await self._came.wait()
        self._given = self._newest.version
        return self._newest
