"""``self.ctx`` with a stand-in for its object."""

from __future__ import annotations

import contextvars
import datetime
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from roost.common.errors import (
    ApiError,
    AutoResponseTooLong,
    EventTimeoutTooLong,
    NotAccepted,
    ObjectGone,
    TooManyTags,
    WrongThreadError,
)
from roost.common.ids import id_from_name
from roost.shard import DurableObjectState, WebSocket, WebSocketPair, WebSocketRequestResponsePair
from roost.shard.api.current import current
from roost.shard.api.ports import current_object
from roost.shard.objects.sockets import Socket, Sockets
from tests.unit.shard.clients import Rec, shard
from tests.unit.shard.harness import BareLife, on_virtual_time, socket_of, turns

ROOM = id_from_name("room", "lobby")


class Owner:
    """Stands in for a hosted object."""

    def __init__(self, name: str = "lobby") -> None:
        self.object_id, self.name = ROOM, name
        self.sockets = Sockets(WebSocket.of)
        self.auto_response: tuple[str, str] | None = None
        self.event_timeout_ms = 0
        self.accepted: list[tuple[WebSocket, tuple[str, ...]]] = []

    def accept_hibernatable(self, handle: WebSocket, tags: tuple[str, ...]) -> None:
        self.accepted.append((handle, tags))

    def set_auto_response(self, pair: tuple[str, str] | None) -> None:
        self.auto_response = pair

    def set_event_timeout(self, timeout_ms: int) -> None:
        self.event_timeout_ms = timeout_ms


def made(name: str = "lobby") -> tuple[DurableObjectState, Any]:
    owner: Any = Owner(name)
    owner.activation = life = BareLife(owner)
    return DurableObjectState(life, owner), owner


def test_the_id_has_digits_and_a_name_if_any() -> None:
    ctx, _ = made()
    assert (str(ctx.id), ctx.id.name) == (ROOM.hex(), "lobby")
    assert made("")[0].id.name is None


# --- sockets ------------------------------------------------------------------------------------------------------


def test_accepting_checks_the_socket_its_tags_and_its_pair_before_anything_happens() -> None:
    ctx, owner = made()
    pair = WebSocketPair()
    with pytest.raises(TypeError, match="takes a WebSocket"):
        ctx.accept_web_socket("ws")  # type: ignore[arg-type]
    with pytest.raises(TooManyTags):
        ctx.accept_web_socket(pair.server, [str(number) for number in range(11)])
    assert owner.accepted == []
    ctx.accept_web_socket(pair.server, ["a", "a", "b"])
    ctx.acceptWebSocket(pair.server, None)
    assert owner.accepted == [(pair.server, ("a", "b")), (pair.server, ())]


def test_lists_are_fresh_and_their_handles_are_not() -> None:
    ctx, owner = made()
    for ordinal, tags in enumerate([("a",), ("b",), ("a", "b")], 1):
        owner.sockets.add(socket_of(ordinal=ordinal, tags=tags))
    newest, middle, oldest = ctx.get_web_sockets()
    assert [handle.socket.ordinal for handle in (newest, middle, oldest)] == [3, 2, 1]  # type: ignore[union-attr]
    assert ctx.get_web_sockets("a") == [oldest, newest]
    assert ctx.getWebSockets("b") == [middle, newest]
    assert ctx.get_web_sockets("c") == []
    ctx.get_web_sockets().clear()
    ctx.get_web_sockets("a").clear()
    assert len(ctx.get_web_sockets()) == 3
    assert ctx.get_web_sockets("a") == [oldest, newest]
    with pytest.raises(TypeError, match="a tag is a string"):
        ctx.get_web_sockets(5)  # type: ignore[arg-type]


def test_tags_of_a_socket() -> None:
    ctx, _ = made()
    assert ctx.get_tags(WebSocket.of(socket_of(tags=("b", "a")))) == ["b", "a"]
    with pytest.raises(NotAccepted):
        ctx.getTags(WebSocketPair().server)


# --- auto-response ------------------------------------------------------------------------------------------------


def test_a_pair_is_set_read_and_unset() -> None:
    ctx, _ = made()
    assert ctx.get_web_socket_auto_response() is None
    pair = WebSocketRequestResponsePair("ping", "pong")
    ctx.set_web_socket_auto_response(pair)
    assert ctx.get_web_socket_auto_response() == pair
    assert ctx.get_web_socket_auto_response() is not pair
    ctx.setWebSocketAutoResponse()
    assert ctx.getWebSocketAutoResponse() is None


def test_the_limits_count_characters_and_the_request_comes_first() -> None:
    ctx, owner = made()
    ctx.set_web_socket_auto_response(WebSocketRequestResponsePair("é" * 2_048, "ü" * 2_048))
    before = owner.auto_response
    for request, response, part in [("x" * 2_049, "y" * 3_000, "request"), ("x", "y" * 2_049, "response")]:
        with pytest.raises(AutoResponseTooLong, match=part) as raised:
            ctx.set_web_socket_auto_response(WebSocketRequestResponsePair(request, response))
        assert (raised.value.size, raised.value.limit) == (2_049, 2_048)
    for request, response in [("\ud800", "x"), ("x", "\ud800")]:
        with pytest.raises(UnicodeEncodeError):
            ctx.set_web_socket_auto_response(WebSocketRequestResponsePair(request, response))
    for other in ("ping", ("ping", "pong"), {}):
        with pytest.raises(TypeError, match="WebSocketRequestResponsePair"):
            ctx.set_web_socket_auto_response(other)
    assert owner.auto_response is before


