"""The user's class of the simulation: a room whose messages say what its handlers are to do.

A message is ``<verb> <client> <number> <argument>``. Whatever it does it notes in the run's history, so that the
checks know what should have come of it. A socket's attachment says whose it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from roost.common.errors import RoostError
from roost.shard import DurableObject, Request, Response, WebSocket, WebSocketPair, WebSocketRequestResponsePair

from .history import Execution
from .outside import current_cluster, current_process

PING, PONG = "ping", "pong"
"""The automatic response of a room that has one."""


class AsAsked(Exception):
    """A message has asked for an error."""


class Room(DurableObject):
    """See the module."""

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self.object_id = bytes.fromhex(str(ctx.id))

    def _begin(self, kind: str, ws: WebSocket | None, client: int, number: int, data: Any) -> Execution:
        again = ws.redelivered if ws is not None else False
        return current_cluster().history.begin(
            current_process(),
            kind,
            self.object_id,
            client,
            number,
            data,
            again,
        )

    async def _noted(self, run: Execution, result: Awaitable[None]) -> None:
        cancelled = False
        try:
            await result
        except asyncio.CancelledError:
            cancelled = True
            raise
        finally:
            if run.tenure.process.alive:  # else the run is over and this is torn down
                current_cluster().history.ended(run, cancelled=cancelled)

    # --- requests ---

    async def fetch(self, request: Request) -> Response:
        client = int(request.query.get("c", "0"))
        if request.headers.get("upgrade", "").lower() != "websocket":
            run = self._begin("fetch", None, client, 0, "")
            if "wait" in request.query:
                await self._noted(run, asyncio.sleep(float(request.query.get("wait", "0"))))
            else:
                current_cluster().history.ended(run)
            return Response(f"{client} " + "." * int(request.query.get("size", "0")))
        mine, server = WebSocketPair()
        tag = request.query.get("tag", "")
        self.ctx.accept_web_socket(server, [tag] if tag else [])
        server.serialize_attachment({"client": client, "last": 0})
        current_cluster().history.attached[client] = {"client": client, "last": 0}
        return Response(status=101, web_socket=mine)

    # --- events ---

    def web_socket_message(self, ws: WebSocket, message: str | bytes) -> Any:
        text = message if isinstance(message, str) else message.decode()
        if text == PING:  # the room had no automatic response when this came
            run = self._begin("ping", ws, _client(ws), 0, "")
            self._say(run, [ws], PING)
            current_cluster().history.ended(run)
            return None
        verb, client, number, *rest = text.split()
        run = self._begin("message", ws, int(client), int(number), verb)
        if _client(ws) != int(client):
            current_cluster().history.fault(f"a message of client {client} was delivered as one of {_client(ws)}")
        act: Callable[..., Any] = getattr(self, f"do_{verb}")
        result = act(run, ws, *rest)
        if result is None:
            current_cluster().history.ended(run)
            return None
        return self._noted(run, result)

    async def web_socket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None:
        run = self._begin("close", ws, _client(ws), 0, (code, reason, was_clean))
        self._say(run, [each for each in self.ctx.get_web_sockets() if each is not ws], "left")
        current_cluster().history.ended(run)

    async def web_socket_error(self, ws: WebSocket, error: Exception) -> None:
        run = self._begin("error", ws, _client(ws), 0, str(error))
        current_cluster().history.ended(run)

    # --- what messages ask for ---

    def _say(self, run: Execution, targets: list[WebSocket], label: str) -> None:
        """Send one payload to *targets*, and note it for those that took it."""
        history = current_cluster().history
        number, text = history.payload(run, label)
        for target in targets:
            try:
                target.send(text)
            except (RoostError, TypeError):
                continue  # the object has closed that one
            history.sent(run, _client(target), number)

    def _attach(self, run: Execution, ws: WebSocket) -> None:
        value = {"client": run.client, "last": run.number}
        ws.serialize_attachment(value)
        current_cluster().history.attach(run, value)

    def do_echo(self, run: Execution, ws: WebSocket) -> None:
        self._say(run, [ws], "echo")

    def do_cast(self, run: Execution, ws: WebSocket) -> None:
        self._say(run, self.ctx.get_web_sockets(), "cast")

    def do_tagged(self, run: Execution, ws: WebSocket, tag: str) -> None:
        self._say(run, self.ctx.get_web_sockets(tag), "tagged")
        self._say(run, [ws], "told")

    def do_flood(self, run: Execution, ws: WebSocket, what: str) -> None:
        """More than a router keeps for one client: in parts to all, the rest to who asks."""
        for number in range(24):
            self._say(run, self.ctx.get_web_sockets() if number % 3 == 0 else [ws], f"flood{what * 4_000}")
        self._attach(run, ws)

    def do_large(self, run: Execution, ws: WebSocket, size: str) -> None:
        """Messages that go in pieces, among others that do not."""
        self._say(run, self.ctx.get_web_sockets(), "before")
        self._say(run, [ws], f"one{'l' * int(size)}")
        self._say(run, self.ctx.get_web_sockets(), f"all{'l' * int(size)}")
        self._attach(run, ws)
        self._say(run, [ws], "after")

    def do_keep(self, run: Execution, ws: WebSocket) -> None:
        self._attach(run, ws)
        self._say(run, [ws], "kept")

    async def do_wait(self, run: Execution, ws: WebSocket, seconds: str) -> None:
        self._say(run, [ws], "first")
        await asyncio.sleep(float(seconds))
        self._attach(run, ws)
        self._say(run, self.ctx.get_web_sockets(), "second")

    async def do_stubborn(self, run: Execution, ws: WebSocket, seconds: str) -> None:
        """Takes longer than a release waits, and says something when it is cancelled."""
        try:
            await asyncio.sleep(float(seconds))
        except asyncio.CancelledError:
            self._say(run, [ws], "cancelled")
            raise
        self._say(run, [ws], "last")

    def do_auto(self, run: Execution, ws: WebSocket, what: str) -> None:
        self.ctx.set_web_socket_auto_response(WebSocketRequestResponsePair(PING, PONG) if what == "on" else None)
        self._say(run, [ws], "auto")

    def do_limit(self, run: Execution, ws: WebSocket, milliseconds: str) -> None:
        self.ctx.set_hibernatable_web_socket_event_timeout(int(milliseconds))
        self._say(run, [ws], "limit")

    def do_bye(self, run: Execution, ws: WebSocket, code: str) -> None:
        self._say(run, [ws], "bye")
        ws.close(int(code), "as you wish")

    def do_raise(self, run: Execution, ws: WebSocket) -> None:
        self._say(run, [ws], "ouch")
        current_cluster().history.ended(run)
        raise AsAsked

    def do_kill(self, run: Execution, ws: WebSocket) -> None:
        """A poisoned message: the process is dead, and nothing of this turn comes out."""
        current_cluster().kill(current_process())
        raise SystemExit


def _client(ws: WebSocket) -> int:
    value = ws.deserialize_attachment()
    return int(value["client"])
