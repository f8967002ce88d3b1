"""Silent misuse: what goes wrong without an exception, and what to do instead.

Each mistake is said once for each class and process in the log, with the object in which it was seen. In development
the answer to the request says it, too.
"""

from __future__ import annotations

import logging
import re
from enum import Enum
from typing import Protocol

from ..api.namespaces import DurableObjectNamespace
from ..api.web_socket import DONE, WebSocket
from ..running.failures import in_words

log = logging.getLogger("roost.shard")

SLOW_FETCH_S = 5.0
"""Seconds after which a ``fetch`` that has not ended is one that perhaps never will."""


class Mistake(Enum):
    """What was seen, and the remedy."""

    SERVER_END_RETURNED = (
        "fetch returned the server end of its WebSocketPair, and the connection ends: keep the server end and return "
        "the other one, `client, server = WebSocketPair()` … `return Response(status=101, web_socket=client)`"
    )
    CLIENT_END_ACCEPTED = (
        "fetch accepted the client end of its WebSocketPair, and the connection ends: accept the server end, "
        "`client, server = WebSocketPair()`, `self.ctx.accept_web_socket(server)`"
    )
    NOT_ACCEPTED = (
        "fetch returned a WebSocket whose other end it has not accepted: the client is connected, and what it says "
        "goes nowhere. Call `self.ctx.accept_web_socket(server)` before"
    )
    NOT_RETURNED = (
        "fetch accepted a WebSocket and did not return it: the socket is dropped (1006). "
        "`return Response(status=101, web_socket=client)`, with the other end of the same pair"
    )
    SLOW_FETCH = (
        f"fetch has not ended after {SLOW_FETCH_S:g} s, and its client waits: if it waits for what comes later, let it "
        "return, and go on in a task or in web_socket_message"
    )
    NO_FETCH = (
        "the class has no fetch, so that requests and WebSockets get 501: give it `async def fetch(self, request)`"
    )
    NO_MESSAGE_HANDLER = (
        "a message came, and the class has no web_socket_message: messages are dropped. "
        "Give it `async def web_socket_message(self, ws, message)`"
    )
    NO_LISTENER = (
        "a message came for a WebSocket that was accepted with accept() and has no listener, and is dropped. Either "
        '`ws.add_event_listener("message", …)`, or accept it with `self.ctx.accept_web_socket(ws)`: then messages '
        "go to web_socket_message"
    )
    LISTENS_IN_VAIN = (
        "a WebSocket that was accepted with accept_web_socket has listeners, which are never called: its events go to "
        "web_socket_message, web_socket_close and web_socket_error of the class"
    )


_HANDLERS = {Mistake.NO_FETCH: "fetch", Mistake.NO_MESSAGE_HANDLER: "web_socket_message"}


class HostedClass(Protocol):
    """A class that is hosted."""

    @property
    def namespace(self) -> str: ...
    def near_miss(self, handler: str) -> str | None:
        """A method that may have been meant as *handler*."""
        ...


class Mistaken(Protocol):
    """An object whose code is mistaken."""

    @property
    def label(self) -> str: ...
    @property
    def hosted_class(self) -> HostedClass: ...


class MisuseLog:
    """Says each mistake of each class once."""

    __slots__ = ("_said",)

    def __init__(self) -> None:
        self._said: set[tuple[str, Mistake]] = set()

    def note(self, owner: Mistaken, mistake: Mistake) -> str:
        """*owner* has made *mistake*; returns the sentence for the answer in development."""
        hosted = owner.hosted_class
        sentence = mistake.value
        near = hosted.near_miss(_HANDLERS[mistake]) if mistake in _HANDLERS else None
        if near is not None:
            sentence += f"; or rename its {near}, which roost never calls, to {_HANDLERS[mistake]}"
        key = (hosted.namespace, mistake)
        if key not in self._said:
            self._said.add(key)
            log.warning("%s: %s (said once for each class)", owner.label, sentence)
        return sentence


# --- exceptions whose own words do not help -----------------------------------------------------------------------

_NOT_AWAITABLE = re.compile(r"object (\w+) can't be used in 'await' expression")
_ELSEWHERE = {
    "send_text": "use send(text)",
    "send_bytes": "use send(data)",
    "send_str": "use send(text)",
    "send_json": "use send(value), which writes a dict or list as JSON",
    "receive": "messages come to web_socket_message(self, ws, message)",
    "receive_text": "messages come to web_socket_message(self, ws, message)",
    "receive_bytes": "messages come to web_socket_message(self, ws, message)",
    "receive_json": "messages come to web_socket_message(self, ws, message)",
    "recv": "messages come to web_socket_message(self, ws, message)",
}
"""What the sockets of other libraries have, and what there is here."""


def add_hint(error: BaseException) -> None:
    """Add to *error* what its author is likely to have meant, as a note that tracebacks show."""
    if type(error) not in (TypeError, AttributeError):
        return  # also one of a class of the user's, to ask which could raise anything
    hint = _hint(error)
    if hint is not None:
        notes = getattr(error, "__notes__", [])
        if type(notes) is list and not any(type(note) is str and note == hint for note in notes):
            error.add_note(hint)


def _hint(error: BaseException) -> str | None:
    if type(error) is TypeError:
        words = in_words(error)
        found = _NOT_AWAITABLE.search(words)
        if found:
            return (
                f"hint: what was awaited had its result, a {found[1]}, already. request.json(), request.text() and the "
                "calls of ctx give theirs at once: take the `await` away"
            )
        if words == f"a coroutine was expected, got {DONE!r}":
            return "hint: send(), close() and their like have acted already when they return: they need no task"
    if type(error) is AttributeError:
        of = type(error.obj)
        if of is WebSocket and type(error.name) is str and error.name in _ELSEWHERE:
            return f"hint: a WebSocket of roost has no {error.name}: {_ELSEWHERE[error.name]}"
        if of is DurableObjectNamespace:
            return "hint: a namespace makes ids: id_from_name(name), id_from_string(text), new_unique_id()"
    return None
