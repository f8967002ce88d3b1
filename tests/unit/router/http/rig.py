"""A router's public port without sockets: clients that speak HTTP, and the link to one shard."""

from __future__ import annotations

from typing import Any

from roost.common.cluster.cluster_map import ClusterMap, Member, MemberKind
from roost.common.ids import Incarnation
from roost.common.limits import SLOTS
from roost.common.settings.router import RouterConfig
from roost.common.wire.records import AcceptMode, Headers, HttpResponse
from roost.router.clients.output import Output
from roost.router.http.connection import HttpConnection
from roost.router.http.front import Front
from roost.router.owners.forwarding import Forwarding
from roost.router.owners.receiving import Receiver
from roost.router.websocket.connection import Connection
from tests.support.links import LinkToShard
from tests.unit.router.fakes import NAMESPACE, FakeTransport, World, accepted

GET = b"GET /chat-room/lobby HTTP/1.1\r\nHost: h\r\n\r\n"
CLOSE = b"GET /chat-room/lobby HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
HEAD = GET.replace(b"GET", b"HEAD")
POST = b"POST /chat-room/lobby HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
EXPECT = b"POST /chat-room/lobby HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
UPGRADE = (
    b"GET /chat-room/lobby?x=1 HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Client:
    """One TCP connection to the rig."""

    def __init__(self, rig: Rig, sockname: tuple[Any, ...] = (), host: str = "127.0.0.1") -> None:
        self.rig = rig
        self.transport = FakeTransport()
        self.transport.sockname = sockname
        self.transport.peername = (host, 50_000)
        self.protocol: Any = HttpConnection(rig.front)
        self.transport.protocol = self.protocol
        self.protocol.connection_made(self.transport)

    def send(self, data: bytes) -> bytes:
        self.transport.protocol.data_received(data)
        self.rig.world.run()
        return self.transport.take()

    def take(self) -> bytes:
        return self.transport.take()


class Rig:
    def __init__(self, **settings: Any) -> None:
        self.world = World()
        self.counters = self.world.counters
        self.link = LinkToShard(1)
        self.forwarding = Forwarding(self.world.shared, lambda member: self.link, parked_ticks=600)
        config = RouterConfig(name="r1", max_body_bytes=1000, max_message_bytes=1000, **settings)
        self.front = Front(config, self.world.shared, self.forwarding, lambda: self.world.now)
        self.receiver = Receiver(self.link, self.world.shared, self.forwarding, Output(lambda: None))
        shard = Member("s1", MemberKind.SHARD, Incarnation(1), "ipc://x", (NAMESPACE,))
        self.map = ClusterMap(1, {shard.incarnation: shard}, (shard.incarnation,) * SLOTS)
        self.front.take_map(self.map)
        self.forwarding.take_map(self.map)
        self.link.take()

    def take_map(self, new: ClusterMap) -> None:
        self.front.take_map(new)
        self.world.run()

    def client(self, host: str = "127.0.0.1") -> Client:
        return Client(self, host=host)

    def asked(self) -> list[Any]:
        return [record[1] for record in self.link.take() if record[0] == "request"]

    def answer(self, request: Any, status: int = 200, headers: Headers = (), body: bytes = b"ok") -> None:
        self.receiver.response(HttpResponse(request.request, status, AcceptMode.PLAIN, headers, body))


def is_busy(rig: Rig) -> bool:
    """Whether somebody is worth waiting for when the router ends."""
    return any(each.has_request or each.is_taking for each in rig.front.open)


def give_up(rig: Rig) -> int:
    """The router ends: tell those that have no answer; how many there were."""
    unanswered = [each for each in rig.front.open if each.has_request]
    for each in unanswered:
        each.give_up()
    return len(unanswered)


def status(data: bytes) -> int:
    assert data.startswith(b"HTTP/1.1 "), data
    return int(data[9:12])


def body(data: bytes) -> bytes:
    return data.partition(b"\r\n\r\n")[2]


def upgrade(rig: Rig, client: Client, *, behind: bytes = b"", **answer: Any) -> Connection:
    assert client.send(UPGRADE + behind) == b""
    (request,) = rig.asked()
    assert request.connection
    rig.receiver.response(accepted(request=request.request, **answer))
    protocol = client.transport.protocol
    assert isinstance(protocol, Connection)
    return protocol
