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
