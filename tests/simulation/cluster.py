"""A whole cluster inside one process: routers, shards, directory, network, on simulated time.

``Cluster`` starts members (the real ``Router.serve`` and ``Shard.serve`` on loops of their own), kills, freezes and
ends them, and knows what an operating system would know of them. What goes on in it is for others: the supervisor
(``supervisor``), the clients (``clients``) and the plan of faults (``plan``).
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from roost.common.cluster.cluster_map import NOBODY, ClusterMap, MemberKind
from roost.common.errors import RoostError
from roost.common.ids import Incarnation
from roost.common.settings.router import RouterConfig
from roost.common.settings.shard import ShardConfig
from roost.common.wire import shipping
from roost.router.owners import requests
from roost.router.websocket import inlet
from roost.shard.objects.loader import HostedClass
from roost.shard.outgoing import backlog, large_responses, outbox

from .history import History
from .loops import OurOwnError, Process, Scheduler, State
from .network import Network
from .outside import SimRouter, SimRouterMachine, SimShard, SimShardMachine, Store
from .room import Room

SHARE_BYTES = 64 << 10
"""What a router keeps for one client: little, so that clients are full."""
LARGE_BYTES = 5_000
"""From that size on payloads go ahead in pieces."""
PIECE_BYTES = 1_000
"""A piece."""
AHEAD_BYTES = 12
"""From that size on clients' messages, and bodies of requests, go ahead: of messages every other one."""
for _module in (outbox, backlog, large_responses):
    _module.LARGE_BYTES = LARGE_BYTES  # type: ignore[attr-defined]
inlet.AHEAD_BYTES = requests.AHEAD_BYTES = AHEAD_BYTES
shipping.PIECE_BYTES = PIECE_BYTES
shipping.UNDER_WAY_BYTES = 4 * PIECE_BYTES
shipping.BEGUN_BYTES = 8 * LARGE_BYTES
MANY_STARTS = 100
"""Starts of one member after which a run ends: whoever dies at each start is started again as long as there is time."""
HALF_S = 0.002
"""Seconds between the first piece of a slot that an owner is given and the next, where something comes between."""
NOWHERE = Path("simulated")
"""Stands for data and run folder: nothing is ever written there."""


@dataclass(slots=True, eq=False)
class Member:
    """A router or shard as its observer knows it.

    Attributes:
        kind: Which of the two.
        name: Its name.
        seat: Its seat, if it is a shard.
        process: Its process.
        app: The ``Router`` or ``Shard``, once it is made.
        incarnation: Once it has joined the directory.
        epochs: How often a shard has let go of a slot.
        may_end: It has been told to end.
        died_at: When its process ended, in whatever way.
        lost_at: When it was killed, or taken off the map alive; -1 if it was not.
    """

    kind: MemberKind
    name: str
    seat: str
    process: Process
    app: Any = None
    incarnation: Incarnation = NOBODY
    epochs: dict[int, int] = field(default_factory=dict)
    may_end: bool = False
    died_at: float = -1.0
    lost_at: float = -1.0


