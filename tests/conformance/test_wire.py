"""The wire: sizes, pings, fragments, strictness, subprotocols, compression."""

from __future__ import annotations

import asyncio
import json
import struct
import zlib
from typing import Any

import pytest

from roost.shard import Request, Response, WebSocketPair
from tests.conformance import app
from tests.conformance.driver import Room, name_of
from tests.support.client import RawClient
from tests.support.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_body, frame

LIMIT = 33_554_432


def size(probe: app.Probe, ws: Any, message: Any) -> None:
    ws.send(len(message))


@pytest.mark.parametrize("fragments", [1, 4])
async def test_a_message_of_32_mebibytes_comes_in(room: Room, fragments: int) -> None:
    await room.when("message", size)
    piece = bytes(LIMIT // fragments)
    parts = [frame(BINARY if n == 0 else CONTINUATION, piece, fin=n == fragments - 1) for n in range(fragments)]
    async with await room.raw() as client:
        await client.send(*parts)
        await client.expect(TEXT, str(LIMIT))


@pytest.mark.parametrize(
    "parts",
    [
        [frame(BINARY, b"", length=LIMIT + 1)],
        [frame(BINARY, bytes(LIMIT), fin=False), frame(CONTINUATION, b"", length=1)],
    ],
    ids=["one frame", "in the second fragment"],
)
async def test_a_larger_message_is_refused_on_its_frame_head(room: Room, parts: list[bytes]) -> None:
    async with await room.raw() as client:
        await client.send(*parts)
        got = await client.expect_close(1009)
        assert "33,554,433" in got.reason
        assert "33,554,432" in got.reason
        await client.expect_end()
    assert "1009" in (await room.saw("error"))["text"]
    assert await room.run(app.count) == 0
    assert room.all("close") == []


async def test_pings_are_answered_at_once_with_the_same_body(room: Room) -> None:
    async with await room.raw() as client:
        for body in (b"", b"x", bytes(range(125))):
            await client.send(frame(PING, body))
            await client.expect(PONG, body)
        await client.send(frame(PONG, b"unasked"), frame(PING, b"still fine"))
        await client.expect(PONG, b"still fine")
    assert room.all("message") == []


async def test_pings_are_answered_between_fragments(room: Room) -> None:
    await room.when("message", app.echo)
    async with await room.raw() as client:
        await client.send(frame(TEXT, "a", fin=False), frame(PING, b"p"))
        await client.expect(PONG, b"p")
        await client.send(frame(CONTINUATION, "b"))
        await client.expect(TEXT, "ab")


async def test_pings_do_not_wake(drowsy: Room) -> None:
    async with await drowsy.raw() as client:
        await drowsy.asleep()
        for _ in range(10):
            await client.send(frame(PING, b"p"))
            await client.expect(PONG, b"p")
        assert len(drowsy.all("constructed")) == 1
        assert await drowsy.run(app.life) == 2


async def test_a_ping_of_126_bytes_is_a_protocol_error(room: Room) -> None:
    async with await room.raw() as client:
        await client.send(frame(PING, bytes(126)))
        await client.expect_close(1002)
        await client.expect_end()


async def test_fragments_are_joined(room: Room) -> None:
    await room.when("message", app.echo)
    euro = "€".encode()
    async with await room.raw() as client:
        await client.send(
            frame(TEXT, b"a" + euro[:1], fin=False),
            frame(CONTINUATION, b"", fin=False),
            frame(CONTINUATION, euro[1:2], fin=False),
            frame(CONTINUATION, euro[2:]),
            frame(BINARY, b"", fin=False),
            frame(CONTINUATION, b""),
        )
        await client.expect(TEXT, "a€")
        await client.expect(BINARY, b"")


@pytest.mark.parametrize("text", [b"\xff", b"ok \xed\xa0\x80", b"\xe2\x82"])
async def test_invalid_utf_8_is_1007(room: Room, text: bytes) -> None:
    async with await room.raw() as client:
        await client.send(frame(TEXT, text))
        await client.expect_close(1007)
        await client.expect_end()
    assert "1007" in (await room.saw("error"))["text"]
    assert room.all("message") == []


async def test_a_message_with_invalid_utf_8_does_not_hide_those_before_it(room: Room) -> None:
    async with await room.raw() as client:
        await client.send(frame(TEXT, "good") + frame(TEXT, b"\xff"))
        await client.expect_close(1007)
    assert (await room.saw("message"))["data"] == "good"
    await room.saw("error")


@pytest.mark.parametrize(
    "broken",
    [
        frame(TEXT, "bare", masked=False),
        frame(0x3, "x"),
        frame(0xB, "x"),
        frame(TEXT, "x", rsv=2),
        frame(TEXT, "x", rsv=1),
        frame(TEXT, "x", rsv=4),
        frame(CONTINUATION, "of nothing"),
        frame(TEXT, "a", fin=False) + frame(TEXT, "b"),
        frame(PING, b"in parts", fin=False),
        frame(PING, bytes(129)),
    ],
    ids=[
        "unmasked",
        "opcode 3",
        "opcode 11",
        "RSV2",
        "RSV3",
        "RSV1 without compression",
        "unexpected continuation",
        "missing continuation",
        "fragmented control frame",
        "control frame of 129 bytes",
    ],
)
async def test_what_breaks_the_protocol_is_1002(room: Room, broken: bytes) -> None:
    async with await room.raw() as client:
        await client.send(broken)
        await client.expect_close(1002)
        await client.expect_end()
    report = await room.saw("error")
    assert "1002" in report["text"]
    assert len(report["text"]) > len("1002") + 5, "the error says what was wrong"


BROKEN_BEHIND = {
    "a reserved bit (Autobahn 3.2)": frame(TEXT, "x", rsv=2) + frame(PING, "late"),
    "a reserved opcode (4.1.3)": frame(0x5) + frame(PING, "late"),
    "a reserved control opcode (4.2.3)": frame(0xC, "x") + frame(PING, "late"),
    "a continuation of nothing (5.15)": frame(CONTINUATION, "x", fin=False) + frame(TEXT, "late"),
    "no UTF-8": frame(TEXT, b"\xff"),
    "too large": frame(BINARY, b"", length=1 << 30),
    "a Close with a bad code": frame(CLOSE, close_body(999)),
}


async def answer_later(probe: app.Probe, ws: Any, message: Any) -> None:
    await asyncio.sleep(0.05)
    ws.send(message)


@pytest.mark.parametrize("broken", BROKEN_BEHIND.values(), ids=BROKEN_BEHIND)
@pytest.mark.parametrize("answer", [app.echo, answer_later])
async def test_messages_before_a_bad_frame_are_answered_before_the_close(
    room: Room, broken: bytes, answer: Any
) -> None:
    await room.when("message", answer)
    async with await room.raw() as client:
        await client.send(frame(TEXT, "one", fin=False) + frame(CONTINUATION, " half") + frame(TEXT, "two") + broken)
        await client.expect(TEXT, "one half")
        await client.expect(TEXT, "two")
        got = await client.expect(CLOSE)
        assert got.code in (1002, 1007, 1009)
        await client.expect_end()
    assert str(got.code) in (await room.saw("error"))["text"]
    assert room.all("close") == []


def accept_echoing(probe: app.Probe, request: Request) -> Response:
    client, server = WebSocketPair()
    server.accept()
    server.add_event_listener("message", lambda event: server.send(event.data))
    return Response(status=101, web_socket=client)


async def test_standard_messages_before_a_bad_frame_are_answered_before_the_close(room: Room) -> None:
    async with await room.raw(accept_echoing) as client:
        await client.send(frame(TEXT, "one") + frame(0x3))
        await client.expect(TEXT, "one")
        await client.expect_close(1002)
        await client.expect_end()


async def test_a_close_between_two_fragments_is_one(room: Room) -> None:
    """RFC 6455 5.4; Autobahn 7.1.5."""
    async with await room.raw() as client:
        await client.send(frame(TEXT, "half", fin=False) + frame(CLOSE, close_body(1000, "bye")) + frame(PING))
        await client.expect_close(1000)
        await client.expect_end()
    report = await room.saw("close")
    assert (report["code"], report["reason"], report["clean"]) == (1000, "bye", True)
    assert room.all("message") == room.all("error") == []


@pytest.mark.parametrize("bad", [b"\xf4\x90", b"\xed\xa0", b"\xff"])
async def test_invalid_utf_8_is_found_before_the_end_of_the_message(room: Room, bad: bytes) -> None:
    """Autobahn 6.4: in a fragment that is not the last, and inside a frame of which the rest never comes."""
    async with await room.raw() as client:
        await client.send(frame(TEXT, "κόσμε", fin=False) + frame(CONTINUATION, bad, fin=False))
        await client.expect_close(1007)
        await client.expect_end()
    async with await room.raw() as client:
        whole = frame(TEXT, "κόσμε".encode() + bad + bytes(200_000))
        await client.send(whole[: 14 + len("κόσμε".encode()) + len(bad)])
        await client.expect_close(1007)
        await client.expect_end()


async def test_a_length_that_is_not_minimal(room: Room) -> None:
    """RFC 6455 5.2 forbids a client to send it; either answer keeps the peers in step."""
    await room.when("message", app.echo)
    body = frame(TEXT, "hi")
    long_form = bytes((body[0],)) + struct.pack(">BH", 0x80 | 126, 2) + body[2:]
    async with await room.raw() as client:
        await client.send(long_form)
        got = await client.frame()
        assert got is not None
        assert got.payload == b"hi" or got.code == 1002


async def test_the_other_sockets_of_the_object_do_not_notice(room: Room) -> None:
    await room.when("message", app.echo)
    async with await room.raw() as bad, await room.raw() as good:
        await bad.send(frame(0x3))
        await bad.expect_close(1002)
        await good.send(frame(TEXT, "fine"))
        await good.expect(TEXT, "fine")


# --- subprotocol and headers --------------------------------------------------------------------------------------


def with_headers(probe: app.Probe, request: Request, headers: dict[str, str]) -> Response:
    client, server = WebSocketPair()
    probe.ctx.accept_web_socket(server)
    return Response(status=101, web_socket=client, headers=headers)


async def test_the_subprotocol_is_what_the_response_sets(room: Room) -> None:
    connection = await room.connect(
        with_headers,
        options={"subprotocols": ["one", "two"]},
        headers={"Sec-WebSocket-Protocol": "two"},
    )
    async with connection as client:
        assert client.connection.subprotocol == "two"
        assert await room.run(protocols) == ["two"]


async def test_a_subprotocol_goes_out_as_set_even_if_never_offered(room: Room) -> None:
    arguments = '{"headers": {"Sec-WebSocket-Protocol": "mine"}}'
    async with await RawClient.open(room.cluster.port) as client:
        reply = await client.handshake(room.path(respond=name_of(with_headers), arguments=arguments))
        assert reply.header("sec-websocket-protocol") == "mine"


@pytest.mark.parametrize("name", ["Sec-WebSocket-Accept", "Sec-WebSocket-Extensions", "Connection", "Upgrade"])
async def test_the_handshakes_own_headers_cannot_be_set(room: Room, name: str) -> None:
    arguments = json.dumps({"headers": {name: "permessage-deflate"}})
    async with await RawClient.open(room.cluster.port) as client:
        reply = await client.handshake(room.path(respond=name_of(with_headers), arguments=arguments))
        assert (reply.header("connection") or "").lower() == "upgrade"
        assert reply.header("upgrade") == "websocket"
        assert reply.header("sec-websocket-extensions") is None


async def test_without_a_choice_there_is_no_subprotocol(room: Room) -> None:
    async with await room.connect(options={"subprotocols": ["one"]}) as client:
        assert client.connection.subprotocol is None
        assert await room.run(protocols) == [""]


def protocols(probe: app.Probe) -> list[str]:
    return [ws.protocol for ws in probe.ctx.get_web_sockets()]


async def test_other_headers_of_the_response_pass(room: Room) -> None:
    async with await room.connect(with_headers, headers={"X-Mine": "yes", "Set-Cookie": "a=b"}) as client:
        response = client.connection.response
        assert response is not None
        assert response.headers["x-mine"] == "yes"
        assert response.headers["set-cookie"] == "a=b"


def properties(probe: app.Probe) -> list[Any]:
    (ws,) = probe.ctx.get_web_sockets()
    states = [ws.CONNECTING, ws.OPEN, ws.CLOSING, ws.CLOSED]
    return [ws.protocol, ws.extensions, ws.ready_state, states]


async def test_properties_of_the_server_end(room: Room) -> None:
    async with await room.connect():
        assert await room.run(properties) == ["", "", 1, [0, 1, 2, 3]]


# --- kinds --------------------------------------------------------------------------------------------------------


async def test_binary_is_bytes_and_text_is_str(room: Room) -> None:
    async with await room.connect() as client:
        await client.send(b"\x00\xff")
        await client.send("text")
        first, second = await room.saw("message"), await room.saw("message")
    assert (first["type"], first["data"]) == ("bytes", "00ff")
    assert (second["type"], second["data"]) == ("str", "text")


async def test_binary_in_a_listener_is_bytes(room: Room) -> None:
    async with await room.connect(app.accept_standard) as client:
        await client.send(b"\x00\xff")
        await client.send("text")
        first, second = await room.saw("event"), await room.saw("event")
    assert (first["kind"], first["data"], first["type"]) == ("bytes", "00ff", "message")
    assert (second["kind"], second["data"]) == ("str", "text")


# --- compression --------------------------------------------------------------------------------------------------


async def test_compression_is_off_unless_configured(room: Room) -> None:
    async with await room.connect(options={"compression": "deflate"}) as client:
        assert client.connection.response is not None
        assert "sec-websocket-extensions" not in client.connection.response.headers


@pytest.fixture(scope="module")
def deflating(reports: Any) -> Any:
    from tests.support.cluster import Cluster

    shard = {"vars": [f"REPORT={reports.path}"]}
    with Cluster(app.__name__, router={"compression": True}, shard=shard) as cluster:
        yield cluster


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
        "nonsense, permessage-deflate; bogus=1, permessage-deflate",
    ],
)
async def test_compression_when_configured(deflating: Any, reports: Any, offer: str) -> None:
    from tests.conformance.driver import unique

    room = Room(deflating, reports, unique("deflate"))
    await room.when("message", app.echo)
    async with await room.raw(None, "Sec-WebSocket-Extensions: " + offer) as client:
        # The client may compress from the first message on, or not.
        squeeze = zlib.compressobj(wbits=-9)
        body = squeeze.compress(b"squeezed " * 10) + squeeze.flush(zlib.Z_SYNC_FLUSH)
        await client.send(frame(TEXT, "plain " * 20), frame(TEXT, body[:-4], rsv=4))
        for wanted in ("plain " * 20, "squeezed " * 10):
            got = await client.expect(TEXT)
            text = got.payload
            if got.rsv == 4:
                # No context takeover: each message is inflated on its own.
                text = zlib.decompressobj(wbits=-15).decompress(got.payload + b"\0\0\xff\xff")
            assert text.decode() == wanted
        await client.send(frame(CLOSE, close_body(1000)))
        await client.expect_close(1000)


