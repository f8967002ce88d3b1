"""The schedule: open loop, shared out over processes without a word between them."""

from __future__ import annotations

import math

import pytest

from roost.deploy.loadtest.turns import Turns


def all_due(turns: Turns, until: float) -> list[tuple[int, float]]:
    return list(turns.due(until, 1_000_000))


def test_turns_are_due_at_even_distances_and_go_round() -> None:
    turns = Turns(range(3), 3, rate=2.0)
    assert all_due(turns, 1.9) == [(0, 0.0), (1, 0.5), (2, 1.0), (0, 1.5)]
    assert turns.next_s == 2.0


@pytest.mark.parametrize("shares", [[range(10)], [range(3), range(3, 10)], [[9, 0, 4], [1, 2, 3, 5], [6, 7, 8]]])
def test_the_shares_of_processes_make_up_one_schedule(shares: list[list[int]]) -> None:
    found = []
    for share in shares:
        found += [(due, share[index]) for index, due in all_due(Turns(share, 10, rate=7.0, end_s=5.0), 100.0)]
    assert sorted(found) == [(turn / 7.0, turn % 10) for turn in range(35)]


def test_who_is_late_still_learns_when_each_was_due() -> None:
    """A pause of the tester, or of the server, leaves no turn out: that would hide what a user waits for."""
    turns = Turns([0], 1, rate=100.0)
    assert len(all_due(turns, 0.095)) == 10
    late = all_due(turns, 0.995)
    assert len(late) == 90
    assert late[0] == (0, 0.1)


def test_a_burst_is_cut_and_goes_on() -> None:
    turns = Turns([0], 1, rate=10.0)
    assert len(list(turns.due(1.0, 4))) == 4
    assert turns.next_s == 0.4
    assert len(list(turns.due(1.0, 100))) == 7


def test_nothing_is_due_from_the_end_on() -> None:
    turns = Turns([0], 1, rate=10.0, end_s=0.5)
    assert [due for _, due in all_due(turns, 9.0)] == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert turns.next_s == math.inf


@pytest.mark.parametrize("turns", [Turns([], 5, 10.0), Turns([0], 1, 0.0)])
def test_nobody_or_no_rate_has_no_turns(turns: Turns) -> None:
    assert turns.next_s == math.inf
    assert all_due(turns, 100.0) == []


def test_an_hour_does_not_drift() -> None:
    turns = Turns([0], 1, rate=3.0, end_s=3_600.0)
    *_, (_, last) = all_due(turns, 3_600.0)
    assert last == 10_799 / 3.0
