"""Counter files of members: who lives, who is reported, who is to be killed."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from roost.common.cluster.cluster_map import MemberKind
from roost.common.ids import Incarnation
from roost.common.machine.counters import CounterFile, Counters, total
from roost.common.machine.liveness import Verdict
from roost.deploy.plan.post import Post
from roost.deploy.supervisor.observation import Observation


class Figures(Counters):
    events: int = total("Events")
    constructions_failed: int = total("Constructors that raised")


@pytest.fixture
def post() -> Post:
    made = Post("shard-1", MemberKind.SHARD)
    made.started(os.getpid(), 0.0)
    made.ready(Incarnation(1), 0.0)
    return made


def observe(seen: Observation, post: Post, seconds: range) -> list[tuple[Post, Verdict]]:
    """One look a second; returns the last judgement."""
    found = []
    for second in seconds:
        seen.read([post], float(second))
        found = seen.judge([post], float(second))
        if found:
            break
    return found


def test_a_loop_that_stands_still_is_reported_once_and_killed_late(
    tmp_path: Path, post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Observation(tmp_path, stall_kill_s=8.0, is_running=lambda pid: True)
    file = CounterFile(tmp_path / "shard-1.counters", Figures())
    with caplog.at_level(logging.WARNING):
        assert observe(seen, post, range(7)) == []
        assert seen.condition(post) is Verdict.BLOCKED
        assert [record.getMessage() for record in caplog.records] == ["shard-1 does not get on: its loop stands still"]
        assert observe(seen, post, range(7, 20)) == [(post, Verdict.STALLED)]
        file.publish()
        assert observe(seen, post, range(20, 21)) == []
        assert seen.condition(post) is Verdict.ALIVE
    file.close()


def test_a_stopped_process_is_killed_early(tmp_path: Path, post: Post) -> None:
    seen = Observation(tmp_path, stall_kill_s=30.0, is_running=lambda pid: False)
    file = CounterFile(tmp_path / "shard-1.counters", Figures())
    assert observe(seen, post, range(5)) == []
    assert observe(seen, post, range(5, 8)) == [(post, Verdict.FROZEN)]
    file.close()


def test_a_file_of_an_earlier_process_says_nothing(tmp_path: Path, post: Post) -> None:
    seen = Observation(tmp_path, stall_kill_s=3.0, is_running=lambda pid: False)
    file = CounterFile(tmp_path / "shard-1.counters", Figures())
    file.close()
    post.pid += 1
    assert observe(seen, post, range(20)) == []
    assert seen.reading(post) is None
    assert seen.readings["shard-1"].values["events"] == 0, "what was is still known"


def test_a_process_that_starts_or_ends_is_not_judged(tmp_path: Path, post: Post) -> None:
    seen = Observation(tmp_path, stall_kill_s=3.0, is_running=lambda pid: False)
    file = CounterFile(tmp_path / "shard-1.counters", Figures())
    post.ask_to_end()
    assert observe(seen, post, range(20)) == []
    file.close()


def test_a_damaged_file_is_told_of_and_what_is_forgotten_is_gone(
    tmp_path: Path, post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Observation(tmp_path, stall_kill_s=3.0, is_running=lambda pid: False)
    (tmp_path / "shard-1.counters").write_bytes(b"something else")
    with caplog.at_level(logging.WARNING):
        seen.read([post], 0.0)
        seen.read([post], 1.0)
    assert caplog.text.count("the counters of shard-1 cannot be read") == 1
    seen.forget(post)
    assert not list(tmp_path.iterdir())


def test_when_a_constructor_has_failed_last(tmp_path: Path, post: Post) -> None:
    seen = Observation(tmp_path, stall_kill_s=3.0, is_running=lambda pid: True)
    figures = Figures()
    figures.constructions_failed = 7
    file = CounterFile(tmp_path / "shard-1.counters", figures)
    file.publish()
    assert not seen.has_failed(post, 0.0)
    seen.read([post], 100.0)
    assert seen.has_failed(post, 100.0), "nobody knows when those were"
    seen.read([post], 170.0)
    assert not seen.has_failed(post, 110.0)
    figures.constructions_failed += 1
    file.publish()
    seen.read([post], 171.0)
    assert seen.has_failed(post, 171.0)
    assert not seen.has_failed(post, 171.1)
    file.close()
