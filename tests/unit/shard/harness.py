"""A shard without processes, sockets and waiting: routers whose links record, and a loop whose clock jumps.

``World`` is a host with its routers around it. A ``Router`` gives it events as a link's sink would, and reads what the
host has written to it back as tuples that begin with the record's name. Tests that await run ``on_virtual_time``: when
nothing is ready to run, the clock jumps to the next timer, and if there is none the test hangs, which is an error.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from types import SimpleNamespace
from typing import Any, ParamSpec, cast

from roost.common.cluster.cluster_map import ClusterMap, Member, MemberKind
from roost.common.ids import Incarnation, ObjectId, Slot, id_from_name, slot_of
from roost.common.limits import SLOTS
from roost.common.machine.last_words import LastWords
from roost.common.settings.shard import ShardConfig
from roost.common.wire.records import (
    HttpRequest,
    Passport,
)
from roost.shard import DurableObject, Request, Response, WebSocketPair
from roost.shard.api.life import Life
from roost.shard.api.pending import Pending
from roost.shard.counters import ShardCounters
from roost.shard.events import RouterEvents
from roost.shard.host import Host
from roost.shard.objects.hosted import HostedObject
from roost.shard.objects.loader import HostedClass
from roost.shard.objects.sockets import RouterPeer, Socket
from roost.shard.outgoing.outbox import Outbox
from roost.shard.outgoing.output import ACKS_WITHIN_S
from tests.support.links import LinkToRouter, Record

P = ParamSpec("P")

SHARD, OTHER_SHARD = Incarnation(9), Incarnation(10)


# --- time ---------------------------------------------------------------------------------------------------------


class _JumpingSelector(selectors.SelectSelector):
    """Waits by moving the clock on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("nothing will ever happen any more: the test waits for something that does not come")
        self.now += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self.faults: list[str] = []
        self.set_exception_handler(lambda _, context: self.faults.append(context["message"]))

    def time(self) -> float:
        return self._jumping.now

    def jump(self, seconds: float) -> None:
        """Something has taken so long."""
        self._jumping.now += seconds


def on_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test on a loop of its own whose clock jumps. An exception that the loop gets to see fails it."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        loop = VirtualLoop()
        try:
            contextvars.copy_context().run(loop.run_until_complete, test(*args, **kwargs))
            assert not loop.faults, loop.faults
        finally:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.wait(tasks))
            loop.close()

    return run


async def turns(count: int = 10) -> None:
    """Let the loop take some turns: enough for what waits for no time but that of acknowledgements."""
    for _ in range(count):
        await asyncio.sleep(0)
    await asyncio.sleep(ACKS_WITHIN_S)
    for _ in range(count):
        await asyncio.sleep(0)


