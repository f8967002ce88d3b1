"""What one client costs the others in time: floods of whatever is small, and a neighbour that is served meanwhile.

``python -m tests.attacks`` measures, and ``deploy/docs/security.md`` has the table. Here the machine may be busy, and
the bounds are wide: most of these floods once made the neighbour wait for seconds.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from tests.attacks.floods import ANSWERED, FLOODS, flood
from tests.attacks.registry import APP, Target
from tests.support.client import RawClient
from tests.support.cluster import Cluster
from tests.support.frames import TEXT, frame
from tests.support.waiting import until, within

FLOOD_S = 1.0
"""Seconds of each flood: several hundred turns of the loop."""
WORST_S = 0.4
"""Seconds for the neighbour's slowest echo, and for the longest turn."""
ATTACKERS = 3


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(APP) as cluster:
        yield cluster


async def echoes(client: RawClient, until_s: float) -> list[float]:
    """Seconds that each of the neighbour's messages took."""
    took = []
    while time.monotonic() < until_s:
        began = time.monotonic()
        await client.send(frame(TEXT, "neighbour"))
        await client.expect(TEXT, "neighbour")
        took.append(time.monotonic() - began)
        await asyncio.sleep(0.002)
    return took


async def neighbour_of(cluster: Cluster, attacks: list[threading.Thread], until_s: float) -> list[float]:
    async with await RawClient.open(cluster.port) as client:
        await client.handshake("/echo/neighbour")
        for each in attacks:
            each.start()
        took = await within("the neighbour's echoes", echoes(client, until_s), 30)
        for each in attacks:
            await asyncio.to_thread(each.join, 10)
    return took


@pytest.mark.parametrize(("what", "reads"), [*((what, True) for what in FLOODS), *((what, False) for what in ANSWERED)])
async def test_a_flood_of_what_is_small_does_not_keep_others_waiting(cluster: Cluster, what: str, reads: bool) -> None:
    before, until_s = await cluster.published(), time.monotonic() + FLOOD_S
    attacks = [
        threading.Thread(target=flood, args=(what, reads, Target(cluster.port, 0, until_s))) for _ in range(ATTACKERS)
    ]
    took = await neighbour_of(cluster, attacks, until_s)
    assert len(took) > 10, "the neighbour was hardly served"
    assert max(took) < WORST_S
    after = await cluster.published()
    assert after["longest_turn_us"] <= max(before["longest_turn_us"], WORST_S * 1e6)
    assert after["defects"] == 0
    await until("the attackers to be gone", lambda: cluster.counters()["http_connections"] == 0)


async def test_every_request_of_a_long_pipeline_is_answered(cluster: Cluster) -> None:
    """Whether it is for the router, for an object, or offers a protocol that we do not speak."""
    count = 200
    unit = b"".join(
        b"GET %s HTTP/1.1\r\nHost: h\r\n%s\r\n" % (path, more)
        for path in (b"/healthz", b"/echo/x")
        for more in (b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n")
    )
    async with await RawClient.open(cluster.port) as client:
        client.writer.write(unit * count)
        for _ in range(4 * count):
            assert (await client.response()).status == 200
