"""The app of ``test_lives``: code that leaves something behind, raises what ends processes, or will not end."""

from __future__ import annotations

import argparse
import asyncio
import atexit
import contextlib
import contextvars
import itertools
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from roost.shard import DurableObject, Request, Response, WebSocket, WebSocketPair, WebSocketRequestResponsePair

LIVES = itertools.count(1)
POOL = ThreadPoolExecutor(2)
WAIT_S = 1.0
"""Seconds that pass before what ``Room.wait_for`` leaves behind comes; more than objects have until they sleep."""


def in_nobodys_name(seconds: float, call: Callable[[], Any]) -> None:
    """Call it later, which no object is kept awake for."""
    contextvars.Context().run(threading.Timer(seconds, call).start)


class Unprintable(Exception):
    """To ask for its text raises."""

    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


class Strange(Response):
    """Says a status that none can be."""

    @property
    def status(self) -> int:
        return 70_000


class Room(DurableObject):
    """Does what the query, or a message, says."""

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self.life = next(LIVES)
        self.memory: list[str] = []
        self.kept: Any = None

    async def fetch(self, request: Request) -> Response:
        do = request.query.get("do")
        if do is None:
            client, server = WebSocketPair()
            self.ctx.accept_web_socket(server)
            return Response(status=101, web_socket=client)
        if do == "strange":
            return Strange("x")
        await getattr(self, f"do_{do}")(request)
        return Response.json(self.memory)

    async def do_tell(self, request: Request) -> None:
        """Nothing more than what is known."""

    async def do_leave(self, request: Request) -> None:
        """Leave something that does not end."""
        if request.query["what"] == "generator":
            self.kept = self.generate()
            await self.kept.__anext__()
        else:
            atexit.register(time.sleep, 1000)

    async def generate(self) -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(1000)

    async def do_settings(self, request: Request) -> None:
        self.ctx.set_web_socket_auto_response(WebSocketRequestResponsePair("ping", "pong"))
        self.ctx.set_hibernatable_web_socket_event_timeout(7000)

    async def do_timeout(self, request: Request) -> None:
        self.memory.append(str(self.ctx.get_hibernatable_web_socket_event_timeout()))

    async def do_raise(self, request: Request) -> None:
        async def fail() -> None:
            if request.query["what"] == "unprintable":
                raise Unprintable
            argparse.ArgumentParser().parse_args(["--no-such-option"])

        loop = asyncio.get_running_loop()
        how = request.query["how"]
        if how == "task":
            self.kept = asyncio.create_task(fail())
        elif how == "wait_until":
            self.ctx.wait_until(fail())
        elif how == "call_later":
            loop.call_later(0.01, sys.exit, 2)
        elif how == "call_soon":
            loop.call_soon(sys.exit, 2)
        elif how == "stop":
            loop.call_soon(loop.stop)
        else:
            await fail()
        await asyncio.sleep(0.05)

    async def do_thread(self, request: Request) -> None:
        def work() -> None:
            for call in (self.ctx.get_web_sockets, self.ctx.abort, lambda: self.ctx.broadcast("x")):
                try:
                    call()
                except Exception as error:
                    self.memory.append(type(error).__name__)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    def wait_for(self, what: str) -> None:
        """Leave something of a second behind that is no task, and say so when it comes."""
        loop = asyncio.get_running_loop()

        def soon(*_: Any) -> None:
            loop.call_soon_threadsafe(self.ctx.broadcast, f"life {self.life} goes on")

        if what == "timer":
            loop.call_later(WAIT_S, soon)
        elif what == "executor":
            loop.run_in_executor(None, time.sleep, WAIT_S).add_done_callback(soon)
        elif what == "pool":
            POOL.submit(time.sleep, WAIT_S).add_done_callback(soon)
        elif what == "thread":
            threading.Timer(WAIT_S, soon).start()
        elif what == "descriptor":
            reading, writing = socket.socketpair()

            def came() -> None:
                loop.remove_reader(reading)
                reading.close()
                in_nobodys_name(0.2, soon)  # the time begins anew with what is not watched any more

            loop.add_reader(reading, came)
            in_nobodys_name(WAIT_S, writing.close)  # the descriptor alone keeps the object

    def tick(self) -> None:
        self.ctx.broadcast(f"tick of life {self.life}")
        asyncio.get_running_loop().call_later(0.1, self.tick)

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        if message == "tick":
            self.tick()
        elif str(message).startswith("wait for a "):
            ws.send(f"life {self.life}")
            self.wait_for(str(message).split()[-1])
        elif message == "stay":
            while True:
                try:
                    await asyncio.sleep(0.1)
                    self.ctx.broadcast(f"still life {self.life}")
                except:  # noqa: E722  # that is the point
                    pass
        elif message == "abort":
            self.ctx.abort("as asked")
        else:
            ws.send(f"life {self.life}")
