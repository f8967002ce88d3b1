"""The scripts of ``deploy/``: they make their environment once, repair what was interrupted, and say what is missing.

A stand-in for Python notes what it is asked to do, so that nothing is downloaded.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.cluster import REPOSITORY

TOOLS = "bash cat cksum dirname env flock grep rm touch mkdir cp chmod sed sort nproc"

PYTHON = """#!/usr/bin/env bash
[ "$1" != -P ] || shift
home="${0%/bin/python}" home="${home##*/}"
case "$1 $2" in
    "-c "*version_info\\[:2\\]*) echo "${STAND_IN_VERSION:-3.12}" ;;
    "-c "*platform*) echo "Python of $home" ;;
    "-m pytest") shift 2; echo "pytest $* in $home" >>"$STAND_IN_LOG"
        [ "$home" != "${STAND_IN_FAILING_CELL:-}" ] || exit "${STAND_IN_CODE:-1}" ;;
    "-c "*version_info*) [ "${STAND_IN_VERSION:-3.12}" != 3.9 ] ;;
    "-c import matplotlib") [ -z "${STAND_IN_PLOTLESS:-}" ] ;;
    "-c "*ensurepip*) [ -z "${STAND_IN_CRIPPLED:-}" ] ;;
    "-m venv") echo "venv $3" >>"$STAND_IN_LOG"; rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python"
        printf '#!/usr/bin/env bash\\necho "roost $*"\\n' >"$4/bin/roost"; chmod +x "$4/bin/roost" ;;
    "-m pip") case "$*" in
        *install*) echo "install ${!#}" >>"$STAND_IN_LOG"; [ -z "${STAND_IN_FAILS:-}" ] ;;
        esac ;;
