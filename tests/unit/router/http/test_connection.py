"""The HTTP shell: requests in turn, answers, phases and deadlines, the hand-over to a WebSocket."""

from __future__ import annotations

import socket
import weakref
from dataclasses import replace

import pytest

from roost.common.budget import Budget
from roost.common.cluster.cluster_map import ClusterMap, Member, MemberKind
from roost.common.errors import Unavailable
from roost.common.ids import Incarnation
from roost.common.limits import SLOTS
from roost.router.clients.send_buffers import SendBuffers
from roost.router.clients.work import AT_ONCE_BYTES
from roost.router.formats.frames import data_frame
from roost.router.http import front as http_front
from roost.router.http.connection import MAX_BEHIND_BYTES
from roost.router.http.parser import RequestParser
from roost.router.websocket.connection import Connection
from roost.router.websocket.states import State
from tests.unit.router.fakes import NAMESPACE, accepted, text
from tests.unit.router.http.rig import (
    CLOSE,
    EXPECT,
    GET,
    HEAD,
    POST,
    UPGRADE,
    Client,
    Rig,
    body,
    give_up,
    is_busy,
    status,
    upgrade,
)


@pytest.fixture
def rig() -> Rig:
    return Rig()


# --- requests to objects ---


def test_a_request_and_its_answer(rig: Rig) -> None:
    client = rig.client()
    assert client.send(POST) == b""
    (request,) = rig.asked()
    assert (request.method, request.url, request.body) == ("POST", "http://h/chat-room/lobby", b"hello")
    assert (request.namespace, request.name, request.connection) == (NAMESPACE, "lobby", 0)
    assert rig.counters.body_bytes == 5  # its owner may let go of the object and leave the request to the next one
    rig.answer(request, 201, [(b"X-A", b"b"), (b"Content-Length", b"99")])
    data = client.take()
    assert status(data) == 201
    assert b"X-A: b\r\n" in data
    assert b"content-length: 2\r\n" in data
    assert body(data) == b"ok"
    assert rig.counters.body_bytes == 0
    assert not client.transport.ending
    client.send(GET)
    assert len(rig.asked()) == 1
    assert rig.counters.http_requests == 2


def test_pipelined_requests_are_asked_one_at_a_time(rig: Rig) -> None:
    client = rig.client()
    client.send(POST + GET + CLOSE)
    for number in (1, 2, 3):
        (request,) = rig.asked()
        assert client.transport.paused == (number < 3)
        rig.answer(request, body=b"%d" % number)
        assert body(client.take()) == b"%d" % number
    assert client.transport.closed


def test_a_head_gets_no_body_but_its_length(rig: Rig) -> None:
    client = rig.client()
    client.send(HEAD)
    rig.answer(rig.asked()[0], headers=[(b"content-length", b"77")], body=b"")
    data = client.take()
    assert b"content-length: 77\r\n" in data
    assert body(data) == b""


def test_http_1_0_is_answered_and_closed(rig: Rig) -> None:
    client = rig.client()
    client.send(b"GET /chat-room/lobby HTTP/1.0\r\n\r\n")
    (request,) = rig.asked()
    assert request.url == "http://127.0.0.1:8787/chat-room/lobby"
    rig.answer(request)
    assert b"connection: close\r\n" in client.take()
    assert client.transport.closed


