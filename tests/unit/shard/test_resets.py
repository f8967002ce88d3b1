"""Resets, and failures of users' code and tasks."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from typing import Any

import pytest

from roost.common.errors import ObjectReset
from roost.shard import Request, Response, WebSocket, WebSocketPair, WebSocketRequestResponsePair
from tests.unit.shard.clients import Rec, shard
from tests.unit.shard.harness import on_virtual_time, turns

# --- resets -----------------------------------------------------------------------------------------------------------


@on_virtual_time
async def test_a_handler_that_catches_its_own_reset_is_cancelled_when_it_waits() -> None:
    ended: list[str] = []

    class Stubborn(Rec):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            try:
                self.ctx.abort("enough")
            except ObjectReset:
                pass
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

    _, front, _ = shard(Stubborn)
    client = await front.connect()
    seq = client.send("x")
    await turns()
    assert ended == ["cancelled"]
    assert client.acked(seq)


@on_virtual_time
async def test_a_fetch_that_answers_after_the_reset_is_a_500() -> None:
    class Late(Rec):
        async def fetch(self, request: Request) -> Response:
            try:
                self.ctx.abort("enough")
            except ObjectReset:
                pass
            return Response("fine")

    _, front, _ = shard(Late)
    assert (await front.fetch()).status == 500


@pytest.mark.parametrize("own", [True, False])
def test_a_timeout_error_of_the_users_own_is_logged_as_theirs(caplog: pytest.LogCaptureFixture, own: bool) -> None:
    class TimesOut(Rec):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            await self.ctx.block_concurrency_while(self.fail if own else lambda: asyncio.sleep(31))

        async def fail(self) -> None:
            raise TimeoutError("their own")

    @on_virtual_time
    async def scenario() -> None:
        _, front, _ = shard(TimesOut)
        client = await front.connect()
        client.send("x")
        await asyncio.sleep(32)
        assert [close[0] for close in client.closes] == [1011]

    scenario()
    assert ("more than 30 s" in caplog.text) is not own
    assert ("their own" in caplog.text) is own


@pytest.mark.parametrize("waited_for", [False, True])
def test_a_task_that_resets_its_object_ends_quietly(caplog: pytest.LogCaptureFixture, waited_for: bool) -> None:
    class Aborts(Rec):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            self.task = asyncio.create_task(self.later())
            if waited_for:
                self.ctx.wait_until(self.task)

        async def later(self) -> None:
            self.ctx.abort("later")

    @on_virtual_time
    async def scenario() -> None:
        _, front, _ = shard(Aborts)
        client = await front.connect()
        client.send("x")
        await turns()
        gc.collect()
        assert [close[0] for close in client.closes] == [1011]

    scenario()
    assert [record.levelno for record in caplog.records] == [logging.WARNING], caplog.text


async def test_a_task_that_fails_unseen_is_logged_with_its_objects_name(caplog: pytest.LogCaptureFixture) -> None:
    class Leaves(Rec):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            task = asyncio.create_task(self.fail())
            task.set_name(None)  # as some versions of asyncio do themselves
            del task

        async def fail(self) -> None:
            raise RuntimeError("on purpose")

    world, front, _ = shard(Leaves)
    client = await front.connect()
    client.send("x")
    await turns()
    gc.collect()
    assert world.counters.errors == 1
    assert "room/lobby task" in caplog.text
    assert "on purpose" in caplog.text


# --- what the wire cannot carry ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["tag", "auto-response", "header", "body", "close", "message"])
def test_what_the_wire_cannot_carry_is_refused_where_it_is_passed(what: str) -> None:
    raised: list[Exception] = []

    class Odd(Rec):
        async def fetch(self, request: Request) -> Response:
            try:
                self.odd()
            except Exception as error:
                raised.append(error)
            return self.accept(request)

        def odd(self) -> None:
            _, server = WebSocketPair()
            if what == "tag":
                self.ctx.accept_web_socket(server, ["\ud800"])
            elif what == "auto-response":
                self.ctx.set_web_socket_auto_response(WebSocketRequestResponsePair("\ud800", "x"))
            elif what == "header":
                Response("x", headers={"a" * 70_000: "x"})
            elif what == "body":
                Response(bytes(257 << 20))
            else:
                server.accept()
                if what == "close":
                    server.close(4000, "\ud800")
                else:
                    server.send(bytes(257 << 20))

    @on_virtual_time
    async def scenario() -> None:
        _, front, _ = shard(Odd)
        await front.connect()
        assert len(raised) == 1

    scenario()


@on_virtual_time
async def test_a_reset_for_an_odd_reason_is_one_all_the_same() -> None:
    class Odd(Rec):
        async def fetch(self, request: Request) -> Response:
            if "plain" in request.query:
                self.ctx.abort("\ud800" * 200)
            return self.accept(request)

    _, front, _ = shard(Odd)
    client = await front.connect()
    assert (await front.fetch("plain")).status == 500
    assert [close[0] for close in client.closes] == [1011]
    assert await front.connect()


# --- what users' code may do ------------------------------------------------------------------------------------------


def test_a_plain_handler_that_lets_stop_iteration_out_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    class Stops(Rec):
        def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            next(iter(()))

    @on_virtual_time
    async def scenario() -> None:
        world, front, _ = shard(Stops)
        client = await front.connect()
        client.send("x")
        await turns()
        assert world.counters.errors == 1

    scenario()
    assert "StopIteration" in caplog.text


@on_virtual_time
async def test_the_event_timeout_is_not_for_standard_sockets() -> None:
    class Standard(Rec):
        async def fetch(self, request: Request) -> Response:
            client, server = WebSocketPair()
            self.ctx.set_hibernatable_web_socket_event_timeout(1)
            server.accept()

            async def listener(event: Any) -> None:
                await asyncio.sleep(5)
                server.send("done")

            server.add_event_listener("message", listener)
            return Response(status=101, web_socket=client)

    _, front, _ = shard(Standard)
    client = await front.connect()
    client.send("x")
    await asyncio.sleep(6)
    assert client.messages == ["done"]


@on_virtual_time
async def test_sockets_take_attributes_and_weak_references() -> None:
    class Keeps(Rec):
        async def web_socket_message(self, ws: Any, message: str | bytes) -> None:
            ws.count = getattr(ws, "count", 0) + 1
            assert weakref.ref(ws)() is ws
            ws.send(ws.count)

    _, front, _ = shard(Keeps, hibernate_after_s=1.0)
    client = await front.connect()
    client.send("x")
    client.send("x")
    await asyncio.sleep(3)
    client.send("x")
    await turns()
    assert client.messages == ["1", "2", "1"]