class Cluster:
    """See the module.

    Args:
        seed: All that is random follows from it.
        initial_shards: As many shards as the cluster begins with.
        tracing: Keep an event log.
    """

    def __init__(self, seed: int, *, initial_shards: int = 1, tracing: bool = False) -> None:
        self.seed = seed
        self.rng = random.Random(f"{seed} supervisor")
        self.client_rng = random.Random(f"{seed} clients")
        self.scheduler = Scheduler(random.Random(f"{seed} turns"))
        self.network = Network(self.scheduler, random.Random(f"{seed} network"))
        self.history = History(self, tracing=tracing)
        self.store = Store(random.Random(f"{seed} store"), initial_shards, self._noted_map)
        self.names: dict[str, Process] = {}
        self.last_words: dict[Incarnation, Any] = {}
        self.members: dict[Process, Member] = {}
        self.clients: list[Any] = []
        self.maps: list[tuple[float, ClusterMap]] = []
        self.on_ready: Callable[[Member], None] = lambda _: None
        self.on_death: Callable[[Member], None] = lambda _: None
        self.broken: BaseException | None = None
        self.hunts: list[float] = []
        self.hunted = 0
        self.talk: Callable[[Any], None] = lambda client: None
        self._pids = 100
        self._starts: Counter[str] = Counter()
        self._deaths: dict[int, list[tuple[Process, Callable[[], None]]]] = {}
        self.world = self._new_process("world")

    # --- time ---

    @property
    def now(self) -> float:
        """Simulated seconds."""
        return self.scheduler.now

    def later(self, seconds: float, callback: Callable[..., object], *args: Any) -> None:
        """Have *callback* called outside of all members after *seconds*."""
        self.world.at(self.now + seconds, callback, *args)

    def _noted_map(self, new: ClusterMap) -> None:
        self.maps.append((self.now, new))
        if self.history.tracing:
            members = ", ".join(
                f"{member.name}={member.incarnation}"
                + (f" ({new.owners.count(member.incarnation)} slots)" if member.kind is MemberKind.SHARD else "")
                for member in new.members.values()
            )
            self.history.note(f"map {new.version}: {members}; {len(new.next_owners)} in transit")

    # --- members ---

    def _new_process(self, name: str) -> Process:
        self._pids += 1
        process = Process(self.scheduler, name, self._pids)
        process.cluster = self

        def unseen(loop: Any, context: dict[str, Any]) -> None:
            if process is self.world:
                self.broken = context.get("exception")  # of the simulation itself
            elif process.alive:
                self.history.fault(f"{name}: {context['message']}: {context.get('exception')!r}")

        process.loop.set_exception_handler(unseen)
        process.on_exit = self._exited
        return process

    def _note_start(self, name: str) -> None:
        self._starts[name] += 1
        if self._starts[name] > MANY_STARTS:
            self.history.stop(f"{name} was started {MANY_STARTS} times, and is to be again")

    def start_router(self, name: str) -> Member:
        """Start a router."""
        self._note_start(name)
        process = self._new_process(name)
        member = self.members[process] = Member(MemberKind.ROUTER, name, "", process)
        config = RouterConfig(name=name, data=NOWHERE, run=NOWHERE, drain_timeout_s=1.0, send_buffer_bytes=SHARE_BYTES)

        async def main() -> None:
            member.app = SimRouter(config, SimRouterMachine(config, process))
            await member.app.serve()

        process.start(main)
        return member

    def start_shard(self, name: str, seat: str = "") -> Member:
        """Start a shard."""
        self._note_start(name)
        process = self._new_process(name)
        member = self.members[process] = Member(MemberKind.SHARD, name, seat or name, process)
        config = ShardConfig(
            name=name,
            app="room",
            data=NOWHERE,
            run=NOWHERE,
            hibernate_after_s=0.7,
            drain_timeout_s=2.0,
            initial_shards=self.store.initial_shards,
            seat="" if seat == name else seat,
        )

        async def main() -> None:
            hosted = HostedClass(Room)
            member.app = SimShard(config, {hosted.namespace: hosted}, SimShardMachine(config, process))
            await member.app.serve()

        process.start(main)
        return member

    def is_ready(self, process: Process, incarnation: Incarnation) -> None:
        """A member serves."""
        member = self.members[process]
        if self.history.tracing:
            self.history.note(f"{member.name} serves as incarnation {incarnation}")
        self.later(0.0, self.on_ready, member)

    def living(self, kind: MemberKind) -> list[Member]:
        """The members of a kind whose processes have not ended, in the order of their starts."""
        return [member for member in self.members.values() if member.kind is kind and member.process.alive]

    def serving(self, kind: MemberKind) -> list[Member]:
        """Those of them that are in the map."""
        return [member for member in self.living(kind) if member.incarnation in self.store.map.members]

    def member_of(self, incarnation: Incarnation) -> Member | None:
        """The member of that incarnation."""
        return next((each for each in self.members.values() if each.incarnation == incarnation), None)

    # --- ends ---

    def _exited(self, process: Process) -> None:
        """A process has ended by itself."""
        member = self.members.get(process)
        task = process.task
        assert task is not None
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, RoostError | OurOwnError):
            self.history.fault(f"{process.name} ended with {error!r}")
        if self.history.tracing:
            self.history.note(f"{process.name} ends: {error!r}")
        if member is not None:
            gave_up = member.kind is MemberKind.SHARD and member.app.counters.links_failed
            if (gave_up or isinstance(error, OurOwnError)) and member.lost_at < 0:
                member.lost_at = self.now  # to the routers concerned it is as if it had crashed
            self._gone(member)

    def kill(self, process: Process) -> None:
        """SIGKILL."""
        member = self.members[process]
        if process.alive:
            if member.lost_at < 0:
                member.lost_at = self.now
            if self.history.tracing:
                self.history.note(f"{process.name} is killed")
            self._gone(member)

    def _gone(self, member: Member) -> None:
        process = member.process
        process.end()
        for note in self.last_words.values():
            if note._process is process:
                note.freeze()
        member.died_at = self.now
        for name in [name for name, holder in self.names.items() if holder is process]:
            del self.names[name]
        for client in self.clients:
            if client.router is process:
                self.later(0.0, client.lose_router)
        for watcher, tell in self._deaths.pop(process.pid, ()):
            watcher.at(self.now + 0.01 * self.rng.random(), tell)
        self.later(0.0, self.on_death, member)

    def watch_death(self, watcher: Process, pid: int, tell: Callable[[], None]) -> None:
        """Have *tell* called on *watcher* soon after the process *pid* has ended."""
        if any(process.pid == pid and process.alive for process in self.members):
            self._deaths.setdefault(pid, []).append((watcher, tell))
        else:
            watcher.at(self.now, tell)

    def expelled(self, member: Member) -> None:
        """A member has been taken off the map, whose process has not ended."""
        member.lost_at = self.now
        if self.history.tracing:
            self.history.note(f"{member.name} is expelled")
        for client in self.clients:
            if client.router is member.process:
                self.later(0.0, client.lose_router)

    def half_given(self, owner: Incarnation) -> float:
        """A shard has been given a part of a slot: clients may talk now, and it may have to die before it has the rest.

        Returns:
            Seconds for which that waits.
        """
        member = self.member_of(owner)
        if not self.hunts or member is None:
            return 0.0
        value = self.hunts.pop()
        for client in self.clients:
            self.later(0.0, self.talk, client)
        if value > 0.5:
            self.hunted += 1
            self.later(HALF_S * 2 * (value - 0.5), self.kill, member.process)
        return HALF_S

    def freeze(self, process: Process) -> None:
        """SIGSTOP."""
        if process.state is State.RUNNING:
            process.freeze()
            if self.history.tracing:
                self.history.note(f"{process.name} is frozen")

    def thaw(self, process: Process) -> None:
        """SIGCONT."""
        if process.state is State.FROZEN:
            process.thaw()
            if self.history.tracing:
                self.history.note(f"{process.name} is thawed")

    def terminate(self, process: Process, number: int = signal.SIGTERM) -> None:
        """SIGTERM, or SIGUSR1 for a router that is to retire."""
        self.members[process].may_end = True
        handler = process.loop.signals.get(number)
        if handler is not None:
            process.at(self.now, handler)
        else:
            self.kill(process)
