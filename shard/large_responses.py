"""Responses of some size, on their way to routers: one after the other, so that nobody else's output stands behind all
of them.

A request of 50 bytes can make a response of many megabytes, and sixty of them in one turn would be two gigabytes in a
link, in front of what everybody else's object says. So a large response waits here until its link has little under
way; then the next one leaves, of the objects in turn. What a response overtakes by waiting are only messages to other
clients. Small ones, upgrades, and all of an object that moves leave with its outbox as ever.

**The bound** is shared with held output (``all_held_bytes``). What is free of it is also what one object may have: so
the first that makes much gets half of it, and there is room for others. A response beyond that is answered with 503.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..common.records import AcceptMode, HttpResponse

if TYPE_CHECKING:
    from .outbox import Outbox
    from .peers import Peer

LARGE_BYTES = 64 << 10
"""Bytes of a body from which on a response waits for its turn."""
UNDER_WAY_BYTES = 1 << 20
"""Bytes that a link may have under way, not confirmed, when another large response leaves."""


class LargeResponses:
    """Those of one shard.

    Args:
        free: Bytes that are free of the bound, these responses not counted.
        plan: Sees to it that ``release`` is called at the end of this turn.

    Attributes:
        size: Bytes of all that wait.
    """

    __slots__ = ("_free", "_of_outbox", "_plan", "_queues", "size")

    def __init__(self, free: Callable[[], int], plan: Callable[[], None]) -> None:
        self._free = free
        self._plan = plan
        self._queues: dict[Peer, OrderedDict[Outbox, deque[HttpResponse]]] = {}
        self._of_outbox: dict[Outbox, int] = {}
        self.size = 0

    def __bool__(self) -> bool:
        """Whether some wait."""
        return bool(self._queues)

    def has(self, outbox: Outbox) -> bool:
        """Whether some of this object wait."""
        return outbox in self._of_outbox

    def takes(self, outbox: Outbox, response: HttpResponse) -> bool:
        """Whether *response* is one that waits for its turn."""
        return len(response.body) >= LARGE_BYTES and response.mode is AcceptMode.PLAIN and not outbox.unheld

    def put(self, outbox: Outbox, peer: Peer, response: HttpResponse) -> bool:
        """Let *response* wait for its turn.

        Returns:
            Whether there is room for it. One response of any size has room when nothing else waits.
        """
        size, own = len(response.body), self._of_outbox.get(outbox, 0)
        if self._queues and own + size > self._free() - self.size:
            return False
        self._queues.setdefault(peer, OrderedDict()).setdefault(outbox, deque()).append(response)
        self._count(outbox, size)
        self._plan()
        return True

    def release(self) -> None:
        """Hand over to the outboxes what may leave in this turn."""
        for peer in list(self._queues):
            under_way = peer.link.session.unconfirmed_bytes
            while peer in self._queues and under_way < UNDER_WAY_BYTES and not peer.link.blocked:
                outbox, waiting = self._queues[peer].popitem(last=False)
                response = waiting.popleft()
                if waiting:
                    self._queues[peer][outbox] = waiting  # behind those of other objects
                elif not self._queues[peer]:
                    del self._queues[peer]
                self._count(outbox, -len(response.body))
                under_way += len(response.body)
                outbox.respond(peer, response)

    def let_go(self, outbox: Outbox) -> None:
        """The object moves, or its shard ends: all of its responses leave now."""
        for peer, queue in list(self._queues.items()):
            for response in queue.pop(outbox, ()):
                self._count(outbox, -len(response.body))
                outbox.respond(peer, response)
            if not queue:
                del self._queues[peer]

    def lose(self, peer: Peer) -> None:
        """The router has gone."""
        for outbox, waiting in self._queues.pop(peer, {}).items():
            self._count(outbox, -sum(len(response.body) for response in waiting))

    def _count(self, outbox: Outbox, change: int) -> None:
        self.size += change
        left = self._of_outbox.get(outbox, 0) + change
        if left:
            self._of_outbox[outbox] = left
        else:
            del self._of_outbox[outbox]
