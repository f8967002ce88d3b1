"""Ending members that no supervisor watches: for ``roost down``, and for what a start or an end finds left over."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from ...common.runtime.processes import KILL_DEADLINE_S
from .members import LiveMember, find_members, is_router, is_still

ROUNDS = 3
"""Looks for members that were just starting while the others were ended, and for what these have left."""


def end_everybody(run: Path, deadline_s: float) -> list[str]:
    """End all members of a run folder.

    Args:
        run: The run folder.
        deadline_s: Seconds that routers, then shards, get before they are killed.

    Returns:
        The names of those that were ended, routers first.
    """
    ended: list[str] = []
    for _ in range(ROUNDS):
        found = find_members(run)
        if not found:
            break
        # What a member's code has forked is left to that member. The next round finds what is left of it.
        pids = {live.pid for live in found}
        now = [live for live in found if live.forked_from not in pids]
        ended += [live.name if live.name and not live.forked_from else f"process {live.pid}" for live in now]
        end_leftovers(run, now, deadline_s)
    return ended


def end_leftovers(run: Path, members: Collection[LiveMember], deadline_s: float) -> None:
    """End some members: routers first, so that shards still run the close handlers for their clients.

    Forks are killed: what they would do at a SIGTERM is not known, and nobody waits for it. Blocks for as long as all
    that takes.
    """
    for routers in (True, False):
        with contextlib.ExitStack() as held:
            descriptors: list[int] = []
            forks: list[int] = []
            for live in members:
                if is_router(live) is routers:
                    descriptor = held.enter_context(watched(live.pid))
                    # After opening: the descriptor means this process, whoever gets the pid later.
                    if descriptor is not None and is_still(run, live):
                        (forks if live.forked_from else descriptors).append(descriptor)
            _signal(forks, signal.SIGKILL)
            _signal(descriptors, signal.SIGTERM)
            late = _await_all(descriptors, deadline_s)
            _signal(late, signal.SIGKILL)
            _await_all([*late, *forks], KILL_DEADLINE_S)


def _signal(descriptors: Collection[int], number: int) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            signal.pidfd_send_signal(descriptor, number)


def _await_all(descriptors: Collection[int], deadline_s: float) -> list[int]:
    """Wait until all processes are gone; returns those that are not when the time is over."""
    give_up_at = time.monotonic() + deadline_s
    left = list(descriptors)
    while left:
        readable, _, _ = select.select(left, [], [], max(0.0, give_up_at - time.monotonic()))
        left = [descriptor for descriptor in left if descriptor not in readable]
        if not readable:
            break
    return left


@contextlib.contextmanager
def watched(pid: int) -> Iterator[int | None]:
    """A descriptor of the process, ``None`` when there is none."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield pidfd
    finally:
        os.close(pidfd)
