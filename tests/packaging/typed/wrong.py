"""Wrong programs: each line that ends in ``# wrong`` must be reported by strict checkers, and no other line."""

from __future__ import annotations

from collections.abc import AsyncIterator

from roost import DurableObject, DurableObjectNamespace, Request, Response, WebSocket, WebSocketPair


class Settings:
    GREETING: str
    ROOM: DurableObjectNamespace


class Returns(DurableObject):
    async def fetch(self, request: Request) -> str:  # wrong
        return "no Response"

    async def web_socket_message(self, ws: WebSocket, message: str) -> None:  # wrong
        ws.send(message)

    def web_socket_close(self, ws: WebSocket, code: int, reason: str) -> None:  # wrong
        ws.close(code, reason)

    async def web_socket_error(self, ws: WebSocket, error: str) -> None:  # wrong
        ws.close(1011, error)


class Generates(DurableObject):
    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> AsyncIterator[str]:  # wrong
        yield "nobody asks for this"

    async def webSocketClose(self, ws: WebSocket, code: int) -> None:  # wrong
        ws.close(code)


class Calls(DurableObject[Settings]):
    async def fetch(self, request: Request) -> Response:
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server, tags=[1])  # wrong
        self.ctx.accept_web_socket("server")  # wrong
        self.ctx.get_web_sockets(5)  # wrong
        self.ctx.set_web_socket_auto_response("ping")  # wrong
        server.close("1000")  # wrong
        server.close(1000, 5)  # wrong
        server.add_event_listener("open", print)  # wrong
        server.addEventListener("message", callback=print)  # wrong
        server.send_text("hello")  # wrong
        server.send({1, 2})  # wrong
        server.send(request)  # wrong
        self.ctx.broadcast(object())  # wrong
        server.redy_state  # wrong
        self.env.GREETING.id_from_name("lobby")  # wrong
        self.env.ROOM.upper()  # wrong
        self.env.MISSING  # wrong
        await request.text()  # wrong
        await self.ctx.get_web_sockets()  # wrong
        Response(status="200")  # wrong
        Response({"a": 1})  # wrong
        return client  # wrong

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        message.upper().encode()  # wrong
        ws.redelivered = True  # wrong
        ws.ready_state = 3  # wrong
