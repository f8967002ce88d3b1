"""What a supervisor keeps in the run folder: where its cluster answers, and what to sweep at the end."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from ...common.cluster.cluster_map import ClusterMap
from ...common.machine.last_words import forget_links
from ...common.machine.run_folder import SUPERVISOR, counters_path, locked_names, remove_sockets
from ...common.machine.upkeep import is_file
from ...common.runtime.startup import forget_name, holder_of, is_holder

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


class AddressFile:
    """Where *address* lies for the commands, whole or not at all.

    Args:
        run: The run folder.
        address: What to write.

    Raises:
        OSError: It cannot be written.
    """

    def __init__(self, run: Path, address: Address) -> None:
        self.path = run / _FILE
        self._text = json.dumps(asdict(address))
        self._file = (0, 0)
        self.restore()

    def restore(self) -> bool:
        """Write the file if it is gone, or if another one is in its place.

        Returns:
            Whether it was gone.

        Raises:
            OSError: It cannot be written.
        """
        if is_file(self.path, *self._file):
            return False
        fresh = self.path.with_suffix(".new")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(self._text)
            info = os.fstat(file.fileno())
        fresh.replace(self.path)
        self._file = info.st_dev, info.st_ino
        return True


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
    for name in locked_names(run):
        pid = holder_of(run, name)
        if pid is not None and name != SUPERVISOR:
            found[name] = pid
    return found


def other_run_folder(run: Path, map_: ClusterMap) -> Path | None:
    """The run folder of the shards on the map that live, if it is another one than *run*: somebody has named one when
    the cluster was started, or another one."""
    for member in map_.shards:
        folder = Path(member.endpoint.removeprefix("ipc://")).parent
        if folder != run.resolve() and is_holder(folder, member.name, member.pid):
            return folder
    return None


def forget(run: Path, name: str) -> None:
    """Remove what the member *name*, which has ended for good, has left. What cannot be removed now stays."""
    with contextlib.suppress(OSError):
        forget_name(run, name)
        remove_sockets(run, name)
        forget_links(run, name)
        counters_path(run, name).unlink(missing_ok=True)


def forget_all_but(run: Path, names: Collection[str]) -> None:
    """Remove what members have left that have ended and are none of *names*."""
    for name in locked_names(run):
        if name not in names and name != SUPERVISOR and holder_of(run, name) is None:
            forget(run, name)


def sweep(run: Path, *, keep: Path | None = None) -> None:
    """Remove what ended members have left. Only for whoever knows that none lives; *keep* is its own lock."""
    for path in run.glob("*"):
        if path != keep and not path.is_dir():
            path.unlink(missing_ok=True)
