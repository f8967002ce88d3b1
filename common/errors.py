"""Every error that roost raises on purpose, in one tree.

::

    RoostError
    ├── StartupError                     a process cannot start; carries its exit code
    │   ├── ConfigError                  a setting is out of range or contradicts another
    │   ├── AppError                     the user's app does not import or its classes are not usable
    │   ├── PortTaken                    another program or cluster listens there
    │   ├── DescriptorsTooFew            the system's limit is below what was asked for
    │   ├── DataFolderInUse              another supervisor or member holds the lock
    │   └── UnsupportedSystem            this is not Linux 5.3 or newer, or it is not let use what roost needs of it
    ├── FolderTrouble                    the system does not let a process write just now: a restart may cure that
    ├── ThreadsTooFew                    the system does not let a process have its threads just now: the same
    ├── WireError                        bytes from another member that are no valid batch or record
    ├── DirectoryError                   the directory cannot be read or written
    │   └── DirectoryBusy                another process writes it just now
    ├── LinkBroken                       a session with another member cannot go on: this one must start anew
    ├── Expelled                         this member was taken off the map: it must end without another word
    ├── RequestError                     a client's request is at fault; carries the HTTP status
    │   ├── BadRequest                   400
    │   ├── UnknownNamespace             404
    │   ├── BodyTooLarge                 413
    │   ├── HeadTooLarge                 431
    │   └── Unavailable                  503
    └── ApiError                         the user's class called the API wrongly
        ├── AlreadyAccepted              a socket was accepted before, or its pair is used up
        ├── NotAccepted (TypeError)      send, close or get_tags before any accept
        ├── SocketClosed (TypeError)     send after the object's own close()
        ├── TooManyTags (ValueError)
        ├── TagTooLong (ValueError)
        ├── TooManyWebSockets            the object has 32,768 sockets
        ├── DataCloneError (TypeError)   a value that structured clone does not carry, or cannot read back
        ├── AttachmentTooLarge (ValueError)
        ├── PackagesFull                 all sockets of the process keep too much in tags and attachments
        ├── AutoResponseTooLong (ValueError)
        ├── EventTimeoutTooLong (ValueError)
        ├── InvalidCloseCode (ValueError)
        ├── InvalidCloseReason (ValueError)
        ├── InvalidResponse (ValueError) a status, header or socket that no Response may have
        ├── InvalidObjectId (ValueError) not an id, or an id of another namespace
        ├── OutboxFull                   the object has too much output on its way
        └── WrongThreadError (RuntimeError)   a call from another thread than the loop's

    LifeOver (BaseException)             the life of the object's instance that the caller belongs to is over
    ├── ObjectReset                      the object was reset: ``abort``, or its code failed
    └── ObjectGone                       the instance has left memory: the object slept, or moved to another process

The second tree is apart because it is no answer to a call but the end of the caller: ``except Exception`` must not keep
it from ending.

Each error keeps the facts as attributes and builds its message from them: what was wrong, the value, the limit.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import ClassVar

from .close_codes import HIGHEST, LOWEST, UNSENDABLE


class RoostError(Exception):
    """Base of all errors that roost raises on purpose."""


# --- starting a process -------------------------------------------------------------------------------------------


class StartupError(RoostError):
    """A process cannot start, and trying again would not help.

    Attributes:
        exit_code: What the process exits with; a supervisor that sees one of these stops instead of restarting.
    """

    exit_code = 70


class ConfigError(StartupError):
    """A setting is out of range or contradicts another."""

    exit_code = 71


class FolderTrouble(RoostError):
    """A lock, a folder or an address cannot be made, for a reason that passes: a disk that is full or read-only, no
    descriptor left. Whoever has served is started again."""

    PASSES: ClassVar = frozenset(
        (
            *(errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE),
            *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN),
        )
    )
    """The system's reasons that do."""

    @classmethod
    def or_else(cls, number: int | None, sentence: str, otherwise: type[StartupError]) -> RoostError:
        """The error for the system's error *number*: this one, or *otherwise* where nothing passes by itself."""
        return cls(sentence) if number in cls.PASSES else otherwise(sentence)


class ThreadsTooFew(RoostError):
    """A process cannot have the threads that it needs to begin with. Whoever has served is started again."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        super().__init__(
            f"{wanted} threads are needed, and fewer can be started here just now: raise the limit of processes "
            "(ulimit -u, pids.max of the cgroup) or of memory"
        )


class AppError(StartupError):
    """The user's app does not import, or one of its classes cannot be hosted."""

    exit_code = 72


