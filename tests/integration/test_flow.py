"""Backpressure of clients in real processes: a healthy one gets all, a slow one in its time, a dead one is closed.

Clients read with a socket of their own, so that nothing but the test decides when; numbers in the messages show that
nothing is lost, doubled or reordered.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.conformance import app as probe_app
from tests.conformance.driver import Reports, Room
from tests.support.cluster import Cluster
from tests.support.frames import upgrade_head
from tests.support.waiting import until, within

KIB, MIB = 1 << 10, 1 << 20
BINARY, CLOSE = 2, 8
STALL_S = 2.0


@pytest.fixture(scope="module")
def cluster(reports: Reports) -> Iterator[Cluster]:
    """Two shards; a client that takes nothing for two seconds is closed."""
    shard = {"vars": [f"REPORT={reports.path}"]}
    with Cluster(
        probe_app.__name__, shards=2, router={"stall_timeout_s": STALL_S, "close_timeout_s": 5.0}, shard=shard
    ) as made:
        yield made


@pytest.fixture
def room(cluster: Cluster, reports: Reports, name: str) -> Room:
    return Room(cluster, reports, name)


# --- steps of objects ---------------------------------------------------------------------------------------------


def message_of(number: int, size: int) -> bytes:
    return struct.pack(">I", number) + bytes([number % 251]) * (size - 4)


def burst(probe: probe_app.Probe, count: int, size: int, first: int = 0, close: bool = False) -> list[Any]:
    """Send *count* messages to the first client, all in one handler; says what it made of that."""
    ws = probe.ctx.get_web_sockets()[-1]
    error = None
    sent = 0
    for number in range(first, first + count):
        try:
            ws.send(message_of(number, size))
        except Exception as raised:
            error = type(raised).__name__
            break
        sent += 1
    if close:
        ws.close(4321, "that was all")
    return [sent, error, ws.buffered_amount]


def buffered(probe: probe_app.Probe) -> int:
    return probe.ctx.get_web_sockets()[-1].buffered_amount


async def stream(probe: probe_app.Probe, count: int, size: int) -> list[int]:
    """Send as fast as the client takes it; returns how much ever waited."""
    ws = probe.ctx.get_web_sockets()[-1]
    most = 0
    for number in range(count):
        ws.send(message_of(number, size))
        most = max(most, ws.buffered_amount)
        await ws.drain()
    return [count, most]


def cast(probe: probe_app.Probe, number: int, size: int) -> int:
    sockets = probe.ctx.get_web_sockets()
    payload = message_of(number, size)
    for ws in sockets:
        ws.send(payload)
    return len(sockets)


def echo(probe: probe_app.Probe, ws: Any, message: Any) -> None:
    ws.send(message)


# --- clients ------------------------------------------------------------------------------------------------------


class Reader:
    """A client that reads when told to."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._rest = bytearray()
        self.close: tuple[int, str] | None = None

    async def more(self, size: int = 1 << 18) -> bool:
        """Read some bytes; says whether there were any."""
        data = await asyncio.get_running_loop().sock_recv(self.sock, size)
        self._rest += data
        return bool(data)

    def messages(self) -> list[bytes]:
        """The whole messages among what was read."""
        found, rest, at = [], self._rest, 0
        while len(rest) - at >= 2:
            opcode, length, start = rest[at] & 15, rest[at + 1], at + 2
            if length == 126:
                length, start = int.from_bytes(rest[start : start + 2], "big"), start + 2
            elif length == 127:
                length, start = int.from_bytes(rest[start : start + 8], "big"), start + 8
            if len(rest) < start + length:
                break
            payload = bytes(rest[start : start + length])
            at = start + length
            if opcode == CLOSE:
                self.close = int.from_bytes(payload[:2], "big"), payload[2:].decode()
            elif opcode < CLOSE:
                found.append(payload)
        del rest[:at]
        return found

    async def take(self, count: int, size: int, *, first: int = 0, rate: int = 0) -> None:
        """Read *count* messages, *rate* bytes a second (0: at full speed), and check each."""
        number, began, had = first, time.monotonic(), 0
        while number < first + count:
            for message in self.messages():
                assert struct.unpack_from(">I", message)[0] == number, "lost, doubled or reordered"
                assert (len(message), message[4:5]) == (size, bytes([number % 251])), number
                number += 1
            if number < first + count:
                before = len(self._rest)
                assert await self.more(64 * KIB if rate else MIB), f"the end came behind message {number - 1}"
                had += len(self._rest) - before
                if rate:
                    await asyncio.sleep(max(0.0, had / rate - (time.monotonic() - began)))

    async def closed(self) -> tuple[int, str] | None:
        """Read to the end; the Close that came, if one did."""
        try:
            while self.close is None and await self.more():
                self.messages()
        except ConnectionResetError:
            pass
        return self.close


