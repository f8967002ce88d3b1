"""WebSockets through several routers and shards: many clients, backpressure, dead peers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.conformance import app as probe_app
from tests.conformance.driver import Reports, Room
from tests.support.client import RawClient
from tests.support.cluster import Cluster
from tests.support.frames import BINARY, PING, PONG, TEXT, frame, upgrade_head
from tests.support.waiting import within


@asynccontextmanager
async def clients_of(cluster: Cluster, path: str, count: int = 1) -> AsyncIterator[list[ClientConnection]]:
    """*count* clients of one object, spread over the routers by the kernel."""
    opening = (connect(cluster.ws(path), proxy=None, compression=None, ping_interval=None) for _ in range(count))
    clients = await within(f"{count} handshakes", asyncio.gather(*opening))
    try:
        yield clients
    finally:
        await within("the end of the connections", asyncio.gather(*(client.close() for client in clients)))


async def heard(client: ClientConnection, count: int) -> list[str | bytes]:
    return [await client.recv() for _ in range(count)]


async def test_everybody_hears_everything_in_one_order(web: Cluster, name: str) -> None:
    """Twenty clients at two routers talk at once; all of them hear the same, in the same order."""
    async with clients_of(web, f"/echo/{name}", 20) as clients:
        await asyncio.gather(*(client.send(f"tell:{number}") for number, client in enumerate(clients)))
        all_heard = await within(
            "all messages at all clients", asyncio.gather(*(heard(client, len(clients)) for client in clients))
        )
    assert len({tuple(messages) for messages in all_heard}) == 1
    assert Counter(all_heard[0]) == Counter(f"tell:{number}" for number in range(20))


async def test_objects_on_all_shards_echo(web: Cluster, name: str) -> None:
    for each in [each for shard in ("shard-1", "shard-2") for each in web.names_on("echo", shard, 3, name)]:
        async with clients_of(web, f"/echo/{each}") as (client,):
            for message in ("text", b"binary", "", b"", "ä" * 1000, bytes(200_000)):
                await client.send(message)
                assert await within("an echo", client.recv()) == message


async def test_large_messages_and_small_ones_keep_their_order(web: Cluster, name: str) -> None:
    messages = [bytes([number]) * size for number, size in enumerate([1, 1 << 20, 2, 300_000, 3, 1 << 20, 4])]
    async with clients_of(web, f"/echo/{name}") as (client,):
        sending = asyncio.ensure_future(asyncio.gather(*(client.send(message) for message in messages)))
        for message in messages:
            assert await within("an echo", client.recv()) == message
        await sending


async def test_many_messages_pipelined_by_a_raw_client(web: Cluster, name: str) -> None:
    async with await RawClient.open(web.port) as client:
        await client.handshake(f"/echo/{name}")
        await client.send(b"".join(frame(TEXT, f"message {number}") for number in range(5000)))
        for number in range(5000):
            await client.expect(TEXT, f"message {number}")


async def test_frames_in_pieces_of_any_size(web: Cluster, name: str) -> None:
    """TCP keeps no borders: one byte at a time, or many frames in one packet."""
    async with await RawClient.open(web.port) as client:
        await client.handshake(f"/echo/{name}")
        data = frame(TEXT, "one") + frame(PING, b"p") + frame(BINARY, bytes(300)) + frame(TEXT, "ä" * 100)
        for byte in data:
            client.writer.write(bytes((byte,)))
            await asyncio.sleep(0)
        got = [await client.frame() for _ in range(4)]
        assert [each.payload for each in got if each and each.opcode != PONG] == [
            b"one",
            bytes(300),
            ("ä" * 100).encode(),
        ]
        assert [each.payload for each in got if each and each.opcode == PONG] == [b"p"]


# --- backpressure -------------------------------------------------------------------------------------------------


async def hold(probe: probe_app.Probe, ws: object, message: object) -> None:
    """A handler that does not end before the test says so."""
    gate = probe.memory.setdefault("gate", asyncio.Event())
    probe.memory["begun"] = probe.memory.get("begun", 0) + 1
    await gate.wait()
    probe.memory["left"] -= 1
    if not probe.memory["left"]:
        probe.memory["all"].set()


def begun(probe: probe_app.Probe) -> int:
    return int(probe.memory.get("begun", 0))


async def release(probe: probe_app.Probe, count: int) -> int:
    """Let the handlers go on, and wait until *count* have ended."""
    probe.memory |= {"left": count, "all": asyncio.Event()}
    probe.memory["gate"].set()
    await probe.memory["all"].wait()
    return begun(probe)


async def test_an_object_that_does_not_keep_up_stops_its_clients(reports: Reports, name: str) -> None:
    """Not more than a window's worth is on its way; the rest waits in the client, and nothing is lost in the end."""
    shard = {"hibernate_after_s": 60.0, "vars": [f"REPORT={reports.path}"]}
    with Cluster(probe_app.__name__, shard=shard) as cluster:
        room = Room(cluster, reports, name)
        await room.when("message", hold)
        async with await room.raw() as client:
            payload = frame(BINARY, bytes(16 << 10))
            total = 2000
            sending = asyncio.ensure_future(_send_all(client, payload, total))
            done, _ = await asyncio.wait({sending}, timeout=1.0)
            assert not done, "32 MB were taken for an object that reads nothing"
            on_the_way = await room.run(begun)
            assert on_the_way <= 256
            assert await room.run(release, count=total) == total
            await within("the rest to be sent", sending)


