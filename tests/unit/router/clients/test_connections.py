"""The table of connections and their counters."""

from __future__ import annotations

from typing import Any

import pytest

from roost.common.errors import Unavailable
from roost.router.clients import connections
from roost.router.clients.connections import MAX_COUNTER, Connections
from tests.unit.router.fakes import World


def test_counters_begin_at_one_and_are_never_used_twice() -> None:
    world = World()
    first = world.pending()
    first.refuse()
    assert [first.number, world.pending().number] == [1, 2]


def test_a_router_that_has_used_its_last_counter_says_so_once_and_refuses() -> None:
    called = []
    table: Connections[Any] = Connections(lambda: called.append(1), last=MAX_COUNTER - 2)
    assert table.next_counter() == MAX_COUNTER - 1
    assert not called
    assert table.next_counter() == MAX_COUNTER
    assert called == [1]
    for _ in range(2):
        with pytest.raises(Unavailable):
            table.next_counter()
    assert called == [1]


def test_connections_are_found_until_they_are_removed() -> None:
    world = World()
    connection = world.pending()
    assert world.shared.connections.get(connection.number) is connection
    assert world.shared.connections.all() == [connection]
    connection.refuse()
    assert world.shared.connections.get(connection.number) is None
    assert len(world.shared.connections) == 0


def test_too_many_ghosts_drop_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_GHOSTS", 2)
    world = World()
    made = [world.connect()[0] for _ in range(4)]
    for connection in made[:3]:
        connection.connection_lost(None)
    assert world.shared.connections.ghosts == 2
    assert world.counters.ghosts_dropped == 1
    assert world.shared.connections.get(made[0].number) is None
    assert world.shared.connections.get(made[1].number) is made[1]
    made[1].acknowledge(1, 1)
    made[3].connection_lost(None)
    assert world.counters.ghosts_dropped == 1
