"""What lies outside of a simulated process, in the place of the machine's: directory, names, deaths, files, clocks.

``Router`` and ``Shard`` are the real ones, with their real ``serve``. They are handed a machine that is made here.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast
from unittest import mock

from roost.common.cluster.cluster_map import ClusterMap, Member, MemberKind
from roost.common.cluster.directory import Directory
from roost.common.cluster.map_stream import MapStream
from roost.common.cluster.neighbours import Neighbours
from roost.common.cluster.outside import Machine
from roost.common.errors import DirectoryError, StartupError
from roost.common.ids import Incarnation, Slot
from roost.common.machine import last_words
from roost.common.machine.counters import Counters
from roost.common.machine.last_words import LastWords, Said
from roost.common.machine.liveness import Sight
from roost.common.runtime.config import MemberConfig
from roost.common.wire.endpoint import Link, Wiring
from roost.common.wire.records import EventWriter, Pieces
from roost.router.app import Router
from roost.router.clients import output as router_output
from roost.router.clients.descriptors import Descriptors
from roost.router.http.intake import Begin
from roost.router.http.listener import Listener
from roost.router.machine import RouterMachine
from roost.router.owners import giving as router_giving
from roost.router.owners import receiving as router_receiving
from roost.router.owners.attaching import Attaching
from roost.router.owners.receiving import Receiver
from roost.shard.app import Shard
from roost.shard.host import Host
from roost.shard.machine import ShardMachine
from roost.shard.moving.handover import Handover
from roost.shard.outgoing import outbox as shard_outbox

from .loops import Process, SimLoop
from .network import SimAcceptor, SimDialer

if TYPE_CHECKING:
    from .cluster import Cluster

T = TypeVar("T")

WALL_S = 1_700_000_000.0
"""Unix time at the scheduler's 0."""
MANY_RELEASES = 2_000
"""RELEASED records that come in a run at most; a run of the longest plan has some hundreds."""
PORTION_BYTES = 40_000
"""What a shard sends to one connection in one turn."""
LAG_S = 0.05
"""How late a process sees a new map, at most, unless a fault makes it later."""


def current_process() -> Process:
    """The simulated process whose turn it is."""
    return cast(SimLoop, asyncio.get_running_loop()).process


def current_cluster() -> Cluster:
    """The cluster that it belongs to."""
    return current_process().cluster  # type: ignore[no-any-return]


# --- the directory ------------------------------------------------------------------------------------------------


class Store:
    """The directory's content, and who is told of it when.

    Args:
        rng: When each process looks.
        initial_shards: As for ``open_directory``.
        on_map: Called with each new map.

    Attributes:
        map: The present map.
        full: The disk is full: nothing can be written.
        lag_s: How late a process sees a new map at most, by name, where that is not ``LAG_S``.
        refused: Writes that failed because the disk was full.
    """

    def __init__(self, rng: random.Random, initial_shards: int, on_map: Callable[[ClusterMap], None]) -> None:
        self.cluster_id = rng.getrandbits(63)
        self.initial_shards = initial_shards
        self.map = ClusterMap()
        self.full = False
        self.lag_s: dict[str, float] = {}
        self.refused = 0
        self._rng = rng
        self._on_map = on_map
        self._last = 0
        self._watches: list[tuple[Process, Callable[[], None]]] = []

    def write(self) -> None:
        if self.full:
            self.refused += 1
            raise DirectoryError("the directory cannot be used: the disk is full")

    def next_incarnation(self) -> Incarnation:
        self.write()
        self._last += 1
        return Incarnation(self._last)

    def propose(self, new: ClusterMap) -> bool:
        self.write()
        if new.version != self.map.version + 1:
            return False
        self.map = new
        self._on_map(new)
        self._watches = [each for each in self._watches if each[0].alive]
        for process, look in self._watches:
            lag = self.lag_s.get(process.name, LAG_S) * self._rng.random()
            process.at(process.loop.time() + lag, look)
        return True

    def watch(self, process: Process, look: Callable[[], None]) -> None:
        self._watches.append((process, look))


