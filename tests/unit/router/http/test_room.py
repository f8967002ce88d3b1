"""Clients that speak HTTP, of whom there are too many, or who take too much: who has to go."""

from __future__ import annotations

from typing import Any

import pytest

from roost.router.clients.descriptors import TOLD, Descriptors
from roost.router.owners import requests as requests_module
from tests.unit.router.fakes import accepted
from tests.unit.router.http.rig import GET, UPGRADE, Rig, body, status


@pytest.fixture
def rig() -> Rig:
    return Rig()


# --- too many ---

PART = GET[:-4]


def test_who_has_sent_nothing_is_no_handshake(rig: Rig) -> None:
    rig.front.budgets.handshakes.limit = 2
    silent = [rig.client() for _ in range(10)]
    assert rig.counters.handshakes_in_flight == 0
    client = rig.client()
    assert client.send(UPGRADE) == b""
    assert len(rig.asked()) == 1
    assert not any(each.transport.ending for each in silent)


def test_a_head_that_does_not_come_goes_before_a_handshake_that_does(rig: Rig) -> None:
    rig.front.budgets.handshakes.limit = 2
    upgrading, slow, slower = rig.client(), rig.client(), rig.client()
    upgrading.send(UPGRADE)
    slow.send(PART)
    assert slower.send(PART) == b""
    assert status(slow.take()) == 503
    assert rig.counters.handshakes_in_flight == 2
    another = rig.client()
    assert another.send(UPGRADE) == b""
    assert status(slower.take()) == 503
    assert (rig.counters.handshakes_in_flight, rig.counters.http_evicted) == (2, 2)
    assert len(rig.asked()) == 2


