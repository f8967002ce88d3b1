"""What a supervisor keeps in the run folder: where its cluster answers, and what to sweep at the end."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from ..common.startup import holder_of

SUPERVISOR = "supervisor"
"""The name under which a supervisor holds its data folder."""
_FILE = "cluster.json"


@dataclass(frozen=True, slots=True)
class Address:
    """How commands reach a supervisor. Only its owner can read the file: the token ends the cluster."""

    pid: int
    admin_host: str
    admin_port: int
    token: str
    url: str

    @property
    def admin(self) -> str:
        """The admin API's URL."""
        return f"http://{self.admin_host}:{self.admin_port}"


def write_address(run: Path, address: Address) -> None:
    """Leave *address* for the commands, whole or not at all."""
    fresh = run / f"{_FILE}.new"
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(asdict(address), file)
    fresh.replace(run / _FILE)


def read_address(run: Path) -> Address | None:
    """The address of the supervisor that lives now; ``None`` when there is none, or it has not got that far yet."""
    try:
        found = Address(**json.loads((run / _FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    # One that was killed has left its file, and another one may hold the name by now: the token is not for whoever
    # listens at the old port.
    return found if holder_of(run, SUPERVISOR) == found.pid else None


def live_members(run: Path) -> dict[str, int]:
    """The members that live, by name with their pids, routers first: who holds a lock lives."""
    found = {}
    for path in sorted(run.glob("*.lock")):
        pid = holder_of(run, path.stem)
        if pid is not None and path.stem != SUPERVISOR:
            found[path.stem] = pid
    return found


def sweep(run: Path, *, keep: Path | None = None) -> None:
    """Remove what ended members have left. Only for whoever knows that none lives; *keep* is its own lock."""
    for path in run.glob("*"):
        if path != keep and not path.is_dir():
            path.unlink(missing_ok=True)
