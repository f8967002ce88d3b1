"""The shares of a run."""

from __future__ import annotations

import pytest

from roost.deploy.loadtest.plan import TALKERS, Plan

PLANS = [Plan(1, 1, 1), Plan(10, 3, 2), Plan(1_000, 7, 3), Plan(100, 100, 8), Plan(5, 2, 5)]


@pytest.mark.parametrize("plan", PLANS)
def test_each_seat_belongs_to_one_process_and_one_object(plan: Plan) -> None:
    seats = [seat for process in range(plan.processes) for seat in plan.seats_of(process)]
    assert seats == list(range(plan.connections))
    members = [plan.object_of(seat) for seat in seats]
    assert [members.count(number) for number in range(plan.objects)] == [
        plan.members_of(number) for number in range(plan.objects)
    ]
    assert max(map(plan.members_of, range(plan.objects))) - min(map(plan.members_of, range(plan.objects))) <= 1


@pytest.mark.parametrize("plan", PLANS)
def test_each_object_has_talkers_and_most_have_listeners(plan: Plan) -> None:
    talkers = plan.talkers()
    assert len(set(talkers)) == len(talkers)
    for object_ in range(plan.objects):
        own = [seat for seat in talkers if plan.object_of(seat) == object_]
        assert 1 <= len(own) <= TALKERS
        assert len(own) <= max(1, plan.members_of(object_) // 2)
    assert [plan.object_of(seat) for seat in talkers[: plan.objects]] == list(range(plan.objects))


def test_talkers_are_spread_over_processes() -> None:
    plan = Plan(1_000, 1, 4)
    shares = [len(set(plan.talkers()) & set(plan.seats_of(process))) for process in range(4)]
    assert shares == [4, 4, 4, 4]
