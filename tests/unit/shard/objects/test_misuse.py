"""What goes wrong without an exception is said in the log, and in development by the answer."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from roost.shard import DurableObject, Request, Response, WebSocket, WebSocketPair
from roost.shard.objects.misuse import SLOW_FETCH_S
from tests.unit.shard.harness import Router, World, on_virtual_time, turns

HEADERS = {"x-kept": "yes"}


class Wrong(DurableObject):
    """Does what the name of the object says, wrongly."""

    reused: Response | None = None

    async def fetch(self, request: Request) -> Any:
        client, server = WebSocketPair()
        what = str(self.ctx.id.name).rstrip("0123456789")
        if what == "server-end":
            self.ctx.accept_web_socket(server)
            return Response(status=101, web_socket=server)
        if what == "client-end":
            self.ctx.accept_web_socket(client)
            return Response(status=101, web_socket=client)
        if what == "not-accepted":
            return Response(status=101, web_socket=client)
        if what == "not-returned":
            self.ctx.accept_web_socket(server)
            return Response("plain", headers=HEADERS)
        if what == "one-too-many":
            self.ctx.accept_web_socket(server)
            self.ctx.accept_web_socket(WebSocketPair().server)
            return Response(status=101, web_socket=client)
        if what == "hangs":
            await asyncio.sleep(3600)
        if what == "reused":
            if self.reused is None:
                self.ctx.accept_web_socket(server)
                Wrong.reused = Response(status=101, web_socket=client)
            return self.reused
        if what == "awaits":
            return Response(await request.text())
        if what == "task":
            self.ctx.accept_web_socket(server)
            self.task = asyncio.create_task(server.send("x"))  # type: ignore[arg-type]
        if what == "fastapi":
            self.ctx.accept_web_socket(server)
            server.send_text("x")  # type: ignore[attr-defined]
        return {
            "none": None,
            "text": "hello",
            "dict": {"a": 1},
            "tuple": ("body", 200),
            "pair": WebSocketPair(),
            "right": Response("right"),
        }[what]


class Deaf(DurableObject):
    def fetch(self, request: Request) -> Response:
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server)
        return Response(status=101, web_socket=client)

    def on_message(self, ws: WebSocket, message: str | bytes) -> None: ...


class Empty(DurableObject):
    def on_fetch(self, request: Request) -> Response:
        return Response("never")


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log has at its default level, and forgets it."""
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    caplog.clear()
    return lines


def answers(router: Router) -> list[tuple[int, str]]:
    return [(record[1].status, record[1].body.decode()) for record in router.take("response")]


SILENT = [
    ("server-end", 101, "return the other one"),
    ("client-end", 101, "accept the server end"),
    ("not-accepted", 101, "accept_web_socket(server)` before"),
    ("not-returned", 200, "did not return it"),
]


@pytest.mark.parametrize(("name", "status", "remedy"), SILENT)
@on_virtual_time
async def test_silent_mistakes_are_said_once_with_the_object_and_the_remedy(
    caplog: pytest.LogCaptureFixture, name: str, status: int, remedy: str
) -> None:
    world = World(Wrong)
    for number in (1, 2):
        world.router.request(f"{name}{number}", upgrade=True, namespace="wrong")
        await turns()
    assert [answer[0] for answer in answers(world.router)] == [status, status]
    (line,) = said(caplog)
    assert line.startswith(f"wrong/{name}1")
    assert remedy in line


@pytest.mark.parametrize(("name", "status", "remedy"), SILENT)
@on_virtual_time
async def test_in_development_the_answer_says_it(name: str, status: int, remedy: str) -> None:
    world = World(Wrong, development=True)
    for number in (1, 2):
        world.router.request(f"{name}{number}", upgrade=True, namespace="wrong")
        await turns()
    for got, body in answers(world.router):
        assert got == 500
        assert remedy in body


@on_virtual_time
async def test_a_second_pair_that_is_accepted_is_said_and_the_first_one_is_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(Wrong, development=True)
    world.router.request("one-too-many", upgrade=True, namespace="wrong")
    await turns()
    assert [status for status, _ in answers(world.router)] == [101]
    assert "did not return it" in said(caplog)[0]


@on_virtual_time
async def test_what_is_right_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    world = World(Wrong, Deaf, development=True)
    world.router.request("right", namespace="wrong")
    await world.router.connect("x", namespace="deaf")
    assert [status for status, _ in answers(world.router)] == [200, 101]
    assert said(caplog) == []


