"""Ratios of the race: of neighbours in time, with what is missing left out."""

from __future__ import annotations

import pytest

from tests.bench.race.peers import PEERS
from tests.bench.race.results import GOALS, Goal, client_bound, judged, median_value, ratio, ratios, rotation
from tests.bench.race.rows import ROWS


def samples(*values: float | None) -> list[dict[str, float] | None]:
    return [None if value is None else {"value": value} for value in values]


def test_the_ratio_is_the_median_of_the_rounds_ratios() -> None:
    # The machine was half as fast in the second round: the ratio of the medians would be 300 / 200.
    assert ratio(samples(300, 100, 310), samples(200, 50, 210)) == pytest.approx(1.5)
    assert ratio(samples(400, 100, 300), samples(200, 50, 300)) == 2.0


def test_rounds_without_a_pair_do_not_count() -> None:
    assert ratios(samples(300, None, 100), samples(100, 100, None)) == [3.0]
    assert ratio(samples(None, 2), samples(2, None)) is None
    assert ratio((), samples(1)) is None


def test_the_median_of_what_was_measured() -> None:
    assert median_value(samples(3, None, 1, 2)) == 2.0
    assert median_value(samples(None)) is None
    assert median_value(()) is None


@pytest.mark.parametrize(
    ("cpu", "bound"), [([[0.5, 0.91], [0.2]], True), ([[0.9], [0.1]], False), ([[], [0.3]], False)]
)
def test_one_busy_process_in_one_round_makes_a_row_client_bound(cpu: list[list[float]], bound: bool) -> None:
    assert client_bound([None, *({"value": 1.0, "cpu": shares} for shares in cpu)]) is bound


def test_a_goal_on_a_ratio_and_one_on_a_figure() -> None:
    found = {"echo": {"roost": samples(90, 90), "bare": samples(100, 120)}, "memory": {"roost": samples(7_000, 7_400)}}
    share = Goal("echo", "roost", "bare", 0.85, "at least")
    value = judged(share, found)
    assert value == pytest.approx(0.825)
    assert not share.met(value)
    memory = Goal("memory", "roost", None, 8_000, "at most")
    assert judged(memory, found) == 7_200
    assert memory.met(7_200)
    assert not memory.met(8_001)
    assert judged(Goal("wake", "roost", None, 20, "at most"), found) is None


def test_goals_are_about_rows_and_peers_that_there_are() -> None:
    for goal in GOALS:
        assert goal.row in ROWS
        assert goal.ours in PEERS
        assert goal.peer is None or goal.peer in PEERS


def test_each_peer_is_first_and_last_and_next_to_others_in_turn() -> None:
    names = ["a", "b", "c"]
    rounds = [rotation(names, number) for number in range(6)]
    assert all(sorted(order) == names for order in rounds)
    assert {order[0] for order in rounds} == {order[-1] for order in rounds} == set(names)
    assert rounds[0] != rounds[1]
    assert rotation([], 3) == []