esac
"""


class Checkout:
    """A copy of what the scripts need, on a machine with the given programs."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "checkout"
        self.bin = folder / "bin"
        self.log = folder / "log"
        self.venv = self.root / ".venv"
        (self.root / "deploy").mkdir(parents=True)
        scripts = ("up", "status", "load", "test", "environment.sh", "matrix.sh", "constraints.txt")
        for name in ("pyproject.toml", *(f"deploy/{script}" for script in scripts)):
            shutil.copy(REPOSITORY / name, self.root / name)
        self.bin.mkdir()
        for tool in TOOLS.split():
            path = shutil.which(tool)
            assert path
            (self.bin / tool).symlink_to(path)
        self.add_python("python3")

    def add_python(self, name: str) -> None:
        (self.bin / name).write_text(PYTHON)
        (self.bin / name).chmod(0o755)

    def run(self, script: str = "deploy/status", *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.bin), "STAND_IN_LOG": str(self.log), **settings}
        command = [str(self.root / script), *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)

    def done(self) -> list[str]:
        """What Python was asked to do since the last call."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.write_text("")
        return [line.replace(str(self.root), "ROOT") for line in lines]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_the_first_run_makes_the_environment_and_later_ones_start_at_once(checkout: Checkout) -> None:
    first = checkout.run("deploy/up", "app.py", "--port", "1")
    assert first.stdout == "roost up app.py --port 1\n"
    assert len(first.stderr.splitlines()) == 1
    assert "with Python 3.12 (the first time only" in first.stderr
    assert checkout.done() == ["venv --clear", "install ROOT"]
    later = checkout.run("deploy/status", "--json")
    assert (later.stdout, later.stderr) == ("roost status --json\n", "")
    assert checkout.done() == []


def test_other_versions_are_installed_into_the_same_environment(checkout: Checkout) -> None:
    checkout.run()
    checkout.done()
    (checkout.root / "deploy" / "constraints.txt").write_text("x==1\n")
    assert "updating" in checkout.run().stderr
    assert checkout.done() == ["install ROOT"]


def test_a_moved_repository_is_installed_again(checkout: Checkout) -> None:
    """The packages are linked from where they lie."""
    checkout.run()
    checkout.done()
    checkout.root = checkout.root.rename(checkout.root.with_name("moved"))
    assert checkout.run().returncode == 0
    assert checkout.done() == ["install ROOT"]


def test_an_interrupted_installation_is_made_anew(checkout: Checkout) -> None:
    failed = checkout.run(STAND_IN_FAILS="1")
    assert failed.returncode == 70
    assert failed.stderr.endswith("roost: the packages could not be installed (see above)\n")
    assert checkout.done() == ["venv --clear", "install ROOT"]
    assert checkout.run().stdout == "roost status\n"
    assert checkout.done() == ["venv --clear", "install ROOT"]


def test_a_half_made_environment_is_made_anew(checkout: Checkout) -> None:
    (checkout.venv / "bin").mkdir(parents=True)
    (checkout.venv / "pyvenv.cfg").write_text("")
    assert checkout.run().returncode == 0
    assert checkout.done() == ["venv --clear", "install ROOT"]


def test_an_update_that_fails_makes_it_anew(checkout: Checkout) -> None:
    checkout.run()
    checkout.done()
    (checkout.root / "pyproject.toml").write_text("changed")
    assert checkout.run(STAND_IN_FAILS="1").returncode == 70
    assert checkout.done() == ["install ROOT", "venv --clear", "install ROOT"]


def test_a_report_of_a_load_test_brings_matplotlib(checkout: Checkout) -> None:
    checkout.run()
    checkout.done()
    assert checkout.run("deploy/load", "ws://x/", STAND_IN_PLOTLESS="1").stdout == "roost load ws://x/\n"
    assert checkout.done() == []
    found = checkout.run("deploy/load", "ws://x/", "--report=r.html", STAND_IN_PLOTLESS="1")
    assert (found.stdout, found.stderr) == (
        "roost load ws://x/ --report=r.html\n",
        "roost: adding matplotlib for the report (once)\n",
    )
    assert checkout.done() == ["install matplotlib"]
    failed = checkout.run("deploy/load", "ws://x/", "--report", "r.png", STAND_IN_PLOTLESS="1", STAND_IN_FAILS="1")
    assert failed.returncode == 70
    assert failed.stderr.endswith("roost: matplotlib could not be installed (see above)\n")


def test_a_newer_python_is_found_behind_an_old_one(checkout: Checkout) -> None:
    (checkout.bin / "python3").write_text(PYTHON.replace("${STAND_IN_VERSION:-3.12}", "3.9"))
    checkout.add_python("python3.13")
    assert checkout.run().returncode == 0


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"STAND_IN_VERSION": "3.9"}, "Python 3.11 or newer is needed and was not found (python3 is 3.9)"),
        ({"STAND_IN_CRIPPLED": "1"}, "python3 cannot make virtual environments (it has no venv or ensurepip)"),
    ],
)
def test_a_machine_that_will_not_do_is_told_so(checkout: Checkout, settings: dict[str, str], sentence: str) -> None:
    told = checkout.run("deploy/up", **settings)
    assert told.returncode == 70
    assert told.stderr.startswith(f"roost: {sentence}")
    assert len(told.stderr.splitlines()) == 1
    assert not checkout.venv.exists()


def test_a_machine_without_python_is_told_so(checkout: Checkout) -> None:
    os.unlink(checkout.bin / "python3")
    assert checkout.run().stderr == "roost: Python 3.11 or newer is needed and was not found\n"


def test_nothing_is_imported_from_the_folder_where_it_is_called(checkout: Checkout) -> None:
    """A name that Python itself imports early is beyond anybody's help; what the scripts ask for is not."""
    for path in ("deploy/environment.sh", "deploy/load", "deploy/matrix.sh"):
        for line in (checkout.root / path).read_text().splitlines():
            if re.search(r'(python|PYTHON|candidate)" -[cm] ', line):
                assert "import sys" in line, "needs -P"


@pytest.mark.parametrize(
    ("entries", "kept"),
    [(":", ""), (":/x y", "/x y"), ("/x:", "/x"), ("::/x:::/y::", "/x:/y"), ("/x:/y", "/x:/y"), ("", "")],
)
def test_an_empty_entry_of_pythonpath_is_not_the_folder_where_it_is_called(
    checkout: Checkout, entries: str, kept: str
) -> None:
    """Python, which is started with it, imports modules of its own before it runs any code of ours."""
    checkout.run()
    (checkout.venv / "bin" / "roost").write_text('#!/usr/bin/env bash\necho "$PYTHONPATH"\n')
    assert checkout.run(PYTHONPATH=entries).stdout == f"{kept}\n"


# --- the matrix ---

