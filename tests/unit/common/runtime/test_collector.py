"""When the garbage collector looks at everything."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator

import pytest

from roost.common.runtime.collector import BUSY_PAUSE_S, LONG_S, MUCH, PAUSE_S, PORTION, SHARE, SUSPECTS, Collector
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
    monkeypatch.setattr(gc, "collect", lambda generation=2: 0)
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


def test_a_portion_more_connections_do_not_wait_and_are_frozen(
    counted: tuple[Collector, RouterCounters, FakeClock], monkeypatch: pytest.MonkeyPatch
) -> None:
    collector, counters, _ = counted
    frozen: list[int] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(counters.connections))
    for connections, collections in ((PORTION - 1, 0), (PORTION, 1), (2 * PORTION - 1, 1), (2 * PORTION, 2)):
        counters.connections = connections
        counters.messages_in += 1
        collector.on_second()
        assert counters.collections == collections
    assert frozen == [PORTION, 2 * PORTION]
    for connections in (0, PORTION):  # they have gone, and others have come
        counters.connections = connections
        counters.messages_in += 1
        collector.on_second()
    assert counters.collections == 3


def test_when_thousands_come_in_a_second_their_portions_are_not_waited_for(
    counted: tuple[Collector, RouterCounters, FakeClock], monkeypatch: pytest.MonkeyPatch
) -> None:
    collector, counters, _ = counted
    frozen: list[int] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(counters.connections))
    for counters.connections in range(0, 3 * PORTION, PORTION // 4):
        collector.on_tick()
    assert frozen == [PORTION, 2 * PORTION]


def test_what_is_young_does_not_become_all_that_there_is_while_as_many_go_as_come() -> None:
    counters = RouterCounters()
    collector = collector_of(counters, FakeClock())
    held = [[number] for number in range(20_000)]
    gc.collect()
    for number in range(len(held)):
        held[number] = [number]  # one comes and one goes: no collection
    assert len(gc.get_objects(0)) > 10_000
    collector.on_tick()
    assert len(gc.get_objects(0)) < 1_000
    assert counters.collections == 0, "those that stop everything are counted"


class Shard:
    """A collector where users' code runs, and something happens in each second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, took_s: float) -> None:
        self.counters, self.clock = RouterCounters(), FakeClock()
        self.awake = self.ended = 0
        self.done: list[str] = []
        self.took_s = took_s
        monkeypatch.setattr(gc, "collect", self._collect)
        monkeypatch.setattr(gc, "freeze", lambda: self.done.append("freeze"))
        monkeypatch.setattr(gc, "unfreeze", lambda: self.done.append("unfreeze"))
        counters = self.counters
        self.collector = Collector(
            counters, self.clock, lambda: 0, lambda: counters.messages_in, lambda: (self.awake, self.ended)
        )

    def _collect(self) -> int:
        self.clock.time += self.took_s
        self.done.append("collect")
        return 0

    def busy(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.time += 1
            self.counters.messages_in += 1
            self.collector.on_second()


def test_where_users_code_runs_it_does_not_wait_for_ever_and_takes_a_small_share_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shard = Shard(monkeypatch, took_s=0.2)
    shard.busy(int(BUSY_PAUSE_S) + 1)
    counters = shard.counters
    assert counters.collections == 1
    shard.busy(1000)
    assert counters.collections - 1 in (1000 * SHARE // 0.2 - 1, 1000 * SHARE // 0.2)
    assert counters.longest_collection_us in range(199_999, 200_002)


def test_what_a_short_collection_leaves_is_not_frozen_and_what_a_long_one_leaves_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shard = Shard(monkeypatch, took_s=LONG_S / 2)
    shard.busy(100)
    assert set(shard.done) == {"collect"}
    shard.took_s = 2 * LONG_S
    shard.done.clear()
    shard.busy(100)
    assert shard.done[:2] == ["collect", "freeze"]
    assert "unfreeze" not in shard.done, "no life has ended that something frozen may belong to"


def test_everything_is_collected_once_enough_lives_have_ended_that_may_be_frozen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shard = Shard(monkeypatch, took_s=2 * LONG_S)
    shard.awake = SUSPECTS // 2
    shard.busy(100)
    assert shard.done[:2] == ["collect", "freeze"]
    for _ in range(3):
        assert "unfreeze" not in shard.done
        shard.ended += SUSPECTS // 2 - 1
        shard.busy(100)
    assert shard.done.count("unfreeze") == 1
    assert shard.done[shard.done.index("unfreeze") :][:3] == ["unfreeze", "collect", "freeze"]


class Life:
    """An instance that refers to itself, as users' do."""

    ended = 0

    def __init__(self) -> None:
        self.handlers = {"x": self.__init__}  # type: ignore[misc]

    def __del__(self) -> None:
        Life.ended += 1


def test_an_instance_that_refers_to_itself_is_freed_although_it_was_frozen() -> None:
    before = gc.get_threshold()
    counters, clock = RouterCounters(), FakeClock()
    Life.ended = 0
    ended, lives = 0, [Life() for _ in range(SUSPECTS)]
    collector = Collector(
        counters, clock, lambda: counters.connections, lambda: counters.messages_in, lambda: (len(lives), ended)
    )
    try:
        collector.start()
        counters.connections = counters.messages_in = PORTION
        collector.on_second()
        assert counters.collections == 1
        ended = len(lives)
        lives.clear()
        assert Life.ended == 0
        for _ in range(40):
            clock.time += 1
            counters.messages_in += 1
            collector.on_second()
        assert Life.ended == SUSPECTS
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


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


@pytest.fixture
def planned() -> Iterator[tuple[Collector, RouterCounters, list[Callable[[], None]]]]:
    counters, planned = RouterCounters(), list[Callable[[], None]]()
    collector = collector_of(counters, FakeClock())
    thresholds = gc.get_threshold()
    try:
        collector.start(planned.append)
        yield collector, counters, planned
    finally:
        collector.stop()
        gc.unfreeze()
        gc.set_threshold(*thresholds)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="collects in increments by itself")
def test_very_much_that_is_new_is_not_left_until_the_time_is_right(
    planned: tuple[Collector, RouterCounters, list[Callable[[], None]]],
) -> None:
    collector, counters, calls = planned
    held = [[number] for number in range(MUCH)]
    assert len(held) == MUCH
    assert calls == [], "that is not much"
    held += [[number] for number in range(2 * MUCH)]
    assert len(calls) == 1, "once, until it is done"
    calls.pop()()
    assert counters.collections == 1
    assert gc.get_count()[2] == 0
    held += [[number] for number in range(2 * MUCH)]
    assert len(calls) == 1
    gc.collect()
    calls.pop()()
    assert counters.collections == 1, "all was collected meanwhile"
    collector.stop()
    held += [[number] for number in range(2 * MUCH)]
    assert calls == []


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="collects in increments by itself")
def test_what_comes_and_goes_or_was_there_is_not_much(
    planned: tuple[Collector, RouterCounters, list[Callable[[], None]]],
) -> None:
    _, counters, calls = planned
    held = [[number] for number in range(3 * MUCH)]
    while counters.collections == 0:
        held += [[number] for number in range(1_000)]
        for call in calls:
            call()
        calls.clear()
    looks = 0
    for _ in range(1_000):
        assert len([[number] for number in range(1_000)]) == 1_000
        looks += len(calls)
        for call in calls:
            call()
        calls.clear()
    assert counters.collections == 1
    assert 1 <= looks <= 20, "they become rare"
    assert len(held) >= 3 * MUCH


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="collects in increments by itself")
def test_where_there_is_hardly_any_stack_it_is_tried_again() -> None:
    collector = collector_of(RouterCounters(), FakeClock())
    thresholds, tries = gc.get_threshold(), 0

    def soon(call: Callable[[], None]) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RecursionError

    try:
        collector.start(soon)
        assert [[number] for number in range(3 * MUCH)]
        assert tries == 2
    finally:
        collector.stop()
        gc.unfreeze()
        gc.set_threshold(*thresholds)
