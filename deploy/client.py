"""How commands find a running cluster by its data folder, ask it, and end it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..common.config import run_folder
from ..common.errors import RoostError
from ..common.startup import holder_of
from .run_folder import SUPERVISOR, Address, live_members, read_address, sweep
from .status import ClusterStatus

REQUEST_TIMEOUT_S = 10.0
"""Seconds for an answer of the admin API."""


class NoCluster(RoostError):
    """No cluster runs in this data folder."""


class ClusterUnreachable(RoostError):
    """A supervisor lives, and does not answer as it should."""


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
        raise NoCluster(f"the cluster in {data} has lost its supervisor and serves without one: {who}")
    raise NoCluster(f"no cluster runs in the data folder {data}")


def ask(address: Address, method: str, path: str) -> Any:
    """One request to the admin API.

    Raises:
        ClusterUnreachable: No answer, or not the one that was asked for.
    """
    connection = http.client.HTTPConnection(address.admin_host, address.admin_port, timeout=REQUEST_TIMEOUT_S)
    with contextlib.closing(connection):
        try:
            connection.request(method, path, headers={"authorization": f"Bearer {address.token}"})
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ClusterUnreachable(f"the supervisor at {address.admin} does not answer: {error}") from error
    if response.status >= 300:
        raise ClusterUnreachable(f"the supervisor at {address.admin} answered {response.status} to {method} {path}")
    try:
        return json.loads(body)
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
        members = live_members(run)
        if not members:
            raise
        _end_orphans(run, members, timeout_s)
        return f"ended the members that were left in {data}: {', '.join(members)}"
    # Opened before it is asked: a pid that is free again may be another process's later.
    with _watched(address.pid) as pidfd:
        ask(address, "POST", "/down")
        if not _gone(pidfd, timeout_s):
            raise ClusterUnreachable(f"the cluster in {data} still drains after {timeout_s:g} s")
    return f"the cluster in {data} has ended"


def _end_orphans(run: Path, members: dict[str, int], timeout_s: float) -> None:
    # Their names sort routers before shards, which is the order to drain in.
    for name, pid in members.items():
        with _watched(pid) as pidfd:
            if pidfd is None or holder_of(run, name) != pid:
                continue  # it ended meanwhile
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            if not _gone(pidfd, timeout_s):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                _gone(pidfd, timeout_s)
    sweep(run)
    with contextlib.suppress(OSError):
        run.rmdir()


@contextlib.contextmanager
def _watched(pid: int) -> Iterator[int | None]:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield pidfd
    finally:
        os.close(pidfd)


def _gone(pidfd: int | None, timeout_s: float) -> bool:
    """Wait for a process to end."""
    if pidfd is None:
        return True
    give_up_at = time.monotonic() + timeout_s
    readable, _, _ = select.select([pidfd], [], [], max(0.0, give_up_at - time.monotonic()))
    return bool(readable)
