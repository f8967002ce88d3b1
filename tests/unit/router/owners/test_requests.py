"""Requests by number, sent or parked."""

from __future__ import annotations

import pytest

from roost.common.errors import Unavailable
from roost.common.ids import id_from_name
from roost.common.wire.records import HttpRequest
from roost.router.owners import requests as module
from roost.router.owners.requests import Request, Requests
from tests.support.links import LinkToShard
from tests.unit.router.fakes import NAMESPACE, FakeAsker


def make(requests: Requests, parked_at: int = 0, name: str = "lobby") -> Request:
    record = HttpRequest(
        requests.next_number(), 0, id_from_name(NAMESPACE, name), NAMESPACE, name, "GET", "http://h/", (), b"body"
    )
    return Request(record, FakeAsker(), None, None, parked_at)


def test_numbers_are_not_used_while_unanswered() -> None:
    requests, link = Requests(), LinkToShard()
    requests.last = 0xFFFFFFFE
    last = make(requests)
    requests.send(last, link)
    first = make(requests)
    requests.park(first)
    assert (last.record.request, first.record.request) == (0xFFFFFFFF, 1)
    requests.last = 0xFFFFFFFE
    assert requests.next_number() == 2


def test_what_is_sent_is_answered_once_and_by_its_own_link_only() -> None:
    requests, link, other = Requests(), LinkToShard(1), LinkToShard(2)
    request = make(requests)
    requests.send(request, link)
    ((kind, record),) = link.take()
    assert (kind, record.body) == ("request", b"body")
    assert request.record.body == b"body"  # it may be sent again, if this owner lets go of it
    assert requests.take(record.request, other) is None
    assert requests.take(record.request, link) is request
    assert requests.take(record.request, link) is None


def test_parking_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PARKED_REQUESTS", 2)
    requests = Requests()
    for _ in range(2):
        requests.park(make(requests))
    with pytest.raises(Unavailable):
        requests.park(make(requests))
    assert requests.parked == 2


def test_an_abandoned_request_is_forgotten_only_if_it_was_not_sent() -> None:
    requests, link = Requests(), LinkToShard()
    parked, sent = make(requests), make(requests)
    requests.park(parked)
    requests.send(sent, link)
    assert requests.abandon(parked)
    assert not requests.abandon(sent)
    assert requests.parked == 0
    assert (sent.record.body, sent.record.name) == (b"", "lobby")
    assert requests.take(sent.record.request, link) is sent
    assert sent.asker is None


def test_the_requests_of_a_slot() -> None:
    requests, link = Requests(), LinkToShard(1)
    a, c = make(requests), make(requests)
    b = make(requests, name="elsewhere")
    assert a.slot != b.slot
    for request in (a, b, c):
        requests.send(request, link)
    assert requests.sent_of(a.slot) == [a, c]
    assert requests.sent_of(a.slot) == []
    assert a.link is None
    assert requests.take(a.record.request, link) is None
    assert requests.take(b.record.request, link) is b
    assert requests.sent_of(b.slot) == []


def test_those_that_were_not_begun_wait_again_before_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PARKED_REQUESTS", 3)
    requests, link = Requests(), LinkToShard()
    a, b, c, later = (make(requests, 5) for _ in range(4))
    for request in (a, b, c):
        requests.send(request, link)
    requests.park(later)
    assert requests.park_again(requests.sent_of(a.slot)) == [c]
    assert requests.parked_in(a.slot) == [a, b, later]
    assert [request.parked_at for request in (a, b, later)] == [5, 5, 5]
    requests.send(a, link)
    assert link.take()[-1][1].body == b"body"
    assert requests.take(a.record.request, link) is a


def test_the_parked_of_one_object() -> None:
    requests = Requests()
    a, b = make(requests), make(requests, name="elsewhere")
    requests.park(a)
    requests.park(b)
    assert list(requests.parked_for(a.record.object_id)) == [a]
    assert (requests.parked, requests.parked_in(a.slot), requests.parked_in(b.slot)) == (1, [], [b])
    assert requests.parked_slots == [b.slot]


def test_those_parked_for_too_long() -> None:
    requests = Requests()
    old, young = make(requests, 10), make(requests, 20)
    requests.park(old)
    requests.park(young)
    assert list(requests.parked_before(10)) == []
    assert list(requests.parked_before(11)) == [old]
    assert requests.parked_in(young.slot) == [young]


def test_what_clients_have_left_at_shards_counts_until_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 clients that ask an object whose handler waits, and leave at once, were 1 GB at its shard after 20 s."""
    monkeypatch.setattr(module, "MAX_LEFT_BYTES", 1_000)
    requests, link = Requests(), LinkToShard()
    sent = [make(requests) for _ in range(4)]
    for request in sent:
        request.share, request.memory = "10.0.0.1", 600
        requests.send(request, link)
    assert requests.left.takes("10.0.0.1", 600), "their clients wait"
    for request in sent[:3]:
        requests.abandon(request)
        requests.abandon(request)
    assert requests.left.total == 1_800
    assert not requests.left.takes("10.0.0.1", 1)
    assert requests.left.takes("10.0.0.2", 600)
    requests.take(sent[0].record.request, link)
    requests.take(sent[3].record.request, link)
    assert not requests.left.takes("10.0.0.1", 1)
    assert len(requests.sent_of(sent[1].slot)) == 2  # their owner has died, or lets go of them
    assert requests.left.total == 0
    assert requests.left.takes("10.0.0.1", 600)


def test_all_together_have_left_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ALL_LEFT_BYTES", 1_000)
    monkeypatch.setattr(module, "SMALL_BYTES", 500)
    requests, link = Requests(), LinkToShard()
    for number in range(3):
        request = make(requests)
        request.share, request.memory = f"10.0.0.{number}", 400
        requests.send(request, link)
        requests.abandon(request)
    assert not requests.left.takes("10.0.0.1", 1)
    assert requests.left.takes("10.0.0.9", 500)
    assert not requests.left.takes("10.0.0.9", 501)


def test_what_was_not_sent_is_left_nowhere() -> None:
    requests = Requests()
    request = make(requests)
    request.memory = 100
    requests.park(request)
    requests.abandon(request)
    assert requests.left.total == 0
