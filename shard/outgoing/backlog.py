"""Output of one connection that may not leave yet, in the order in which its object has made it.

A connection has a backlog at two times. **Before its 101** it has no number that anything could be sent to. And while
it is **full**: its router holds as much for its client as one connection may, or this shard has just sent it that much
at a time and waits to hear that it was taken (see ``flow``). ``Socket.held`` is the backlog while there is one, so a
connection that takes its output pays for none of this.

What is in it, and leaves in this order: messages; closes, which must not overtake messages; and acknowledgements of the
connection's own events, so that a client that talks without listening runs into its own window, and so that the router
does not echo a Close before the last words of the close handler. Everything else (attachments, acknowledgements of
others' events) concerns no client and passes by.

A **large** message at the front is shipped: its bytes go ahead in pieces, and all that is behind waits until the last
of them is written (see ``flow``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ...common.wire.records import OutputWriter
from ..stack import enough_stack
from .entries import Held, Payload, Write
from .outbox import LARGE_BYTES, Outbox
from .peers import Peer


class Beside(NamedTuple):
    """What waits in a backlog beside messages.

    Attributes:
        place: As ``Held.place``.
        what: A record, or the number of an event to acknowledge.
    """

    place: int
    what: Write | int


Item = Held | Beside


class Numbered(Protocol):
    """A connection: it has its number once its 101 is on its way."""

    @property
    def counter(self) -> int: ...


class Connection(Numbered, Protocol):
    """A connection for which something waits (``Socket``).

    Attributes:
        held: Its backlog, while it has one.
    """

    held: Backlog | None

    @property
    def gone(self) -> bool: ...
    @property
    def owner(self) -> Any:
        """The object, whose ``outbox`` counts what waits."""
        ...


class Shipment(Protocol):
    """A large message on its way to several connections."""

    def leave(self, backlog: Backlog) -> None:
        """The connection of *backlog* does not get it any more."""
        ...


class Account(Protocol):
    """The account of all connections that are full (``Flow``)."""

    @property
    def acknowledge(self) -> Callable[[Outbox, Peer, int, int], None]:
        """Takes the acknowledgement of an event whose time has come: outbox, router, connection, number."""
        ...

    def grown(self, size: int, *, is_large: bool = False) -> None: ...
    def shrunk(self, size: int, *, is_large: bool = False) -> None: ...
    def ship(self, backlog: Backlog, data: Payload, binary: bool) -> Shipment:
        """The large message at the front of *backlog* may leave: ``shipped`` is called when it has."""
        ...

    def go_on(self, backlog: Backlog) -> None:
        """What waits leaves in the next turns."""
        ...

    def ended(self, backlog: Backlog) -> None:
        """Nothing waits there any more."""
        ...


@dataclass(frozen=True, slots=True)
class Close:
    """A close of a connection, as its object made it: writes itself, once there is a number to write.

    Attributes:
        socket: The connection.
        code: What the client is told.
        reason: Reason.
        final: The object wants no event of it any more.
    """

    socket: Numbered
    code: int
    reason: str
    final: bool

    def __call__(self, writer: OutputWriter) -> None:
        writer.close(self.socket.counter, self.code, self.reason, self.final)


class Backlog:
    """What waits for one connection.

    Args:
        outbox: The object's, in which all of it counts.
        flow: The account of connections that are full; ``None`` before the 101.

    Attributes:
        peer: The router that holds the connection; ``None`` before the 101.
        counter: The connection's number there.
        socket: The connection, while the object has it.
        size: Bytes of the messages.
        owed: The router knows that something waits here.
        room: Bytes that the router has said it has room for.
        dead: The connection was cut: it gets nothing any more.
        shipment: The message at the front is on its way.
        waiters: Called once when nothing waits any more.
    """

    __slots__ = (
        "_flow",
        "_inserting",
        "_items",
        "_outbox",
        "counter",
        "dead",
        "owed",
        "peer",
        "room",
        "shipment",
        "size",
        "socket",
        "waiters",
    )

    def __init__(
        self,
        outbox: Outbox,
        flow: Account | None = None,
        peer: Peer | None = None,
        counter: int = 0,
        socket: Connection | None = None,
    ) -> None:
        self.peer = peer
        self.counter = counter
        self.socket = socket
        self.size = self.room = 0
        self.owed = False
        self.dead = False
        self.waiters: list[Callable[[], object]] = []
        self._outbox = outbox
        self._flow = flow
        self._items: deque[Item] = deque()
        self._inserting: deque[Item] | None = None
        self.shipment: Shipment | None = None

    def __len__(self) -> int:
        """How many things wait."""
        return len(self._items)

    # --- what the object puts out ---

    def send(self, payload: str | bytes) -> None:
        """Keep a message.

        Raises:
            OutboxFull: The object's outbox, held output included, has no room for it.
            ApiError, UnicodeEncodeError: As for ``Outbox.send``.
        """
        if self.dead:
            return
        enough_stack()
        held, cost = self._outbox.hold(payload, behind_others=self._flow is not None)
        if self.dead:  # it was cut for this very message
            self._outbox.let_go(held)
            return
        self._took(held, cost)

    def keep(self, data: Payload, binary: bool) -> None:
        """Keep a message that the object's outbox has already taken and gives back."""
        self._took(*self._outbox.keep(data, binary))

    def _took(self, held: Held, cost: int) -> None:
        items = self._items if self._inserting is None else self._inserting
        items.append(held)
        size = len(held.data)
        self.size += size
        if self._flow is not None:
            if not self.owed:
                self.tell_owed()
            self._flow.grown(cost, is_large=size >= LARGE_BYTES)

    def insert(self) -> None:
        """What is kept or recorded from now on was put out before all that waits here, until ``inserted``."""
        self._inserting = deque()

    def inserted(self) -> None:
        """The end of ``insert``."""
        before, self._inserting = self._inserting, None
        if before:
            self._items.extendleft(reversed(before))
            if self.shipment is not None:  # that has to leave before it
                self._stop_shipping()
                assert self._flow is not None
                self._flow.go_on(self)

    def tell_owed(self) -> None:
        """Tell the router that something waits, now or still."""
        assert self.peer is not None
        counter = self.counter
        self.owed = True
        self._outbox.note(self.peer, lambda writer: writer.owed(counter, True))

    def record(self, write: Write) -> None:
        """A record that must not overtake the messages."""
        if self._inserting is not None:
            self._inserting.append(Beside(self._outbox.next_place(), write))
        elif self._items or self.peer is None:
            self._items.append(Beside(self._outbox.next_place(), write))
        else:
            # Its outbox may have a large message from before, which is going to wait here.
            self._outbox.record(self.peer, write, behind=self.counter)

    def acknowledge(self, seq: int) -> bool:
        """An event of the connection has ended.

        Returns:
            Whether its acknowledgement waits here; if not, because nothing else does, it may leave at once.
        """
        if not self._items:
            return False
        self._items.append(Beside(self._outbox.next_place(), seq))
        return True

    # --- what becomes of it ---

    def bind(self, peer: Peer, counter: int) -> None:
        """The 101 is on its way: so is everything that waited for it."""
        self.peer, self.counter = peer, counter
        for item in self.take():
            self.hand_over(item)
        self.end()

    def release(self, room: int) -> int:
        """Hand over to the outbox what there is room for; a backlog that is empty then is over.

        Args:
            room: Bytes of messages that may leave, but one of any size.

        Returns:
            Bytes of those that do.
        """
        items, released = self._items, 0
        if self.shipment is not None:
            return 0
        while items:
            first = items[0]
            if isinstance(first, Held):
                size = len(first.data)
                if released and released + size > room:
                    break
                if size >= LARGE_BYTES:
                    assert self._flow is not None
                    self.room -= released
                    self.shipment = self._flow.ship(self, first.data, first.binary)
                    return released
                released += size
            self.hand_over(items.popleft())
        if items:
            self.tell_owed()
        else:
            self.end()
        return released

    def shipped(self) -> None:
        """The message at the front has left."""
        held = self._items.popleft()
        assert isinstance(held, Held)
        assert self._flow is not None
        self.shipment = None
        self.room -= len(held.data)
        self._let_go(held)
        if not self._items:
            self.end()
        elif self.room > 0:
            self._flow.go_on(self)
        else:
            self.tell_owed()

    def _stop_shipping(self) -> None:
        shipment, self.shipment = self.shipment, None
        if shipment is not None:
            shipment.leave(self)

    def unpack(self) -> list[str | bytes | Close]:
        """The messages and closes, which go another way; nothing of them waits or counts here any more."""
        unpacked: list[str | bytes | Close] = []
        for item in self.take():
            if isinstance(item, Held):
                self._let_go(item)
                data = item.data
                unpacked.append(data if item.binary or isinstance(data, str) else data.decode())
            elif isinstance(item.what, Close):
                unpacked.append(item.what)
        return unpacked

    def take(self) -> deque[Item]:
        """Everything, for who hands it over; ``end`` comes behind that."""
        self._stop_shipping()
        items, self._items = self._items, deque()
        return items

    def hand_over(self, item: Item) -> None:
        """Give something that has waited here to the outbox."""
        if isinstance(item, Held):
            assert self.peer is not None
            cost = self._let_go(item)
            self._outbox.send_again(self.peer, self.counter, item.data, item.binary, cost)
        else:
            self._pass(item.what)

    def drop_messages(self) -> None:
        """The client gets nothing any more. What its router has to hear leaves all the same."""
        for item in self.take():
            if isinstance(item, Held):
                self._let_go(item)
            else:
                self._pass(item.what)

    def discard(self) -> None:
        """Nobody is left to hear of any of it: there will be no 101, or the router has gone."""
        for item in self.take():
            if isinstance(item, Held):
                self._let_go(item)
        self.owed = False
        self.end()

    def end(self) -> None:
        """Nothing waits any more, and what the object puts out from now on leaves as usual."""
        self._stop_shipping()
        if self.owed:
            assert self.peer is not None
            counter = self.counter
            self.owed = False
            self._outbox.note(self.peer, lambda writer: writer.owed(counter, False))
        if self.socket is not None and self.socket.held is self:
            self.socket.held = None
        if self._flow is not None:
            self._flow.ended(self)
        self.wake()

    def wake(self) -> None:
        """Tell those that wait for the end of this."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter()

    @property
    def has_large(self) -> bool:
        """Whether something here leaves in pieces, and so not at once."""
        return any(isinstance(item, Held) and len(item.data) >= LARGE_BYTES for item in self._items)

    @property
    def waits_for_client(self) -> bool:
        """Whether what is here does not leave before the client has taken more; else it is on its way."""
        return self.room <= 0 and self.shipment is None and not self._outbox.unheld

    @property
    def outbox(self) -> Outbox:
        """The object's outbox."""
        return self._outbox

    def _let_go(self, held: Held) -> int:
        size = len(held.data)
        self.size -= size
        cost = self._outbox.let_go(held)
        if self._flow is not None:
            self._flow.shrunk(cost, is_large=size >= LARGE_BYTES)
        return cost

    def _pass(self, what: Write | int) -> None:
        assert self.peer is not None
        if isinstance(what, int):
            assert self._flow is not None
            self._flow.acknowledge(self._outbox, self.peer, self.counter, what)
        else:
            self._outbox.record(self.peer, what, behind=self.counter)
