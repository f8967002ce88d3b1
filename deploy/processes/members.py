"""Finding the members that live in a run folder, whoever started them.

Two things tell of one: it holds the lock on its name, and its command line is a member's and means the run folder. The
latter also finds one that is just starting, or a process that tries an app.

It finds others, too: what user code has forked from a member (``multiprocessing`` does) has that member's command line.
Such a **fork** is no member. As long as its member lives, it is that one's affair; when the member has ended, nobody
else will end it.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ...common.runtime.startup import is_holder
from ..plan.orders import canonical


@dataclass(frozen=True, slots=True)
class LiveMember:
    """A process of a run folder.

    Attributes:
        name: Its name; empty for one that is no member (it tries an app).
        pid: The process.
        kind: What stands behind ``roost.`` in its command line, such as ``router``.
        argv: Its arguments (``orders.canonical``).
        holds_name: Whether it has the lock on its name.
        age_s: Seconds since its start; 0 when that is not known.
        forked_from: The process of the member that it is a fork of, whether that one lives or not; 0 for no fork.
    """

    name: str
    pid: int
    kind: str
    argv: tuple[str, ...]
    holds_name: bool
    age_s: float = 0.0
    forked_from: int = 0


def find_members(run: Path) -> list[LiveMember]:
    """All processes of a run folder but supervisors, routers first; forks as well, the last of all."""
    ours = f"--run={run.resolve()}"
    found: dict[int, LiveMember] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        if pid == os.getpid():
            continue
        kind, argv = _read_command(pid)
        if not kind or ours not in argv or not _is_ours(folder):
            continue
        name = next((word.removeprefix("--name=") for word in argv if word.startswith("--name=")), "")
        name = name if kind in ("router", "shard") else ""
        found[pid] = LiveMember(name, pid, kind, argv, bool(name) and is_holder(run, name, pid), _age_s(pid))
    for live in list(found.values()):
        if live.holds_name:
            # What stands above a member and looks like it is what has started it: an init of a container, say.
            for pid in _ancestors(live.pid):
                if pid in found and not found[pid].holds_name:
                    del found[pid]
    members = [_marked(live, found) for live in found.values()]
    return sorted(members, key=lambda live: (bool(live.forked_from), not is_router(live), live.name, live.pid))


def is_still(run: Path, live: LiveMember) -> bool:
    """Whether the pid means the same process as when it was found."""
    if live.holds_name:
        return is_holder(run, live.name, live.pid)
    return _read_command(live.pid) == (live.kind, live.argv)


def is_router(member: LiveMember) -> bool:
    """Whether it is a router: they are to be ended first."""
    return member.kind == "router"


def _marked(live: LiveMember, found: Collection[int]) -> LiveMember:
    """The process with ``forked_from``: an ancestor that is found as well, or the leader of its session, if that is
    found or has ended. Members that ``roost up`` has started lead sessions of their own."""
    if live.holds_name:
        return live
    parent = next((pid for pid in _ancestors(live.pid) if pid in found), 0)
    if not parent:
        leader = _stat(live.pid)[3] if _stat(live.pid) else live.pid
        if leader not in (0, live.pid) and (leader in found or not _lives(leader)):
            parent = leader
    return LiveMember(live.name, live.pid, live.kind, live.argv, False, live.age_s, parent)


def _read_command(pid: int) -> tuple[str, tuple[str, ...]]:
    """``(kind, arguments)`` of a ``python -m roost.<kind> …``; empty for everything else."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
        texts = [os.fsdecode(word) for word in words]
        for at, word in enumerate(texts[:-1]):
            if word == "-m" and texts[at + 1].startswith("roost."):
                kind = texts[at + 1].removeprefix("roost.")
                if kind.startswith("deploy"):
                    break
                return kind, canonical(texts[at + 2 :], Path(os.readlink(f"/proc/{pid}/cwd")))
    except OSError:
        pass  # it has ended, or is another user's
    return "", ()


def _is_ours(folder: Path) -> bool:
    """Whether the process is this user's, and has not ended yet: another user could write what he likes there."""
    try:
        return folder.stat().st_uid == os.getuid() and _lives(int(folder.name))
    except OSError:
        return False


def _lives(pid: int) -> bool:
    return (_state(pid) or "X") not in ("Z", "X")


def _ancestors(pid: int) -> list[int]:
    found: list[int] = []
    while (fields := _stat(pid)) and fields[1] > 0 and fields[1] not in found:
        pid = fields[1]
        found.append(pid)
    return found


def _state(pid: int) -> str:
    fields = _fields(pid)
    return fields[0] if fields else ""


def _stat(pid: int) -> tuple[int, ...]:
    """``(0, parent, group, session, …)`` of a process, as ``/proc`` numbers them; empty when there is none."""
    fields = _fields(pid)
    return (0, *(int(field) for field in fields[1:20])) if len(fields) >= 20 else ()


def _fields(pid: int) -> list[str]:
    try:
        # The name in the second field may hold anything, parentheses too: the others follow the last one.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _age_s(pid: int) -> float:
    fields = _stat(pid)
    if not fields:
        return 0.0
    try:
        up_s = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, IndexError, ValueError):
        return 0.0
    return max(0.0, up_s - fields[19] / os.sysconf("SC_CLK_TCK"))
