"""Other processes of this machine: starting one of ours, whether one is at work, and ending one for certain.

A slot may be given to another shard only when its owner cannot act any more, and a process that has merely stopped may
go on at any time. So it is killed first. A pid alone does not say who that is, since the system gives it to others
later: the process must hold the member's name (``startup.is_holder``), and is then addressed by a descriptor.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path

from .startup import is_holder

KILL_DEADLINE_S = 5.0
"""Seconds for a killed process to be gone: the system frees its memory first."""


def python_words(module: str) -> list[str]:
    """The beginning of a command line that runs a module of ours.

    With ``-P``: Python would look into the current folder first, and a ``secrets.py`` that lies there, beside an app,
    would take the place of the standard library's.
    """
    return [sys.executable, "-P", "-m", module]


def is_running(pid: int) -> bool:
    """Whether the process is on a processor or waits for one, not for anything else and not stopped.

    ``False`` as well where the system does not tell (no ``/proc``).
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in the second field may hold anything, parentheses too: the state follows the last one.
            return file.read().rpartition(b")")[2].split()[0] == b"R"
    except (OSError, IndexError):
        return False


def kill_member(run: Path, name: str, pid: int, deadline_s: float = KILL_DEADLINE_S) -> bool:
    """Kill the process *pid* if it is the member *name* of the cluster in the run folder, and wait until it is gone.

    Blocks for as long as that takes: not for an event loop.

    Returns:
        Whether *pid* is certainly not that member any more. ``False``: it lives, and could not be ended in time.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        # After opening: from here on the descriptor means the one process that holds the name now, or had it before. It
        # may live without its lock, which somebody has removed.
        if not is_holder(run, name, pid):
            return True
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        except ProcessLookupError:
            return True
        return bool(select.select([descriptor], [], [], deadline_s)[0])
    finally:
        os.close(descriptor)
