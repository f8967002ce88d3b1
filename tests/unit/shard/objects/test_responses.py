from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from roost.common.errors import AlreadyAccepted, InvalidResponse
from roost.common.wire.records import AcceptMode, HttpRequest
from roost.shard import Response, WebSocketPair
from roost.shard.objects.responses import Answer, answer_of
from roost.shard.objects.sockets import Socket
from tests.unit.shard.harness import BareLife

OWNER: Any = SimpleNamespace(activation=BareLife())


def answer(result: Any, connection: int = 5) -> Answer:
    request = HttpRequest(3, connection, b"", "ns", "n", "GET", "http://h/ns/n", [], b"")  # type: ignore[arg-type]
    return answer_of(OWNER, request, result)


def accepted(pair: WebSocketPair, *, hibernatable: bool = True, owner: Any = OWNER) -> Socket:
    socket = Socket(owner, hibernatable=hibernatable, ordinal=7, tags=("a",))
    pair.server.bind(socket)
    return socket


def opened(pair: WebSocketPair, **options: Any) -> Response:
    return Response(status=101, web_socket=pair.client, **options)


def test_a_plain_answer_has_status_headers_and_body_but_not_the_connections_own_headers() -> None:
    headers = [("X-A", "1"), ("x-a", "2"), ("Connection", "close"), ("Content-Length", "99"), ("Upgrade", "h2c")]
    headers += [("Transfer-Encoding", "chunked"), ("Date", "today"), ("Keep-Alive", "1"), ("TE", "x"), ("Trailer", "y")]
    result = answer(Response("héllo", status=404, headers=headers), connection=0)
    response = result.response
    assert (response.request, response.status, response.mode) == (3, 404, AcceptMode.PLAIN)
    assert response.body == "héllo".encode()
    assert response.headers == [(b"x-a", b"1"), (b"x-a", b"2"), (b"content-type", b"text/plain; charset=utf-8")]
    assert result.socket is None


@pytest.mark.parametrize(("hibernatable", "mode"), [(True, AcceptMode.HIBERNATABLE), (False, AcceptMode.STANDARD)])
def test_an_accepted_pair_opens_its_socket(hibernatable: bool, mode: AcceptMode) -> None:
    pair = WebSocketPair()
    socket = accepted(pair, hibernatable=hibernatable)
    socket.attachment = b"cbor"
    result = answer(opened(pair, headers={"Sec-WebSocket-Protocol": "chat"}))
    response = result.response
    assert (response.status, response.mode, response.ordinal) == (101, mode, 7)
    assert (response.tags, response.attachment) == (("a",), b"cbor")
    assert (result.socket, result.protocol, result.broken) == (socket, "chat", False)


def test_a_pair_that_nobody_accepted_opens_a_connection_that_nobody_hears() -> None:
    result = answer(opened(WebSocketPair()))
    assert result.response.mode is AcceptMode.UNACCEPTED
    assert (result.socket, result.broken) == (None, False)


def test_the_wrong_end_gives_a_connection_that_ends() -> None:
    pair = WebSocketPair()
    accepted(pair)
    result = answer(Response(status=101, web_socket=pair.server))
    assert (result.response.mode, result.broken, result.socket) == (AcceptMode.UNACCEPTED, True, None)
    pair = WebSocketPair()
    pair.client.bind(Socket(OWNER, hibernatable=True, ordinal=1))
    result = answer(opened(pair))
    assert (result.response.mode, result.broken, result.socket) == (AcceptMode.UNACCEPTED, True, None)


def test_a_pair_is_good_for_one_response_and_its_ends_let_go_of_each_other() -> None:
    pair = WebSocketPair()
    accepted(pair)
    answer(opened(pair))
    assert (pair.client.other, pair.server.other) == (None, None)
    for end in (pair.client, pair.server):
        with pytest.raises(AlreadyAccepted):
            answer(Response(status=101, web_socket=end))
        with pytest.raises(AlreadyAccepted):
            end.check_acceptable(hibernatable=True)


@pytest.mark.parametrize("result", [None, "text", b"bytes", {"status": 200}, object()])
def test_what_is_no_response_is_refused(result: Any) -> None:
    with pytest.raises(TypeError, match="must return a Response"):
        answer(result)


def test_a_socket_for_a_request_that_asked_for_none_is_a_426_that_says_how() -> None:
    pair = WebSocketPair()
    accepted(pair)
    result = answer(opened(pair), connection=0)
    assert (result.response.status, result.response.mode, result.socket) == (426, AcceptMode.PLAIN, None)
    assert result.response.headers == [(b"content-type", b"text/plain; charset=utf-8")]
    assert b"Upgrade: websocket" in result.response.body
    assert b'new WebSocket("ws://h/ns/n")' in result.response.body
    assert answer(opened(pair)).socket is not None, "the pair is as good as before"


def test_a_browser_gets_the_426_as_a_page_and_a_long_address_is_cut() -> None:
    url = "http://h/ns/<n>?" + "x" * 10_000
    request = HttpRequest(3, 0, b"", "ns", "n", "GET", url, [(b"accept", b"text/html")], b"")  # type: ignore[arg-type]
    response = answer_of(OWNER, request, opened(WebSocketPair())).response
    assert response.headers == [(b"content-type", b"text/html; charset=utf-8")]
    assert b"ws://h/ns/&lt;n&gt;?" in response.body
    assert len(response.body) < 4_000


def test_a_socket_of_another_object_or_one_that_was_dropped_is_refused() -> None:
    pair = WebSocketPair()
    accepted(pair, owner=SimpleNamespace(activation=BareLife()))
    with pytest.raises(TypeError, match="another object"):
        answer(opened(pair))
    pair = WebSocketPair()
    accepted(pair).gone = True
    with pytest.raises(AlreadyAccepted, match="dropped"):
        answer(opened(pair))


class Strange(Response):
    """A class of the user's, which says what it likes."""

    said: dict[str, Any]

    @property
    def status(self) -> int:
        said = self.said.get("status", 200)
        return said() if callable(said) else said  # type: ignore[no-any-return]

    @property
    def body(self) -> bytes:
        return self.said.get("body", b"x")  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "said",
    [
        *({"status": status} for status in ("200", 70_000, -1, 1, None, 200.5, True, 101)),
        *({"body": body} for body in (7, ["x"], {})),
    ],
)
def test_what_a_class_of_the_users_says_is_checked(said: dict[str, Any]) -> None:
    strange = Strange("x")
    strange.said = said
    with pytest.raises((TypeError, InvalidResponse)):
        answer(strange)


def test_what_a_class_of_the_users_says_is_asked_once_and_holds() -> None:
    statuses = iter((404, "not a status"))
    strange = Strange("x", headers={"x-a": "1"})
    strange.said = {"status": lambda: next(statuses), "body": b"fine"}
    response = answer(strange).response
    assert (response.status, response.body) == (404, b"fine")
    assert response.headers == [(b"x-a", b"1"), (b"content-type", b"text/plain; charset=utf-8")]
