"""The app of the conformance tests: an object that does what a test tells it to, and reports what happens to it.

What an object does is a *step*: a small function beside the test that needs it. The test sends the function's name,
the object imports it and calls it; so a scenario and its assertions stand side by side although they run in two
processes. What an object meets goes, as it happens, as a datagram to the test (``driver.Reports``), which can thus
watch an object without waking it.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import json
import socket
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

from roost.shard import DurableObject, Request, Response, WebSocket, WebSocketPair

Step = Callable[..., Any]

HANDLERS: dict[tuple[str, str], Step] = {}
"""(object's name, event) → the step that handles it. Outside the instance, so that it outlives hibernation."""
LIVES: Counter[str] = Counter()
"""Object's name → how often it was constructed."""


@functools.cache
def reporter() -> socket.socket:
    """Made when first needed: tests import this module, too."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


def report(to: str, name: str, what: str, **facts: Any) -> None:
    """Tell the test. A test that has ended does not listen any more, which is fine."""
    try:
        reporter().sendto(json.dumps({"object": name, "what": what, **facts}).encode(), to)
    except OSError:
        pass


@functools.cache
def find(step: str) -> Step:
    """``module:function`` → the function."""
    module, _, name = step.partition(":")
    found: Step = getattr(importlib.import_module(module), name)
    return found


async def outcome(value: Any) -> Any:
    """The value itself, or what it comes to when awaited; a plain value costs no turn of the loop."""
    return await value if inspect.isawaitable(value) else value


class Probe(DurableObject):
    """Does what tests say.

    - ``POST ?step=S`` with JSON arguments calls ``S(probe, **arguments)`` and answers with its result or exception.
    - ``?respond=S`` (any method, upgrades too) answers with the Response of ``S(probe, request, **arguments)``.
    - An upgrade without either is accepted with ``?tags=[…]``.
    - A message ``!S {arguments}`` calls ``S(probe, ws, **arguments)`` in its handler; any other is reported.
    """

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self.name: str = ctx.id.name
        LIVES[self.name] += 1
        self.life = LIVES[self.name]
        self.memory: dict[str, Any] = {}
        self.report("constructed", life=self.life)
        # Not a method: it would keep the instance alive.
        weakref.finalize(self, report, env.REPORT, self.name, "dropped", life=self.life).atexit = False
        if (self.name, "constructor") in HANDLERS:
            HANDLERS[self.name, "constructor"](self)

    def report(self, what: str, **facts: Any) -> None:
        """Let the test see something."""
        report(self.env.REPORT, self.name, what, **facts)

    async def fetch(self, request: Request) -> Response:
        if "respond" in request.query:
            arguments = json.loads(request.query["arguments"])
            response: Response = await outcome(find(request.query["respond"])(self, request, **arguments))
            return response
        if "step" in request.query:
            try:
                result = await outcome(find(request.query["step"])(self, **json.loads(request.text())))
            except Exception as error:
                raised = [cls.__name__ for cls in type(error).__mro__]
                return Response.json({"raised": raised, "text": str(error), "life": self.life})
            return Response.json({"result": result, "life": self.life})
        return accept(self, request, tags=json.loads(request.query.get("tags", "[]")))

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        if isinstance(message, str) and message.startswith("!"):
            step, _, arguments = message[1:].partition(" ")
            await outcome(find(step)(self, ws, **json.loads(arguments or "{}")))
        else:
            shown = message if isinstance(message, str) else message.hex()
            self.report("message", data=shown, type=type(message).__name__, tags=self.ctx.get_tags(ws))
            await self.handled("message", ws, message)

    async def web_socket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None:
        facts = {"code": code, "reason": reason, "clean": was_clean}
        self.report("close", **facts, tags=self.ctx.get_tags(ws), state=ws.ready_state, life=self.life)
        await self.handled("close", ws, code, reason, was_clean)

    async def web_socket_error(self, ws: WebSocket, error: Exception) -> None:
        listed = ws in self.ctx.get_web_sockets()
        self.report("error", text=str(error), tags=self.ctx.get_tags(ws), state=ws.ready_state, listed=listed)
        await self.handled("error", ws, error)

    async def handled(self, event: str, *arguments: Any) -> None:
        if (self.name, event) in HANDLERS:
            await outcome(HANDLERS[self.name, event](self, *arguments))


# --- steps that many tests use ------------------------------------------------------------------------------------


def accept(probe: Probe, request: Request, tags: Any = (), **response: Any) -> Response:
    """Accept a socket for hibernation and return the client end."""
    client, server = WebSocketPair()
    probe.ctx.accept_web_socket(server, tags)
    return Response(status=101, web_socket=client, **response)


def accept_standard(probe: Probe, request: Request, names: str = "message close error") -> Response:
    """Accept a socket with ``accept()`` and report its events."""
    client, server = WebSocketPair()
    server.accept()
    for name in names.split():
        # Weak, or instance and listener would keep each other in memory until the collector comes by.
        server.add_event_listener(name, functools.partial(report_event, weakref.proxy(probe), server))
    probe.memory.setdefault("standard", []).append(server)
    return Response(status=101, web_socket=client)


def report_event(probe: Probe, ws: WebSocket, event: Any) -> None:
    facts = {"type": event.type, "state": ws.ready_state}
    if event.type == "message":
        shown = event.data if isinstance(event.data, str) else event.data.hex()
        facts |= {"data": shown, "kind": type(event.data).__name__}
    elif event.type == "close":
        facts |= {"code": event.code, "reason": event.reason, "clean": event.was_clean}
    else:
        facts |= {"text": str(event.error)}
    probe.report("event", **facts)


def when(probe: Probe, event: str, step: str | None) -> None:
    """From now on *step* handles *event* (``None``: nothing does), in later lives of the object too."""
    if step is None:
        HANDLERS.pop((probe.name, event), None)
    else:
        HANDLERS[probe.name, event] = find(step)


def life(probe: Probe) -> int:
    """How often the object has been constructed."""
    return probe.life


def count(probe: Probe, tag: str | None = None) -> int:
    """How many sockets ``get_web_sockets`` lists."""
    return len(probe.ctx.get_web_sockets() if tag is None else probe.ctx.get_web_sockets(tag))


def tags(probe: Probe) -> list[list[str]]:
    """The tags of each socket, in the order of ``get_web_sockets()``."""
    return [probe.ctx.get_tags(ws) for ws in probe.ctx.get_web_sockets()]


def states(probe: Probe) -> list[int]:
    """The ready state of each socket, in the order of ``get_web_sockets()``."""
    return [ws.ready_state for ws in probe.ctx.get_web_sockets()]


def say(probe: Probe, *_: Any, what: Any = "said") -> None:
    """Send to each socket."""
    for ws in probe.ctx.get_web_sockets():
        ws.send(what)


def echo(probe: Probe, ws: WebSocket, message: str | bytes) -> None:
    """Send back what came."""
    ws.send(message)


def answer(probe: Probe, ws: WebSocket) -> None:
    """A round trip through one client's router: the object's records before it have arrived there."""
    ws.send("settled")


def close_all(probe: Probe, *_: Any, code: int | None = None, reason: str | None = None) -> None:
    """Call ``close`` on each socket with the arguments given."""
    arguments = [argument for argument in (code, reason) if argument is not None]
    for ws in probe.ctx.get_web_sockets():
        ws.close(*arguments)


def reset(probe: Probe, *_: Any, reason: str | None = None) -> None:
    """Reset the object; never returns."""
    if reason is None:
        probe.ctx.abort()
    probe.ctx.abort(reason)


def set_auto_response(probe: Probe, request: str = "ping", response: str = "pong") -> None:
    """Set the object's automatic response."""
    from roost.shard import WebSocketRequestResponsePair

    probe.ctx.set_web_socket_auto_response(WebSocketRequestResponsePair(request, response))


async def rest(probe: Probe, *_: Any, seconds: float) -> None:
    """Let time pass inside the object."""
    await asyncio.sleep(seconds)


def nothing(probe: Probe, *_: Any) -> None:
    """Do nothing, within the object: what was before has been dealt with once this has been."""


# --- classes for what Probe cannot show, because it has it --------------------------------------------------------


class Silent(DurableObject):
    """Has no handler besides ``fetch``."""

    async def fetch(self, request: Request) -> Response:
        if request.headers.get("upgrade") is None:
            return Response.json([ws.ready_state for ws in self.ctx.get_web_sockets()])
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server)
        return Response(status=101, web_socket=client)


