"""How commands find a running cluster by its data folder, ask it, and end it."""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ...common.cluster.directory_file import FILE_NAME, DirectoryFile
from ...common.errors import DirectoryError, RoostError
from ...common.machine.run_folder import SUPERVISOR, run_folder
from ...common.runtime.startup import holder_of
from ..plan.changes import ChangeFailed
from ..processes.leftovers import end_everybody, watched
from ..processes.members import find_members
from ..processes.run_folder import Address, live_members, other_run_folder, read_address, sweep
from ..report.status import ClusterStatus

REQUEST_TIMEOUT_S = 10.0
"""Seconds for an answer of the admin API."""
PROGRESS_INTERVAL_S = 0.1
"""Seconds between two looks at how far a change is."""
LEFT_DEADLINE_S = 15.0
"""Seconds that members without a supervisor get to drain before they are killed, as with one by default."""


class NoCluster(RoostError):
    """No cluster runs in this data folder."""


class ClusterUnreachable(RoostError):
    """A supervisor lives, and does not answer as it should."""


class Refused(RoostError):
    """The cluster does not do what was asked for; the message is the supervisor's, and nothing was changed."""


def find(data: Path, run: Path | None = None) -> Address:
    """The supervisor of a data folder.

    Raises:
        NoCluster: There is none; the message says when members live without one.
        ClusterUnreachable: It is just starting or ending.
    """
    run = run or run_folder(data)
    address = read_address(run)
    if address is not None:
        return address
    if holder_of(run, SUPERVISOR) is not None:
        raise ClusterUnreachable(f"the cluster in {data} is starting or ending: try again in a moment")
    members = live_members(run)
    if members:
        who = ", ".join(f"{name} (process {pid})" for name, pid in members.items())
        raise NoCluster(
            f"the cluster in {data} has lost its supervisor and serves without one: {who}; `roost up` with its options "
            "takes it over, `roost down` ends it"
        )
    other = _run_folder_in_map(data, run)
    if other is not None:
        raise NoCluster(f"the cluster in the data folder {data} has another run folder: add `--run {other}`")
    raise NoCluster(f"no cluster runs in the data folder {data}")


def _run_folder_in_map(data: Path, run: Path) -> Path | None:
    path = data / FILE_NAME
    if not path.exists():
        return None
    try:
        with contextlib.closing(DirectoryFile(path, create=False)) as directory:
            return other_run_folder(run, directory.map())
    except DirectoryError:
        return None  # then it does not tell


def ask(address: Address, method: str, path: str, body: object = None) -> Any:
    """One request to the admin API.

    Raises:
        Refused: The supervisor says why it will not do that.
        ClusterUnreachable: No answer, or not the one that was asked for.
    """
    connection = http.client.HTTPConnection(address.admin_host, address.admin_port, timeout=REQUEST_TIMEOUT_S)
    content = None if body is None else json.dumps(body).encode()
    with contextlib.closing(connection):
        try:
            connection.request(method, path, content, headers={"authorization": f"Bearer {address.token}"})
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ClusterUnreachable(f"the supervisor at {address.admin} does not answer: {error}") from error
    if response.status in (400, 409):
        raise Refused(answer.decode(errors="replace").strip())
    if response.status >= 300:
        raise ClusterUnreachable(f"the supervisor at {address.admin} answered {response.status} to {method} {path}")
    try:
        return json.loads(answer)
    except ValueError as error:
        raise ClusterUnreachable(f"the supervisor at {address.admin} answered something else than JSON") from error


def status(data: Path, run: Path | None = None) -> ClusterStatus:
    """The picture of a running cluster.

    Raises:
        NoCluster, ClusterUnreachable: as ``find`` and ``ask``.
    """
    address = find(data, run)
    try:
        return ClusterStatus.from_dict(ask(address, "GET", "/status"))
    except (KeyError, TypeError) as error:
        raise ClusterUnreachable(f"the supervisor at {address.admin} is of another version of roost") from error


def scale(
    data: Path, *, shards: int | None, routers: int | None, say: Callable[[str], None], run: Path | None = None
) -> str:
    """Change the number of members and wait until that is done.

    Args:
        data: The data folder.
        shards: How many there should be; ``None``: as many as there are.
        routers: The same.
        say: Takes each line of the progress.
        run: The run folder, if it is not derived from the data folder.

    Returns:
        A sentence on what has happened.

    Raises:
        NoCluster, ClusterUnreachable: as ``find`` and ``ask``.
        Refused: It cannot begin.
        ChangeFailed: It has failed.
    """
    return _change(find(data, run), "/scale", {"shards": shards, "routers": routers}, say)


def reload(data: Path, *, app: str | None, canary_s: float, say: Callable[[str], None], run: Path | None = None) -> str:
    """Give all shards new code and wait until that is done.

    Args:
        data: The data folder.
        app: A Python file or a module; ``None``: the app that runs, as it is on disk now.
        canary_s: Seconds to watch the first shard with it.
        say: Takes each line of the progress.
        run: The run folder, if it is not derived from the data folder.

    Returns, Raises:
        as ``scale``.
    """
    if app is not None and Path(app).is_file():
        app = str(Path(app).resolve())  # the supervisor may have another working folder
    return _change(find(data, run), "/reload", {"app": app, "canary_s": canary_s}, say)


def _change(address: Address, path: str, body: object, say: Callable[[str], None]) -> str:
    number = ask(address, "POST", path, body)["change"]
    said = 0
    while True:
        # However long it takes: the supervisor gives each stage its deadline, and a dead one does not answer.
        found = ask(address, "GET", f"/changes/{number}")
        for line in found["lines"][said:]:
            say(line)
        said = len(found["lines"])
        if found["done"]:
            break
        try:
            time.sleep(PROGRESS_INTERVAL_S)
        except KeyboardInterrupt:
            say("the change goes on without this command; `roost status` shows it")
            raise
    if found["exit_code"]:
        raise ChangeFailed(found["sentence"], found["exit_code"])
    return str(found["sentence"])


def down(data: Path, *, timeout_s: float, run: Path | None = None) -> str:
    """End a cluster and wait until it is gone; one without a supervisor as well.

    Returns:
        A sentence on what was ended.

    Raises:
        NoCluster: Nothing runs.
        ClusterUnreachable: It still runs after *timeout_s* seconds.
    """
    run = run or run_folder(data)
    try:
        address = find(data, run)
    except NoCluster:
        with _directory_open(data):
            ended = end_everybody(run, min(timeout_s, LEFT_DEADLINE_S))
        if not ended:
            raise
        if find_members(run):
            raise ClusterUnreachable(f"members are left in {data} that cannot be ended") from None
        sweep(run)
        with contextlib.suppress(OSError):
            run.rmdir()
        return f"ended the members that were left in {data}: {', '.join(ended)}"
    # Opened before it is asked: a pid that is free again may be another process's later.
    with watched(address.pid) as pidfd:
        ask(address, "POST", "/down")
        if pidfd is not None and not select.select([pidfd], [], [], timeout_s)[0]:
            raise ClusterUnreachable(f"the cluster in {data} still drains after {timeout_s:g} s")
    return f"the cluster in {data} has ended"


@contextlib.contextmanager
def _directory_open(data: Path) -> Iterator[None]:
    """Be the last one to close the directory, as a supervisor is: members that end in the same moment each see the
    other, and leave SQLite's side files to nobody."""
    with contextlib.ExitStack() as held:
        path = data / FILE_NAME
        if path.exists():
            with contextlib.suppress(DirectoryError):  # then it stays as it is
                held.callback(DirectoryFile(path, create=False).close)
        yield
