"""The driver of attacks: one attack is run, for its row and not for its figures, and rows are judged."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager

import pytest

from tests.attacks import scene
from tests.attacks.__main__ import missed
from tests.attacks.processes import giving_way
from tests.attacks.registry import Attack, Bound, Target, add, load
from tests.attacks.table import HEAD, Echoes, Memory, Row, as_markdown
from tests.support.cluster import Cluster

ROW = Row(
    name="pings",
    sends="3 clients: pings",
    bound="windows",
    ratio=0.5,
    router=Memory(20 << 20, 30 << 20, 25 << 20),
    shard=Memory(20 << 20, 20 << 20, 20 << 20),
    turn_s=0.012,
    earlier_turn_s=0.010,
    without=Echoes((0.001,) * 100),
    during=Echoes((0.0015,) * 99 + (0.003,)),
)


def test_an_attack_gives_a_row_with_all_its_figures() -> None:
    attack = dataclasses.replace(load()["pings"], attackers=2, bound=Bound("router", 1 << 30, "nothing that is full"))
    row = scene.run(attack, 0.5)
    assert row.sends == "2 clients: pings, as fast as they are read"
    assert row.during.took
    assert row.during.lost == 0
    assert math.isfinite(row.slowdown)
    assert 0 < row.router.before <= row.router.peak
    assert 0 < row.shard.before <= row.shard.peak
    assert row.turn_s >= row.earlier_turn_s
    assert row.worked_s > 0
    assert row.ratio is not None
    assert row.ratio < 1
    assert not row.notes


def test_what_is_done_meanwhile_may_fail() -> None:
    def fail(cluster: Cluster) -> None:
        assert cluster.counters()["defects"] == 0
        raise RuntimeError("found")

    with pytest.raises(RuntimeError, match="found"):
        scene.run(Attack("idle", "nothing", lambda target: None, attackers=0, meanwhile=fail), 0.1)


def test_attackers_give_way_to_router_and_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    attackers: list[int] = []
    policies: list[int] = []

    def noting(processes: Iterable[int]) -> AbstractContextManager[None]:
        attackers.extend(processes)
        return giving_way(attackers)

    def look(cluster: Cluster) -> None:
        policies.extend(os.sched_getscheduler(process) for process in attackers)
        # Who gives way does so within a session only.
        sessions = {os.getsid(each) for each in [*attackers, *(each.pid for each in cluster.processes.values())]}
        assert sessions == {os.getsid(0)}

    monkeypatch.setattr(scene, "giving_way", noting)
    row = scene.run(dataclasses.replace(load()["comings"], attackers=2, meanwhile=look), 0.1)
    assert policies == [os.SCHED_IDLE] * 2
    assert not row.notes


def test_goals_that_are_missed_are_named() -> None:
    assert missed(ROW) == []
    assert missed(dataclasses.replace(ROW, turn_s=0.021)) == ["pings: a turn of 21 ms, 0 of them worked at most"]
    assert missed(dataclasses.replace(ROW, turn_s=0.05, earlier_turn_s=0.05)) == []  # from before the attack
    slow = dataclasses.replace(ROW, during=Echoes((0.0025,) * 100, lost=1))
    assert missed(slow) == [
        "pings: the neighbour's p99 is 2.5 times as long",
        "pings: the neighbour lost its connection",
    ]
    assert missed(dataclasses.replace(ROW, ratio=1.6)) == ["pings: memory grew by 1.60 times windows"]


def test_honest_traffic_misses_no_goals() -> None:
    assert missed(dataclasses.replace(ROW, turn_s=1.0, ratio=9.0, during=Echoes((1.0,) * 9, lost=1), honest=True)) == []


def test_honest_clients_are_answered_as_fast_as_they_can_be() -> None:
    row = scene.run(dataclasses.replace(load()["honest-few"], attackers=1), 0.5)
    assert row.honest
    assert not row.notes
    assert row.during.took


def test_the_table_has_a_cell_for_each_column() -> None:
    lines = as_markdown([ROW]).splitlines()
    assert {line.count("|") for line in lines} == {len(HEAD) + 1}
    assert "20 → 30 → 25" in lines[2]
    assert "0.50 × windows" in lines[2]
    assert "1.0 → 1.5 | 1.5 | 3 |" in lines[2]


def test_each_attack_has_a_name_of_its_own() -> None:
    with pytest.raises(ValueError, match="two attacks 'pings'"):
        add(dataclasses.replace(load()["pings"]))


def test_a_target_says_when_it_is_over() -> None:
    assert not Target(1, 0, 0.0).goes_on
    assert Target(1, 0, math.inf).goes_on
