"""The objects of the fault suite. Each answer to a numbered message says what its object knew, for ``checking``."""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import Any

from roost.shard import DurableObject, Request, Response, WebSocket, WebSocketPair

VERSION = 1
"""Told in each answer; a test that reloads the app changes this line of its copy."""

_lives = itertools.count(1)


class Ledger(DurableObject):
    """Answers ``n`` on a connection that opened with ``?who=`` by what is proved of it: ``checking.Answer``.

    The last number that was handled is kept in the attachment, so it outlives the instance and its shard.
    """

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        # Two instances never have the same, wherever they run: a process id may come back, but not with this count.
        self.life = f"{os.getpid():x}.{next(_lives):x}"

    async def fetch(self, request: Request) -> Response:
        if request.headers.get("upgrade") is None:
            return Response.json({"sockets": len(self.ctx.get_web_sockets()), "version": VERSION, "life": self.life})
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server)
        server.serialize_attachment([int(request.query["who"]), 0])
        return Response(status=101, web_socket=client)

    def handled(self, ws: WebSocket, message: str) -> str:
        """Note that *message* is handled; gives the answer."""
        number = int(message)
        who, previous = ws.deserialize_attachment()
        ws.serialize_attachment([who, max(number, previous)])
        return f"{who} {number} {previous} {ws.redelivered:d} {self.life} {VERSION}"

    def web_socket_message(self, ws: WebSocket, message: str) -> None:
        ws.send(self.handled(ws, message))

    def web_socket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None:
        """Write a line into the file that ``--var NOTES=`` names, if any: it outlives a shard that dies."""
        if not hasattr(self.env, "NOTES"):
            return
        who, _ = ws.deserialize_attachment()
        line = f"{who}\t{code}\t{reason}\t{was_clean:d}\t{ws.redelivered:d}\n"
        file = os.open(str(self.env.NOTES), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line.encode())  # whole, as all that append to it
        finally:
            os.close(file)


class Busy(Ledger):
    """Works on for 5 ms after each answer: at any moment some handlers run, whose messages are not acknowledged."""

    async def web_socket_message(self, ws: WebSocket, message: str) -> None:
        ws.send(self.handled(ws, message))
        await asyncio.sleep(0.005)


class Fan(Ledger):
    """Answers to all its sockets."""

    def web_socket_message(self, ws: WebSocket, message: str) -> None:
        answer = self.handled(ws, message)
        for peer in self.ctx.get_web_sockets():
            peer.send(answer)


class Flood(DurableObject):
    """Sends ``count`` messages of ``size`` bytes for each ``"count size"`` that it gets."""

    async def fetch(self, request: Request) -> Response:
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server)
        return Response(status=101, web_socket=client)

    def web_socket_message(self, ws: WebSocket, message: str) -> None:
        count, size = map(int, message.split())
        for number in range(count):
            ws.send(b"%08d" % number + bytes(size - 8))


class Standing(Ledger):
    """Accepts with ``accept()``: its sockets cannot move, and are closed with 1012 when their shard has to go."""

    async def fetch(self, request: Request) -> Response:
        if request.headers.get("upgrade") is None:
            return await super().fetch(request)
        client, server = WebSocketPair()
        server.accept()
        server.serialize_attachment([int(request.query["who"]), 0])
        server.add_event_listener("message", lambda event: server.send(self.handled(server, event.data)))
        return Response(status=101, web_socket=client)
