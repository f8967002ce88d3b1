"""The directory: who is in the cluster. On no message's road.

Members ``join`` to get an incarnation, then ``enter`` the map. A change of the map is a compare-and-swap on its
version: read the map, compute the next one with the pure functions of ``cluster_map``, ``propose`` it, and start over
when somebody else was faster. ``MapWatch`` tells an asyncio process of each new map, ``Care`` keeps the store whole.

A process opens its directory once, by its URL, and hands it to whoever needs it. Nothing of a directory blocks the
loop: a store may take seconds, or hang.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from ..errors import ConfigError, DirectoryError
from ..ids import Incarnation
from . import cluster_map
from .cluster_map import ClusterMap, Member, MemberKind
from .directory_file import FILE_NAME
from .sqlite_directory import SqliteDirectory

log = logging.getLogger("roost.directory")

SCHEME = "sqlite"
"""What a directory's URL begins with: ``sqlite:///path/to/the/file``."""
AGAIN_INTERVAL_S = 0.5
"""Seconds before a map that could not be taken is tried again: what has raised once may do so again."""
CARE_INTERVAL_S = 1.0
"""Seconds between two looks whether the store is still the one that was opened."""


class Directory(Protocol):
    """Where members and the map are kept.

    Guarantees: an incarnation is given once, ever; of two proposals of one version one is accepted; an accepted map is
    durable and seen by every later ``map()`` anywhere. All methods raise ``DirectoryError`` when the store fails. One
    that does not answer in time raises it, too: what was asked for may still happen then.
    """

    @property
    def cluster_id(self) -> int:
        """63 random bits, made with the directory: a recreated directory is another cluster."""
        ...

    async def initial_shards(self) -> int:
        """How many shards must have entered before the slots are assigned."""
        ...

    async def join(
        self,
        kind: MemberKind,
        name: str,
        pid: int,
        endpoint_of: Callable[[Incarnation], str],
        namespaces: tuple[str, ...],
        seat: str = "",
    ) -> Member:
        """Get an incarnation. The member is not in the map yet: bind the endpoint first, then ``enter``."""
        ...

    async def map(self) -> ClusterMap:
        """The current map."""
        ...

    async def propose(self, new: ClusterMap) -> bool:
        """Make *new* the current map if its version is the next one; ``False``: another was faster, start over."""
        ...

    def changes(self) -> AsyncIterator[ClusterMap]:
        """The current map and then each newer one, until the directory is closed; versions may be skipped.

        To wait for the next one may be called off, and nothing is lost by that. Only the first may raise: later the
        stream goes on when the store can be read again.
        """
        ...

    async def begin_anew(self, initial_shards: int) -> None:
        """Empty the map and wait for *initial_shards* shards again: for a start of the whole cluster.

        Only for whoever knows that no member lives. Incarnations, map versions and the cluster id go on.
        """
        ...

    async def restore(self, *, rebuild: bool = False) -> str:
        """Look whether the store is still the one that was opened.

        Args:
            rebuild: Whether one that is lost is written anew. Only for the supervisor, of which there is one.

        Returns:
            What was done, in a sentence; empty when all is as it was.

        Raises:
            DirectoryError: Something else is there, or nothing, and it stays so: no change of the cluster is possible.
        """
        ...

    async def aclose(self) -> None:
        """Let go of the store. What waits for an answer gets ``DirectoryError``."""
        ...


def url_in(data: Path) -> str:
    """The URL of the directory in a data folder."""
    return f"{SCHEME}://{(data / FILE_NAME).absolute().as_uri().removeprefix('file://')}"


async def open_directory(url: str, *, initial_shards: int = 0, create: bool = True) -> Directory:
    """Open the directory at *url*, or create it.

    Args:
        url: ``sqlite:///path``, see ``url_in``.
        initial_shards: How many shards must have entered before slots are assigned, if the caller has a say in that:
            the first who has decides. A router, which may be the first to come, has none (0).
        create: Whether a missing one is made.

    Raises:
        ConfigError: No directory can be at *url*.
        DirectoryError: What is there is something else, of a newer roost, or cannot be opened; it is missing and is not
            to be made.
    """
    parts = urlsplit(url)
    if parts.scheme != SCHEME or parts.netloc or not parts.path.startswith("/"):
        raise ConfigError(f"a directory's URL is {SCHEME}:///path/to/{FILE_NAME}, got {url!r:.200}")
    return await SqliteDirectory.open(Path(unquote(parts.path)), initial_shards=initial_shards, create=create)


