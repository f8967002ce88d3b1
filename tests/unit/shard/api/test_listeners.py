from __future__ import annotations

import functools
from typing import Any

import pytest

from roost.shard.api.listeners import Listeners


class Ear:
    """Listens by methods."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def hear(self, event: Any) -> None:
        self.heard.append(event)


class Handles(Ear):
    def handle_event(self, event: Any) -> None:
        self.heard.append(event)


class HandlesInCamelCase(Ear):
    def handleEvent(self, event: Any) -> None:  # noqa: N802
        self.heard.append(event)


def tell(listeners: Listeners, event: Any, kind: str = "message") -> None:
    for listener in listeners.of(kind):
        listener(event)


def test_listeners_are_called_in_the_order_added() -> None:
    listeners, heard = Listeners(), []
    for name in "abc":
        listeners.add("message", lambda event, name=name: heard.append(name + event))
    tell(listeners, "1")
    assert heard == ["a1", "b1", "c1"]


def test_a_listener_that_is_added_twice_is_called_once() -> None:
    listeners, ear, handles = Listeners(), Ear(), Handles()
    for _ in range(2):
        listeners.add("message", ear.hear)  # a new bound method each time
        listeners.add("message", handles)
    listeners.add("close", ear.hear)
    tell(listeners, 1)
    assert (ear.heard, handles.heard) == ([1], [1])
    tell(listeners, 2, "close")
    assert ear.heard == [1, 2]


def test_two_equal_functions_are_two_listeners() -> None:
    listeners, ear = Listeners(), Ear()
    listeners.add("message", functools.partial(ear.hear))
    listeners.add("message", functools.partial(ear.hear))
    tell(listeners, 1)
    assert ear.heard == [1, 1]


def test_once() -> None:
    listeners, ear = Listeners(), Ear()
    listeners.add("message", ear.hear, once=True)
    tell(listeners, 1)
    tell(listeners, 2)
    assert ear.heard == [1]
    listeners.add("message", ear.hear)
    tell(listeners, 3)
    assert ear.heard == [1, 3]


def test_one_that_is_removed_while_an_event_is_told_does_not_hear_it() -> None:
    listeners, ear = Listeners(), Ear()
    listeners.add("message", lambda event: listeners.remove("message", ear.hear))
    listeners.add("message", ear.hear)
    tell(listeners, 1)
    assert ear.heard == []
    listeners.remove("message", ear.hear)  # not there any more


def test_one_that_is_added_while_an_event_is_told_hears_the_next() -> None:
    listeners, ear = Listeners(), Ear()
    listeners.add("message", lambda event: listeners.add("message", ear.hear))
    tell(listeners, 1)
    tell(listeners, 2)
    assert ear.heard == [2]


@pytest.mark.parametrize("kind", [Handles, HandlesInCamelCase])
def test_objects_that_listen(kind: type[Ear]) -> None:
    listeners, ear = Listeners(), kind()
    listeners.add("message", ear)  # type: ignore[arg-type]
    tell(listeners, 1)
    assert ear.heard == [1]


async def async_generator(event: Any) -> Any:
    yield event


def generator(event: Any) -> Any:
    yield event


@pytest.mark.parametrize("listener", [None, "on_message", Ear(), generator, async_generator])
def test_what_cannot_listen_is_refused(listener: Any) -> None:
    with pytest.raises(TypeError):
        Listeners().add("message", listener)
