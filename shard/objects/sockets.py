"""Sockets: what stays of them while their object sleeps, and the indexes to find them, by object and by router.

A ``Socket`` is the package of a connection: it lives from the accept (or restore) to the close event, whether the
object is in memory or not. The user's handle, a ``WebSocket``, is in its ``live`` field while the object is awake and
``None`` while it sleeps: one field, never both states.

``Sockets`` holds them in the order of their accepts. Adding and removing cost the same whatever their number, and
removal leaves all indexes in one place. Restored sockets come in any order; a list out of order is put right at the
next look, once. A ``RouterPeer`` has them by the number that its router knows them by.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

from ...common.wire.link import Link
from ...common.wire.records import OutputWriter
from ..outgoing.backlog import Backlog
from ..outgoing.peers import Peer

if TYPE_CHECKING:
    from ..api.web_socket import WebSocket


class Socket:
    """A hibernatable or standard connection of an object.

    Attributes:
        owner: The object. Its sockets are below what knows its type.
        peer: The router that holds the connection; ``None`` until the 101 is on its way.
        counter: The connection's counter at that router.
        hibernatable: Accepted with ``ctx.accept_web_socket``, not with ``accept()``.
        ordinal: Place in the order of accepts.
        tags: Tags, in the order given.
        attachment: Serialised attachment, ``None`` when never set.
        url: URL of the handshake.
        protocol: Subprotocol, empty if none.
        auto_response_time: Unix seconds of the last auto-response, ``None`` if there was none.
        closed_by_object: ``close()`` was called: ``send`` raises.
        closed_by_client: The client's Close was delivered.
        ending: Its last event (close or failure) has come: there is no second one.
        gone: The connection is over (reset, protocol error, dropped): sends go nowhere.
        held: Where its output waits, before the 101 and while its router has no room for more; else ``None``.
        package_bytes: Bytes that its tags, attachment and URL count with.
        mate: The other end of the pair, when both are used inside the object (see ``pairs``): there is no 101 then.
        live: The user's handle, while the object is awake.
    """

    __slots__ = (
        "attachment",
        "auto_response_time",
        "closed_by_client",
        "closed_by_object",
        "counter",
        "ending",
        "gone",
        "held",
        "hibernatable",
        "live",
        "mate",
        "ordinal",
        "owner",
        "package_bytes",
        "peer",
        "protocol",
        "tags",
        "url",
    )

    def __init__(self, owner: Any, *, hibernatable: bool, ordinal: int, tags: tuple[str, ...] = ()) -> None:
        self.owner = owner
        self.peer: RouterPeer | None = None
        self.counter = self.package_bytes = 0
        self.hibernatable = hibernatable
        self.ordinal = ordinal
        self.tags = tags
        self.attachment: bytes | None = None
        self.url = ""
        self.protocol = ""
        self.auto_response_time: float | None = None
        self.closed_by_object = False
        self.closed_by_client = False
        self.ending = False
        self.gone = False
        self.held: Backlog | None = None
        self.mate: Socket | None = None
        self.live: WebSocket | None = None

    # --- what its handle asks for (``ports``) ---

    @property
    def is_local(self) -> bool:
        """Both ends of its pair are used inside the object (see ``pairs``)."""
        return self.mate is not None

    def pass_message(self, message: str | bytes) -> None:
        """Give *message* to the other end of its pair."""
        self.owner.pass_message(self, message)

    def record_close(self, code: int, reason: str) -> None:
        """Close behind what was sent."""
        self.owner.record_close(self, code, reason)

    def record_attachment(self, data: bytes) -> None:
        """Keep an attachment in the connection's passport."""
        self.owner.record_attachment(self, data)

    def check_package(self, more: int) -> None:
        """Raises:
        PackagesFull: There is no room for *more* bytes of its attachment.
        """
        self.owner.runtime.packages.check(more)

    def grow_package(self, more: int) -> None:
        """Its attachment has *more* bytes than before."""
        self.owner.runtime.packages.change(self, more)

    def drained(self) -> Coroutine[Any, Any, None]:
        """Wait until nothing that was sent to it is here any more."""
        drained: Coroutine[Any, Any, None] = self.owner.drained(self)
        return drained

    @property
    def ready_state(self) -> int:
        """1 open, 2 closing, 3 closed: own ``close()`` and the client's end count one each (the reference runtime).

        There a standard socket is still open while its listeners are told that the client vanished, and only then.
        """
        gone = self.gone and (self.hibernatable or self not in (self.owner.standard or ()))
        return 1 + self.closed_by_object + (self.closed_by_client or gone)


class RouterPeer(Peer):
    """A router, with its connections here.

    Attributes:
        sockets: Its connections, by counter.
        objects: How many connections of each object it has; the router knows what an object has set while that is
            not 0.
    """

    __slots__ = ("objects",)

    sockets: dict[int, Socket]

    def __init__(self, link: Link[OutputWriter]) -> None:
        super().__init__(link)
        self.sockets = {}
        self.objects: dict[Any, int] = {}

    def attach(self, socket: Socket, counter: int) -> None:
        """The router has the connection of *socket*, as its number *counter*."""
        socket.peer, socket.counter = self, counter
        self.sockets[counter] = socket
        stale: Backlog | None = self.held.get(counter)
        if stale is not None:
            stale.end()  # of an earlier stay of the object here: its router says anew whether it is full
        self.objects[socket.owner] = self.objects.get(socket.owner, 0) + 1

    def detach(self, socket: Socket) -> bool:
        """The connection is over; says whether it was attached."""
        if self.sockets.get(socket.counter) is not socket:
            return False
        del self.sockets[socket.counter]
        held: Backlog | None = self.held.get(socket.counter)
        if held is not None and not len(held):
            held.end()
        left = self.objects[socket.owner] - 1
        if left:
            self.objects[socket.owner] = left
        else:
            del self.objects[socket.owner]
        return True


