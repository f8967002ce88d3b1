"""Jobs of objects that have more of them than one turn takes: they wait here, and the objects take turns.

The runner takes jobs in the order in which they come. That is fair while all that has come is done within a turn of the
loop. But one client may have 256 messages under way, and a few that send as fast as they can keep a thousand jobs in
front of everybody else's. So what a turn leaves over is sorted by object. Who has jobs here gets a few of them started
at a time, in turn with the others; who has none is served before, in the order of coming, as ever. The jobs of one
object never overtake each other.

An object may also have to **pause** (``behind``): its jobs wait here until it may go on.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

from .work import Owner, Work

J = TypeVar("J", bound=Work)

SHARE = 4
"""Jobs of an object before another has its turn."""
AT_ONCE = 16
"""Jobs that are given back at once."""


class Crowd(Generic[J]):
    """The jobs that wait.

    Attributes:
        jobs: They, by object, the one first whose turn is next. For others to look whether there are any.
        paused: Those of objects that pause, which may be none.
    """

    __slots__ = ("jobs", "paused")

    def __init__(self) -> None:
        self.jobs: OrderedDict[Owner, deque[J]] = OrderedDict()
        self.paused: dict[Owner, deque[J]] = {}

    def pause(self, owner: Owner) -> None:
        """Give no job of *owner* back until it goes on."""
        self.paused[owner] = self.jobs.pop(owner, deque())

    def go_on(self, owner: Owner) -> None:
        """The opposite of ``pause``."""
        jobs = self.paused.pop(owner)
        if jobs:
            self.jobs[owner] = jobs

    def _of(self, owner: Owner) -> deque[J] | None:
        jobs = self.paused.get(owner)
        return self.jobs.get(owner) if jobs is None else jobs

    def takes(self, job: J) -> bool:
        """Take *job*, which has just come, if earlier jobs of its object wait here, or that pauses; returns whether it
        is so."""
        jobs = self._of(job.owner)
        if jobs is None:
            return False
        jobs.append(job)
        return True

    def put(self, queue: deque[J]) -> None:
        """Take all of *queue*: of each object they come before those that wait here already."""
        came: dict[Owner, list[J]] = {}
        for job in queue:
            came.setdefault(job.owner, []).append(job)
        queue.clear()
        for owner, jobs in came.items():
            waiting = self._of(owner)
            if waiting is None:
                self.jobs[owner] = deque(jobs)
            else:
                waiting.extendleft(reversed(jobs))

    def give(self, queue: deque[J]) -> bool:
        """Put the next few into *queue*, which is empty; returns whether there were any."""
        while self.jobs and len(queue) < AT_ONCE:
            owner, jobs = self.jobs.popitem(last=False)
            for _ in range(min(SHARE, len(jobs))):
                queue.append(jobs.popleft())
            if jobs:
                self.jobs[owner] = jobs
        return bool(queue)
