"""The user's handle, with a stand-in for its object: what it checks, and what it hands on."""

from __future__ import annotations

import array
import enum
from types import SimpleNamespace
from typing import Any

import pytest

from roost.common.budget import Budget
from roost.common.errors import (
    AlreadyAccepted,
    AttachmentTooLarge,
    DataCloneError,
    InvalidCloseCode,
    InvalidCloseReason,
    NotAccepted,
    OutboxFull,
    SocketClosed,
)
from roost.shard import CloseEvent, ErrorEvent, MessageEvent, WebSocket, WebSocketPair
from roost.shard.api.web_socket import tags_of
from roost.shard.counters import ShardCounters
from roost.shard.objects.packages import Packages
from roost.shard.objects.sockets import Socket
from roost.shard.outgoing.backlog import Backlog
from tests.support.links import LinkToRouter
from tests.unit.shard.harness import BareLife, outbox, peer_of, socket_of


class Owner:
    """Stands in for a hosted object: an outbox, and what is recorded."""

    max_attachment_bytes = 64

    def __init__(self) -> None:
        self.activation = BareLife()
        self.link = LinkToRouter()
        self.peer = peer_of(self.link)
        self.outbox = outbox(limit=1000)
        self.recorded: list[tuple[Any, ...]] = []
        self.runtime = SimpleNamespace(packages=Packages(Budget(1 << 20), ShardCounters()))

    def record_close(self, socket: Socket, code: int, reason: str) -> None:
        self.recorded.append(("close", socket, code, reason))

    def record_attachment(self, socket: Socket, data: bytes) -> None:
        self.recorded.append(("attachment", socket, data))


def opened(*, hibernatable: bool = True) -> tuple[WebSocket, Any, Socket]:
    """A handle whose 101 is on its way."""
    owner: Any = Owner()
    socket = Socket(owner, hibernatable=hibernatable, ordinal=1, tags=("a", "b"))
    socket.peer, socket.counter = owner.peer, 5
    return WebSocket.of(socket), owner, socket


def early() -> tuple[WebSocket, Any, Socket]:
    """A handle that is accepted and has not been returned yet."""
    handle, owner, socket = opened()
    socket.peer, socket.held = None, Backlog(owner.outbox)
    return handle, owner, socket


def sent(owner: Any) -> list[Any]:
    owner.outbox.drain()
    owner.link.flush()
    return [record[2] for record in owner.link.take()]


class Colour(str, enum.Enum):  # noqa: UP042  # its str() is not its text
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Loud(bytes):
    def __repr__(self) -> str:
        return "loud"


# --- send ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "goes_out"),
    [
        ("text", "text"),
        ("", ""),
        (b"bytes", b"bytes"),
        (b"", b""),
        (bytearray(b"array"), b"array"),
        (memoryview(b"view")[1:3], b"ie"),
        (memoryview(b"abcdef")[::2], b"ace"),
        (array.array("B", [1, 2]), b"\x01\x02"),
        (Loud(b"sub"), b"sub"),
        (5, "5"),
        (-1.5, "-1.5"),
        (True, "true"),
        (False, "false"),
        (None, "null"),
        ({"a": [1, None, "é"]}, '{"a":[1,null,"é"]}'),
        ([], "[]"),
        (Colour.RED, "red"),
    ],
)
def test_what_goes_out_for_what_is_sent(message: Any, goes_out: str | bytes) -> None:
    handle, owner, _ = opened()
    handle.send(message)
    (data,) = sent(owner)
    assert data == goes_out
    assert type(data) is type(goes_out)


def test_bytes_are_copied() -> None:
    handle, owner, _ = opened()
    data = bytearray(b"before")
    handle.send(data)
    data[:] = b"after!"
    assert sent(owner) == [b"before"]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({1: "a", None: 2}, '{"1":"a","null":2}'),
        ([2**64, float("nan")], "[18446744073709551616,null]"),
        ((1, "\ud83d"), '[1,"\\ud83d"]'),
        (float("inf"), "Infinity"),
    ],
)
def test_json_goes_out_as_javascript_has_it(message: Any, text: str) -> None:
    handle, owner, _ = opened()
    handle.send(message)
    assert sent(owner) == [text]


def test_a_list_that_contains_itself_is_refused() -> None:
    handle, owner, _ = opened()
    itself: list[Any] = []
    itself.append(itself)
    with pytest.raises(ValueError, match=r"send.* contains itself"):
        handle.send(itself)
    assert sent(owner) == []


def test_an_int_of_a_subclass_goes_out_as_a_number() -> None:
    handle, owner, _ = opened()
    handle.send(Level.HIGH)
    assert sent(owner) == ["3"]


@pytest.mark.parametrize("message", [object(), {1, 2}, (object(),), print, {"a": object()}, [{1}]])
def test_other_types_are_refused(message: Any) -> None:
    handle, owner, _ = opened()
    with pytest.raises(TypeError, match="send"):
        handle.send(message)
    assert sent(owner) == []


