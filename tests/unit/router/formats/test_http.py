"""What a request's head must be, and the bytes of a response."""

from __future__ import annotations

import pytest

from roost.common.errors import BadRequest, BodyTooLarge, RequestError, UnknownNamespace
from roost.common.wire.records import Pieces
from roost.router.formats.http import (
    BadResponseHeader,
    Refusal,
    RequestHead,
    checked_headers,
    declared_length,
    examine,
    refusal_bytes,
    response_bytes,
)

HOST = (b"Host", b"h:1")


def head(
    *headers: tuple[bytes, bytes], target: bytes = b"/a/b?c", version: str = "1.1", method: str = "GET"
) -> RequestHead:
    return examine(method, target, version, headers, own_host="own:8787", max_body_bytes=100)


def test_an_ordinary_head() -> None:
    made = head(HOST, (b"X-Some", b"Value"), (b"x-some", b"Other"))
    assert (made.url("http"), made.method, made.target) == ("http://h:1/a/b?c", "GET", "/a/b?c")
    assert made.headers == [(b"host", b"h:1"), (b"x-some", b"Value"), (b"x-some", b"Other")]
    assert made.keep_alive
    assert (made.expects_continue, made.wants_websocket, made.has_body) == (False, False, False)


def test_the_host_of_an_absolute_target_counts() -> None:
    made = head((b"X-A", b"1"), HOST, target=b"ws://other/x")
    assert made.url("http") == "http://other/x"
    assert dict(made.headers) == {b"host": b"other", b"x-a": b"1"}, "nobody sees another host"


@pytest.mark.parametrize("target", [b"http://me:secret@h/x", b"http:///x", b"ws://[::1/x", b"http://h:65536/x"])
def test_an_absolute_target_without_a_proper_host_is_refused(target: bytes) -> None:
    with pytest.raises(BadRequest, match="the host of the request target"):
        head(HOST, target=target)


def test_a_bad_host_is_refused_beside_an_absolute_target_too() -> None:
    with pytest.raises(BadRequest, match="Host header"):
        head((b"Host", b"a b"), target=b"http://other/x")


def test_options_can_ask_about_the_server_as_a_whole() -> None:
    assert head(HOST, target=b"*", method="OPTIONS").target == "*"
    with pytest.raises(BadRequest, match="request target"):
        head(HOST, target=b"*")


@pytest.mark.parametrize("target", [b"h:80", b"/a/b", b"http://h/a"])
def test_connect_is_not_done(target: bytes) -> None:
    with pytest.raises(Refusal, match="no proxy") as caught:
        head(HOST, target=target, method="CONNECT")
    assert caught.value.status == 405
    assert dict(caught.value.headers)[b"allow"]


@pytest.mark.parametrize("hosts", [(), (HOST, HOST)])
def test_there_must_be_one_host(hosts: tuple[tuple[bytes, bytes], ...]) -> None:
    with pytest.raises(BadRequest, match="one Host header"):
        head(*hosts)


def test_http_1_0_needs_no_host_and_is_closed() -> None:
    made = head(version="1.0")
    assert made.url("http") == "http://own:8787/a/b?c"
    assert not made.keep_alive
    assert not head((b"Connection", b"keep-alive"), version="1.0").keep_alive


def test_an_empty_host_is_none() -> None:
    assert head((b"Host", b"")).url("http") == "http://own:8787/a/b?c"
    assert head((b"Host", b""), target=b"http://other/x").url("http") == "http://other/x"


@pytest.mark.parametrize("value", [b"close", b"Close", b"x, CLOSE", b", close ,", b"\tclose"])
def test_connection_close_is_heeded(value: bytes) -> None:
    assert not head(HOST, (b"Connection", value)).keep_alive


@pytest.mark.parametrize("version", ["2.0", "1.2", "3.0"])
def test_other_versions_are_refused(version: str) -> None:
    with pytest.raises(Refusal) as caught:
        head(HOST, version=version)
    assert caught.value.status == 505


def test_a_request_line_without_a_version_is_malformed() -> None:
    with pytest.raises(BadRequest, match="request line"):
        head(HOST, version="0.9")


@pytest.mark.parametrize("coding", [b"gzip", b"gzip, chunked", b"identity"])
def test_other_transfer_codings_are_not_implemented(coding: bytes) -> None:
    with pytest.raises(Refusal, match="chunked") as caught:
        head(HOST, (b"Transfer-Encoding", coding))
    assert caught.value.status == 501


def test_declared_bodies() -> None:
    assert head(HOST, (b"Content-Length", b"100")).has_body
    assert not head(HOST, (b"Content-Length", b"0")).has_body
    assert head(HOST, (b"Transfer-Encoding", b"chunked")).has_body
    with pytest.raises(BodyTooLarge, match="100 bytes"):
        head(HOST, (b"Content-Length", b"101"))


def test_http_1_0_may_not_be_chunked() -> None:
    with pytest.raises(BadRequest, match="Transfer-Encoding"):
        head((b"Transfer-Encoding", b"chunked"), version="1.0")


