"""The outbox of an object: its output of one turn of the loop, folded, until it is written to the routers' links.

``for ws in ctx.get_web_sockets(): ws.send(text)`` is one record to each router and is encoded once: a send of the
payload that was sent last only adds its target to that entry. Payloads are compared by identity, then type and
length, then value. Different payloads in turn cost their targets only, since a link's writer puts each distinct
payload of a group on the wire once. Order per connection and multiplicity stay: entries leave in the order made, and
an entry of any other kind (a close, an attachment, a response, object state) ends the fold.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..common.errors import ApiError, OutboxFull
from ..common.limits import OUTBOX_BYTES

if TYPE_CHECKING:
    from ..common.records import OutputWriter
    from .peers import Peer

_ENTRY_BYTES = 64
"""What an entry is counted with beside its payload."""
_TARGET_BYTES = 4

MAX_PAYLOAD_BYTES = 256 << 20
"""Bytes of one message or body that an object puts out: half of what a group on the wire can have."""


class _Send:
    """A payload with its targets: one in ``peer`` and ``counter``, as most have; or all of several in ``more``."""

    __slots__ = ("binary", "counter", "data", "more", "peer")

    def __init__(self, data: bytes, binary: bool, peer: Peer, counter: int) -> None:
        self.data = data
        self.binary = binary
        self.peer = peer
        self.counter = counter
        self.more: dict[Peer, array[int]] | None = None

    def add(self, peer: Peer, counter: int) -> None:
        more = self.more
        if more is None:
            self.more = more = {self.peer: array("I", (self.counter,))}
        try:
            more[peer].append(counter)
        except KeyError:
            more[peer] = array("I", (counter,))

    def peers(self) -> Iterable[Peer]:
        return (self.peer,) if self.more is None else self.more


class Outbox:
    """Output of one object that has not left, and where the output that has left is.

    Attributes:
        size: Bytes held, roughly: each distinct payload once, 4 for each target; what ``hold`` was given, too.
        planned: There is output; ``plan`` was called.
        marks: For each router the last batch that carries output; kept only while there are several routers.
    """

    __slots__ = (
        "_binaries",
        "_entries",
        "_held_size",
        "_last",
        "_last_payload",
        "_limit",
        "_plan",
        "_texts",
        "marks",
        "planned",
        "size",
    )

    def __init__(self, plan: Callable[[Outbox], None], limit: int = OUTBOX_BYTES) -> None:
        """Args:
        plan: Called with the outbox when it stops being empty: flush it at the end of this turn.
        limit: Bytes it may hold.
        """
        # Lists and tables are made when needed: most outboxes belong to objects that sleep.
        self._entries: list[_Send | tuple[Peer, Callable[[OutputWriter], None]]] | None = None
        self._last: _Send | None = None
        self._last_payload: str | bytes | None = None
        # Each distinct payload of this turn with its one encoding. Two tables, for equal bytes and text are not equal.
        self._texts: dict[str | bytes, bytes] | None = None
        self._binaries: dict[str | bytes, bytes] | None = None
        self._plan = plan
        self._limit = limit
        self._held_size = 0
        self.size = 0
        self.planned = False
        self.marks: dict[Peer, int] | None = None

    def send(self, peer: Peer, counter: int, payload: str | bytes) -> None:
        """A message to one connection.

        Raises:
            OutboxFull: The outbox holds as much as it may; the message is not taken.
            ApiError: *payload* alone has more than ``MAX_PAYLOAD_BYTES``, encoded.
            UnicodeEncodeError: *payload* is text with a lone surrogate, which UTF-8 does not have.
        """
        last_payload = self._last_payload
        if payload is last_payload or (
            type(payload) is type(last_payload) and len(payload) == len(last_payload) and payload == last_payload
        ):
            if self.size >= self._limit:
                raise OutboxFull(self.size, self._limit)
            self.size += _TARGET_BYTES
            assert self._last is not None
            self._last.add(peer, counter)
        else:
            self._begin(peer, counter, payload)

    def _begin(self, peer: Peer, counter: int, payload: str | bytes) -> None:
        binary = not isinstance(payload, str)
        table = self._binaries if binary else self._texts
        if table is None:
            table = {}
            if binary:
                self._binaries = table
            else:
                self._texts = table
        data = table.get(payload)
        size = self.size + _ENTRY_BYTES
        if data is not None:
            if size > self._limit:
                raise OutboxFull(self.size, self._limit)
        else:
            data = payload.encode() if isinstance(payload, str) else payload
            _check_length(data)
            size += len(data)
            if size > self._limit and self.size:
                raise OutboxFull(self.size, self._limit)
            table[payload] = data
        self.size = size
        self._last = entry = _Send(data, binary, peer, counter)
        self._last_payload = payload
        entries = self._entries
        if entries is None:
            self._entries = [entry]
            self.planned = True
            self._plan(self)
        else:
            entries.append(entry)

    def record(self, peer: Peer, write: Callable[[OutputWriter], None], size: int = 0) -> None:
        """Any other record: *write* is called with the writer of *peer* when its turn comes. Never refused."""
        self._last = self._last_payload = None
        self.size += size + _ENTRY_BYTES
        if self._entries is None:
            self._entries = [(peer, write)]
            self.planned = True
            self._plan(self)
        else:
            self._entries.append((peer, write))

    def check_room(self, size: int) -> None:
        """Raises:
        OutboxFull: There is no room for a record of *size* bytes.
        """
        if self.size and self.size + size + _ENTRY_BYTES > self._limit:
            raise OutboxFull(self.size, self._limit)

    # --- before the 101 ---

    def hold(self, payload: str | bytes) -> int:
        """Count a message that is kept elsewhere, until ``release`` takes it.

        Returns:
            The bytes it counts with.

        Raises:
            OutboxFull, ApiError, UnicodeEncodeError: As for ``send``.
        """
        data = payload.encode() if isinstance(payload, str) else payload
        _check_length(data)
        size = _ENTRY_BYTES + len(data)
        if self.size and self.size + size > self._limit:
            raise OutboxFull(self.size, self._limit)
        self._held_size += size
        self.size += size
        return size

    def drop_held(self, size: int) -> None:
        """A message that was held is not to be sent any more; *size* is what ``hold`` returned."""
        self._held_size -= size
        self.size -= size

    def release(self, peer: Peer, counter: int, payload: str | bytes, size: int) -> None:
        """Send a message that was held. It has been taken, so it is not refused now."""
        self.drop_held(size)
        limit, self._limit = self._limit, sys.maxsize
        try:
            self.send(peer, counter, payload)
        finally:
            self._limit = limit

    # --- leaving ---

    def goes_to(self, peers: set[Peer]) -> bool:
        """Whether some entry is for one of *peers*."""
        return any(
            entry[0] in peers if isinstance(entry, tuple) else not peers.isdisjoint(entry.peers())
            for entry in self._entries or ()
        )

    def drain(self) -> tuple[set[Peer], int]:
        """Write all entries to the links of their routers and forget them. Those of a router that is gone are dropped.

        Returns:
            The routers written to, and the number of messages for all connections together.
        """
        entries, self._entries = self._entries or [], None
        self._last = self._last_payload = None
        self._texts = self._binaries = None
        self.size = self._held_size
        self.planned = False
        written: set[Peer] = set()
        messages = 0
        for entry in entries:
            if isinstance(entry, tuple):
                peer, write = entry
                if not peer.closed:
                    write(peer.writer)
                    written.add(peer)
            elif entry.more is None:
                peer = entry.peer
                if not peer.closed:
                    peer.writer.send_one(entry.counter, entry.data, entry.binary)
                    written.add(peer)
                    messages += 1
            else:
                for peer, targets in entry.more.items():
                    if not peer.closed:
                        peer.writer.send(targets, entry.data, entry.binary)
                        written.add(peer)
                        messages += len(targets)
        return written, messages

    def mark(self, written: set[Peer]) -> None:
        """Output has just left, in the last batches of the links of *written*."""
        if written:
            marks = self.marks
            if marks is None:
                self.marks = marks = {}
            for peer in written:
                marks[peer] = peer.link.session.sent

    def unconfirmed(self, peers: Iterable[Peer], except_for: Peer) -> list[tuple[Peer, int]]:
        """The routers, but *except_for*, that have not confirmed output of this outbox, each with the last such batch.

        Marks that are behind are forgotten.
        """
        marks, waits = self.marks, []
        for peer in peers:
            if peer is not except_for:
                number = peer.sent_unmarked if marks is None else max(marks.get(peer, 0), peer.sent_unmarked)
                if peer.link.session.confirmed < number:
                    waits.append((peer, number))
        if (
            not waits
            and marks is not None
            and all(peer.closed or peer.link.session.confirmed >= number for peer, number in marks.items())
        ):
            self.marks = None
        return waits


def _check_length(data: bytes) -> None:
    if len(data) > MAX_PAYLOAD_BYTES:
        # The wire could not carry it, and the link would break.
        raise ApiError(f"a message can have at most {MAX_PAYLOAD_BYTES} bytes, got {len(data)}")
