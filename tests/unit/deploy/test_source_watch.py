"""Which files are an app's source."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from roost.deploy.source_watch import is_source, source_folder

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
