"""``roost up --watch``: reload when a source file is saved."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.machinery import PathFinder
from pathlib import Path, PurePath
from sys import path as import_path

import watchfiles

log = logging.getLogger("roost.supervisor")

SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})
"""Folders whose files are nobody's source; hidden ones are not looked into either."""
LOOK_MS = 1_000
"""Milliseconds between two looks whether it is still this app's folder that is to be watched."""


def is_source(folder: PurePath, path: PurePath) -> bool:
    """Whether *path* is a source file of an app in *folder*."""
    try:
        parts = path.relative_to(folder).parts
    except ValueError:
        return False
    inside = not any(part.startswith(".") or part in SKIPPED_FOLDERS for part in parts)
    return inside and path.suffix == ".py"


def source_folder(app: str) -> Path:
    """The folder with an app's source.

    Args:
        app: Path of a Python file, or the name of a module, as members get it.
    """
    path = Path(app)
    if app.endswith(".py") or path.is_file():
        return path.resolve().parent
    # The first name only: looking for the others would import it.
    found = PathFinder.find_spec(app.partition(".")[0], [str(Path.cwd()), *import_path])
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
    """

    def __init__(
        self, *, app: Callable[[], str], reload: Callable[[], Awaitable[None]], announce: Callable[[str], None]
    ) -> None:
        self._app = app
        self._reload = reload
        self._announce = announce
        self._stop = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch while the block runs."""
        task = asyncio.create_task(self._run(), name="source watch")
        try:
            yield
        finally:
            self._stop.set()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        try:
            while not self._stop.is_set():
                await self._watch(source_folder(self._app()))
        except Exception as error:
            # Without it the cluster goes on as well; whoever edits should know.
            log.error("source files are not watched any more: %s", error, exc_info=not isinstance(error, OSError))
            self._announce(f"source files are not watched any more: {error}")

    async def _watch(self, folder: Path) -> None:
        """Reload at each change in *folder*, as long as it is the app's."""
        self._announce(f"roost reloads when a Python file in {folder} is saved")
        changes = watchfiles.awatch(
            folder,
            watch_filter=lambda _, path: is_source(folder, PurePath(path)),
            stop_event=self._stop,
            rust_timeout=LOOK_MS,
            yield_on_timeout=True,
        )
        # What is saved during a reload is noted meanwhile, and comes with the next round.
        async for changed in changes:
            if changed:
                names = sorted({PurePath(path).name for _, path in changed})
                self._announce(f"{', '.join(names[:3])}{' …' if len(names) > 3 else ''} changed")
                await self._reload()
            if source_folder(self._app()) != folder:
                return