class PortTaken(StartupError):
    """The public or admin port is in use."""

    exit_code = 73

    def __init__(self, host: str, port: int, detail: str) -> None:
        self.host, self.port = host, port
        super().__init__(f"port {port} on {host} is taken: {detail}")


class DescriptorsTooFew(StartupError):
    """The process may not open as many descriptors as were asked for."""

    exit_code = 74

    def __init__(self, wanted: int, limit: int) -> None:
        self.wanted, self.limit = wanted, limit
        super().__init__(
            f"{wanted} file descriptors are needed, but a process may open {limit} here: "
            f"raise the limit (ulimit -n, LimitNOFILE=) or ask for fewer connections or more routers"
        )


class DataFolderInUse(StartupError):
    """Another supervisor, or another process of the same member name, runs in this data folder."""

    exit_code = 75


class UnsupportedSystem(StartupError):
    """The system lacks what roost is built on."""

    exit_code = 76


STARTUP_EXIT_CODES = frozenset(
    error.exit_code
    for error in (
        StartupError,
        ConfigError,
        AppError,
        PortTaken,
        DescriptorsTooFew,
        DataFolderInUse,
        UnsupportedSystem,
    )
)
"""Exit codes that say "starting again will not help"."""


# --- between members ----------------------------------------------------------------------------------------------


class WireError(RoostError):
    """Bytes that are no valid batch or record. The sender is at fault: drop them, count them, never act on a part."""


class DirectoryError(RoostError):
    """The directory cannot be read or written."""


class DirectoryBusy(DirectoryError):
    """Another process holds the directory's lock: try again."""


class Expelled(RoostError):
    """This member was in the map and is not any more: the others hold it for dead, and may have taken its place.

    It must end at once and say nothing more to anybody.
    """

    def __init__(self, name: str, incarnation: int, map_version: int) -> None:
        self.name = name
        self.incarnation = incarnation
        self.map_version = map_version
        super().__init__(
            f"{name} (incarnation {incarnation}) is not in cluster map {map_version}: the others hold it for dead, and "
            "it ends"
        )


class LinkBroken(RoostError):
    """The session with a router was given up by one of its ends. Two incarnations have one session only: this shard
    ends, and starts anew as another one.
    """

    def __init__(self, router: str, reason: Exception) -> None:
        self.router = router
        super().__init__(f"the link to {router} is broken, this shard ends and starts anew: {reason}")


# --- clients' requests --------------------------------------------------------------------------------------------


class RequestError(RoostError):
    """A client's request is at fault.

    Attributes:
        status: The HTTP status to answer with; ``str(error)`` is the sentence for the body.
    """

    status = 400


class BadRequest(RequestError):
    """The request line, a header or the path is malformed."""


class UnknownNamespace(RequestError):
    """No class of that namespace is hosted here."""

    status = 404

    def __init__(self, namespace: str, known: Iterable[str]) -> None:
        self.namespace, self.known = namespace, tuple(sorted(known))
        super().__init__(f"there is no namespace {namespace!r} here; there are: {', '.join(self.known) or 'none'}")


class BodyTooLarge(RequestError):
    """The request's body is over the limit."""

    status = 413

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(
            f"the request's body is larger than {limit:,} bytes, which is the limit here: send less at once"
        )


class HeadTooLarge(RequestError):
    """The request line and headers are over the limit."""

    status = 431

    def __init__(self, limit: int, unit: str = "bytes") -> None:
        self.limit = limit
        super().__init__(
            f"the request's line and headers are larger than {limit:,} {unit}, the limit: send fewer or shorter "
            "headers (in a browser, delete this site's cookies)"
        )


class Unavailable(RequestError):
    """A bound is reached or no owner answers; the client may try again later."""

    status = 503


# --- the user's calls ---------------------------------------------------------------------------------------------


class ApiError(RoostError):
    """The user's class called the API wrongly; nothing was changed."""


class AlreadyAccepted(ApiError):
    """The socket was accepted before, or its pair has been used in a Response, or dropped."""


class NotAccepted(ApiError, TypeError):
    """The socket has not been accepted yet, or not in the way this call needs."""


class SocketClosed(ApiError, TypeError):
    """``send`` after the object's own ``close()``."""


class TooManyTags(ApiError, ValueError):
    """More distinct tags than a socket may have."""

    def __init__(self, count: int, limit: int) -> None:
        self.count = count
        self.limit = limit
        super().__init__(f"a hibernatable WebSocket can have at most {limit} tags, got {count} distinct ones")


