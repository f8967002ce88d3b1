"""The app of the integration tests: HTTP in all its forms, echo, and handlers that block."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

from roost.shard import DurableObject, Request, Response, WebSocket, WebSocketPair


class Web(DurableObject):
    """Answers requests as ``?do=`` says."""

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self.count = 0
        self.gate = asyncio.Event()

    async def fetch(self, request: Request) -> Response:
        self.count += 1
        do = request.query.get("do", "mirror")
        answer: Response = await getattr(self, do)(request)
        return answer

    async def mirror(self, request: Request) -> Response:
        """What came, as the object sees it."""
        return Response.json(
            {
                "method": request.method,
                "path": request.path,
                "url": request.url,
                "name": self.ctx.id.name,
                "headers": {name: request.headers[name] for name in request.headers},
                "body": request.text(),
                "count": self.count,
            }
        )

    async def body(self, request: Request) -> Response:
        """The body back, byte by byte."""
        return Response(request.body, headers={"content-type": "application/octet-stream"})

    async def sized(self, request: Request) -> Response:
        return Response(b"x" * int(request.query["n"]))

    async def later(self, request: Request) -> Response:
        """Answer after some seconds."""
        await asyncio.sleep(float(request.query["s"]))
        return Response("at last")

    async def header(self, request: Request) -> Response:
        """A response with the header that the query gives."""
        return Response("body", headers={request.query["name"]: request.query["value"]})

    async def status(self, request: Request) -> Response:
        return Response(request.query.get("body", ""), status=int(request.query["n"]))

    async def wait(self, request: Request) -> Response:
        """Answer when ``open`` is asked for."""
        await self.gate.wait()
        return Response(f"waited until request {self.count}")

    async def open(self, request: Request) -> Response:
        self.gate.set()
        return Response("open")

    async def block(self, request: Request) -> Response:
        """Hold the loop, as bad code does."""
        time.sleep(float(request.query["seconds"]))  # noqa: ASYNC251
        return Response("that took a while")

    async def nothing(self, request: Request) -> Response:
        return Response()


class Echo(DurableObject):
    """Sends back what comes; ``tell:`` reaches everybody."""

    async def fetch(self, request: Request) -> Response:
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server)
        return Response(status=101, web_socket=client)

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        if isinstance(message, str) and message.startswith("tell:"):
            for peer in self.ctx.get_web_sockets():
                peer.send(message)
        elif isinstance(message, str) and message.startswith("block:"):
            time.sleep(float(message[6:]))  # noqa: ASYNC251
            ws.send("done")
        else:
            ws.send(message)


OPENED: Counter[str] = Counter()
CLOSED: Counter[str] = Counter()
"""Object's name → how many sockets it accepted, and how many close events it got; outside of what hibernates."""


class Tally(DurableObject):
    """Numbers the messages of each socket, by its attachment: a lost, doubled or reordered one shows."""

    async def fetch(self, request: Request) -> Response:
        if request.headers.get("upgrade") is None:
            name = self.ctx.id.name
            return Response.json([OPENED[name], CLOSED[name], len(self.ctx.get_web_sockets())])
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server, tags=[request.query["who"]])
        server.serialize_attachment(0)
        OPENED[self.ctx.id.name] += 1
        return Response(status=101, web_socket=client)

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        number = ws.deserialize_attachment() + 1
        ws.serialize_attachment(number)
        (who,) = self.ctx.get_tags(ws)
        ws.send(f"{who} {number} {message!r}")

    async def web_socket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None:
        CLOSED[self.ctx.id.name] += 1


class Parrot(DurableObject):
    """Repeats what it hears, and says whether it has heard that before."""

    async def fetch(self, request: Request) -> Response:
        if request.headers.get("upgrade") is None:
            return Response.json([len(self.ctx.get_web_sockets()), [self.ctx.get_tags(ws) for ws in self.all()]])
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server, tags=["all", request.query["who"]])
        server.serialize_attachment(request.query["who"])
        return Response(status=101, web_socket=client)

    def all(self) -> list[WebSocket]:
        return self.ctx.get_web_sockets("all")

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        await asyncio.sleep(0)
        ws.send({"said": message, "again": ws.redelivered, "who": ws.deserialize_attachment()})


class Flood(DurableObject):
    """Sends as many messages of a size as it is told, all at once, and closes behind them."""

    async def fetch(self, request: Request) -> Response:
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server)
        return Response(status=101, web_socket=client)

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        count, size = map(int, message.split())
        for number in range(count):
            ws.send(bytes((number,)) * size)
        ws.close(4000, "that was all")
