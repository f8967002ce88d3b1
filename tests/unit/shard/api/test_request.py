from __future__ import annotations

import json
from typing import Any

import pytest

from roost.common.errors import InvalidResponse
from roost.shard import Headers, Query, Request, Response, WebSocketPair


def test_headers_are_found_in_any_case() -> None:
    headers = Headers([("Accept", "a"), ("accept", "b"), ("X-One", "1")])
    assert headers["ACCEPT"] == headers.get("accept") == "a, b"
    assert headers.get_all("aCCept") == ["a", "b"]
    assert "x-one" in headers
    odd: Any = 5
    assert odd not in headers
    assert headers.get("missing") is None
    assert headers.get_all("missing") == []
    assert headers.pairs() == [("accept", "a"), ("accept", "b"), ("x-one", "1")]
    assert len(headers) == 2


def test_all_lines_of_a_header_count() -> None:
    """A client that writes the line of a proxy cannot hide the proxy's own."""
    headers = Headers(
        [
            ("X-Forwarded-For", "6.6.6.6"),
            ("Cookie", "old=1"),
            ("Set-Cookie", "a=1; Expires=Thu, 01 Jan 2026 00:00:00 GMT"),
            ("x-forwarded-for", "10.0.0.7"),
            ("cookie", "session=abc"),
            ("set-cookie", "b=2"),
        ]
    )
    assert headers["x-forwarded-for"] == headers.get("X-Forwarded-For") == "6.6.6.6, 10.0.0.7"
    assert headers["Cookie"] == dict(headers)["cookie"] == "old=1; session=abc"
    assert headers.get_set_cookie() == ["a=1; Expires=Thu, 01 Jan 2026 00:00:00 GMT", "b=2"]
    assert headers.getSetCookie() == headers.get_all("set-cookie")
    assert Headers().get_set_cookie() == []
    with pytest.raises(KeyError):
        headers["x-other"]
    assert Response("x", headers=headers).headers.pairs()[:6] == headers.pairs(), "each goes out for itself"


def test_query_fields_are_decoded_and_in_their_case() -> None:
    request = Request("http://host/chat-room/lobby?name=J%C3%BCrgen+K&Tag=a&Tag=b&empty=&flag")
    assert request.query["name"] == "Jürgen K"
    assert request.query.get_all("Tag") == ["a", "b"]
    assert request.query["Tag"] == request.query.get("Tag") == "a"
    assert "tag" not in request.query
    assert request.query["empty"] == request.query["flag"] == ""
    assert isinstance(request.query, Query)
    assert request.query is request.query


def test_the_path_is_as_it_came() -> None:
    assert Request("http://host/chat-room/a%2Fb/rest?x=/y").path == "/chat-room/a%2Fb/rest"


def test_bodies() -> None:
    request = Request("http://host/", method="POST", headers={"a": "b"}, body='{"ä": [1]}'.encode())
    assert request.method == "POST"
    assert request.text() == '{"ä": [1]}'
    assert request.json() == {"ä": [1]}
    assert Request("http://host/").body == b""


def test_bodies_that_are_not_what_is_asked_for() -> None:
    with pytest.raises(UnicodeDecodeError):
        Request("http://host/", body=b"\xff").text()
    with pytest.raises(ValueError, match="column 1"):
        Request("http://host/", body=b"nope").json()


# --- responses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "data"),
    [(None, b""), ("ä", "ä".encode()), (b"\x00", b"\x00"), (bytearray(b"x"), b"x"), (memoryview(b"xy")[1:], b"y")],
)
def test_bodies_of_responses(body: Any, data: bytes) -> None:
    response = Response(body)
    assert response.body == data
    assert response.status == 200
    assert response.web_socket is None


def test_text_says_so_unless_told_otherwise() -> None:
    assert Response("x").headers["content-type"] == "text/plain; charset=utf-8"
    assert Response("x", headers={"Content-Type": "text/html"}).headers.get_all("content-type") == ["text/html"]
    assert "content-type" not in Response(b"x").headers


def test_json() -> None:
    response = Response.json({"a": [1, None]}, status=201, headers=[("x-one", "1")])
    assert json.loads(response.body) == {"a": [1, None]}
    assert response.status == 201
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-one"] == "1"
    assert Response.json([], headers={"Content-Type": "a/b"}).headers["content-type"] == "a/b"
    with pytest.raises(TypeError):
        Response.json(object())


@pytest.mark.parametrize("status", [200, 299, 404, 599])
def test_statuses(status: int) -> None:
    assert Response(status=status).status == status


@pytest.mark.parametrize("status", [0, 99, 100, 101, 199, 600, 1000, -1])
def test_a_status_out_of_range(status: int) -> None:
    with pytest.raises(InvalidResponse, match=str(status)):
        Response(status=status)


@pytest.mark.parametrize("status", [200, 100, 404])
def test_a_web_socket_goes_with_101_only(status: int) -> None:
    client, _ = WebSocketPair()
    with pytest.raises(InvalidResponse, match="101"):
        Response(status=status, web_socket=client)
    response = Response(status=101, web_socket=client)
    assert response.web_socket is response.webSocket is client


def test_a_101_has_no_body() -> None:
    client, _ = WebSocketPair()
    with pytest.raises(InvalidResponse, match="body"):
        Response("x", status=101, web_socket=client)


@pytest.mark.parametrize("status", [204, 205, 304])
def test_some_statuses_have_no_body(status: int) -> None:
    assert Response(status=status).body == b""
    with pytest.raises(InvalidResponse, match=str(status)):
        Response("x", status=status)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "x"),
        ("a b", "x"),
        ("a:b", "x"),
        ("ä", "x"),
        ("a\r\n", "x"),
        ("a", "x\r\ny: z"),
        ("a", "x\ny"),
        ("a", "x\x00"),
        ("a", "x\x1f"),
        ("a", "x\x7f"),
        ("a", "😀"),
    ],
)
def test_headers_that_no_response_may_have(name: str, value: str) -> None:
    with pytest.raises(InvalidResponse):
        Response(headers={name: value})
    with pytest.raises(InvalidResponse):
        Response.json([], headers=[(name, value)])


@pytest.mark.parametrize(("name", "value"), [("a", ""), ("a", "x\ty"), ("a", "ä"), ("x-!#$%&'*+.^_`|~9", "x")])
def test_odd_headers_that_are_fine(name: str, value: str) -> None:
    assert Response(headers={name: value}).headers[name] == value


@pytest.mark.parametrize(
    "arguments",
    [
        {"status": "200"},
        {"status": True},
        {"body": 5},
        {"body": ["x"]},
        {"headers": {"a": 5}},
        {"headers": {5: "a"}},
        {"web_socket": "x", "status": 101},
    ],
    ids=repr,
)
def test_arguments_of_a_wrong_type(arguments: Any) -> None:
    with pytest.raises(TypeError):
        Response(**arguments)
