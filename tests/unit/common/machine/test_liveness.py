"""Whether a process lives, judged by what it counts."""

from __future__ import annotations

from collections.abc import Callable

from roost.common.machine.liveness import Liveness, Verdict


def looks(
    seconds: int,
    *,
    publications: Callable[[int], int] = lambda at: at,
    beats: Callable[[int], int] = lambda at: at,
    running: bool = False,
    step_s: float = 1.0,
    liveness: Liveness | None = None,
) -> list[Verdict]:
    """The verdict at each of *seconds* looks, one a second."""
    judge = liveness or Liveness()
    return [judge.observe(at * step_s, publications(at), beats(at), running) for at in range(seconds)]


def stands(at: int) -> int:
    return 7


def test_who_counts_lives() -> None:
    assert set(looks(100)) == {Verdict.ALIVE}


def test_a_loop_that_stands_still_is_reported_and_then_killed() -> None:
    found = looks(40, publications=stands)
    assert found[0] is Verdict.ALIVE
    assert found[1:30] == [Verdict.BLOCKED] * 29
    assert set(found[30:]) == {Verdict.STALLED}
    assert Verdict.STALLED.is_fatal
    assert not Verdict.BLOCKED.is_fatal


def test_a_stopped_process_is_killed_sooner() -> None:
    found = looks(8, publications=stands, beats=stands)
    assert found[1:5] == [Verdict.BLOCKED] * 4
    assert found[5:] == [Verdict.FROZEN] * 3
    assert Verdict.FROZEN.is_fatal


def test_a_busy_process_that_cannot_beat_has_the_longer_time() -> None:
    found = looks(40, publications=stands, beats=stands, running=True)
    assert Verdict.FROZEN not in found
    assert found[30] is Verdict.STALLED


def test_one_sign_of_life_begins_anew() -> None:
    judge = Liveness()
    looks(5, publications=stands, beats=stands, liveness=judge)
    assert judge.observe(5.0, 8, 8, False) is Verdict.ALIVE
    assert judge.observe(6.0, 8, 8, False) is Verdict.BLOCKED


def test_a_watcher_that_was_stopped_itself_kills_nobody() -> None:
    judge = Liveness()
    judge.observe(0.0, 1, 1, False)
    assert judge.observe(1000.0, 1, 1, False) is Verdict.BLOCKED
    assert judge.observe(1001.0, 2, 2, False) is Verdict.ALIVE


def test_beats_alone_that_stand_still_prove_nothing() -> None:
    assert Verdict.FROZEN not in looks(20, beats=stands)
