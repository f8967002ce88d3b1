"""Every name of the seed, in its own spelling and in ours, and what is beside it."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

import roost.shard
from roost.shard import DurableObject, WebSocket, WebSocketPair, WebSocketRequestResponsePair
from tests.conformance import app
from tests.conformance.driver import Room
from tests.support.client import request
from tests.support.frames import TEXT, frame


def snake(name: str) -> str:
    """The mechanical rule: ``getWebSocketAutoResponse`` → ``get_web_socket_auto_response``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


WEB_SOCKET = [
    "accept",
    "addEventListener",
    "removeEventListener",
    "close",
    "send",
    "serializeAttachment",
    "deserializeAttachment",
    "readyState",
    "binaryType",
    "url",
    "protocol",
    "extensions",
]
STATE = [
    "acceptWebSocket",
    "getWebSockets",
    "getTags",
    "setWebSocketAutoResponse",
    "getWebSocketAutoResponse",
    "getWebSocketAutoResponseTimestamp",
    "setHibernatableWebSocketEventTimeout",
    "getHibernatableWebSocketEventTimeout",
    "waitUntil",
    "blockConcurrencyWhile",
    "abort",
]


def names_there(probe: app.Probe, names: list[str], of: str) -> list[str]:
    """Those of *names* that an object of the API lacks, or that are not the same thing in both spellings."""
    what = type(probe.ctx) if of == "state" else WebSocket
    return [
        name
        for name in names
        if getattr(what, snake(name), None) is None or getattr(what, name, None) is not getattr(what, snake(name))
    ]


@pytest.mark.parametrize(("of", "names"), [("state", STATE), ("socket", WEB_SOCKET)])
async def test_both_spellings_are_the_same_function(room: Room, of: str, names: list[str]) -> None:
    assert await room.run(names_there, names=names, of=of) == []


ARGUMENTS: list[tuple[str, str, dict[str, str]]] = [
    ("socket", "addEventListener", {"event": "event", "callbackFunction": "callback_function"}),
    ("socket", "removeEventListener", {"event": "event", "callbackFunction": "callback_function"}),
    ("socket", "send", {"message": "message"}),
    ("socket", "close", {"code": "code", "reason": "reason"}),
    ("socket", "serializeAttachment", {"value": "value"}),
    ("state", "acceptWebSocket", {"ws": "ws", "tags": "tags"}),
    ("state", "getWebSockets", {"tag": "tag"}),
    ("state", "getTags", {"ws": "ws_accepted"}),
    (
        "state",
        "setWebSocketAutoResponse",
        {"webSocketRequestResponsePair": "web_socket_request_response_pair"},
    ),
    ("state", "getWebSocketAutoResponseTimestamp", {"ws": "ws_accepted"}),
    ("state", "setHibernatableWebSocketEventTimeout", {"timeoutMs": "timeout_ms"}),
    ("pair", "WebSocketRequestResponsePair", {"request": "request", "response": "response"}),
    ("response", "Response", {"webSocket": "web_socket"}),
]
"""Of what, the method in the seed's spelling, and its arguments in both."""


def take_keywords(probe: app.Probe, of: str, method: str, arguments: dict[str, str], names: int) -> str:
    """Call *method* with each argument by keyword; *names*: 0 for the seed's names of the arguments, 1 for ours."""
    from roost.shard import Response

    client, server = WebSocketPair()
    _, accepted = WebSocketPair()
    probe.ctx.accept_web_socket(accepted)
    values: dict[str, Any] = {
        "event": "message",
        "callback_function": print,
        "message": "hello",
        "code": 4000,
        "reason": "bye",
        "value": 1,
        "ws": server,
        "ws_accepted": accepted,
        "tags": ["a"],
        "tag": "a",
        "web_socket_request_response_pair": WebSocketRequestResponsePair("ping", "pong"),
        "timeout_ms": 1000,
        "request": "ping",
        "response": "pong",
        "web_socket": client,
    }
    given = {(seed, ours.removesuffix("_accepted"))[names]: values[ours] for seed, ours in arguments.items()}
    if of == "pair":
        return WebSocketRequestResponsePair(**given).get_response()
    if of == "response":
        probe.ctx.accept_web_socket(server)
        return str(Response(status=101, **given).web_socket is client)
    target: Any = accepted if of == "socket" else probe.ctx
    getattr(target, method)(**given)
    getattr(target, snake(method))(**given) if method not in ("acceptWebSocket", "send") else None
    return "done"


