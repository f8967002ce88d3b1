"""Which objects may fall asleep, and when to look.

An object is entered once it has become idle, and looked at when that idleness would be long enough; if it has been busy
since, it is looked at again later. So an event costs an object no more than a note of the time.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import Generic, Protocol, TypeVar


class Sleeper(Protocol):
    """An object that falls asleep.

    Attributes:
        queued_for_sleep: It is entered.
    """

    queued_for_sleep: bool

    @property
    def idle_since(self) -> float:
        """When it last became idle."""
        ...

    @property
    def may_sleep(self) -> bool:
        """Whether nothing keeps it awake, timers apart."""
        ...

    def last_timer(self, now: float) -> float:
        """When the last timer of its code fires, or has fired; 0 without any."""
        ...


S = TypeVar("S", bound=Sleeper)


class SleepQueue(Generic[S]):
    """Objects by when to look at them next. Times are seconds of one clock.

    Args:
        patience_s: Seconds of idleness after which an object falls asleep.
    """

    __slots__ = ("_heap", "_numbers", "_patience_s")

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._heap: list[tuple[float, int, S]] = []
        self._numbers = count()  # breaks ties: objects have no order

    @property
    def next_at(self) -> float | None:
        """When to call ``due`` next; ``None`` if no object is entered."""
        return self._heap[0][0] if self._heap else None

    def enter(self, owner: S, now: float) -> None:
        """*owner*, which is not entered, may be idle since *now*."""
        owner.queued_for_sleep = True
        heapq.heappush(self._heap, (now + self._patience_s, next(self._numbers), owner))

    def due(self, now: float) -> list[S]:
        """The objects that have been idle for long enough, asleep ones included; they are not entered any more."""
        heap, ready = self._heap, []
        while heap and heap[0][0] <= now:
            owner = heap[0][2]
            at = owner.idle_since + self._patience_s
            if at <= now:
                # Looked for only now: most objects have never set a timer.
                at = owner.last_timer(now) + self._patience_s
            if at <= now and owner.may_sleep:
                owner.queued_for_sleep = False
                ready.append(owner)
                heapq.heappop(heap)
            else:
                # One that is busy now comes back by itself, but may end its last task without a word, or cancel its
                # timers.
                again = min(at, now + self._patience_s) if at > now else now + self._patience_s
                heapq.heapreplace(heap, (again, next(self._numbers), owner))
        return ready
