"""Objects' code that forks: the child never acts as the shard, whatever it does, and ends when it comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import RawClient, request
from tests.support.cluster import Cluster
from tests.support.frames import TEXT, frame

APP = Path(__file__).with_name("forks_app.py")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(APP, shards=1) as running:
        yield running


CASES = [
    ("handler", "raise", 3),
    ("handler", "error", 1),
    ("handler", "return", 0),
    ("handler", "wait", 0),
    ("handler", "work", 45),
    ("handler", "speak", 1),
    ("waited", "raise", 3),
    ("waited", "return", 0),
    ("waited", "wait", 0),
    ("constructor", "raise", 3),
    ("task", "raise", 3),
    ("task", "return", 0),
    ("timer", "raise", 3),
    ("timer", "return", 0),
    ("call_soon", "return", 0),
    ("call_soon", "raise", None),
    ("done_callback", "return", 0),
    ("thread", "raise", 3),
    ("thread", "return", 0),
    ("pty", "return", 0),
    ("multiprocessing", "", 3),
    ("subprocess", "", 3),
    ("loops_subprocess", "", 3),
]


@pytest.mark.parametrize(("where", "what", "code"), CASES)
async def test_a_child_that_comes_back_ends_as_a_program_of_its_own_would(
    cluster: Cluster, where: str, what: str, code: int | None
) -> None:
    shard = cluster.processes["shard-1"]
    async with await RawClient.open(cluster.port) as client:
        name = f"{where}-{what}"
        await client.handshake(f"/fork/{name}")
        reply = await request(cluster.port, "GET", f"/fork/{name}?where={where}&what={what}")
        assert reply.status == 200, reply
        found = json.loads(reply.body)
        assert found == code if code is not None else found in (0, 3), shard.log_text()[-2000:]
        await client.send(frame(TEXT, "hello"))
        got = await asyncio.wait_for(client.frame(10), 10)
        assert got is not None
        assert got.text == "hello", "of the parent, and the first that has come"
        await client.send(frame(TEXT, "again"))
        got = await asyncio.wait_for(client.frame(10), 10)
        assert got is not None
        assert got.text == "again"
    assert shard.alive