def test_send_needs_an_accept() -> None:
    pair = WebSocketPair()
    with pytest.raises(NotAccepted, match="accept_web_socket"):
        pair.server.send("x")
    with pytest.raises(NotAccepted, match="client end"):
        pair.client.send("x")
    with pytest.raises(NotAccepted):
        pair.server.close()


def test_send_after_close_raises_and_after_the_client_vanished_does_nothing() -> None:
    handle, owner, socket = opened()
    socket.gone = True
    handle.send("nowhere")
    with pytest.raises(TypeError):
        handle.send(object())  # arguments are checked all the same
    socket.gone = False
    handle.close()
    with pytest.raises(SocketClosed):
        handle.send("x")
    assert sent(owner) == []


def test_after_the_clients_close_messages_still_go_out() -> None:
    handle, owner, socket = opened()
    socket.closed_by_client = True
    handle.send("last words")
    assert sent(owner) == ["last words"]


def test_before_the_101_messages_and_the_close_are_kept_and_counted() -> None:
    handle, owner, socket = early()
    handle.send("first")
    handle.send(b"second")
    handle.close(4000, "bye")
    held = socket.held
    assert held is not None
    assert owner.recorded == [("close", socket, 4000, "bye")], "its object sees to the order"
    assert owner.outbox.size >= handle.buffered_amount == 11
    assert sent(owner) == []
    held.bind(owner.peer, 5)
    assert sent(owner) == ["first", b"second"]
    assert (owner.outbox.size, handle.buffered_amount) == (0, 0)
    with pytest.raises(SocketClosed):
        handle.send("third")


def test_before_the_101_the_same_is_refused_as_after() -> None:
    handle, _, socket = early()
    handle.send("x" * 900)
    with pytest.raises(OutboxFull):
        handle.send("y" * 900)
    with pytest.raises(UnicodeEncodeError):
        handle.send("\ud800")
    assert socket.held is not None
    assert (len(socket.held), socket.held.size) == (1, 900)


# --- close --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1014, 1016, 2999, 3000, 4999])
def test_codes_that_may_be_sent(code: int) -> None:
    handle, owner, socket = opened()
    handle.close(code, "why")
    assert owner.recorded == [("close", socket, code, "why")]
    assert handle.ready_state == WebSocket.CLOSING == 2


@pytest.mark.parametrize("code", [999, 1004, 1005, 1006, 1015, 5000, 0, -1, 65536])
def test_codes_that_may_not(code: int) -> None:
    handle, owner, _ = opened()
    with pytest.raises(InvalidCloseCode):
        handle.close(code)
    assert owner.recorded == []
    assert handle.ready_state == WebSocket.OPEN


@pytest.mark.parametrize("arguments", [("1000",), (1000.0,), (True,), (1000, b"why"), (1000, 5)])
def test_close_takes_an_int_and_a_str(arguments: Any) -> None:
    handle, owner, _ = opened()
    with pytest.raises(TypeError):
        handle.close(*arguments)
    assert owner.recorded == []


def test_a_close_without_a_code_is_1005_on_the_wire() -> None:
    handle, owner, socket = opened()
    handle.close()
    assert owner.recorded == [("close", socket, 1005, "")]


@pytest.mark.parametrize("reason", ["x", ""])
def test_a_reason_needs_a_code(reason: str) -> None:
    handle, _, _ = opened()
    with pytest.raises(InvalidCloseReason, match="needs a code"):
        handle.close(reason=reason)


def test_a_reason_has_123_bytes_at_most() -> None:
    handle, owner, socket = opened()
    with pytest.raises(InvalidCloseReason, match="123"):
        handle.close(1000, "é" * 61 + "xx")
    with pytest.raises(InvalidCloseReason, match="UTF-8"):
        handle.close(1000, "\ud800")
    handle.close(1000, "é" * 61 + "x")
    assert owner.recorded == [("close", socket, 1000, "é" * 61 + "x")]


def test_a_second_close_is_ignored_but_checked_and_so_is_one_to_nobody() -> None:
    handle, owner, _ = opened()
    handle.close(1000)
    handle.close(4000, "again")
    assert len(owner.recorded) == 1
    with pytest.raises(InvalidCloseCode):
        handle.close(9999)
    vanished, owner, socket = opened()
    socket.gone = True
    vanished.close(1000)
    assert owner.recorded == []
    assert vanished.ready_state == 2


# --- attachments --------------------------------------------------------------------------------------------------


def test_an_attachment_is_kept_recorded_and_copied() -> None:
    handle, owner, socket = opened()
    assert handle.deserialize_attachment() is None
    handle.serialize_attachment({"a": 1})
    assert owner.recorded == [("attachment", socket, socket.attachment)]
    assert handle.deserialize_attachment() == {"a": 1}
    assert handle.deserialize_attachment() is not handle.deserialize_attachment()


@pytest.mark.parametrize(("value", "error"), [(bytes(100), AttachmentTooLarge), (object(), DataCloneError)])
def test_an_attachment_that_is_refused_leaves_the_earlier_one(value: Any, error: type[Exception]) -> None:
    handle, owner, _ = opened()
    handle.serialize_attachment("earlier")
    with pytest.raises(error):
        handle.serialize_attachment(value)
    assert handle.deserialize_attachment() == "earlier"
    assert len(owner.recorded) == 1


