"""The handlers of a class: how each may be spelt, and what a class may have got wrong about them.

A misspelt handler is a mistake that says nothing: the class loads, events come, and nobody is called. So names and
signatures are looked at when a class is loaded.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping

from ...common.errors import AppError
from ..api.durable_object import DurableObject

SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "fetch": ("fetch",),
    "web_socket_message": ("web_socket_message", "webSocketMessage"),
    "web_socket_close": ("web_socket_close", "webSocketClose"),
    "web_socket_error": ("web_socket_error", "webSocketError"),
}
"""Each handler and how a class may spell it."""

_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "fetch": ("request",),
    "web_socket_message": ("ws", "message"),
    "web_socket_close": ("ws", "code", "reason", "was_clean"),
    "web_socket_error": ("ws", "error"),
}

_ELSEWHERE: Mapping[str, str] = {
    "onfetch": "fetch",
    "handlefetch": "fetch",
    "request": "fetch",
    "onrequest": "fetch",
    "handlerequest": "fetch",
    "onmessage": "web_socket_message",
    "message": "web_socket_message",
    "handlemessage": "web_socket_message",
    "receivemessage": "web_socket_message",
    "messagehandler": "web_socket_message",
    "wsmessage": "web_socket_message",
    "onwebsocketmessage": "web_socket_message",
    "onclose": "web_socket_close",
    "ondisconnect": "web_socket_close",
    "disconnect": "web_socket_close",
    "handleclose": "web_socket_close",
    "wsclose": "web_socket_close",
    "websocketdisconnect": "web_socket_close",
    "onwebsocketclose": "web_socket_close",
    "onerror": "web_socket_error",
    "wserror": "web_socket_error",
    "handleerror": "web_socket_error",
    "onwebsocketerror": "web_socket_error",
}
"""What other libraries call such handlers, without case and underscores, and what they are called here."""

_ALIKE = 0.85
"""How alike two names must be for one to be taken for a slip of the other (difflib's ratio)."""


def names_of(cls: type[DurableObject]) -> dict[str, str | None]:
    """Which spelling of each handler *cls* has; ``None`` for one that it lacks.

    Raises:
        AppError: It has both spellings of one, or one that cannot be called, or a generator, whose code a call does
            not run; or its constructor is async.
    """
    if inspect.iscoroutinefunction(cls.__init__) or _is_generator(cls.__init__):
        raise AppError(
            f"__init__ of class {cls.__name__} is async, or holds `yield`: a constructor is neither. Load in a "
            "function of its own, `self.ctx.block_concurrency_while(self.load)`: events wait for it"
        )
    names: dict[str, str | None] = {}
    for handler, spellings in SPELLINGS.items():
        defined = [name for name in spellings if _is_its_own(cls, name)]
        if len(defined) > 1:
            raise AppError(f"class {cls.__name__} defines one handler twice, as {' and '.join(defined)}")
        if defined:
            function = getattr(cls, defined[0])
            if not callable(function):
                raise AppError(f"class {cls.__name__} has a {defined[0]} that cannot be called")
            if _is_generator(function):
                raise AppError(
                    f"{defined[0]} of class {cls.__name__} holds `yield`, which makes it a generator: a call would run "
                    "nothing of it. Take the `yield` out, or move it into a function that the handler loops over"
                )
        names[handler] = defined[0] if defined else None
    return names


def doubts(cls: type[DurableObject], names: Mapping[str, str | None]) -> Iterator[str]:
    """What is probably wrong with the handlers of *cls*: one sentence each, for the log.

    Args:
        cls: The class.
        names: Its handlers, by ``names_of``.
    """
    for handler, name in names.items():
        if name is not None and not _takes(cls, name, len(_ARGUMENTS[handler])):
            wanted = ", ".join(("self", *_ARGUMENTS[handler]))
            yield f"{name} of class {cls.__name__} must take ({wanted}): each call will fail"
    near = list(_near_misses(cls, names))
    for written, handler in near:
        meant = " or ".join(SPELLINGS[handler])
        yield f"roost never calls {written} of class {cls.__name__}: if it is meant as a handler, name it {meant}"
    if callable(getattr(cls, "alarm", None)):
        yield (
            f"roost never calls alarm of class {cls.__name__}: this version of roost has neither storage nor alarms; "
            "use a task, which keeps the object awake"
        )
    if not any(names.values()) and not near and cls.public is not False:
        yield f"class {cls.__name__} has no handler: each request gets 501; give it `async def fetch(self, request)`"


def near_miss(cls: type[DurableObject], names: Mapping[str, str | None], handler: str) -> str | None:
    """A method of *cls* that may have been meant for *handler*, which it lacks."""
    return next((written for written, meant in _near_misses(cls, names) if meant == handler), None)


def _is_generator(function: object) -> bool:
    return inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function)


def _is_its_own(cls: type[DurableObject], name: str) -> bool:
    """Whether *cls* has *name*, other than as ``DurableObject`` declares it."""
    found = getattr(cls, name, None)
    return found is not None and found is not getattr(DurableObject, name, None)


def _near_misses(cls: type[DurableObject], names: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    missing = {handler.replace("_", ""): handler for handler, name in names.items() if name is None}
    spelt = {name for spellings in SPELLINGS.values() for name in spellings}
    for name in dir(cls):
        if (
            name.startswith("_")
            or name in spelt
            or not callable(getattr(cls, name, None))
            or hasattr(DurableObject, name)
        ):
            continue
        bare = name.replace("_", "").lower()
        handler = missing.get(bare) or _ELSEWHERE.get(bare)
        if handler is None:
            close = difflib.get_close_matches(bare, missing, 1, _ALIKE)
            handler = missing[close[0]] if close else None
        if handler is not None and names[handler] is None:
            yield name, handler


def _takes(cls: type, name: str, count: int) -> bool:
    """Whether a method can be called with that many arguments beside ``self``; true if that cannot be told."""
    function = getattr(cls, name)
    binds_self = inspect.isfunction(function) and not isinstance(inspect.getattr_static(cls, name), staticmethod)
    try:
        inspect.signature(function).bind(*range(count + binds_self))
    except TypeError:
        return False
    except ValueError:
        pass  # of something without a signature
    return True
