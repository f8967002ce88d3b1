"""Shards are killed again and again while clients talk: their sockets stay, and no message is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from pathlib import Path

import pytest

from tests.support.client import RawClient, request
from tests.support.cluster import Cluster
from tests.support.frames import TEXT, frame
from tests.support.waiting import within

CLIENTS = 16
MESSAGES = 300
DEATHS = 4


async def talk(client: RawClient, who: str, rng: random.Random) -> None:
    """Say numbers and hear them repeated: each at least once, first times in order, more often only if said so."""
    sender = asyncio.ensure_future(say(client, rng))
    wanted, first_times = 0, {str(number) for number in range(MESSAGES)}
    while first_times:
        got = await client.frame(30)
        assert got is not None, f"{who}: the end instead of answer {wanted}"
        answer = json.loads(got.text)
        assert answer["who"] == who, "its attachment"
        if answer["said"] in first_times:
            assert answer["said"] == str(wanted), f"{who}: {answer} came instead of {wanted}"
            first_times.discard(answer["said"])
            wanted += 1
        else:
            assert answer["again"], f"{who}: {answer} came twice and does not say so"
    await sender


async def say(client: RawClient, rng: random.Random) -> None:
    for number in range(MESSAGES):
        await client.send(frame(TEXT, str(number)))
        if rng.random() < 0.2:
            await asyncio.sleep(0.03)


async def kill_shards(cluster: Cluster, rng: random.Random) -> None:
    for _ in range(DEATHS):
        await asyncio.sleep(rng.uniform(0.05, 0.4))  # a moment in the conversation that nothing announces
        name = rng.choice(["shard-1", "shard-2"])
        await asyncio.to_thread(cluster.kill, name)
        await asyncio.to_thread(cluster.start, "shard", name)


@pytest.mark.parametrize("seed", [1])
async def test_killed_shards_cost_no_socket_and_no_message(seed: int) -> None:
    rng = random.Random(seed)
    app = Path(__file__).with_name("app.py")
    async with contextlib.AsyncExitStack() as stack:
        cluster = stack.enter_context(Cluster(app, routers=2, shards=2, shard={"hibernate_after_s": 0.1}))
        rooms = [name for shard in ("shard-1", "shard-2") for name in cluster.names_on("parrot", shard, 2)]
        clients: list[tuple[str, str, RawClient]] = []
        for number in range(CLIENTS):
            client = await stack.enter_async_context(await RawClient.open(cluster.port))
            room, who = rooms[number % len(rooms)], f"client-{number}"
            await client.handshake(f"/parrot/{room}?who={who}")
            clients.append((room, who, client))
        await within(
            "all answers and all deaths",
            asyncio.gather(
                kill_shards(cluster, rng), *(talk(client, who, random.Random(who)) for _, who, client in clients)
            ),
            50,
        )
        for room in rooms:
            count, tags = json.loads((await request(cluster.port, "GET", f"/parrot/{room}")).body)
            mine = [["all", who] for other, who, _ in clients if other == room]
            assert count == len(mine)
            assert tags == mine, "in the order of accepts"