LOWEST = re.findall(r'"websockets>=([\d.]+)"', (REPOSITORY / "pyproject.toml").read_text())[0]
CELLS = [f"python3.{minor}-websockets-{which}" for minor in (11, 13) for which in (LOWEST, "newest")]


@pytest.fixture
def two_pythons(checkout: Checkout) -> Checkout:
    """A machine with three, of which one is in the middle, and with one that its version manager has switched off."""
    for name in ("python3.11", "python3.12", "python3.13"):
        checkout.add_python(name)
    checkout.add_python("python3.14")
    (checkout.bin / "python3.14").write_text("#!/usr/bin/env bash\necho 'python3.14: not found' >&2\nexit 127\n")
    return checkout


def test_the_matrix_runs_the_tests_in_four_environments_of_their_own(two_pythons: Checkout) -> None:
    ran = two_pythons.run("deploy/test", "--matrix", "tests/unit", "-q")
    assert ran.returncode == 0
    expected = []
    for cell in CELLS:
        expected += ["venv --clear", "install ROOT[dev]"]
        expected += ["install websockets"] if cell.endswith("newest") else []
        expected += [f"pytest tests/unit -q in {cell}"]
    assert two_pythons.done() == expected
    assert ran.stderr.splitlines()[-4:] == [f"roost: Python of {cell}: passed" for cell in CELLS]
    assert f"roost: testing with Python of {CELLS[2]} ({two_pythons.bin / 'python3.13'})" in ran.stderr
    assert not two_pythons.venv.exists()
    assert two_pythons.run("deploy/test", "--matrix", "-q").returncode == 0
    again = [line for line in two_pythons.done() if not line.startswith("pytest -q in ")]
    assert again == ["install websockets"] * 2  # a newer one may have come out


def test_the_matrix_pins_all_but_one_package(two_pythons: Checkout) -> None:
    two_pythons.run("deploy/test", "--matrix", "-q")
    pins = (REPOSITORY / "deploy" / "constraints.txt").read_text().splitlines()
    others = [line for line in pins if not line.startswith("websockets==")]
    folder = two_pythons.root / ".matrix"
    assert (folder / f"websockets-{LOWEST}.txt").read_text().splitlines() == [*others, f"websockets=={LOWEST}"]
    assert (folder / "websockets-newest.txt").read_text().splitlines() == others


def test_a_cell_of_the_matrix_that_fails_does_not_keep_the_others_from_running(two_pythons: Checkout) -> None:
    ran = two_pythons.run("deploy/test", "--matrix", "-q", STAND_IN_FAILING_CELL=CELLS[1])
    assert ran.returncode == 1
    assert sum(line.startswith("pytest") for line in two_pythons.done()) == 4
    outcomes = [f"roost: Python of {cell}: passed" for cell in CELLS]
    outcomes[1] = f"roost: Python of {CELLS[1]}: failed (pytest ended with 1)"
    assert ran.stderr.splitlines()[-4:] == outcomes


def test_a_matrix_that_is_interrupted_ends(two_pythons: Checkout) -> None:
    ran = two_pythons.run("deploy/test", "--matrix", "-q", STAND_IN_FAILING_CELL=CELLS[1], STAND_IN_CODE="2")
    assert ran.returncode == 1
    assert sum(line.startswith("pytest") for line in two_pythons.done()) == 2
    assert ran.stderr.splitlines()[-1] == f"roost: Python of {CELLS[1]}: failed (pytest ended with 2)"


def test_a_matrix_of_one_python_says_so(checkout: Checkout) -> None:
    checkout.add_python("python3.11")
    ran = checkout.run("deploy/test", "--matrix", "-q")
    assert ran.returncode == 0
    assert ran.stderr.startswith("roost: PATH has no newer Python than python3.11: only that one is tried\n")
    assert ran.stderr.splitlines()[-2:] == [f"roost: Python of {cell}: passed" for cell in CELLS[:2]]


def test_a_matrix_without_the_lowest_python_is_refused(checkout: Checkout) -> None:
    checkout.add_python("python3.13")
    ran = checkout.run("deploy/test", "--matrix", "-q")
    assert ran.returncode == 70
    assert ran.stderr == ("roost: the matrix needs python3.11, and PATH has none that makes virtual environments\n")
    assert checkout.done() == []
