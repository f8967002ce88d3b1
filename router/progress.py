"""Whether a client makes progress: the one rule by which this router tells a slow client from a dead one.

Whoever takes bytes is alive, however slow; a deadline runs from the last progress. Bytes count as taken when the
client's system has confirmed them (``tcp.output_of``): what only lies in this machine's own buffers, megabytes perhaps,
has not been taken, and what has left them a moment ago is seen at once. A client's system confirms in steps of tens
of kilobytes, or of as much as its buffers have; so one that reads less than that within the time cannot be told from
one that does not read.
"""

from __future__ import annotations


class Progress:
    """What one client has taken, as of the last look.

    Args:
        taken: Bytes it has taken so far.
        tick: The present tick.

    Attributes:
        since: Tick of the last progress.
    """

    __slots__ = ("_taken", "since")

    def __init__(self, taken: int, tick: int) -> None:
        self._taken = taken
        self.since = tick

    def look(self, taken: int, tick: int, least: int = 1) -> None:
        """Note what has been taken by now; it is progress if it is *least* bytes more than at the last progress."""
        if taken - self._taken >= least:
            self._taken = taken
            self.since = tick
