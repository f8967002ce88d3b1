"""An object that echoes, as the neighbour needs it, and one whose handlers take as long as it lives."""

from __future__ import annotations

import asyncio
from typing import Any

from roost.shard import DurableObject, Request, Response, WebSocket, WebSocketPair
from tests.attacks import app


class Echo(app.Echo):
    """Sends each message back."""


class Slow(DurableObject):
    """Accepts everybody, and answers nobody."""

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self.never = asyncio.Event()

    async def fetch(self, request: Request) -> Response:
        if request.headers.get("upgrade") != "websocket":
            await self.never.wait()
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server)
        return Response(None, status=101, web_socket=client)

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        await self.never.wait()
