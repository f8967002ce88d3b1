"""The mailbox of an object: events that have come and cannot start yet.

Events wait while the object is being constructed, inside ``block_concurrency_while``, or until every router has
restored its slot. Then they start per connection in order, connections in turn (behaviour: m1, n1, m2), so that a
talkative client does not hold the others up. Requests count as connections of their own.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

E = TypeVar("E")


class Mailbox(Generic[E]):
    """Waiting events; its owner keeps the bound, since events that have started count as well."""

    __slots__ = ("_queues",)

    def __init__(self) -> None:
        self._queues: OrderedDict[Hashable, deque[E]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._queues)

    def put(self, source: Hashable, event: E) -> None:
        """Let *event* wait behind those of the same *source* (a socket or a request)."""
        queue = self._queues.get(source)
        if queue is None:
            self._queues[source] = queue = deque()
        queue.append(event)

    def take(self) -> E:
        """The next event: the first of the source whose turn it is, which then goes to the end.

        Raises:
            LookupError: There is none.
        """
        source, queue = self._queues.popitem(last=False)
        event = queue.popleft()
        if queue:
            self._queues[source] = queue
        return event