def test_pairs_are_values() -> None:
    pair = WebSocketRequestResponsePair("a", "b")
    assert (pair.get_request(), pair.getResponse(), pair.request, pair.response) == ("a", "b", "a", "b")
    assert pair == WebSocketRequestResponsePair("a", "b")
    assert hash(pair) == hash(WebSocketRequestResponsePair("a", "b"))
    assert pair != WebSocketRequestResponsePair("a", "c")
    assert pair != WebSocketRequestResponsePair("c", "b")
    assert pair != ("a", "b")
    assert repr(pair) == "WebSocketRequestResponsePair('a', 'b')"
    for arguments in ((1, "b"), ("a", None)):
        with pytest.raises(TypeError, match="is a str"):
            WebSocketRequestResponsePair(*arguments)


def test_the_time_of_an_auto_response_is_utc() -> None:
    ctx, _ = made()
    socket: Socket = socket_of()
    handle = WebSocket.of(socket)
    assert ctx.get_web_socket_auto_response_timestamp(handle) is None
    assert ctx.get_web_socket_auto_response_timestamp(WebSocketPair().server) is None
    socket.auto_response_time = 0.5
    assert ctx.getWebSocketAutoResponseTimestamp(handle) == datetime.datetime(
        1970, 1, 1, 0, 0, 0, 500_000, datetime.UTC
    )
    with pytest.raises(TypeError):
        ctx.get_web_socket_auto_response_timestamp(None)  # type: ignore[arg-type]


# --- event timeout ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "kept"), [(7, 7), (1.9, 1), (604_800_000, 604_800_000), (0, None), (0.5, None)])
def test_event_timeouts(given: float, kept: int | None) -> None:
    ctx, _ = made()
    ctx.set_hibernatable_web_socket_event_timeout(given)
    assert ctx.get_hibernatable_web_socket_event_timeout() == kept


def test_no_argument_clears_the_event_timeout() -> None:
    ctx, _ = made()
    ctx.setHibernatableWebSocketEventTimeout(5)
    ctx.set_hibernatable_web_socket_event_timeout()
    assert ctx.getHibernatableWebSocketEventTimeout() is None


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (604_800_001, EventTimeoutTooLong),
        (float("inf"), EventTimeoutTooLong),
        (-1, ValueError),
        (float("nan"), ValueError),
        ("7", TypeError),
        (True, TypeError),
    ],
)
def test_event_timeouts_that_are_refused_leave_the_old_one(given: Any, error: type[Exception]) -> None:
    ctx, _ = made()
    ctx.set_hibernatable_web_socket_event_timeout(5)
    with pytest.raises(error):
        ctx.set_hibernatable_web_socket_event_timeout(given)
    assert ctx.get_hibernatable_web_socket_event_timeout() == 5


# --- a life's end -------------------------------------------------------------------------------------------------


def test_storage_says_that_it_is_not_there() -> None:
    with pytest.raises(ApiError, match="not available"):
        _ = made()[0].storage


def test_outside_of_an_object_there_is_no_current_one() -> None:
    with pytest.raises(ApiError, match="object's own code"):
        current_object()


def test_code_of_a_life_that_is_over_and_other_threads_have_no_current_one() -> None:
    owner = object()
    life = BareLife(owner)
    context = contextvars.copy_context()
    context.run(current.set, life)
    assert context.run(current_object) is owner
    with ThreadPoolExecutor(1) as pool, pytest.raises(WrongThreadError):
        pool.submit(context.run, current_object).result()
    life.close(ObjectGone("it sleeps"))
    with pytest.raises(ObjectGone, match="it sleeps"):
        context.run(current_object)


# --- broadcasts -------------------------------------------------------------------------------------------------------


class Hall(Rec):
    """Broadcasts what it is told, and closes whoever asks for it."""

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        if message == "close":
            ws.close(4000, "as you wish")
        elif message == "others":
            self.log.append(self.ctx.broadcast(message, exclude=ws))
        elif message == "red":
            self.log.append(self.ctx.broadcast({"to": "red"}, "red", exclude=[ws]))
        else:
            self.log.append(self.ctx.broadcast(message))

    async def web_socket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None:
        self.log.append(self.ctx.broadcast("left"))


@on_virtual_time
async def test_a_broadcast_reaches_all_that_are_open_as_one_record() -> None:
    world, front, _ = shard(Hall)
    closing, leaving, *others = [await front.connect(query=f"tag={tag}") for tag in ("red", "red", "red", "blue")]
    closing.send("close")
    await turns()
    front.forget()
    leaving.close()
    await turns()
    assert [len(record[1]) for record in front.of("send")] == [2], "one record for both"
    others[0].send("all")
    others[0].send("others")
    others[1].send("red")
    await turns()
    assert others[0].messages == ["left", "all", '{"to":"red"}']
    assert others[1].messages == ["left", "all", "others"]
    assert closing.messages == leaving.messages == []
    assert world.instance().log == [2, 2, 1, 1]


@on_virtual_time
async def test_a_broadcast_says_what_it_cannot_take() -> None:
    errors: list[type[BaseException]] = []

    class Room(Rec):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            for call in (
                lambda: self.ctx.broadcast(object()),
                lambda: self.ctx.broadcast("x", 5),  # type: ignore[arg-type]
                lambda: self.ctx.broadcast("x", exclude=["x"]),  # type: ignore[list-item]
                lambda: self.ctx.broadcast("\ud800"),
            ):
                try:
                    call()
                except Exception as error:
                    errors.append(type(error))

    _, front, _ = shard(Room)
    client = await front.connect()
    client.send("x")
    await turns()
    assert errors == [TypeError, TypeError, TypeError, UnicodeEncodeError]
    assert client.messages == []
