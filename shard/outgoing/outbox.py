"""The outbox of an object: its output of one turn of the loop, folded, until it is written to the routers' links.

``for ws in ctx.get_web_sockets(): ws.send(text)`` is one record to each router and is encoded once: a send of the
payload that was sent last only adds its target to that entry. Payloads are compared by identity, then type and
length, then value. Different payloads in turn cost their targets only, since a link's writer puts each distinct
payload of a group on the wire once. Order per connection and multiplicity stay: entries leave in the order made, and
an entry of any other kind (a close, an attachment, a response, object state) ends the fold.

What may not leave because its connection is full, or has no 101 yet, is kept in backlogs (see ``flow``). It counts
here, a payload that several connections wait for once. Held output leaves a part of the bound to all others.

A **large** payload goes through a backlog as well, because it goes ahead in pieces (see ``shipping``), which takes some
turns. It is known by its identity only: hashing 200 MB takes longer than sending them. ASCII text of that size is
encoded piece by piece as it leaves.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Protocol

from ...common.errors import ApiError, OutboxFull
from ...common.limits import MAX_BATCH_BYTES, MAX_PAYLOAD_BYTES, OUTBOX_BYTES, SEND_BUFFER_BYTES
from .entries import Held, Payload, Record, Send, SentAgain, Write
from .peers import Peer

if TYPE_CHECKING:
    from ...common.wire.records import Ahead, HttpResponse

_ENTRY_BYTES = 208
"""What an entry is counted with beside its payload (measured: 113 to 300; a test holds it to that)."""
_SEVERAL_BYTES = 320
"""The same for the table of an entry's targets, once there are several."""
_TARGET_BYTES = 4
_HOLDER_BYTES = 8
"""What a message that a backlog keeps already is counted with for each backlog more."""
_TEXT_BYTES = sys.getsizeof("")
"""What an ASCII text takes beside its characters."""

_RESERVE = 32
"""The part of the bound, one of so many, that held output leaves to all others."""
_PORTION = SEND_BUFFER_BYTES
"""Bytes of payloads of its own that leave for one connection in one turn, or one message of any size; and for all
connections together, broadcasts aside."""
LARGE_BYTES = MAX_BATCH_BYTES
"""Bytes of a payload from which on it goes ahead in pieces."""
_WEIGHT = 3, 4
"""The part of the bound that one message counts with at most: the object may go on with others beside."""

TOO_MUCH_LARGE = "the objects of this process have {size} bytes of large messages"
"""What is said to whom a large message is refused for others."""


class Keeper(Protocol):
    """Keeps what may not leave yet for one connection (``Backlog``)."""

    def keep(self, data: Payload, binary: bool) -> None:
        """Keep a message that the outbox has taken and gives back."""
        ...

    def record(self, write: Write) -> None:
        """Keep a record that must not overtake the messages."""
        ...

    def insert(self) -> None:
        """What comes now, until ``inserted``, was put out before all that is kept."""
        ...

    def inserted(self) -> None:
        """See ``insert``."""
        ...


class Bounds(Protocol):
    """What all outboxes of a shard share: what they hold back, and large messages (``Flow``).

    Attributes:
        promised: Bytes of large messages that have been sent in this turn, and are not held yet.
    """

    promised: int

    @property
    def large(self) -> int:
        """Bytes of large messages that are held."""
        ...

    @property
    def large_limit(self) -> int:
        """Bytes that these and those promised may have."""
        ...

    def takes_large(self, size: int) -> bool:
        """Whether a large message of *size* bytes may be sent."""
        ...

    def begin(self, outbox: Outbox, peer: Peer, counter: int, *, at_once: bool = False) -> Keeper:
        """What *outbox* has for a connection does not leave all at once; *at_once*: the next turn goes on."""
        ...


