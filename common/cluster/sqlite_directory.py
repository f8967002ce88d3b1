"""The directory of one machine: an SQLite file, and one thread in each process that works with it.

All calls of SQLite are made by that thread, in the order in which they were asked for: a disk that hangs holds up who
waits for an answer, and no loop. Between them, while somebody reads ``changes``, the thread looks for a new map: some
microseconds, since a look reads mapped memory (``DirectoryFile.changed``). The map itself is read when a commit shows
there, which it does once it is durable. While slots are in transit the thread looks more often, as their sockets wait
for the next map.

A file that cannot be read is logged once and asked again: the cluster goes on with the map that it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ..errors import DirectoryBusy, DirectoryError
from ..ids import Incarnation
from .cluster_map import ClusterMap, Member, MemberKind
from .directory_file import BUSY_TIMEOUT_S, DirectoryFile
from .map_stream import MapStream

T = TypeVar("T")

POLL_INTERVAL_S = 0.05
"""Seconds between two looks for a new map."""
TRANSIT_POLL_INTERVAL_S = 0.01
"""The same while slots are in transit."""
ANSWER_S = 2 * BUSY_TIMEOUT_S + 5.0
"""Seconds for an answer: a write waits for other threads and for other processes first."""
WAITING = 64
"""Calls that may wait for the thread: more come only while it hangs."""
CLOSE_S = 5.0
"""Seconds for closing the file. A thread that hangs is left behind, and ends with the process."""

log = logging.getLogger("roost.directory")

Call = tuple[Callable[[DirectoryFile], Any], "asyncio.Future[Any]"]


class SqliteDirectory:
    """A ``Directory`` in one SQLite file, for the processes of one machine. Made by ``open``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._cluster_id = 0
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._streams: list[MapStream] = []
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._closed = False
        # Of the thread:
        self._version = -1
        self._in_transit = False
        self._failing = False

    @classmethod
    async def open(cls, path: Path, *, initial_shards: int = 0, create: bool = True) -> SqliteDirectory:
        """Open the file at *path*, as ``DirectoryFile`` does.

        Raises:
            DirectoryError: It cannot be opened, or not in time.
        """
        made = cls(path)
        opened: asyncio.Future[int] = made._loop.create_future()
        open_file = partial(DirectoryFile, path, initial_shards=initial_shards, create=create)
        try:
            threading.Thread(target=made._work, args=(open_file, opened), name="directory", daemon=True).start()
        except RuntimeError as error:
            raise DirectoryError(f"the directory {path} cannot be opened: {error}") from error
        try:
            made._cluster_id = await made._answer(opened)
        except BaseException:
            made._calls.put(None)
            raise
        return made

    # --- the loop's side ---

    @property
    def cluster_id(self) -> int:
        return self._cluster_id

    async def initial_shards(self) -> int:
        return await self._ask(lambda file: file.initial_shards)

    async def join(
        self,
        kind: MemberKind,
        name: str,
        pid: int,
        endpoint_of: Callable[[Incarnation], str],
        namespaces: tuple[str, ...],
        seat: str = "",
    ) -> Member:
        return await self._ask(lambda file: file.join(kind, name, pid, endpoint_of, namespaces, seat))

    async def map(self) -> ClusterMap:
        return await self._ask(DirectoryFile.map)

    async def propose(self, new: ClusterMap) -> bool:
        return await self._ask(lambda file: file.propose(new))

    async def begin_anew(self, initial_shards: int) -> None:
        await self._ask(lambda file: file.begin_anew(initial_shards))

    async def restore(self, *, rebuild: bool = False) -> str:
        return await self._ask(lambda file: file.restore(rebuild=rebuild))

    def changes(self) -> AsyncIterator[ClusterMap]:
        stream = MapStream(self.map)
        self._streams.append(stream)
        return stream

    async def _ask(self, what: Callable[[DirectoryFile], T]) -> T:
        """Have the thread do *what* with the file."""
        if self._closed:
            raise DirectoryError(f"the directory {self._path} is closed")
        if self._calls.qsize() >= WAITING:
            raise DirectoryBusy(self._hangs())
        answer: asyncio.Future[T] = self._loop.create_future()
        self._calls.put((what, answer))
        return await self._answer(answer)

    async def _answer(self, answer: asyncio.Future[T]) -> T:
        try:
            async with asyncio.timeout(ANSWER_S):
                return await answer
        except TimeoutError:
            raise DirectoryBusy(self._hangs()) from None

    def _hangs(self) -> str:
        return f"the directory {self._path} has not answered for {ANSWER_S:g} s: its disk may hang"

    def _came(self, found: ClusterMap) -> None:
        for stream in self._streams:
            stream.put(found)

    async def aclose(self) -> None:
        """Close the file. The last process to do so also removes SQLite's side files."""
        if not self._closed:
            self._closed = True
            self._calls.put(None)
            for stream in self._streams:
                stream.end()
        await asyncio.wait([self._ended], timeout=CLOSE_S)
        if not self._ended.done():
            log.error("%s", self._hangs())

    # --- the thread's side ---

    def _work(self, open_file: Callable[[], DirectoryFile], opened: asyncio.Future[int]) -> None:
        try:
            file = open_file()
        except BaseException as error:
            self._tell(opened, error=error)
            return
        try:
            self._tell(opened, file.cluster_id)
            while (call := self._next_call()) is not None:
                if call is not _NOTHING:
                    self._do(file, *call)
                if self._streams:
                    self._look(file)
        finally:
            try:
                file.close()
            finally:
                self._refuse_the_rest()
                self._tell(self._ended, None)

    def _next_call(self) -> Call | None:
        """What is to be done next; ``_NOTHING`` when it is time to look, ``None`` at the end."""
        if not self._streams:
            return self._calls.get()
        try:
            return self._calls.get(timeout=TRANSIT_POLL_INTERVAL_S if self._in_transit else POLL_INTERVAL_S)
        except queue.Empty:
            nothing: Call = _NOTHING
            return nothing

    def _do(self, file: DirectoryFile, what: Callable[[DirectoryFile], Any], answer: asyncio.Future[Any]) -> None:
        if answer.done():
            return  # nobody waits for it any more
        try:
            result = what(file)
        except BaseException as error:
            self._tell(answer, error=error)
        else:
            self._tell(answer, result)

    def _look(self, file: DirectoryFile) -> None:
        try:
            if not (file.changed() or self._failing):
                return
            found = file.map()
        except Exception as error:
            if not self._failing:
                known = isinstance(error, DirectoryError)
                log.error("going on with cluster map %d: %s", self._version, error, exc_info=None if known else error)
            self._failing = True
            return
        if self._failing:
            self._failing = False
            log.warning("the directory can be read again")
        if found.version > self._version:
            self._version, self._in_transit = found.version, bool(found.next_owners)
            self._tell_loop(self._came, found)

    def _refuse_the_rest(self) -> None:
        with contextlib.suppress(queue.Empty):
            while call := self._calls.get_nowait():
                self._tell(call[1], error=DirectoryError(f"the directory {self._path} is closed"))

    def _tell(self, answer: asyncio.Future[Any], result: object = None, error: BaseException | None = None) -> None:
        self._tell_loop(_settle, answer, result, error)

    def _tell_loop(self, callback: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
            self._loop.call_soon_threadsafe(callback, *arguments)


_NOTHING: Any = object()


def _settle(answer: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if answer.done():
        return  # whoever waited has given up
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