def test_handshakes_that_objects_work_on_are_not_given_up_for_more_of_the_same_address(rig: Rig) -> None:
    rig.front.budgets.handshakes.limit = 2
    upgrading = [rig.client() for _ in range(2)]
    for client in upgrading:
        client.send(UPGRADE)
    for data in (UPGRADE, PART):
        refused = rig.client()
        assert status(refused.send(data)) == 503
    assert all(client.take() == b"" for client in upgrading)
    assert status(rig.client().send(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")) in (200, 503)
    assert rig.counters.handshakes_in_flight == 2


def test_they_are_for_an_address_that_has_less_than_half_as_many(rig: Rig) -> None:
    rig.front.budgets.handshakes.limit = 3
    crowd = [rig.client() for _ in range(3)]
    for client in crowd:
        client.send(UPGRADE)
    other, second = rig.client("10.0.0.1"), rig.client("10.0.0.1")
    assert other.send(UPGRADE) == b""
    assert status(crowd[0].take()) == 503
    assert status(second.send(UPGRADE)) == 503, "it has half as many as the crowd now"
    assert rig.counters.handshakes_in_flight == 3


def test_a_connection_too_many_ends_the_oldest_that_has_sent_nothing(rig: Rig) -> None:
    rig.front.budgets.http_connections.limit = 3
    busy, idle, silent = rig.client(), rig.client(), rig.client()
    busy.send(GET)
    idle.send(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
    fourth = rig.client()
    assert (silent.transport.closed, fourth.transport.ending) == (True, False)
    silent.protocol.connection_lost(None)
    fourth.send(PART)
    fifth = rig.client()
    assert idle.transport.closed
    idle.protocol.connection_lost(None)
    fifth.send(GET)
    sixth = rig.client()
    assert status(fourth.take()) == 503
    assert sixth.take() == b""
    assert rig.counters.http_evicted == 3


def test_when_all_are_at_work_one_more_is_refused(rig: Rig) -> None:
    rig.front.budgets.http_connections.limit = 2
    busy = [rig.client(), rig.client()]
    for client in busy:
        client.send(GET)
    refused = rig.client()
    assert status(refused.take()) == 503
    another = rig.client()
    assert refused.transport.aborted, "it had its answer"
    assert another.take() == b""


def test_requests_of_an_address_that_has_most_are_given_up_for_others(rig: Rig) -> None:
    """Objects may take as long as they like: 8,192 requests of one client locked everybody else out."""
    rig.front.budgets.http_connections.limit = 4
    crowd = [rig.client() for _ in range(4)]
    for client in crowd:
        client.send(GET)
    requests = rig.asked()
    other = rig.client("10.0.0.1")
    told = crowd[0].take()
    assert status(told) == 502
    assert b"may have been carried out" in body(told)
    assert b"connection: close" in told
    assert crowd[0].transport.closed
    crowd[0].protocol.connection_lost(None)
    assert other.send(GET) == b""
    (request,) = rig.asked()
    rig.answer(request)
    assert status(other.take()) == 200
    rig.answer(requests[0])  # which nobody waits for
    rig.answer(requests[1])
    assert status(crowd[1].take()) == 200
    assert rig.counters.http_evicted == 1


def test_who_leaves_requests_at_shards_gets_no_more_through(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests_module, "MAX_LEFT_BYTES", 12_000)
    for data in (GET, UPGRADE, GET):
        client = rig.client()
        assert client.send(data) == b""
        client.protocol.connection_lost(None)
    refused = rig.client()
    assert status(refused.send(GET)) == 503
    other = rig.client("10.0.0.1")
    assert other.send(GET) == b""
    asked = rig.asked()
    assert len(asked) == 4
    for request in asked[:3]:
        rig.answer(request)
    assert refused.send(GET) == b""
    assert rig.forwarding.desk.requests.left.total == 0


def test_they_are_for_an_address_that_has_far_fewer(rig: Rig) -> None:
    rig.front.budgets.http_connections.limit = 4
    busy = [rig.client(address) for address in ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.3")]
    for client in busy:
        client.send(GET)
    assert status(rig.client("10.0.0.1").take()) == 503
    assert all(client.take() == b"" for client in busy)


def test_what_all_send_ahead_of_answers_has_a_bound(rig: Rig) -> None:
    """2,500 upgrades with 300 kB behind each were 1 GB, which nothing counted."""
    rig.front.budgets.ahead.limit = 100_000
    first, second, third, behind = (rig.client() for _ in range(4))
    assert first.send(UPGRADE + bytes(60_000)) == b""
    assert second.send(UPGRADE) == b""
    assert second.send(bytes(39_000)) == b""
    assert rig.counters.ahead_bytes == 99_000
    third.send(UPGRADE)
    assert status(third.send(bytes(2_000))) == 503
    assert third.transport.eof
    behind.send(GET + GET[:-2] + b"X: " + bytes(b"x" * 10_000))
    assert rig.counters.ahead_bytes == 99_000, "it is dropped"
    upgrades = rig.asked()
    rig.answer(upgrades[-1])
    assert b"connection: close" in behind.take()
    rig.receiver.response(accepted(request=upgrades[0].request))
    assert rig.counters.ahead_bytes == 39_000
    second.protocol.connection_lost(None)
    assert rig.counters.ahead_bytes == 0
    for each in (third, behind):
        each.protocol.connection_lost(None)
    assert rig.counters.ahead_bytes == 0


def test_a_crowd_from_one_address_goes_before_anybody_else(rig: Rig) -> None:
    rig.front.budgets.http_connections.limit = 5
    single = rig.client("10.0.0.1")
    crowd = [rig.client(f"2001:db8:0:1::{n:x}") for n in range(4)]  # one network of 64 bits
    for _ in range(2):
        rig.client("10.0.0.2")
    assert [client.transport.closed for client in crowd] == [True, True, False, False]
    assert not single.transport.closed


# --- descriptors ---


def test_clients_beyond_the_descriptors_are_told_so_and_those_before_stay(rig: Rig, caplog: Any) -> None:
    rig.front.descriptors = Descriptors(4, held=0)  # two for clients
    held = [rig.client(), rig.client()]
    for client in held:
        client.send(GET)
    requests = rig.asked()
    some = [rig.client() for _ in range(TOLD)]
    for late in some:
        data = late.take()
        assert status(data) == 503
        assert b"holds as many connections as it can" in data
        assert late.transport.eof, "it may read that"
        assert not late.transport.closed
    beyond = rig.client()
    assert status(beyond.take()) == 503
    assert some[0].transport.aborted, "few linger at a time"
    assert not some[1].transport.aborted
    assert rig.counters.turned_away == TOLD + 1
    assert len([line for line in caplog.messages if "refused" in line]) == 1
    for client, request in zip(held, requests, strict=True):
        rig.answer(request)
        assert status(client.take()) == 200


def test_who_says_nothing_goes_for_who_comes_when_descriptors_are_few(rig: Rig) -> None:
    rig.front.descriptors = Descriptors(4, held=0)
    silent = [rig.client(), rig.client()]
    late = rig.client()
    assert silent[0].transport.closed
    late.send(GET)
    (request,) = rig.asked()
    rig.answer(request)
    assert status(late.take()) == 200
    assert not silent[1].transport.closed
    assert rig.counters.turned_away == 0


# --- what requests take beside their bodies ---

FIELDS = b"".join(b"x%d: %s\r\n" % (number, b"v" * 40) for number in range(100))


def test_heads_that_do_not_come_whole_go_when_all_take_too_much(rig: Rig) -> None:
    rig.front.budgets.heads.limit = 400_000
    honest = rig.client("192.0.2.1")
    honest.send(GET[:20])
    crowd = [rig.client("192.0.2.2") for _ in range(20)]
    for client in crowd:
        client.send(GET[:-2] + FIELDS)
        assert rig.counters.head_bytes <= 400_000
    gone = [client for client in crowd if client.transport.eof]
    assert 10 < len(gone) < 20
    assert gone == crowd[: len(gone)], "the oldest of the address that has most"
    assert rig.counters.http_evicted == len(gone)
    honest.send(GET[20:])
    assert len(rig.asked()) == 1
    for client in (honest, *crowd):
        client.protocol.connection_lost(None)
    assert rig.counters.head_bytes == 0


def test_requests_that_objects_work_on_count_until_they_are_answered(rig: Rig) -> None:
    rig.front.budgets.heads.limit = 400_000
    answers = [rig.client().send(GET[:-2] + FIELDS + b"\r\n") for _ in range(12)]
    asked = rig.asked()
    assert 5 < len(asked) < 12
    assert [status(answer) for answer in answers if answer] == [503] * (12 - len(asked))
    other = rig.client("192.0.2.3")
    assert other.send(GET) == b"", "an address that has far fewer is served in place of one that has most"
    (request,) = rig.asked()
    for each in (*asked, request):
        rig.answer(each)
    assert status(other.take()) == 200
    assert rig.counters.head_bytes == 0