@pytest.mark.parametrize(
    "header", [(b"X", b"a\r\nSet-Cookie: b"), (b"X", b"\0"), (b"X\n", b"a"), (b"date", b"a\nb"), (b"", b"")]
)
def test_a_response_that_would_split_is_a_500(
    rig: Rig, header: tuple[bytes, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    client = rig.client()
    client.send(GET)
    rig.answer(rig.asked()[0], headers=[header])
    data = client.take()
    assert status(data) == 500
    assert b"Set-Cookie" not in data
    assert "chat-room/lobby" in caplog.text
    client.send(GET)
    assert len(rig.asked()) == 1


def test_a_426_of_an_object_says_to_what_to_upgrade(rig: Rig) -> None:
    client = rig.client()
    client.send(GET)
    rig.answer(rig.asked()[0], 426, [(b"upgrade", b"h2c"), (b"x", b"1")])
    data = client.take()
    assert b"\r\nupgrade: websocket\r\nconnection: upgrade\r\n" in data
    assert b"h2c" not in data
    client.send(GET)
    rig.answer(rig.asked()[0], 425)
    assert b"upgrade" not in client.take()


def test_a_browser_is_told_on_a_page_what_is_wrong_and_a_program_in_a_line(rig: Rig) -> None:
    client = rig.client()
    nowhere = GET.replace(b"chat-room", b"nowhere")
    assert body(client.send(nowhere)).startswith(b"there is no namespace 'nowhere' here")
    data = client.send(nowhere.replace(b"\r\n\r\n", b"\r\nAccept: text/html\r\n\r\n"))
    assert status(data) == 404
    assert body(data).startswith(b"<!doctype html>")
    assert b"There is no namespace" in data


PAGE = b"Accept: text/html\r\n"
REFUSED_EARLY = {
    "a Host that is none": (b"GET / HTTP/1.1\r\nHost: a b\r\n" + PAGE + b"\r\n", 400),
    "no Host": (b"GET / HTTP/1.1\r\n" + PAGE + b"\r\n", 400),
    "what cannot be expected": (
        b"GET /chat-room/x HTTP/1.1\r\nHost: h\r\nExpect: more\r\n" + PAGE + b"\r\n",
        417,
    ),
    "a body that is too large": (
        b"POST /chat-room/lobby HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n" + PAGE + b"\r\n",
        413,
    ),
    "a chunk that is too large": (
        b"POST /chat-room/lobby HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
        + PAGE
        + b"\r\n3e9\r\n"
        + b"x" * 1001,
        413,
    ),
    "a body that is not wanted": (
        b"POST /nowhere/x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n" + PAGE + b"\r\n",
        404,
    ),
    "a head that is too large": (b"GET / HTTP/1.1\r\nHost: h\r\n" + PAGE + b"X: " + b"x" * 70_000, 431),
    "a field that is none": (b"GET / HTTP/1.1\r\nHost: h\r\n" + PAGE + b"A: b\r\nc d: e\r\n\r\n", 400),
}


@pytest.mark.parametrize("what", REFUSED_EARLY)
def test_a_browser_is_told_on_a_page_also_what_is_wrong_with_a_head(rig: Rig, what: str) -> None:
    sent, expected = REFUSED_EARLY[what]
    data = rig.client().send(sent)
    assert status(data) == expected
    assert body(data).startswith(b"<!doctype html>")
    data = rig.client().send(sent.replace(PAGE, b""))
    assert status(data) == expected
    assert b"content-type: text/plain" in data
    if sent.startswith(b"GET"):
        data = rig.client().send(sent.replace(b"GET", b"HEAD"))
        assert status(data) == expected
        assert body(data) == b"", "the answer to a HEAD has no body"


def test_what_is_no_request_is_answered_with_a_line(rig: Rig) -> None:
    data = rig.client().send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\nAccept: text/html\r\n\r\n")
    assert status(data) == 400
    assert b"content-type: text/plain" in data


def test_a_browser_whose_request_comes_too_slowly_is_told_so_on_a_page(rig: Rig) -> None:
    client = rig.client()
    client.send(b"GET / HTTP/1.1\r\nHost: h\r\n" + PAGE + b"X: ")
    rig.world.pass_time(11)
    data = client.take()
    assert status(data) == 408
    assert body(data).startswith(b"<!doctype html>")


def test_a_client_that_leaves_is_not_answered(rig: Rig) -> None:
    client = rig.client()
    client.send(GET)
    (request,) = rig.asked()
    client.protocol.connection_lost(None)
    rig.answer(request)
    assert client.take() == b""
    assert rig.counters.http_connections == 0
    assert rig.front.open == set()


def test_a_client_that_only_shuts_its_sending_side_is_answered(rig: Rig) -> None:
    client = rig.client()
    client.send(GET + GET)
    assert client.protocol.eof_received()
    for _ in range(2):
        rig.answer(rig.asked()[0])
        assert status(client.take()) == 200
    assert client.transport.closed


def test_an_idle_client_that_ends_is_closed(rig: Rig) -> None:
    client = rig.client()
    assert not client.protocol.eof_received()


def test_a_dead_shard_fails_the_request_and_the_next_one_goes_on(rig: Rig) -> None:
    client = rig.client()
    client.send(GET + GET)
    rig.forwarding.take_map(ClusterMap(2))
    data = client.take()
    assert status(data) == 502
    assert rig.forwarding.desk.requests.parked == 1


def test_a_slow_reader_gets_no_second_answer_until_it_has_taken_the_first(rig: Rig) -> None:
    client = rig.client()
    client.send(GET + GET)
    client.protocol.pause_writing()
    rig.answer(rig.asked()[0])
    assert rig.asked() == []
    assert client.transport.paused
    client.protocol.resume_writing()
    assert len(rig.asked()) == 1


def test_answers_that_are_not_taken_count_until_they_are_or_the_client_is_cut(rig: Rig) -> None:
    client = rig.client()
    account = SendBuffers(4 << 20, Budget(1 << 20), patience=600, output_of=lambda transport: (0, 0))
    rig.world.shared.send_buffers = account
    client.transport.taken = False
    client.send(GET)
    rig.answer(rig.asked()[0], body=bytes(500 << 10))
    assert account.budget.taken > 500 << 10
    client.transport.drain()
    assert account.budget.taken == 0
    client.send(GET)
    rig.answer(rig.asked()[0], body=bytes(1 << 20))
    assert client.transport.aborted
    assert account.budget.taken == 0
    assert rig.counters.send_buffers_cut == 1


def test_one_that_never_takes_its_answer_is_cut_off(rig: Rig) -> None:
    client = rig.client()
    client.send(GET)
    client.transport.taken = False
    rig.answer(rig.asked()[0], body=bytes(1_000_000))
    rig.world.pass_time(28)
    assert not client.transport.aborted
    rig.world.pass_time(4)
    assert client.transport.aborted


@pytest.mark.parametrize("request_", [GET, CLOSE, GET.replace(b"HTTP/1.1", b"HTTP/1.0")])
def test_one_that_takes_its_answer_slowly_gets_all_of_it(rig: Rig, request_: bytes) -> None:
    """Also when the connection is to close behind it: it is not cut off in the middle of a response."""
    client = rig.client()
    client.transport.taken = False
    client.send(request_)
    for asked in rig.asked():
        rig.answer(asked, body=bytes(1_000_000))
    for left in range(10, 0, -1):
        client.transport.drain(left * 100_000)
        rig.world.pass_time(25)
        assert not client.transport.aborted
    rig.world.pass_time(32)
    assert client.transport.aborted


def test_one_that_has_its_last_answer_has_a_moment_to_end(rig: Rig) -> None:
    client = rig.client()
    client.transport.taken = False
    client.send(b"garbage\r\n\r\n")
    client.transport.drain(10)
    rig.world.pass_time(20)
    client.transport.drain()
    rig.world.pass_time(1.9)
    assert not client.transport.ending
    rig.world.pass_time(4.2)
    assert client.transport.closed, "no reset: it may be reading what its own system has"


def test_a_last_response_that_the_system_has_is_not_taken_yet(rig: Rig) -> None:
    """Megabytes may lie there: a client that takes them at its own pace has not stalled, and is not reset."""
    client = rig.client()
    client.send(b"garbage\r\n\r\n")
    client.transport.in_system = 1_000_000
    for _ in range(10):
        rig.world.pass_time(20)
        client.transport.in_system -= 100_000
        client.transport.confirmed += 100_000
        assert not client.transport.ending
    rig.world.pass_time(4.2)
    assert client.transport.closed
    stalled = rig.client()
    stalled.send(b"garbage\r\n\r\n")
    stalled.transport.in_system = 1_000_000
    rig.world.pass_time(33)
    assert stalled.transport.aborted


# --- what the router refuses ---


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (GET.replace(b"chat-room", b"nope"), 404),
        (GET.replace(b"lobby", b"a%2Fb"), 400),
        (GET.replace(b"lobby", b"%ff"), 400),
        (GET.replace(b"lobby", b"n" * 513), 400),
    ],
)
def test_a_bad_url_is_refused_and_the_connection_goes_on(rig: Rig, data: bytes, expected: int) -> None:
    client = rig.client()
    answer = client.send(data)
    assert status(answer) == expected
    assert body(answer).endswith(b"\n")
    assert rig.asked() == []
    assert status(client.send(data)) == expected
    assert not client.transport.ending


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x16\x03\x01\x00\xa5garbage", 400),
        (POST.replace(b": 5", b": 1001"), 413),
        (GET[:-2] + b"".join(b"X%d: %s\r\n" % (n, b"y" * 1000) for n in range(66)) + b"\r\n", 431),
        (GET.replace(b"Host: h\r\n", b""), 400),
        (EXPECT.replace(b"100-continue", b"a-miracle"), 417),
        (GET.replace(b"HTTP/1.1", b"HTTP/2.0"), 505),
    ],
)
def test_what_cannot_be_read_ends_the_connection_gently(rig: Rig, data: bytes, expected: int) -> None:
    client = rig.client()
    answer = client.send(data)
    assert status(answer) == expected
    assert b"connection: close" in answer
    assert client.transport.eof
    assert not client.transport.ending
    assert client.send(b"more of the same") == b""
    rig.world.pass_time(2.2)
    assert client.transport.closed
    assert rig.counters.bad_requests == 1


