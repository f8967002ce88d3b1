"""The sockets of one object: what stays of them while the object sleeps, and the indexes to find them.

A ``Socket`` is the package of a connection: it lives from the accept (or restore) to the close event, whether the
object is in memory or not. The user's handle, a ``WebSocket``, is in its ``live`` field while the object is awake and
``None`` while it sleeps: one field, never both states.

``Sockets`` holds them in the order of their accepts. Adding and removing cost the same whatever their number, and
removal leaves all indexes in one place. Restored sockets come in any order; a list out of order is put right at the
next look, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..common.errors import TooManyWebSockets
from ..common.limits import MAX_WEBSOCKETS_PER_OBJECT

if TYPE_CHECKING:
    from .hosted import HostedObject
    from .peers import Peer
    from .web_socket import WebSocket


@dataclass(frozen=True, slots=True)
class Held:
    """A message (*payload*, counted in the outbox with *size* bytes) or a close (*payload* is ``None``)."""

    payload: str | bytes | None
    size: int = 0
    code: int = 0
    reason: str = ""


class Socket:
    """A hibernatable or standard connection of an object.

    Attributes:
        owner: The object.
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
        held: What was sent or closed before the 101; ``None`` once it is on its way.
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
        "ordinal",
        "owner",
        "peer",
        "protocol",
        "tags",
        "url",
    )

    def __init__(self, owner: HostedObject, *, hibernatable: bool, ordinal: int, tags: tuple[str, ...] = ()) -> None:
        self.owner = owner
        self.peer: Peer | None = None
        self.counter = 0
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
        self.held: list[Held] | None = None
        self.live: WebSocket | None = None

    @property
    def ready_state(self) -> int:
        """1 open, 2 closing, 3 closed: own ``close()`` and the client's end count one each (behaviour)."""
        return 1 + self.closed_by_object + (self.closed_by_client or self.gone)


class Sockets:
    """The hibernatable sockets of an object, in the order of accepts and by tag."""

    __slots__ = ("_all", "_by_tag", "_highest", "_sorted", "_tags")

    def __init__(self) -> None:
        self._all: dict[int, Socket] = {}  # by ordinal
        # A tag's only socket stands for itself: most objects with few sockets have a tag for each.
        self._by_tag: dict[str, Socket | dict[int, Socket]] = {}
        self._tags: tuple[str, ...] = ()  # of the socket added last
        self._highest = 0
        self._sorted = True

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, socket: Socket) -> bool:
        return self._all.get(socket.ordinal) is socket

    def check_room(self) -> None:
        """Raises:
        TooManyWebSockets: There are 32,768 (seed).
        """
        if len(self._all) >= MAX_WEBSOCKETS_PER_OBJECT:
            raise TooManyWebSockets(MAX_WEBSOCKETS_PER_OBJECT, "hibernatable")

    def add(self, socket: Socket) -> None:
        """Take *socket* into all indexes; its ordinal is not among them."""
        ordinal = socket.ordinal
        if ordinal < self._highest:
            self._sorted = False
        else:
            self._highest = ordinal
        self._all[ordinal] = socket
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
                by_tag[tag] = {tagged.ordinal: tagged, ordinal: socket}
            else:
                tagged[ordinal] = socket

    def remove(self, socket: Socket) -> None:
        """Take *socket* out of all indexes; nothing happens if it is not in them."""
        if self._all.get(socket.ordinal) is not socket:
            return
        del self._all[socket.ordinal]
        if not self._all:
            self._all = {}  # a dict keeps the room of what it once held
            self._sorted = True
        by_tag = self._by_tag
        for tag in socket.tags:
            tagged = by_tag[tag]
            if isinstance(tagged, dict):
                del tagged[socket.ordinal]
                if tagged:
                    continue
            del by_tag[tag]

    def newest_first(self) -> list[Socket]:
        """All sockets (the order of ``get_web_sockets()``)."""
        self._sort()
        return list(reversed(self._all.values()))

    def tagged(self, tag: str) -> list[Socket]:
        """The sockets with *tag*, oldest first (the order of ``get_web_sockets(tag)``)."""
        self._sort()
        tagged = self._by_tag.get(tag)
        if tagged is None:
            return []
        return [tagged] if isinstance(tagged, Socket) else list(tagged.values())

    def _sort(self) -> None:
        if not self._sorted:
            self._all = dict(sorted(self._all.items()))
            for tag, tagged in self._by_tag.items():
                if isinstance(tagged, dict):
                    self._by_tag[tag] = dict(sorted(tagged.items()))
            self._sorted = True
