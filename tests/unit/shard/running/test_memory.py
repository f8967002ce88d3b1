"""What is left in memory of what is over, and when."""

from __future__ import annotations

import asyncio
import gc
import weakref

from roost.shard import Request, Response, WebSocket, WebSocketRequestResponsePair
from tests.unit.shard.clients import Rec, shard
from tests.unit.shard.harness import on_virtual_time


@on_virtual_time
async def test_an_instance_and_its_sockets_handles_go_at_once_when_it_sleeps() -> None:
    """By counting references: full collections are rare here on purpose."""
    world, front, _ = shard(Rec, hibernate_after_s=1.0)
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await front.connect()
        gone = [weakref.ref(world.instance()), *map(weakref.ref, world.instance().ctx.get_web_sockets())]
        front.forget()
        await asyncio.sleep(3)
        assert [one() for one in gone] == [None] * 21
    finally:
        gc.enable()


@on_virtual_time
async def test_pairs_leave_nothing_to_the_collector() -> None:
    _, front, _ = shard(Rec, hibernate_after_s=1.0)
    await front.connect()
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await front.connect()
        front.forget()
        await asyncio.sleep(3)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        ours = [type(thing).__name__ for thing in gc.garbage if type(thing).__module__.startswith("roost.shard")]
        assert ours == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@on_virtual_time
async def test_an_object_that_was_forgotten_begins_behind_its_past() -> None:
    """A router may still know a connection of before by its ordinal, and what was set by its revision."""

    class Sets(Rec):
        async def fetch(self, request: Request) -> Response:
            self.ctx.set_web_socket_auto_response(WebSocketRequestResponsePair("ping", "pong"))
            return self.accept(request)

        async def web_socket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None:
            self.ctx.set_web_socket_auto_response()

    world, front, _ = shard(Sets, hibernate_after_s=1.0)
    first = await front.connect()
    first.close()
    await asyncio.sleep(5)
    assert world.find() is None
    second = await front.connect()
    assert first.answer is not None
    assert second.answer is not None
    assert second.answer.ordinal > first.answer.ordinal
    revisions = [record[1] for record in front.of("object_state")]
    assert revisions == sorted(revisions)


@on_virtual_time
async def test_sleep_comes_when_the_last_event_is_ten_seconds_ago() -> None:
    world, front, _ = shard(Rec)
    client = await front.connect("a")
    await asyncio.sleep(9.5)
    client.send("x")
    await front.connect("b")
    await asyncio.sleep(9.9)
    assert world.instance("a") is not None
    await asyncio.sleep(0.2)
    assert world.instance("a") is None