async def update(directory: Directory, change: Callable[[ClusterMap], ClusterMap | None]) -> ClusterMap:
    """Change the map by compare-and-swap: start over with the new one whenever somebody else was faster.

    Args:
        directory: Where.
        change: Computes the next map from the present one; ``None`` when there is nothing to change. Called again for
            each map that it meets.

    Returns:
        The map that holds now.

    Raises:
        DirectoryError: The store fails.
    """
    while True:
        current = await directory.map()
        new = change(current)
        if new is None:
            return current
        if await directory.propose(new):
            return new


async def enter(directory: Directory, member: Member) -> ClusterMap:
    """Bring a joined member into the map, by the rules of ``cluster_map.entered``. Again is fine.

    Raises:
        DirectoryError: The store fails, or the member's name belongs to a member of the other kind.
    """
    while True:
        current = await directory.map()
        if member.incarnation in current.members:
            return current
        # Asked for after the map: a shard that is in it has said before how many there are to be.
        initial_shards = await directory.initial_shards()
        try:
            new = cluster_map.entered(current, member, initial_shards)
        except ValueError as error:
            raise DirectoryError(f"{member.kind} {member.name!r} cannot enter the cluster: {error}") from error
        if await directory.propose(new):
            return new


async def leave(directory: Directory, incarnation: Incarnation) -> ClusterMap:
    """Take a member that has ended, or is about to, out of the map.

    A shard that owns slots, or to which some are on their way, stays in it: its next incarnation takes them over by
    its name.

    Returns:
        The map that holds now.

    Raises:
        DirectoryError: The store fails.
    """

    def change(current: ClusterMap) -> ClusterMap | None:
        if incarnation not in current.members or incarnation in {*current.owners, *current.next_owners.values()}:
            return None
        return cluster_map.without(current, incarnation)

    return await update(directory, change)


class MapWatch:
    """Tells an asyncio process of each new map, on its loop, in the order of versions; some versions may be skipped.

    A map that *on_map* could not take reaches the loop's handler, and is handed over again, or a newer one in its
    place: *on_map* must bear that.
    """

    def __init__(self, directory: Directory, on_map: Callable[[ClusterMap], None]) -> None:
        self._maps = directory.changes()
        self._on_map = on_map
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Hand over the current map, then begin to watch.

        Raises:
            DirectoryError: The directory cannot be read.
        """
        self._on_map(await anext(self._maps))
        self._task = asyncio.get_running_loop().create_task(self._follow(), name="maps")

    async def _follow(self) -> None:
        untaken: ClusterMap | None = None
        while True:
            try:
                async with asyncio.timeout(None if untaken is None else AGAIN_INTERVAL_S):
                    untaken = await anext(self._maps)
            except TimeoutError:
                pass
            except StopAsyncIteration:
                return
            assert untaken is not None
            untaken = None if self._take(untaken) else untaken

    def _take(self, found: ClusterMap) -> bool:
        """Whether it could be taken: one that could not, because of an error of ours, must not count as taken."""
        try:
            self._on_map(found)
        except Exception as error:
            what = f"cluster map {found.version} could not be taken, and is tried again"
            asyncio.get_running_loop().call_exception_handler({"message": what, "exception": error})
            return False
        return True

    async def aclose(self) -> None:
        """Stop watching. The directory stays open."""
        await _end(self._task)


class Care:
    """Looks once a second whether the directory is still the one that was opened, and follows it if it is another.

    Args:
        directory: The directory.
        room: Entered for a look, which may need descriptors.
    """

    def __init__(self, directory: Directory, room: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self._directory = directory
        self._room = room
        self._task: asyncio.Task[None] | None = None
        self._lost = ""

    def start(self) -> None:
        """Begin, until ``aclose``."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="directory")

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(CARE_INTERVAL_S)
            try:
                await self._look()
            except Exception as error:  # a defect of ours, which must not be the end of looking
                what = "the directory could not be looked after, which is tried again"
                asyncio.get_running_loop().call_exception_handler({"message": what, "exception": error})

    async def _look(self) -> None:
        lost = ""
        try:
            with self._room():
                done = await self._directory.restore()
        except DirectoryError as error:
            lost = str(error)
        else:
            if done:
                log.warning("%s", done)
        if lost and lost != self._lost:
            log.error("%s", lost)
        self._lost = lost

    async def aclose(self) -> None:
        """Look no more. The directory stays open."""
        await _end(self._task)


async def _end(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
