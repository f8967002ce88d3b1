"""Large responses: their bodies go ahead, of objects in turn, and all of them have a bound."""

from __future__ import annotations

import pytest

from roost.common.budget import Budget
from roost.common.wire import shipping
from roost.common.wire.records import AcceptMode, HttpResponse
from roost.shard.counters import ShardCounters
from roost.shard.outgoing import large_responses
from roost.shard.outgoing.flow import Flow
from roost.shard.outgoing.outbox import Outbox
from roost.shard.outgoing.peers import Peer
from tests.support.links import LinkToRouter
from tests.unit.shard.harness import outbox, peer_of

LARGE_BYTES, PIECE_BYTES = 1_000, 250
"""In place of the real ones."""
LIMIT = 100 * LARGE_BYTES


class Rig:
    def __init__(self) -> None:
        self.plans = 0
        self.flow = Flow(Budget(LIMIT), lambda *ended: None, self._plan, ShardCounters())
        self.responses = self.flow.responses
        self.link = LinkToRouter()
        self.link.takes_pieces = False
        self.peer = peer_of(self.link)
        self._number = 0

    def _plan(self) -> None:
        self.plans += 1

    def put(self, box: Outbox, size: int = LARGE_BYTES, peer: Peer | None = None) -> bool:
        self._number += 1
        return self.responses.put(box, peer or self.peer, response(self._number, size))

    def turn(self, *boxes: Outbox) -> list[int]:
        """A turn: the numbers of the responses that have come whole, of these outboxes."""
        self.flow.ship_on()
        for box in boxes:
            box.drain()
        self.link.flush()
        self.link.take_pieces()
        records = [record[1] for record in self.link.take() if record[0] == "response"]
        assert all(each == response(each.request, len(each.body)) for each in records)
        return [each.request for each in records]

    def all_of(self, *boxes: Outbox) -> list[int]:
        came = []
        while self.flow.shipping:
            came += self.turn(*boxes)
        return came


def response(number: int, size: int, mode: AcceptMode = AcceptMode.PLAIN) -> HttpResponse:
    return HttpResponse(number, 200, mode, [], bytes([number % 256]) * size)


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(large_responses, "LARGE_BYTES", LARGE_BYTES)
    monkeypatch.setattr(shipping, "PIECE_BYTES", PIECE_BYTES)
    monkeypatch.setattr(shipping, "UNDER_WAY_BYTES", 4 * PIECE_BYTES)
    return Rig()


def test_only_large_plain_responses_go_ahead(rig: Rig) -> None:
    takes = rig.responses.takes
    assert takes(response(1, LARGE_BYTES))
    assert not takes(response(1, LARGE_BYTES - 1))
    assert not takes(response(1, LARGE_BYTES, AcceptMode.HIBERNATABLE))


def test_objects_take_turns_a_piece_each(rig: Rig) -> None:
    first, second = outbox(), outbox()
    for box in (first, first, second):
        assert rig.put(box, 20 * LARGE_BYTES)
    assert rig.plans == 3
    assert rig.put(second, LARGE_BYTES)
    assert rig.turn(first, second) == []
    assert rig.link.pieces == 4
    assert sorted(rig.all_of(first, second)) == [1, 2, 3, 4]
    assert rig.link.pieces == 61 * LARGE_BYTES // PIECE_BYTES
    assert (rig.responses.size, bool(rig.responses), rig.responses.has(first)) == (0, False, False)


def test_a_small_one_does_not_wait_for_a_large_one_of_another_object(rig: Rig) -> None:
    first, second = outbox(), outbox()
    rig.put(first, 50 * LARGE_BYTES)
    rig.put(second)
    assert rig.all_of(first, second) == [2, 1]


def test_nothing_goes_ahead_while_the_link_has_much_under_way(rig: Rig) -> None:
    box = outbox()
    rig.put(box)
    rig.link.session.unconfirmed_bytes = 4 * PIECE_BYTES
    assert rig.turn(box) == []
    assert rig.link.pieces == 0
    assert rig.all_of(box) == [1]


def test_what_is_free_is_also_what_one_object_may_have(rig: Rig) -> None:
    greedy, other = outbox(), outbox()
    taken = sum(rig.put(greedy) for _ in range(200))
    assert taken == 50
    assert sum(rig.put(other) for _ in range(200)) == 25
    rig.flow.grown(LIMIT)
    assert not rig.put(other)
    assert sorted(rig.all_of(greedy, other)) == [*range(1, 51), *range(201, 226)]


def test_a_response_of_any_size_has_room_when_nothing_else_waits(rig: Rig) -> None:
    box = outbox()
    assert rig.put(box, 2 * LIMIT)
    assert not rig.put(box)


def test_those_for_a_router_that_has_gone_are_forgotten(rig: Rig) -> None:
    box, other = outbox(), peer_of(LinkToRouter(2))
    rig.put(box)
    rig.put(box, peer=other)
    rig.flow.lose(rig.peer)
    rig.flow.lose(rig.peer)
    assert rig.responses.size == LARGE_BYTES
    rig.flow.lose(other)
    assert (rig.responses.size, rig.responses.has(box), rig.flow.shipping) == (0, False, {})
    assert rig.turn(box) == []


def test_an_object_that_moves_keeps_its_slot_until_they_have_left(rig: Rig) -> None:
    box, other = outbox(), outbox()
    for each in (box, other, box):
        assert rig.put(each, 15 * LARGE_BYTES)
    rig.flow.let_go(box)
    assert rig.flow.keeps(box)
    came = rig.all_of(box, other)
    assert sorted(came) == [1, 2, 3]
    assert not rig.flow.keeps(box)
