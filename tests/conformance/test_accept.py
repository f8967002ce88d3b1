"""Order of accepts, and what a Response makes of a socket."""

from __future__ import annotations

from typing import Any

import pytest

from roost.common.errors import AlreadyAccepted, InvalidResponse, NotAccepted
from roost.shard import Request, Response, WebSocketPair
from tests.conformance import app
from tests.conformance.driver import Room, name_of
from tests.support.client import RawClient
from tests.support.frames import KEY, TEXT, frame, upgrade_head

GONE = {"code": 1006, "reason": "WebSocket disconnected without sending Close frame.", "clean": False}


def facts(report: dict[str, Any]) -> dict[str, Any]:
    return {key: report[key] for key in ("code", "reason", "clean")}


def accept_in(probe: app.Probe, request: Request, calls: list[str]) -> Response:
    """Call each of *calls* on one socket and report what came of it."""
    client, server = WebSocketPair()
    ways = {"hibernatable": lambda: probe.ctx.accept_web_socket(server, ["hib"]), "standard": server.accept}
    for call in calls:
        try:
            ways[call]()
            probe.report("accepted", error=None)
        except Exception as error:
            probe.report("accepted", error=[cls.__name__ for cls in type(error).__mro__])
    server.send("still here")
    return Response(status=101, web_socket=client)


@pytest.mark.parametrize("first", ["standard", "hibernatable"])
async def test_accept_web_socket_after_any_accept_is_refused(room: Room, first: str) -> None:
    async with await room.connect(accept_in, calls=[first, "hibernatable"]) as client:
        assert (await room.saw("accepted"))["error"] is None
        assert "AlreadyAccepted" in (await room.saw("accepted"))["error"]
        assert await client.receive() == "still here"
        assert await room.run(app.count) == (first == "hibernatable")


async def test_accept_after_accept_web_socket_is_refused(room: Room) -> None:
    async with await room.connect(accept_in, calls=["hibernatable", "standard"]) as client:
        assert (await room.saw("accepted"))["error"] is None
        assert {"AlreadyAccepted", "TypeError"} & set((await room.saw("accepted"))["error"])
        assert await client.receive() == "still here"
        await client.send("goes to the handler")
        assert (await room.saw("message"))["tags"] == ["hib"]


async def test_accept_twice_is_once(room: Room) -> None:
    async with await room.connect(accept_in, calls=["standard", "standard"]) as client:
        assert [(await room.saw("accepted"))["error"] for _ in range(2)] == [None, None]
        assert await client.receive() == "still here"


def accept_both_ends(probe: app.Probe) -> None:
    client, server = WebSocketPair()
    probe.ctx.accept_web_socket(server)
    probe.ctx.accept_web_socket(client)


async def test_the_other_end_of_an_accepted_pair_is_refused(room: Room) -> None:
    await room.refused(accept_both_ends, AlreadyAccepted)


def return_end(probe: app.Probe, request: Request, accepted: str, returned: str) -> Response:
    ends = dict(zip(("client", "server"), WebSocketPair(), strict=True))
    if accepted != "none":
        probe.ctx.accept_web_socket(ends[accepted], ["odd"])
    return Response(status=101, web_socket=ends[returned])


@pytest.mark.parametrize(("accepted", "returned"), [("client", "client"), ("server", "server")])
async def test_returning_the_accepted_end_ends_the_connection(room: Room, accepted: str, returned: str) -> None:
    """The client sees 101, then the end without a Close frame; the socket is dropped, as of a pair never returned."""
    async with await room.raw(return_end, accepted=accepted, returned=returned) as client:
        await client.expect_end()
    assert facts(await room.saw("close")) == GONE
    assert await room.run(app.count) == 0


async def test_a_101_that_nobody_accepted_stays_open_and_says_nothing(room: Room) -> None:
    async with await room.raw(return_end, accepted="none", returned="client") as client:
        await client.send(frame(TEXT, "into the void"), frame(0x9, b"there?"))
        await client.expect(0xA, b"there?")
        assert await room.run(app.count) == 0
        assert room.all("message") == []


def respond_with(probe: app.Probe, status: int, socket: bool = False) -> None:
    client, _ = WebSocketPair()
    Response(status=status, web_socket=client if socket else None)


@pytest.mark.parametrize("status", [200, 404, 100, 102])
async def test_a_response_with_a_socket_has_status_101(room: Room, status: int) -> None:
    await room.refused(respond_with, InvalidResponse, "101", status=status, socket=True)


@pytest.mark.parametrize("status", [101, 100, 199, 600, 99, 1000, 0, -1])
async def test_a_response_without_a_socket_has_a_status_of_200_to_599(room: Room, status: int) -> None:
    await room.refused(respond_with, InvalidResponse, str(status), status=status)


def accept_but(probe: app.Probe, request: Request, then: str) -> Response:
    client, server = WebSocketPair()
    probe.ctx.accept_web_socket(server, ["orphan"])
    probe.memory["client"] = client  # no garbage collection may matter
    probe.report("listed", count=len(probe.ctx.get_web_sockets()), state=server.ready_state)
    if then == "raise":
        raise RuntimeError("on purpose")
    return Response("plain", status=203)


