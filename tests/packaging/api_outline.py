"""What stands in ``deploy/docs/api.md`` beside the docstrings: the order of its sections, and the table of limits."""

from __future__ import annotations

from dataclasses import dataclass

from roost.common import limits
from roost.shard.api.json_text import MAX_DEPTH as JSON_DEPTH
from roost.shard.api.structured_clone import MAX_DEPTH as ATTACHMENT_DEPTH
from roost.shard.objects.activation import BLOCK_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Shown:
    """A class on the page.

    Attributes:
        name: Its name in ``roost``.
        receiver: What stands in front of its members: what an instance is called, or the class.
        made_by_users: Whether its constructor is shown.
        is_extended: Whether its functions are defined by users, not called.
    """

    name: str
    receiver: str
    made_by_users: bool = False
    is_extended: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: its heading, what it begins with, and the classes in it."""

    title: str
    opening: str
    classes: tuple[Shown, ...] = ()


@dataclass(frozen=True, slots=True)
class Limit:
    """A row of the table of limits.

    Attributes:
        what: What is limited.
        value: How much it may be, in *unit*.
        unit: ``bytes``, ``s``, or a noun.
        beyond: What follows when there is more.
        setting: The setting that changes it, behind whose it is: ``router``, ``shard``, or ``up`` for an option of
            ``roost up``; empty when nothing does.
    """

    what: str
    value: float
    unit: str
    beyond: str
    setting: str = ""


OPENING = """\
Everything here is imported from `roost`:

```python
from roost import DurableObject, Request, Response, WebSocket, WebSocketPair
```

What to know before is in [writing objects](writing-objects.md); this page is for looking things up.

* **Two spellings.** The interface is that of Durable Objects. Each name that comes from there works in snake_case and
  as it is spelt there, in camelCase: `ctx.accept_web_socket` and `ctx.acceptWebSocket` are the same function. A class
  spells each of its handlers in one way or the other. Arguments have both spellings as well, where there are two.
  [How each documented behaviour is covered](conformance.md) tells where roost differs.
* **To await or not.** What acts at once and gives nothing (`ws.send`, `ws.close`, `ctx.accept_web_socket` …) may be
  awaited all the same, which waits for nothing. What gives a value at once takes no `await`.
