"""Work that one client makes for the loop: in small steps, in turn with that of others, for a slice of each turn.

One read of a client's socket may hold 40,000 frames, or as many header fields, chunks or requests. What is more than a
*step* of it (a fraction of a millisecond) is not looked at in the callback of that read. Its connection is not read on,
and stands in the one queue of all that have something left to do: each turn of the loop takes steps of those in turn,
``SLICE_S`` long. Who has just come, and may need no more than a step, goes before those who have had one and use up
what they have sent; these have a step in each other turn at least, whoever comes. So whatever clients send, the loop
comes round, and everybody else is served in between. A connection whose read holds little, which is nearly every one,
never meets the queue; but when very many of these come in one turn, each with a request or some control frames, only
some are handled where they come (``AT_ONCE_BYTES``). Whole messages that come alone are, always. And when very many
clients end in one turn, some are let go of where that is noticed, the others in turn (``Ending``).

The router has work of its own that grows with what clients have: a shard's death is looked up for each of its
connections, a bucket of the timer wheel may hold thousands of them. That is done in steps as well (``Errand``), in a
queue and a slice beside the clients', so that neither waits for the other.

Connections that cannot go on wait at a ``Gate`` for what they need: their object's mailbox, their shard's link, or the
windows of all together. Nothing is tried while the gate is shut. When it opens, those who wait go through one after the
other, as work like any other, until it shuts again: the cost is in proportion to what goes on.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Protocol

SLICE_S = 0.00015
"""Seconds of each turn of the loop in which clients' work is done that was left over. Whoever sends little waits for
two or three turns until the answer is back, so a turn is to be short beside that road, which takes 0.3 ms when nobody
else wants anything. A turn that does nothing takes a tenth of this."""
OWN_SLICE_S = 0.001
"""The same for the router's own work."""
AT_ONCE_BYTES = 32 << 10
"""Bytes that callbacks of reads take apart in one turn, together, where a small read costs as much as 512 of them:
thousands of sockets may have something in the same turn. What is beyond it is work that is left over."""
ENDS_AT_ONCE = 64
"""Clients that have ended whom a turn lets go of at once: some 1 ms. What is beyond them takes its turn, too."""
LEAST_COST = 512
MOST_COST = 4 << 10
"""Bytes of a step."""
STEPS_AT_ONCE = 8
"""Steps of an errand between two looks at the clock: of some 10 µs each."""


class Breakable(Protocol):
    """Whom an error of ours may end."""

    def break_off(self, error: Exception) -> None:
        """*error*, a defect of ours, was raised for it: end."""
        ...


class Worker(Breakable, Protocol):
    """What has work left over."""

    def work(self) -> bool:
        """Do a step of it, well under a millisecond.

        Returns:
            Whether there is more that can be done now.
        """
        ...


class Work:
    """The queue of one router.

    Args:
        on_work: Called when there is work after there was none; its shell then calls ``run`` in the next loop turn, and
            again as long as that returns true.
        now: Seconds, monotonic.
        worked: Seconds for which this thread has had a processor.

    Attributes:
        longest_turn: Seconds of the longest turn of the loop that was seen between two slices, the shell's to reset.
        most_worked: Seconds of processor time of the turn that took most of it.
        worked_then: Processor time at the last slice.
        taken: What reads have cost that were handled where they came, in bytes, since the last slice.
    """

    __slots__ = (
        "_began",
        "_clients",
        "_ended",
        "_new",
        "_now",
        "_on_work",
        "_owed",
        "_own",
        "_queued",
        "_worked",
        "longest_turn",
        "most_worked",
        "taken",
        "worked_then",
    )

    def __init__(
        self, on_work: Callable[[], None], now: Callable[[], float], worked: Callable[[], float] = time.thread_time
    ) -> None:
        self._on_work = on_work
        self._now = now
        self._worked = worked
        self.worked_then = 0.0
        self._new: deque[Worker] = deque()
        self._clients: deque[Worker] = deque()
        self._own: deque[Worker] = deque()
        self._queued: set[Worker] = set()
        self._owed = False
        self._began = 0.0
        self._ended = 0
        self.taken = 0
        self.longest_turn = self.most_worked = 0.0

    def __len__(self) -> int:
        """How many have work left over."""
        return len(self._queued)

    def takes(self, size: int) -> bool:
        """Whether *size* bytes that were just read may be taken apart at once. If not, their reader is to be added."""
        self.taken += max(LEAST_COST, min(size, MOST_COST))
        return self.taken <= AT_ONCE_BYTES

    @property
    def is_full(self) -> bool:
        """Whether reads have cost all that may be spent on them where they come."""
        return self.taken > AT_ONCE_BYTES

    def ends(self, ending: Worker) -> bool:
        """A client has ended. Whether it may be let go of at once; if not, *ending* does that when its turn has come:
        that of thousands would be one long turn. Who has just sent something goes before it."""
        self._ended += 1
        if self._ended <= ENDS_AT_ONCE:
            return True
        self._add(ending, self._clients)
        return False

    def add(self, worker: Worker) -> None:
        """*worker* has work of clients left over; fine if it was added before."""
        self._add(worker, self._new)

    def add_own(self, worker: Worker) -> None:
        """*worker* has work left over that is the router's own; fine if it was added before."""
        self._add(worker, self._own)

    def _add(self, worker: Worker, queue: deque[Worker]) -> None:
        if worker not in self._queued:
            self._queued.add(worker)
            queue.append(worker)
            if len(self._queued) == 1:
                self._began = 0.0  # the loop may sleep between the last slice and the next
                self._on_work()

    def run(self) -> bool:
        """Work for one turn of the loop.

        Returns:
            Whether there is more to do.
        """
        self.taken = self._ended = 0
        began, worked = self._now(), self._worked()
        if self._began:
            self.longest_turn = max(self.longest_turn, began - self._began)
            self.most_worked = max(self.most_worked, worked - self.worked_then)
        self._began, self.worked_then = began, worked
        if self._own:
            began = self._run_own(began + OWN_SLICE_S)
        if self._new or self._clients:
            self._run_clients(began + SLICE_S)
        return bool(self._queued)

    def _run_own(self, until: float) -> float:
        """Do work of the router's own until the time is *until*; returns what it is then."""
        own, at = self._own, until
        while own:
            self._step(own, own)
            if (at := self._now()) >= until:
                break
        return at

    def _run_clients(self, until: float) -> None:
        """Do work of clients until the time is *until*: first of those who have come, but for one step of the others
        if they had to stand back in the turn before."""
        new, others = self._new, self._clients
        owed, self._owed = self._owed, False
        while new or others:
            if new and not (owed and others):
                self._owed = self._owed or bool(others)
                self._step(new, others)
            else:
                owed = False
                self._step(others, others)
            if self._now() >= until:
                break

    def _step(self, queue: deque[Worker], others: deque[Worker]) -> None:
        """Let the next worker of *queue* work; if it has more, it goes behind the *others*."""
        # It stays in the queue while it works: what adds it meanwhile is no second place.
        worker, more = queue[0], False
        try:
            more = worker.work()
        except Exception as error:
            self._queued.discard(queue.popleft())
            worker.break_off(error)
        else:
            queue.popleft()
            if more:
                others.append(worker)
            else:
                self._queued.discard(worker)


