"""Routers that leave, and routers that look after the cluster while no supervisor lives: with real processes."""

from __future__ import annotations

import asyncio
import json
import signal
import time
import urllib.request
from pathlib import Path

import websockets
from websockets.asyncio.client import ClientConnection

from tests.cluster import Cluster
from tests.waiting import until, within

APP = Path(__file__).with_name("app.py")


async def connected(cluster: Cluster, path: str, count: int) -> list[ClientConnection]:
    return [await websockets.connect(cluster.ws(path)) for _ in range(count)]


async def closing(client: ClientConnection) -> tuple[float, int | None]:
    """When a client was closed, and with what code."""
    await client.wait_closed()
    return time.monotonic(), client.close_code


async def test_a_router_that_retires_leaves_its_clients_one_after_the_other() -> None:
    with Cluster(APP, routers=2, router={"retire_rate": 20}) as cluster:
        clients = await connected(cluster, "/echo/lobby", 60)
        router = cluster.processes["router-1"]
        began = time.monotonic()
        router.popen.send_signal(signal.SIGUSR1)
        assert await asyncio.to_thread(router.ended) == 0
        closed = [await closing(client) for client in clients if client.close_code is not None]
        assert closed, "the system gave all connections to the other router"
        assert {code for _, code in closed} == {1001}
        assert time.monotonic() - began > (len(closed) - 2) / 20
        stayed = [client for client in clients if client.close_code is None]
        assert len(stayed) + len(closed) == 60
        for client in [*stayed, *await connected(cluster, "/echo/lobby", 5)]:
            await client.send("still here")
            assert await within("an echo", client.recv()) == "still here"
            await client.close()


async def test_sigterm_ends_a_retiring_router_at_once() -> None:
    with Cluster(APP, router={"retire_rate": 1}) as cluster:
        clients = await connected(cluster, "/echo/lobby", 30)
        router = cluster.processes["router-1"]
        router.popen.send_signal(signal.SIGUSR1)
        await within("the first Close", asyncio.wait([asyncio.ensure_future(c.wait_closed()) for c in clients[:1]]))
        began = time.monotonic()
        assert router.stop() == 0
        assert time.monotonic() - began < 5
        assert {(await closing(client))[1] for client in clients} == {1001}


async def test_a_router_that_the_map_has_lost_ends_without_a_word() -> None:
    with Cluster(APP) as cluster:
        (client,) = await connected(cluster, "/echo/lobby", 1)
        router = cluster.processes["router-1"]
        cluster.forget(router.incarnation)
        assert await asyncio.to_thread(router.ended) == 1
        assert (await within("the end", closing(client)))[1] == 1006
        assert "is not in cluster map" in router.log_text()
        cluster.start("router", "router-1")
        (client,) = await connected(cluster, "/echo/lobby", 1)
        await client.close()


async def test_without_a_supervisor_the_others_inherit_the_slots_of_a_dead_shard() -> None:
    with Cluster(APP, routers=2, shards=2, router={"grace_s": 0.5}) as cluster:
        (name,) = cluster.names_on("echo", "shard-2", 1)
        (client,) = await connected(cluster, f"/echo/{name}", 1)
        await client.send("before")
        assert await client.recv() == "before"
        cluster.kill("shard-2")
        await client.send("meanwhile")
        assert await within("an echo of the heir", client.recv(), 20) == "meanwhile"
        assert cluster.owner("echo", name).name == "shard-1"
        await client.close()


async def test_without_a_supervisor_a_dead_router_leaves_the_map() -> None:
    with Cluster(APP, routers=2) as cluster:
        path = "/tally/lobby"
        clients = await connected(cluster, f"{path}?who=x", 30)
        killed = cluster.kill("router-2")
        await until("the map without it", lambda: killed.incarnation not in cluster.map().members)
        lost = [client for client in clients if (await ended_within(client, 0.5))]
        assert lost

        def tally() -> list[int]:
            with urllib.request.urlopen(cluster.http(path), timeout=10) as response:
                counts: list[int] = json.load(response)
                return counts

        for _ in range(100):
            opened, closed, left = await asyncio.to_thread(tally)
            if closed == len(lost):
                break
            await asyncio.sleep(0.05)
        assert (opened, closed, left) == (30, len(lost), 30 - len(lost))
        for client in clients:
            await client.close()


async def ended_within(client: ClientConnection, seconds: float) -> bool:
    done, waiting = await asyncio.wait([asyncio.ensure_future(client.wait_closed())], timeout=seconds)
    for task in waiting:
        task.cancel()
    return bool(done)