@pytest.mark.parametrize("names", [0, 1], ids=["the seed's", "ours"])
@pytest.mark.parametrize(("of", "method", "arguments"), ARGUMENTS, ids=[row[1] for row in ARGUMENTS])
async def test_arguments_have_both_spellings(
    room: Room, of: str, method: str, arguments: dict[str, str], names: int
) -> None:
    for seed, ours in arguments.items():
        assert ours.removesuffix("_accepted") == snake(seed)
    answer = await room.run(take_keywords, of=of, method=method, arguments=arguments, names=names)
    assert answer in ("done", "pong", "True")


def take_one_twice(probe: app.Probe) -> None:
    _, server = WebSocketPair()
    server.addEventListener("message", callback_function=print, callbackFunction=print)  # type: ignore[call-overload]


async def test_an_argument_in_both_spellings_at_once_is_refused(room: Room) -> None:
    await room.refused(take_one_twice, TypeError, "callback_function", "callbackFunction")


async def await_everything(probe: app.Probe, request: Any) -> Any:
    from roost.shard import Response

    client, server = WebSocketPair()
    await probe.ctx.accept_web_socket(server)
    await server.serialize_attachment("kept")
    await server.send("awaited")
    await asyncio.gather(*(server.send(text) for text in ("one", "two")))
    await asyncio.wait_for(server.send("three"), 5)
    assert server.deserialize_attachment() == "kept"
    await server.close(4000, "all done")
    return Response(status=101, webSocket=client)


async def test_what_acts_at_once_may_be_awaited(room: Room) -> None:
    async with await room.connect(await_everything) as client:
        assert [await client.receive() for _ in range(4)] == ["awaited", "one", "two", "three"]
        assert await client.closed() == (4000, "all done")


def binary_types(probe: app.Probe) -> list[str]:
    _, server = WebSocketPair()
    server.binaryType = "arraybuffer"
    try:
        server.binary_type = "blob"
    except ValueError as error:
        return [server.binary_type, str(error)]
    return [server.binary_type]


async def test_binary_messages_are_bytes_whatever_is_asked_for(room: Room) -> None:
    kind, refusal = await room.run(binary_types)
    assert kind == "arraybuffer"
    assert "'blob'" in refusal


def test_the_constants_of_the_ready_state() -> None:
    for number, name in enumerate(["CONNECTING", "OPEN", "CLOSING", "CLOSED"]):
        assert getattr(WebSocket, name) == getattr(WebSocket, f"READY_STATE_{name}") == number


def test_the_pair_has_both_spellings() -> None:
    pair = WebSocketRequestResponsePair("ping", "pong")
    assert pair.get_request() == pair.getRequest() == "ping"
    assert pair.get_response() == pair.getResponse() == "pong"


def test_what_is_public() -> None:
    for name in (
        "DurableObject",
        "Request",
        "Response",
        "WebSocket",
        "WebSocketPair",
        "WebSocketRequestResponsePair",
        "MessageEvent",
        "CloseEvent",
        "ErrorEvent",
    ):
        assert name in roost.shard.__all__
        assert hasattr(roost.shard, name)


async def test_an_object_in_the_seeds_own_spelling(room_in: Any) -> None:
    room: Room = room_in("camel-case")
    async with await room.connect() as client, await room.raw() as other:
        await client.send("ping")
        assert await client.receive() == "pong"
        await client.send("hello")
        answer = json.loads(await client.receive())
        assert answer == {
            "said": "hello",
            "attachment": {"hump": 1},
            "tags": ["camel"],
            "pair": ["ping", "pong"],
            "stamp": True,
            "timeout": 1000,
            "state": 1,
        }
        await other.expect(TEXT)
        await other.send(frame(0x3))
        assert str(await client.receive()).startswith("error ")
        assert await client.close(1000, "bye") == (4001, "1000 bye True")


async def test_handlers_may_be_plain_functions(room_in: Any) -> None:
    room: Room = room_in("synchronous")
    async with await room.connect() as client:
        await client.send("echo")
        assert await client.receive() == "echo"
        assert await client.close(1000) == (4000, "sync")


# --- accept() and its events --------------------------------------------------------------------------------------


async def test_accept_and_message_events(room: Room) -> None:
    async with await room.connect(app.accept_standard) as client:
        await client.send("one")
        await client.send(b"two")
        first, second = await room.saw("event"), await room.saw("event")
    assert (first["type"], first["data"], first["state"]) == ("message", "one", 1)
    assert (second["type"], second["data"]) == ("message", b"two".hex())


def accept_and_echo(probe: app.Probe, request: Any) -> Any:
    from roost.shard import Response

    client, server = WebSocketPair()
    server.accept()
    server.add_event_listener("message", lambda event: server.send(f"{event.type} {event.data}"))
    server.add_event_listener("close", lambda event: probe.report("closed", code=event.code))
    server.send("welcome")
    return Response(status=101, web_socket=client)


