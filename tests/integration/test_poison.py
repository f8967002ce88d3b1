"""Messages and objects that end their shard do not do so for ever, nor to another shard."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from tests.support.cluster import Cluster, Process
from tests.support.waiting import until, within

APP = Path(__file__).with_name("moving_app.py")


async def restart(cluster: Cluster, process: Process) -> None:
    """Wait for a shard to end by itself, and start it again, as the supervisor would."""
    await until(f"{process.name} to end", lambda: not process.alive)
    await asyncio.to_thread(cluster.start, "shard", process.name)


async def close_code(client: ClientConnection) -> int:
    """Wait for the end of a connection, whatever comes before."""
    with contextlib.suppress(ConnectionClosedError):
        async for _ in client:
            pass
    assert client.close_code is not None
    return client.close_code


@pytest.mark.parametrize("message", ["crash", "late crash", "thread", "executor", "child"])
async def test_a_message_ends_its_shard_twice_at_most(message: str) -> None:
    with Cluster(APP, routers=2, shards=2) as cluster:
        owner = cluster.owner("killer", "room")
        bystander = next(each for each in cluster.processes.values() if each.kind == "shard" and each is not owner)
        async with connect(cluster.ws("/killer/room")) as killer, connect(cluster.ws("/killer/room")) as neighbour:
            await killer.send(message)
            await killer.send("behind it")
            await restart(cluster, cluster.processes[owner.name])
            await restart(cluster, cluster.processes[owner.name])
            assert await within("the end of the connection", close_code(killer)) == 1011
            await neighbour.send("hello")
            assert json.loads(await within("an answer", neighbour.recv()))["said"] == "hello"
        assert cluster.processes[owner.name].alive
        assert bystander.alive


@pytest.mark.parametrize("message", ["task", "call_soon", "wait_until"])
async def test_what_a_handler_has_left_ends_its_shard_twice_at_most(message: str) -> None:
    """Whether the message is acknowledged before its shard dies is up to the system."""
    with Cluster(APP, routers=2, shards=1) as cluster:
        async with connect(cluster.ws("/killer/room")) as killer, connect(cluster.ws("/killer/other")) as neighbour:
            await killer.send(message)
            await restart(cluster, cluster.processes["shard-1"])
            with contextlib.suppress(AssertionError):
                await until("a second death", lambda: not cluster.processes["shard-1"].alive, 3)
                await asyncio.to_thread(cluster.start, "shard", "shard-1")
            await neighbour.send("hello")
            assert json.loads(await within("an answer", neighbour.recv()))["said"] == "hello"
            with contextlib.suppress(ConnectionClosedError):
                await killer.send("hello")
                while json.loads(await within("an answer", killer.recv()))["said"] != "hello":
                    pass
            assert killer.close_code in (None, 1011)
            await asyncio.sleep(1)
            assert cluster.processes["shard-1"].alive


async def test_an_object_whose_constructor_ends_shards_is_refused() -> None:
    with Cluster(APP, routers=1, shards=1) as cluster:
        for _ in range(3):
            opening = asyncio.ensure_future(connect(cluster.ws("/killer/stillborn")).__aenter__())
            await restart(cluster, cluster.processes["shard-1"])
            with pytest.raises(InvalidStatus) as refused:
                await within("the refusal", opening)
            assert refused.value.response.status_code == 502
        with pytest.raises(InvalidStatus) as refused:
            await connect(cluster.ws("/killer/stillborn"))
        assert refused.value.response.status_code == 503
        async with connect(cluster.ws("/killer/room")) as other:
            await other.send("hello")
            await within("an answer", other.recv())
        assert cluster.processes["shard-1"].alive


@pytest.mark.parametrize("message", ["timer", "descriptor"])
async def test_an_object_whose_callbacks_end_shards_is_refused(message: str) -> None:
    """Its messages are acknowledged before, so that each client brings a new one."""
    with Cluster(APP, routers=1, shards=1) as cluster:
        async with connect(cluster.ws("/killer/other")) as other:
            for _ in range(3):
                async with connect(cluster.ws("/killer/room")) as killer:
                    await killer.send(message)
                    await restart(cluster, cluster.processes["shard-1"])
            with pytest.raises(InvalidStatus) as refused:
                await connect(cluster.ws("/killer/room"))
            assert refused.value.response.status_code == 503
            await other.send("hello")
            assert json.loads(await within("an answer", other.recv()))["said"] == "hello"


async def test_others_that_wait_while_a_thread_kills_are_not_closed() -> None:
    with Cluster(APP, routers=2, shards=1) as cluster:
        async with contextlib.AsyncExitStack() as stack:
            waiting = [
                await stack.enter_async_context(connect(cluster.ws(f"/killer/other-{number}"))) for number in range(6)
            ]
            for client in waiting:
                await client.send("wait")
            killer = await stack.enter_async_context(connect(cluster.ws("/killer/room")))
            await killer.send("thread")
            closing = asyncio.ensure_future(close_code(killer))
            deaths = 0
            while not closing.done():
                if not cluster.processes["shard-1"].alive:
                    deaths += 1
                    assert deaths <= 3, "the third one is in a trial, which tells the killer from the others"
                    await asyncio.to_thread(cluster.start, "shard", "shard-1")
                await asyncio.sleep(0.05)
            assert closing.result() == 1011
            assert cluster.processes["shard-1"].alive
            assert [client.close_code for client in waiting] == [None] * len(waiting)


async def test_an_object_whose_constructor_hangs_is_refused_after_two_deaths() -> None:
    with Cluster(APP, routers=1, shards=1) as cluster:
        for hangs in (1, 2):
            opening = asyncio.ensure_future(connect(cluster.ws("/killer/hanging"), open_timeout=60).__aenter__())
            shard = cluster.processes["shard-1"]
            said = "hanging __init__ has held the loop"
            await until("the hang", lambda shard=shard, said=said, n=hangs: shard.log_text().count(said) == n, 30)
            await asyncio.sleep(2)  # a supervisor waits for longer
            await asyncio.to_thread(cluster.kill, "shard-1")
            with pytest.raises(InvalidStatus) as failed:
                await within("the refusal", opening, 30)
            assert failed.value.response.status_code == 502
            await asyncio.to_thread(cluster.start, "shard", "shard-1")
        with pytest.raises(InvalidStatus) as refused:
            await connect(cluster.ws("/killer/hanging"))
        assert refused.value.response.status_code == 503
        async with connect(cluster.ws("/killer/room")) as other:
            await other.send("hello")
            await within("an answer", other.recv())


async def test_a_handler_that_wants_all_memory_gets_an_error_and_hurts_nobody() -> None:
    with Cluster(APP, routers=1, shards=1, shard={"memory_limit_bytes": 512 << 20}) as cluster:
        async with connect(cluster.ws("/killer/room")) as glutton, connect(cluster.ws("/killer/other")) as other:
            await glutton.send("eat")
            await until("the error", lambda: "MemoryError" in cluster.processes["shard-1"].log_text())
            await other.send("hello")
            assert json.loads(await within("an answer", other.recv()))["said"] == "hello"
            await glutton.send("sorry")
            assert json.loads(await within("an answer", glutton.recv())) == {"said": "sorry", "again": False}