async def _send_all(client: RawClient, payload: bytes, count: int) -> None:
    for _ in range(count):
        client.writer.write(payload)
        await client.writer.drain()


# --- peers that die -----------------------------------------------------------------------------------------------


async def test_a_silent_client_is_pinged_and_dropped_when_it_does_not_answer(impatient: Cluster, name: str) -> None:
    async with await RawClient.open(impatient.port) as client:
        await client.handshake(f"/echo/{name}")
        ping = await client.expect(PING)
        await client.send(frame(PONG, ping.payload))
        # It answers once, is pinged again, and says nothing this time.
        await client.expect(PING)
        await client.expect_eof(5)


async def test_a_client_that_answers_stays(impatient: Cluster, name: str) -> None:
    async with await RawClient.open(impatient.port) as client:
        await client.handshake(f"/echo/{name}")
        for _ in range(5):
            await client.send(frame(PONG, (await client.expect(PING)).payload))
        await client.send(frame(TEXT, "still here"))
        while (got := await client.frame()) is not None and got.opcode == PING:
            await client.send(frame(PONG, got.payload))
        assert got is not None
        assert got.text == "still here"


async def test_garbage_in_a_socket_costs_that_connection_only(web: Cluster, name: str) -> None:
    async with clients_of(web, f"/echo/{name}") as (good,), await RawClient.open(web.port) as bad:
        await bad.handshake(f"/echo/{name}")
        await bad.send(b"\xff" * 1000)
        await bad.expect_close(1002)
        await bad.expect_end()
        await good.send("fine")
        assert await within("an echo", good.recv()) == "fine"


@pytest.mark.parametrize("cut", [10, 100, "after the handshake", "inside a frame"])
async def test_clients_that_vanish_in_any_phase(web: Cluster, name: str, cut: int | str) -> None:
    async with clients_of(web, f"/echo/{name}") as (good,):
        for _ in range(10):
            async with await RawClient.open(web.port) as client:
                if isinstance(cut, int):
                    await client.send(upgrade_head(f"/echo/{name}")[:cut])
                else:
                    await client.handshake(f"/echo/{name}")
                if cut == "inside a frame":
                    await client.send(frame(TEXT, "half a message")[:7])
                client.reset()
        await good.send("fine")
        assert await within("an echo", good.recv()) == "fine"
