from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from roost.shard.objects.sleep import SleepQueue


def sleeper(idle_since: float = 0.0, may_sleep: bool = True) -> Any:
    return SimpleNamespace(
        idle_since=idle_since, may_sleep=may_sleep, queued_for_sleep=False, last_timer=lambda now: 0.0
    )


def entered(*owners: Any) -> SleepQueue[Any]:
    queue: SleepQueue[Any] = SleepQueue(10.0)
    for owner in owners:
        queue.enter(owner, owner.idle_since)
    return queue


def test_an_object_is_due_when_it_has_been_idle_for_long_enough() -> None:
    owner = sleeper()
    queue = entered(owner)
    assert owner.queued_for_sleep
    assert queue.next_at == 10.0
    assert queue.due(9.9) == []
    assert queue.due(10.0) == [owner]
    assert not owner.queued_for_sleep
    assert queue.next_at is None


def test_events_since_put_it_off_to_the_very_time() -> None:
    owner = sleeper()
    queue = entered(owner)
    owner.idle_since = 3.0
    assert queue.due(10.0) == []
    assert owner.queued_for_sleep
    assert queue.next_at == 13.0
    assert queue.due(13.0) == [owner]


def test_one_put_off_does_not_wait_behind_those_that_came_later() -> None:
    first, later = sleeper(), sleeper(9.0)
    queue = entered(first, later)
    first.idle_since = 1.0
    assert queue.due(10.0) == []
    assert queue.next_at == 11.0
    assert queue.due(11.0) == [first]
    assert queue.due(19.0) == [later]


def test_a_busy_one_is_looked_at_again_later() -> None:
    owner = sleeper(may_sleep=False)
    queue = entered(owner)
    assert queue.due(10.0) == []
    assert queue.next_at == 20.0
    owner.may_sleep = True
    assert queue.due(20.0) == [owner]
