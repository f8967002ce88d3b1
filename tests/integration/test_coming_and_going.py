"""Many clients that come, talk and leave in every way, while their objects fall asleep and wake up.

What has to hold: each message is answered once and in order, each socket has one close event, and when all have left
nothing of them is left anywhere.
"""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest

from tests.support.client import RawClient, request
from tests.support.cluster import Cluster
from tests.support.frames import CLOSE, PING, PONG, TEXT, close_body, frame
from tests.support.waiting import until, within

CLIENTS = 30
ROOMS = 8
VISITS = 12


class Visitor:
    """A client that visits rooms one after the other; everything it does comes from its seed."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster, self.seed = cluster, seed
        self.random = random.Random(seed)

    async def run(self) -> None:
        for visit in range(VISITS):
            await self.visit(f"room-{self.random.randrange(ROOMS)}", f"{self.seed}.{visit}")

    async def visit(self, room: str, who: str) -> None:
        choose = self.random
        async with await RawClient.open(self.cluster.port) as client:
            await client.handshake(f"/tally/{room}?who={who}")
            number = 0
            for _ in range(choose.randrange(4)):
                texts = [str(choose.randrange(1000)) * choose.choice([1, 10, 500]) for _ in range(choose.randrange(20))]
                frames = [frame(TEXT, text) for text in texts]
                if choose.random() < 0.3:
                    frames.insert(choose.randrange(len(frames) + 1), frame(PING, b"?"))
                await client.send(b"".join(frames))
                for text in texts:
                    number += 1
                    got = await client.frame()
                    while got is not None and got.opcode == PONG:
                        got = await client.frame()
                    assert got is not None, f"{who} in {room}: the end instead of answer {number}"
                    assert got.text == f"{who} {number} {text!r}"
                # Around the time after which an object sleeps, so that it is met in all states.
                await asyncio.sleep(choose.choice([0, 0.09, 0.1, 0.11, 0.2]))
            await self.leave(client, who)

    async def leave(self, client: RawClient, who: str) -> None:
        how = self.random.choice(["close", "close and more", "reset", "end of stream", "mid-frame"])
        if how == "close":
            await client.send(frame(CLOSE, close_body(4000, who)))
            while (got := await client.frame()) is not None and got.opcode == PONG:
                pass
            assert got is not None
            assert (got.code, got.reason) == (4000, who)
            await client.expect_end()
        elif how == "close and more":
            await client.send(frame(TEXT, "last") + frame(CLOSE, close_body(4000)) + frame(TEXT, "too late"))
            await client.expect_eof()
        elif how == "reset":
            client.reset()
        elif how == "mid-frame":
            await client.send(frame(TEXT, "half of this")[:9])
            client.reset()
        else:
            client.writer.write_eof()
            await client.expect_eof()


@pytest.mark.parametrize("seed", [1])
async def test_nothing_is_lost_and_nothing_is_left(seed: int) -> None:
    app = Path(__file__).with_name("app.py")
    with Cluster(app, routers=2, shards=2, shard={"hibernate_after_s": 0.1}) as cluster:
        visitors = [Visitor(cluster, seed * 1000 + number) for number in range(CLIENTS)]
        await within("all visits", asyncio.gather(*(visitor.run() for visitor in visitors)), 50)

        async def tally(room: int) -> list[int]:
            return list(json.loads((await request(cluster.port, "GET", f"/tally/room-{room}")).body))

        async def all_gone() -> list[list[int]]:
            while True:
                rooms = [await tally(room) for room in range(ROOMS)]
                if all(opened == closed and not listed for opened, closed, listed in rooms):
                    return rooms

        rooms = await within("one close event for each socket", all_gone())
        assert sum(opened for opened, _, _ in rooms) == CLIENTS * VISITS

        def left() -> dict[str, int]:
            found = {}
            for process in cluster.processes.values():
                values = cluster.counters(process.name)
                names = (
                    ["connections", "ghosts", "parked", "window_bytes", "objects", "handshakes_in_flight", "stopped"]
                    if process.kind == "router"
                    else ["sockets", "objects_awake", "objects_asleep"]
                )
                found |= {f"{process.name} {name}": values[name] for name in names if values[name]}
            return found

        await until("every counter to be back at nothing", lambda: not left())
        assert await tally(0) == rooms[0], "and no close event came twice"
