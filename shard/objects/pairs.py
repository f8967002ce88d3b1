"""Pairs whose two ends are both used inside the object: what one end says the other hears, in memory.

A pair becomes **local** when its second end is accepted: the client end with ``accept()`` (it has no network connection
then, and cannot go into a Response any more), the server end in either way. From then on each end's package refers to
the other's, its ``mate``; no router knows of either. What was sent before waits in ``held`` and is passed on with that.

The rules are those of a network connection: messages arrive in their order, each as an event of its own, after the
handler that has sent them has given up control. ``close()`` of one end is the other's close event, with its code and
reason, clean. A standard end answers it by itself. A hibernatable one has its ``web_socket_close``, after which it is
answered with the same code, unless the handler has closed. The answer is the close event of the end that closed first.

The ends live and die with the instance, which they keep in memory: a local client end is a socket of ``accept()``.
"""

from __future__ import annotations

import time
from typing import Protocol

from ...common.errors import OutboxFull
from ...common.limits import OUTBOX_BYTES
from ..outgoing.backlog import Close
from ..stack import enough_stack
from .sockets import Socket

JOB_COST = 512
"""Bytes that an event takes beside its payload, about: millions of tiny messages cost memory, too."""


class PairOwner(Protocol):
    """The object that uses both ends."""

    @property
    def auto_response(self) -> tuple[str, str] | None: ...
    @property
    def unfinished(self) -> int:
        """Events that have come and not ended."""
        ...

    @property
    def unfinished_bytes(self) -> int:
        """Their payload."""
        ...

    def returned(self, socket: Socket) -> None:
        """Nobody has to return the client end of *socket* any more."""
        ...

    def hear(self, socket: Socket, message: str | bytes) -> None:
        """An event for *socket*: the other end has sent *message*."""
        ...

    def hear_close(self, socket: Socket, code: int, reason: str) -> None:
        """An event for *socket*: the other end has closed. One that is hibernatable has ``CLOSE_TIMEOUT_S`` to answer,
        before ``handler_ended``."""
        ...


def join(owner: PairOwner, one: Socket, other: Socket) -> None:
    """Both ends of a pair are accepted, *other* first: they talk to each other from now on."""
    for socket in (one, other):
        owner.returned(socket)
    one.mate, other.mate = other, one
    for socket in (other, one):
        for each in socket.held.unpack() if socket.held is not None else ():
            if isinstance(each, Close):
                pass_close(socket, each.code, each.reason)
            else:
                _deliver(owner, socket, each)


def pass_message(socket: Socket, message: str | bytes) -> None:
    """One end has sent *message*.

    Raises:
        OutboxFull: 64 MiB of events of the object have not ended.
    """
    owner: PairOwner = socket.owner
    enough_stack()
    waiting = owner.unfinished_bytes + owner.unfinished * JOB_COST + len(message)
    if waiting > OUTBOX_BYTES and owner.unfinished:
        raise OutboxFull(waiting, OUTBOX_BYTES)
    _deliver(owner, socket, message)


def _deliver(owner: PairOwner, socket: Socket, message: str | bytes) -> None:
    mate = socket.mate
    if mate is None or mate.ending or mate.gone:
        return
    pair = owner.auto_response
    if pair is not None and mate.hibernatable and message == pair[0]:
        if not mate.closed_by_object:
            mate.auto_response_time = time.time()
            _deliver(owner, mate, pair[1])
        return
    owner.hear(mate, message)


def pass_close(socket: Socket, code: int, reason: str) -> None:
    """One end has closed, or answers the other's close."""
    mate = socket.mate
    if mate is None:
        return
    enough_stack()
    if not mate.ending and not mate.gone:
        owner: PairOwner = mate.owner
        owner.hear_close(mate, code, reason)
    if socket.ending and mate.ending:
        part(socket)


def handler_ended(socket: Socket, code: int, reason: str) -> None:
    """The close handler of a hibernatable end is over, or takes long: if it has not closed, the other end gets its own
    close back."""
    if not socket.closed_by_object:
        pass_close(socket, code, reason)


def part(socket: Socket) -> None:
    """The ends have nothing more to say to each other; unlinked, they are freed at once."""
    mate, socket.mate = socket.mate, None
    if mate is not None:
        mate.mate = None
        socket.gone = mate.gone = True