class Handless(DurableObject):
    """Has not even ``fetch``."""


class Ledger(DurableObject):
    """Nobody from outside reaches it."""

    public = False

    def fetch(self, request: Request) -> Response:
        return Response("reached")


class Crowd(DurableObject):
    """Sockets that are accepted and never returned: they vanish together, and each handler looks for its own."""

    async def fetch(self, request: Request) -> Response:
        if "emptied" in request.query:
            await self.empty.wait()
            return Response.json([len(self.ctx.get_web_sockets()), self.unlisted])
        self.left = int(request.query["count"])
        self.empty = asyncio.Event()
        self.unlisted = 0
        for number in range(self.left):
            _, server = WebSocketPair()
            self.ctx.accept_web_socket(server, ["crowd", str(number)])
        return Response(str(len(self.ctx.get_web_sockets())))

    async def web_socket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None:
        self.unlisted += ws not in self.ctx.get_web_sockets(self.ctx.get_tags(ws)[1])
        self.left -= 1
        if not self.left:
            self.empty.set()


class Synchronous(DurableObject):
    """Handlers may be plain functions."""

    def fetch(self, request: Request) -> Response:
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server)
        return Response(status=101, web_socket=client)

    def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        ws.send(message)

    def web_socket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None:
        ws.close(4000 + code % 1000, "sync")


