"""The outbox of an object: its output of one turn of the loop, folded, until it is written to the routers' links.

``for ws in ctx.get_web_sockets(): ws.send(text)`` is one record to each router and is encoded once: a send of the
payload that was sent last only adds its target to that entry. Payloads are compared by identity, then type and
length, then value. Different payloads in turn cost their targets only, since a link's writer puts each distinct
payload of a group on the wire once. Order per connection and multiplicity stay: entries leave in the order made, and
an entry of any other kind (a close, an attachment, a response, object state) ends the fold.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..common.errors import OutboxFull
from ..common.limits import OUTBOX_BYTES

if TYPE_CHECKING:
    from ..common.records import OutputWriter
    from .peers import Peer

_ENTRY_BYTES = 64
"""What an entry is counted with beside its payload."""
_TARGET_BYTES = 4


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
    """Output of one object that has not left.

    Attributes:
        size: Bytes held, roughly: payloads once each, 4 for each target.
    """

    __slots__ = ("_encoded", "_entries", "_last", "_last_payload", "_limit", "_plan", "planned", "size")

    def __init__(self, plan: Callable[[], None], limit: int = OUTBOX_BYTES) -> None:
        """Args:
        plan: Called when the outbox stops being empty: flush it at the end of this turn.
        limit: Bytes it may hold.
        """
        self._entries: list[_Send | tuple[Peer, Callable[[OutputWriter], None]]] = []
        self._last: _Send | None = None
        self._last_payload: str | bytes | None = None
        self._encoded: dict[str, bytes] = {}
        self._plan = plan
        self._limit = limit
        self.size = 0
        self.planned = False

    def send(self, peer: Peer, counter: int, payload: str | bytes) -> None:
        """A message to one connection.

        Raises:
            OutboxFull: The outbox holds as much as it may; the message is not taken.
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
        if isinstance(payload, str):
            data = self._encoded.get(payload)
            if data is None:
                data = payload.encode()
                self._encoded[payload] = data
            binary = False
        else:
            data, binary = payload, True
        size = self.size + len(data) + _ENTRY_BYTES
        if size > self._limit and self.size:
            raise OutboxFull(self.size, self._limit)
        self.size = size
        self._last = entry = _Send(data, binary, peer, counter)
        self._last_payload = payload
        self._entries.append(entry)
        if not self.planned:
            self.planned = True
            self._plan()

    def record(self, peer: Peer, write: Callable[[OutputWriter], None], size: int = 0) -> None:
        """Any other record: *write* is called with the writer of *peer* when its turn comes. Never refused."""
        self._last = self._last_payload = None
        self._entries.append((peer, write))
        self.size += size + _ENTRY_BYTES
        if not self.planned:
            self.planned = True
            self._plan()

    def goes_to(self, peers: set[Peer]) -> bool:
        """Whether some entry is for one of *peers*."""
        return any(
            entry[0] in peers if isinstance(entry, tuple) else not peers.isdisjoint(entry.peers())
            for entry in self._entries
        )

    def drain(self) -> tuple[set[Peer], int]:
        """Write all entries to the links of their routers and forget them. Those of a router that is gone are dropped.

        Returns:
            The routers written to, and the number of messages for all connections together.
        """
        entries, self._entries = self._entries, []
        self._last = self._last_payload = None
        self._encoded.clear()
        self.size = 0
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
