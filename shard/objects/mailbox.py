"""The mailbox of an object: events that have come and cannot start yet.

Events wait while the object is being constructed, inside ``block_concurrency_while``, or until every router has
restored its slot. Then they start per connection in order, connections in turn (m1, n1, m2, as in the reference
runtime), so that a talkative client does not hold the others up. Requests count as connections of their own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

E = TypeVar("E")


class Mailbox(Generic[E]):
    """Waiting events; its owner keeps the bound, since events that have started count as well."""

    __slots__ = ("_queues", "_turns")

    def __init__(self) -> None:
        # Made when needed: nearly all mailboxes are empty nearly all the time, and there is one for each object.
        self._queues: dict[Hashable, deque[E]] | None = None
        self._turns: deque[Hashable] | None = None  # the sources, in the order of their turns

    def __bool__(self) -> bool:
        return self._queues is not None

    def put(self, source: Hashable, event: E) -> None:
        """Let *event* wait behind those of the same *source* (a socket or a request)."""
        if self._queues is None or self._turns is None:
            self._queues, self._turns = {}, deque()
        queue = self._queues.get(source)
        if queue is None:
            self._queues[source] = queue = deque()
            self._turns.append(source)
        queue.append(event)

    def take(self) -> E:
        """The next event: the first of the source whose turn it is, which then goes to the end.

        Raises:
            LookupError: There is none.
        """
        if self._queues is None or self._turns is None:
            raise LookupError("the mailbox is empty")
        source = self._turns.popleft()
        queue = self._queues[source]
        event = queue.popleft()
        if queue:
            self._turns.append(source)
        else:
            del self._queues[source]
            if not self._turns:
                self._queues = self._turns = None
        return event
