"""``roost check``: whether an app could be hosted, and its objects constructed, without a cluster."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from roost.common.errors import AppError
from roost.common.runtime.processes import python_words

APP = """
import asyncio
from roost.shard import DurableObject

class Hall(DurableObject):
    def __init__(self, ctx, env):
        raise AssertionError("it has no trial_name")

class Room(DurableObject):
    trial_name = "a trial"
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        assert ctx.id.name == "a trial"
        assert ctx.get_web_sockets() == []
        assert env.GREETING == "hello"
        self.task = asyncio.ensure_future(self.stay())
        ctx.block_concurrency_while(self.load)

    async def stay(self):
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass

    async def load(self):
        await asyncio.sleep(0.01)
        {load}
"""


def check(app: Path | str, *words: str, cwd: Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [*python_words("roost"), "check", str(app), "--var", "GREETING=hello", *words],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=cwd,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_an_app_that_works(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP.replace("{load}", "self.loaded = True"))
    code, said, errors = check("app.py", cwd=tmp_path)
    assert (code, errors) == (0, "")
    assert said == "app.py can be hosted: hall, room; an object of room was constructed\n"
    assert check("app", cwd=tmp_path)[1].startswith("app can be hosted: hall, room")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app.py"], "it leaves nothing"


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        ("raise ValueError('no such table')", "ValueError: no such table"),
        ("self.ctx.abort('not today')", "ObjectReset: it has reset itself"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_an_object_that_cannot_be_constructed(tmp_path: Path, load: str, reason: str) -> None:
    (tmp_path / "app.py").write_text(APP.replace("{load}", load))
    code, said, errors = check("app.py", cwd=tmp_path)
    assert (code, said) == (AppError.exit_code, "")
    last = errors.splitlines()[-1]
    assert last.startswith("roost: an object of Room, 'a trial' on trial, could not be constructed: ")
    assert reason in last


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import nothing_of_that_name\n", "No module named 'nothing_of_that_name'"),
        ("x = 1\n", "defines no class"),
        (
            APP.replace("{load}", "pass").replace('"a trial"', '""', 1),
            "trial_name '': it must be None, or a string of 1 to",
        ),
        (APP.replace("{load}", "pass").replace('trial_name = "a trial"', "trial_name = 7"), "trial_name 7: it must be"),
    ],
)
def test_an_app_that_cannot_be_hosted(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "app.py").write_text(text)
    code, said, errors = check("app.py", cwd=tmp_path)
    assert (code, said) == (AppError.exit_code, "")
    assert reason in errors


def test_one_whose_load_hangs(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP.replace("{load}", "await asyncio.sleep(60)"))
    code, _, errors = check("app.py", "--start-timeout", "1.5", cwd=tmp_path)
    assert code == 70
    assert errors == "roost: app.py did not load within 1.5 s\n"
