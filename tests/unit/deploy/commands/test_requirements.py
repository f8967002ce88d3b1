from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from roost.common.errors import ConfigError, StartupError
from roost.deploy.commands import requirements
from roost.deploy.commands.requirements import RequirementsFailed, install


class Pip:
    """Stands in for pip: notes what it is told."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.exit_code = 0

    def __call__(self, words: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        self.calls.append(words)
        return subprocess.CompletedProcess(words, self.exit_code)


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Pip:
    made = Pip()
    monkeypatch.setattr(requirements.subprocess, "run", made)  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    return made


def test_what_is_listed_is_installed_once(pip: Pip, tmp_path: Path) -> None:
    file, said = tmp_path / "requirements.txt", list[str]()
    file.write_text("httpx\n")
    install(file, say=said.append)
    (words,) = pip.calls
    assert words[:5] == [sys.executable, "-P", "-m", "pip", "install"]
    assert words[words.index("--requirement") + 1] == str(file)
    assert words[words.index("--constraint") + 1] == str(requirements.CONSTRAINTS)
    assert said == [f"roost: installing what {file} lists into {tmp_path}"]
    install(file, say=said.append)
    assert (len(pip.calls), len(said)) == (1, 1)


def test_another_list_is_installed_again(pip: Pip, tmp_path: Path) -> None:
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    for file in (one, other):
        file.write_text("httpx\n")
    install(one, say=print)
    install(other, say=print)
    install(one, say=print)
    one.write_text("httpx>1\n")
    install(one, say=print)
    assert len(pip.calls) == 4


def test_what_could_not_be_installed_is_tried_again(pip: Pip, tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("nothing-like-it\n")
    pip.exit_code = 1
    for _ in range(2):
        with pytest.raises(RequirementsFailed, match=r"could not be installed into .* \(see above\)") as caught:
            install(file, say=print)
        assert caught.value.exit_code == StartupError.exit_code
    assert len(pip.calls) == 2


def test_a_file_that_is_not_there(pip: Pip, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"requirements .*none\.txt cannot be read: No such file"):
        install(tmp_path / "none.txt", say=print)
    assert pip.calls == []


def test_the_constraints_are_the_repositorys() -> None:
    assert requirements.CONSTRAINTS.is_file()
