"""Deadlines look at progress: slow clients of real routers get everything, those that only hold something do not."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import RawClient, request
from tests.support.cluster import Cluster
from tests.support.frames import frame
from tests.support.waiting import until, within

APP = Path(__file__).with_name("app.py")
KIB, MIB = 1 << 10, 1 << 20
RECEIVE_BUFFER = 128 * KIB
CLOSE = 8


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Whoever takes nothing for two seconds is given up, and half a second is enough for everything else."""
    router = {"stall_timeout_s": 2.0, "close_timeout_s": 0.5, "ping_interval_s": 0.5, "ping_timeout_s": 0.5}
    with Cluster(APP, router=router) as made:
        yield made


async def asked(port: int, head: str) -> socket.socket:
    """A connection with a small buffer that has sent a request."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", port))
    await loop.sock_sendall(sock, head.encode())
    return sock


async def read_steadily(sock: socket.socket, rate: float, wanted: int) -> int:
    """Read *wanted* bytes, or to the end, at *rate* bytes a second; returns how many came."""
    loop = asyncio.get_running_loop()
    began, got = loop.time(), 0
    while got < wanted:
        data = await loop.sock_recv(sock, 32 * KIB)
        if not data:
            break
        got += len(data)
        await asyncio.sleep(got / rate - (loop.time() - began))
    return got


@pytest.mark.parametrize("head", ["HTTP/1.1\r\nConnection: close", "HTTP/1.1", "HTTP/1.0"])
async def test_a_response_takes_as_long_as_its_client(cluster: Cluster, head: str) -> None:
    """More than the system's buffers hold, over a multiple of every deadline."""
    size = 12 * MIB
    with await asked(cluster.port, f"GET /web/x?do=sized&n={size} {head}\r\nHost: t\r\n\r\n") as sock:
        assert await within("the response", read_steadily(sock, 3e6, size), 30) >= size


async def test_a_body_that_is_refused_is_told_so_at_the_pace_of_its_client(cluster: Cluster) -> None:
    """The refusal stands behind a long response: it is not reset after two seconds."""
    size = 12 * MIB
    head = f"GET /web/x?do=sized&n={size} HTTP/1.1\r\nHost: t\r\n\r\nthis is no request\r\n\r\n"
    with await asked(cluster.port, head) as sock:
        assert await within("the end", read_steadily(sock, 3e6, 2 * size), 30) > size
        assert sock.recv(1) == b"", "ended in order"


async def test_who_takes_no_response_is_given_up(cluster: Cluster) -> None:
    before = cluster.counters()["slow_consumers_closed"]
    with await asked(cluster.port, f"GET /web/x?do=sized&n={32 * MIB} HTTP/1.1\r\nHost: t\r\n\r\n"):
        began = time.monotonic()
        await until("it to be given up", lambda: cluster.counters()["slow_consumers_closed"] == before + 1)
        assert time.monotonic() - began > 1.5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
async def test_a_router_that_ends_waits_for_whoever_makes_progress(number: signal.Signals) -> None:
    """A request of three seconds, a response that takes three, and a body that comes for three."""
    size = 12 * MIB
    with Cluster(APP, router={"drain_timeout_s": 0.2, "drain_limit_s": 20.0}) as cluster:
        router = cluster.processes["router-1"]
        with await asked(cluster.port, f"GET /web/x?do=sized&n={size} HTTP/1.1\r\nHost: t\r\n\r\n") as sock:
            reading = asyncio.create_task(read_steadily(sock, 4e6, size))
            sending = await RawClient.open(cluster.port)
            await sending.send("POST /web/x HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\n1")
            late = asyncio.create_task(request(cluster.port, "GET", "/web/x?do=later&s=3"))
            await until("all of them", lambda: cluster.counters()["http_connections"] == 3)
            await asyncio.sleep(0.2)
            router.popen.send_signal(number)
            for byte in b"234":
                await asyncio.sleep(1)
                await sending.send(bytes((byte,)))
            async with sending:
                assert (await sending.response()).status == 200
            assert (await within("the late answer", late)).status == 200
            assert await within("the response", reading, 20) >= size
        assert await asyncio.to_thread(router.ended) == 0


