"""Whatever users' code raises, wherever: its object answers, the log has it, and the host goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from roost.shard import Request, Response, WebSocket, WebSocketPair
from tests.unit.shard.clients import Rec, shard
from tests.unit.shard.harness import on_virtual_time, turns


class Mute(Exception):
    """Raises when it is asked for its text."""

    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


class Meta(type):
    @property
    def __name__(cls) -> str:
        raise KeyboardInterrupt


class Nameless(Exception, metaclass=Meta):
    """Raises when it is asked for its class's name."""


KINDS: list[type[BaseException]] = [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, Mute, Nameless]


class Odd(Response):
    @property
    def status(self) -> int:
        raise SystemExit(3)


class Raises(Rec):
    """Raises *kind*, where its clients ask for it."""

    kind: type[BaseException]
    where = ""

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        if self.where == "constructor":
            raise self.kind()

    async def fail(self) -> None:
        raise self.kind()

    async def fetch(self, request: Request) -> Response:
        if "fetch" in request.query:
            raise self.kind()
        if "odd" in request.query:
            return Odd()
        return await super().fetch(request)

    def web_socket_message(self, ws: WebSocket, message: str | bytes) -> Any:
        if message == "sync":
            raise self.kind()
        if message == "async":
            return self.fail()
        if message == "wait_until":
            self.ctx.wait_until(self.fail())
        if message == "block":
            return self.ctx.block_concurrency_while(self.fail)
        ws.send(f"did {message!r:.20}")
        return None


CASES = [
    (kind, where)
    for kind in KINDS
    for where in ("sync", "async", "wait_until", "block", "fetch", "odd", "constructor")
    # A task that raises these goes through the loop itself: see ``test_serving``.
    if where not in ("wait_until", "block") or not issubclass(kind, SystemExit | KeyboardInterrupt)
]


@pytest.mark.parametrize(("kind", "where"), CASES, ids=lambda each: getattr(each, "__qualname__", each))
@pytest.mark.parametrize("development", [False, True])
def test_an_object_that_raises_is_told_of_in_the_log_and_nothing_else_happens(
    kind: type[BaseException], where: str, development: bool, caplog: pytest.LogCaptureFixture
) -> None:
    @on_virtual_time
    async def scenario() -> None:
        Raises.kind, Raises.where = kind, where
        world, front, _ = shard(Raises, development=development)
        if where in ("fetch", "odd", "constructor"):
            assert (await front.fetch(f"plain&{where}")).status == 500
        else:
            client = await front.connect()
            seq = client.send(where)
            await turns()
            assert client.acked(seq)
            assert world.counters.errors == 1
        Raises.where = ""
        other = await front.connect("other")
        other.send("x")
        await turns()
        assert other.messages == ["did 'x'"]

    scenario()
    if where != "odd":
        assert "raised" in caplog.text


def test_a_task_whose_exception_has_no_text_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Room(Rec):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            async def fail() -> None:
                raise Mute

            asyncio.create_task(fail())  # noqa: RUF006

    @on_virtual_time
    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(None)
        world, front, _ = shard(Room)
        client = await front.connect()
        client.send("x")
        await turns()
        assert world.counters.errors == 1

    scenario()
    assert "never retrieved" in caplog.text
    assert "Mute" in caplog.text


def test_each_listener_hears_an_event_whatever_those_before_have_raised(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Any] = []

    class Room(Rec):
        async def fetch(self, request: Request) -> Response:
            client, server = WebSocketPair()
            server.accept()
            server.add_event_listener("message", lambda event: (_ for _ in ()).throw(SystemExit(3)))
            server.add_event_listener("message", self.fail)
            server.add_event_listener("message", lambda event: heard.append(event.data))
            return Response(status=101, web_socket=client)

        async def fail(self, event: Any) -> None:
            raise Mute

    @on_virtual_time
    async def scenario() -> None:
        _, front, _ = shard(Room)
        client = await front.connect()
        client.send("x")
        await turns()
        assert heard == ["x"]

    scenario()
    assert caplog.text.count("message listener raised") == 2
