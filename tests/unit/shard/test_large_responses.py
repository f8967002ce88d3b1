"""Large responses: in turn, one at a time on a link, and bounded."""

from __future__ import annotations

from typing import Any

import pytest

from roost.common.records import AcceptMode, HttpResponse
from roost.shard.counters import ShardCounters
from roost.shard.flow import Flow
from roost.shard.large_responses import LARGE_BYTES, UNDER_WAY_BYTES, LargeResponses
from roost.shard.outbox import Outbox
from roost.shard.peers import Peer
from tests.unit.shard.harness import FakeLink, outbox, peer_of

LIMIT = 100 * LARGE_BYTES


class Rig:
    def __init__(self) -> None:
        self.held = self.plans = 0
        self.link = FakeLink()
        self.peer = peer_of(self.link)
        self.responses = LargeResponses(lambda: LIMIT - self.held, self._plan)
        self._number = 0

    def _plan(self) -> None:
        self.plans += 1

    def put(self, box: Outbox, size: int = LARGE_BYTES, peer: Peer | None = None) -> bool:
        self._number += 1
        return self.responses.put(box, peer or self.peer, response(self._number, size))

    def left(self, *boxes: Outbox) -> list[int]:
        """The numbers of the responses that have gone into these outboxes."""
        for box in boxes:
            box.drain()
        self.link.flush()
        return [record[1].request for record in self.link.take() if record[0] == "response"]


def response(number: int, size: int, mode: AcceptMode = AcceptMode.PLAIN) -> HttpResponse:
    return HttpResponse(number, 200, mode, [], bytes(size))


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_only_large_plain_responses_wait(rig: Rig) -> None:
    box, takes = outbox(), rig.responses.takes
    assert takes(box, response(1, LARGE_BYTES))
    assert not takes(box, response(1, LARGE_BYTES - 1))
    assert not takes(box, response(1, LARGE_BYTES, AcceptMode.HIBERNATABLE))
    box.unheld = True
    assert not takes(box, response(1, LARGE_BYTES))


def test_they_leave_of_objects_in_turn_while_little_is_under_way(rig: Rig) -> None:
    first, second = outbox(), outbox()
    for box in (first, first, first, second):
        assert rig.put(box, 20 * LARGE_BYTES)
    assert rig.plans == 4
    order: list[Any] = []
    for _ in range(4):
        rig.responses.release()
        order += rig.left(first, second)
        rig.link.session.unconfirmed_bytes = UNDER_WAY_BYTES
        rig.responses.release()
        assert rig.left(first, second) == [], "the link has much under way"
        rig.link.session.unconfirmed_bytes = 0
    assert order == [1, 4, 2, 3]
    assert (rig.responses.size, bool(rig.responses), rig.responses.has(first)) == (0, False, False)


def test_several_that_are_not_so_large_leave_together(rig: Rig) -> None:
    box = outbox()
    for _ in range(20):
        rig.put(box)
    rig.responses.release()
    assert rig.left(box) == list(range(1, 17)), "1 MiB"


def test_what_is_free_is_also_what_one_object_may_have(rig: Rig) -> None:
    greedy, other = outbox(), outbox()
    taken = sum(rig.put(greedy) for _ in range(200))
    assert taken == 50
    assert sum(rig.put(other) for _ in range(200)) == 25
    rig.held = LIMIT
    assert not rig.put(other)
    rig.responses.let_go(other)
    assert rig.left(other) == list(range(201, 226))
    assert rig.responses.size == 50 * LARGE_BYTES


def test_a_response_of_any_size_has_room_when_nothing_else_waits(rig: Rig) -> None:
    box = outbox()
    assert rig.put(box, 2 * LIMIT)
    assert not rig.put(box)


def test_those_for_a_router_that_has_gone_are_forgotten(rig: Rig) -> None:
    box, other = outbox(), peer_of(FakeLink(2))
    rig.put(box)
    rig.put(box, peer=other)
    rig.responses.lose(rig.peer)
    rig.responses.lose(rig.peer)
    assert rig.responses.size == LARGE_BYTES
    rig.responses.lose(other)
    assert (rig.responses.size, rig.responses.has(box)) == (0, False)


def test_what_an_object_has_leaves_when_it_moves(rig: Rig) -> None:
    """And what it answers from then on leaves at once: its slot is let go of behind all of that."""
    flow = Flow(LIMIT, lambda *ended: None, lambda: None, ShardCounters())
    box, other = outbox(), outbox()
    for number, each in enumerate((box, other, box)):
        assert flow.responses.put(each, rig.peer, response(number, 15 * LARGE_BYTES))
    flow.let_go(box)
    assert rig.left(box) == [0, 2]
    assert not flow.responses.takes(box, response(3, LARGE_BYTES))
    assert flow.responses.has(other)
    flow.lose(rig.peer)
    assert not flow.responses
