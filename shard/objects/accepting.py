"""Accepting sockets: the server end of a pair becomes the object's, for good (hibernatable) or for this life.

It has no connection yet: what is sent waits in its backlog, until the client end is returned in a Response and the 101
is on its way. Who does not return it loses it (``unreturned``). Accepting the second end of a pair joins both
(``pairs``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ...common.errors import TooManyWebSockets
from ...common.limits import MAX_WEBSOCKETS_PER_OBJECT
from ..outgoing.backlog import Backlog
from ..stack import enough_stack
from . import pairs
from .misuse import Mistake
from .packages import size_of
from .request_jobs import request_job
from .runtime import Hosted
from .sockets import Socket, Sockets
from .unreturned import Unreturned

if TYPE_CHECKING:
    from ..api.web_socket import WebSocket
    from .jobs import Job


class Accepting(Hosted, pairs.PairOwner, Protocol):
    """An object that accepts sockets.

    Attributes:
        standard: Its sockets accepted with ``accept()``; made when needed.
        unreturned: Accepted sockets whose client end has not been returned; made when needed.
    """

    standard: set[Socket] | None
    unreturned: Unreturned[Socket] | None

    @property
    def sockets(self) -> Sockets:
        """Its hibernatable sockets."""
        ...

    def drop_unreturned(self) -> None:
        """Sockets whose client end was in no Response by the end of the event that accepted them are gone."""
        ...


def accept_hibernatable(owner: Accepting, handle: WebSocket, tags: tuple[str, ...]) -> None:
    """Accept the server end of a pair for hibernation.

    Raises:
        TooManyWebSockets: The object has 32,768.
        PackagesFull: All sockets of the shard keep too much in tags, attachments and URLs.
    """
    runtime = owner.runtime
    _check_room(owner, len(owner.sockets), "hibernatable")
    job = _event_of(owner)
    takes = size_of(tags, "" if job is None else job.url, handle.early_attachment)
    runtime.packages.check(takes)
    enough_stack()
    socket = _accept(owner, handle, job, hibernatable=True, tags=tags)
    owner.sockets.add(socket)
    runtime.packages.change(socket, takes)
    if handle.has_listeners:
        runtime.misuse.note(owner, Mistake.LISTENS_IN_VAIN)


def accept_standard(owner: Accepting, handle: WebSocket) -> None:
    """Accept the server end of a pair for this life of the instance.

    Raises:
        AlreadyAccepted: It was accepted or returned before.
        TooManyWebSockets: The object has 32,768.
    """
    handle.check_acceptable(hibernatable=False)
    enough_stack()
    if owner.standard is None:
        owner.standard = set()
    _check_room(owner, len(owner.standard), "non-hibernatable")
    socket = _accept(owner, handle, _event_of(owner), hibernatable=False)
    owner.standard.add(socket)
    other = None if handle.other is None else handle.other.socket
    if other is not None:
        assert isinstance(other, Socket)
        pairs.join(owner, socket, other)


def _check_room(owner: Accepting, held: int, kind: str) -> None:
    if held >= MAX_WEBSOCKETS_PER_OBJECT:
        owner.runtime.counters.sockets_refused += 1
        raise TooManyWebSockets(MAX_WEBSOCKETS_PER_OBJECT, kind)


def _event_of(owner: Accepting) -> Job | None:
    """The event in whose handling a socket is accepted; ``None`` if it is code of no event."""
    job: Job | None = owner.runtime.runner.running or request_job.get()
    return None if job is None or job.owner is not owner or job.has_ended else job


def _accept(
    owner: Accepting, handle: WebSocket, job: Job | None, *, hibernatable: bool, tags: tuple[str, ...] = ()
) -> Socket:
    ordinal = owner.runtime.numbers.next_ordinal()
    socket = Socket(owner, hibernatable=hibernatable, ordinal=ordinal, tags=tags)
    socket.held = Backlog(owner.outbox)
    handle.bind(socket)
    if owner.unreturned is None:
        owner.unreturned = Unreturned()
    owner.unreturned.add(socket, job)
    if job is None and not owner.unfinished:
        owner.runtime.loop.call_soon(owner.drop_unreturned)  # no event ends, at whose end there would be a look
    return socket
