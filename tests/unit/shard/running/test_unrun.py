"""Handlers that return what has not run: an error for each kind of handler and of result, and never an acknowledgement
without a word."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from roost.shard import Request, Response, WebSocket, WebSocketPair
from tests.unit.shard.harness import Room, World, on_virtual_time, turns


def generator() -> Any:
    yield


async def async_generator() -> Any:
    yield


async def coroutine() -> None:
    """Never runs."""


MAKERS = [generator, async_generator, coroutine]


class Careless(Room):
    """Returns what ``make`` gives, from the handler that ``where`` names."""

    make: Any
    where: str
    waits = False

    async def _result(self, where: str) -> Any:
        if self.waits:
            await asyncio.sleep(0)
        return type(self).make() if where == self.where else None

    async def fetch(self, request: Request) -> Any:
        if "plain" in request.query:
            return await self._result("fetch")
        client, server = WebSocketPair()
        if self.where.startswith("listener"):
            server.accept()
            server.add_event_listener("message", lambda event: self._result(self.where))
            if self.where == "listeners":
                server.add_event_listener("message", print)
        else:
            self.ctx.accept_web_socket(server)
        return Response(status=101, web_socket=client)

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> Any:
        return await self._result("message")

    async def web_socket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> Any:
        return await self._result("close")

    async def web_socket_error(self, ws: WebSocket, error: Exception) -> Any:
        return await self._result("error")


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("where", ["fetch", "message", "close", "error", "listener", "listeners"])
@pytest.mark.parametrize("waits", [False, True])
def test_what_has_not_run_is_an_error(make: Any, where: str, waits: bool, caplog: pytest.LogCaptureFixture) -> None:
    class Lobby(Careless): ...

    Lobby.__name__ = "Room"
    Lobby.make, Lobby.where, Lobby.waits = staticmethod(make), where, waits

    @on_virtual_time
    async def run() -> None:
        world = World(Lobby)
        router = world.router
        number = await router.connect()
        router.take()
        if where == "fetch":
            router.request(query="plain")
        elif where == "close":
            router.closed(number)
        elif where == "error":
            router.failed(number)
        else:
            router.message(number)
        await turns()
        assert world.counters.errors == 1
        assert f"{make.__name__}(), of which nothing has run" in caplog.text
        if where == "fetch":
            [(_, answer)] = router.take("response")
            assert answer.status == 500
        else:
            assert router.take("ack") == [("ack", [(number, 1, 1)])]

    run()


@pytest.mark.parametrize("make", MAKERS[:2])
def test_a_plain_handler_that_returns_one_is_an_error(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Plain(Room):
        def web_socket_message(self, ws: WebSocket, message: str | bytes) -> Any:
            return make()

    Plain.__name__ = "Room"

    @on_virtual_time
    async def run() -> None:
        world = World(Plain)
        world.router.message(await world.router.connect())
        await turns()
        assert f"{make.__name__}(), of which nothing has run: it holds `yield`" in caplog.text

    run()


def test_a_plain_handler_may_return_a_coroutine_which_is_awaited() -> None:
    done = []

    class Plain(Room):
        async def work(self) -> None:
            done.append(self)

        def web_socket_message(self, ws: WebSocket, message: str | bytes) -> Any:
            return self.work()

    Plain.__name__ = "Room"

    @on_virtual_time
    async def run() -> None:
        world = World(Plain)
        world.router.message(await world.router.connect())
        await turns()
        assert len(done) == 1
        assert world.counters.errors == 0

    run()
