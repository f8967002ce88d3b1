"""Which files are an app's source, and that their folder is watched whatever happens to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from roost.deploy.supervisor import source_watch
from roost.deploy.supervisor.source_watch import SourceWatch, is_source, source_folder
from tests.support.waiting import until

FOLDER = PurePosixPath("/home/.me/app")


@pytest.mark.parametrize("path", ["main.py", "rooms/chat.py"])
def test_python_files_of_the_folder_are(path: str) -> None:
    assert is_source(FOLDER, FOLDER / path)


@pytest.mark.parametrize(
    "path",
    [
        "notes.txt",
        "main.pyc",
        "__pycache__/main.py",
        ".venv/lib/site.py",
        "venv/lib/site.py",
        "node_modules/x/setup.py",
        "lib/site-packages/x.py",
        ".main.py",
        "../other.py",
        "/elsewhere/main.py",
    ],
)
def test_others_are_not(path: str) -> None:
    assert not is_source(FOLDER, PurePosixPath(path) if path.startswith(("/", "..")) else FOLDER / path)


def test_the_folder_of_an_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "rooms_of_this_test"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    (tmp_path / "single_of_this_test.py").touch()
    assert source_folder(str(package / "chat.py")) == package
    assert source_folder("rooms_of_this_test.chat") == package
    assert source_folder("single_of_this_test") == tmp_path
    assert source_folder("no_such_module_at_all") == tmp_path


async def is_watched(folder: Path) -> None:
    """The watch has told of itself before it is there: this process's inotify descriptors say when it is."""

    def names_it() -> bool:
        entries = []
        for path in Path("/proc/self/fdinfo").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                entries.append(path.read_text())
        return any("inotify wd:" in entry and f" ino:{folder.stat().st_ino:x} " in entry for entry in entries)

    await until("the watch of the folder", names_it)


@contextlib.asynccontextmanager
async def watching(folder: Path, said: list[str], fails: list[Exception]) -> AsyncIterator[list[None]]:
    """Watch; yields the reloads so far."""
    reloads: list[None] = []

    async def reload() -> None:
        if fails:
            raise fails.pop()
        reloads.append(None)

    watch = SourceWatch(app=lambda: str(folder / "main.py"), reload=reload, announce=said.append)
    async with watch.running():
        await until("the watch", lambda: bool(said))
        await is_watched(folder)
        yield reloads


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(source_watch, "LOOK_MS", 50)
    monkeypatch.setattr(source_watch, "RETRY_S", 0.05)
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text("1")
    return tmp_path / "app"


def put_aside(folder: Path) -> None:
    folder.rename(folder.with_name("old"))


def put_back(folder: Path) -> None:
    folder.mkdir()
    (folder / "main.py").write_text("2")


async def test_a_folder_that_is_replaced_is_watched_on(folder: Path) -> None:
    said: list[str] = []
    async with watching(folder, said, []) as reloads:
        put_aside(folder)
        put_back(folder)
        await until("a reload", lambda: len(reloads) >= 1)
        await is_watched(folder)
        so_far = len(reloads)
        (folder / "main.py").write_text("3")
        await until("another one", lambda: len(reloads) > so_far)
    assert f"{folder} was replaced" in said


async def test_a_folder_that_is_missing_for_a_while_is_waited_for(folder: Path) -> None:
    said: list[str] = []
    async with watching(folder, said, []) as reloads:
        put_aside(folder)
        await until("a word", lambda: any("cannot be watched just now" in line for line in said))
        await asyncio.sleep(0.2)  # it is said once, however long that takes
        put_back(folder)
        await until("a reload", lambda: len(reloads) >= 1)
    assert len([line for line in said if "cannot be watched just now" in line]) == 1


async def test_a_reload_that_cannot_begin_is_not_the_end(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    said: list[str] = []
    async with watching(folder, said, [RuntimeError("not now")]) as reloads:
        (folder / "main.py").write_text("2")
        await until("a word", lambda: "source files cannot be watched just now: not now" in said)
        await until("the next watch", lambda: said[-1].startswith("roost reloads when"))
        await is_watched(folder)
        (folder / "main.py").write_text("3")
        await until("a reload", lambda: len(reloads) >= 1)


async def test_what_is_saved_during_a_reload_overtakes_it_and_is_one_more(folder: Path) -> None:
    said: list[str] = []
    log: list[str] = []
    goes_on = asyncio.Event()

    async def reload() -> None:
        log.append("begins")
        await goes_on.wait()
        log.append("ends")

    watch = SourceWatch(
        app=lambda: str(folder / "main.py"),
        reload=reload,
        announce=said.append,
        overtake=lambda: log.append("overtaken"),
    )
    async with watch.running():
        await until("the watch", lambda: bool(said))
        await is_watched(folder)
        (folder / "main.py").write_text("2")
        await until("a reload", lambda: log == ["begins"])
        for number in range(3):
            (folder / "main.py").write_text(f"{number}, saved during the reload")
            await until("a word of it", lambda number=number: log.count("overtaken") > number)  # type: ignore[misc]
        goes_on.set()
        await until("the next one", lambda: log.count("ends") == 2)
    assert [word for word in log if word != "overtaken"] == ["begins", "ends", "begins", "ends"]


@pytest.mark.parametrize(
    "limit", ['OS file watch limit reached. about ["x"]', "Error creating recommended watcher: Too many (os error 24)"]
)
async def test_where_the_system_allows_no_more_watches_files_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    real, said = source_watch.watchfiles.awatch, list[str]()
    monkeypatch.setattr(source_watch, "POLL_MS", 20)

    def awatch(*paths: Path, force_polling: bool | None = None, **options: Any) -> Any:
        if not force_polling:
            raise OSError(limit)
        return real(*paths, force_polling=True, **options)

    monkeypatch.setattr(source_watch.watchfiles, "awatch", awatch)
    source = tmp_path / "main.py"
    source.touch()
    reloaded = asyncio.Event()

    async def reload() -> None:
        reloaded.set()

    async with SourceWatch(app=lambda: str(source), reload=reload, announce=said.append).running():
        await until("that to be said", lambda: any("the system allows no further watches" in line for line in said))
        saved = 0

        def is_reloaded() -> bool:
            nonlocal saved
            saved += 1
            source.write_text("#" * saved)  # the first look may come after the first change
            return reloaded.is_set()

        await until("the reload", is_reloaded)
