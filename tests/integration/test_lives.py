"""Real shards whose objects' code leaves something behind, raises what ends processes, or will not end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import RawClient, request
from tests.support.cluster import Cluster
from tests.support.frames import CLOSE, TEXT, frame
from tests.support.waiting import until, within

APP = Path(__file__).with_name("lives_app.py")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(APP, shards=2, shard={"hibernate_after_s": 0.5}, fails_on_defects=False) as running:
        yield running


async def asked(cluster: Cluster, name: str, query: str) -> Any:
    reply = await request(cluster.port, "GET", f"/room/{name}?{query}")
    assert reply.status == 200, reply
    return json.loads(reply.body)


@pytest.fixture
async def client(cluster: Cluster, request: pytest.FixtureRequest) -> AsyncIterator[RawClient]:
    async with await RawClient.open(cluster.port) as opened:
        await opened.handshake(f"/room/{request.node.name[:40]}")
        yield opened


async def text(client: RawClient) -> str:
    got = await client.frame(10)
    assert got is not None
    return str(got.text)


async def until_closed(client: RawClient) -> list[str]:
    """The texts that come before the Close."""
    texts = []
    while (got := await client.frame(10)) is not None and got.opcode != CLOSE:
        texts.append(str(got.text))
    assert got is not None
    return texts


@pytest.mark.parametrize("what", ["timer", "executor", "pool", "thread", "descriptor"])
async def test_an_object_that_waits_for_the_loop_or_a_thread_is_not_put_to_sleep(client: RawClient, what: str) -> None:
    await client.send(frame(TEXT, f"wait for a {what}"))
    life = await text(client)
    assert await text(client) == f"{life} goes on", "1 s later, with 0.5 s to sleep after"


async def test_a_game_loop_lives_once_and_ends_with_its_life(client: RawClient) -> None:
    await client.send(frame(TEXT, "tick"))
    lives = {await text(client) for _ in range(20)}
    assert len(lives) == 1, "for 2 s, with 0.5 s to sleep after"
    await client.send(frame(TEXT, "abort"))
    assert set(await until_closed(client)) <= lives


async def test_code_that_will_not_end_does_not_meet_the_next_life(cluster: Cluster) -> None:
    first, second = await RawClient.open(cluster.port), await RawClient.open(cluster.port)
    async with first, second:
        await first.handshake("/room/stubborn")
        await first.send(frame(TEXT, "stay"))
        old = (await text(first)).split()[-1]
        await first.send(frame(TEXT, "abort"))
        await until_closed(first)
        began = time.monotonic()
        await within("the next life", second.handshake("/room/stubborn"), 10)
        assert time.monotonic() - began < 5
        await second.send(frame(TEXT, "who"))
        assert await text(second) != f"life {old}"
        await asyncio.sleep(0.5)
        await second.send(frame(TEXT, "who"))
        assert (await text(second)).startswith("life "), "nothing of the former in between"


@pytest.mark.parametrize("how", ["handler", "task", "wait_until", "call_later", "call_soon", "stop"])
@pytest.mark.parametrize("what", ["exit", "unprintable"])
async def test_nothing_that_an_object_raises_ends_its_shard(cluster: Cluster, how: str, what: str) -> None:
    name = f"raises-{how}-{what}"
    reply = await request(cluster.port, "GET", f"/room/{name}?do=raise&how={how}&what={what}")
    assert reply.status == (500 if how == "handler" else 200)
    life = await asked(cluster, name, "do=tell")
    assert life == []
    for shard in ("shard-1", "shard-2"):
        assert cluster.processes[shard].alive


async def test_a_response_with_a_status_that_none_can_be_is_an_error_of_its_request(cluster: Cluster) -> None:
    pids = {name: process.pid for name, process in cluster.processes.items()}
    assert (await request(cluster.port, "GET", "/room/strange?do=strange")).status == 500
    assert await asked(cluster, "strange", "do=tell") == []
    assert pids == {name: process.pid for name, process in cluster.processes.items()}


async def test_calls_from_a_thread_are_refused(cluster: Cluster) -> None:
    assert await asked(cluster, "threads", "do=thread") == ["WrongThreadError"] * 3


async def test_settings_outlive_memory_sockets_and_shard(cluster: Cluster) -> None:
    (name,) = cluster.names_on("room", "shard-2", 1)
    await asked(cluster, name, "do=settings")
    await until(
        "it to be forgotten, which has no socket", lambda: cluster.counters("shard-2")["settings_remembered"] > 0
    )
    await asyncio.to_thread(cluster.kill, "shard-2")
    await asyncio.to_thread(cluster.start, "shard", "shard-2")
    assert await within("its answer", asked(cluster, name, "do=timeout"), 20) == ["7000"]
    async with await RawClient.open(cluster.port) as client:
        await client.handshake(f"/room/{name}")
        await client.send(frame(TEXT, "ping"))
        assert await text(client) == "pong"


async def test_a_shard_ends_though_what_objects_have_left_does_not() -> None:
    with Cluster(APP) as own:
        for what in ("generator", "atexit"):
            assert await asked(own, what, f"do=leave&what={what}") == []
        shard = own.processes["shard-1"]
        assert await asyncio.to_thread(shard.stop) == 0
