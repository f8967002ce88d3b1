"""Routers that leave, and routers that look after the cluster while no supervisor lives: with real processes."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from tests.support.client import RawClient, request
from tests.support.cluster import Cluster
from tests.support.waiting import until, within

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


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
async def test_no_request_is_lost_with_a_router_that_ends(number: signal.Signals) -> None:
    """Neither of those who connect in that moment, nor of those who keep their connection."""
    with Cluster(APP, routers=3) as cluster:
        done: Counter[str] = Counter()
        ending = asyncio.Event()

        async def connect_for_each() -> None:
            while not ending.is_set():
                done[f"once {(await request(cluster.port, 'GET', '/web/x')).status}"] += 1

        async def keep() -> None:
            while not ending.is_set():
                async with await RawClient.open(cluster.port) as client:
                    last = False
                    while not ending.is_set() and not last:
                        reply = await client.request("GET", "/web/x")
                        done[f"kept {reply.status}"] += 1
                        last = reply.header("connection") == "close"
                    done["told to close"] += last

        tasks = [asyncio.create_task(work()) for work in (connect_for_each, keep) for _ in range(8)]
        for name in ("router-1", "router-2"):
            await asyncio.sleep(0.3)
            cluster.processes[name].popen.send_signal(number)
            assert await asyncio.to_thread(cluster.processes[name].ended) == 0
        await asyncio.sleep(0.3)
        ending.set()
        await within("the last answers", asyncio.gather(*tasks))
        assert done.keys() <= {"once 200", "kept 200", "told to close"}, done
        assert min(done["once 200"], done["kept 200"]) > 100


def is_closed(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


async def test_a_request_under_way_is_answered_by_a_router_that_retires() -> None:
    with Cluster(APP, routers=1) as cluster:
        router = cluster.processes["router-1"]
        async with await RawClient.open(cluster.port) as client:
            asked = asyncio.create_task(client.request("GET", "/web/x?do=wait"))
            while json.loads((await request(cluster.port, "GET", "/web/x")).body)["count"] < 2:
                pass
            async with await RawClient.open(cluster.port) as other:
                await other.request("GET", "/web/x")  # a connection that is kept
                router.popen.send_signal(signal.SIGUSR1)
                await until("the port to be closed", lambda: is_closed(cluster.port))
                reply = await other.request("GET", "/web/x?do=open")
                assert (reply.status, reply.header("connection")) == (200, "close"), "there is no other router"
            assert (await asked).text.startswith("waited")
        assert await asyncio.to_thread(router.ended) == 0


async def test_a_request_that_a_router_cannot_wait_for_is_answered_all_the_same() -> None:
    with Cluster(APP, router={"drain_timeout_s": 0.2, "drain_limit_s": 0.2}) as cluster:
        async with await RawClient.open(cluster.port) as client:
            asked = asyncio.create_task(client.request("GET", "/web/x?do=wait"))
            while json.loads((await request(cluster.port, "GET", "/web/x")).body)["count"] < 2:
                pass
            assert await asyncio.to_thread(cluster.processes["router-1"].stop) == 0
            reply = await asked
            assert reply.status == 502
            assert "may have been carried out" in reply.text
            assert reply.header("connection") == "close"


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
