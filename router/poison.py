"""What kills shards: the deaths at which an event or an object was running, and what is therefore not tried again.

A shard that dies leaves its last words: which event's code was running (``common.last_words``). The event is sent
again to the owner that comes next, since it may have had nothing to do with the death. But not for ever:

* An event that was running at ``MAX_DEATHS_OF_EVENT`` deaths is not sent again.
* An event that was running at one death is sent again to a shard of the same seat only (the dead one's successor). When
  others inherit the slot, it is not given to them: if it kills, it takes no second shard down.
* An object that was running at ``MAX_DEATHS_OF_OBJECT`` deaths within ``DEATHS_WINDOW_S``, whatever the events, is
  refused for that long: it kills by something that comes again in new events.

Every router reads the last words of every shard, so all of them refuse an object at the same time; an event is the
business of the router that has its connection.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ..common.ids import ObjectId
from ..common.limits import DEATHS_WINDOW_S, MAX_DEATHS_OF_EVENT, MAX_DEATHS_OF_OBJECT

MAX_EVENTS = 4_096
"""Events that are kept in mind; beyond that the one noted longest ago is forgotten."""
MAX_OBJECTS = 4_096
"""The same for objects."""


@dataclass(frozen=True, slots=True)
class Running:
    """What was running when a shard died.

    Attributes:
        object_id: The object whose code it was.
        connection: The connection of the event, by its counter at this router; 0 when it was a request, or an event of
            another router's connection.
        seq: Number of the event.
    """

    object_id: ObjectId
    connection: int
    seq: int


@dataclass(slots=True)
class _Noted:
    seat: str
    deaths: int


class Deaths:
    """Keeps count."""

    __slots__ = ("_events", "_objects", "_refused_until")

    def __init__(self) -> None:
        self._events: dict[tuple[int, int], _Noted] = {}
        self._objects: dict[ObjectId, deque[float]] = {}
        self._refused_until: dict[ObjectId, float] = {}

    def note(self, running: Running, seat: str, now: float) -> bool:
        """A shard has died.

        Args:
            running: Its last words.
            seat: Its seat.
            now: Seconds, monotonic.

        Returns:
            Whether the object is refused from now on.
        """
        if running.connection:
            key = running.connection, running.seq
            noted = self._events.pop(key, None) or _Noted(seat, 0)
            noted.deaths += 1
            self._events[key] = noted
            if len(self._events) > MAX_EVENTS:
                del self._events[next(iter(self._events))]
        times = self._objects.pop(running.object_id, None) or deque(maxlen=MAX_DEATHS_OF_OBJECT)
        times.append(now)
        self._objects[running.object_id] = times
        if len(self._objects) > MAX_OBJECTS:
            oldest = next(iter(self._objects))
            del self._objects[oldest]
            self._refused_until.pop(oldest, None)
        if len(times) < MAX_DEATHS_OF_OBJECT or now - times[0] > DEATHS_WINDOW_S:
            return False
        self._refused_until[running.object_id] = now + DEATHS_WINDOW_S
        return True

    def poisoned(self, seat: str) -> dict[int, list[int]]:
        """The events that must not be sent to a shard of *seat*: by connection, ascending."""
        found: dict[int, list[int]] = {}
        for (connection, seq), noted in self._events.items():
            if noted.deaths >= MAX_DEATHS_OF_EVENT or noted.seat != seat:
                found.setdefault(connection, []).append(seq)
        return found

    def forget(self, connection: int, seq: int) -> None:
        """The event is not kept any more."""
        self._events.pop((connection, seq), None)

    def refuses(self, object_id: ObjectId, now: float) -> bool:
        """Whether nothing is to be sent to the object for now."""
        until = self._refused_until.get(object_id)
        if until is None:
            return False
        if now < until:
            return True
        del self._refused_until[object_id]
        return False

    @property
    def refuses_any(self) -> bool:
        """Whether there may be an object that is refused."""
        return bool(self._refused_until)
