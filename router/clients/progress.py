"""Whether a client makes progress: the one rule by which this router tells a slow client from a dead one.

Whoever takes or sends bytes is alive, however slow; a deadline runs from the last progress. Bytes count as taken when
the client's system has confirmed them (``tcp.output_of``): what only lies in this machine's own buffers, megabytes
perhaps, has not been taken, and what has left them a moment ago is seen at once. A client's system confirms in steps of
tens of kilobytes, or of as much as its buffers have; so one that reads less than that within the time cannot be told
from one that does not read.

A deadline that runs anew with every byte has no end. So progress is a *least* number of bytes, and what has a size has
a longest time: that size at the least rate, and the time once more.
"""

from __future__ import annotations


class Progress:
    """What one client has taken, or sent, as of the last look.

    Args:
        done: Bytes so far.
        tick: The present tick.

    Attributes:
        since: Tick of the last progress.
    """

    __slots__ = ("_done", "since")

    def __init__(self, done: int, tick: int) -> None:
        self._done = done
        self.since = tick

    def look(self, done: int, tick: int, least: int = 1) -> None:
        """Note how far it has come by now; it is progress if it is *least* bytes more than at the last progress."""
        if done - self._done >= least:
            self._done = done
            self.since = tick


class Delivery(Progress):
    """Output that a client has yet to take, and behind it something that the client is to do: end, answer a ping.

    Args:
        taken: Bytes that it has taken so far.
        waiting: Bytes that it has not, wherever they are.
        tick: The present tick.

    Attributes:
        waiting: Bytes that it had not taken at the last look.
    """

    __slots__ = ("waiting",)

    def __init__(self, taken: int, waiting: int, tick: int) -> None:
        super().__init__(taken, tick)
        self.waiting = waiting

    def see(self, taken: int, waiting: int, tick: int, least: int = 1) -> None:
        """The same as ``look``; and when the last byte has been taken, that is progress, too."""
        self.look(taken, tick, least)
        if self.waiting and not waiting:
            self.look(taken, tick, 0)
        self.waiting = waiting

    def is_late(self, tick: int, patience: int, grace: int) -> bool:
        """Whether the client has stalled.

        Args:
            tick: The present tick.
            patience: Ticks that it has for a step, while something waits.
            grace: Ticks that it has for what is behind, once it has taken everything.
        """
        return tick - self.since >= (patience if self.waiting else grace)
