"""A router's bounds are what its counters tell of them."""

from __future__ import annotations

from roost.common.budget import Budget
from roost.router.budgets import Budgets
from roost.router.counters import RouterCounters


def test_each_is_read_by_a_counter_of_its_own() -> None:
    counters = RouterCounters()
    budgets = Budgets(counters)
    before = dict(zip(counters.names, counters.values(), strict=True))
    assert not any(before.values())
    taken = dict.fromkeys(Budgets.__slots__, 0)
    for number, name in enumerate(Budgets.__slots__, 1):
        budget = getattr(budgets, name)
        assert isinstance(budget, Budget)
        assert budget.limit > 0
        budget.taken = taken[name] = number
    after = dict(zip(counters.names, counters.values(), strict=True))
    assert sorted(value for value in after.values() if value) == sorted(taken.values())
    assert after["window_bytes"] == counters.window_bytes == taken["windows"]


def test_messages_of_clients_share_one_bound() -> None:
    budgets = Budgets(RouterCounters(), all_windows_bytes=4_000_001, all_send_buffers_bytes=5)
    assert budgets.windows.limit + budgets.unfinished.limit == 4_000_001
    assert budgets.unfinished.limit == 1_000_000
    assert budgets.send_buffers.limit == 5


def test_what_waits_and_what_is_held() -> None:
    budgets = Budgets(RouterCounters())
    for number, name in enumerate(("windows", "unfinished", "bodies", "send_buffers", "heads", "ahead")):
        getattr(budgets, name).taken = 10**number
    budgets.handshakes.taken = budgets.http_connections.taken = 7  # no bytes
    assert budgets.waiting_input == 110_010
    assert budgets.held_bytes == 11_111