HandleOf = Callable[[Socket], "WebSocket"]


class _Roll:
    """Sockets in the order of accepts, and the list of their handles once that has been asked for.

    The list is kept up to date, since a close handler that lists the others does so for each of thousands of closes:
    to copy a list costs a hundredth of making it.
    """

    __slots__ = ("_handle_of", "handles", "sockets")

    def __init__(self, handle_of: HandleOf, sockets: dict[int, Socket]) -> None:
        self._handle_of = handle_of
        self.sockets = sockets  # by ordinal
        self.handles: list[WebSocket] | None = None

    def add(self, socket: Socket, *, last: bool) -> None:
        self.sockets[socket.ordinal] = socket
        if self.handles is not None:
            if last:
                self.handles.append(self._handle_of(socket))
            else:
                self.handles = None

    def remove(self, socket: Socket) -> None:
        del self.sockets[socket.ordinal]
        if self.handles is not None:
            del self.handles[bisect_left(self.handles, socket.ordinal, key=_ordinal)]

    def sort(self) -> None:
        self.sockets = dict(sorted(self.sockets.items()))
        self.handles = None

    def listed(self) -> list[WebSocket]:
        """The handles, oldest first; not to be changed."""
        if self.handles is None:
            handle_of = self._handle_of
            self.handles = [socket.live or handle_of(socket) for socket in self.sockets.values()]
        return self.handles


def _ordinal(handle: WebSocket) -> int:
    socket = handle.socket
    assert socket is not None
    return socket.ordinal


class Sockets:
    """The hibernatable sockets of an object, in the order of accepts and by tag.

    Args:
        handle_of: Gives the handle of a socket: the one it has, or a new one.
    """

    __slots__ = ("_all", "_by_tag", "_handle_of", "_highest", "_sorted", "_tags")

    def __init__(self, handle_of: HandleOf) -> None:
        self._handle_of = handle_of
        self._all = _Roll(handle_of, {})
        # A tag's only socket stands for itself: most objects with few sockets have a tag for each.
        self._by_tag: dict[str, Socket | _Roll] = {}
        self._tags: tuple[str, ...] = ()  # of the socket added last
        self._highest = 0
        self._sorted = True

    def __len__(self) -> int:
        return len(self._all.sockets)

    def __contains__(self, socket: Socket) -> bool:
        return self._all.sockets.get(socket.ordinal) is socket

    def add(self, socket: Socket) -> None:
        """Take *socket* into all indexes; its ordinal is not among them."""
        last = socket.ordinal >= self._highest
        if last:
            self._highest = socket.ordinal
        else:
            self._sorted = False
        self._all.add(socket, last=last)
        if socket.tags == self._tags:
            socket.tags = self._tags  # one tuple for all that have the same: restored ones come with their own
        else:
            self._tags = socket.tags
        by_tag = self._by_tag
        for tag in socket.tags:
            tagged = by_tag.get(tag)
            if tagged is None:
                by_tag[tag] = socket
            elif isinstance(tagged, Socket):
                by_tag[tag] = _Roll(self._handle_of, {tagged.ordinal: tagged, socket.ordinal: socket})
            else:
                tagged.add(socket, last=last)

    def remove(self, socket: Socket) -> None:
        """Take *socket* out of all indexes; nothing happens if it is not in them."""
        if socket not in self:
            return
        self._all.remove(socket)
        if not self._all.sockets:
            self._all = _Roll(self._handle_of, {})  # a dict keeps the room of what it once held
            self._sorted = True
        by_tag = self._by_tag
        for tag in socket.tags:
            tagged = by_tag[tag]
            if isinstance(tagged, _Roll):
                tagged.remove(socket)
                if tagged.sockets:
                    continue
            del by_tag[tag]

    def __iter__(self) -> Iterator[Socket]:
        """The sockets, oldest first."""
        self._sort()
        return iter(self._all.sockets.values())

    def newest_first(self) -> list[WebSocket]:
        """The handles of all sockets (the order of ``get_web_sockets()``)."""
        self._sort()
        return self._all.listed()[::-1]

    def tagged(self, tag: str) -> list[WebSocket]:
        """The handles of the sockets with *tag*, oldest first (the order of ``get_web_sockets(tag)``)."""
        self._sort()
        tagged = self._by_tag.get(tag)
        if tagged is None:
            return []
        return [self._handle_of(tagged)] if isinstance(tagged, Socket) else tagged.listed()[:]

    def sleep(self) -> None:
        """Let go of all handles: only packages stay."""
        for socket in self._all.sockets.values():
            socket.live = None
        self._all.handles = None
        for tagged in self._by_tag.values():
            if isinstance(tagged, _Roll):
                tagged.handles = None

    def _sort(self) -> None:
        if not self._sorted:
            self._all.sort()
            for tagged in self._by_tag.values():
                if isinstance(tagged, _Roll):
                    tagged.sort()
            self._sorted = True
