"""What the API asks of the runtime: handles of their sockets, and ``ctx`` of its object.

The API knows these protocols and nothing behind them, so that what an object's code can reach is written down here.
*H* is the handle that users have: ``WebSocket``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn, Protocol, TypeVar, cast

from ...common.errors import ApiError
from ...common.ids import ObjectId
from ..outgoing.backlog import Backlog
from ..outgoing.outbox import Outbox
from ..outgoing.peers import Peer
from .current import current
from .life import Life

H = TypeVar("H")
T = TypeVar("T")


class SocketPort(Protocol[H]):
    """The package of an accepted socket; ``Socket`` says what its fields mean.

    Attributes:
        live: The handle, while the object is awake.
    """

    live: H | None
    attachment: bytes | None
    closed_by_object: bool

    @property
    def owner(self) -> ObjectPort[H]: ...
    @property
    def peer(self) -> Peer | None: ...
    @property
    def counter(self) -> int: ...
    @property
    def ordinal(self) -> int:
        """Its place in the order of accepts."""
        ...

    @property
    def hibernatable(self) -> bool: ...
    @property
    def held(self) -> Backlog | None: ...
    @property
    def gone(self) -> bool: ...
    @property
    def tags(self) -> tuple[str, ...]: ...
    @property
    def url(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    @property
    def auto_response_time(self) -> float | None: ...
    @property
    def is_local(self) -> bool:
        """Its other end is used inside the object, too: there is no client."""
        ...

    @property
    def ready_state(self) -> int:
        """1 open, 2 closing, 3 closed."""
        ...

    def pass_message(self, message: str | bytes) -> None:
        """Give *message* to the other end; only when it ``is_local``.

        Raises:
            OutboxFull: 64 MiB of events of the object have not ended.
        """
        ...

    def record_close(self, code: int, reason: str) -> None:
        """Close behind what was sent."""
        ...

    def record_attachment(self, data: bytes) -> None:
        """Keep an attachment in the connection's passport."""
        ...

    def check_package(self, more: int) -> None:
        """Raises:
        PackagesFull: There is no room for *more* bytes of its attachment.
        """
        ...

    def grow_package(self, more: int) -> None:
        """Its attachment has *more* bytes than before."""
        ...

    def drained(self) -> Coroutine[Any, Any, None]:
        """Wait until nothing that was sent to it is here any more."""
        ...


class SocketList(Protocol[H]):
    """The hibernatable sockets of an object."""

    def newest_first(self) -> list[H]: ...
    def tagged(self, tag: str) -> list[H]:
        """Those with *tag*, oldest first."""
        ...


class ObjectPort(Protocol[H]):
    """An object, as its own code sees it."""

    @property
    def object_id(self) -> ObjectId: ...
    @property
    def name(self) -> str: ...
    @property
    def activation(self) -> Life | None:
        """The life of its instance; ``None`` while it sleeps."""
        ...

    @property
    def outbox(self) -> Outbox: ...
    @property
    def sockets(self) -> SocketList[H]: ...
    @property
    def max_attachment_bytes(self) -> int:
        """Bytes that a serialised attachment may have."""
        ...

    @property
    def auto_response(self) -> tuple[str, str] | None:
        """Request and response of the auto-response; ``None`` when unset."""
        ...

    @property
    def event_timeout_ms(self) -> int:
        """Milliseconds that a handler may take; 0 for no limit."""
        ...

    def accept_hibernatable(self, handle: H, tags: tuple[str, ...]) -> None: ...
    def accept_standard(self, handle: H) -> None: ...
    def listens_in_vain(self) -> None:
        """A listener was added to a socket whose events go to the class's handlers."""
        ...

    def set_auto_response(self, pair: tuple[str, str] | None) -> None: ...
    def set_event_timeout(self, timeout_ms: int) -> None: ...
    def wait_until(self, awaitable: Awaitable[Any]) -> None: ...
    def block_concurrency_while(self, callback: Callable[[], Awaitable[T]]) -> asyncio.Future[T]: ...
    def abort(self, reason: str | None) -> NoReturn: ...


def current_object() -> ObjectPort[Any]:
    """The object whose code runs.

    Raises:
        ApiError: None does: the call was made outside a handler and the tasks it started.
        WrongThreadError: The call was made on another thread.
        LifeOver: The life of the object that the code belongs to is over.
    """
    life = current.get()
    if life is None:
        raise ApiError("this can only be called by an object's own code: in a handler, or a task that one started")
    life.check()
    return cast("ObjectPort[Any]", life.owner)  # lives know nothing of objects
