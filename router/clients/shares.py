"""Which address has the largest share of something that clients take from all, and who of its holders came first.

When there is too little of a thing that costs a client nothing to take (a TCP connection, a place among handshakes),
somebody has to go. It is the one that has been there for longest of the address that has most: a crowd from one address
goes before anybody else, and whoever has just come stays. Behind a proxy all have one address, and the oldest goes.

An address of IPv6 counts by its network of 64 bits, since every customer has that many.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from ipaddress import IPv6Address
from typing import Generic, TypeVar

Holder = TypeVar("Holder", bound=Hashable)


def share_of(peername: object) -> str | bytes:
    """The address that a connection counts for.

    Args:
        peername: As the transport tells it: a tuple that begins with the address, or anything else where there is none.
    """
    host = peername[0] if isinstance(peername, tuple) and peername else ""
    if ":" not in host:
        return str(host)
    address = IPv6Address(host)
    return str(address.ipv4_mapped) if address.ipv4_mapped is not None else address.packed[:8]


class Shares(Generic[Holder]):
    """Holders by address. Each step costs the same, however many there are."""

    __slots__ = ("_by_size", "_largest", "_of", "_shares")

    def __init__(self) -> None:
        self._of: dict[Holder, Hashable] = {}
        self._shares: dict[Hashable, OrderedDict[Holder, None]] = {}
        self._by_size: dict[int, OrderedDict[Hashable, None]] = {}
        self._largest = 0

    def __len__(self) -> int:
        """How many there are."""
        return len(self._of)

    def add(self, holder: Holder, address: Hashable) -> None:
        """*holder* has come; it is in no share."""
        self._of[holder] = address
        share = self._shares.setdefault(address, OrderedDict())
        self._resize(address, len(share), len(share) + 1)
        share[holder] = None

    def remove(self, holder: Holder) -> None:
        """*holder* has gone; fine if it was in no share."""
        address = self._of.pop(holder, None)
        if address is None:
            return
        share = self._shares[address]
        del share[holder]
        self._resize(address, len(share) + 1, len(share))
        if not share:
            del self._shares[address]

    def size(self, address: Hashable) -> int:
        """How many an address has."""
        return len(self._shares.get(address, ()))

    @property
    def largest(self) -> int:
        """How many the address has that has most."""
        return self._largest

    def first_of_largest(self) -> Holder | None:
        """The first that has come of those of the address that has most; ``None`` if there are none."""
        if not self._largest:
            return None
        address = next(iter(self._by_size[self._largest]))
        return next(iter(self._shares[address]))

    def _resize(self, address: Hashable, before: int, after: int) -> None:
        by_size = self._by_size
        if before:
            del by_size[before][address]
            if not by_size[before]:
                del by_size[before]
        if after:
            by_size.setdefault(after, OrderedDict())[address] = None
        if after > self._largest:
            self._largest = after
        elif self._largest == before and before not in by_size:
            self._largest = after  # it was alone with that size, so that no other is larger than what it has now
