"""What members were told: command lines, compared by what they mean. Pure.

A member may have been started by ``roost up``, by hand or by systemd: ``--port 8787``, ``--port=8787`` and no word of a
port at all are the same to a router.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from ...common.machine.run_folder import DATA_FOLDER, run_folder
from ...common.runtime.config import MemberConfig, describe
from ...common.settings.router import RouterConfig
from ...common.settings.shard import ShardConfig

_CONFIGS: Mapping[str, type[MemberConfig]] = {"router": RouterConfig, "shard": ShardConfig}
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
    data = (cwd / (folders["data"] or DATA_FOLDER)).resolve()
    run = cwd / folders["run"] if folders["run"] else run_folder(data)
    return (*words, f"--data={data}", f"--run={run.resolve()}")


def told(kind: str, argv: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The options of a canonical command line, and of those that it does not give the member's defaults.

    Args:
        kind: ``router`` or ``shard``.
        argv: As ``canonical`` returns it.
    """
    found = dict(_defaults(kind))
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


@cache
def _defaults(kind: str) -> Mapping[str, tuple[str, ...]]:
    """What a member takes for an option that it is not given; nothing is said of those without a default."""
    found: dict[str, tuple[str, ...]] = {}
    for item in describe(_CONFIGS[kind]) if kind in _CONFIGS else ():
        if item.kind is bool:
            found[item.field] = ("yes" if item.default else "no",)
        elif item.default not in (None, ()):
            found[item.field] = (_comparable(str(item.default)),)
    return found


def _name_of(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")


def _comparable(value: str) -> str:
    """Numbers in one notation."""
    try:
        number = float(value)
    except ValueError:
        return value
    return repr(number) if math.isfinite(number) else value
