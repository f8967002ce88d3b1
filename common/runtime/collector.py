"""When the garbage collector looks at everything, and at how much.

A full collection stops the loop for as long as it takes to visit each object, and finds next to nothing: the code here
breaks its reference cycles by hand. With 100,000 sockets and 10,000 objects awake that is a quarter of a second. So
full collections are taken from CPython's hands, and cut in two. The younger generations go on as usual, and where
thousands may come and go the youngest is collected by time as well (``on_tick``).

* **What is new** is collected by itself, and what survives that is *frozen*: later collections need not look at it.
  This happens whenever the process holds a ``PORTION`` more than before, and, where users' code runs, by time: users
  make cycles as they like (``self.handlers = {"x": self.on_x}``), and an instance in one is not freed when its object
  sleeps. It also happens there when very much has been made within that time (``MUCH``): a million handlers that wait
  would be looked at in one go, for half a second.
* **Everything** is collected after a second without traffic. During traffic only where users' code runs, and only once
  ``SUSPECTS`` lives of objects have ended that had begun before the last freezing: the instances of those may be frozen
  garbage. Whatever else is frozen ends by its references alone.

Both are so far apart during traffic that they take a ``SHARE`` of the time at most.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable

from ..machine.counters import Counters
from .clock import Clock

log = logging.getLogger("roost.collector")

PAUSE_S = 60.0
"""Seconds between two collections of everything without traffic."""
BUSY_PAUSE_S = 15.0
"""Seconds between two collections while there is traffic, at least."""
SHARE = 1 / 1000
"""Of the time, what each kind may take while there is traffic."""
PORTION = 500
"""Connections or objects more than were frozen, after which what is new is collected and frozen."""
LONG_S = 0.01
"""Seconds that a collection of what is new may take without its survivors being frozen."""
MUCH = 20_000
"""Objects that have come since, and have outlived two collections of what is young, which do not wait for the time. A
collection of so many takes some 4 ms."""
LOOK = 4
"""Collections of the middle generation between two looks at how many these are. CPython has one whenever 7,000 objects
were made, and not at once let go of."""
MOST_LOOK = 16
"""The same where looks have found little: then much is made and goes soon."""
SUSPECTS = 256
"""Lives of objects that may have left garbage among what is frozen, after which everything is collected."""
_NEVER = 1 << 30


class Collector:
    """Runs full collections at fitting times.

    Args:
        counters: Where collections are counted.
        clock: For their length.
        held: How many things the process holds (connections, objects).
        traffic: A figure that grows with each message.
        lives: Where users' code runs: how many lives of it there are, and how many have ended so far. Collections go on
            during traffic then.
        after_all: Called when everything was collected and there is no traffic: there is time for more.
    """

    def __init__(
        self,
        counters: Counters,
        clock: Clock,
        held: Callable[[], int],
        traffic: Callable[[], int],
        lives: Callable[[], tuple[int, int]] | None = None,
        after_all: Callable[[], object] = lambda: None,
    ) -> None:
        self._counters = counters
        self._clock = clock
        self._held = held
        self._traffic = traffic
        self._lives = lives
        self._after_all = after_all
        self._soon: Callable[[Callable[[], None]], object] | None = None
        self._planned = False
        self._look_at, self._left = LOOK, 0
        self._traffic_then = 0
        self._frozen = 0
        self._frozen_lives = self._ended_then = self._suspects = 0
        now = clock.now()
        self._new_at = self._all_at = now
        self._new_pause_s = self._all_pause_s = BUSY_PAUSE_S

    def start(self, soon: Callable[[Callable[[], None]], object] | None = None) -> None:
        """Set aside what the process began with: it stays, and later collections need not look at it.

        Args:
            soon: Has something called soon, from whichever thread: until ``stop``, what is new is collected whenever it
                is ``MUCH``.
        """
        if soon is not None:
            self._soon = soon
            gc.callbacks.append(self._note)
        gc.collect()
        gc.freeze()
        young, middle, _ = gc.get_threshold()
        gc.set_threshold(young, middle, _NEVER)

    def on_tick(self) -> None:
        """Collect what is young. Call it some times a second, when thousands may come in one.

        CPython does that by itself once so many more objects have been made than have gone, whatever their age. Where
        as many go as come, as when some are ended for others, that time never comes, and what counts as young becomes
        all that there is: 1,000,000 header fields once took 40 ms.
        """
        gc.collect(0)
        held = self._held()
        self._frozen = min(self._frozen, held)
        if held - self._frozen >= PORTION:
            self._collect_new(grown=True)

    def stop(self) -> None:
        """Do not look any more at how much is new."""
        if self._note in gc.callbacks:
            gc.callbacks.remove(self._note)

    def _note(self, phase: str, info: dict[str, int]) -> None:
        """CPython has begun or ended a collection, wherever the code is that is running."""
        if phase == "stop" and info["generation"] == 1 and not self._planned and gc.get_count()[2] >= self._look_at:
            assert self._soon is not None
            try:
                self._soon(self._look)
            except RecursionError:
                return  # what runs has hardly any stack left: the next collection will do
            self._planned = True

    def _look(self) -> None:
        """Collect what is new if it is much. To count it takes a twentieth of that time."""
        self._planned = False
        count = gc.get_count()[2]
        if count < self._look_at:
            return  # it was collected meanwhile
        if len(gc.get_objects(2)) - self._left < MUCH:
            self._look_at = count + min(count, MOST_LOOK)
        else:
            self._collect_new(grown=False)

    def on_second(self) -> None:
        """Collect if the time is right. Call it about once a second."""
        traffic, held, now = self._traffic(), self._held(), self._clock.now()
        idle, self._traffic_then = traffic == self._traffic_then, traffic
        self._frozen = min(self._frozen, held)
        if self._may_collect_all(idle, now):
            self._collect_all()
            if idle:
                self._after_all()
        elif held - self._frozen >= PORTION or (self._lives is not None and now - self._new_at >= self._new_pause_s):
            self._collect_new(grown=held - self._frozen >= PORTION)

    def _may_collect_all(self, idle: bool, now: float) -> bool:
        if idle and now - self._all_at >= PAUSE_S:
            return True
        return now - self._all_at >= self._all_pause_s and self._suspected() >= SUSPECTS

    def _suspected(self) -> int:
        """How many lives have ended, at most, that something frozen may belong to."""
        if self._lives is None:
            return 0
        _, ended = self._lives()
        return self._suspects + min(self._frozen_lives, ended - self._ended_then)

    def _freeze(self, suspects: int) -> None:
        gc.freeze()
        self._left = 0
        self._frozen, self._suspects = self._held(), suspects
        if self._lives is not None:
            self._frozen_lives, self._ended_then = self._lives()

    def _collect_new(self, *, grown: bool) -> None:
        took = self._collect()
        self._new_at = self._clock.now()
        self._new_pause_s = max(BUSY_PAUSE_S, took / SHARE)
        if grown or took > LONG_S:
            self._freeze(self._suspected())
        elif self._soon is not None:
            self._left = len(gc.get_objects(2))

    def _collect_all(self) -> None:
        gc.unfreeze()
        took = self._collect()
        self._freeze(0)
        self._new_at = self._all_at = self._clock.now()
        self._all_pause_s = max(BUSY_PAUSE_S, took / SHARE)

    def _collect(self) -> float:
        """Collect what is not frozen; returns the seconds that it took."""
        before = self._clock.now()
        gc.collect()
        took = self._clock.now() - before
        self._look_at = LOOK
        counters = self._counters
        counters.collections += 1
        counters.longest_collection_us = max(counters.longest_collection_us, int(took * 1e6))
        log.debug("a full collection took %.0f µs", took * 1e6)
        return took
