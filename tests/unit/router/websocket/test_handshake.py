"""The opening handshake."""

from __future__ import annotations

import zlib

import pytest
from websockets.frames import Frame, Opcode

from roost.router.formats.compression import encoder_for
from roost.router.formats.http import BadResponseHeader, Refusal, RequestHead, examine
from roost.router.websocket import handshake
from tests.unit.router.fakes import text

GOOD = {
    b"Host": b"h",
    b"Connection": b"keep-alive, Upgrade",
    b"Upgrade": b"websocket",
    b"Sec-WebSocket-Key": b"dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Version": b"13",
}


def head(method: str = "GET", **changes: bytes | None) -> RequestHead:
    fields = dict(GOOD)
    for name, value in changes.items():
        key = name.replace("_", "-").encode()
        fields = {k: v for k, v in fields.items() if k.lower() != key.lower()}
        if value is not None:
            fields[key] = value
    return examine(method, b"/a/b", "1.1", list(fields.items()), own_host="h", max_body_bytes=100)


def begin(made: RequestHead, version: str = "1.1", compression: bool = False) -> handshake.Handshake:
    return handshake.begin(made, version, max_message_bytes=1000, compression=compression)


def test_the_101() -> None:
    made = begin(head())
    data = made.complete([(b"X-Room", b"caf\xc3\xa9"), (b"Date", b"never"), (b"Sec-WebSocket-Accept", b"forged")])
    lines = data.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 101 Switching Protocols"
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in lines  # RFC 6455 1.3
    assert b"X-Room: caf\xc3\xa9" in lines
    assert b"Sec-WebSocket-Accept: forged" not in lines
    assert data.endswith(b"\r\n\r\n")
    assert sum(line.lower().startswith(b"date:") for line in lines) == 1
    assert made.subprotocol == ""


def test_the_protocol_reads_frames_at_once_and_keeps_the_size_limit() -> None:
    made = begin(head())
    made.complete([])
    assert made.protocol.receive(text("hi")) == [(Opcode.TEXT, b"hi")]
    assert made.protocol.receive(text("x" * 1001)) == []
    assert made.protocol.failure is not None
    assert made.protocol.failure.code == 1009


@pytest.mark.parametrize("offered", [None, b"other"])
def test_the_subprotocol_is_what_the_response_sets(offered: bytes | None) -> None:
    made = begin(head(Sec_WebSocket_Protocol=offered))
    data = made.complete([(b"sec-websocket-protocol", b"chat.v2")])
    assert b"sec-websocket-protocol: chat.v2\r\n" in data
    assert made.subprotocol == "chat.v2"


def test_none_is_chosen_for_the_object() -> None:
    data = begin(head(Sec_WebSocket_Protocol=b"a, b")).complete([])
    assert b"protocol" not in data.lower().replace(b"switching protocols", b"")


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x", b"a\r\nb")],
        [(b"Sec-WebSocket-Protocol", b"a"), (b"Sec-WebSocket-Protocol", b"b")],
        [(b"b d", b"x")],
    ],
)
def test_headers_that_cannot_be_sent(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(BadResponseHeader):
        begin(head()).complete(headers)


@pytest.mark.parametrize(
    ("made", "status", "sentence"),
    [
        (head(Sec_WebSocket_Key=None), 400, "Sec-WebSocket-Key"),
        (head(Sec_WebSocket_Key=b"short"), 400, "Sec-WebSocket-Key"),
        (head(Sec_WebSocket_Version=None), 426, "Sec-WebSocket-Version"),
        (head(Sec_WebSocket_Version=b"8"), 426, "version 13"),
        (head(Connection=None), 426, "Connection"),
        (head(Connection=b"keep-alive"), 426, "Connection"),
        (head("POST"), 400, "GET"),
        (head(Content_Length=b"5"), 400, "body"),
        (head(Sec_WebSocket_Extensions=b";;"), 400, "Sec-WebSocket-Extensions"),
    ],
)
def test_what_is_no_handshake_is_refused_with_a_sentence(made: RequestHead, status: int, sentence: str) -> None:
    with pytest.raises(Refusal, match=sentence) as caught:
        begin(made, compression=True)
    assert caught.value.status == status
    if status == 426:
        assert {(b"sec-websocket-version", b"13"), (b"upgrade", b"websocket")} <= set(caught.value.headers)


@pytest.mark.parametrize(
    "lines",
    [
        [(b"connection", b"keep-alive, Upgrade"), (b"upgrade", b"websocket")],
        [
            (b"connection", b"keep-alive"),
            (b"connection", b""),
            (b"connection", b", UPGRADE ,"),
            (b"upgrade", b"WebSocket"),
        ],
        [(b"connection", b"upgrade"), (b"upgrade", b""), (b"upgrade", b"h2c, websocket"), (b"upgrade", b",")],
        [(b"connection", b"upgrade"), (b"upgrade", b"websocket"), (b"sec-websocket-extensions", b"")],
        [(b"connection", b"upgrade"), (b"upgrade", b"websocket"), (b"sec-websocket-protocol", b", ,")],
        [(b"connection", b"upgrade"), (b"upgrade", b"websocket"), (b"sec-websocket-version", b"8,")],
        [(b"connection", b"upgrade"), (b"upgrade", b"websocket"), (b"sec-websocket-key", b"")],
    ],
)
def test_lists_are_judged_over_all_their_lines(lines: list[tuple[bytes, bytes]]) -> None:
    rest = [
        (b"host", b"h"),
        (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        (b"sec-websocket-version", b"13"),
    ]
    made = examine("GET", b"/a/b", "1.1", [*lines, *rest], own_host="h", max_body_bytes=100)
    answer = begin(made, compression=True).complete(())
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer


def test_two_keys_contradict_each_other() -> None:
    made = head()
    made.headers.append((b"sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAA=="))
    with pytest.raises(Refusal, match="Sec-WebSocket-Key") as caught:
        begin(made)
    assert caught.value.status == 400


def test_http_1_0_is_refused() -> None:
    with pytest.raises(Refusal) as caught:
        begin(head(), "1.0")
    assert caught.value.status == 505


def test_compression_is_off_by_default() -> None:
    made = begin(head(Sec_WebSocket_Extensions=b"permessage-deflate"))
    assert b"extensions" not in made.complete([]).lower()
    assert made.encoder is None


@pytest.mark.parametrize(
    ("offer", "window_bits", "answer"),
    [
        (b"permessage-deflate", 15, b"server_no_context_takeover"),
        (b"permessage-deflate; client_max_window_bits", 15, b"client_no_context_takeover"),
        (b"permessage-deflate; server_max_window_bits=9", 9, b"server_max_window_bits=9"),
    ],
)
def test_compression_keeps_no_context(offer: bytes, window_bits: int, answer: bytes) -> None:
    made = begin(head(Sec_WebSocket_Extensions=offer), compression=True)
    data = made.complete([])
    assert b"server_no_context_takeover" in data
    assert answer in data
    assert made.encoder is encoder_for(window_bits)
    squeeze = zlib.compressobj(wbits=-9)
    body = squeeze.compress(b"squeezed " * 10) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    frame = Frame(Opcode.TEXT, body[:-4], rsv1=True)
    frame.check = lambda: None  # type: ignore[method-assign]  # which knows of no extension here
    assert made.protocol.receive(frame.serialize(mask=True)) == [(Opcode.TEXT, b"squeezed " * 10)]