* **One thread, one life.** `ctx` and WebSockets work on the thread of the event loop, for as long as the instance
  that got them is in memory. Everything of theirs that acts raises [`WrongThreadError`](#wrongthreaderror) on another
  thread, and [`ObjectReset`](#objectreset) or [`ObjectGone`](#objectgone) after that life; the entries below do not
  repeat it.
* **Units** stand beside each number. Characters are those of a `str`. Text goes out as UTF-8, so whatever takes text
  raises `UnicodeEncodeError` for a lone surrogate, which UTF-8 does not have.
* **A refused call changes nothing**, unless its entry says otherwise.
"""

SECTIONS = (
    Section(
        "The class",
        "What a file of yours defines, and roost hosts under its name ([which classes are hosted]"
        "(writing-objects.md#which-classes-are-hosted)).",
        (Shown("DurableObject", "DurableObject", is_extended=True),),
    ),
    Section(
        "The runtime: `ctx`",
        "",
        (Shown("DurableObjectState", "ctx"), Shown("WebSocketRequestResponsePair", "pair", made_by_users=True)),
    ),
    Section(
        "Sockets",
        "",
        (
            Shown("WebSocketPair", "pair", made_by_users=True),
            Shown("WebSocket", "ws"),
            Shown("MessageEvent", "event"),
            Shown("CloseEvent", "event"),
            Shown("ErrorEvent", "event"),
            Shown("WebSocketProtocolError", "error"),
        ),
    ),
    Section(
        "Requests and responses",
        "",
        (
            Shown("Request", "request", made_by_users=True),
            Shown("Response", "response", made_by_users=True),
            Shown("Headers", "headers", made_by_users=True),
            Shown("Query", "query"),
        ),
    ),
    Section(
        "Namespaces and ids: `env`",
        "",
        (
            Shown("Env", "env"),
            Shown("DurableObjectNamespace", "env.CHAT_ROOM"),
            Shown("DurableObjectId", "id"),
        ),
    ),
)

TYPES = {
    "Sendable": "roost.shard.api.web_socket",
    "EventType": "roost.shard.api.web_socket",
    "Listener": "roost.shard.api.listeners",
    "HeaderFields": "roost.shard.api.request",
}
"""Names of types in the signatures, which nobody needs to import, and the modules that define them."""

INTERNAL = {
    "DurableObjectId": {"raw"},
    "DurableObjectNamespace": {"namespace"},
    "WebSocket": {"bind", "check_acceptable", "is_server_end", "mark_used", "of", "other", "socket", "used"}
    | {"has_listeners", "listeners"},
}
"""What other modules of roost use of these classes, and users have no use for."""

ERRORS = """\
Errors that roost raises on purpose are a [`RoostError`](#roosterror), and most of them a built-in error as well, so
that `except ValueError` does what it says. Each has the facts as attributes, and a text that names the value and the
limit.

Two are apart: [`ObjectReset`](#objectreset) and [`ObjectGone`](#objectgone) end code whose object has begun another
life meanwhile. They are a `BaseException`, as `asyncio.CancelledError` is, so that `except Exception` does not keep
that code going.

What an object's code raises and does not catch hurts no other object. A request is answered with 500 and an error id,
under which the log has the rest; after any other event the log says it, and socket and object go on.
"""

LIMITS_OPENING = """\
A setting is given as `deploy/up app.py --set router.max_message_bytes=1048576`, or as an option of `deploy/up`; without
one the limit is fixed.
"""

LIMITS = (
    Limit(
        "WebSockets of an object: hibernatable ones, and as many accepted with `accept()`",
        limits.MAX_WEBSOCKETS_PER_OBJECT,
        "sockets",
        "`TooManyWebSockets`",
    ),
    Limit("tags of a socket", limits.MAX_TAGS, "distinct tags", "`TooManyTags`"),
    Limit("a tag", limits.MAX_TAG_CHARS, "characters", "`TagTooLong`"),
    Limit(
        "an attachment, serialised",
        limits.MAX_ATTACHMENT_BYTES,
        "bytes",
        "`AttachmentTooLarge`",
        "shard.max_attachment_bytes",
    ),
    Limit(
        "request and response of an auto-response, each",
        limits.MAX_AUTO_RESPONSE_CHARS,
        "characters",
        "`AutoResponseTooLong`",
    ),
    Limit("levels of an attachment, one within the other", ATTACHMENT_DEPTH, "levels", "`DataCloneError`"),
    Limit("levels of a value that is written as JSON", JSON_DEPTH, "levels", "`ValueError`"),
    Limit("the event timeout", limits.MAX_EVENT_TIMEOUT_MS, "ms", "`EventTimeoutTooLong`"),
    Limit("the reason of a close", limits.MAX_CLOSE_REASON_BYTES, "bytes", "`InvalidCloseReason`"),
    Limit("an object's name", limits.MAX_NAME_CHARS, "characters", "`ValueError`; a request is answered with 400"),
    Limit("a message to a client", limits.MAX_PAYLOAD_BYTES, "bytes", "`ApiError`"),
    Limit(
        "a message from a client, all fragments, inflated",
        limits.MAX_MESSAGE_BYTES,
        "bytes",
        "the client is closed with 1009, and `web_socket_error` called",
        "router.max_message_bytes",
    ),
    Limit("the body of a response", limits.MAX_PAYLOAD_BYTES, "bytes", "`InvalidResponse`"),
    Limit("the headers of a response", limits.MAX_HEAD_BYTES, "bytes", "`InvalidResponse`"),
    Limit("the body of a request", limits.MAX_BODY_BYTES, "bytes", "413", "router.max_body_bytes"),
    Limit("the line and headers of a request", limits.MAX_HEAD_BYTES, "bytes", "431"),
    Limit("header fields of a request", limits.MAX_HEADER_FIELDS, "fields", "431"),
    Limit("path and query of a request", limits.MAX_TARGET_BYTES, "bytes", "414"),
    Limit("fields of a query", limits.MAX_QUERY_FIELDS, "fields", "414"),
    Limit("output of an object that has not left its process", limits.OUTBOX_BYTES, "bytes", "`OutboxFull`"),
    Limit(
        "messages of 256 KiB or more of all objects of a process that are held or on their way, beside one of any size",
        limits.SHARD_HELD_BYTES,
        "bytes",
        "`OutboxFull`",
        "shard.all_held_bytes",
    ),
    Limit(
        "tags, attachments and URLs that all sockets of a process keep",
        limits.SHARD_PACKAGES_BYTES,
        "bytes",
        "`PackagesFull`",
        "shard.all_attachments_bytes",
    ),
    Limit(
        "messages and requests that all objects of a process have and that have not ended",
        limits.SHARD_EVENTS_BYTES,
        "bytes",
        "503 for requests of more than 64 KiB; clients of objects with more than a share are not read",
        "shard.all_events_bytes",
    ),
    Limit(
        "time for which a client takes nothing of what waits for it",
        limits.STALL_TIMEOUT_S,
        "s",
        "it is closed with 1013",
        "router.stall_timeout_s",
    ),
    Limit(
        "events of an object that have come and not ended",
        limits.MAILBOX_EVENTS,
        "events",
        "its clients are not read from until half of them have ended; the same beyond "
        f"{limits.MAILBOX_BYTES >> 20} MiB of them",
    ),
    Limit(
        "time to answer the handshake of a WebSocket",
        limits.HANDSHAKE_TIMEOUT_S,
        "s",
        "503",
        "router.handshake_timeout_s",
    ),
    Limit(
        "time for `web_socket_close` and `web_socket_error` before the client is answered, and for a client to answer "
        "`close`",
        limits.CLOSE_TIMEOUT_S,
        "s",
        "the client is answered without the handler, which goes on; a client that does not answer is disconnected",
        "router.close_timeout_s",
    ),
    Limit(
        "time for which code holds the event loop without awaiting",
        limits.STALL_KILL_S,
        "s",
        "the process of the shard is killed and started again; after "
        f"{limits.BLOCKED_LOOP_REPORT_S:g} s the log says who holds it",
        "up.stall_kill",
    ),
    Limit("time for the callback of `block_concurrency_while`", BLOCK_TIMEOUT_S, "s", "the object is reset"),
    Limit(
        "time without anything to do",
        limits.HIBERNATE_AFTER_S,
        "s",
        "the object leaves memory; its hibernatable sockets stay open",
        "up.hibernate_after",
    ),
    Limit(
        "time that handlers have to end when their object moves to another shard",
        limits.MOVE_HANDLERS_S,
        "s",
        "they are cancelled",
        "shard.move_timeout_s",
    ),
)