def test_a_full_outbox_refuses_attachments_too() -> None:
    handle, owner, _ = opened()
    handle.serialize_attachment("earlier")
    owner.outbox.send(owner.peer, 5, b"x" * 930)
    with pytest.raises(OutboxFull):
        handle.serialize_attachment("later")
    assert handle.deserialize_attachment() == "earlier"


def test_an_attachment_is_recorded_only_where_somebody_keeps_it() -> None:
    for handle, owner, socket in (early(), opened(hibernatable=False), opened()):
        if socket.hibernatable and socket.held is None:
            socket.gone = True
        handle.serialize_attachment(1)
        assert owner.recorded == []
        assert handle.deserialize_attachment() == 1


def test_an_attachment_set_before_the_accept_goes_with_it() -> None:
    pair, (_, owner, _) = WebSocketPair(), opened()
    pair.server._early_attachment = b"\x01"
    socket = Socket(owner, hibernatable=True, ordinal=1)
    pair.server.bind(socket)
    assert socket.attachment == b"\x01"
    assert pair.server.deserialize_attachment() == 1


# --- the rest -----------------------------------------------------------------------------------------------------


def test_a_pair_unpacks_to_client_and_server() -> None:
    pair = WebSocketPair()
    client, server = pair
    assert (pair[0], pair[1], len(pair)) == (client, server, 2)
    assert (client.is_server_end, server.is_server_end) == (False, True)
    assert client.other is server
    assert server.other is client


def test_what_cannot_be_accepted_any_more() -> None:
    pair = WebSocketPair()
    pair.server.check_acceptable(hibernatable=True)
    pair.server.bind(socket_of())
    with pytest.raises(AlreadyAccepted, match="accept_web_socket"):
        pair.server.check_acceptable(hibernatable=True)
    with pytest.raises(AlreadyAccepted, match="other end"):
        pair.client.check_acceptable(hibernatable=True)
    handle, _, _ = opened(hibernatable=False)
    with pytest.raises(AlreadyAccepted, match=r"with accept\(\)"):
        handle.check_acceptable(hibernatable=True)


def test_accept_after_either_accept() -> None:
    handle, _, _ = opened()
    with pytest.raises(TypeError, match="accept_web_socket"):
        handle.accept()
    standard, _, _ = opened(hibernatable=False)
    standard.accept()


def test_listeners_of_each_kind_in_the_order_added() -> None:
    handle, _, _ = opened(hibernatable=False)
    heard: list[Any] = []
    handle.add_event_listener("message", heard.append)
    handle.addEventListener("message", callbackFunction=lambda event: heard.append(f"{event}!"))
    handle.add_event_listener("close", heard.append, {"once": True})
    for kind in ("message", "close", "close", "error"):
        for listener in handle.listeners(kind):
            listener(kind)
    assert heard == ["message", "message!", "close"]
    handle.removeEventListener("message", heard.append)
    assert len(handle.listeners("message")) == 1
    with pytest.raises(ValueError, match="message, close and error"):
        handle.add_event_listener("open", print)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="function"):
        handle.add_event_listener("close", 5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="string"):
        handle.add_event_listener(5, print)  # type: ignore[call-overload]


def test_events_in_the_words_of_the_seed() -> None:
    assert (MessageEvent("x").data, MessageEvent("x").type) == ("x", "message")
    close = CloseEvent(1000, "bye", True)
    assert (close.code, close.reason, close.was_clean, close.wasClean, close.type) == (1000, "bye", True, True, "close")
    assert ErrorEvent(ValueError("bad")).message == "bad"


def test_what_a_handle_knows_of_its_connection() -> None:
    handle, _, socket = opened()
    socket.url, socket.protocol = "http://h/ns/n", "chat"
    assert (handle.url, handle.protocol, handle.extensions) == ("http://h/ns/n", "chat", "")
    fresh = WebSocketPair().server
    assert (fresh.url, fresh.protocol, fresh.ready_state) == (None, "", 1)
    assert early()[0].url is None
    assert "server end" in repr(handle)
    assert handle.readyState == handle.ready_state
    assert (WebSocket.CONNECTING, WebSocket.READY_STATE_CLOSED) == (0, 3)


def test_a_package_has_one_handle_until_it_is_let_go() -> None:
    socket = socket_of()
    first = WebSocket.of(socket)
    assert WebSocket.of(socket) is first
    socket.live = None
    assert WebSocket.of(socket) is not first
    assert first.used


def test_tags_of_an_accepted_hibernatable_socket_only() -> None:
    handle, _, _ = opened()
    tags = tags_of(handle)
    tags.append("mine")
    assert tags_of(handle) == ["a", "b"]
    with pytest.raises(NotAccepted, match="before"):
        tags_of(WebSocketPair().server)
    with pytest.raises(NotAccepted, match="only"):
        tags_of(opened(hibernatable=False)[0])
    with pytest.raises(TypeError, match="takes a WebSocket"):
        tags_of("ws")
