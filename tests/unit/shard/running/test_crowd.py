"""Objects that have more jobs than a turn takes: they take turns, and hold up nobody else."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import pytest

from roost.shard.running import runner as module
from roost.shard.running.crowd import AT_ONCE, SHARE, Crowd
from tests.unit.shard.harness import on_virtual_time, turns
from tests.unit.shard.runner_bench import Bench, Job, Owner, some_rest


def job(owner: Owner, number: int) -> Job:
    return Job(lambda: None, owner, seq=number)


def given(crowd: Crowd[Job]) -> list[tuple[Any, int]]:
    """All that comes out, in order."""
    out, queue = [], deque[Job]()
    while crowd.give(queue):
        assert len(queue) <= AT_ONCE + SHARE
        out += [(each.owner, each.seq) for each in queue]
        queue.clear()
    return out


def test_objects_take_turns_and_their_jobs_stay_in_order() -> None:
    a, b, c = Owner(), Owner(), Owner()
    crowd = Crowd[Job]()
    crowd.put(deque([*(job(a, n) for n in range(10)), job(b, 0), *(job(c, n) for n in range(5))]))
    assert crowd.jobs
    out = given(crowd)
    assert out[:9] == [*((a, n) for n in range(SHARE)), (b, 0), *((c, n) for n in range(SHARE))]
    for owner, count in ((a, 10), (b, 1), (c, 5)):
        assert [n for each, n in out if each is owner] == list(range(count))
    assert not crowd.jobs


def test_what_comes_later_waits_behind_and_what_was_given_back_comes_first() -> None:
    a, b = Owner(), Owner()
    crowd, queue = Crowd[Job](), deque[Job]()
    crowd.put(deque(job(a, n) for n in range(AT_ONCE + 3)))
    assert crowd.takes(job(a, AT_ONCE + 3))
    assert not crowd.takes(job(b, 0)), "who has nothing here does not wait here"
    crowd.give(queue)
    assert len(queue) == AT_ONCE
    crowd.put(queue)
    assert [n for _, n in given(crowd)] == list(range(AT_ONCE + 4))


def test_jobs_of_one_that_pauses_wait_until_it_goes_on_in_their_order() -> None:
    a, b = Owner(), Owner()
    crowd = Crowd[Job]()
    crowd.put(deque([job(a, 0), job(b, 0), job(a, 1)]))
    crowd.pause(a)
    crowd.pause(b)
    assert not crowd.jobs
    assert crowd.takes(job(a, 3))
    crowd.put(deque([job(a, -1)]))
    crowd.go_on(b)
    assert given(crowd) == [(b, 0)]
    crowd.go_on(a)
    assert given(crowd) == [(a, -1), (a, 0), (a, 1), (a, 3)]
    crowd.pause(a)
    assert crowd.takes(job(a, 4)), "also when nothing of it waits yet"
    crowd.go_on(a)
    assert given(crowd) == [(a, 4)]


@on_virtual_time
async def test_one_that_is_sent_much_does_not_keep_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURN_S", 0.0)  # then a turn takes 16 jobs
    monkeypatch.setattr(module, "CROWDED_TURN_S", 0.0)
    bench = Bench()
    await some_rest(bench)
    ran: list[tuple[str, int]] = []
    owners = {name: Owner() for name in ("busy", "neighbour")}

    def start(name: str, number: int) -> None:
        bench.start(lambda: ran.append((name, number)), owner=owners[name])

    for number in range(300):
        start("busy", number)
    await asyncio.sleep(0)
    assert 0 < len(ran) < 100
    before = len(ran)
    start("neighbour", 0)
    start("busy", 300)
    assert bench.runner
    await turns(100)
    assert ran.index(("neighbour", 0)) - before <= 4 * AT_ONCE, "it waits for what had begun, and no longer"
    assert [number for name, number in ran if name == "busy"] == list(range(301))
    assert not bench.runner