async def test_a_router_that_ends_does_not_wait_for_those_that_do_nothing() -> None:
    with Cluster(APP, router={"drain_timeout_s": 0.5, "drain_limit_s": 60.0}) as cluster:
        async with await RawClient.open(cluster.port) as client:
            await client.handshake("/echo/lobby")
            began = time.monotonic()
            assert await asyncio.to_thread(cluster.processes["router-1"].stop) == 0
            assert time.monotonic() - began < 10
            await client.expect_close(1001)


async def test_a_request_that_has_not_come_whole_is_told_that_the_router_ends() -> None:
    with Cluster(APP, router={"drain_timeout_s": 0.2, "drain_limit_s": 0.5}) as cluster:
        async with await RawClient.open(cluster.port) as client:
            await client.send("POST /web/x HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\n1")
            await until("its begin", lambda: cluster.counters()["body_bytes"] == 1)
            assert await asyncio.to_thread(cluster.processes["router-1"].stop) == 0
            reply = await client.response()
            assert (reply.status, "try again" in reply.text) == (503, True)


async def test_bodies_that_trickle_keep_nobody_out_and_have_an_end() -> None:
    router = {"handshake_timeout_s": 5.0, "stall_timeout_s": 4.0}
    with Cluster(APP, router=router, limits={"MAX_BODIES_IN_FLIGHT_BYTES": 4 * MIB}) as cluster:
        clients = [await RawClient.open(cluster.port) for _ in range(4)]
        for client in clients:
            await client.send(f"POST /web/x HTTP/1.1\r\nHost: t\r\nContent-Length: {MIB}\r\n\r\n", bytes(MIB - 100))
        await until("all bodies", lambda: cluster.counters()["body_bytes"] == 4 * (MIB - 100))
        answers = [asyncio.create_task(client.response(seconds=30)) for client in clients]
        honest = []
        while not all(answer.done() for answer in answers):
            for client, answer in zip(clients, answers, strict=True):
                if not answer.done():
                    client.writer.write(b"x")
            await asyncio.sleep(0.5)
            reply = await request(cluster.port, "POST", "/web/x?do=body", body=bytes(512 * KIB))
            honest.append(reply.status)
        assert set(honest[2:]) == {200}, "once they are seen to be slow, nobody is refused for them"
        assert sorted([(await answer).status for answer in answers]) == [408, 408, 408, 503]
        assert cluster.counters()["bodies_evicted"] == 1
        for client in clients:
            await client.__aexit__(None, None, None)


async def test_a_client_is_alive_that_takes_what_waits_before_a_ping_or_a_close(cluster: Cluster) -> None:
    """Pinged every half second, with half a second to answer, and as long for the Close: it reads for four."""
    count, size = 12, MIB
    loop = asyncio.get_running_loop()
    sock = await asked(cluster.port, "")
    async with RawClient(*(await asyncio.open_connection(sock=sock, limit=64 * KIB))) as client:
        await client.handshake("/flood/x")
        await client.send(frame(1, f"{count} {size}".encode()))
        began = loop.time()
        for number in range(count):
            while (got := await client.frame()) is not None and got.opcode == 9:
                pass  # never answered: what it takes is its sign of life
            assert got is not None
            assert got.payload[:1] == bytes((number,))
            await asyncio.sleep((number + 1) * size / 3e6 - (loop.time() - began))
        while (got := await client.frame()) is not None and got.opcode == 9:
            pass
        assert got is not None
        assert (got.opcode, got.code) == (CLOSE, 4000)


async def test_small_requests_do_not_make_gigabytes() -> None:
    """Sixty requests at once for 8 MiB each, and a bound of 64: what is too much is refused, all else is whole."""
    with Cluster(APP, shard={"all_held_bytes": 64 * MIB}) as cluster:
        size = 8 * MIB
        asking = [
            asyncio.create_task(request(cluster.port, "GET", f"/web/x?do=sized&n={size}", seconds=60))
            for _ in range(60)
        ]
        replies = [await answer for answer in asking]
        assert {len(reply.body) for reply in replies if reply.status == 200} == {size}
        assert {reply.status for reply in replies} <= {200, 503}
        assert sum(reply.status == 200 for reply in replies) >= 4, "half of what is free"
        assert (await request(cluster.port, "GET", f"/web/x?do=sized&n={size}")).status == 200
