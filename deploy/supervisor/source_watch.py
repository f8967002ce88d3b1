"""``roost up --watch``: reload when a source file is saved."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from importlib.machinery import PathFinder
from pathlib import Path, PurePath
from sys import path as import_path

import watchfiles

log = logging.getLogger("roost.supervisor")

SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})
"""Folders whose files are nobody's source; hidden ones are not looked into either."""
LOOK_MS = 1_000
"""Milliseconds between two looks whether it is still this folder that is to be watched: a reload may have changed the
app, and somebody may have put another folder in its place, which a watch does not notice."""
POLL_MS = 500
"""Milliseconds between two looks at all files, where the system lets nobody watch any more of them."""
_NO_MORE_WATCHES = ("watch limit reached", "os error 24", "os error 28")
"""How inotify's limits are said: of watches, of instances (EMFILE), of either (ENOSPC)."""
RETRY_S = 1.0
"""Seconds until the next try when a folder cannot be watched, or a reload not be begun."""


SOURCES = frozenset({".py"})
"""Suffixes of what an app is made of."""
PAGES = frozenset(
    {".css", ".htm", ".html", ".j2", ".jinja", ".jinja2", ".js", ".mjs", ".mustache", ".svg", ".tmpl", ".tpl"}
)
"""Suffixes of what an app may show, and may have read when it was loaded. Not data: apps write it themselves."""


def is_source(folder: PurePath, path: PurePath, suffixes: Collection[str] = SOURCES) -> bool:
    """Whether *path* is a source file of an app in *folder*, by its suffix."""
    try:
        parts = path.relative_to(folder).parts
    except ValueError:
        return False
    inside = not any(part.startswith(".") or part in SKIPPED_FOLDERS for part in parts)
    return inside and path.suffix in suffixes


def source_folder(app: str) -> Path:
    """The folder with an app's source.

    Args:
        app: Path of a Python file, or the name of a module, as members get it.
    """
    path = Path(app)
    if app.endswith(".py") or path.is_file():
        return path.resolve().parent
    # In the order of the shard's loader. The first name only: looking for the others would import it.
    found = PathFinder.find_spec(app.partition(".")[0], [*import_path, str(Path.cwd())])
    if found is not None and found.submodule_search_locations:
        return Path(next(iter(found.submodule_search_locations))).resolve()
    if found is not None and found.origin:
        return Path(found.origin).resolve().parent
    return Path.cwd()


class SourceWatch:
    """Watches the source of the app that runs.

    Args:
        app: Gives the app at the moment; a reload may have changed it.
        reload: Reloads and returns when that is over, however it ended.
        announce: Takes each line that a person should see.
        suffixes: Of the files that count.
        overtake: Called when something is saved during a reload; another one follows that.
    """

    def __init__(
        self,
        *,
        app: Callable[[], str],
        reload: Callable[[], Awaitable[None]],
        announce: Callable[[str], None],
        suffixes: Collection[str] = SOURCES,
        overtake: Callable[[], None] = lambda: None,
    ) -> None:
        self._app = app
        self._reload = reload
        self._announce = announce
        self._suffixes = suffixes
        self._overtake = overtake
        self._wanted = asyncio.Event()
        self._is_reloading = False
        self._refused: Exception | None = None
        self._stop = asyncio.Event()
        self._watched: tuple[Path, _Identity] | None = None
        self._said = ""
        self._polls = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch while the block runs."""
        tasks = [
            asyncio.create_task(self._run(), name="source watch"),
            asyncio.create_task(self._reload_again_and_again(), name="reloads of what is saved"),
        ]
        try:
            yield
        finally:
            self._stop.set()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _reload_again_and_again(self) -> None:
        """What is saved during a reload, be it once or often, is one more."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self._is_reloading = True
            try:
                await self._reload()
            except Exception as error:
                self._refused = error  # for the watch to say
            finally:
                self._is_reloading = False

    @property
    def _kind(self) -> str:
        return "Python file" if self._suffixes == SOURCES else "source file"

    async def _run(self) -> None:
        while not self._stop.is_set():
            try:
                await self._watch(source_folder(self._app()))
            except Exception as error:
                if not self._polls and any(words in str(error) for words in _NO_MORE_WATCHES):
                    # Other programs of this user (editors, synchronisers) have them.
                    self._polls = True
                    self._announce(
                        f"the system allows no further watches ({error}): source files are looked at every "
                        f"{POLL_MS / 1000:g} s instead; raise fs.inotify.max_user_watches and max_user_instances"
                    )
                    continue
                # Without it the cluster goes on as well; whoever edits should know.
                if str(error) != self._said:
                    log.error("source files cannot be watched: %s", error, exc_info=not isinstance(error, OSError))
                    self._announce(f"source files cannot be watched just now: {error}")
                self._said = str(error)
                await asyncio.sleep(RETRY_S)

    async def _watch(self, folder: Path) -> None:
        """Reload at each change in *folder*, as long as it is the app's and the same one."""
        before, identity = self._watched, _identity(folder)
        self._watched = folder, identity
        if before is None or before[0] != folder or self._said:
            self._announce(f"roost reloads when a {self._kind} in {folder} is saved")
        self._said = ""
        changes = watchfiles.awatch(
            folder,
            watch_filter=lambda _, path: is_source(folder, PurePath(path), self._suffixes),
            stop_event=self._stop,
            rust_timeout=LOOK_MS,
            yield_on_timeout=True,
            force_polling=self._polls or None,
            poll_delay_ms=POLL_MS,
        )
        async with contextlib.aclosing(changes):
            was_replaced = before is not None and before[0] == folder and before[1] != identity
            async for changed in changes:
                if self._refused is not None:
                    error, self._refused = self._refused, None
                    raise error
                if was_replaced:
                    self._announce(f"{folder} was replaced")
                elif changed:
                    names = sorted({PurePath(path).name for _, path in changed})
                    self._announce(f"{', '.join(names[:3])}{' …' if len(names) > 3 else ''} changed")
                if was_replaced or changed:
                    was_replaced = False
                    self._wanted.set()
                    if self._is_reloading:
                        self._overtake()
                if source_folder(self._app()) != folder or _identity(folder) != identity:
                    return


_Identity = tuple[int, int]


def _identity(folder: Path) -> _Identity:
    """Which folder it is that stands at this path now."""
    info = folder.stat()
    return info.st_dev, info.st_ino
