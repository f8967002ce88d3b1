"""What the sockets of a shard keep in their packages, all together: tags, attachments, and the URLs of handshakes.

Each has a bound of its own, and a shard may have 100,000 sockets and more. So what all packages take is counted, here
and so for the routers too, which keep the same for as long as a socket lives. What would be too much is refused to the
object that asks for it, and changes nothing. Sockets that come from another shard are never refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from sys import getsizeof
from typing import Protocol

from ...common.budget import Budget
from ...common.errors import PackagesFull
from ..counters import ShardCounters

TAG_BYTES = 150
"""What a tag takes beside its text: its places in the socket's tuple and in the index."""


class Counted(Protocol):
    """A socket whose package counts.

    Attributes:
        package_bytes: What it counts with.
    """

    package_bytes: int


class Packages:
    """The account of one shard's hibernatable sockets.

    Args:
        budget: Bytes that all of them may take.
        counters: Where is counted what is refused.
    """

    __slots__ = ("_budget", "_counters")

    def __init__(self, budget: Budget, counters: ShardCounters) -> None:
        self._budget = budget
        self._counters = counters

    def check(self, more: int) -> None:
        """Raises:
        PackagesFull: *more* bytes would be too much.
        """
        budget = self._budget
        if more > 0 and not budget.fits(more):
            self._counters.packages_refused += 1
            raise PackagesFull(budget.taken, more, budget.limit)

    def change(self, socket: Counted, more: int) -> None:
        """The package of *socket* takes *more* bytes than before."""
        socket.package_bytes += more
        self._budget.taken += more

    def forget(self, socket: Counted) -> None:
        """*socket* is over; fine if it was before."""
        self.change(socket, -socket.package_bytes)


def size_of(tags: Iterable[str], url: str, attachment: bytes | None) -> int:
    """Bytes that a package takes, the socket itself aside."""
    size = getsizeof(url) + sum([TAG_BYTES + getsizeof(tag) for tag in tags])
    return size if attachment is None else size + getsizeof(attachment)
