"""The plan of a run: who is there, what clients do, which faults happen when. Drawn from the seed, before it starts."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from .clients import weighted

QUIET_S = 1.5
"""Seconds at the start without faults, in which the first clients connect."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happens.

    Attributes:
        at: Seconds after the start.
        what: A method of ``run.Run``: what happens.
        who: Which one of those there are then, from 0 to 1.
        value: How much, how long.
    """

    at: float
    what: str
    who: float = 0.0
    value: float = 0.0


@dataclass(slots=True)
class Plan:
    """See the module.

    Attributes:
        routers: Routers at the start.
        shards: Shards at the start.
        rooms: Names of the rooms.
        clients: How many clients come.
        lasts_s: Seconds after which no more faults begin.
        steps: What happens, in order.
    """

    routers: int
    shards: int
    rooms: list[str]
    clients: int
    lasts_s: float
    steps: list[Step] = field(default_factory=list)


FAULTS = {
    "crash_shard": 4.0,
    "lose_shard": 1.0,
    "crash_router": 1.5,
    "freeze_shard": 1.0,
    "freeze_router": 0.7,
    "expel_shard": 1.0,
    "expel_router": 0.5,
    "lose_supervisor": 0.7,
    "grow": 1.5,
    "shrink": 1.5,
    "reload": 1.5,
    "move": 3.0,
    "move_on": 2.0,
    "bounce": 2.0,
    "crash_mover": 3.0,
    "crash_unseen": 1.5,
    "join_router": 1.5,
    "leave_router": 0.7,
    "cut_link": 1.5,
    "lose_batches": 1.5,
    "double_batches": 0.7,
    "overtake": 0.7,
    "slow_down": 1.0,
    "lag": 1.5,
    "fill_disk": 1.0,
    "say_kill": 0.6,
    "defect": 1.5,
}
"""Faults by how often they come."""

THEMES = {
    "bounces": ("bounce", "move", "overtake", "double_batches"),
    "expulsions": ("expel_shard", "expel_router", "crash_mover", "move"),
    "moves": ("move_on", "crash_mover", "crash_unseen", "lag", "reload", "join_router"),
    "routers": ("crash_router", "join_router", "leave_router", "crash_shard", "move"),
    "halves": ("crash_again", "crash_again", "move_talking", "move_talking", "crash_router"),
    "crashes": ("crash_shard", "lose_shard", "cut_link", "slow_down"),
    "defects": ("defect", "defect", "move", "reload", "crash_router", "join_router"),
    "slow": ("crash_shard", "move", "move", "reload", "crash_mover"),
    "large": ("crash_shard", "move", "move", "reload", "crash_mover", "crash_router", "lose_batches", "join_router"),
    "maps": ("defect_in_map", "defect_in_map", "move", "reload", "crash_shard"),
    "scaling": ("grow", "shrink", "reload", "fill_disk", "lose_supervisor", "crash_shard"),
}
"""What some runs are full of: faults that are hard on each other."""

VERBS = {
    "echo": 6.0,
    "cast": 4.0,
    "tagged": 2.0,
    "keep": 2.0,
    "wait": 4.0,
    "stubborn": 0.3,
    "auto": 0.4,
    "limit": 0.3,
    "raise": 0.3,
    "bye": 0.25,
}
"""What clients ask for by how often."""


def draw(seed: int, theme: str = "") -> Plan:
    """The plan of a seed.

    Args:
        seed: The seed.
        theme: One of ``THEMES`` that the run is to be full of; by default some runs have one.
    """
    rng = random.Random(f"{seed} plan")
    plan = Plan(
        routers=rng.choice((1, 2, 2, 2, 3)),
        shards=rng.choice((1, 2, 2, 3)),
        rooms=[f"room-{rng.randrange(1000)}" for _ in range(rng.randint(2, 4))],
        clients=rng.randint(6, 12),
        lasts_s=rng.uniform(3.0, 7.0),
    )
    steps = plan.steps
    for number in range(plan.clients):
        at = rng.uniform(0.1, QUIET_S) if rng.random() < 0.7 else rng.uniform(0.1, plan.lasts_s)
        steps.append(Step(at, "connect", rng.random(), number))
    for _ in range(rng.randint(40, 110)):
        at = rng.uniform(0.3, plan.lasts_s + 0.5)
        steps.append(Step(at, f"say_{weighted(rng, VERBS)}", rng.random(), rng.random()))
    for _ in range(rng.randint(0, 4)):
        steps.append(Step(rng.uniform(0.5, plan.lasts_s), "ping", rng.random()))
    for _ in range(rng.randint(0, 4)):
        steps.append(Step(rng.uniform(0.5, plan.lasts_s), "call", rng.random(), rng.random()))
    for _ in range(rng.randint(0, 3)):
        steps.append(Step(rng.uniform(1.0, plan.lasts_s), rng.choice(("close", "vanish")), rng.random()))
    if not theme and rng.random() < 0.3:
        theme = rng.choice([each for each in THEMES if each not in ("slow", "large", "maps", "halves")])
    faults = {what: float(THEMES[theme].count(what)) for what in THEMES[theme]} if theme else FAULTS
    count = rng.randint(3, 7) if theme else rng.choice((0, 1, 1, 2, 2, 3, 4, 5, 6))
    for _ in range(count):
        at = rng.uniform(QUIET_S, plan.lasts_s)
        if rng.random() < 0.3 and steps:
            at = max(QUIET_S, rng.choice(steps).at + rng.uniform(-0.02, 0.02))  # close beside something else
        steps.append(Step(at, weighted(rng, faults), rng.random(), rng.random()))
    _add_slow_clients(plan, random.Random(f"{seed} slow"), theme)
    _add_large_output(plan, random.Random(f"{seed} large"), theme)
    _add_halves(plan, random.Random(f"{seed} halves"), theme)
    steps.sort(key=lambda step: step.at)
    return plan


def _add_halves(plan: Plan, rng: random.Random, theme: str) -> None:
    """Owners that are given what another has left, and die half way, or hear of something new; in some runs."""
    if theme != "halves" and rng.random() < 0.3:
        what = rng.choice(("crash_again", "move_talking"))
        plan.steps.append(Step(rng.uniform(QUIET_S, plan.lasts_s), what, rng.random(), rng.random()))


def _add_slow_clients(plan: Plan, rng: random.Random, theme: str) -> None:
    """Clients that take nothing for a while, in a part of all runs; beside the faults more often than not."""
    if theme != "slow" and rng.random() < 0.6:
        return
    others = [step.at for step in plan.steps if step.what in FAULTS]
    for _ in range(rng.randint(2, 6) if theme == "slow" else rng.randint(1, 3)):
        at = rng.uniform(QUIET_S, plan.lasts_s)
        if others and rng.random() < 0.7:
            at = max(0.5, rng.choice(others) - rng.uniform(0.0, 0.3))
        plan.steps.append(Step(at, "numb", rng.random(), rng.random()))


def _add_large_output(plan: Plan, rng: random.Random, theme: str) -> None:
    """Messages and responses that go in pieces, in a part of all runs; beside the faults more often than not."""
    if theme != "large" and rng.random() < 0.6:
        return
    others = [step.at for step in plan.steps if step.what in FAULTS or step.what == "numb"]
    for _ in range(rng.randint(4, 12) if theme == "large" else rng.randint(1, 5)):
        at = rng.uniform(0.5, plan.lasts_s)
        if others and rng.random() < 0.7:
            at = max(0.5, rng.choice(others) + rng.uniform(-0.1, 0.02))
        plan.steps.append(Step(at, rng.choice(("say_large", "say_large", "call")), rng.random(), rng.random()))
