"""How much there is of something, and how much of it is taken."""

from __future__ import annotations

from roost.common.budget import Budget


def test_what_is_taken_may_fit_exactly_and_be_more_than_there_is() -> None:
    budget = Budget(10)
    assert (budget.half, budget.left, budget.is_over) == (5, 10, False)
    budget.taken += 7
    assert budget.fits(3)
    assert not budget.fits(4)
    budget.taken += 3
    assert (budget.left, budget.is_over) == (0, False)
    budget.taken += 1
    assert (budget.left, budget.is_over) == (-1, True)
    assert repr(budget) == "Budget(11 of 10)"
