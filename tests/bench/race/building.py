"""Programs of the race that are not Python's: compiled, or installed, into a folder of the race's own when needed."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
COMPILE_TIMEOUT_S = 120.0
INSTALL_TIMEOUT_S = 600.0


class Unavailable(Exception):
    """Something cannot take part in the race on this machine; the message says why."""


def default_cache() -> Path:
    """Where programs are kept between two runs, unless the user says where."""
    return Path(tempfile.gettempdir()) / "roost-race"


def compiled(cache: Path, *sources: str) -> Path:
    """The program of C files of this folder, compiled unless that has been done.

    Args:
        cache: Folder for the program.
        sources: Names of the files; the program is named for the first of them. Headers count as sources.

    Raises:
        Unavailable: There is no C compiler, or it fails.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise Unavailable(f"{sources[0]} has to be compiled, and there is no cc, gcc or clang here")
    digest = hashlib.sha256(b"".join((HERE / source).read_bytes() for source in sources)).hexdigest()
    program = cache / f"{Path(sources[0]).stem}-{digest[:12]}"
    if not program.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # Under a name of its own until it is whole: two runs may share the folder.
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            fresh = Path(folder) / "program"
            units = [str(HERE / source) for source in sources if source.endswith(".c")]
            words = [compiler, "-std=c11", "-O2", "-Wall", "-o", str(fresh), *units]
            _run(words, f"{sources[0]} does not compile", COMPILE_TIMEOUT_S)
            fresh.replace(program)
    return program


def workerd(cache: Path) -> Path:
    """The program of npm's ``workerd``, installed unless that has been done.

    Raises:
        Unavailable: There is no npm, or it cannot install it.
    """
    folder = cache / "workerd"
    program = folder / "node_modules" / ".bin" / "workerd"
    if not program.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise Unavailable("workerd comes from npm, which is not here")
        folder.mkdir(parents=True, exist_ok=True)
        words = [npm, "install", f"--prefix={folder}", "--no-audit", "--no-fund", "workerd"]
        _run(words, "npm cannot install workerd", INSTALL_TIMEOUT_S)
    if not program.exists():
        raise Unavailable("npm has installed workerd without a program for this machine")
    return program


def durable_actors(cache: Path) -> Path:
    """The folder of an environment with ``durable-actors[cli]``, made unless that has been done.

    Raises:
        Unavailable: pip cannot install it.
    """
    folder = cache / "durable-actors"
    if not (folder / "bin" / "durable-actors").exists():
        _run([sys.executable, "-m", "venv", str(folder)], "no environment for durable-actors", INSTALL_TIMEOUT_S)
        words = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "durable-actors[cli]"]
        _run(words, "pip cannot install durable-actors[cli]", INSTALL_TIMEOUT_S)
    return folder


def output_of(words: list[str]) -> str:
    """What a short command prints; for versions.

    Raises:
        Unavailable: It cannot be run.
    """
    return _run(words, f"{Path(words[0]).name} cannot be run", 30.0).strip()


def _run(words: list[str], trouble: str, timeout_s: float) -> str:
    try:
        finished = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{trouble}: {error}") from error
    if finished.returncode != 0:
        said = (finished.stderr.strip() or finished.stdout.strip()).splitlines()
        raise Unavailable(f"{trouble}: {said[-1] if said else f'exit code {finished.returncode}'}")
    return finished.stdout