def test_the_expectation_of_a_100() -> None:
    body = (b"Content-Length", b"5")
    assert head(HOST, body, (b"Expect", b"100-Continue")).expects_continue
    assert head(HOST, body, (b"Expect", b""), (b"Expect", b" , 100-continue,")).expects_continue
    assert not head(HOST, (b"Expect", b"100-continue")).expects_continue
    assert not head(HOST, body, (b"Expect", b"100-continue"), version="1.0").expects_continue
    with pytest.raises(Refusal) as caught:
        head(HOST, body, (b"Expect", b"a miracle"))
    assert caught.value.status == 417


@pytest.mark.parametrize("values", [[b"websocket"], [b"WebSocket"], [b"h2c, websocket"], [b"h2c", b"", b",Websocket,"]])
def test_a_websocket_is_wanted(values: list[bytes]) -> None:
    made = head(HOST, *((b"Upgrade", value) for value in values))
    assert made.wants_websocket
    assert [value for name, value in made.headers if name == b"upgrade"] == [b"websocket"], "as objects look for it"
    assert not head(HOST, (b"Upgrade", b"h2c")).wants_websocket


# --- responses ---


def test_what_user_code_may_set() -> None:
    kept = [(b"Content-Type", b"text/plain"), (b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2"), (b"X-\xc3", b"\xff\t")]
    ours = [
        (name, b"x")
        for name in (
            b"Connection",
            b"keep-alive",
            b"Transfer-Encoding",
            b"Content-Length",
            b"Date",
            b"Upgrade",
            b"TE",
            b"Trailer",
            b"Proxy-Connection",
        )
    ]
    assert checked_headers(kept[:3] + ours) == kept[:3]


@pytest.mark.parametrize("value", [b"a\r\nSet-Cookie: x", b"a\n", b"a\r", b"a\0b"])
@pytest.mark.parametrize("name", [b"x-any", b"content-length", b"date"])
def test_a_header_value_cannot_split_the_response(name: bytes, value: bytes) -> None:
    with pytest.raises(BadResponseHeader, match="CR, LF or NUL"):
        checked_headers([(name, value)])


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r\nb", b"\xc3\xa9", b"a\0"])
def test_a_header_name_is_a_token(name: bytes) -> None:
    with pytest.raises(BadResponseHeader, match="no token"):
        checked_headers([(name, b"x")])


def respond(status: int, body: bytes = b"body", **options: object) -> bytes:
    (data,) = response_bytes(status, [(b"x", b"y")], body, date=b"D", **{"keep_alive": True, **options})  # type: ignore[arg-type]
    assert isinstance(data, bytes)
    return data


def test_a_body_in_pieces_stays_so() -> None:
    parts = [memoryview(b"one"), memoryview(b"four")]
    body = Pieces(parts, 7)
    head, *rest = response_bytes(200, [], body, date=b"D", keep_alive=True)
    assert bytes(head) == b"HTTP/1.1 200 OK\r\ndate: D\r\ncontent-length: 7\r\n\r\n"
    assert all(one is other for one, other in zip(rest, parts, strict=True))
    (head,) = response_bytes(200, [], body, date=b"D", keep_alive=True, head_only=True)
    assert bytes(head).endswith(b"content-length: 7\r\n\r\n")
    (head,) = response_bytes(204, [], body, date=b"D", keep_alive=True)
    assert bytes(head).endswith(b"date: D\r\n\r\n")


def test_response_bytes() -> None:
    assert respond(200) == b"HTTP/1.1 200 OK\r\ndate: D\r\nx: y\r\ncontent-length: 4\r\n\r\nbody"
    assert respond(299, b"", keep_alive=False) == (
        b"HTTP/1.1 299 \r\ndate: D\r\nx: y\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body(status: int) -> None:
    assert respond(status).endswith(b"date: D\r\nx: y\r\n\r\n")


def test_a_head_request_gets_the_length_and_no_body() -> None:
    assert respond(200, head_only=True).endswith(b"content-length: 4\r\n\r\n")
    assert respond(200, b"", head_only=True, declared_length=77).endswith(b"content-length: 77\r\n\r\n")
    assert b"content-length: 4" in respond(200, declared_length=77)


def test_the_length_that_user_code_declares() -> None:
    assert declared_length([(b"Content-Length", b"77")]) == 77
    assert declared_length([(b"content-length", b"-1")]) is None
    assert declared_length([]) is None


@pytest.mark.parametrize("error", [UnknownNamespace("nöpe", ["a"]), Refusal(405, "no", [(b"allow", b"GET")])])
def test_refusals_tell_why(error: RequestError) -> None:
    data = refusal_bytes(error, date=b"D", keep_alive=False)
    assert data.startswith(b"HTTP/1.1 %d " % error.status)
    assert data.endswith(f"\r\n\r\n{error}\n".encode())
    assert (b"allow: GET\r\n" in data) == (error.status == 405)


def test_a_browser_is_refused_with_a_page() -> None:
    browsers = head(HOST, (b"Accept", b"text/html,*/*;q=0.8"))
    data = refusal_bytes(UnknownNamespace("<b>", ["a"]), date=b"D", keep_alive=False, accept=browsers.accept)
    assert b"content-type: text/html; charset=utf-8\r\n" in data
    assert b"&lt;b&gt;" in data
    assert b"<b>" not in data


def test_a_refusal_can_quote_anything() -> None:
    assert b"\\udcff" in refusal_bytes(Refusal(400, "bad \udcff"), date=b"D", keep_alive=False)
