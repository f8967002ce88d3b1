"""A router's slots with links that a test looks at."""

from __future__ import annotations

from collections.abc import Callable

from roost.common.cluster.cluster_map import ClusterMap, Member, MemberKind
from roost.common.ids import Incarnation, Slot, id_from_name
from roost.common.limits import SLOTS
from roost.common.wire.records import AcceptMode
from roost.router.clients.output import Output
from roost.router.owners.forwarding import Forwarding
from roost.router.owners.poison import Death, Running
from roost.router.owners.receiving import Receiver
from roost.router.owners.requests import Request
from roost.router.websocket.connection import Connection
from tests.support.links import LinkToShard
from tests.unit.router.fakes import NAMESPACE, FakeAsker, FakeTransport, World


def shard(incarnation: int, name: str | None = None, seat: str = "") -> Member:
    """A shard of a map."""
    return Member(
        name or f"s{incarnation}",
        MemberKind.SHARD,
        Incarnation(incarnation),
        f"ipc://{incarnation}",
        (NAMESPACE,),
        seat=seat,
    )


def cluster(
    version: int, *shards: Member, owners: list[int] | None = None, moving: dict[int, int] | None = None
) -> ClusterMap:
    """A map. All slots belong to the first shard, or as *owners* says; *moving* has the next owners."""
    members = {member.incarnation: member for member in shards}
    numbers = owners if owners is not None else [shards[0].incarnation if shards else 0] * SLOTS
    next_owners = {Slot(slot): Incarnation(to) for slot, to in (moving or {}).items()}
    return ClusterMap(version, members, tuple(map(Incarnation, numbers)), next_owners)


class Rig:
    """A world whose slots belong to links that the test looks at.

    Attributes:
        soon: What waits for the next turn of the loop, work that is left over included, when made with ``turns``.
        last_words: What a shard was running when it dies, by incarnation.
    """

    def __init__(self, *, turns: bool = False, world: World | None = None) -> None:
        self.world = world or World()
        self.links: dict[int, LinkToShard] = {}
        self.soon: list[Callable[[], None]] = []
        self.last_words: dict[int, Running | Death] = {}
        self.forwarding = Forwarding(
            self.world.shared,
            lambda member: self.connect_to(member),
            parked_ticks=600,
            soon=self.soon.append if turns else None,
            last_words=self._last_words,
        )
        self.output = Output(lambda: None)
        if turns:
            self.world.on_work = self._work_soon

    def _work_soon(self) -> None:
        self.soon.append(self._work)

    def _work(self) -> None:
        if self.world.shared.work.run():
            self._work_soon()

    def _last_words(self, member: Member) -> Death | None:
        said = self.last_words.get(member.incarnation)
        return Death(said) if isinstance(said, Running) else said

    def connect_to(self, member: Member) -> LinkToShard:
        """Make the link to a shard; a test may put something else in its place."""
        assert member.incarnation not in self.links
        link = self.links[member.incarnation] = LinkToShard(member.incarnation)
        return link

    def receiver(self, incarnation: int) -> Receiver:
        """Takes what a shard says."""
        return Receiver(self.links[incarnation], self.world.shared, self.forwarding, self.output)

    def take_map(self, new: ClusterMap) -> None:
        self.forwarding.take_map(new)

    def ask(self, name: str = "lobby", upgrade: bool = False, body: bytes = b"") -> tuple[Request, FakeAsker]:
        asker = FakeAsker()
        request = self.forwarding.desk.ask(
            asker,
            namespace=NAMESPACE,
            name=name,
            method="GET",
            url=f"http://h/{NAMESPACE}/{name}",
            headers=[(b"host", b"h")],
            body=body,
            upgrade=upgrade,
        )
        return request, asker

    def connect(
        self, name: str = "lobby", mode: AcceptMode = AcceptMode.HIBERNATABLE, shard: int = 1
    ) -> tuple[Connection, FakeTransport]:
        """An open connection of an object that *shard* owns."""
        entry = self.world.shared.objects.get(id_from_name(NAMESPACE, name))
        if entry is None:
            self.world.entry(name, self.links[shard])
        return self.world.connect(name, mode)