class SimDirectory:
    """One process's access to the store: a ``Directory``."""

    def __init__(self, process: Process, store: Store) -> None:
        self._process = process
        self._store = store
        self._streams: list[MapStream] = []

    @property
    def cluster_id(self) -> int:
        return self._store.cluster_id

    async def initial_shards(self) -> int:
        return self._store.initial_shards

    async def join(
        self,
        kind: MemberKind,
        name: str,
        pid: int,
        endpoint_of: Callable[[Incarnation], str],
        namespaces: tuple[str, ...],
        seat: str = "",
    ) -> Member:
        incarnation = await self._in_thread(self._store.next_incarnation)
        self._process.cluster.members[self._process].incarnation = incarnation
        return Member(name, kind, incarnation, endpoint_of(incarnation), namespaces, pid, seat=seat)

    async def map(self) -> ClusterMap:
        return await self._in_thread(lambda: self._store.map)

    async def propose(self, new: ClusterMap) -> bool:
        done = await self._in_thread(partial(self._store.propose, new))
        for stream in self._streams:
            stream.put(self._store.map)  # one's own write is seen at once
        return done

    def changes(self) -> AsyncIterator[ClusterMap]:
        stream = MapStream(self.map)
        self._streams.append(stream)
        self._store.watch(self._process, lambda: stream.put(self._store.map))
        return stream

    async def begin_anew(self, initial_shards: int) -> None:
        raise AssertionError("members live")

    async def restore(self, *, rebuild: bool = False) -> str:
        return ""

    async def aclose(self) -> None:
        for stream in self._streams:
            stream.end()

    async def _in_thread(self, ask: Callable[[], T]) -> T:
        """A thread asks the store: time goes on meanwhile, and others may be faster."""

        def work() -> T:
            if not self._process.alive:
                raise DirectoryError("this process is dead")
            return ask()

        return await asyncio.get_running_loop().run_in_executor(None, work)


# --- the machine --------------------------------------------------------------------------------------------------


class HeldName:
    """The lock on a member's name.

    Raises:
        StartupError: Another process that has not ended holds it.
    """

    path = Path("simulated")

    def __init__(self, names: dict[str, Process], name: str, process: Process) -> None:
        holder = names.get(name)
        if holder is not None and holder is not process:
            raise StartupError(f"another process holds the name {name!r}")
        names[name] = process
        self._names = names
        self._name = name
        self._process = process

    def restore(self) -> bool:
        """Nobody removes it."""
        return False

    def release(self) -> None:
        """Give it back."""
        if self._names.get(self._name) is self._process and self._process.alive:
            del self._names[self._name]


class SimLastWords(LastWords):
    """The note of a shard, which nobody looks for in a folder."""

    def __init__(self, process: Process, incarnation: Incarnation) -> None:
        super().__init__(Path("simulated"))
        self._process = process
        self._final: bytes | None = None
        process.cluster.last_words[incarnation] = self

    def _share(self) -> Any:
        return bytearray(last_words.BYTES)

    def read_bytes(self) -> bytes:
        """What it says; after a death, what it said then."""
        return bytes(self._map) if self._final is None else self._final

    @property
    def is_alive(self) -> bool:
        """Whether its process lives."""
        return self._final is None

    def freeze(self) -> None:
        """The process is dead; what it does in the rest of its turn never happens."""
        self._final = bytes(self._map)

    def close(self) -> None:
        """The process ends in good order; the note stays readable."""
        self.retract()


