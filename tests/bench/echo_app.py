"""The objects of the benchmarks."""

from __future__ import annotations

from roost.shard import DurableObject, Request, Response, WebSocket, WebSocketPair


class _Accepting(DurableObject):
    async def fetch(self, request: Request) -> Response:
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server)
        return Response(status=101, web_socket=client)


class Echo(_Accepting):
    """Sends back what it gets."""

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        ws.send(message)


class EchoSync(_Accepting):
    """The same without a coroutine."""

    def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        ws.send(message)


class Cast(_Accepting):
    """Sends what it gets to all, in a plain loop."""

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        for peer in self.ctx.get_web_sockets():
            peer.send(message)


class Wake(_Accepting):
    """Tells whether it was woken for a message."""

    woken = True

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        ws.send("woken" if self.woken else "awake")
        self.woken = False


class Idle(DurableObject):
    """Sockets as a chat has them: a tag and a small attachment."""

    async def fetch(self, request: Request) -> Response:
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server, tags=["everyone"])
        server.serialize_attachment({"name": request.query.get("name", "guest")})
        return Response(status=101, web_socket=client)
