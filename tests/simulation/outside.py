"""What lies outside of a simulated process, in the place of the machine's: directory, names, deaths, files, clocks.

``Router`` and ``Shard`` are the real ones, with their real ``serve``. What they take from the machine they take by
names of their modules, and ``replaced`` puts the classes of this module there. Those find the simulated process that
they belong to by the loop that runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar, cast
from unittest import mock

from roost.common.cluster.cluster_map import ClusterMap, Member, MemberKind
from roost.common.cluster.map_stream import MapStream
from roost.common.errors import DirectoryError, StartupError
from roost.common.ids import Incarnation, Slot
from roost.common.machine import last_words
from roost.common.machine.counters import Reading
from roost.common.machine.last_words import LastWords, Said
from roost.common.wire.records import Pieces
from roost.router import app as router_app
from roost.router.clients import output as router_output
from roost.router.clients.descriptors import Descriptors
from roost.router.clients.surroundings import Surroundings
from roost.router.guard import watching as router_guard
from roost.router.http.intake import ProtocolFactory
from roost.router.http.listener import Listener
from roost.router.owners import giving as router_giving
from roost.router.owners import receiving as router_receiving
from roost.router.owners.attaching import Attaching
from roost.router.owners.receiving import Receiver
from roost.shard import app as shard_app
from roost.shard import host as shard_host
from roost.shard import outbox as shard_outbox
from roost.shard.handover import Handover

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
    """One process's access to the store, in the place of ``SqliteDirectory``."""

    def __init__(self, process: Process, store: Store) -> None:
        self._process = process
        self._store = store
        self._streams: list[MapStream] = []

    @classmethod
    async def opened(cls, url: str, **_: object) -> SimDirectory:
        """Open it, as the process that runs."""
        process = current_process()
        return cls(process, process.cluster.store)

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
    """The lock on a member's name."""

    def __init__(self, names: dict[str, Process], name: str, process: Process) -> None:
        self._names = names
        self._name = name
        self._process = process

    @classmethod
    def hold(cls, run: object, name: str) -> HeldName:
        """Take a name.

        Raises:
            StartupError: Another process that has not ended holds it.
        """
        process = current_process()
        names = process.cluster.names
        holder = names.get(name)
        if holder is not None and holder is not process:
            raise StartupError(f"another process holds the name {name!r}")
        names[name] = process
        return cls(names, name, process)

    def release(self) -> None:
        """Give it back."""
        if self._names.get(self._name) is self._process and self._process.alive:
            del self._names[self._name]


def holder_of(run: object, name: str) -> int | None:
    """The process that holds *name*, in the place of ``startup.holder_of``."""
    holder = current_cluster().names.get(name)
    return None if holder is None else holder.pid


def is_holder(run: object, name: str, pid: int) -> bool:
    """Whether that process holds *name*, in the place of ``startup.is_holder``."""
    return holder_of(run, name) == pid


def kill_member(run: object, name: str, pid: int, deadline_s: float = 0.0) -> bool:
    """In the place of ``processes.kill_member``."""
    cluster = current_cluster()
    holder = cluster.names.get(name)
    if holder is not None and holder.pid == pid:
        cluster.kill(holder)
    return True


def read_counters(path: Path) -> Reading:
    """What a member has counted, in the place of ``counters.read_counters``: it beats while it is not frozen."""
    holder = current_cluster().names.get(path.stem)
    if holder is None:
        raise FileNotFoundError(path)
    beats = int(4 * holder.lived_s)
    return Reading(holder.pid, beats, beats, {})


class SimLastWords(LastWords):
    """The note of a shard, which nobody looks for in a folder."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._process = current_process()
        self._process.cluster.last_words[path.name] = self
        self._final: bytes | None = None

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


class SimNotes:
    """What a router has open of these, in the place of ``last_words.OpenNotes``."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._opened: dict[Incarnation, SimLastWords] = {}

    def open(self, name: str, incarnation: Incarnation) -> None:
        """The shard must live: what it is to tell can be opened."""
        note = current_cluster().last_words.get(last_words.last_words_path(self._run, name, incarnation).name)
        if note is not None and note.is_alive:
            self._opened[incarnation] = note

    def keep(self, incarnations: Collection[Incarnation]) -> None:
        """Nothing has to be let go of."""

    def read(self, incarnation: Incarnation) -> Said | None:
        """What was at work at the death."""
        note = self._opened.get(incarnation)
        return None if note is None else last_words.said(note.read_bytes())

    def complete(self, shards: Mapping[Incarnation, str]) -> None:
        """Nobody removes anything here."""

    def close(self) -> None:
        """Nothing has to be let go of."""