def test_what_comes_behind_a_refusal_is_dropped_a_read_in_each_turn(rig: Rig) -> None:
    client = rig.client()
    assert status(client.send(b"nonsense\r\n\r\n")) == 400
    assert client.transport.eof
    for _ in range(3):
        client.transport.protocol.data_received(bytes(1000))
        assert client.transport.paused, "the transport would read on at once"
        assert not rig.world.shared.work.run()
        assert not client.transport.paused
    client.transport.protocol.data_received(bytes(1000))
    client.protocol.connection_lost(None)
    assert not rig.world.shared.work.run()
    assert len(rig.front.open) == 0


def test_a_fault_waits_for_the_answers_before_it(rig: Rig) -> None:
    client = rig.client()
    assert client.send(GET + b"garbage\r\n\r\n") == b""
    rig.answer(rig.asked()[0])
    data = client.take()
    assert data.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 400" in data


def test_requests_wait_for_the_first_shard_of_a_cluster(rig: Rig) -> None:
    rig.take_map(ClusterMap())
    client, unknown, gone = rig.client(), rig.client(), rig.client()
    assert client.send(GET) == unknown.send(GET.replace(b"chat-room", b"nope")) == gone.send(GET) == b""
    assert client.send(GET) == b""
    gone.protocol.connection_lost(None)
    rig.take_map(rig.map)
    assert status(unknown.take()) == 404
    (request,) = rig.asked()
    rig.answer(request)
    assert status(client.take()) == 200
    assert len(rig.asked()) == 1


