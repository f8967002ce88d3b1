"""The event listeners of a socket, by the rules of the DOM: each is called once for an event, in the order added.

One that is added again is not added twice. One that is removed while an event is told is not called any more; one that
is added meanwhile hears the next event.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol


class HandlesEvents(Protocol):
    """An object that listens."""

    def handle_event(self, event: Any, /) -> Any:
        """An event has come."""


class HandlesEventsInCamelCase(Protocol):
    """An object that listens, in the DOM's spelling."""

    def handleEvent(self, event: Any, /) -> Any:  # noqa: N802
        """An event has come."""


Listener = Callable[[Any], Any] | HandlesEvents | HandlesEventsInCamelCase
"""A function (sync or async) of the event, or an object with a method ``handle_event`` or ``handleEvent``."""

_METHODS = ("handle_event", "handleEvent")


class _Registered:
    """A listener that was added; call it with an event."""

    __slots__ = ("_listeners", "is_removed", "listener", "once")

    def __init__(self, listeners: list[_Registered], listener: Listener, once: bool) -> None:
        self._listeners = listeners
        self.listener = listener
        self.once = once
        self.is_removed = False

    def __call__(self, event: Any) -> Any:
        if self.is_removed:
            return None
        if self.once:
            self.remove()
        listener: Any = self.listener
        return (listener if callable(listener) else _method(listener))(event)

    def remove(self) -> None:
        self.is_removed = True
        self._listeners.remove(self)


def _method(listener: Any) -> Callable[[Any], Any]:
    for name in _METHODS:
        found = getattr(listener, name, None)
        if found is not None:
            return found  # type: ignore[no-any-return]
    raise TypeError(f"the listener {listener!r:.80} has no handle_event any more")


class Listeners:
    """The listeners of one socket."""

    __slots__ = ("_by_type",)

    def __init__(self) -> None:
        self._by_type: dict[str, list[_Registered]] = {}

    def add(self, event: str, listener: Listener, *, once: bool = False) -> None:
        """Add *listener* for the event of that name, unless it is there.

        Raises:
            TypeError: It can be called neither itself nor by ``handle_event``, or it is a generator, whose code a call
                does not run.
        """
        if not callable(listener) and not any(callable(getattr(listener, name, None)) for name in _METHODS):
            raise TypeError(f"a listener is a function, or has a method handle_event, got {listener!r:.80}")
        function: Any = listener if callable(listener) else _method(listener)
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"the listener {listener!r:.80} holds `yield`: to call it would run nothing of it")
        registered = self._by_type.setdefault(event, [])
        if not any(each.listener == listener for each in registered):
            registered.append(_Registered(registered, listener, once))

    def remove(self, event: str, listener: Listener) -> None:
        """Remove *listener*; nothing happens if it was not added."""
        for each in self._by_type.get(event, ()):
            if each.listener == listener:
                each.remove()
                return

    def of(self, event: str) -> list[Callable[[Any], Any]]:
        """Those that an event of that name is told to, in their order. Tell each."""
        return list(self._by_type.get(event, ()))
