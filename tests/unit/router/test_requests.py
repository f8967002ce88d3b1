"""Requests by number, sent or parked."""

from __future__ import annotations

import pytest

from roost.common.errors import Unavailable
from roost.common.ids import id_from_name
from roost.common.records import HttpRequest
from roost.router import requests as module
from roost.router.requests import Request, Requests
from tests.unit.router.fakes import NAMESPACE, FakeAsker, FakeLink


def make(requests: Requests, parked_at: int = 0, name: str = "lobby") -> Request:
    record = HttpRequest(
        requests.next_number(), 0, id_from_name(NAMESPACE, name), NAMESPACE, name, "GET", "http://h/", (), b"body"
    )
    return Request(record, FakeAsker(), None, None, parked_at)


def test_numbers_are_not_used_while_unanswered() -> None:
    requests, link = Requests(), FakeLink()
    requests._last = 0xFFFFFFFE
    last = make(requests)
    requests.send(last, link)
    first = make(requests)
    requests.park(first)
    assert (last.record.request, first.record.request) == (0xFFFFFFFF, 1)
    requests._last = 0xFFFFFFFE
    assert requests.next_number() == 2


def test_what_is_sent_is_answered_once_and_by_its_own_link_only() -> None:
    requests, link, other = Requests(), FakeLink(1), FakeLink(2)
    request = make(requests)
    requests.send(request, link)
    ((kind, record),) = link.take()
    assert (kind, record.body) == ("request", b"body")
    assert request.record.body == b""
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
    requests, link = Requests(), FakeLink()
    parked, sent = make(requests), make(requests)
    requests.park(parked)
    requests.send(sent, link)
    assert requests.abandon(parked)
    assert not requests.abandon(sent)
    assert requests.parked == 0
    assert requests.take(sent.record.request, link) is sent
    assert sent.asker is None


def test_the_requests_of_a_dead_link() -> None:
    requests, dead, alive = Requests(), FakeLink(1), FakeLink(2)
    a, b, c = (make(requests) for _ in range(3))
    requests.send(a, dead)
    requests.send(b, alive)
    requests.send(c, dead)
    assert list(requests.sent_to(dead)) == [a, c]
    assert list(requests.sent_to(dead)) == []
    assert requests.take(b.record.request, alive) is b


def test_those_parked_for_too_long() -> None:
    requests = Requests()
    old, young = make(requests, 10), make(requests, 20)
    requests.park(old)
    requests.park(young)
    assert list(requests.parked_before(10)) == []
    assert list(requests.parked_before(11)) == [old]
    assert requests.parked_where(lambda _: True) == [young]
