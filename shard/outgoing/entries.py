"""What an outbox is made of: payloads with their targets, other records, and messages that backlogs keep."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from .peers import Peer

if TYPE_CHECKING:
    from ...common.wire.records import OutputWriter

Payload = bytes | str
"""A payload as it goes out: encoded, or large ASCII text as it is."""


class Send:
    """A payload with its targets: one in ``peer`` and ``counter``, as most have; or all of several in ``more``."""

    __slots__ = ("binary", "counter", "data", "more", "peer")

    def __init__(self, data: Payload, binary: bool, peer: Peer, counter: int) -> None:
        self.data = data
        self.binary = binary
        self.peer = peer
        self.counter = counter
        self.more: dict[Peer, array[int]] | None = None

    def add(self, peer: Peer, counter: int) -> None:
        """One connection more gets it."""
        more = self.more
        if more is None:
            self.more = more = {self.peer: array("I", (self.counter,))}
        try:
            more[peer].append(counter)
        except KeyError:
            more[peer] = array("I", (counter,))

    def peers(self) -> Iterable[Peer]:
        """The routers that it goes to."""
        return (self.peer,) if self.more is None else self.more

    def targets(self) -> Iterable[tuple[Peer, Sequence[int]]]:
        """The connections by router."""
        return ((self.peer, (self.counter,)),) if self.more is None else self.more.items()

    def count(self, peer: Peer, counter: int) -> int:
        """How often a connection is among the targets."""
        if self.more is None:
            return int(self.peer is peer and self.counter == counter)
        targets = self.more.get(peer)
        return 0 if targets is None else targets.count(counter)

    def remove(self, peer: Peer, counter: int) -> int:
        """Take a connection out of several targets; returns how often it was among them."""
        assert self.more is not None
        targets = self.more.get(peer)
        times = 0 if targets is None else targets.count(counter)
        if times and targets is not None:
            self.more[peer] = array("I", (target for target in targets if target != counter))
        return times


class SentAgain(Send):
    """One that a backlog has kept and its router has room for: it leaves, whatever else does."""

    __slots__ = ()


class Held:
    """A message that backlogs keep: one for all connections that get it in a row, since there may be thousands.

    Args:
        place: Its place in all that the object's backlogs keep.
        data: The message as it goes out.
        binary: Binary or text.

    Attributes:
        holders: How many backlogs keep it.
    """

    __slots__ = ("binary", "data", "holders", "place")

    def __init__(self, place: int, data: Payload, binary: bool) -> None:
        self.place = place
        self.data = data
        self.binary = binary
        self.holders = 1


Write = Callable[["OutputWriter"], None]
"""Writes a record, when its turn comes."""
Record = tuple[Peer, int, Write]
"""Any other record: its router, the connection whose messages it must not overtake (0: none), what writes it."""
