"""Right programs, which strict checkers must pass. Nobody runs them; ``test_types`` has them checked."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from array import array
from collections.abc import Awaitable
from typing import Protocol, TypedDict

from roost import (
    CloseEvent,
    DurableObject,
    DurableObjectNamespace,
    DurableObjectState,
    Env,
    MessageEvent,
    Request,
    Response,
    WebSocket,
    WebSocketPair,
    WebSocketRequestResponsePair,
)


class Move(TypedDict):
    piece: str
    to: tuple[int, int]


def everything_that_is_sent(ws: WebSocket, move: Move, counts: dict[int, list[float]], rows: list[Move]) -> None:
    ws.send(move)
    ws.send(counts)
    ws.send(rows)
    ws.send(array("d", [1.5]))
    ws.send(memoryview(b"part")[1:])
    for cast in ("text", b"bytes", bytearray(2), 1, 1.5, True, None, (1, "two"), move):
        ws.send(cast)


class Plain(DurableObject):
    """Asynchronous handlers, with names of the author's own for their arguments."""

    async def fetch(self, request: Request) -> Response:
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server, tags=["a"])
        await server.send({"hello": [1, 2.5, None]})
        server.serialize_attachment({"when": 1})
        return Response(status=101, web_socket=client)

    async def web_socket_message(self, socket: WebSocket, text: str | bytes) -> None:
        for peer in self.ctx.get_web_sockets("a"):
            if peer.ready_state == WebSocket.OPEN:
                peer.send(text)

    async def web_socket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None:
        await ws.close(code, reason)

    async def web_socket_error(self, ws: WebSocket, error: Exception) -> None:
        print(error)


class Synchronous(DurableObject):
    """Plain functions, and a constructor."""

    public = False

    def __init__(self, ctx: DurableObjectState, env: Env) -> None:
        super().__init__(ctx, env)
        self.count = 0
        ctx.set_web_socket_auto_response(WebSocketRequestResponsePair("ping", "pong"))

    def fetch(self, request: Request) -> Response:
        greeting: str = self.env.GREETING
        number = self.env.ROOM.id_from_name("lobby")
        return Response(f"{greeting} {number}", headers={"x-name": self.ctx.id.name or ""})

    def web_socket_message(self, ws: WebSocket, message: str | bytes) -> Awaitable[None]:
        return ws.send(message)

    def web_socket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None: ...


class CamelCase(DurableObject):
    """The seed's spellings."""

    async def fetch(self, request: Request) -> Response:
        client, server = WebSocketPair()
        server.accept()
        server.addEventListener(event="message", callbackFunction=self.heard)
        server.add_event_listener("close", self.ended, {"once": True})
        server.add_event_listener("message", lambda event: server.send(event.data))
        self.ctx.setWebSocketAutoResponse(webSocketRequestResponsePair=WebSocketRequestResponsePair("a", "b"))
        self.ctx.set_web_socket_auto_response()
        self.ctx.setHibernatableWebSocketEventTimeout(timeoutMs=1000)
        return Response(status=101, webSocket=client)

    async def heard(self, event: MessageEvent) -> None:
        print(event.data, event.type)

    def ended(self, event: CloseEvent) -> None:
        print(event.code, event.wasClean)

    async def webSocketMessage(self, ws: WebSocket, message: str | bytes) -> None:
        ws.serializeAttachment(value=message)
        print(ws.deserializeAttachment(), ws.readyState, ws.binaryType)

    async def webSocketClose(self, ws: WebSocket, code: int, reason: str, wasClean: bool) -> None: ...

    async def webSocketError(self, ws: WebSocket, error: Exception) -> None: ...


class Settings(Protocol):
    """What the environment has."""

    GREETING: str
    ROOM: DurableObjectNamespace


class Typed(DurableObject[Settings]):
    """Knows its environment."""

    def __init__(self, ctx: DurableObjectState, env: Settings) -> None:
        super().__init__(ctx, env)
        self.greeting: str = env.GREETING

    async def fetch(self, request: Request) -> Response:
        number = str(self.env.ROOM.id_from_name(self.env.GREETING))
        loaded = await self.ctx.block_concurrency_while(self.load)
        self.ctx.wait_until(asyncio.sleep(1))
        return Response.json({"number": number, "loaded": loaded + 1, "json": request.json()})

    async def load(self) -> int:
        return 1


class Base(DurableObject[Settings], ABC):
    """An abstract base."""

    async def fetch(self, request: Request) -> Response:
        return Response(self.name())

    @abstractmethod
    def name(self) -> str: ...


class Derived(Base):
    def name(self) -> str:
        return self.env.GREETING