@asynccontextmanager
async def reader(room: Room, receive_buffer: int = 0) -> AsyncIterator[Reader]:
    """A client of *room* that has opened a WebSocket and read nothing since."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await loop.sock_connect(sock, ("127.0.0.1", room.cluster.port))
        await loop.sock_sendall(sock, upgrade_head(room.path(tags="[]")).encode())
        made, head = Reader(sock), b""
        while b"\r\n\r\n" not in head:
            head += await loop.sock_recv(sock, 1)
        assert head.startswith(b"HTTP/1.1 101"), head
        yield made


def shard_of(room: Room) -> str:
    return room.cluster.owner("probe", room.name).name


# --- healthy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "size"), [(2_000, 10_000), (30, MIB), (60, MIB), (1, 40 * MIB)], ids=["2000 of 10 kB", "30", "60", "1"]
)
async def test_a_client_that_reads_gets_all_that_one_handler_sends(room: Room, count: int, size: int) -> None:
    async with reader(room) as client:
        taking = asyncio.create_task(client.take(count, size))
        assert (await room.run(burst, count=count, size=size))[:2] == [count, None]
        await within("all messages", taking, 60)
        await until("nothing to wait", lambda: room.cluster.counters(shard_of(room))["held_bytes"] == 0)
        assert await room.run(buffered) == 0
    assert room.cluster.counters()["slow_consumers_closed"] == 0


async def test_the_same_while_the_machine_is_busy(room: Room) -> None:
    """Both processors are kept by others, and the reader itself is slow to get its turn."""
    spinners = [await asyncio.create_subprocess_exec("sh", "-c", "while :; do :; done") for _ in range(3)]
    try:
        async with reader(room) as client:
            taking = asyncio.create_task(client.take(60, MIB))
            assert (await room.run(burst, count=60, size=MIB))[:2] == [60, None]
            await within("all messages", taking, 120)
    finally:
        for spinner in spinners:
            spinner.kill()
            await spinner.wait()


async def test_what_is_drained_is_sent_as_fast_as_it_is_taken_and_never_refused(room: Room) -> None:
    """Twice an outbox, without an error and without much in memory."""
    async with reader(room) as client:
        taking = asyncio.create_task(client.take(128, MIB))
        count, most = await room.run(stream, count=128, size=MIB)
        assert (count, most) == (128, pytest.approx(MIB, abs=8 * MIB))
        await within("all messages", taking, 60)


# --- slow ---------------------------------------------------------------------------------------------------------


async def test_a_slow_client_gets_all_in_its_time_and_the_close_behind(room: Room) -> None:
    """It takes longer than the time for a close, and than that in which it must take something."""
    async with reader(room, receive_buffer=64 * KIB) as client:
        sent, error, waits = await room.run(burst, count=300, size=100_000, close=True)
        assert (sent, error) == (300, None)
        assert waits == 300 * 100_000, "all of it waits in the object's process at the end of its handler"
        await within("all messages", client.take(300, 100_000, rate=4 * MIB), 60)
        assert await within("the Close", client.closed()) == (4321, "that was all")


async def test_others_are_not_delayed_by_one_that_takes_nothing(room: Room) -> None:
    """Nor is anybody's acknowledgement, that of who sends to all included: it goes on after its window."""
    async with reader(room) as deaf, reader(room) as sender, reader(room) as listener:
        await room.when("message", echo_to_all)
        loop = asyncio.get_running_loop()
        lags = []
        text = b"x" * 60_000
        wire = bytes((0x82, 0xFE)) + len(text).to_bytes(2, "big") + bytes(4) + text
        for _ in range(200):
            began = time.monotonic()
            await loop.sock_sendall(sender.sock, wire)
            for client in (sender, listener):
                while not (got := client.messages()):
                    assert await within("the message", client.more(), 5)
                assert got == [text]
            lags.append(time.monotonic() - began)
        assert sum(lags) < STALL_S * 3, f"{max(lags):.3f} s for one"
        shard = shard_of(room)
        await until("the deaf one to be given up", lambda: room.cluster.counters()["slow_consumers_closed"] >= 1, 10)
        got = await room.saw("close")
        assert (got["code"], got["reason"], got["clean"]) == (1013, "slow consumer", False)
        await until("what it left to be forgotten", lambda: room.cluster.counters(shard)["held_bytes"] == 0)
        assert deaf.close is None


async def echo_to_all(probe: probe_app.Probe, ws: Any, message: Any) -> None:
    for peer in probe.ctx.get_web_sockets():
        if peer.ready_state == 1:
            peer.send(message)


async def test_a_client_that_talks_and_does_not_listen_runs_into_its_own_window(room: Room) -> None:
    """Its replies wait, so its messages are not acknowledged, so it is not read: nothing grows, nothing is lost."""
    cluster = room.cluster
    await room.when("message", echo)
    loop = asyncio.get_running_loop()
    text = bytes(50_000)
    wire = bytes((0x82, 0xFE)) + len(text).to_bytes(2, "big") + bytes(4) + text
    async with reader(room) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 256 * KIB)
        sending = asyncio.create_task(loop.sock_sendall(client.sock, wire * 1_000))
        shard = shard_of(room)
        await until("replies to be held", lambda: cluster.counters(shard)["held_bytes"] > 0, 20)
        await until("it not to be read", lambda: cluster.counters()["stopped"] == 1, 20)
        assert 0 < (await cluster.published(shard))["held_bytes"] < 2 * MIB, "more than a window was acknowledged"
        got = 0
        while got < 1_000:
            assert await within("more", client.more(MIB))
            messages = client.messages()
            assert all(message == text for message in messages)
            got += len(messages)
        await within("the last to be sent", sending)
    await until("it to be read", lambda: cluster.counters()["stopped"] == 0)