class Outbox:
    """Output of one object that has not left, and where the output that has left is.

    Attributes:
        size: Bytes held, roughly: each distinct payload once, 4 for each target; those of backlogs, too.
        planned: There is output; ``plan`` was called.
        marks: For each router the last batch that carries output; kept only while there are several routers.
        backlogs: Those of connections that are full.
        unheld: The object moves, or its shard ends: no output is held any more.
        behind: Routers where much of it waits to be written: nothing leaves for them; ``None`` without any.
        waiters: Called once when all that is here now has left.
    """

    __slots__ = (
        "_binaries",
        "_counted",
        "_entries",
        "_flow",
        "_has_large",
        "_held",
        "_held_last",
        "_held_size",
        "_holders",
        "_last",
        "_last_payload",
        "_limit",
        "_notes",
        "_place",
        "_plan",
        "_promised",
        "_tally",
        "_texts",
        "backlogs",
        "behind",
        "marks",
        "planned",
        "size",
        "unheld",
        "waiters",
    )

    def __init__(self, plan: Callable[[Outbox], None], limit: int = OUTBOX_BYTES, flow: Bounds | None = None) -> None:
        """Args:
        plan: Called with the outbox when it stops being empty: flush it at the end of this turn.
        limit: Bytes it may hold.
        flow: Keeps the connections that are full; without it everything leaves at once.
        """
        # Lists and tables are made when needed: most outboxes belong to objects that sleep.
        self._entries: list[Send | Record] | None = None
        self._last: Send | None = None
        self._last_payload: str | bytes | None = None
        # Each distinct payload of this turn with its one encoding. Two tables, for equal bytes and text are not equal.
        self._texts: dict[str | bytes, bytes] | None = None
        self._binaries: dict[str | bytes, bytes] | None = None
        self._plan = plan
        self._limit = limit
        self._flow = flow
        self._held_size = 0
        self._holders: dict[int, int] | None = None
        """Identity of a payload in backlogs → how many messages there have it."""
        self._held: Held | None = None
        """The newest message in backlogs."""
        self._held_last: tuple[str | bytes, Payload] | None = None
        self._has_large = False
        self._promised = 0
        self._place = 0
        self._notes: list[Record] | None = None
        self._tally: dict[tuple[Peer, int], int] | None = None
        self._counted = 0
        self.size = 0
        self.planned = False
        self.marks: dict[Peer, int] | None = None
        self.backlogs: dict[Any, None] | None = None
        self.unheld = False
        self.behind: set[Peer] | None = None
        self.waiters: list[Callable[[], object]] | None = None

    def send(self, peer: Peer, counter: int, payload: str | bytes) -> None:
        """A message to one connection.

        Raises:
            OutboxFull: The outbox holds as much as it may; the message is not taken.
            ApiError: *payload* alone has more than ``MAX_PAYLOAD_BYTES``, encoded.
            UnicodeEncodeError: *payload* is text with a lone surrogate, which UTF-8 does not have.
        """
        last_payload = self._last_payload
        if payload is last_payload or (
            type(payload) is type(last_payload)
            and len(payload) == len(last_payload) < LARGE_BYTES
            and payload == last_payload
        ):
            if self.size >= self._limit:
                raise OutboxFull(self.size, self._limit)
            last = self._last
            assert last is not None
            size = _TARGET_BYTES if last.more is not None else _TARGET_BYTES + _SEVERAL_BYTES
            last.add(peer, counter)
            self.size += size
        else:
            self._begin(peer, counter, payload)

    def _begin(self, peer: Peer, counter: int, payload: str | bytes) -> None:
        binary = not isinstance(payload, str)
        if len(payload) >= LARGE_BYTES:
            self._begin_large(peer, counter, payload, binary)
            return
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
            length = len(data)
            size += length
            if not binary:  # a text is here twice until it leaves
                size += length + _TEXT_BYTES if length == len(payload) else sys.getsizeof(payload)
            if size > self._limit and self.size:
                raise OutboxFull(self.size, self._limit)
            if length >= LARGE_BYTES:
                self._has_large = True
            table[payload] = data
        entry = Send(data, binary, peer, counter)
        entries = self._entries
        if entries is None:
            self._begin_plan([entry])
        else:
            entries.append(entry)
        self.size = size
        self._last = entry
        self._last_payload = payload

    # Objects' code sends, perhaps with no stack left: what can fail comes first, and then changes nothing.

    def _begin_large(self, peer: Peer, counter: int, payload: str | bytes, binary: bool) -> None:
        data = _encoded(payload)
        length = len(data)
        size = self.size + _ENTRY_BYTES + length
        if size > self._limit and self.size:
            raise OutboxFull(self.size, self._limit)
        self._check_large(length)
        if self._flow is not None:
            self._flow.promised += length
            self._promised += length
        self.size = size
        self._has_large = True
        self._last = entry = Send(data, binary, peer, counter)
        self._last_payload = payload
        self._append(entry)

    def _check_large(self, size: int) -> None:
        flow = self._flow
        if flow is not None and size >= LARGE_BYTES and not flow.takes_large(size):
            raise OutboxFull(flow.large + flow.promised, flow.large_limit, TOO_MUCH_LARGE)

    def _append(self, entry: Send | Record) -> None:
        entries = self._entries
        if entries is None:
            self._begin_plan([entry])
        else:
            entries.append(entry)

    def _begin_plan(self, entries: list[Send | Record]) -> None:
        self._plan(self)
        self._entries = entries
        self.planned = True

    def record(self, peer: Peer, write: Write, size: int = 0, *, behind: int = 0) -> None:
        """Any other record. Never refused.

        Args:
            peer: The router that it is for.
            write: Called with that router's writer when its turn comes.
            size: What it counts with, beside a little for itself.
            behind: The connection whose messages it must not overtake; 0 if there is none.
        """
        self._append((peer, behind, write))
        self._last = self._last_payload = None
        self.size += size + _ENTRY_BYTES

    def note(self, peer: Peer, write: Write) -> None:
        """A record about a connection's output, which leaves behind all entries and so does not end a fold."""
        self.size += _ENTRY_BYTES
        if self._notes is None:
            self._notes = []
        self._notes.append((peer, 0, write))
        if self._entries is None:
            self._begin_plan([])

    def respond(self, peer: Peer, response: HttpResponse, body: Ahead | None = None) -> None:
        """An answer to a request; *body* if that has gone ahead."""
        size = len(response.body) if body is None else 0
        self.record(peer, lambda writer: writer.response(response, body), size)

    def check_room(self, size: int) -> None:
        """Raises:
        OutboxFull: There is no room for a record of *size* bytes.
        """
        if self.size and self.size + size + _ENTRY_BYTES > self._limit:
            raise OutboxFull(self.size, self._limit)

    # --- what backlogs hold ---

    def hold(self, payload: str | bytes, *, behind_others: bool) -> tuple[Held, int]:
        """Count a message that a backlog keeps, until ``let_go``.

        Args:
            payload: The message.
            behind_others: Leave some of the bound to the object's other output.

        Returns:
            The message as it is kept, and the bytes that it counts with.

        Raises:
            OutboxFull, ApiError, UnicodeEncodeError: As for ``send``.
        """
        data, binary = self._encoded(payload), not isinstance(payload, str)
        is_new = self._holders is None or id(data) not in self._holders
        beside = _HOLDER_BYTES if self._is_newest(data, binary) else _ENTRY_BYTES
        size = self.size + beside + (len(data) if is_new else 0)
        if self.size and size > (self._limit - self._limit // _RESERVE if behind_others else self._limit):
            raise OutboxFull(self.size, self._limit)
        if behind_others and is_new:
            self._check_large(len(data))
        self._held_last = payload, data
        return self.keep(data, binary)

    def _is_newest(self, data: Payload, binary: bool) -> bool:
        """Whether that is the message which backlogs have been given last, and keep."""
        held = self._held
        return held is not None and held.data is data and held.binary == binary

    def _encoded(self, payload: str | bytes) -> Payload:
        """One encoding of a payload for all that it is sent to in a row, since what they share counts once."""
        table = self._texts if isinstance(payload, str) else self._binaries
        data: Payload | None = None if table is None or len(payload) >= LARGE_BYTES else table.get(payload)
        if data is None and self._held_last is not None:
            last, encoded = self._held_last
            if last is payload or (
                type(last) is type(payload) and len(last) == len(payload) < LARGE_BYTES and last == payload
            ):
                data = encoded
        return _encoded(payload) if data is None else data

    def _weight(self, data: Payload) -> int:
        """What a payload that is held counts with in this outbox."""
        part, of = _WEIGHT
        return min(len(data), self._limit * part // of)

    def next_place(self) -> int:
        """A number for something that is held: those of all backlogs show the order in which the object made it."""
        self._place += 1
        return self._place

    def keep(self, data: Payload, binary: bool) -> tuple[Held, int]:
        """As ``hold``, for a message that this outbox has taken before: it is not refused."""
        held = self._held
        if held is not None and self._is_newest(data, binary):
            held.holders += 1
            cost = weight = _HOLDER_BYTES
        else:
            self._held = held = Held(self.next_place(), data, binary)
            if self._holders is None:
                self._holders = {}
            holders = self._holders.get(id(data), 0)
            self._holders[id(data)] = holders + 1
            cost = weight = _ENTRY_BYTES
            if not holders:
                cost += len(data)
                weight += self._weight(data)
        self._held_size += weight
        self.size += weight
        return held, cost

    def let_go(self, held: Held) -> int:
        """A backlog does not keep the message any more; returns the bytes that it counted with."""
        held.holders -= 1
        if held.holders:
            cost = weight = _HOLDER_BYTES
        else:
            if self._held is held:
                self._held = None
            data = held.data
            assert self._holders is not None
            holders = self._holders[id(data)] - 1
            cost = weight = _ENTRY_BYTES
            if holders:
                self._holders[id(data)] = holders
            else:
                del self._holders[id(data)]
                cost += len(data)
                weight += self._weight(data)
                if not self._holders:
                    self._holders = self._held_last = None
        self._held_size -= weight
        self.size -= weight
        return cost

    def send_again(self, peer: Peer, counter: int, data: Payload, binary: bool, cost: int) -> None:
        """Send a message that a backlog kept. It has been taken before, so it is not refused; and it goes on counting
        with what it counted there (*cost*), so that others are not refused for it."""
        self.size += cost
        if len(data) >= LARGE_BYTES:
            self._has_large = True
        last = self._last
        if last is not None and last.data is data and last.binary == binary:
            last.add(peer, counter)
        else:
            self._last = entry = SentAgain(data, binary, peer, counter)
            self._last_payload = None
            self._append(entry)

    @property
    def sends_much(self) -> bool:
        """Whether there is more than may leave for one connection in one turn, or what leaves in pieces: some of it is
        going to be held."""
        return self._has_large or self.size - self._held_size > _PORTION

    @property
    def holds(self) -> bool:
        """Whether a backlog keeps something, or a connection is full, or a router behind."""
        return bool(self.backlogs) or self._holders is not None or self.behind is not None

    def bytes_for(self, peer: Peer, counter: int) -> int:
        """Bytes of the messages that are here for one connection, those of its backlog aside.

        Who asks after each send pays for what is new only: the last entry, to which targets may be added, is looked at
        each time, those before it are counted once.
        """
        entries = self._entries
        if not entries:
            return 0
        tally = self._tally
        if tally is None:
            self._tally = tally = {}
        for index in range(self._counted, len(entries) - 1):
            entry = entries[index]
            if isinstance(entry, tuple):
                continue
            size = len(entry.data)
            for router, targets in entry.targets():
                for target in targets:
                    tally[router, target] = tally.get((router, target), 0) + size
        self._counted = max(self._counted, len(entries) - 1)
        last = entries[-1]
        in_last = 0 if isinstance(last, tuple) else last.count(peer, counter) * len(last.data)
        return tally.get((peer, counter), 0) + in_last

    # --- leaving ---

    def goes_to(self, peers: AbstractSet[Peer]) -> bool:
        """Whether some entry is for one of *peers*."""
        return any(
            entry[0] in peers if isinstance(entry, tuple) else not peers.isdisjoint(entry.peers())
            for entry in (*(self._entries or ()), *(self._notes or ()))
        )

    def drain(self) -> tuple[set[Peer], int]:
        """Write all entries to the links of their routers and forget them. Those of a router that is gone are dropped.

        Returns:
            The routers written to, and the number of messages for all connections together.
        """
        entries, self._entries = self._entries or [], None
        self._last = self._last_payload = None
        self._texts = self._binaries = None
        has_large = self._has_large
        much = has_large or self.size - self._held_size > _PORTION
        if self._promised and self._flow is not None:
            self._flow.promised -= self._promised
            self._promised = 0
        self.size = self._held_size
        self.planned = self._has_large = False
        if self._flow is None:
            if has_large:
                _encode_all(entries)
        elif has_large or (much and not self.unheld):
            entries = self._portions(entries, self._flow)
        if self._notes is not None:
            entries += self._notes
            self._notes = None
        if self._tally is not None:
            self._tally, self._counted = None, 0
        written: set[Peer] = set()
        messages = 0
        for entry in entries:
            if isinstance(entry, tuple):
                peer, _, write = entry
                if not peer.closed:
                    write(peer.writer)
                    written.add(peer)
            elif entry.more is None:
                peer = entry.peer
                if not peer.closed:
                    peer.writer.send_one(entry.counter, entry.data, entry.binary)  # type: ignore[arg-type]  # not large
                    written.add(peer)
                    messages += 1
            else:
                for peer, targets in entry.more.items():
                    if targets and not peer.closed:
                        peer.writer.send(targets, entry.data, entry.binary)  # type: ignore[arg-type]  # the same
                        written.add(peer)
                        messages += len(targets)
        if self.waiters is not None:
            waiters, self.waiters = self.waiters, None
            for waiter in waiters:
                waiter()
        return written, messages

    def _portions(self, entries: list[Send | Record], flow: Bounds) -> list[Send | Record]:
        """Leave no more than a portion for each connection among *entries*, and for all together; the rest goes into
        backlogs, and so does what is large.

        A payload that several connections get is at the router once, however many they are. Unless it is large it
        leaves, but not for a connection that has had its portion of others before.
        """
        portion = sys.maxsize if self.unheld else _PORTION
        total = 0
        sent: dict[tuple[Peer, int], int] = {}
        held: dict[tuple[Peer, int], Keeper] = {}
        leaving: list[Send | Record] = []

        def backlog_of(target: tuple[Peer, int], *, at_once: bool) -> Keeper:
            backlog = held.get(target)
            if backlog is None:
                backlog = target[0].held.get(target[1])
                if backlog is not None:
                    # What was put out before its router had no more room stays ahead of what was put out after.
                    backlog.insert()
                else:
                    backlog = flow.begin(self, *target, at_once=at_once)
                held[target] = backlog
            return backlog

        for entry in entries:
            if isinstance(entry, tuple):
                peer, counter, write = entry
                backlog = held.get((peer, counter))
                if backlog is None:
                    leaving.append(entry)
                else:
                    backlog.record(write)
            elif len(entry.data) >= LARGE_BYTES:
                for peer, targets in entry.targets():
                    if not peer.closed:
                        for counter in targets:
                            target = peer, counter
                            # As a message of any size leaves for who has room.
                            backlog = backlog_of(target, at_once=sent.get(target, 0) < _PORTION)
                            backlog.keep(entry.data, entry.binary)
            elif entry.more is None:
                target, size = (entry.peer, entry.counter), len(entry.data)
                before = sent.get(target, 0)
                if target not in held and (
                    (total + size <= portion and before + size <= portion)
                    or isinstance(entry, SentAgain)
                    or entry.peer.closed
                    or target[1] in target[0].held
                    or not total
                ):
                    sent[target] = before + size
                    total += size
                    leaving.append(entry)
                else:
                    backlog_of(target, at_once=not before).keep(entry.data, entry.binary)
            else:
                for target, backlog in held.items():
                    for _ in range(entry.remove(*target)):
                        backlog.keep(entry.data, entry.binary)
                leaving.append(entry)
        for backlog in held.values():
            backlog.inserted()
        return leaving

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


def _encoded(payload: str | bytes) -> Payload:
    """The payload as it goes out.

    Raises:
        ApiError: It has more than ``MAX_PAYLOAD_BYTES``.
        UnicodeEncodeError: It is text with a lone surrogate.
    """
    data: Payload = payload
    if isinstance(payload, str) and (len(payload) < LARGE_BYTES or not payload.isascii()):
        data = payload.encode()
    _check_length(data)
    return data


def _encode_all(entries: list[Send | Record]) -> None:
    """Nothing takes large payloads in pieces: encode them."""
    for entry in entries:
        if isinstance(entry, Send) and isinstance(entry.data, str):
            entry.data = entry.data.encode()


def _check_length(data: Payload) -> None:
    if len(data) > MAX_PAYLOAD_BYTES:
        # The wire could not carry it, and the link would break.
        raise ApiError(f"a message can have at most {MAX_PAYLOAD_BYTES} bytes, got {len(data)}")
