"""What attacks there are. A module of this folder that has some is named in ``MODULES``, and has lines such as::

    @attack("empty pings, and reads the pongs")
    def pings(target: Target) -> None:
        while target.goes_on:
            ...

The function is run in each attacker's own process until ``target.goes_on`` is false; what it sends is its business. It
need not close what it has opened. An ``OSError`` in it, as when the router has closed the connection, has it called
again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.cluster import Cluster

MODULES = (
    "tests.attacks.floods",
    "tests.attacks.crowds",
    "tests.attacks.heads",
    "tests.attacks.large",
    "tests.attacks.rooms",
    "tests.attacks.hoards",
    "tests.attacks.honest",
)
"""Where attacks are."""
APP = "tests.attacks.app"
"""The app of whoever names no other. Its ``/echo/NAME`` must echo: the neighbour speaks to it."""


@dataclass(frozen=True)
class Target:
    """What an attacker is given.

    Attributes:
        port: The cluster's port of 127.0.0.1.
        number: Which of the attackers this is, from 0.
        until_s: When to end, monotonic seconds.
    """

    port: int
    number: int
    until_s: float

    @property
    def goes_on(self) -> bool:
        """Whether the attack is not over."""
        return time.monotonic() < self.until_s


@dataclass(frozen=True)
class Bound:
    """A bound that the documents promise, and that the growth of a process's memory is compared with.

    Attributes:
        process: ``router`` or ``shard``.
        bytes: Bytes that may be held.
        what: What is bounded, in a few words.
    """

    process: str
    bytes: int
    what: str


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        name: As the command has it.
        sends: What each attacker does, in words that go on from "N clients: ".
        run: Does it, in the attacker's process.
        bound: What its memory is compared with.
        attackers: How many processes.
        seconds: For how long, unless the command says otherwise.
        app: Module or file of the app.
        router: Settings of the router.
        shard: Settings of the shard.
        limits: As ``Cluster`` has them.
        honest: It is none: as much traffic of honest clients as an attack makes, to compare with. No goals hold for it.
        meanwhile: What is done to the cluster during the attack, in a thread of the driver.
    """

    name: str
    sends: str
    run: Callable[[Target], None]
    bound: Bound | None = None
    attackers: int = 3
    seconds: float = 4.0
    app: str = APP
    router: Mapping[str, Any] = field(default_factory=dict)
    shard: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    meanwhile: Callable[[Cluster], None] | None = None
    honest: bool = False


ALL: dict[str, Attack] = {}
"""By name, in the order of the modules."""


def add(new: Attack) -> None:
    """Enter an attack.

    Raises:
        ValueError: There is one of that name.
    """
    if new.name in ALL:
        raise ValueError(f"there are two attacks {new.name!r}")
    ALL[new.name] = new


def attack(sends: str, **more: Any) -> Callable[[Callable[[Target], None]], Callable[[Target], None]]:
    """Enters a function as an attack of its own name, underscores as hyphens; *more* are fields of ``Attack``."""

    def enter(run: Callable[[Target], None]) -> Callable[[Target], None]:
        add(Attack(run.__name__.replace("_", "-"), sends, run, **more))
        return run

    return enter


def load() -> Mapping[str, Attack]:
    """All attacks of all modules."""
    for module in MODULES:
        import_module(module)
    return ALL
