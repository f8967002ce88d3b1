from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from roost.common.errors import AppError
from roost.shard import DurableObject
from roost.shard.objects.handlers import doubts, names_of, near_miss
from roost.shard.objects.loader import HostedClass


def class_with(*names: str, **attributes: Any) -> type[DurableObject]:
    """A class ``Room`` with methods of those names, and further attributes."""

    def method(self: Any, *arguments: Any) -> None: ...

    return type("Room", (DurableObject,), dict.fromkeys(names, method) | attributes)


def said(cls: type[DurableObject]) -> list[str]:
    return list(doubts(cls, names_of(cls)))


def test_what_the_base_declares_is_no_handler() -> None:
    assert set(names_of(DurableObject).values()) == {None}
    assert HostedClass(class_with("fetch")).bound(object(), "web_socket_message") is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("websocket_message", "web_socket_message"),
        ("webSocketmessage", "web_socket_message"),
        ("WebSocketMessage", "web_socket_message"),
        ("web_socket_mesage", "web_socket_message"),
        ("web_socket_messages", "web_socket_message"),
        ("on_message", "web_socket_message"),
        ("onMessage", "web_socket_message"),
        ("websocket_close", "web_socket_close"),
        ("web_socket_closed", "web_socket_close"),
        ("on_disconnect", "web_socket_close"),
        ("websocketerror", "web_socket_error"),
        ("on_error", "web_socket_error"),
        ("Fetch", "fetch"),
        ("feth", "fetch"),
        ("on_fetch", "fetch"),
    ],
)
def test_a_misspelt_handler_is_found(written: str, meant: str) -> None:
    cls = class_with(written, *({"fetch"} - {meant}))
    (sentence,) = said(cls)
    assert f"roost never calls {written} of class Room" in sentence
    assert meant in sentence
    assert near_miss(cls, names_of(cls), meant) == written


@pytest.mark.parametrize("name", ["fetch_all", "prefetch", "broadcast", "tell", "close", "message_of", "get_message"])
def test_other_methods_are_no_misspelt_handlers(name: str) -> None:
    assert said(class_with("web_socket_message", name, "fetch", "web_socket_close", "web_socket_error")) == []
    assert said(class_with("fetch", name)) == []


def test_a_helper_of_a_handler_that_is_there_is_none() -> None:
    assert said(class_with("fetch", "web_socket_message", "on_message", "_websocket_close")) == []


@pytest.mark.parametrize("name", ["fetch", "web_socket_message", "webSocketClose", "web_socket_error"])
def test_a_generator_is_refused(name: str) -> None:
    async def asynchronous(self: Any, *arguments: Any) -> Any:
        yield

    def synchronous(self: Any, *arguments: Any) -> Any:
        yield

    for function in (asynchronous, synchronous):
        with pytest.raises(AppError, match=rf"{name} of class Room.*yield"):
            names_of(class_with(**{name: function}))


def test_a_constructor_that_no_call_runs_is_refused() -> None:
    async def asynchronous(self: Any, ctx: Any, env: Any) -> None:
        """Would be a coroutine."""

    def generator(self: Any, ctx: Any, env: Any) -> Any:
        yield

    for function in (asynchronous, generator):
        with pytest.raises(AppError, match=r"__init__ of class Room is async, or holds `yield`"):
            names_of(class_with(__init__=function))


def test_a_handler_of_the_wrong_arguments_is_doubted() -> None:
    def fetch(self: Any) -> None: ...
    def web_socket_message(self: Any, message: str) -> None: ...
    def web_socket_close(self: Any, ws: Any, code: int, reason: str) -> None: ...

    sentences = said(class_with(fetch=fetch, web_socket_message=web_socket_message, web_socket_close=web_socket_close))
    assert [sentence.split()[0] for sentence in sentences] == ["fetch", "web_socket_message", "web_socket_close"]
    assert "(self, ws, code, reason, was_clean)" in sentences[2]


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        return function(*arguments, **options)

    return wrapper


def test_handlers_of_any_kind_that_take_their_arguments_are_not_doubted() -> None:
    class Room(DurableObject):
        @staticmethod
        def fetch(request: Any) -> Any: ...

        @classmethod
        def web_socket_message(cls, ws: Any, message: Any) -> Any: ...

        @decorated
        def web_socket_close(self, ws: Any, code: int, *rest: Any) -> Any: ...

        def web_socket_error(self, ws: Any, error: Any, more: int = 0) -> Any: ...

    assert said(Room) == []


def test_an_alarm_is_doubted() -> None:
    (sentence,) = said(class_with("fetch", "alarm"))
    assert "neither storage nor alarms" in sentence


def test_a_class_without_handlers_is_doubted() -> None:
    (sentence,) = said(class_with())
    assert "501" in sentence


def test_a_class_that_nobody_can_ask_needs_no_handler() -> None:
    assert said(class_with("helper", public=False)) == []
