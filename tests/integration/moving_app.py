"""The app of the tests of moves and deaths: objects that tell all that they know, and some that end their process."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import time
from typing import Any

from roost.shard import DurableObject, Request, Response, WebSocket, WebSocketPair, WebSocketRequestResponsePair


class Witness(DurableObject):
    """Does what it is told and describes its sockets."""

    running = 0
    """Handlers that wait as they were told."""

    async def wait(self, seconds: str) -> None:
        self.running += 1
        await asyncio.sleep(float(seconds))
        self.running -= 1

    async def fetch(self, request: Request) -> Response:
        if "running" in request.query:
            return Response.json(self.running)
        if "wait" in request.query:
            await self.wait(request.query["wait"])
            return Response(f"{request.body.decode()} after {request.query['wait']} s")
        if request.headers.get("upgrade") is None:
            return Response.json(self.truth())
        client, server = WebSocketPair()
        if "standard" in request.query:
            server.accept()
        else:
            self.ctx.accept_web_socket(server, request.query.get_all("tag"))
        return Response(status=101, web_socket=client)

    def truth(self) -> dict[str, Any]:
        """What a new owner of the object must know."""
        pair = self.ctx.get_web_socket_auto_response()
        return {
            "pair": None if pair is None else [pair.get_request(), pair.get_response()],
            "timeout": self.ctx.get_hibernatable_web_socket_event_timeout(),
            "sockets": [
                {
                    "tags": self.ctx.get_tags(ws),
                    "attachment": ws.deserialize_attachment(),
                    "state": ws.ready_state,
                    "url": ws.url,
                    "time": str(self.ctx.get_web_socket_auto_response_timestamp(ws)),
                }
                for ws in self.ctx.get_web_sockets()
            ],
        }

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        assert isinstance(message, str)
        command, _, argument = message.partition(" ")
        if command == "attach":
            ws.serialize_attachment(json.loads(argument))
        elif command == "pair":
            self.ctx.set_web_socket_auto_response(WebSocketRequestResponsePair(*argument.split()))
        elif command == "timeout":
            self.ctx.set_hibernatable_web_socket_event_timeout(int(argument))
        elif command == "close":
            ws.close(4000, argument)
            return
        elif command == "sleep":
            await self.wait(argument)
        ws.send({"done": message, "again": ws.redelivered})


class Killer(DurableObject):
    """Ends its process in different ways."""

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        if ctx.id.name == "stillborn":
            ctypes.string_at(0)
        if ctx.id.name == "hanging":
            time.sleep(1e6)
        self.left: list[asyncio.Task[None]] = []

    async def fetch(self, request: Request) -> Response:
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server)
        return Response(status=101, web_socket=client)

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        if message == "crash":
            ctypes.string_at(0)  # the null pointer: no exception of Python's, but SIGSEGV
        elif message == "late crash":
            await asyncio.sleep(0.05)
            ctypes.string_at(0)
        elif message == "thread":
            await asyncio.to_thread(self.crash)
        elif message == "executor":
            asyncio.get_running_loop().run_in_executor(None, self.crash)
            await asyncio.sleep(60)
        elif message == "child":
            child = await asyncio.create_subprocess_exec("kill", "-SEGV", str(os.getpid()))
            await child.wait()
            await asyncio.sleep(60)
        elif message == "task":
            self.left.append(asyncio.create_task(self.crash_later()))
        elif message == "timer":
            asyncio.get_running_loop().call_later(0.05, ctypes.string_at, 0)
        elif message == "descriptor":
            reading, writing = os.pipe()
            asyncio.get_running_loop().add_reader(reading, ctypes.string_at, 0)
            asyncio.get_running_loop().call_later(0.05, os.write, writing, b"x")
        elif message == "call_soon":
            asyncio.get_running_loop().call_soon(ctypes.string_at, 0)
        elif message == "wait_until":
            self.ctx.wait_until(self.exit())
        elif message == "wait":
            await asyncio.sleep(60)
        elif message == "eat":
            memory = []
            while True:
                memory.append(bytearray(16 << 20))
        ws.send({"said": message, "again": ws.redelivered})

    @staticmethod
    def crash() -> None:
        time.sleep(0.05)
        ctypes.string_at(0)

    async def crash_later(self) -> None:
        ctypes.string_at(0)

    async def exit(self) -> None:
        os._exit(3)
