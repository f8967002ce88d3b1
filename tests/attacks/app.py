"""The object that attackers and their neighbour speak to."""

from __future__ import annotations

from typing import Any

from roost.shard import DurableObject, Request, Response, WebSocket, WebSocketPair, WebSocketRequestResponsePair


class Echo(DurableObject):
    """Sends each message back, and answers ``ping`` without being woken."""

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        ctx.set_web_socket_auto_response(WebSocketRequestResponsePair("ping", "pong"))

    async def fetch(self, request: Request) -> Response:
        if request.headers.get("upgrade") != "websocket":
            return Response("here")
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server)
        return Response(None, status=101, web_socket=client)

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        ws.send(message)


class Room(Echo):
    """Sends each message to all."""

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        for each in self.ctx.get_web_sockets():
            each.send(message)


class Keeper(Echo):
    """Keeps as much of each client as a socket may: ten tags, and an attachment."""

    async def fetch(self, request: Request) -> Response:
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server, [f"{number}{'t' * 255}" for number in range(10)])
        server.serialize_attachment("a" * 2000)
        return Response(None, status=101, web_socket=client)


class Big(Echo):
    """Makes as much as it is asked for: ``GET ?size=N``, or a message ``COUNT SIZE``. Says how long other ones are."""

    text, body = "", b""  # made once: that is the object's time, and no attack

    async def fetch(self, request: Request) -> Response:
        if "size" in request.query:
            size = int(request.query["size"])
            if len(self.body) != size:
                self.body = bytes(size)
            return Response(self.body)
        return await super().fetch(request)

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        if len(message) > 100:
            ws.send(f"{len(message)}")
            return
        count, size = map(int, message.split())
        if len(self.text) != size:
            self.text = "x" * size
        for _ in range(count):
            ws.send(self.text)
            await ws.drain()