async def test_a_standard_socket_sends_and_hears(room: Room) -> None:
    async with await room.connect(accept_and_echo) as client:
        assert await client.receive() == "welcome"
        await client.send("x")
        assert await client.receive() == "message x"
        await client.close(3000)
    assert (await room.saw("closed"))["code"] == 3000


def accept_hibernatable_with_listener(probe: app.Probe, request: Any) -> Any:
    from roost.shard import Response

    client, server = WebSocketPair()
    probe.ctx.accept_web_socket(server)
    try:
        server.add_event_listener("message", lambda event: probe.report("heard"))
    except Exception as error:
        probe.report("no listener", error=type(error).__name__)
    return Response(status=101, web_socket=client)


async def test_a_listener_of_a_hibernatable_socket_never_hears(room: Room) -> None:
    async with await room.connect(accept_hibernatable_with_listener) as client:
        await client.send("to the handler")
        assert (await room.saw("message"))["data"] == "to the handler"
    assert room.all("heard") == []


async def test_a_standard_socket_does_not_reach_the_handlers(room: Room) -> None:
    async with await room.connect(app.accept_standard) as client:
        await client.send("to the listener")
        await room.saw("event")
    await room.saw("event")
    assert room.all("message") == [] == room.all("close")


def listen_oddly(probe: app.Probe, what: str) -> None:
    _, server = WebSocketPair()
    if what == "type":
        server.add_event_listener(5, print)
    else:
        server.add_event_listener("message", "not callable")


@pytest.mark.parametrize("what", ["type", "callback"])
async def test_a_listener_needs_a_type_and_a_callable(room: Room, what: str) -> None:
    await room.refused(listen_oddly, TypeError, what=what)


# --- the object, its environment, requests ------------------------------------------------------------------------


def about_me(probe: app.Probe, request: Any) -> Any:
    from roost.shard import Response

    return Response.json(
        {
            "id": str(probe.ctx.id),
            "name": probe.ctx.id.name,
            "same": str(probe.env.PROBE.id_from_name(probe.name)),
            "report": probe.env.REPORT,
            "method": request.method,
            "url": request.url,
            "header": request.headers["X-MiXed"],
            "missing": request.headers.get("x-missing"),
            "query": request.query["respond"],
            "body": request.text(),
            "json": request.json(),
            "bytes": len(request.body),
        }
    )


async def test_ids_environment_and_requests(room: Room) -> None:
    from roost.common.ids import id_from_name

    reply = await room.request(about_me, "PUT", "x-mixed: yes", body='["ä"]'.encode())
    assert reply.status == 200, reply
    assert reply.header("content-type") == "application/json"
    answer = json.loads(reply.body)
    assert answer["id"] == answer["same"] == id_from_name("probe", room.name).hex()
    assert answer["name"] == room.name
    assert answer["report"] == str(room.reports.path)
    assert answer["method"] == "PUT"
    assert answer["url"].startswith(room.cluster.http("").replace(f"127.0.0.1:{room.cluster.port}", "test"))
    assert (answer["header"], answer["missing"]) == ("yes", None)
    assert answer["query"] == "tests.conformance.test_names:about_me"
    assert (answer["body"], answer["json"], answer["bytes"]) == ('["ä"]', ["ä"], 6)


async def test_an_unknown_object_of_a_known_class_is_made_on_demand(room: Room) -> None:
    assert await room.run(app.life) == 1


async def test_a_class_that_is_not_public_cannot_be_told_from_none(room_in: Any) -> None:
    private: Room = room_in("ledger")
    there = await request(private.cluster.port, "GET", private.path())
    nowhere = await request(private.cluster.port, "GET", private.path().replace("ledger", "lodger"))
    assert (there.status, there.text.replace("ledger", "lodger")) == (404, nowhere.text)
    assert "ledger" not in (await request(private.cluster.port, "GET", "/")).text
    assert (await request(private.cluster.port, "GET", private.path().replace("ledger", "silent"))).status == 200


def own_namespace(probe: app.Probe) -> str:
    return str(probe.env.LEDGER.id_from_name("x"))


async def test_a_class_that_is_not_public_has_its_place_in_env(room: Room) -> None:
    assert len(await room.run(own_namespace)) == 64


def redelivered(probe: app.Probe, ws: Any) -> None:
    ws.send(str(ws.redelivered))


async def test_an_event_that_comes_for_the_first_time_is_not_redelivered(room: Room) -> None:
    async with await room.connect() as client:
        await client.say(redelivered)
        assert await client.receive() == "False"


def test_durable_object_keeps_what_it_is_given() -> None:
    ctx, env = object(), object()
    made = DurableObject(ctx, env)  # type: ignore[arg-type]
    assert made.ctx is ctx
    assert made.env is env