async def test_the_answer_to_an_offer_of_compression(deflating: Any, reports: Any) -> None:
    from tests.conformance.driver import unique
    from tests.support.client import RawClient

    room = Room(deflating, reports, unique("deflate"))
    for offer, accepted in [
        ("permessage-deflate", True),
        ("permessage-deflate; bogus=1", False),
        ("nonsense", False),
    ]:
        async with await RawClient.open(deflating.port) as client:
            reply = await client.handshake(room.path(), "Sec-WebSocket-Extensions: " + offer)
            answer = reply.header("sec-websocket-extensions") or ""
            assert ("permessage-deflate" in answer) == accepted, offer
            assert ("server_no_context_takeover" in answer) == accepted


async def test_an_inflated_message_over_the_limit_is_1009(deflating: Any, reports: Any) -> None:
    from tests.conformance.driver import unique

    room = Room(deflating, reports, unique("bomb"))
    squeeze = zlib.compressobj(wbits=-15)
    body = squeeze.compress(bytes(LIMIT + 1)) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    async with await room.raw(None, "Sec-WebSocket-Extensions: permessage-deflate") as client:
        await client.send(frame(BINARY, body[:-4], rsv=4))
        await client.expect_close(1009)
        await client.expect_end()
    assert "1009" in (await room.saw("error"))["text"]


async def test_invalid_compressed_data_is_a_protocol_error(deflating: Any, reports: Any) -> None:
    from tests.conformance.driver import unique

    room = Room(deflating, reports, unique("garbage"))
    async with await room.raw(None, "Sec-WebSocket-Extensions: permessage-deflate") as client:
        await client.send(frame(BINARY, b"\xff\xff\xff\xff", rsv=4))
        got = await client.expect(CLOSE)
        assert got.code in (1002, 1007)
        await client.expect_end()
    await room.saw("error")


def url_of(probe: app.Probe) -> list[str]:
    return [ws.url for ws in probe.ctx.get_web_sockets()]


async def test_url_is_the_handshakes(room: Room) -> None:
    async with await room.connect(tags=["t"]):
        (url,) = await room.run(url_of)
        assert url is None or url.split("?")[0].endswith(room.path())
