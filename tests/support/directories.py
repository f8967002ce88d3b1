"""Directories for tests that have no loop, or work with the file itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from roost.common.cluster import directory
from roost.common.cluster.cluster_map import ClusterMap, Member
from roost.common.cluster.directory_file import DirectoryFile
from roost.common.ids import Incarnation

T = TypeVar("T")


class InPlace:
    """A ``Directory`` whose calls are made at once, on whatever thread: none of them ever waits."""

    def __init__(self, file: DirectoryFile) -> None:
        self.file = file

    @property
    def cluster_id(self) -> int:
        return self.file.cluster_id

    async def initial_shards(self) -> int:
        return self.file.initial_shards

    async def join(self, *arguments: Any) -> Member:
        return self.file.join(*arguments)

    async def map(self) -> ClusterMap:
        return self.file.map()

    async def propose(self, new: ClusterMap) -> bool:
        return self.file.propose(new)

    async def changes(self) -> AsyncIterator[ClusterMap]:
        """What there is; nobody waits for more here."""
        yield self.file.map()

    async def begin_anew(self, initial_shards: int) -> None:
        self.file.begin_anew(initial_shards)

    async def restore(self, *, rebuild: bool = False) -> str:
        return self.file.restore(rebuild=rebuild)

    async def aclose(self) -> None:
        self.file.close()


def _now(doing: Coroutine[Any, Any, T]) -> T:
    """The result of what never waits."""
    try:
        doing.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("it waits")


def update(file: DirectoryFile, change: Callable[[ClusterMap], ClusterMap | None]) -> ClusterMap:
    """As ``directory.update``, at once."""
    return _now(directory.update(InPlace(file), change))


def enter(file: DirectoryFile, member: Member) -> ClusterMap:
    """As ``directory.enter``, at once."""
    return _now(directory.enter(InPlace(file), member))


def leave(file: DirectoryFile, incarnation: Incarnation) -> ClusterMap:
    """As ``directory.leave``, at once."""
    return _now(directory.leave(InPlace(file), incarnation))
