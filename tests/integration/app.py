"""The app of the integration tests: HTTP in all its forms, echo, and handlers that block."""

from __future__ import annotations

import asyncio
import time
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
