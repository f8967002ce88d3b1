"""The app of ``test_forks``: code that forks, in each place where an object's code runs, with children of each kind."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pty
import subprocess
import sys
import time
from typing import Any

from roost.shard import DurableObject, Request, Response, WebSocket, WebSocketPair

SHARD = os.getpid()


def ended(child: int) -> int:
    """The exit code of *child*; -1 if it lives on."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return -1


class Fork(DurableObject):
    """Forks where the query says, and answers with the child's exit code."""

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self.child = 0
        self.forked = asyncio.Event()
        if str(ctx.id.name).startswith("constructor"):
            self.fork("raise")

    async def fetch(self, request: Request) -> Response:
        where, what = request.query.get("where"), request.query.get("what", "")
        if where is None:
            client, server = WebSocketPair()
            self.ctx.accept_web_socket(server)
            return Response(status=101, web_socket=client)
        await getattr(self, f"in_{where}")(what)
        if os.getpid() != SHARD:
            return Response("the child's answer")
        await self.forked.wait()
        return Response.json(await asyncio.to_thread(ended, self.child))

    def is_parent_of(self, child: int) -> None:
        self.child = child
        self.forked.set()

    def start(self, *words: str, **options: Any) -> None:
        self.kept = subprocess.Popen(words, **options)
        self.is_parent_of(self.kept.pid)

    def fork(self, what: str) -> None:
        """The child does *what*."""
        child = os.fork()
        if child:
            self.is_parent_of(child)
        elif what == "raise":
            raise SystemExit(3)
        elif what == "error":
            raise ValueError("on purpose")
        elif what == "speak":
            self.ctx.broadcast("I am the object")
            os._exit(0)
        elif what == "work":
            os._exit(sum(range(10)))

    async def in_handler(self, what: str) -> None:
        self.fork("" if what == "wait" else what)
        if not self.child and what == "wait":
            await asyncio.get_event_loop_policy().new_event_loop().create_future()

    async def in_waited(self, what: str) -> None:
        await asyncio.sleep(0)
        await self.in_handler(what)

    async def in_constructor(self, what: str) -> None:
        pass

    async def in_task(self, what: str) -> None:
        async def work() -> None:
            await asyncio.sleep(0)
            self.fork(what)

        self.task = asyncio.create_task(work())

    async def in_timer(self, what: str) -> None:
        asyncio.get_running_loop().call_later(0.01, self.fork, what)

    async def in_call_soon(self, what: str) -> None:
        asyncio.get_running_loop().call_soon(self.fork, what)

    async def in_done_callback(self, what: str) -> None:
        asyncio.ensure_future(asyncio.sleep(0)).add_done_callback(lambda _: self.fork(what))

    async def in_thread(self, what: str) -> None:
        await asyncio.to_thread(self.fork, what)

    async def in_pty(self, what: str) -> None:
        child, _ = pty.fork()
        if child:
            self.is_parent_of(child)

    async def in_multiprocessing(self, what: str) -> None:
        process = multiprocessing.get_context("fork").Process(target=sys.exit, args=(3,))
        process.start()
        await asyncio.to_thread(process.join)
        self.start("sh", "-c", f"exit {process.exitcode}")

    async def in_loops_subprocess(self, what: str) -> None:
        process = await asyncio.create_subprocess_exec("sh", "-c", "exit 3")
        self.start("sh", "-c", f"exit {await process.wait()}")

    async def in_subprocess(self, what: str) -> None:
        self.start("sh", "-c", "exit 3", preexec_fn=os.getpid)

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        ws.send(message)
