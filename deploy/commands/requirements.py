"""What an app imports beside roost: installed with pip into the environment that runs it, when its list has changed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from ...common.errors import ConfigError, StartupError
from ...common.runtime.processes import python_words

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
"""The versions of what roost needs itself; in the repository only."""
_STAMP = "roost-requirements"
"""In the environment: what was installed last. An environment that is made anew has none."""


class RequirementsFailed(StartupError):
    """What an app needs cannot be installed."""


def install(file: Path, *, say: Callable[[str], None]) -> None:
    """Install what *file* lists, unless it was the last one that was installed and is as it was.

    Args:
        file: In pip's form. Whether a file that it includes has changed is not looked at.
        say: Takes a line before it begins.

    Raises:
        ConfigError: There is no such file.
        RequirementsFailed: pip could not; it has said why on stderr.
    """
    try:
        wanted = _fingerprint(file)
    except OSError as error:
        raise ConfigError(f"the requirements {file} cannot be read: {error.strerror}") from error
    stamp = Path(sys.prefix) / _STAMP
    if stamp.exists() and stamp.read_text() == wanted:
        return
    say(f"roost: installing what {file} lists into {sys.prefix}")
    constraints = ["--constraint", str(CONSTRAINTS)] if CONSTRAINTS.is_file() else []
    words = [*python_words("pip"), "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run([*words, "--requirement", str(file), *constraints], stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise RequirementsFailed(f"what {file} lists could not be installed into {sys.prefix} (see above)")
    stamp.write_text(wanted)


def _fingerprint(file: Path) -> str:
    constraints = CONSTRAINTS.read_bytes() if CONSTRAINTS.is_file() else b""
    digest = hashlib.sha256(file.read_bytes() + b"\0" + constraints).hexdigest()
    return f"{digest} {file.resolve()}\n"
