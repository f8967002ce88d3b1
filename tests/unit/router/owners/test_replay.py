"""Large messages that a new owner gets ahead of its slot: how many, and when they have gone."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from roost.common.wire.records import Ahead, Pieces
from roost.router.owners import replay as module
from roost.router.owners.replay import Replay


class Link:
    """Keeps what is shipped until the test lets it go."""

    def __init__(self) -> None:
        self.under_way: list[tuple[int, Callable[[Ahead], None]]] = []
        self.cancelled: list[int] = []

    def ship(self, data: Pieces, owner: object, on_shipped: Callable[[Ahead], None]) -> int:
        self.under_way.append((len(data), on_shipped))
        return len(data)

    def cancel(self, shipment: int) -> None:
        self.cancelled.append(shipment)

    def go(self) -> None:
        shipped, self.under_way = self.under_way, []
        for number, (_, on_shipped) in enumerate(shipped):
            on_shipped(Ahead(number + 1))


def connection(number: int, *sizes: int) -> Any:
    large = [(seq, Pieces([memoryview(bytes(size))], size)) for seq, size in enumerate(sizes, 1)]
    return SimpleNamespace(number=number, window=SimpleNamespace(large=large))


@pytest.fixture
def link() -> Any:
    return Link()


def test_all_of_a_slot_goes_ahead_and_then_it_is_looked_at_again(link: Any) -> None:
    looks: list[str] = []
    replay, connections = Replay(link, lambda: looks.append("again")), [connection(1, 5, 6), connection(2, 7)]
    assert not replay.send(connections)
    assert [size for size, _ in link.under_way] == [5, 6, 7]
    assert not replay.send(connections), "and none of them twice"
    assert looks == []
    link.go()
    assert looks == ["again"]
    assert replay.send(connections)
    assert link.under_way == []
    assert [replay.take(1, 1), replay.take(1, 2), replay.take(2, 1)] == [Ahead(1), Ahead(2), Ahead(3)]
    assert replay.take(1, 1) is None


def test_what_is_beyond_the_bound_goes_whole_but_for_the_first(link: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AHEAD_AT_ONCE_BYTES", 10)
    replay, connections = Replay(link, lambda: None), [connection(1, 20), connection(2, 3)]
    assert not replay.send(connections)
    assert [size for size, _ in link.under_way] == [20]
    link.go()
    assert replay.send(connections), "the slot does not wait for what goes whole"
    assert replay.take(2, 1) is None


def test_what_nobody_has_taken_is_cancelled(link: Any) -> None:
    replay = Replay(link, lambda: None)
    replay.send([connection(1, 5, 6)])
    link.go()
    replay.send([connection(2, 7)])
    replay.take(1, 1)
    replay.end()
    assert sorted(link.cancelled) == [6, 7]