class TagTooLong(ApiError, ValueError):
    """A tag over the limit, which is in characters."""

    def __init__(self, tag: str, limit: int) -> None:
        self.tag = tag
        self.limit = limit
        super().__init__(f"a tag can have at most {limit} characters, got {len(tag)}: {tag[:40]!r}…")


class TooManyWebSockets(ApiError):
    """The object holds as many sockets of a kind (``hibernatable`` or ``non-hibernatable``) as one object may."""

    def __init__(self, limit: int, kind: str) -> None:
        self.limit = limit
        self.kind = kind
        super().__init__(f"an object can hold at most {limit} {kind} WebSockets")


class DataCloneError(ApiError, TypeError):
    """A value that structured clone does not carry (functions, say), or bytes that it cannot read back."""


class AttachmentTooLarge(ApiError, ValueError):
    """An attachment over the limit, once serialised. Sizes are bytes."""

    def __init__(self, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(f"a WebSocket attachment can have at most {limit} bytes once serialised, got {size}")


class PackagesFull(ApiError):
    """All sockets of the object's process together keep as much in tags, attachments and URLs as they may. Sizes are
    bytes; *more* is what there is no room for."""

    def __init__(self, size: int, more: int, limit: int) -> None:
        self.size = size
        self.more = more
        self.limit = limit
        super().__init__(
            f"the sockets of this process keep {size} bytes in tags, attachments and URLs and may keep {limit}: there "
            f"is no room for {more} more"
        )


class AutoResponseTooLong(ApiError, ValueError):
    """The request or response (``part``) of an auto-response pair is over the limit. Sizes are characters."""

    def __init__(self, part: str, size: int, limit: int) -> None:
        self.part = part
        self.size = size
        self.limit = limit
        super().__init__(f"the {part} of an auto-response can have at most {limit} characters, got {size}")


class EventTimeoutTooLong(ApiError, ValueError):
    """An event timeout over the limit."""

    def __init__(self, value_ms: int, limit_ms: int) -> None:
        self.value_ms = value_ms
        self.limit_ms = limit_ms
        super().__init__(f"the event timeout can be at most {limit_ms} ms, got {value_ms}")


class InvalidCloseCode(ApiError, ValueError):
    """A close code that may not be sent (RFC 6455 7.4)."""

    def __init__(self, code: object) -> None:
        self.code = code
        *some, last = map(str, sorted(UNSENDABLE))
        rule = f"use {LOWEST} to {HIGHEST} except {', '.join(some)} and {last}"
        super().__init__(f"{code!r} cannot be sent as a close code: {rule}")


class InvalidCloseReason(ApiError, ValueError):
    """A close reason that may not be sent: too long, without a code, or not UTF-8."""


class InvalidResponse(ApiError, ValueError):
    """A status, header or socket that no Response may have."""


class InvalidObjectId(ApiError, ValueError):
    """Not an object id, or the id of an object in another namespace."""


class OutboxFull(ApiError):
    """Too much of the object's output, or of the large messages of all objects of its process, waits for its clients:
    await ``WebSocket.drain``, and send less. Sizes are bytes."""

    def __init__(self, size: int, limit: int, what: str = "the object has {size} bytes of output") -> None:
        self.size = size
        self.limit = limit
        super().__init__(f"{what.format(size=size)} on their way and may have {limit}")


class WrongThreadError(ApiError, RuntimeError):
    """A call from another thread than the one that the object's code runs on. Everything of ``ctx`` and WebSockets that
    acts raises it."""

    def __init__(self) -> None:
        super().__init__(
            "this was called from another thread than the loop's, where nothing of roost works: from a thread use "
            "loop.call_soon_threadsafe(function), or asyncio.run_coroutine_threadsafe(coroutine, loop) for a result"
        )


# --- the end of a life --------------------------------------------------------------------------------------------


class LifeOver(BaseException):
    """The life of the instance that this code belongs to is over: the code is to end, and has no effect any more.

    Like ``asyncio.CancelledError`` no ``Exception``: code that catches those must not go on beside the next life.
    """


class ObjectReset(LifeOver):
    """The object was reset: ``ctx.abort``, or its constructor or ``ctx.block_concurrency_while`` failed.

    Everything of ``ctx`` and WebSockets that acts raises this in code of the life that has ended.
    """


class ObjectGone(LifeOver):
    """The instance has left memory since: its object fell asleep, or moved to another process.

    Everything of ``ctx`` and WebSockets that acts raises this in code of the life that has ended, and in processes that
    the object's code has forked.
    """
