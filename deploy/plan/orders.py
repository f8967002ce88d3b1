"""What members were told: command lines, compared by what they mean. Pure.

A member may have been started by ``roost up``, by hand or by systemd: ``--port 8787``, ``--port=8787`` and no word of a
port at all are the same to a router. The members' own config classes are not asked, as ``roost.deploy`` knows members
as processes alone; of their defaults, it knows those of the options that it always gives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...common import limits
from ...common.machine.run_folder import run_folder

DEFAULTS: Mapping[str, Mapping[str, str]] = {
    "router": {
        "host": "127.0.0.1",
        "port": "8787",
        "grace_s": str(limits.GRACE_S),
        "stall_kill_s": str(limits.STALL_KILL_S),
        "drain_limit_s": str(limits.DRAIN_LIMIT_S),
        "log_level": "info",
    },
    "shard": {"hibernate_after_s": str(limits.HIBERNATE_AFTER_S), "log_level": "info"},
}
"""What members take for options that ``UpConfig`` always gives."""
REPEATED = "vars"
"""The option that may be given several times; of all others, the last word counts."""
_NO_ORDERS = ("ready_fd", "standby_fd", "initial_shards")
"""The pipes of a start, and a number for an empty directory: they say nothing of what a member does."""


def canonical(argv: Sequence[str], cwd: Path) -> tuple[str, ...]:
    """The same orders for a process anywhere: each option one word, paths absolute, both folders named.

    Args:
        argv: A member's arguments.
        cwd: Its working folder.

    Returns:
        Arguments for another start. The ready pipe is left out: it was that start's.
    """
    words, folders, at = [], {"data": "", "run": ""}, 0
    while at < len(argv):
        option, equals, value = argv[at].partition("=")
        at += 1
        if not equals and at < len(argv) and not argv[at].startswith("--"):
            equals, value, at = "=", argv[at], at + 1
        name = _name_of(option)
        if name in ("ready_fd", "standby_fd"):
            continue
        if name in folders:
            folders[name] = value
            continue
        if name == "app" and (cwd / value).is_file():
            value = str((cwd / value).resolve())
        words.append(f"{option}{equals}{value}")
    data = (cwd / (folders["data"] or ".roost")).resolve()
    run = cwd / folders["run"] if folders["run"] else run_folder(data)
    return (*words, f"--data={data}", f"--run={run.resolve()}")


def told(kind: str, argv: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The options of a canonical command line, with defaults where they are known.

    Args:
        kind: ``router`` or ``shard``.
        argv: As ``canonical`` returns it.
    """
    found: dict[str, tuple[str, ...]] = {name: (_comparable(value),) for name, value in DEFAULTS.get(kind, {}).items()}
    for word in argv:
        option, equals, value = word.partition("=")
        name = _name_of(option)
        if not equals and name.startswith("no_"):
            found[name.removeprefix("no_")] = ("no",)
        elif not equals:
            found[name] = ("yes",)
        elif name == REPEATED:
            found[name] = (*found.get(name, ()), value)
        else:
            found[name] = (_comparable(value),)
    return found


def same_orders(kind: str, argv: Sequence[str], others: Sequence[str]) -> bool:
    """Whether two canonical command lines tell a member to do the same."""
    one, other = told(kind, argv), told(kind, others)
    return {**one, **dict.fromkeys(_NO_ORDERS)} == {**other, **dict.fromkeys(_NO_ORDERS)}


def _name_of(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")


def _comparable(value: str) -> str:
    """Numbers in one notation."""
    try:
        number = float(value)
    except ValueError:
        return value
    return repr(number) if math.isfinite(number) else value