class Ending:
    """The end of a client that takes its turn.

    Args:
        end: Ends it.
        client: It.
    """

    __slots__ = ("_client", "_end")

    def __init__(self, end: Callable[[], None], client: Breakable) -> None:
        self._end = end
        self._client = client

    def work(self) -> bool:
        """Its turn has come."""
        self._end()
        return False

    def break_off(self, error: Exception) -> None:
        """*error*, a defect of ours, was raised by that."""
        self._client.break_off(error)


class Errand:
    """Work of the router's own that is done in steps, in later turns of the loop.

    Args:
        steps: Does a step, of some 10 µs, each time that it is asked for the next.
        on_defect: Called with an error of ours that a step has raised. There are no more steps then.
    """

    __slots__ = ("_on_defect", "_steps")

    def __init__(self, steps: Iterator[None], on_defect: Callable[[Exception], None]) -> None:
        self._steps = steps
        self._on_defect = on_defect

    def work(self) -> bool:
        """Do the next few steps."""
        steps, end = self._steps, self
        return all(next(steps, end) is not end for _ in range(STEPS_AT_ONCE))

    def break_off(self, error: Exception) -> None:
        """*error*, a defect of ours, was raised by a step."""
        self._on_defect(error)


class Waiter(Protocol):
    """What waits at a gate."""

    def go_on(self) -> None:
        """The gate has let it through."""
        ...

    def break_off(self, error: Exception) -> None:
        """*error*, a defect of ours, was raised by ``go_on``: end."""
        ...


class Gate:
    """Where some wait for one thing, in the order of their coming.

    Args:
        work: The queue.
        passes: Whether anybody may pass now. If not, ``open`` is called once that may have changed.
    """

    __slots__ = ("_passes", "_waiting", "_work")

    def __init__(self, work: Work, passes: Callable[[], bool]) -> None:
        self._work = work
        self._passes = passes
        self._waiting: OrderedDict[Waiter, None] = OrderedDict()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def add(self, waiter: Waiter) -> None:
        """Let *waiter* wait; fine if it does already."""
        self._waiting[waiter] = None

    def remove(self, waiter: Waiter) -> None:
        """*waiter* waits no more; fine if it did not."""
        self._waiting.pop(waiter, None)

    def open(self) -> None:
        """What shut it may have passed: let those who wait through, unless it is still shut."""
        if self._waiting and self._passes():
            self._work.add(self)

    go_on = open
    """A gate may wait at another gate."""

    def work(self) -> bool:
        """Let the first one through."""
        if not self._waiting or not self._passes():
            return False
        waiter, _ = self._waiting.popitem(last=False)
        try:
            waiter.go_on()
        except Exception as error:
            waiter.break_off(error)
        return bool(self._waiting)

    def break_off(self, error: Exception) -> None:
        """*error*, a defect of ours, was met for one of those who wait: the others are let through all the same."""
        self.open()
