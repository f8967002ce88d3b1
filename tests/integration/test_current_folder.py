"""The folder that a command is given in, or that an app lies in, takes no part in what roost itself imports."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from roost.common.runtime.processes import python_words
from tests.integration.roost import DEADLINE_S, Roost

APP = """
import secrets, random, json
import helpers
from roost import DurableObject, Response

class Room(DurableObject):
    async def fetch(self, request):
        return Response(helpers.greet(secrets.token_hex(2)))
"""


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A folder with an app, its helper, and a file for each module that roost could import by mistake."""
    for name in {*sys.stdlib_module_names, *packages_distributions(), "roost"}:
        if "." not in name and name != "roost":
            (tmp_path / f"{name}.py").write_text("raise RuntimeError(f'{__name__} was imported')\n")
    (tmp_path / "roost").mkdir()
    (tmp_path / "roost" / "__init__.py").write_text("raise RuntimeError('a folder was imported')\n")
    (tmp_path / "helpers.py").write_text("def greet(name):\n    return f'hello {name}'\n")
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def test_no_command_and_no_member_imports_what_lies_there(trapped: Path, roost: Roost) -> None:
    (trapped / "down").write_text("")

    def command(*words: object) -> str:
        done = subprocess.run(
            roost.words(*words), cwd=trapped, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        command(*roost.up_words("app.py", "-d"))
        assert roost.get("/room/a") == 200
        assert "shard-1" in command("status")
        command("reload", "app.py", "--canary", 0)
        command("scale", "--shards", 3)
        assert roost.get("/room/b") == 200
        for member in roost.status()["members"]:
            assert b"-P" in Path(f"/proc/{member['pid']}/cmdline").read_bytes().split(b"\0")
    finally:
        command("down")
    assert "RuntimeError" not in (roost.data / "roost.log").read_text()


@pytest.mark.parametrize("entries", [":{}", "{}:", "{}::{}"])
def test_an_empty_entry_of_pythonpath_is_not_the_current_folder(
    tmp_path: Path, roost: Roost, entries: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But what is named there counts, also for the app."""
    elsewhere, here = tmp_path / "elsewhere", tmp_path / "here"
    elsewhere.mkdir()
    here.mkdir()
    (elsewhere / "somebodys.py").write_text("")
    for name in ("secrets", "cbor2", "typer"):
        (here / f"{name}.py").write_text("raise RuntimeError\n")
    (tmp_path / "app.py").write_text("import somebodys\n" + APP.replace("helpers", "types"))
    monkeypatch.setenv("PYTHONPATH", entries.format(elsewhere, elsewhere))
    words = roost.words(*roost.up_words(tmp_path / "app.py", "-d"))
    done = subprocess.run(words, cwd=here, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert roost.command("down").returncode == 0


def test_python_m_roost_looks_elsewhere_too(tmp_path: Path) -> None:
    """Without ``-P``, Python puts the current folder first before any code of ours runs; what it needs until then,
    nobody can help."""
    for name in ("random", "secrets", "logging", "typer", "websockets"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError\n")
    command = [sys.executable, *python_words("roost")[2:], "status", "--data", "none"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "no cluster" in done.stderr
