"""What an event takes at its shard: routers count each with that (``roost.router.websocket.window.EVENT_BYTES``)."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

import pytest

from roost.router.websocket.window import EVENT_BYTES
from roost.shard import WebSocket
from tests.unit.shard.harness import Room, World, on_virtual_time, turns

COUNT = 2_000
OVER = 1.5
"""What memory may be of what is counted."""


class Waits(Room):
    """Its handlers wait for as long as the object lives, for an event or (``sleep``) for a time."""

    def __init__(self, ctx: object, env: object) -> None:
        super().__init__(ctx, env)  # type: ignore[arg-type]
        self.never = asyncio.Event()

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        if message == "sleep":
            await asyncio.sleep(1e6)
        await self.never.wait()


class Blocked(Room):
    """Once told so, its events wait in the mailbox."""

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        if message == "begin":
            self.ctx.block_concurrency_while(asyncio.Event().wait)


@pytest.mark.parametrize(("room", "message"), [(Waits, ""), (Waits, "sleep"), (Blocked, "")])
@on_virtual_time
async def test_an_event_takes_what_routers_count_it_with(room: type[Room], message: str) -> None:
    named = type("Room", (room,), {})
    world = World(named)
    counter = await world.router.connect()
    if room is Blocked:
        world.router.message(counter, "begin")
    await turns()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(COUNT):
            world.router.message(counter, message)
        for _ in range(COUNT):
            if world.object().unfinished >= COUNT and not world.host.runner:
                break
            await asyncio.sleep(0)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert world.object().unfinished == COUNT
    took = (after - before) / COUNT
    print(f"{took:.0f} bytes an event")
    assert took < OVER * EVENT_BYTES