class Timers:
    """Stands in for a loop where no task runs: keeps what is planned until told to call it."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def run(self) -> None:
        while self.soon:
            self.soon.pop(0)()


def _watch_timers() -> None:
    """Timers of the runtime's own must not count as an object's, with whose life they would end: that fails a test."""
    add_timer = Pending.add_timer

    def checked(self: Pending, timer: asyncio.TimerHandle, now: float) -> None:
        callback: Any = getattr(timer, "_callback", None)
        module = getattr(getattr(callback, "func", callback), "__module__", None) or ""
        if module.startswith("roost.") and not module.endswith((".web_socket", ".context")):  # those users may pass
            loop: Any = asyncio.get_running_loop()
            loop.faults.append(f"{callback} is noted as a timer of an object")
        add_timer(self, timer, now)

    Pending.add_timer = checked  # type: ignore[method-assign]


_watch_timers()


# --- links --------------------------------------------------------------------------------------------------------


def peer_of(link: LinkToRouter) -> RouterPeer:
    return RouterPeer(link)  # type: ignore[arg-type]


def outbox(limit: int = 1 << 20) -> Outbox:
    """An outbox that nobody flushes."""
    return Outbox(lambda _: None, limit)


class BareLife(Life):
    """A life of no object, which keeps what its code starts.

    Attributes:
        adopted: Tasks and futures.
    """

    label = "room/lobby"

    def __init__(self, owner: object = None) -> None:
        super().__init__(ObjectId(bytes(32)), SimpleNamespace(calling=None))
        self.owner = owner
        self.adopted: list[asyncio.Future[Any]] = []

    def cause(self, loop: asyncio.AbstractEventLoop) -> None:
        return None

    def adopt(self, task: asyncio.Task[Any], note: object) -> None:
        self.adopted.append(task)

    def adopt_future(self, future: asyncio.Future[Any]) -> None:
        self.adopted.append(future)

    def own_tasks(self) -> list[asyncio.Future[Any]]:
        return self.adopted

    def note_idle(self) -> None:
        pass

    def user_error(self, where: str, error: BaseException) -> None:
        raise error


def socket_of(owner: Any = None, ordinal: int = 1, tags: tuple[str, ...] = ()) -> Socket:
    return Socket(owner or SimpleNamespace(activation=BareLife()), hibernatable=True, ordinal=ordinal, tags=tags)


# --- a shard and its routers --------------------------------------------------------------------------------------


class Room(DurableObject):
    """Accepts everyone, with the tags and mode that the query says. Tests extend it."""

    async def fetch(self, request: Request) -> Response:
        client, server = WebSocketPair()
        if "standard" in request.query:
            server.accept()
        else:
            self.ctx.accept_web_socket(server, request.query.get_all("tag"))
        return Response(status=101, web_socket=client)


class Router:
    """One router of a ``World``: hands events over, reads output back."""

    def __init__(self, world: World, incarnation: int) -> None:
        self.world = world
        self.link = LinkToRouter(incarnation)
        self.counter = incarnation * 100
        self.requests = 0
        self.seqs: dict[int, int] = {}

    @property
    def peer(self) -> RouterPeer:
        (peer,) = (peer for peer in self.world.host.output.peers if peer.link is self.link)
        return peer

    @property
    def events(self) -> RouterEvents:
        return RouterEvents(self.world.host, self.peer)

    def take(self, *names: str) -> list[Record]:
        """The records that have come since the last call; only those of *names*, if any are given."""
        return [record for record in self.link.take() if not names or record[0] in names]

    # --- events, as the sink gets them ---

    def request(self, name: str = "lobby", query: str = "", *, upgrade: bool = False, namespace: str = "room") -> int:
        """Send a request; returns the connection's counter if it is an upgrade, else the request's number."""
        self.requests += 1
        self.counter += upgrade
        self.events.request(
            HttpRequest(
                request=self.requests,
                connection=self.counter if upgrade else 0,
                object_id=id_from_name(namespace, name),
                namespace=namespace,
                name=name,
                method="GET",
                url=f"http://localhost/{namespace}/{name}?{query}",
                headers=[(b"host", b"localhost")],
                body=b"",
            )
        )
        return self.counter if upgrade else self.requests

    async def connect(self, name: str = "lobby", query: str = "", namespace: str = "room") -> int:
        """Open a connection and wait for its 101."""
        counter = self.request(name, query, upgrade=True, namespace=namespace)
        await turns()
        return counter

    def _seq(self, counter: int) -> int:
        self.seqs[counter] = self.seqs.get(counter, 0) + 1
        return self.seqs[counter]

    def message(self, counter: int, data: str | bytes = "hello", deliveries: int = 0) -> int:
        seq = self._seq(counter)
        self.events.message(counter, seq, deliveries, data)
        return seq

    def closed(self, counter: int, code: int = 1000, reason: str = "", clean: bool = True) -> int:
        seq = self._seq(counter)
        self.events.closed(counter, seq, 0, code, reason, clean)
        return seq

    def failed(self, counter: int, code: int = 1002, description: str = "bad frame") -> int:
        seq = self._seq(counter)
        self.events.failed(counter, seq, 0, code, description)
        return seq

    def room(self, counter: int, size: int) -> None:
        """Say how much output there is room for."""
        self.events.room(counter, size)
        self.world.host.output.flush()

    def behind(self, name: str = "lobby", is_behind: bool = True) -> None:
        """Say whether much output of an object waits."""
        self.events.behind(id_from_name("room", name), is_behind)

    def restore(self, counter: int, name: str = "lobby", *, ordinal: int | None = None, **fields: Any) -> None:
        """Restore a connection of an earlier owner."""
        namespace = fields.pop("namespace", "room")
        known = {
            "hibernatable": True,
            "closed_by_object": False,
            "next_seq": 1,
            "auto_response_time": None,
            "url": f"http://localhost/{namespace}/{name}",
            "protocol": "",
            "tags": (),
            "attachment": None,
        }
        object_id = id_from_name(namespace, name)
        self.events.restore(
            Passport(
                connection=counter,
                ordinal=counter if ordinal is None else ordinal,
                object_id=object_id,
                namespace=namespace,
                name=name,
                **(known | fields),
            )
        )

    def restored(self, *names: str) -> None:
        """All connections of *names*' slots, or of all slots, are restored."""
        slots = [slot_of(id_from_name("room", name)) for name in names] or list(range(SLOTS))
        self.events.restored(self.world.version, slots)


