"""What an object asks of its shard, and what its lives and its work ask of the object.

``Runtime`` is all that an object can reach of its shard, and ``Hosted`` all that a life and a job reach of an object:
the host and its objects lie above what uses them here, and nothing below knows them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from ...common.ids import ObjectId, Slot
from ...common.settings.shard import ShardConfig
from ..api.namespaces import Env
from ..api.unfinished import Unfinished
from ..counters import ShardCounters
from ..outgoing.flow import Flow
from ..outgoing.outbox import Outbox
from ..outgoing.output import Output
from ..running.own_loop import OwnLoop
from ..running.runner import Runner
from .arrivals import Arrivals
from .misuse import MisuseLog
from .numbers import Numbers
from .packages import Packages
from .sockets import RouterPeer, Socket
from .user_errors import UserErrors

O_contra = TypeVar("O_contra", contravariant=True)


class Closings(Protocol):
    """The lives that close."""

    def close(self, life: Any, how: Any) -> None:
        """*life* is over: let it go through all stages that are left."""
        ...

    def end(self, life: Any) -> None:
        """End the code of *life*, which is over; also of one that goes on in spite of that."""
        ...

    def look_at(self, life: Any) -> None:
        """A handler or a task of *life*, which is over, has ended."""
        ...

    def stop(self, life: Any) -> None:
        """None of the code of *life*, which is over, takes another step."""
        ...


class Runtime(Protocol[O_contra]):
    """A shard, as its objects see it.

    Attributes:
        is_closing: The shard ends.
    """

    is_closing: bool

    @property
    def config(self) -> ShardConfig: ...
    @property
    def counters(self) -> ShardCounters: ...
    @property
    def env(self) -> Env:
        """What objects get as ``self.env``."""
        ...

    @property
    def loop(self) -> OwnLoop: ...
    @property
    def numbers(self) -> Numbers: ...
    @property
    def errors(self) -> UserErrors: ...
    @property
    def misuse(self) -> MisuseLog: ...
    @property
    def runner(self) -> Runner[Any]:
        """Takes jobs through users' code."""
        ...

    @property
    def unfinished(self) -> Unfinished:
        """Notes the events that are at work while other code runs."""
        ...

    @property
    def closings(self) -> Closings: ...
    @property
    def output(self) -> Output[RouterPeer]:
        """Outboxes and acknowledgements, and the routers they go to."""
        ...

    @property
    def flow(self) -> Flow:
        """What is held for connections that are full."""
        ...

    @property
    def arrivals(self) -> Arrivals:
        """The bound of what has come and not ended."""
        ...

    @property
    def packages(self) -> Packages:
        """The bound of what sockets keep."""
        ...

    def holds(self, owner: O_contra, /) -> bool:
        """Whether the slot of *owner* does not deliver yet; if so, *owner* is told when it does (``pump``)."""
        ...

    def note_idle(self, owner: O_contra, /) -> None:
        """*owner* may have become idle: it falls asleep, or is forgotten, after a while; or moves, if it is to."""
        ...

    def note_busy(self, owner: O_contra, /) -> None:
        """*owner*, which moves, has something to do once more: it does not go before that has ended."""
        ...

    def note_dropped(self, job: Any, /) -> None:
        """The event of *job* is not acknowledged: the next owner of its object gets it."""
        ...


class HostedClass(Protocol):
    """The user's class."""

    @property
    def cls(self) -> type: ...
    @property
    def namespace(self) -> str: ...
    def near_miss(self, handler: str) -> str | None:
        """A method that may have been meant for *handler*, which the class lacks."""
        ...

    def bound(self, instance: Any, handler: str) -> Callable[..., Any] | None:
        """The handler of *instance*, ``None`` if its class has none."""
        ...


class Hosted(Protocol):
    """An object, as its lives and its work see it.

    Attributes:
        former: The life before, which has not closed yet: there is no next one before.
    """

    former: Any

    @property
    def runtime(self) -> Runtime[Any]: ...
    @property
    def object_id(self) -> ObjectId: ...
    @property
    def slot(self) -> Slot: ...
    @property
    def label(self) -> str:
        """The object for logs: namespace and name."""
        ...

    @property
    def hosted_class(self) -> HostedClass: ...
    @property
    def outbox(self) -> Outbox: ...
    @property
    def event_timeout_ms(self) -> int:
        """Milliseconds that a handler may take, 0 for no limit."""
        ...

    @property
    def leaving(self) -> bool:
        """It moves to another shard: nothing of it begins here any more."""
        ...

    # --- its work ---

    def finished(self, job: Any) -> None:
        """*job* has ended, in whatever way."""
        ...

    def take_back(self, job: Any) -> None:
        """*job* may not start now."""
        ...

    def pump(self) -> None:
        """Start what waits, as far as it may start."""
        ...

    # --- its lives ---

    def reset(self, failure: Any) -> None:
        """End this life and all sockets; *failure* is what the public hears."""
        ...

    def former_has_gone(self, life: Any) -> None:
        """*life* has closed: the next one may begin."""
        ...

    # --- its sockets ---

    def forget(self, socket: Socket) -> None:
        """Take *socket* out of every index."""
        ...

    def record_close(self, socket: Socket, code: int, reason: str) -> None:
        """Close a connection, behind what was sent to it."""
        ...

    def has_unreturned(self, job: Any, returned: Socket | None) -> bool:
        """Whether *job* has accepted a socket besides the one that it has *returned*."""
        ...

    def opened(self, socket: Socket, peer: RouterPeer, connection: int) -> None:
        """The 101 of *socket* is on its way: it is number *connection* at *peer*."""
        ...
