"""When the garbage collector looks at everything."""

from __future__ import annotations

import gc

import pytest

from roost.common.collector import BUSY_PAUSE_S, PAUSE_S, SHARE, Collector
from roost.router.counters import RouterCounters


class FakeClock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time


def collector_of(counters: RouterCounters, clock: FakeClock) -> Collector:
    return Collector(counters, clock, held=lambda: counters.connections, traffic=lambda: counters.messages_in)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> tuple[Collector, RouterCounters, FakeClock]:
    monkeypatch.setattr(gc, "collect", lambda: 0)
    counters, clock = RouterCounters(), FakeClock()
    return collector_of(counters, clock), counters, clock


def test_it_waits_for_a_quiet_second(counted: tuple[Collector, RouterCounters, FakeClock]) -> None:
    collector, counters, clock = counted
    clock.time = PAUSE_S + 1
    counters.messages_in += 1
    collector.on_second()
    assert counters.collections == 0
    collector.on_second()
    assert counters.collections == 1
    collector.on_second()
    assert counters.collections == 1


def test_twice_the_connections_do_not_wait(counted: tuple[Collector, RouterCounters, FakeClock]) -> None:
    collector, counters, _ = counted
    for connections, collections in ((2000, 0), (2001, 1), (4002, 1), (4003, 2)):
        counters.connections = connections
        counters.messages_in += 1
        collector.on_second()
        assert counters.collections == collections


def test_where_users_code_runs_it_does_not_wait_for_ever_and_takes_a_small_share_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counters, clock = RouterCounters(), FakeClock()
    took_s = 0.2

    def collect() -> int:
        clock.time += took_s
        return 0

    monkeypatch.setattr(gc, "collect", collect)
    collector = Collector(counters, clock, lambda: 0, lambda: counters.messages_in, by_time=True)

    def busy_second() -> None:
        clock.time += 1
        counters.messages_in += 1
        collector.on_second()

    for _ in range(int(BUSY_PAUSE_S) + 1):
        busy_second()
    assert counters.collections == 1
    for _ in range(1000):
        busy_second()
    assert counters.collections - 1 in (1000 * SHARE // took_s - 1, 1000 * SHARE // took_s)
    assert counters.longest_collection_us in range(199_999, 200_002)


def test_full_collections_are_taken_from_the_interpreter() -> None:
    before = gc.get_threshold()
    try:
        collector_of(RouterCounters(), FakeClock()).start()
        assert gc.get_threshold()[:2] == before[:2]
        assert gc.get_threshold()[2] > 1_000_000
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
