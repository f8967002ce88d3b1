"""Type checkers pass right programs and report wrong ones: mypy, and pyright in the form that pip installs whole.

``basedpyright`` is pyright with its own node, so that nothing has to be there or to be fetched when the tests run. Its
rules are pyright's in the mode ``strict``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cluster import REPOSITORY

TYPED = REPOSITORY / "tests" / "packaging" / "typed"
EXAMPLES = REPOSITORY / "deploy" / "examples"

Found = dict[tuple[str, int], str]
"""File's name and line → what a checker says."""
Checker = Callable[[Path, list[Path]], Found]


def mypy(folder: Path, files: list[Path]) -> Found:
    command = [sys.executable, "-P", "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context"]
    done = subprocess.run(
        [*command, "--cache-dir", str(folder), *map(str, files)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    lines = re.findall(r"^(.+?):(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    return {(Path(file).name, int(line)): text for file, line, text in lines}


def pyright(folder: Path, files: list[Path]) -> Found:
    settings = folder / "pyrightconfig.json"
    settings.write_text(json.dumps({"include": [str(file) for file in files], "typeCheckingMode": "strict"}))
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", "-p", str(settings), "--pythonpath", sys.executable, "--outputjson"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] >= len(files)
    return {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1): each["message"]
        for each in report["generalDiagnostics"]
    }


def programs_of_the_docs(folder: Path) -> list[Path]:
    """The whole programs in the README and the page on writing objects, as files."""
    paths = []
    for page in (REPOSITORY / "README.md", REPOSITORY / "deploy" / "docs" / "writing-objects.md"):
        for number, text in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)):
            if "DurableObject" in text and "import" in text:
                paths.append(folder / f"{page.stem.lower().replace('-', '_')}_{number}.py")
                paths[-1].write_text(text)
    assert len(paths) >= 2
    return paths


CHECKERS = [pytest.param(mypy, id="mypy"), pytest.param(pyright, id="pyright")]


@pytest.mark.timeout(170)
@pytest.mark.parametrize("checker", CHECKERS)
def test_right_programs_pass(tmp_path: Path, checker: Checker) -> None:
    files = [TYPED / "right.py", *programs_of_the_docs(tmp_path), *sorted(EXAMPLES.glob("*.py"))]
    assert checker(tmp_path, files) == {}


@pytest.mark.timeout(170)
@pytest.mark.parametrize("checker", CHECKERS)
def test_wrong_programs_are_reported_line_by_line(tmp_path: Path, checker: Checker) -> None:
    wrong = TYPED / "wrong.py"
    marked = {
        (wrong.name, number)
        for number, line in enumerate(wrong.read_text().splitlines(), 1)
        if line.endswith("# wrong")
    }
    assert len(marked) > 20
    found = checker(tmp_path, [wrong])
    assert set(found) == marked, {place: found.get(place) for place in set(found) ^ marked}
