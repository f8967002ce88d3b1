"""The fault suite, run short: whatever is done to a cluster, no socket is closed without need and no message lost.

``python -m tests.faults`` runs the same scenarios at full length and prints the table.
"""

from __future__ import annotations

import pytest

from tests.faults import scenarios
from tests.faults.scenarios import SHORT


async def test_scaled_under_load() -> None:
    (await scenarios.scaled(SHORT)).check(redelivered=False)


async def test_routers_scaled_under_load() -> None:
    (await scenarios.routers_scaled(SHORT)).check(redelivered=False, closed=True)


async def test_reloaded_under_load() -> None:
    (await scenarios.reloaded(SHORT)).check(redelivered=False)


async def test_a_shard_stopped() -> None:
    (await scenarios.shard_stopped(SHORT)).check()


async def test_a_supervisor_killed_and_then_a_shard() -> None:
    (await scenarios.supervisor_killed(SHORT)).check()


async def test_shards_killed_again_and_again() -> None:
    row = await scenarios.shards_killed(SHORT)
    row.check()
    assert row.report.redelivered, "none of the deaths has hit a message"


async def test_slots_moved_and_shards_killed_at_random() -> None:
    row = await scenarios.moved_and_killed(SHORT)
    row.check()
    assert row.report.moved, "nothing was moved"


async def test_a_router_killed() -> None:
    row = await scenarios.router_killed(SHORT)
    row.check(redelivered=False, closed=True)
    assert row.report.closed.keys() == {1006}


@pytest.mark.timeout(180)
async def test_clients_that_do_not_read() -> None:
    row = await scenarios.slow_clients(SHORT)
    row.check(redelivered=False)
    assert row.pauses.worst < 2.0, "others hardly notice"


async def test_a_full_disk() -> None:
    (await scenarios.disk_full(SHORT)).check()


async def test_idle_sockets_whose_only_shard_is_killed() -> None:
    (await scenarios.idle_sockets(SHORT)).check(redelivered=False)