@pytest.mark.parametrize(("then", "status"), [("plain", 203), ("raise", 500)])
async def test_an_accepted_socket_that_is_not_returned_is_dropped(room: Room, then: str, status: int) -> None:
    reply = await room.request(accept_but, then=then)
    assert reply.status == status
    assert (await room.saw("listed"))["count"] == 1
    assert facts(await room.saw("close")) == GONE
    assert await room.run(app.count) == 0


@pytest.mark.parametrize(("then", "status"), [("plain", 203), ("raise", 500)])
async def test_the_same_for_an_upgrade_that_gets_no_101(room: Room, then: str, status: int) -> None:
    path = room.path(respond=name_of(accept_but), arguments=f'{{"then": "{then}"}}')
    async with await RawClient.open(room.cluster.port) as client:
        reply = await client.handshake(path, expect=status)
        assert (reply.text == "plain") == (then == "plain")
    assert facts(await room.saw("close")) == GONE


async def test_a_socket_for_a_request_that_asked_for_none_is_refused_with_a_sentence(room: Room) -> None:
    reply = await room.request(app.accept)
    assert reply.status == 426
    assert reply.header("upgrade") == "websocket"
    assert ("connection", "upgrade") in reply.headers
    assert "Upgrade: websocket" in reply.text
    assert facts(await room.saw("close")) == GONE
    assert await room.run(app.count) == 0


def use_early(probe: app.Probe, call: str) -> None:
    _, server = WebSocketPair()
    {"send": lambda: server.send("x"), "close": lambda: server.close(1000, "x")}[call]()


@pytest.mark.parametrize("call", ["send", "close"])
async def test_send_and_close_before_accept_are_refused(room: Room, call: str) -> None:
    await room.refused(use_early, NotAccepted, call=call)
    await room.refused(use_early, TypeError, call=call)


def attach_early(probe: app.Probe, request: Request) -> Response:
    client, server = WebSocketPair()
    server.serialize_attachment({"early": True})
    assert server.deserialize_attachment() == {"early": True}
    probe.ctx.accept_web_socket(server)
    return Response(status=101, web_socket=client)


def send_attachment(probe: app.Probe, ws: Any) -> None:
    ws.send(ws.deserialize_attachment())


async def test_an_attachment_before_accept_is_kept(room: Room) -> None:
    async with await room.connect(attach_early) as client:
        await client.say(send_attachment)
        assert await client.receive() == '{"early":true}'


def send_early(probe: app.Probe, request: Request, close: bool) -> Response:
    client, server = WebSocketPair()
    probe.ctx.accept_web_socket(server)
    probe.report("state", state=server.ready_state)
    server.send("one")
    server.send(b"two")
    if close:
        server.close(4000, "three")
    return Response(status=101, web_socket=client)


async def test_what_is_sent_before_the_response_comes_after_the_101(room: Room) -> None:
    async with await room.connect(send_early, close=True) as client:
        assert await client.receive() == "one"
        assert await client.receive() == b"two"
        assert await client.closed() == (4000, "three")


async def test_a_socket_is_open_once_accepted(room: Room) -> None:
    async with await room.connect(send_early, close=False):
        assert (await room.saw("state"))["state"] == 1


# --- the handshake ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ({"leave_out": "Sec-WebSocket-Key"}, 400),
        ({"leave_out": "Sec-WebSocket-Version"}, 426),
        ({"more": ["Sec-WebSocket-Version: 12"]}, 426),
        ({"more": ["Sec-WebSocket-Key: c2hvcnQ="]}, 400),
        ({"more": [f"Sec-WebSocket-Key: {KEY[:-4]}!!=="]}, 400),
        ({"leave_out": "Connection"}, 426),
    ],
    ids=["no key", "no version", "version 12", "short key", "key of no base64", "no Connection"],
)
async def test_a_bad_handshake_is_refused_with_a_sentence(room: Room, head: dict[str, Any], status: int) -> None:
    async with await RawClient.open(room.cluster.port) as client:
        await client.send(upgrade_head(room.path(), *head.get("more", ()), leave_out=head.get("leave_out", "")))
        reply = await client.response()
    assert reply.status == status
    assert reply.text.strip()
    if "Version" in str(head):
        assert reply.header("sec-websocket-version") == "13"
    assert room.order() == [], "the object has nothing to do with a bad handshake"


async def test_a_handshake_that_is_not_get_is_refused(room: Room) -> None:
    async with await RawClient.open(room.cluster.port) as client:
        await client.send(upgrade_head(room.path()).replace("GET", "POST", 1))
        reply = await client.response()
    assert reply.status in (400, 405)
    assert reply.text.strip()


async def test_upgrade_is_compared_without_case(room: Room) -> None:
    async with await room.raw(None, "Upgrade: WebSocket", "Connection: keep-alive, upgrade"):
        assert await room.run(app.count) == 1


async def test_frames_in_the_same_packet_as_the_handshake(room: Room) -> None:
    await room.when("message", app.echo)
    early = frame(TEXT, "one") + frame(TEXT, "two")
    async with await room.raw(trailing=early) as client:
        await client.send(frame(TEXT, "three"))
        for word in ("one", "two", "three"):
            await client.expect(TEXT, word)
