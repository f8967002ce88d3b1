"""The unacknowledged window: a connection's events that no shard has said it is done with.

An event (a message, the close, a failure) gets its number when it enters the window and leaves when an
acknowledgement covers that number. Handlers of one connection interleave, so acknowledgements come in any order. What
is in the window when the object's owner changes is sent again to the new one.

An event that may have been handled before says so when it is sent again: it counts how often it was sent. An owner
that lets go of an object in an orderly way says which of its events it had begun. All others have certainly not been
handled, and their last sending is taken back.

A window is full at ``WINDOW_MESSAGES`` events or ``WINDOW_BYTES``; an empty one admits one message of any size that the
router accepts. A message counts with what it takes in the cluster: millions of empty ones take memory, too, and each
may have a handler that waits at its shard. So what bounds all windows of a router also bounds what its shards hold for
it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from ...common.limits import WINDOW_BYTES, WINDOW_MESSAGES
from ...common.wire.records import Ahead, EventWriter, Pieces
from ..clients.gathering import AHEAD_BYTES, Payload

EVENT_BYTES = 2 << 10
"""Bytes that a message takes beside its payload. Here some 130: its tuple, its number, its place in the table, the head
of its bytes; at its shard some 200 while it waits, and up to 3,000 once its handler waits. Tests hold it to that."""
SMALL_BYTES = EVENT_BYTES + (2 << 10)
"""What a message may count with that an empty window admits although the bound of all windows is reached: those who
have brought it so far do not shut out everybody else."""
TEXT_FACTOR = 4
"""Bytes that each byte of a text takes at its shard when it is not ASCII: a single character may make it so."""
SHORT_TEXT = 1 << 10
"""Bytes of a text up to which nobody looks."""
_MAX_DELIVERIES = 255


@dataclass(slots=True)
class End:
    """The last event of a connection.

    Attributes:
        failed: The client broke the protocol (FAILED); otherwise it closed or is gone (CLOSED).
        code: Close code as the object gets it.
        text: Reason or description.
        clean: The client sent a Close.
        sent: Times that the event has been sent.
        handled: It was acknowledged, and is kept only because events before it were not (handlers interleave): with
            those it is sent again, else the next owner would hold the connection for open.
    """

    failed: bool
    code: int
    text: str
    clean: bool
    sent: int
    handled: bool = False

    def write(self, writer: EventWriter, connection: int, seq: int) -> None:
        """Send the event, once more."""
        deliveries = min(self.sent, _MAX_DELIVERIES)
        self.sent += 1
        if self.failed:
            writer.failed(connection, seq, deliveries, self.code, self.text)
        else:
            writer.closed(connection, seq, deliveries, self.code, self.text, self.clean)


Event = tuple[Payload, bool, int] | End
"""A message as payload, binary and the times it has been sent (a tuple: one is made for each message); or the end."""


def memory_of(payload: Payload, binary: bool) -> int:
    """Bytes that a message counts with."""
    size = len(payload)
    if size > SHORT_TEXT and not binary and not payload.isascii():
        size *= TEXT_FACTOR
    return size + EVENT_BYTES


class Window:
    """Numbers a connection's events and keeps them until they are acknowledged.

    Attributes:
        next_seq: Number of the next event; the first is 1.
        events: The events kept, by number, in order.
        size: Bytes that the messages among them take.
    """

    __slots__ = ("events", "next_seq", "size")

    def __init__(self) -> None:
        self.next_seq = 1
        self.events: dict[int, Event] = {}
        self.size = 0

    def admits(self, size: int) -> bool:
        """Whether a message of *size* bytes may enter now."""
        events = self.events
        return not events or (len(events) < WINDOW_MESSAGES and self.size + size + EVENT_BYTES <= WINDOW_BYTES)

    def add(self, payload: Payload, binary: bool, sent: int) -> int:
        """Take a message in, admitted or not: that is the caller's business.

        Args:
            payload: Its bytes.
            binary: Binary or text.
            sent: 1 if the caller sends it now, 0 if it waits for an owner.

        Returns:
            Its number.
        """
        seq = self.next_seq
        self.next_seq = seq + 1
        self.events[seq] = (payload, binary, sent)
        size = len(payload)
        self.size += size + EVENT_BYTES if size <= SHORT_TEXT else memory_of(payload, binary)
        return seq

    def end(self, end: End) -> int:
        """Take the last event in; it needs no room.

        Returns:
            Its number.
        """
        seq = self.next_seq
        self.next_seq = seq + 1
        self.events[seq] = end
        return seq

    def acknowledge(self, first: int, last: int) -> int:
        """Forget the events *first* to *last*, those that are there; but the end not before all others.

        Returns:
            Bytes freed.
        """
        events = self.events
        if first == last:
            freed = self._forget(events.pop(first, None))
        elif last - first < len(events):
            freed = sum([self._forget(events.pop(seq, None)) for seq in range(first, last + 1)])
        else:
            # A range wider than the window, from a peer that says "all": the window bounds the work.
            freed = sum([self._forget(events.pop(seq)) for seq in [seq for seq in events if first <= seq <= last]])
        self.size -= freed
        return freed

    def _forget(self, event: Event | None) -> int:
        """An event that was kept is acknowledged; returns the bytes that it took."""
        if type(event) is tuple:
            size = len(event[0])
            return size + EVENT_BYTES if size <= SHORT_TEXT else memory_of(event[0], event[1])
        if isinstance(event, End) and self.events:
            event.handled = True
            self.events[self.next_seq - 1] = event
        return 0

    def end_is_over(self) -> bool:
        """Whether no event is left of a connection whose end was acknowledged, now that other events were, too."""
        events = self.events
        if len(events) == 1:
            (event,) = events.values()
            if isinstance(event, End) and event.handled:
                events.clear()
        return not events

    @property
    def half_empty(self) -> bool:
        """Whether a connection whose reading was stopped may go on."""
        return len(self.events) <= WINDOW_MESSAGES // 2 and self.size <= WINDOW_BYTES // 2

    def clear(self) -> int:
        """Forget all events: nobody wants them any more.

        Returns:
            Bytes freed.
        """
        freed, self.size = self.size, 0
        self.events.clear()
        return freed

    def take_back(self, begun: Collection[int]) -> None:
        """The owner has let go of the object without having handled what is kept here.

        Args:
            begun: Numbers of events whose handlers it had begun and then cancelled. The others count as not sent.
        """
        events = self.events
        for seq, event in events.items():
            if seq in begun:
                continue
            if isinstance(event, End):
                if not event.handled:
                    event.sent = max(event.sent - 1, 0)
            else:
                payload, binary, sent = event
                events[seq] = (payload, binary, max(sent - 1, 0))  # replaces a value: the order stays

    def drop(self, seq: int) -> Event | None:
        """Forget an event that must not be sent again.

        Returns:
            The event, if it was there.
        """
        event = self.events.pop(seq, None)
        if type(event) is tuple:
            self.size -= memory_of(event[0], event[1])
        return event

    @property
    def large(self) -> Iterator[tuple[int, Pieces]]:
        """The large messages that are kept, each with its number: they go ahead to a new owner."""
        if self.size >= AHEAD_BYTES:
            for seq, event in self.events.items():
                if not isinstance(event, End) and isinstance(event[0], Pieces):
                    yield seq, event[0]

    def send_again(
        self, writer: EventWriter, connection: int, ahead: Callable[[int], Ahead | None] = lambda seq: None
    ) -> None:
        """Send every event kept to a new owner, in order, each saying how often it has been sent before.

        Args:
            writer: The owner's.
            connection: The connection's counter.
            ahead: Tells where a large message has gone ahead, by its number; one that has not goes whole.
        """
        events = self.events
        for seq, event in events.items():
            if isinstance(event, End):
                event.write(writer, connection, seq)
                continue
            payload, binary, sent = event
            deliveries = min(sent, _MAX_DELIVERIES)
            if not isinstance(payload, Pieces):
                writer.message(connection, seq, deliveries, payload, binary)
            elif (gone := ahead(seq)) is not None:
                writer.message_ahead(connection, seq, deliveries, gone, binary)
            else:
                writer.message(connection, seq, deliveries, payload.join(), binary)
            events[seq] = (payload, binary, sent + 1)  # replaces a value: the order stays