class CamelCase(DurableObject):
    """The seed's own spellings, throughout; ``driver`` talks to it in ``test_names``."""

    async def fetch(self, request: Request) -> Response:
        from roost.shard import WebSocketRequestResponsePair

        client, server = WebSocketPair()
        self.ctx.acceptWebSocket(server, ["camel"])
        self.ctx.setWebSocketAutoResponse(WebSocketRequestResponsePair("ping", "pong"))
        server.serializeAttachment({"hump": 1})
        return Response(status=101, web_socket=client)

    async def webSocketMessage(self, ws: WebSocket, message: str | bytes) -> None:  # noqa: N802
        pair = self.ctx.getWebSocketAutoResponse()
        stamp = self.ctx.getWebSocketAutoResponseTimestamp(ws)
        self.ctx.setHibernatableWebSocketEventTimeout(1000)
        for peer in self.ctx.getWebSockets("camel"):
            peer.send(
                {
                    "said": message,
                    "attachment": ws.deserializeAttachment(),
                    "tags": self.ctx.getTags(ws),
                    "pair": [pair.getRequest(), pair.getResponse()],
                    "stamp": stamp is not None,
                    "timeout": self.ctx.getHibernatableWebSocketEventTimeout(),
                    "state": ws.readyState,
                }
            )

    async def webSocketClose(self, ws: WebSocket, code: int, reason: str, wasClean: bool) -> None:  # noqa: N802, N803
        ws.close(4001, f"{code} {reason} {wasClean}")

    async def webSocketError(self, ws: WebSocket, error: Exception) -> None:  # noqa: N802
        for peer in self.ctx.getWebSockets("camel"):
            if peer is not ws:
                peer.send(f"error {error}")
