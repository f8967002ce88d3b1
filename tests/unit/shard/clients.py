"""Routers and their clients as the shard's tests see them: they keep all that was sent to them."""

from __future__ import annotations

from typing import Any

from roost.common.close_codes import VANISHED
from roost.common.wire.records import HttpResponse
from roost.shard import DurableObject, Request, Response, WebSocket, WebSocketPair
from tests.support.links import Record
from tests.unit.shard.harness import Router, World, turns


class Front:
    """A router that keeps what it has got."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self._records: list[Record] = []

    @property
    def records(self) -> list[Record]:
        self._records += self.router.take()
        return self._records

    def of(self, kind: str) -> list[Record]:
        return [record for record in self.records if record[0] == kind]

    def forget(self) -> None:
        self.records.clear()

    def answer(self, request: int) -> HttpResponse | None:
        return next((record[1] for record in self.of("response") if record[1].request == request), None)

    async def fetch(self, query: str = "") -> HttpResponse:
        number = self.router.request(query=query)
        await turns(20)
        answer = self.answer(number)
        assert answer is not None, "no answer"
        return answer

    def client(self, name: str = "lobby", query: str = "") -> Client:
        """A client whose handshake is on its way."""
        return Client(self, self.router.request(name, query, upgrade=True), self.router.requests)

    async def connect(self, name: str = "lobby", query: str = "") -> Client:
        """A client whose handshake was accepted."""
        client = self.client(name, query)
        await turns(20)
        assert client.answer is not None
        assert client.answer.status == 101, client.answer
        return client


class Client:
    """A client of a router: what was sent to it."""

    def __init__(self, front: Front, counter: int, request: int) -> None:
        self.front = front
        self.counter = counter
        self._request = request

    @property
    def answer(self) -> HttpResponse | None:
        return self.front.answer(self._request)

    def send(self, data: str | bytes) -> int:
        return self.front.router.message(self.counter, data)

    def close(self, code: int = 1000, reason: str = "") -> int:
        return self.front.router.closed(self.counter, code, reason)

    @property
    def messages(self) -> list[str | bytes]:
        return [record[2] for record in self.front.of("send") for _ in range(record[1].count(self.counter))]

    @property
    def closes(self) -> list[Record]:
        """(code, reason, final) of each Close."""
        return [record[2:] for record in self.front.of("close") if record[1] == self.counter]

    def acked(self, seq: int) -> bool:
        ranges = [each for record in self.front.of("ack") for each in record[1]]
        return any(counter == self.counter and first <= seq <= last for counter, first, last in ranges)


def shard(cls: type[DurableObject], routers: int = 1, **config: Any) -> tuple[World, Front, Front]:
    """A shard that hosts *cls* as ``room``, its first router and its last."""
    cls.__name__ = "Room"
    world = World(cls, routers=routers, **config)
    first = Front(world.routers[0])
    return world, first, first if routers == 1 else Front(world.routers[-1])


class Rec(DurableObject):
    """Accepts each handshake with the tags of its query, and notes what happens to it."""

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self.log: list[Any] = []

    async def fetch(self, request: Request) -> Response:
        return self.accept(request) if "plain" not in request.query else Response("plain")

    def accept(self, request: Request) -> Response:
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server, request.query.get_all("tag"))
        return Response(status=101, web_socket=client)

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        self.log.append(message)

    async def web_socket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None:
        self.log.append((code, reason, was_clean))


GONE = (1006, VANISHED, False)