class SimNeighbours:
    """The other members as the simulation knows them: ``Neighbours``."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._met: dict[Incarnation, SimLastWords] = {}
        self._closed = False

    @property
    def _cluster(self) -> Cluster:
        return self._process.cluster  # type: ignore[no-any-return]

    def meet(self, shard: Member) -> None:
        """It must live: what it is to tell can be opened."""
        note = self._cluster.last_words.get(shard.incarnation)
        if note is not None and note.is_alive:
            self._met[shard.incarnation] = note

    def keep(self, shards: Mapping[Incarnation, str]) -> None:
        """Nothing has to be let go of."""

    def look_after(self) -> None:
        """Nobody removes anything here."""

    def on_death(self, member: Member, tell: Callable[[], None]) -> None:
        def tell_once_more() -> None:
            if not self._closed:
                tell()

        self._cluster.watch_death(self._process, member.pid, tell_once_more)

    def last_words(self, shard: Member) -> Said | None:
        note = self._met.get(shard.incarnation)
        return None if note is None else last_words.said(note.read_bytes())

    async def look(self, members: Collection[Member]) -> dict[Incarnation, Sight]:
        """A member beats while it is not frozen."""

        def see(member: Member) -> Sight:
            holder = self._cluster.names.get(member.name)
            if holder is None or holder.pid != member.pid:
                return Sight(False)
            beats = int(4 * holder.lived_s)
            return Sight(True, (beats, beats))

        sights = lambda: {member.incarnation: see(member) for member in members}  # noqa: E731
        return await asyncio.get_running_loop().run_in_executor(None, sights)

    async def fence(self, member: Member) -> bool:
        def kill() -> bool:
            holder = self._cluster.names.get(member.name)
            if holder is not None and holder.pid == member.pid:
                self._cluster.kill(holder)
            return True

        return await asyncio.get_running_loop().run_in_executor(None, kill)

    def is_supervised(self) -> bool:
        return "supervisor" in self._cluster.names

    def close(self) -> None:
        self._closed = True


class SimClock:
    """The clocks of a simulated process."""

    def __init__(self, loop: SimLoop) -> None:
        self.now = loop.time

    def wall(self) -> float:
        """Unix time."""
        return WALL_S + self.now()


class Nothing:
    """Stands for what a simulated process does without: takes everything, does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class SimMachine(Machine):
    """What every member of a simulated cluster takes from outside.

    Args:
        config: The member's settings.
        process: Its process.
    """

    def __init__(self, config: MemberConfig, process: Process) -> None:
        self._config = config
        self._process = process
        self.clock = SimClock(process.loop)
        self.pid = process.pid

    def take_name(self) -> HeldName:
        return HeldName(self._process.cluster.names, self._config.name, self._process)

    async def open_directory(self, initial_shards: int = 0) -> Directory:
        return SimDirectory(self._process, self._process.cluster.store)

    def neighbours(self) -> Neighbours:
        return SimNeighbours(self._process)

    def descriptor_limit(self) -> int:
        return 1 << 20

    def counter_file(self, counters: Counters) -> Any:
        return Nothing()

    def collector(self, counters: Any, **options: Any) -> Any:
        return Nothing()

    def upkeep(self, *kept: Any) -> Any:
        return Nothing()

    def report_ready(self, incarnation: Incarnation) -> None:
        self._process.cluster.is_ready(self._process, incarnation)


class SimRouterMachine(SimMachine, RouterMachine):
    """The same for a router."""

    def dialer(self, wiring: Wiring, has_room: Callable[[], bool]) -> Any:
        # Clients of a run take what comes for them, or it waits at its shard: there is always room.
        made = SimDialer(self._process.cluster.network, self._process, wiring)
        made.network.register(made)
        return made

    def listener(self, host: str, port: int, backlog: int) -> SimListener:
        return SimListener(self._process.loop, host, port, backlog)

    def transports(self, work: object, protocol_factory: Callable[[], object]) -> Any:
        return SimTransports(protocol_factory)

    def descriptors(self, limit: int, wanted: int) -> Descriptors:
        return Descriptors(limit, wanted, held=0)

    def output_of(self, transport: Any) -> tuple[int, int]:
        return transport.confirmed, 0


