"""A shard's bounds are what its counters tell of them."""

from __future__ import annotations

from roost.common.settings.shard import ShardConfig
from roost.shard.budgets import Budgets
from roost.shard.counters import ShardCounters


def test_each_is_a_setting_and_is_read_by_a_counter_of_its_own() -> None:
    counters = ShardCounters()
    mib = 1 << 20
    config = ShardConfig(
        app="app", name="s", all_events_bytes=mib, all_held_bytes=2 * mib, all_attachments_bytes=3 * mib
    )
    budgets = Budgets(config, counters)
    assert [budgets.events.limit, budgets.held.limit, budgets.packages.limit] == [mib, 2 * mib, 3 * mib]
    budgets.events.taken, budgets.held.taken, budgets.packages.taken = 1, 2, 3
    assert (counters.events_bytes, counters.held_bytes, counters.package_bytes) == (1, 2, 3)
    assert sum(counters.values()) == 6
