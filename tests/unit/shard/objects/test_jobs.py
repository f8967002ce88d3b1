"""How each kind of work calls its handler. No loop: nothing here waits."""

from __future__ import annotations

import contextvars
from types import SimpleNamespace
from typing import Any

import pytest

from roost.common.wire.records import HttpRequest
from roost.shard import CloseEvent, DurableObject, ErrorEvent, MessageEvent, WebSocketProtocolError
from roost.shard.api.web_socket import WebSocket
from roost.shard.objects.request_jobs import RequestJob
from roost.shard.objects.sockets import Socket
from tests.unit.shard.harness import BareLife, socket_of
from tests.unit.shard.one_life import PEER, alive, closed, failed, message


def standard() -> tuple[Socket, WebSocket]:
    owner: Any = SimpleNamespace(standard=set(), activation=BareLife())
    socket = Socket(owner, hibernatable=False, ordinal=1)
    return socket, WebSocket.of(socket)


def test_hibernatable_events_go_to_the_class_handlers_in_either_spelling() -> None:
    activation, owner = alive()
    socket = socket_of()
    message(owner, socket).call(activation)
    closed(owner, socket, 1000, "bye").call(activation)
    handle = socket.live
    assert activation.instance.calls == [
        ("message", handle, "x"),
        ("close", handle, 1000, "bye", True, 2),
    ]
    assert socket.closed_by_client
    assert not socket.gone, "what is sent now still reaches the client"


@pytest.mark.parametrize(("closed_before", "state"), [(False, 2), (True, 3)])
def test_a_client_that_vanished_is_gone_before_the_handler_runs(closed_before: bool, state: int) -> None:
    activation, owner = alive()
    socket = socket_of()
    socket.closed_by_object = closed_before
    closed(owner, socket, 1006, "", clean=False).call(activation)
    assert activation.instance.calls == [("close", socket.live, 1006, "", False, state)]
    assert socket.gone


def test_a_failure_comes_as_an_error_that_says_what_the_client_was_told() -> None:
    activation, owner = alive()
    socket = socket_of()
    failed(owner, socket, 1002, "bad opcode").call(activation)
    ((_, _, error, state),) = activation.instance.calls
    assert isinstance(error, WebSocketProtocolError)
    assert (error.code, error.description, state) == (1002, "bad opcode", 2)
    assert "1002" in str(error)
    assert "bad opcode" in str(error)


def test_a_request_comes_with_its_headers_and_its_tasks_know_it() -> None:
    activation, owner = alive()
    record = HttpRequest(
        1,
        0,
        b"",
        "ns",
        "n",
        "POST",
        "http://h/ns/n?a=1&a=2",
        [(b"x-a", b"\xe9"), (b"x-a", b"2")],
        b"body",
    )
    asked = RequestJob(owner, PEER, record, 0)
    assert contextvars.copy_context().run(asked.call, activation) == "answer"
    ((_, request, within),) = activation.instance.calls
    assert within is asked
    assert (request.method, request.body, request.query.get_all("a")) == ("POST", b"body", ["1", "2"])
    assert request.headers.get_all("X-A") == ["é", "2"]


def test_without_handlers_events_are_dropped_but_leave_their_mark() -> None:
    class Silent(DurableObject): ...

    activation, owner = alive(Silent)
    socket = socket_of()
    assert message(owner, socket).call(activation) is None
    assert closed(owner, socket).call(activation) is None
    assert socket.closed_by_client
    assert failed(owner, socket).call(activation) is None
    assert socket.gone


# --- standard sockets ---------------------------------------------------------------------------------------------


def test_standard_events_go_to_the_listeners() -> None:
    activation, owner = alive()
    socket, handle = standard()
    events: list[Any] = []
    for kind in ("message", "close", "error"):
        handle.add_event_listener(kind, events.append)
    message(owner, socket, b"x").call(activation)
    closed(owner, socket, 4000, "bye").call(activation)
    assert events == [MessageEvent(b"x"), CloseEvent(4000, "bye", True)]
    assert owner.closes == [(socket, 4000, "bye")], "it answers by itself"
    assert socket.ready_state == 3
    failed(owner, socket, 1009, "too big").call(activation)
    assert isinstance(events[2], ErrorEvent)
    assert "too big" in events[2].message
    assert activation.instance.calls == []


def test_a_close_that_the_object_began_or_that_had_no_frame_is_not_answered() -> None:
    activation, owner = alive()
    socket, _ = standard()
    socket.closed_by_object = True
    closed(owner, socket).call(activation)
    other, _ = standard()
    held: Any = other.owner.standard
    held.add(other)
    closed(owner, other, 1006, clean=False).call(activation)
    assert owner.closes == []
    assert (socket.ready_state, other.ready_state) == (3, 1)
    held.remove(other)  # when its listeners have been told
    assert other.ready_state == 2


def test_several_listeners_are_told_one_after_the_other_whatever_one_raises() -> None:
    activation, owner = alive()
    socket, handle = standard()
    told: list[Any] = []
    wrong = ValueError("of the first")

    def raises(event: MessageEvent) -> None:
        raise wrong

    async def hears(event: MessageEvent) -> None:
        told.append(event)

    assert message(owner, socket).call(activation) is None
    handle.add_event_listener("message", lambda event: "one")
    assert message(owner, socket).call(activation) == "one"
    for listener in (raises, hears, told.append):
        handle.add_event_listener("message", listener)
    telling = message(owner, socket).call(activation)
    with pytest.raises(StopIteration):
        telling.send(None)
    assert told == [MessageEvent("x")] * 2
    assert owner.errors == [("noting/x message listener", wrong)]