@on_virtual_time
async def test_a_fetch_that_hangs_is_said_once_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    world = World(Wrong)
    world.router.request("hangs", namespace="wrong")
    world.router.request("hangs", upgrade=True, namespace="wrong")
    await asyncio.sleep(SLOW_FETCH_S - 1)
    assert said(caplog) == []
    await asyncio.sleep(3)
    (line,) = said(caplog)
    assert line.startswith("wrong/hangs")
    assert "has not ended after 5 s" in line
    assert answers(world.router) == []


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("none", "no `return`"),
        ("text", "return Response(text)"),
        ("dict", "return Response.json(value)"),
        ("tuple", "return Response(body, status=…"),
        ("pair", "return Response(status=101, web_socket=client)"),
        ("awaits", "take the `await` away"),
        ("task", "they need no task"),
        ("fastapi", "use send(text)"),
    ],
)
@on_virtual_time
async def test_an_error_has_its_remedy_in_the_log_and_in_development_in_the_answer(
    caplog: pytest.LogCaptureFixture, name: str, remedy: str
) -> None:
    for development in (False, True):
        world = World(Wrong, development=development)
        world.router.request(name, "x", upgrade=name in ("task", "fastapi"), namespace="wrong")
        await turns()
        ((status, body),) = answers(world.router)
        assert status == 500
        assert (remedy in body) is development
        assert remedy in caplog.text
        assert f"wrong/{name}" in caplog.text
        caplog.clear()


@on_virtual_time
async def test_a_response_with_a_socket_is_good_for_one_request(caplog: pytest.LogCaptureFixture) -> None:
    world = World(Wrong)
    for _ in range(2):
        world.router.request("reused", upgrade=True, namespace="wrong")
        await turns()
    Wrong.reused = None
    assert [status for status, _ in answers(world.router)] == [101, 500]
    assert "a pair and a Response for each request" in said(caplog)[0]


@on_virtual_time
async def test_messages_that_nobody_handles_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World(Deaf)
    connection = await world.router.connect("x", namespace="deaf")
    for _ in range(3):
        world.router.message(connection, "hello")
    await turns()
    (line,) = said(caplog)
    assert "messages are dropped" in line
    assert "rename its on_message, which roost never calls, to web_socket_message" in line


@on_virtual_time
async def test_in_development_a_client_hears_that_a_handler_is_misspelt() -> None:
    world = World(Deaf, development=True)
    connection = await world.router.connect("x", namespace="deaf")
    world.router.message(connection, "hello")
    await turns()
    (close,) = world.router.take("close")
    assert close[1:4] == (connection, 1011, "roost never calls on_message: rename it to web_socket_message")


@pytest.mark.parametrize("development", [False, True])
@on_virtual_time
async def test_a_class_without_fetch(caplog: pytest.LogCaptureFixture, development: bool) -> None:
    world = World(Empty, development=development)
    world.router.request("x", namespace="empty")
    await turns()
    ((status, body),) = answers(world.router)
    assert status == 501
    assert ("rename its on_fetch" in body) is development
    assert "rename its on_fetch" in said(caplog)[0]


class Listening(DurableObject):
    """Accepts in one way and hears in the other."""

    def fetch(self, request: Request) -> Response:
        client, server = WebSocketPair()
        if self.ctx.id.name == "standard":
            server.accept()
        elif self.ctx.id.name == "before":
            server.add_event_listener("message", print)
            self.ctx.accept_web_socket(server)
        else:
            self.ctx.accept_web_socket(server)
            server.add_event_listener("message", print)
        return Response(status=101, web_socket=client)

    def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None: ...


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("standard", "accept it with `self.ctx.accept_web_socket(ws)`"),
        ("before", "listeners, which are never called"),
        ("after", "listeners, which are never called"),
    ],
)
@on_virtual_time
async def test_events_that_go_elsewhere_are_said(caplog: pytest.LogCaptureFixture, name: str, remedy: str) -> None:
    world = World(Listening)
    connection = await world.router.connect(name, namespace="listening")
    world.router.message(connection, "hello")
    await turns()
    (line,) = said(caplog)
    assert line.startswith(f"listening/{name}")
    assert remedy in line


class Forgetful(DurableObject):
    """Does not call super()."""

    def __init__(self, ctx: Any, env: Any) -> None:
        self.greeting = env.GREETING

    def fetch(self, request: Request) -> Response:
        return Response(f"{self.greeting} {self.ctx.id.name} {self.env.GREETING}")


@on_virtual_time
async def test_super_may_be_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    world = World(Forgetful, vars=("GREETING=hello",))
    world.router.request("x", namespace="forgetful")
    await turns()
    assert answers(world.router) == [(200, "hello x hello")]
    assert said(caplog) == []
