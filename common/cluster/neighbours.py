"""Neighbours: the other members, as the machines that they run on tell of them.

The map says who should be there; neighbours say who is. A slot may be given to another shard only when its owner cannot
act any more, so whoever is to be taken off the map alive is **fenced** first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Protocol

from ..errors import WireError
from ..ids import Incarnation
from ..machine.counters import read_counters
from ..machine.deaths import DeathWatch
from ..machine.last_words import OpenNotes, Said
from ..machine.liveness import Sight
from ..machine.run_folder import SUPERVISOR, counters_path
from ..runtime.processes import is_running, kill_member
from ..runtime.startup import holder_of, is_holder
from .cluster_map import Member


class Neighbours(Protocol):
    """What a member can know of the others beside the map, and do to them."""

    def meet(self, shard: Member) -> None:
        """See to it that what *shard* says at its death can be read. Called before it is connected to."""
        ...

    def keep(self, shards: Mapping[Incarnation, str]) -> None:
        """These shards are in the map, each with its name: let go of all others."""
        ...

    def look_after(self) -> None:
        """Make good what has failed for those that were met. For each second."""
        ...

    def on_death(self, member: Member, tell: Callable[[], None]) -> None:
        """Have *tell* called on the loop once, soon after the member's process has ended; soon, too, if it has. Of one
        whose machine does not tell, only the map says so."""
        ...

    def last_words(self, shard: Member) -> Said | None:
        """What was at work when *shard* died; ``None`` if nothing is known."""
        ...

    async def look(self, members: Collection[Member]) -> dict[Incarnation, Sight]:
        """Whether these members live, and what they have counted."""
        ...

    async def fence(self, member: Member) -> bool:
        """End a member for certain, if it lives.

        Returns:
            Whether it certainly cannot act any more. ``False``: it could not be ended in time.
        """
        ...

    def is_supervised(self) -> bool:
        """Whether a supervisor lives, who watches all members."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


class LocalNeighbours:
    """The members of a cluster on one machine: they share its process ids and a run folder.

    Args:
        run: The run folder.
        loop: Where deaths are told.
    """

    def __init__(self, run: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._run = run
        self._deaths = DeathWatch(loop)
        self._notes = OpenNotes(run)
        self._shards: Mapping[Incarnation, str] = {}
        self._supervisor = 0

    def meet(self, shard: Member) -> None:
        self._notes.open(shard.name, shard.incarnation)

    def keep(self, shards: Mapping[Incarnation, str]) -> None:
        self._shards = shards
        self._notes.keep(shards.keys())

    def look_after(self) -> None:
        self._notes.complete(self._shards)

    def on_death(self, member: Member, tell: Callable[[], None]) -> None:
        if member.endpoint.startswith("ipc:"):
            self._deaths.watch(member.pid, tell)

    def last_words(self, shard: Member) -> Said | None:
        return self._notes.read(shard.incarnation)

    async def look(self, members: Collection[Member]) -> dict[Incarnation, Sight]:
        # Some files a member: reading them may take seconds, and the loop has clients to serve.
        return await asyncio.to_thread(lambda: {member.incarnation: self._see(member) for member in members})

    def _see(self, member: Member) -> Sight:
        if not is_holder(self._run, member.name, member.pid):
            return Sight(False)
        try:
            reading = read_counters(counters_path(self._run, member.name))
        except (OSError, WireError):
            return Sight(True)  # nothing that could be judged, which is no sign of death
        if reading.pid != member.pid:
            return Sight(True)
        return Sight(True, (reading.publications, reading.beats), is_running(member.pid))

    async def fence(self, member: Member) -> bool:
        return await asyncio.to_thread(kill_member, self._run, member.name, member.pid)

    def is_supervised(self) -> bool:
        holder = holder_of(self._run, SUPERVISOR)
        # One whose lock was tidied away puts it back within a second.
        self._supervisor = holder or (self._supervisor if is_holder(self._run, SUPERVISOR, self._supervisor) else 0)
        return holder is not None or self._supervisor != 0

    def close(self) -> None:
        self._deaths.close()
        self._notes.close()
