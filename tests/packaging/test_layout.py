"""The repository is laid out as the build, the type checker and the scripts expect it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import REPOSITORY

PYPROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
PACKAGES = ("common", "deploy", "router", "shard")
LINKS = REPOSITORY / "deploy" / "package" / "roost"
ENTRY = {"LICENSE", "README.md", "common", "deploy", "pyproject.toml", "router", "shard", "tests"}


def package_folders() -> set[str]:
    """Every folder with code in it, as a dotted name below ``roost``."""
    found = set()
    for top in PACKAGES:
        for init in (REPOSITORY / top).rglob("__init__.py"):
            if LINKS not in init.parents:
                found.add(".".join(init.parent.relative_to(REPOSITORY).parts))
    return found


def test_the_package_list_equals_the_folders() -> None:
    """A package that is not in the list would work from the repository and be missing from the wheel."""
    setuptools = PYPROJECT["tool"]["setuptools"]
    assert sorted(setuptools["packages"]) == sorted(["roost", *(f"roost.{name}" for name in package_folders())])
    assert setuptools["package-dir"] == {"": LINKS.parent.relative_to(REPOSITORY).as_posix()}


def test_the_top_level_is_the_users() -> None:
    found = {path.name for path in REPOSITORY.iterdir() if not path.name.startswith(".")}
    assert found - {"roost.egg-info"} == ENTRY  # left by installations of earlier versions


def test_each_package_is_typed() -> None:
    for folder in (LINKS, *(REPOSITORY / name for name in PACKAGES)):
        assert (folder / "py.typed").is_file()


def test_the_package_is_links_to_the_folders() -> None:
    """Of ``deploy`` what is in it is linked: a link to the folder would contain itself."""
    for name in ("common", "router", "shard"):
        assert (LINKS / name).is_symlink()
        assert (LINKS / name).resolve() == REPOSITORY / name
    files = {path.name for path in (REPOSITORY / "deploy").glob("*.py")} | {"py.typed"}
    files |= {path.parent.name for path in (REPOSITORY / "deploy").glob("*/__init__.py")}
    files.add("examples")  # data of the package
    links = {path.name: path.resolve() for path in (LINKS / "deploy").iterdir() if path.is_symlink()}
    assert links == {name: REPOSITORY / "deploy" / name for name in files}


@pytest.mark.parametrize(
    "script",
    [
        "deploy/up",
        "deploy/dev",
        "deploy/status",
        "deploy/scale",
        "deploy/reload",
        "deploy/down",
        "deploy/load",
        "deploy/test",
        ".ci/run",
    ],
)
def test_scripts_can_be_run(script: str) -> None:
    path = REPOSITORY / script
    assert path.stat().st_mode & 0o111
    assert path.read_text().startswith("#!/usr/bin/env bash\n")


def test_every_dependency_is_pinned() -> None:
    pins = {}
    for line in (REPOSITORY / "deploy" / "constraints.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][0-9a-z.]*)", line)
        assert match, f"not a name and a version: {line!r}"
        pins[_normal(match[1])] = match[2]
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["dev"], *extras["load"]]
    names = {_normal(re.split(r"[<>=!~;\[ ]", requirement, maxsplit=1)[0]) for requirement in wanted}
    assert names <= set(pins)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_documents_that_the_readme_names_exist() -> None:
    text = (REPOSITORY / "README.md").read_text()
    targets = re.findall(r"\]\(([^)#:]+)\)", text)
    assert targets
    missing = [target for target in targets if not Path(REPOSITORY, target).exists()]
    assert not missing