class World:
    """A host, and the routers of its map. Make it inside a running loop.

    Args:
        classes: Classes to host; by default ``Room``.
        routers: Number of routers in the map.
        restored: Each router has restored its connections: gates are open.
        last_words: Where the host notes what runs.
        config: The shard's settings.
    """

    def __init__(
        self,
        *classes: type[DurableObject],
        routers: int = 1,
        restored: bool = True,
        last_words: LastWords | None = None,
        **config: Any,
    ) -> None:
        hosted = [HostedClass(cls) for cls in classes or (Room,)]
        self.loop = cast(VirtualLoop, asyncio.get_running_loop())
        self.counters = ShardCounters()
        self.host = Host(
            ShardConfig(app="app", name="shard-1", **config),
            {each.namespace: each for each in hosted},
            self.loop,
            SHARD,
            self.counters,
            last_words,
        )
        self._watch_for_defects()
        self.version = 0
        self.elsewhere: set[Slot] = set()
        self.in_transit: dict[Slot, Incarnation] = {}
        self.released: list[Slot] = []
        self.host.release.on_released = self.released.extend
        self.routers: list[Router] = []
        for number in range(1, routers + 1):
            self.routers.append(Router(self, number))
        self.publish()
        if restored:
            for router in self.routers:
                router.restored()

    def _watch_for_defects(self) -> None:
        """The host logs what its loop gets to see, as objects' tasks may fail; a callback of its own may not."""
        logs = self.loop.get_exception_handler()
        assert logs is not None

        def note(loop: Any, context: dict[str, Any]) -> None:
            if "handle" in context or context["message"].startswith("the end of a handler"):
                loop.faults.append(f"{context['message']}: {context.get('exception')!r}")
            logs(loop, context)

        self.loop.set_exception_handler(note)

    @property
    def router(self) -> Router:
        return self.routers[0]

    @property
    def members(self) -> dict[Incarnation, Member]:
        """The members of the next map."""
        members = {
            SHARD: Member("shard-1", MemberKind.SHARD, SHARD),
            OTHER_SHARD: Member("shard-2", MemberKind.SHARD, OTHER_SHARD),
        }
        for router in self.routers:
            name = f"router-{router.link.remote}"
            members[router.link.remote] = Member(name, MemberKind.ROUTER, router.link.remote)
        return members

    def publish(self) -> None:
        """Give the host a map with the routers that there are."""
        self.version += 1
        links: Any = {router.link.remote: router.link for router in self.routers}
        owners = tuple(OTHER_SHARD if slot in self.elsewhere else SHARD for slot in range(SLOTS))
        self.host.follow(ClusterMap(self.version, self.members, owners, dict(self.in_transit)), links)

    def send_away_object(self, namespace: str, name: str, to: Incarnation = OTHER_SHARD) -> None:
        """A map that moves the slot of an object of any class."""
        self.in_transit[slot_of(id_from_name(namespace, name))] = to
        self.publish()

    def send_away(self, *names: str, to: Incarnation = OTHER_SHARD) -> None:
        """A map that moves the slots of *names* to the other shard."""
        self.in_transit |= {slot_of(id_from_name("room", name)): to for name in names or ("lobby",)}
        self.publish()

    def hand_over(self) -> None:
        """The map in which what was released belongs to its next owner."""
        for slot in self.released:
            if self.in_transit.pop(slot) != SHARD:
                self.elsewhere.add(slot)
        released = list(self.released)
        self.released.clear()
        self.publish()
        self.host.handed_over(released, self.version)

    def bring_back(self, *names: str) -> None:
        """The map in which this shard owns the slots of *names* again."""
        self.elsewhere -= {slot_of(id_from_name("room", name)) for name in names or ("lobby",)}
        self.publish()

    def add_router(self) -> Router:
        router = Router(self, 1 + max((router.link.remote for router in self.routers), default=0))
        self.routers.append(router)
        self.publish()
        return router

    def lose(self, router: Router) -> None:
        self.routers.remove(router)
        self.publish()

    def find(self, name: str = "lobby", namespace: str = "room") -> HostedObject | None:
        """The record of an object, if the host has one."""
        return self.host.objects.get(id_from_name(namespace, name))

    def object(self, name: str = "lobby", namespace: str = "room") -> HostedObject:
        found = self.find(name, namespace)
        assert found is not None
        return found

    def instance(self, name: str = "lobby", namespace: str = "room") -> Any:
        activation = self.object(name, namespace).activation
        return None if activation is None else activation.instance


async def outcome(awaitable: Awaitable[Any]) -> Any:
    """The result, or the exception."""
    try:
        return await awaitable
    except BaseException as error:
        return error