class SimDeathWatch:
    """Tells of deaths soon after, in the place of pid descriptors."""

    def __init__(self, loop: SimLoop) -> None:
        self._process = loop.process
        self._closed = False

    def watch(self, pid: int, on_death: Callable[[], None]) -> None:
        """Have *on_death* called once, soon after the process has ended."""

        def tell() -> None:
            if not self._closed:
                on_death()

        self._process.cluster.watch_death(self._process, pid, tell)

    def close(self) -> None:
        """Stop watching."""
        self._closed = True


class SimClock:
    """The clocks of a simulated process."""

    def __init__(self) -> None:
        self.now = asyncio.get_running_loop().time

    def wall(self) -> float:
        """Unix time."""
        return WALL_S + self.now()


class Nothing:
    """Stands for what a simulated process does without: takes everything, does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def _getpid() -> int:
    return current_process().pid


def _wall() -> float:
    return WALL_S + asyncio.get_running_loop().time()


def _dialer(*, loop: SimLoop, has_room: Callable[[], bool], **options: Any) -> SimDialer:
    # Clients of a run take what comes for them, or it waits at its shard: there is always room.
    made = SimDialer(loop.process.cluster.network, loop.process, loop=loop, **options)
    made.network.register(made)
    return made


def _acceptor(*, loop: SimLoop, endpoint: str, **options: Any) -> SimAcceptor:
    process = loop.process
    made = SimAcceptor(process.cluster.network, process, loop=loop, **options)
    made.network.register(made)
    return made


def _ready(fd: int, name: str, incarnation: Incarnation) -> None:
    current_cluster().is_ready(current_process(), incarnation)


class _Os(ModuleType):
    """The module ``os`` as a member sees it: another pid."""

    def __init__(self) -> None:
        super().__init__("os")
        self.getpid = _getpid
        self.register_at_fork = lambda **hooks: None  # nothing forks
        self._exit = lambda code: current_cluster().kill(current_process())


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


class SimListener(Listener):
    """Clients make protocols with their router's ``loop.factory``, for as long as it listens."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._loop = current_process().loop

    def start(self, protocol_factory: ProtocolFactory) -> None:
        self._loop.factory = protocol_factory

    def close(self) -> None:
        self._loop.factory = None
        super().close()


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


_COMMON: dict[str, Any] = {
    "SystemClock": SimClock,
    "open_directory": SimDirectory.opened,
    "CounterFile": Nothing,
    "Upkeep": Nothing,
    "Collector": Nothing,
    "hold_name": HeldName.hold,
    "make_data_folder": lambda data: None,
    "others_serve": lambda run: False,
    "raise_descriptor_limit": lambda: 1 << 20,
    "report_ready": _ready,
    "os": _Os(),
}
_REPLACED: dict[ModuleType, dict[str, Any]] = {
    router_app: {
        **_COMMON,
        "Dialer": _dialer,
        "DeathWatch": SimDeathWatch,
        "Descriptors": lambda limit, wanted: Descriptors(limit, wanted, held=0),
        "Listener": SimListener,
        "Receiver": NotingReceiver,
        "OpenNotes": SimNotes,
    },
    router_guard: {
        "holder_of": holder_of,
        "is_holder": is_holder,
        "is_running": lambda pid: False,
        "kill_member": kill_member,
        "read_counters": read_counters,
    },
    shard_app: {
        **_COMMON,
        "Acceptor": _acceptor,
        "Handover": NotingHandover,
        "Watchdog": Nothing,
        "LastWords": SimLastWords,
        "forget_links": lambda run, name: None,
        "remove_sockets": lambda run, name: None,
        "limit_memory": lambda limit: None,
        "offer_to_be_killed": lambda: None,
    },
    shard_host: {"time": SimpleNamespace(time=_wall)},
    # A few clients are many: broadcasts to more than two queue, as those to more than 32 do.
    router_giving: {"PIECE": 3, "Attaching": HuntedAttaching},
    router_output: {"AT_ONCE": 2, "PIECE": 2, "WRITES_PER_TURN": 4, "OBJECT_WRITES": 6},
    router_receiving: {"AT_ONCE": 2},
}


@contextlib.contextmanager
def replaced() -> Iterator[None]:
    """Members made inside get the simulated outside."""
    with contextlib.ExitStack() as patches:
        for module, names in _REPLACED.items():
            for name, value in names.items():
                patches.enter_context(mock.patch.object(module, name, value))
        defaults: dict[str, Any] = Surroundings.__init__.__kwdefaults__
        patches.enter_context(mock.patch.dict(defaults, output_of=lambda transport: (transport.confirmed, 0)))
        patches.enter_context(mock.patch.object(shard_outbox, "_PORTION", PORTION_BYTES))
        yield