def test_they_do_not_wait_for_a_cluster_in_which_nothing_is_public(rig: Rig) -> None:
    rig.take_map(ClusterMap())
    waiting = rig.client()
    assert waiting.send(GET) == b""
    shard = Member("s1", MemberKind.SHARD, Incarnation(1), "ipc://x", ())
    rig.take_map(ClusterMap(1, {shard.incarnation: shard}, (shard.incarnation,) * SLOTS))
    assert status(waiting.take()) == status(rig.client().send(GET)) == status(rig.client().send(EXPECT)) == 404
    assert b"No namespace is public here" in rig.client().send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")


def test_they_do_not_wait_for_ever(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.take_map(ClusterMap())
    client = rig.client()
    client.send(GET)
    monkeypatch.setattr(http_front, "MAX_PARKED_REQUESTS", 1)
    assert status(rig.client().send(GET)) == 503
    rig.world.pass_time(30.2)
    assert status(client.take()) == 503
    rig.take_map(rig.map)
    assert rig.asked() == []


def test_draining_ends_their_wait(rig: Rig) -> None:
    rig.take_map(ClusterMap())
    client = rig.client()
    client.send(GET)
    rig.front.drain()
    assert client.take() == b"", "a router that only retires has time"
    rig.front.drain(ending=True)
    answer = client.take()
    assert status(answer) == 503
    assert b"connection: close" in answer
    assert client.transport.eof


def test_what_waits_behind_a_request_is_bounded(rig: Rig) -> None:
    client = rig.client()
    client.send(GET * (MAX_BEHIND_BYTES // len(GET)))
    protocol = client.protocol
    assert protocol._parser.unparsed > MAX_BEHIND_BYTES // 2
    greedy = rig.client()
    greedy.send(GET * (2 * MAX_BEHIND_BYTES // len(GET)))
    assert greedy.protocol._parser.unparsed == 0
    answers = b""
    for _ in range(100):
        for request in rig.asked():
            rig.answer(request)
        rig.world.run()
        answers += greedy.take()
    assert answers.count(b"HTTP/1.1 200") > 10
    assert answers.count(b"connection: close") == 1
    assert greedy.transport.ending
    assert not client.transport.ending


def test_a_request_with_too_much_behind_it_is_still_answered(rig: Rig) -> None:
    client = rig.client()
    client.send(POST + GET[:-2] + b"X: " + b"x" * (MAX_BEHIND_BYTES + 1000))
    (request,) = rig.asked()
    rig.answer(request)
    answer = client.take()
    assert status(answer) == 200
    assert b"connection: close" in answer
    assert client.transport.ending
    assert rig.counters.body_bytes == 0


# --- Expect: 100-continue ---


def test_a_client_is_told_to_go_on(rig: Rig) -> None:
    client = rig.client()
    assert client.send(EXPECT) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"hello")
    assert rig.asked()[0].body == b"hello"


def test_not_for_a_body_that_would_be_thrown_away(rig: Rig) -> None:
    client = rig.client()
    assert status(client.send(EXPECT.replace(b"chat-room", b"nope"))) == 404
    assert client.transport.eof


def test_the_100_waits_for_the_answers_before_it(rig: Rig) -> None:
    client = rig.client()
    assert client.send(GET + EXPECT) == b""
    rig.answer(rig.asked()[0])
    assert client.take().endswith(b"ok" + b"HTTP/1.1 100 Continue\r\n\r\n")


# --- upgrades ---


def test_an_accepted_upgrade_becomes_a_connection(rig: Rig) -> None:
    client = rig.client()
    connection = upgrade(rig, client, headers=[(b"Sec-WebSocket-Protocol", b"chat")])
    answer = client.take()
    assert status(answer) == 101
    assert b"Sec-WebSocket-Protocol: chat\r\n" in answer
    assert connection.state is State.OPEN
    assert connection.passport().url == "http://h/chat-room/lobby?x=1"
    assert connection.passport().protocol == "chat"
    assert client.transport.protocol is connection
    assert (rig.counters.connections, rig.counters.http_connections, rig.counters.handshakes_in_flight) == (1, 0, 0)
    assert rig.front.open == set()
    client.send(text("hi"))
    assert rig.link.take() == [("message", connection.number, 1, 0, "hi")]


def test_frames_behind_the_handshake_are_delivered_in_order(rig: Rig) -> None:
    client = rig.client()
    frames = text("1") + text("2")
    assert client.send(UPGRADE + frames[:3]) == b""
    client.send(frames[3:])
    (request,) = rig.asked()
    rig.receiver.response(accepted(request=request.request))
    connection = client.transport.protocol
    connection.writer.write(data_frame(b"x", False))
    assert client.take().endswith(b"\r\n\r\n" + data_frame(b"x", False))
    assert [record[4] for record in rig.link.take()] == ["1", "2"]


def test_too_much_behind_a_handshake_is_not_read_yet(rig: Rig) -> None:
    client = rig.client()
    client.send(UPGRADE + b"x" * 60_000)
    assert not client.transport.paused
    client.send(b"x" * 10_000)
    assert client.transport.paused
    (request,) = rig.asked()
    rig.receiver.response(accepted(request=request.request))
    assert not client.transport.paused


@pytest.mark.parametrize("waiting", [17 << 10, 65 << 10], ids=["by the limit for sockets", "by that for HTTP as well"])
def test_one_that_is_slow_before_it_is_a_socket_is_slow_as_one(rig: Rig, waiting: int) -> None:
    client = rig.client()
    client.transport.taken = False
    client.send(UPGRADE)
    (request,) = rig.asked()
    rig.receiver.response(accepted(request=request.request, headers=[(b"x-long", b"x" * waiting)]))
    connection = client.transport.protocol
    assert isinstance(connection, Connection)
    assert len(rig.world.shared.send_buffers) == 1
    client.transport.buffered = 5 << 20
    connection.writer.write(b"more than its share")
    assert connection.full


def test_the_parser_goes_with_the_upgrade_and_not_when_the_timer_wheel_forgets_the_rest(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsers: list[weakref.ref[RequestParser]] = []
    new_parser = rig.front.new_parser

    def noting() -> RequestParser:
        made = new_parser()
        parsers.append(weakref.ref(made))
        return made

    monkeypatch.setattr(rig.front, "new_parser", noting)
    client = rig.client()
    http = client.protocol  # as the wheel holds it
    upgrade(rig, client)
    assert [parser() for parser in parsers] == [None]
    client.take()
    http.on_tick(1 << 30)
    assert client.transport.take() == b""


def test_a_refused_upgrade_is_answered_and_closed(rig: Rig) -> None:
    client = rig.client()
    client.send(UPGRADE + b"frames that nobody reads")
    rig.answer(rig.asked()[0], 403, body=b"no")
    answer = client.take()
    assert status(answer) == 403
    assert b"connection: close" in answer
    assert client.transport.eof or client.transport.closed
    assert rig.world.shared.connections.all() == []


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (UPGRADE.replace(b"13", b"12"), 426),
        (UPGRADE.replace(b"GET", b"PUT"), 400),
        (UPGRADE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"x"), 400),
        (UPGRADE.replace(b"chat-room", b"nope"), 404),
    ],
)
def test_a_bad_handshake_never_reaches_the_object(rig: Rig, data: bytes, expected: int) -> None:
    client = rig.client()
    answer = client.send(data)
    assert status(answer) == expected
    assert b"connection: close" in answer
    assert rig.asked() == []


def test_a_101_that_cannot_be_sent_is_a_500_and_the_object_hears_of_it(rig: Rig) -> None:
    client = rig.client()
    client.send(UPGRADE)
    (request,) = rig.asked()
    rig.receiver.response(accepted(request=request.request, headers=[(b"X", b"a\r\nb")]))
    assert status(client.take()) == 500
    assert rig.link.take()[0][:5] == ("closed", request.connection, 1, 0, 1006)


def test_an_object_that_does_not_answer_an_upgrade(rig: Rig) -> None:
    client = rig.client()
    client.send(UPGRADE)
    (request,) = rig.asked()
    rig.world.pass_time(9.9)
    assert client.take() == b""
    rig.world.pass_time(0.3)
    assert status(client.take()) == 503
    rig.receiver.response(accepted(request=request.request))
    assert rig.link.take()[0][:5] == ("closed", request.connection, 1, 0, 1006)


def test_a_client_that_leaves_during_its_upgrade(rig: Rig) -> None:
    client = rig.client()
    client.send(UPGRADE)
    (request,) = rig.asked()
    assert not client.protocol.eof_received()
    client.protocol.connection_lost(None)
    rig.receiver.response(accepted(request=request.request))
    assert rig.link.take()[0][:5] == ("closed", request.connection, 1, 0, 1006)
    assert rig.counters.handshakes_in_flight == 0


def test_an_upgrade_behind_an_ordinary_request(rig: Rig) -> None:
    client = rig.client()
    client.send(GET + UPGRADE + text("early"))
    (request,) = rig.asked()
    assert request.connection == 0
    rig.answer(request)
    (request,) = rig.asked()
    rig.receiver.response(accepted(request=request.request))
    assert [record[4] for record in rig.link.take()] == ["early"]


# --- deadlines ---


def test_a_connection_that_says_nothing_is_closed(rig: Rig) -> None:
    client = rig.client()
    rig.world.pass_time(9.9)
    assert not client.transport.ending
    rig.world.pass_time(0.3)
    assert client.transport.closed
    assert client.take() == b""


def test_a_slow_head_is_a_408(rig: Rig) -> None:
    client = rig.client()
    for byte in GET[:20]:
        client.send(bytes((byte,)))
        rig.world.pass_time(0.45)
    rig.world.pass_time(1.5)
    assert status(client.take()) == 408


def test_a_body_may_be_slow_but_not_silent(rig: Rig) -> None:
    client = rig.client()
    client.send(POST[:-5])
    for byte in b"hell":
        rig.world.pass_time(9)
        client.send(bytes((byte,)))
    rig.world.pass_time(9)
    assert client.take() == b""
    rig.world.pass_time(1.3)
    assert status(client.take()) == 408
    assert rig.counters.body_bytes == 0


def test_a_body_has_an_end_by_the_least_rate(rig: Rig) -> None:
    """500 bytes a second over 30 s: a byte now and then keeps no memory for hours, however much came before."""
    rig.world.shared.least_progress = 15_000
    head = POST.replace(b"Content-Length: 5", b"Content-Length: 1000")[:-5]
    rig.front.config = replace(rig.front.config, max_body_bytes=1 << 20)
    fair, foul = rig.client(), rig.client()
    for client in (fair, foul):
        client.send(head.replace(b"1000", b"1000000") + bytes(100_000))
    answer = b""
    for _ in range(5):
        rig.world.pass_time(8)
        fair.send(bytes(6_000))
        answer += foul.send(bytes(2_000))
    assert fair.take() == b""
    assert status(answer) == 408
    assert b"less than 15000 bytes of the request's body came within 30 s" in answer
    assert foul.transport.eof


def test_the_slowest_body_makes_room_for_others(rig: Rig) -> None:
    rig.front.config = replace(rig.front.config, max_body_bytes=1 << 20)
    rig.front.budgets.bodies.limit = 150_000
    head = POST.replace(b"Content-Length: 5", b"Content-Length: 100000")[:-5]
    first, second, quick = rig.client(), rig.client(), rig.client()
    first.send(head + bytes(50_000))
    second.send(head + bytes(90_000))
    rig.world.pass_time(2)
    second.send(b"x")
    assert quick.send(head + bytes(40_000)) == b""
    assert status(first.take()) == 503
    assert first.transport.eof
    rig.world.pass_time(2)
    assert quick.send(bytes(60_000)) == b""
    assert status(second.take()) == 503
    assert rig.counters.bodies_evicted == 2
    rig.answer(rig.asked()[0])
    assert status(quick.take()) == 200
    assert rig.counters.body_bytes == 0


def test_an_object_may_take_its_time(rig: Rig) -> None:
    client = rig.client()
    client.send(GET)
    rig.world.pass_time(600)
    assert client.take() == b""
    rig.answer(rig.asked()[0])
    assert status(client.take()) == 200


def test_an_idle_connection_is_closed_in_silence(rig: Rig) -> None:
    client = rig.client()
    for _ in range(3):
        client.send(GET)
        rig.answer(rig.asked()[0])
        assert client.take()
        rig.world.pass_time(124)
        assert not client.transport.ending, "proxies keep theirs for up to 120 s, and may use one at the last moment"
    rig.world.pass_time(1.3)
    assert client.transport.closed
    assert client.take() == b""


def test_an_idle_connection_is_not_closed_over_a_request_that_was_not_read_yet(rig: Rig) -> None:
    """The loop was busy when the request came, and looks at the time first."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client = rig.client()
        client.transport.socket = ours
        client.send(GET)
        rig.answer(rig.asked()[0])
        client.take()
        theirs.sendall(GET)
        rig.world.pass_time(130)
        assert not client.transport.ending
        client.send(ours.recv(1000))
        rig.answer(rig.asked()[0])
        assert status(client.take()) == 200
        rig.world.pass_time(124)
        assert not client.transport.ending
        rig.world.pass_time(1.3)
        assert client.transport.closed


def test_many_requests_do_not_fill_the_wheel(rig: Rig) -> None:
    client = rig.client()
    for _ in range(200):
        client.send(GET)
        rig.answer(rig.asked()[0])
    assert rig.world.wheel.scheduled <= 2


# --- the end ---


def test_draining_answers_what_was_sent_and_closes_the_idle_after_a_moment(rig: Rig) -> None:
    idle, busy, kept = rig.client(), rig.client(), rig.client()
    kept.send(GET)
    rig.answer(rig.asked()[0])
    kept.take()
    busy.send(GET)
    rig.front.drain()
    rig.answer(rig.asked()[0])
    answer = busy.take()
    assert status(answer) == 200
    assert b"connection: close" in answer
    assert busy.transport.eof
    assert not busy.transport.closed, "a request that is on its way would reset it, and take the answer along"
    late = rig.client()
    rig.world.pass_time(0.8)
    for client in (kept, late):
        client.send(GET)
        rig.answer(rig.asked()[0])
        answer = client.take()
        assert status(answer) == 200, "no other router can answer what was sent here"
        assert b"connection: close" in answer
        assert client.transport.eof
    assert not idle.transport.ending
    rig.world.pass_time(0.3)
    assert idle.transport.closed
    assert idle.take() == b""
    for each in list(rig.front.open):
        each.abort()
    assert late.transport.aborted


def test_draining_answers_all_requests_of_a_pipeline_before_it_says_that_it_closes(rig: Rig) -> None:
    client = rig.client()
    client.send(GET + GET + GET[:10])
    rig.front.drain(ending=True)
    for rest in (b"", GET[10:]):
        rig.answer(rig.asked()[0])
        answer = client.take()
        assert status(answer) == 200
        assert b"connection: close" not in answer
        client.send(rest)
    rig.answer(rig.asked()[0])
    assert b"connection: close" in client.take()
    assert client.transport.eof


def test_a_router_that_cannot_wait_any_longer_says_what_may_have_become_of_a_request(rig: Rig) -> None:
    sent, upgrading, idle = rig.client(), rig.client(), rig.client()
    sent.send(POST + GET)
    upgrading.send(UPGRADE)
    requests = rig.asked()
    rig.front.drain(ending=True)
    assert is_busy(rig)
    assert give_up(rig) == 2
    for client in (sent, upgrading):
        answer = client.take()
        assert status(answer) == 502
        assert b"may have been carried out" in answer
        assert answer.count(b"HTTP/1.1") == 1
        assert client.transport.eof
    assert (idle.take(), idle.transport.ending) == (b"", False)
    assert rig.asked() == [], "what was pipelined is not begun with"
    rig.answer(requests[0])
    assert sent.take() == b""
    assert rig.counters.body_bytes == 0


def test_a_request_that_no_object_has_seen_can_be_sent_again_elsewhere(rig: Rig) -> None:
    rig.forwarding.take_map(ClusterMap(2))
    client = rig.client()
    client.send(GET)
    assert rig.forwarding.desk.requests.parked == 1
    rig.front.drain(ending=True)
    assert give_up(rig) == 1
    assert status(client.take()) == 503
    assert rig.forwarding.desk.requests.parked == 0


def test_who_sends_a_request_or_takes_an_answer_is_worth_waiting_for(rig: Rig) -> None:
    idle = rig.client()
    assert not is_busy(rig)
    sending = rig.client()
    sending.send(POST[:-2])
    assert is_busy(rig)
    assert give_up(rig) == 1
    answer = sending.take()
    assert (status(answer), b"try again" in answer) == (503, True)
    assert not is_busy(rig)
    taking = rig.client()
    taking.send(CLOSE)
    taking.transport.taken = False
    rig.answer(rig.asked()[0], body=bytes(1_000_000))
    assert is_busy(rig)
    for left in (600_000, 300_000):
        taking.transport.drain(left)
        rig.world.pass_time(20)
        assert is_busy(rig)
    rig.world.pass_time(11)
    assert not is_busy(rig), "it has stalled"
    assert idle.take() == b""


def test_health_is_that_of_the_cluster_until_the_router_ends(rig: Rig) -> None:
    """One that retires leaves the port to others: whoever asks for the port's health is to hear of theirs."""
    request = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
    rig.front.drain()
    assert status(rig.client().send(request)) == 200
    rig.front.drain(ending=True)
    assert status(rig.client().send(request)) == 503


def test_a_socket_that_opens_while_the_router_ends_is_sent_away(rig: Rig) -> None:
    early, late = rig.client(), rig.client()
    rig.front.drain()
    assert upgrade(rig, early).state is State.OPEN, "its turn comes with that of all others"
    rig.front.drain(ending=True)
    assert upgrade(rig, late).state is State.CLOSED_BY_ROUTER
    head, _, behind = late.take().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101")
    assert behind[2:4] == (1001).to_bytes(2, "big")


def test_the_host_of_a_client_that_names_none_is_the_address_that_it_called(rig: Rig) -> None:
    rig.front.own_host = None
    client = Client(rig, sockname=("::1", 8787, 0, 0))
    client.send(b"GET /chat-room/lobby HTTP/1.0\r\n\r\n")
    assert rig.asked()[0].url == "http://[::1]:8787/chat-room/lobby"


def test_the_date_is_made_once_a_second(rig: Rig) -> None:
    first = rig.front.date()
    assert first.endswith(b"GMT")
    assert rig.front.date() is first
    rig.world.pass_time(1.2)
    assert rig.front.date() != first


def test_requests_refused_for_want_of_room_are_503(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise Unavailable("full")

    monkeypatch.setattr(type(rig.forwarding.desk), "ask", full)
    client = rig.client()
    assert status(client.send(GET)) == 503
    assert status(client.send(UPGRADE)) == 503
    assert client.transport.closed or client.transport.eof


# --- turns ---


def test_of_many_that_send_in_one_turn_each_is_answered_and_only_some_at_once(rig: Rig) -> None:
    clients = [rig.client() for _ in range(300)]
    for client in clients:
        client.protocol.data_received(GET)  # all in one turn of the loop
    at_once = rig.asked()
    assert 20 < len(at_once) < 100
    assert rig.counters.handshakes_in_flight == 300 - len(at_once), "these do not count for who has sent nothing"
    rig.world.run()
    rest = rig.asked()
    assert len(at_once) + len(rest) == 300
    for request in (*at_once, *rest):
        rig.answer(request)
    assert all(status(client.take()) == 200 for client in clients)
    assert rig.counters.head_bytes == rig.counters.handshakes_in_flight == 0


@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"])
def test_who_waits_for_its_turn_is_not_idle(rig: Rig, before: bytes) -> None:
    client = rig.client()
    if before:
        assert status(client.send(before)) == 200
    rig.world.shared.work.taken = AT_ONCE_BYTES
    client.protocol.data_received(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
    assert client.take() == b""
    rig.world.pass_time(rig.front.config.keep_alive_s + 2)
    assert client.protocol.has_request
    assert not client.transport.ending
    rig.world.run()
    assert status(client.take()) == 200