class SimShardMachine(SimMachine, ShardMachine):
    """The same for a shard."""

    def limit_memory(self) -> None:
        """All processes of a run are one."""

    def last_words(self, incarnation: Incarnation) -> SimLastWords:
        return SimLastWords(self._process, incarnation)

    def acceptor(self, wiring: Wiring, endpoint: str) -> Any:
        made = SimAcceptor(self._process.cluster.network, self._process, wiring)
        made.network.register(made)
        return made

    def watchdog(self, host: Host, look: Callable[[float], None]) -> Any:
        return Nothing()

    def on_fork(self, become_copy: Callable[[], object]) -> None:
        """Nothing forks."""

    def end_at_once(self) -> None:
        self._process.cluster.kill(self._process)


class SimTransports:
    """Clients have transports of their own: what begins with one is what makes its protocol."""

    def __init__(self, protocol_factory: Callable[[], object]) -> None:
        self.begin = protocol_factory

    def close(self) -> None:
        pass


class SimListener(Listener):
    """Clients make protocols with their router's ``loop.factory``, for as long as it listens."""

    def __init__(self, loop: SimLoop, host: str, port: int, backlog: int) -> None:
        super().__init__(host, port, backlog)
        self._loop = loop

    def start(self, begin: Begin) -> None:
        self._loop.factory = cast("Callable[[], Any]", begin)  # see ``SimTransports``

    def close(self) -> None:
        self._loop.factory = None
        super().close()


# --- members whose steps are noted --------------------------------------------------------------------------------


class NotingHandover(Handover):
    """Notes what its shard lets go of."""

    def add(self, slots: Collection[Slot]) -> None:
        process = current_process()
        process.cluster.history.released(process, slots)
        super().add(slots)


class NotingReceiver(Receiver):
    """Notes what it is given, and when: an object's output counts from then on as accepted, if it is not dropped."""

    __slots__ = ("_history", "_router")

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        process = current_process()
        self._history = process.cluster.history
        self._router = process.cluster.members[process].incarnation

    def send(self, connections: Sequence[int], data: bytes, binary: bool) -> None:
        self._history.accepted(self._router, data)
        super().send(connections, data, binary)

    def send_pieces(self, connections: Sequence[int], data: Pieces, binary: bool) -> None:
        self._history.accepted(self._router, data.join())
        super().send_pieces(connections, data, binary)

    def released(self, *record: Any) -> None:
        self._history.releases += 1
        if self._history.releases > MANY_RELEASES:
            raise RuntimeError("shards let go of slots again and again")
        super().released(*record)


class HuntedAttaching(Attaching):
    """Says when an owner has been given a part. The rest may then take longer than it does with a few clients."""

    __slots__ = ("_rest_at",)

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._rest_at = 0.0

    def go_on(self, left: int) -> int:
        cluster = current_cluster()
        if cluster.now < self._rest_at:
            return 0
        left = super().go_on(left)
        if left <= 0:
            self._rest_at = cluster.now + cluster.half_given(self.link.remote)
        return left


class SimRouter(Router):
    """A router that notes what it is given, and when it gives."""

    new_attaching = HuntedAttaching

    def new_receiver(self, link: Link[EventWriter]) -> Receiver:
        return NotingReceiver(link, self._shared, self._forwarding, self._output)


class SimShard(Shard):
    """A shard that notes what it lets go of."""

    def new_handover(self, directory: Directory, host: Host) -> Handover:
        return NotingHandover(directory, self._incarnation, host.handed_over, self._room)


_SIZES: dict[ModuleType, dict[str, Any]] = {
    # A few clients are many: broadcasts to more than two queue, as those to more than 32 do.
    router_giving: {"PIECE": 3},
    router_output: {"AT_ONCE": 2, "PIECE": 2, "WRITES_PER_TURN": 4, "OBJECT_WRITES": 6},
    router_receiving: {"AT_ONCE": 2},
    shard_outbox: {"_PORTION": PORTION_BYTES},
}


@contextlib.contextmanager
def small() -> Iterator[None]:
    """Members made inside take little for much."""
    with contextlib.ExitStack() as patches:
        for module, names in _SIZES.items():
            for name, value in names.items():
                patches.enter_context(mock.patch.object(module, name, value))
        yield
