"""What happened in a run, as an all-seeing observer notes it: what ``checks`` judges afterwards.

A **tenure** is a time for which a shard hosts the objects of a slot: one incarnation, from taking the slot up to
letting go of it or dying. Handlers note their **executions** and what they send, with the tenure that they run in;
routers' sinks note when they accept output; clients note what arrives.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from roost.common.ids import Incarnation, ObjectId, slot_of

from .loops import Process

if TYPE_CHECKING:
    from .cluster import Cluster

MANY_FAULTS = 100
"""Faults after which a run ends: what goes wrong again and again fills the memory, and its first times tell enough."""


@dataclass(slots=True, eq=False)
class Tenure:
    """See the module.

    Attributes:
        key: What names it in payloads: incarnation and how often that incarnation had let go of the slot before.
        slot: The slot.
        shard: The incarnation.
        process: The shard's process.
        first_at: When the first handler ran in it while its shard was on the map; -1 if none has.
        sends: For each client what was sent to it, in order.
        sent: How many payloads were made.
        released_at: When it ended politely, as far as the shard can say; -1 if it did not.
    """

    key: str
    slot: int
    shard: Incarnation
    process: Process
    first_at: float = -1.0
    sends: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    sent: int = 0
    released_at: float = -1.0


@dataclass(slots=True, eq=False)
class Execution:
    """One run of a handler.

    Attributes:
        kind: ``message``, ``close``, ``error``, ``fetch``.
        client: The client whose event it is; for a plain request that request's number.
        number: The message's number; for the other kinds 0.
        data: What the handler was given besides.
        tenure: Where.
        redelivered: As the handler is told.
        at: When it began.
        stale: Its shard was not a member any more when it began.
        ended_at: When it ended; -1 if it never did.
        cancelled: It was ended by the runtime.
        sends: Client and payload number of what it sent.
    """

    kind: str
    client: int
    number: int
    data: Any
    tenure: Tenure
    redelivered: bool
    at: float
    stale: bool
    ended_at: float = -1.0
    cancelled: bool = False
    sends: list[tuple[int, int]] = field(default_factory=list)


class History:
    """The notes of one run.

    Args:
        cluster: The run.

    Attributes:
        executions: All, in the order in which they began.
        tenures: By key and slot.
        accepted_at: When a router took a payload for a client from a link; by router, client and payload.
        attached: Attachment that each client's socket was given last.
        faults: What must never happen and has.
        stopped: There is no point in going on.
        defects: When a process has met an error of its own last.
        releases: How many RELEASED records routers were given.
        events: The event log, when asked for.
        tracing: Whether it is.
    """

    def __init__(self, cluster: Cluster, *, tracing: bool) -> None:
        self._cluster = cluster
        self.executions: list[Execution] = []
        self.tenures: dict[tuple[str, int], Tenure] = {}
        self.accepted_at: dict[tuple[int, bytes], float] = {}
        self.attached: dict[int, Any] = {}
        self._active: dict[int, Tenure] = {}
        self.faults: list[str] = []
        self.stopped = False
        self.releases = 0
        self.defects: dict[Any, float] = {}
        self.events: list[str] = []
        self.tracing = tracing

    @property
    def now(self) -> float:
        return self._cluster.scheduler.now

    def note(self, text: str) -> None:
        """A line for the event log; build it only when ``tracing``."""
        self.events.append(f"{self.now - 1000:10.5f} {text}")

    def fault(self, text: str) -> None:
        """Something that must never happen has happened."""
        self.faults.append(f"at {self.now - 1000:.3f} s: {text}")
        if self.tracing:
            self.note(f"!!! {text}")
        if len(self.faults) >= MANY_FAULTS:
            self.stopped = True

    def stop(self, text: str) -> None:
        """The same, and the run ends."""
        self.fault(text)
        self.stopped = True

    # --- shards ---

    def tenure(self, process: Process, object_id: ObjectId) -> Tenure:
        """The present tenure of *process* over the slot of that object."""
        slot = slot_of(object_id)
        member = self._cluster.members[process]
        key = f"{member.incarnation}.{member.epochs.get(slot, 0)}"
        tenure = self.tenures.get((key, slot))
        if tenure is None:
            tenure = self.tenures[key, slot] = Tenure(key, slot, member.incarnation, process)
        return tenure

    def released(self, process: Process, slots: Collection[int]) -> None:
        """*process* says that it lets go of *slots*."""
        if not process.alive:
            return
        member = self._cluster.members[process]
        for slot in slots:
            epoch = member.epochs.get(slot, 0)
            tenure = self.tenures.get((f"{member.incarnation}.{epoch}", slot))
            if tenure is not None and self._is_member(tenure.shard):  # else it is held for dead, whatever it says
                tenure.released_at = self.now
            member.epochs[slot] = epoch + 1
        if self.tracing:
            self.note(f"{process.name} lets go of {len(slots)} slots")

    def begin(
        self,
        process: Process,
        kind: str,
        object_id: ObjectId,
        client: int,
        number: int,
        data: Any,
        redelivered: bool,
    ) -> Execution:
        """A handler begins."""
        tenure = self.tenure(process, object_id)
        stale = not process.alive or not self._is_member(tenure.shard)
        run = Execution(kind, client, number, data, tenure, redelivered, self.now, stale)
        if not process.alive:
            return run  # the rest of the turn in which it was killed: there was none
        if not stale:
            self._active[tenure.slot] = tenure
            if tenure.first_at < 0:
                tenure.first_at = self.now
        self.executions.append(run)
        if self.tracing:
            marks = " again" * redelivered + " stale" * stale
            self.note(f"{process.name} [{tenure.key}] runs {kind} {client}/{number} {data}{marks}")
        return run

    def ended(self, run: Execution, *, cancelled: bool = False) -> None:
        """A handler has ended."""
        if run.tenure.process.alive:
            run.ended_at = self.now
            run.cancelled = cancelled
            if self.tracing:
                self.note(f"[{run.tenure.key}] {run.kind} {run.client}/{run.number} ended{' cancelled' * cancelled}")

    def attach(self, run: Execution, value: Any) -> None:
        """A handler has given its client's socket an attachment."""
        # At a shard that is off the map, this counts as long as nobody else has become active: routers may be as late
        # as that shard. If they are not, the event is handled again.
        tenure = run.tenure
        active = self._active.get(tenure.slot, tenure)
        is_last = active is tenure or active.first_at <= self.expelled_at(tenure)
        if tenure.process.alive and (self._is_member(tenure.shard) or is_last):
            self.attached[run.client] = value

    def expelled_at(self, tenure: Tenure) -> float:
        """When the shard of a tenure was taken off the map: others may be active since. -1 if it was not."""
        member = self._cluster.member_of(tenure.shard)
        return member.lost_at if member is not None else -1.0

    def _is_member(self, shard: Incarnation) -> bool:
        return shard in self._cluster.store.map.members

    def payload(self, run: Execution, label: str) -> tuple[int, str]:
        """A new payload of that handler: its number, and its text, which no other payload has."""
        tenure = run.tenure
        tenure.sent += 1
        return tenure.sent, f"{tenure.key} {tenure.slot} {tenure.sent} {label}"

    def sent(self, run: Execution, client: int, number: int) -> None:
        """A handler has sent a payload to a client."""
        run.sends.append((client, number))
        run.tenure.sends[client].append(number)

    # --- routers ---

    def accepted(self, router: Incarnation, data: bytes) -> None:
        """A router's sink has been given output of an object."""
        self.accepted_at.setdefault((router, data), self.now)
