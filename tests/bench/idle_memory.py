"""Memory of an idle connection whose object sleeps: the slope between a few and many, so that what the processes
cost by themselves drops out.

Connections are opened to a cluster of one router and one shard until there are ``--few``, then ``--many``. Each time,
once all objects sleep and the figures have settled, the PSS of both processes is read. From the repository's root::

    python -m tests.bench.idle_memory --few 2000 --many 10000 --json memory.json

Each connection has a tag and a small attachment. The goal is 10,000 bytes a connection.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import time
from pathlib import Path
from typing import Any

import uvloop

from tests.bench.running import Roost, machine, pss_bytes, roost, write_report
from tests.support.folders import counters_in
from tests.support.frames import PONG, frame, upgrade_head

GOAL_BYTES = 10_000
AT_ONCE = 50
"""Handshakes under way at a time."""
SETTLE_S = 60.0
"""Longest wait for the objects to sleep and for memory to stay the same."""
_PONG = frame(PONG)


class Idler(asyncio.Protocol):
    """A client that shakes hands, answers pings and does nothing else."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._head = b""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if self.opened.done():
            if data.startswith(b"\x89"):
                self._transport.write(_PONG)  # type: ignore[attr-defined]
            return
        self._head += data
        if b"\r\n\r\n" in self._head:
            if self._head.startswith(b"HTTP/1.1 101"):
                self.opened.set_result(None)
            else:
                self.opened.set_exception(RuntimeError(f"no upgrade: {self._head[:200]!r}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        if not self.opened.done():
            self.opened.set_exception(RuntimeError(f"the connection ended in the handshake: {exc}"))


async def grow(clients: list[Idler], count: int, port: int, objects: int) -> None:
    """Open connections until there are *count*."""
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with gate:
            request = upgrade_head(f"/idle/{number % objects}?name=client-{number}", f"Host: 127.0.0.1:{port}").encode()
            _, client = await loop.create_connection(lambda: Idler(request), "127.0.0.1", port)
            await asyncio.wait_for(client.opened, 30)
            clients.append(client)

    await asyncio.gather(*(one(number) for number in range(len(clients), count)))


async def settled(cluster: Roost, count: int) -> dict[str, int]:
    """PSS of each process once all objects sleep and two readings two seconds apart differ by less than 0.2 %."""
    deadline = time.monotonic() + SETTLE_S
    last: dict[str, int] = {}
    while True:
        await asyncio.sleep(2)
        awake = counters_in(cluster.run, "shard-1")["objects_awake"]
        held = counters_in(cluster.run, "router-1")["connections"]
        found = {name: pss_bytes(pid) for name, pid in cluster.pids.items()}
        steady = last and all(abs(found[name] - last[name]) < 0.002 * last[name] for name in found)
        if awake == 0 and held == count and steady:
            return found
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"not settled: {awake} objects awake, {held} connections of {count}, {found} after {last}"
            )
        last = found


async def run(options: argparse.Namespace) -> dict[str, Any]:
    with roost(shard=["--hibernate-after-s=0.5"]) as cluster:
        clients: list[Idler] = []
        readings = {}
        for count in (0, options.few, options.many):
            await grow(clients, count, cluster.port, options.objects)
            readings[count] = await settled(cluster, count)
            total = sum(readings[count].values())
            print(f"{count:>7,} connections: {readings[count]}, together {total / 2**20:.1f} MiB", flush=True)
        ended = sum(client.ended for client in clients)
        if ended:
            raise RuntimeError(f"{ended} connections ended during the measurement")
    added = options.many - options.few
    slopes = {
        name: round((readings[options.many][name] - readings[options.few][name]) / added) for name in cluster.pids
    }
    return {"readings": readings, "bytes_per_connection": slopes, "together": sum(slopes.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", type=int, default=2_000)
    parser.add_argument("--many", type=int, default=10_000)
    parser.add_argument("--objects", type=int, default=10, help="objects that the connections spread over")
    parser.add_argument("--json", type=Path, help="file for machine, settings and raw data")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    report: dict[str, Any] = {"machine": machine(), "settings": {k: str(v) for k, v in vars(options).items()}}
    report |= uvloop.run(run(options))
    print(
        f"\nan idle connection costs {report['together']:,} bytes ({report['bytes_per_connection']}): "
        f"goal {GOAL_BYTES:,}"
    )
    write_report(report, options.json)


if __name__ == "__main__":
    main()
