"""Finding the members that live in a run folder, whoever started them.

Two things tell of one: it holds the lock on its name, and its command line is a member's and names the run folder. The
latter also finds one that is just starting, or a process that checks an app. A lock alone proves nothing: a process
that user code has forked inherits it, and goes on holding it when the pid in it may be anybody's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..common.startup import holder_of
from .run_folder import SUPERVISOR

_IGNORED_OPTIONS = ("--ready-fd", "--initial-shards")
"""Options that say nothing of what a member does: the pipe of its start, and a number for an empty directory."""


@dataclass(frozen=True, slots=True)
class LiveMember:
    """A process of a run folder.

    Attributes:
        name: Its name; empty for one that is no member (it checks an app).
        pid: The process.
        kind: What stands behind ``roost.`` in its command line, such as ``router``.
        argv: Its arguments.
        holds_name: Whether it has the lock on its name.
        age_s: Seconds since its start; 0 when that is not known.
    """

    name: str
    pid: int
    kind: str
    argv: tuple[str, ...]
    holds_name: bool
    age_s: float = 0.0


def find_members(run: Path) -> list[LiveMember]:
    """All processes of a run folder but supervisors, routers first."""
    found: dict[int, LiveMember] = {}
    for path in sorted(run.glob("*.lock")):
        pid = holder_of(run, path.stem)
        if pid is None or path.stem == SUPERVISOR:
            continue
        kind, argv = _read_command(pid)
        if kind:
            found[pid] = LiveMember(path.stem, pid, kind, argv, True, _age_s(pid))
    ours = f"--run={run.resolve()}"
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        if pid in found or pid == os.getpid():
            continue
        kind, argv = _read_command(pid)
        if kind and ours in argv and _is_ours(folder):
            name = next((word.removeprefix("--name=") for word in argv if word.startswith("--name=")), "")
            found[pid] = LiveMember(name if kind in ("router", "shard") else "", pid, kind, argv, False, _age_s(pid))
    return sorted(found.values(), key=lambda member: (not is_router(member), member.name, member.pid))


def is_still(run: Path, live: LiveMember) -> bool:
    """Whether the pid means the same process as when it was found."""
    if live.holds_name:
        return holder_of(run, live.name) == live.pid
    return _read_command(live.pid) == (live.kind, live.argv)


def is_router(member: LiveMember) -> bool:
    """Whether it is a router: they are to be ended first."""
    return member.kind == "router"


def same_orders(argv: Sequence[str], others: Sequence[str]) -> bool:
    """Whether two command lines tell a member to do the same."""
    return _orders(argv) == _orders(others)


def without_ready_fd(argv: Sequence[str]) -> tuple[str, ...]:
    """The arguments for another start: the pipe of this one is gone."""
    return tuple(word for word in argv if not word.startswith("--ready-fd"))


def _orders(argv: Sequence[str]) -> list[str]:
    return [word for word in argv if not word.startswith(_IGNORED_OPTIONS)]


def _read_command(pid: int) -> tuple[str, tuple[str, ...]]:
    """``(kind, arguments)`` of a ``python -m roost.<kind> …``; empty for everything else."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return "", ()
    texts = [os.fsdecode(word) for word in words]
    for at, word in enumerate(texts[:-1]):
        if word == "-m" and texts[at + 1].startswith("roost."):
            kind = texts[at + 1].removeprefix("roost.")
            return ("", ()) if kind.startswith("deploy") else (kind, tuple(texts[at + 2 :]))
    return "", ()


def _is_ours(folder: Path) -> bool:
    """Whether the process is this user's, and has not ended yet: another user could write what he likes there."""
    try:
        state = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        return folder.stat().st_uid == os.getuid() and state not in ("Z", "X")
    except (OSError, IndexError):
        return False


def _age_s(pid: int) -> float:
    try:
        started = int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
        up_s = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, IndexError, ValueError):
        return 0.0
    return max(0.0, up_s - started / os.sysconf("SC_CLK_TCK"))
