"""The wheel: it builds, holds what it must, and works where nothing of the repository is."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.packaging.test_layout import PACKAGES
from tests.support.cluster import REPOSITORY


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy: building leaves files in the source folder."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info", "build", "dist", "tests")
    shutil.copytree(REPOSITORY, copy, symlinks=True, ignore=ignored)
    # Without isolation, so that it needs no network: setuptools is one of the development packages.
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", folder, copy], check=True, timeout=50)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_code_the_examples_and_the_type_markers(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in PACKAGES:
        for path in (REPOSITORY / package).glob("*.py"):
            assert f"roost/{package}/{path.name}" in names
        assert f"roost/{package}/py.typed" in names
    assert {"roost/__init__.py", "roost/__main__.py", "roost/py.typed"} <= names
    for path in (REPOSITORY / "deploy" / "examples").glob("*.py"):
        assert f"roost/deploy/examples/{path.name}" in names
    assert not [name for name in names if "package/" in name or name.startswith("tests/")]
    assert [name for name in names if name.endswith("licenses/LICENSE")]


def test_an_installed_wheel_imports_and_runs(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True, timeout=50)
    # The dependencies come from here. PYTHONPATH does not run .pth files, so the linked packages do not come along.
    environment = {"PYTHONPATH": sysconfig.get_path("purelib"), "PATH": "/usr/bin:/bin"}
    code = """
import importlib, pathlib, sys
parts = ("common", "router", "shard", "deploy", "deploy.commands.cli", "shard.__main__", "router.__main__")
for name in ("roost", *map("roost.".__add__, parts)):
    found = importlib.import_module(name).__file__
    assert found.startswith(sys.argv[1]), found
from roost.deploy.plan.config import CHAT_EXAMPLE
assert CHAT_EXAMPLE.is_file() and str(CHAT_EXAMPLE).startswith(sys.argv[1]), CHAT_EXAMPLE
"""
    run = {"check": True, "cwd": tmp_path, "env": environment, "timeout": 50}
    subprocess.run([python, "-c", code, home], **run)  # type: ignore[call-overload]
    for words in (["--version"], ["up", "--help"], ["router", "--help"], ["shard", "--help"]):
        subprocess.run([home / "bin" / "roost", *words], stdout=subprocess.DEVNULL, **run)  # type: ignore[call-overload]