async def test_a_client_that_goes_leaves_nothing_behind(room: Room) -> None:
    shard = shard_of(room)
    async with reader(room):
        await room.run(burst, count=40, size=MIB)
        await until("output to be held", lambda: room.cluster.counters(shard)["held_bytes"] > 20 * MIB)
        assert room.cluster.counters(shard)["sockets_held"] == 1
    await room.saw("close")
    await until("nothing to be held", lambda: room.cluster.counters(shard)["held_bytes"] == 0)
    await until("nothing to wait", lambda: room.cluster.counters()["send_buffer_bytes"] == 0)


async def test_an_outbox_that_a_slow_client_fills_has_room_for_others(room: Room) -> None:
    async with reader(room), reader(room) as other:
        sent, error, _ = await room.run(burst, count=70, size=MIB)
        assert (sent, error) == (63, "OutboxFull")
        await until("most to be held", lambda: room.cluster.counters(shard_of(room))["held_bytes"] > 50 * MIB)
        assert (await room.run(burst, count=10, size=MIB, first=63))[1] == "OutboxFull"
        await room.run(newest, size=MIB)
        await within("a message to the other", other.take(1, MIB), 5)


def newest(probe: probe_app.Probe, size: int) -> None:
    probe.ctx.get_web_sockets()[0].send(message_of(0, size))


async def test_held_output_outlives_hibernation(reports: Reports, name: str) -> None:
    shard = {"vars": [f"REPORT={reports.path}"], "hibernate_after_s": 0.2}
    with Cluster(probe_app.__name__, shard=shard) as cluster:
        room = Room(cluster, reports, name)
        async with reader(room) as client:
            await room.run(burst, count=30, size=MIB)
            await room.saw("dropped")
            assert (await cluster.published("shard-1"))["held_bytes"] > 10 * MIB
            await within("all messages", client.take(30, MIB), 30)


# --- moves and deaths ---------------------------------------------------------------------------------------------


async def test_held_output_comes_along_when_the_object_moves(room: Room) -> None:
    """And the next owner knows that the client is full."""
    cluster = room.cluster
    async with reader(room) as client:
        await room.run(burst, count=30, size=MIB)
        before = shard_of(room)
        after = "shard-1" if before == "shard-2" else "shard-2"
        cluster.send_to(after)
        await until("the object to have moved", lambda: not cluster.map().next_owners)
        await room.run(burst, count=30, size=MIB, first=30)
        await until("the next owner to hold output", lambda: cluster.counters(after)["held_bytes"] > 10 * MIB)
        await within("all messages", client.take(60, MIB), 30)
    cluster.send_to("shard-1", "shard-2")
    await until("the slots to have moved back", lambda: not cluster.map().next_owners)


async def test_a_shard_that_dies_with_output_for_a_client_closes_it_rather_than_leave_a_gap(
    reports: Reports, name: str
) -> None:
    with Cluster(probe_app.__name__, shard={"vars": [f"REPORT={reports.path}"]}) as cluster:
        room = Room(cluster, reports, name)
        async with reader(room) as client, reader(room) as other:
            await room.run(burst, count=30, size=MIB)
            await until("output to be held", lambda: cluster.counters("shard-1")["held_bytes"] > 10 * MIB)
            cluster.kill("shard-1")
            cluster.start("shard", "shard-1")
            got = await room.saw("close")
            assert (got["code"], got["reason"]) == (1012, "output was lost with the object's process")
            assert await within("its Close", client.closed(), 30) == (1012, "output was lost with the object's process")
            await room.run(newest, size=KIB)
            await within("a message to the other", other.take(1, KIB), 5)
            assert (await cluster.published())["output_lost"] == 1


async def test_a_router_that_stood_still_takes_nobody_for_dead(room: Room) -> None:
    """Longer than clients may: when it goes on, what they have taken meanwhile counts."""
    router = room.cluster.processes["router-1"]
    before = room.cluster.counters()["slow_consumers_closed"]
    async with reader(room) as client:
        await room.run(burst, count=40, size=MIB)
        router.popen.send_signal(signal.SIGSTOP)
        try:
            taking = asyncio.create_task(client.take(40, MIB))
            await asyncio.sleep(STALL_S * 1.5)  # the time itself is what is tested
        finally:
            os.kill(router.pid, signal.SIGCONT)
        await within("all messages", taking, 30)
    assert room.cluster.counters()["slow_consumers_closed"] == before
