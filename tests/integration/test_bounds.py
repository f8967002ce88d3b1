"""Backpressure in real processes: each bound is filled, and held.

The rows of the table of bounds, and where each is filled (the pure part, then the processes)::

    unacknowledged window of a connection   unit/router/test_window, test_connection ("a full window …", "a large
                                            message …", "no deadline runs while we do not read"); here: test_window_*
    a router's windows, all together        test_connection ("above half of all windows …"); here: test_all_windows
    messages that are not finished          unit/router/test_unfinished; here: test_unfinished_messages
    parked without an owner                 unit/router/test_forwarding ("… parked for thirty seconds …");
                                            here: test_parked_without_an_owner
    send buffer of a connection             test_connection ("a client is full …"), test_send_buffers,
                                            unit/shard/outgoing/test_flow, integration/test_flow; here: test_send_buffer
    a router's send buffers, all together   unit/router/test_send_buffers, test_connection ("when all clients together
                                            …"); here: test_all_send_buffers, test_responses_to_clients_that_do_not_read
    an object's mailbox                     unit/shard/test_host ("a full mailbox holds …"), test_forwarding ("holding
                                            stops …"); here: test_mailbox
    an object's outbox, held output too     unit/shard/outgoing/test_outbox; here: test_outbox, test_output_that_is_held
    unconfirmed batches of a link           unit/common/test_session ("unconfirmed bytes …"), integration/test_link;
                                            here: test_a_shard_that_does_not_read, test_output_that_is_held
    ghosts                                  unit/router/test_connections ("too many ghosts …"), test_connection;
                                            here: test_ghosts
    parked requests                         unit/router/test_requests, test_forwarding; here: test_parked_requests
    handshakes in flight                    unit/router/http/test_room; here: test_handshakes, test_upgrades
    connections that are no WebSockets      unit/router/http/test_room, clients/test_shares; here: test_connections
    request head, body, bodies in flight    unit/router/test_request_parser; here: test_head_and_body, test_bodies

What is large by default is small here (``LIMITS``), so that little has to be sent. Memory is watched where a broken
rule would make it grow: as the kernel reports it, and in the counters, which are published four times a second.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from roost.router.websocket.window import EVENT_BYTES
from roost.shard import Request, Response
from tests.conformance import app as probe_app
from tests.conformance.driver import Reports, Room, name_of
from tests.support.client import RawClient, request
from tests.support.cluster import Cluster, Process
from tests.support.frames import BINARY, CLOSE, TEXT, frame, upgrade_head
from tests.support.waiting import until, within

KIB, MIB = 1 << 10, 1 << 20
PIECE = 64 * KIB

LIMITS = {
    "MAILBOX_EVENTS": 400,
    "MAILBOX_BYTES": 2 * MIB,
    "OUTBOX_BYTES": 4 * MIB + 64 * KIB,
    "LINK_UNCONFIRMED_BYTES": 4 * MIB,
    "MAX_GHOSTS": 10,
    "MAX_PARKED_REQUESTS": 10,
    "MAX_HANDSHAKES_IN_FLIGHT": 10,
    "MAX_HTTP_CONNECTIONS": 50,
    "MAX_BODIES_IN_FLIGHT_BYTES": 1 * MIB,
}
SETTINGS = {
    "send_buffer_bytes": 1 * MIB,
    "stall_timeout_s": 1.0,
    "all_send_buffers_bytes": 8 * MIB,
    "max_message_bytes": 4 * MIB,
    "max_body_bytes": 768 * KIB,
    "handshake_timeout_s": 1.0,
}


@pytest.fixture(scope="module")
def bounded(reports: Reports) -> Iterator[Cluster]:
    """One router and one shard with small limits. Tests leave both of them running."""
    shard = {"vars": [f"REPORT={reports.path}"]}
    with Cluster(probe_app.__name__, router=SETTINGS, shard=shard, limits=LIMITS) as cluster:
        yield cluster


@pytest.fixture
def room(bounded: Cluster, reports: Reports, name: str) -> Room:
    return Room(bounded, reports, name)


# --- watching -----------------------------------------------------------------------------------------------------


def resident(process: Process) -> int:
    """Bytes of memory that a process has in use."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * KIB
    raise AssertionError(f"{process.name} has no memory: it is dead")


@dataclass
class Watch:
    """What a process had at most while it was watched.

    Attributes:
        growth: Bytes of memory above those at the start.
        peaks: The highest value of each counter.
    """

    growth: int = 0
    peaks: dict[str, int] = field(default_factory=dict)


@asynccontextmanager
async def watching(cluster: Cluster, name: str = "router-1") -> AsyncIterator[Watch]:
    """Watch a process's memory and counters, every 10 ms."""
    process, watch = cluster.processes[name], Watch()
    before = resident(process)

    async def look() -> None:
        while True:
            watch.growth = max(watch.growth, resident(process) - before)
            for counter, value in cluster.counters(name).items():
                watch.peaks[counter] = max(watch.peaks.get(counter, 0), value)
            await asyncio.sleep(0.01)

    looking = asyncio.create_task(look())
    try:
        yield watch
        await cluster.published(name)
        await asyncio.sleep(0.02)
    finally:
        looking.cancel()
        await asyncio.wait({looking})
    if not looking.cancelled():
        looking.result()


# --- steps of objects ---------------------------------------------------------------------------------------------

GATES: dict[str, asyncio.Event] = {}
"""In the shard, by object: what its handlers wait for. An object that is held hears nothing, so another one opens."""


async def stuck(probe: probe_app.Probe, ws: object, number: int, pad: str) -> None:
    """A handler that does not end before ``open_gate``."""
    probe.report("begun", number=number)
    await GATES.setdefault(probe.name, asyncio.Event()).wait()
    probe.report("done", number=number)


def seen(probe: probe_app.Probe, ws: object, number: int, pad: str) -> None:
    probe.report("seen", number=number)


def open_gate(probe: probe_app.Probe, gate: str) -> None:
    GATES.setdefault(gate, asyncio.Event()).set()


async def flood(probe: probe_app.Probe, size: int, shared: bool = False) -> int:
    """Send *size* bytes in pieces to each socket, the same piece to all or each its own; slowly enough for the link.

    Returns:
        How many sockets were closed before they had got all.
    """
    sockets = probe.ctx.get_web_sockets()
    for number in range(size // PIECE):
        for position, ws in enumerate(sockets):
            if ws.ready_state == 1:
                ws.send((number if shared else number << 8 | position).to_bytes(PIECE, "big"))
        await asyncio.sleep(0.002)
    return len(sockets) - len(probe.ctx.get_web_sockets())


async def flood_until_it_is_refused(probe: probe_app.Probe) -> str:
    """Send pieces to the one socket until its object's outbox is full; slowly enough for the link."""
    (ws,) = probe.ctx.get_web_sockets()
    for number in range(64 * MIB // PIECE):
        try:
            ws.send(number.to_bytes(PIECE, "big"))
        except Exception as error:
            return type(error).__name__
        await asyncio.sleep(0.002)
    return ""


def overfill(probe: probe_app.Probe, count: int) -> list[Any]:
    """Send *count* messages of 1 MiB in one turn."""
    (ws,) = probe.ctx.get_web_sockets()
    try:
        for sent in range(count):
            ws.send(bytes([sent]) * MIB)
    except Exception as error:
        return [sent, type(error).__name__]
    return [count, None]


async def fill(probe: probe_app.Probe, ws: Any, message: object) -> None:
    """Send as many bytes as *message* says each turn until the outbox is full, a while from now."""
    size = int(str(message))
    probe.report("filling")
    await asyncio.sleep(0.3)
    for sent in range(100):
        try:
            ws.send(bytes([sent]) * size)
        except Exception as error:
            probe.report("full", sent=sent, error=type(error).__name__)
            return
        await asyncio.sleep(0.005)
    probe.report("full", sent=100, error=None)


def large(probe: probe_app.Probe, request: Request, size: int) -> Response:
    return Response(bytes(size))


async def never(probe: probe_app.Probe, request: Request) -> Response:
    await asyncio.sleep(60)
    raise AssertionError("the shard has waited for a minute")


# --- clients ------------------------------------------------------------------------------------------------------


def message_for(step: Any, number: int = 0, size: int = 0) -> bytes:
    """A message that *step* handles, of *size* bytes if it can be that short."""
    text = f"!{name_of(step)} " + json.dumps({"number": number, "pad": ""})
    return frame(TEXT, text.replace('""', f'"{"x" * (size - len(text))}"'))


def pause(client: RawClient, paused: bool = True) -> None:
    """Have a client take nothing from its TCP any more, or go on with it."""
    transport: Any = client.writer.transport
    transport.pause_reading() if paused else transport.resume_reading()


async def deaf(room: Room) -> RawClient:
    """A client that takes nothing after its handshake."""
    client = await room.raw()
    pause(client)
    return client


def another(room: Room, number: int = 0) -> Room:
    """A further object of the same test."""
    return Room(room.cluster, room.reports, f"{room.name}-{number}")


async def open_gate_of(room: Room) -> None:
    """Let the stuck handlers go on; by way of another object, since this one may be held."""
    await another(room).run(open_gate, gate=room.name)


async def reported(room: Room, what: str, count: int) -> None:
    await until(f"{count} reports of {what!r} from {room.name}", lambda: len(room.all(what)) >= count)


# --- windows ------------------------------------------------------------------------------------------------------


async def test_window_of_messages_is_full_at_256_and_a_stopped_client_is_not_pinged_out(
    reports: Reports, name: str
) -> None:
    router = {"ping_interval_s": 0.3, "ping_timeout_s": 0.3}
    with Cluster(probe_app.__name__, router=router, shard={"vars": [f"REPORT={reports.path}"]}) as cluster:
        room = Room(cluster, reports, name)
        async with await room.raw() as client:
            await client.send(b"".join(message_for(stuck, number) for number in range(300)))
            await until("the client to be stopped", lambda: cluster.counters()["stopped"] == 1)
            # Longer than a ping and its deadline together: its pongs are not read, so none may be missed.
            await asyncio.sleep(1.0)
            now = await cluster.published()
            assert (now["stopped"], now["messages_in"], now["pings_unanswered"]) == (1, 256, 0)
            await open_gate_of(room)
            await reported(room, "done", 300)
            assert [report["number"] for report in room.all("begun")] == list(range(300))


@pytest.mark.parametrize(
    "sizes", [(512 * KIB, 512 * KIB - 2 * EVENT_BYTES, 100), (3 * MIB, 100)], ids=["1 MiB", "one message"]
)
async def test_window_of_bytes(room: Room, sizes: tuple[int, ...]) -> None:
    cluster = room.cluster
    async with await room.raw() as client:
        await client.send(b"".join(message_for(stuck, size=size) for size in sizes))
        await until("the client to be stopped", lambda: cluster.counters()["stopped"] == 1)
        assert (await cluster.published())["window_bytes"] == sum(size + EVENT_BYTES for size in sizes[:-1])
        await open_gate_of(room)
        await reported(room, "done", len(sizes))
    assert (await cluster.published())["window_bytes"] == 0


async def test_all_windows_together_stop_those_that_hold_most(reports: Reports, name: str) -> None:
    """Twenty clients push 40 MiB where windows have 6; one that sends little goes on all the time."""
    shard = {"vars": [f"REPORT={reports.path}"]}
    with Cluster(probe_app.__name__, router={"all_windows_bytes": 8 * MIB}, shard=shard) as cluster:
        room, other = Room(cluster, reports, name), Room(cluster, reports, f"{name}-small")
        pieces = 32
        async with AsyncExitStack() as stack:
            small = await stack.enter_async_context(await other.raw())
            pushing = [await stack.enter_async_context(await room.raw()) for _ in range(20)]
            async with watching(cluster) as watch:
                for client in pushing:
                    client.writer.write(message_for(stuck, size=PIECE) * pieces)
                await until("all that push to be stopped", lambda: cluster.counters()["stopped"] == 20)
                for _ in range(20):
                    await small.send(frame(TEXT, f"!{name_of(probe_app.answer)}"))
                    await small.expect(TEXT, "settled")
            assert watch.peaks["stopped"] == 20
            assert 3 * MIB < watch.peaks["window_bytes"] <= 6 * MIB
            assert watch.growth < 32 * MIB
            await open_gate_of(room)
            await reported(room, "done", 20 * pieces)


def measured(probe: probe_app.Probe, ws: Any, message: Any) -> None:
    ws.send(len(message))


async def test_unfinished_messages_are_bounded_and_all_get_through(reports: Reports, name: str) -> None:
    """Sixty clients begin messages of 3 MiB against a bound of 4: they get through one after the other, and neither
    those who wait nor one that sends little is hurt."""
    shard = {"vars": [f"REPORT={reports.path}"]}
    with Cluster(probe_app.__name__, router={"all_windows_bytes": 16 * MIB}, shard=shard) as cluster:
        room, other = Room(cluster, reports, name), Room(cluster, reports, f"{name}-small")
        await room.when("message", measured)
        whole = frame(BINARY, bytes(3 * MIB))
        async with AsyncExitStack() as stack:
            small = await stack.enter_async_context(await other.raw())
            clients = [await stack.enter_async_context(await room.raw()) for _ in range(60)]
            async with watching(cluster) as watch:
                for client in clients:
                    client.writer.write(whole[: 2 * MIB])
                await until("many to wait", lambda: cluster.counters()["unfinished_bytes"] > 2 * MIB)
                for _ in range(10):
                    await small.send(frame(TEXT, f"!{name_of(probe_app.answer)}"))
                    await small.expect(TEXT, "settled")
                for client in clients:
                    client.writer.write(whole[2 * MIB :])
                for client in clients:
                    await client.expect(TEXT, str(3 * MIB))
            assert watch.peaks["unfinished_cut"] == 0
            # One read of each, of up to 256 KiB, may come beyond the half of the bound.
            assert watch.peaks["unfinished_bytes"] < 4 * MIB + 60 * 256 * KIB
            assert watch.growth < 64 * MIB, "of the 180 MiB that were sent"
            await until("none to be unfinished", lambda: cluster.counters()["unfinished_bytes"] == 0)


async def test_parked_without_an_owner_for_too_long_is_1013(reports: Reports, name: str) -> None:
    """The shard is dead and none takes its place: what comes waits in the window, and after a time it is given up."""
    router = {"parked_timeout_s": 2.0}  # counters are published four times a second, on a quiet machine
    with Cluster(probe_app.__name__, router=router, shard={"vars": [f"REPORT={reports.path}"]}) as cluster:
        room = Room(cluster, reports, name)
        async with await room.raw() as client:
            cluster.kill("shard-1")
            await until("the slots to be parked", lambda: cluster.counters()["slots_attached"] == 0)
            since = time.monotonic()
            await client.send(frame(TEXT, "x") * 300)
            await until("the window to be full", lambda: cluster.counters()["stopped"] == 1)
            assert cluster.counters()["messages_in"] == 256
            closed = await client.expect(CLOSE)
            assert (closed.code, closed.reason) == (1013, "the object cannot be reached at present")
            assert 0.5 < time.monotonic() - since < 10


# --- what is sent -------------------------------------------------------------------------------------------------


async def test_send_buffer_of_a_client_that_does_not_read_is_filled_then_it_is_1013(room: Room) -> None:
    """More than the system keeps is sent to a client that takes nothing: 1 MiB of it waits at the router, the rest in
    the object's outbox, until the client has taken nothing for a second."""
    cluster = room.cluster
    before = await cluster.published()
    async with await deaf(room) as client:
        async with watching(cluster) as watch, watching(cluster, "shard-1") as shard:
            raised = await room.run(flood_until_it_is_refused)
            assert raised == "OutboxFull"
            await until(
                "it to be closed", lambda: cluster.counters()["slow_consumers_closed"] > before["slow_consumers_closed"]
            )
        assert 0 < watch.peaks["send_buffer_bytes"] < 3 * MIB
        assert shard.peaks["held_bytes"] <= LIMITS["OUTBOX_BYTES"]
        assert shard.growth < 24 * MIB
        report = await room.saw("close")
        assert (report["code"], report["reason"], report["clean"]) == (1013, "slow consumer", False)
        after = await cluster.published()
        assert after["slow_consumers_closed"] - before["slow_consumers_closed"] == 1
        assert after["send_buffers_cut"] == before["send_buffers_cut"]
        assert watch.growth < 8 * MIB
        pause(client, False)
        while (got := await client.frame()) is not None and got.opcode == BINARY:
            assert len(got.payload) == PIECE
        assert got is not None, "it takes what it was sent before, so it gets the Close as well"
        assert (got.code, got.reason) == (1013, "slow consumer")


async def test_all_send_buffers_together_cut_the_largest(reports: Reports, name: str) -> None:
    """What all wait for is there once and harms nobody; when each waits for its own, the bound of all is met."""
    router = {"send_buffer_bytes": 64 * MIB, "all_send_buffers_bytes": 8 * MIB}
    with Cluster(probe_app.__name__, router=router, shard={"vars": [f"REPORT={reports.path}"]}) as cluster:
        room = Room(cluster, reports, name)
        async with AsyncExitStack() as stack:
            for _ in range(10):
                await stack.enter_async_context(await deaf(room))
            async with watching(cluster) as shared:
                while (await cluster.published())["send_buffer_bytes"] < 2 * MIB:  # the system takes the first few
                    assert await room.run(flood, size=2 * MIB, shared=True) == 0
            assert shared.peaks["send_buffer_bytes"] < 6 * MIB
            assert shared.peaks["send_buffers_cut"] == 0
            async with watching(cluster) as watch:
                await room.run(flood, size=4 * MIB)
                await room.run(probe_app.nothing)  # its answer is behind the last of that on the link
            after = await cluster.published()
            closed = after["send_buffers_cut"]
            assert 1 <= closed == after["slow_consumers_closed"] < 10
            assert after["connections"] == 10 - closed
            assert watch.peaks["send_buffer_bytes"] <= 8 * MIB * 17 // 16, (
                "a sixteenth beyond, while who has most is looked for"
            )
            assert watch.growth < 24 * MIB, "40 MiB were sent"
            for _ in range(closed):
                report = await room.saw("close")
                assert (report["code"], report["reason"], report["clean"]) == (1013, "slow consumer", False)
        await until("the clients to be gone", lambda: cluster.counters()["send_buffer_bytes"] == 0)


async def test_responses_to_clients_that_do_not_read_count_with_them(room: Room) -> None:
    """Of four responses of 10 MiB, of which the system takes up to 4, one at most fits into the bound of 8."""
    cluster = room.cluster
    before = await cluster.published()
    async with AsyncExitStack() as stack:
        async with watching(cluster) as watch:
            for _ in range(4):
                client = await stack.enter_async_context(await RawClient.open(cluster.port))
                pause(client)
                path = room.path(respond=name_of(large), arguments=json.dumps({"size": 10 * MIB}))
                await client.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
            await until(
                "three to be cut",
                lambda: cluster.counters()["send_buffers_cut"] - before["send_buffers_cut"] == 3,
            )
        assert watch.peaks["send_buffer_bytes"] <= 8 * MIB * 17 // 16, (
            "a sixteenth beyond, while who has most is looked for"
        )
        assert watch.peaks["send_buffers_cut"] - before["send_buffers_cut"] == 3
    await until("the last one to be gone", lambda: cluster.counters()["send_buffer_bytes"] == 0)


# --- what a shard keeps -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "fits"), [(0, 400), (256 * KIB, 8)], ids=["events", "bytes"])
async def test_mailbox_holds_the_clients_until_it_is_half_empty(room: Room, size: int, fits: int) -> None:
    """Three clients fill it; whatever a fourth one sends then waits at the router, until enough is done."""
    cluster = room.cluster
    before = await cluster.published()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(await room.raw()) for _ in range(4)]
        share = fits // 3 + 1
        for client in clients[:3]:
            await client.send(message_for(stuck, size=size) * share)
        sent = 3 * share
        await until("what fits to begin", lambda: len(room.all("begun")) == sent)
        # It is over its bound and has said so; that may take a moment to come through.
        while cluster.counters()["stopped"] == 0:
            await clients[3].send(message_for(stuck))
            sent += 1
            assert sent < 3 * share + 200
            await asyncio.sleep(0.01)
        now = await cluster.published()
        taken = now["messages_in"] - before["messages_in"]
        assert fits < taken < min(3 * share + 5, sent), "the mailbox must hold its clients"
        assert len(room.all("begun")) == taken
        await open_gate_of(room)
        await reported(room, "done", sent)
    assert (await cluster.published())["stopped"] == 0


async def test_outbox_refuses_what_is_beyond_it(room: Room) -> None:
    async with await room.raw() as client:
        async with watching(room.cluster, "shard-1") as watch:
            assert await room.run(overfill, count=20) == [4, "OutboxFull"]
        assert watch.growth < 20 * MIB, "as it leaves each is there four times: as sent, as record, as batch, in ZeroMQ"
        for number in range(4):
            got = await client.frame()
            assert got.payload == bytes([number]) * MIB
        assert await room.run(overfill, count=1) == [1, None], "it must have room again"
        assert (await client.frame()).payload == bytes(MIB)


@pytest.mark.parametrize(("size", "least", "most"), [(128 * KIB, 56, 80), (MIB, 3, 4)], ids=["small", "large"])
async def test_output_for_a_router_that_does_not_read_fills_the_link_then_the_outbox(
    room: Room, size: int, least: int, most: int
) -> None:
    """4 MiB fit into the link and 4 into the outbox, of which what waits for a link's pieces of large payloads leaves a
    quarter to other output; all that was accepted comes in the end."""
    cluster = room.cluster
    await room.when("message", fill)
    router = cluster.processes["router-1"]
    async with await room.raw() as client, watching(cluster, "shard-1") as watch:
        await client.send(frame(TEXT, str(size)))
        await room.saw("filling")
        router.popen.send_signal(signal.SIGSTOP)
        try:
            full = await room.saw("full")
        finally:
            router.popen.send_signal(signal.SIGCONT)
        assert full["error"] == "OutboxFull"
        assert least <= full["sent"] <= most
        for number in range(full["sent"]):
            got = await client.frame()
            assert got.payload == bytes([number]) * size
    assert watch.growth < 32 * MIB


# --- a shard that does not read -----------------------------------------------------------------------------------


async def test_a_shard_that_does_not_read_blocks_its_link_and_the_router_stays_small(room: Room) -> None:
    """Thirty clients push 60 MiB at a shard that is stopped. What comes to rest at the router is a link's worth."""
    cluster = room.cluster
    before = await cluster.published()
    shard, pieces = cluster.processes["shard-1"], 32
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(await another(room, n).raw()) for n in range(30)]
        shard.popen.send_signal(signal.SIGSTOP)
        try:
            async with watching(cluster) as watch:
                for client in clients:
                    client.writer.write(b"".join(message_for(seen, piece, PIECE) for piece in range(pieces)))
                await until("everybody to be stopped", lambda: cluster.counters()["stopped"] == 30)
                waiting = asyncio.ensure_future(request(cluster.port, "GET", room.path(tags="[]")))
                await until("a request to be parked", lambda: cluster.counters()["parked"] == 1)
                await asyncio.sleep(1.0)
                now = await cluster.published()
            taken = now["bytes_in"] - before["bytes_in"]
            assert 4 * MIB <= taken <= 5 * MIB, "no new events on a link with 4 MiB unconfirmed"
            assert now["stopped"] == 30
            assert watch.growth < 40 * MIB
        finally:
            shard.popen.send_signal(signal.SIGCONT)
        await within("the request to be answered", waiting)
        for number in range(30):
            its = another(room, number)
            await reported(its, "seen", pieces)
            assert [report["number"] for report in its.all("seen")] == list(range(pieces))
    assert (await cluster.published())["parked"] == 0


# --- what waits for an owner --------------------------------------------------------------------------------------


async def test_ghosts_beyond_their_bound_are_dropped_oldest_first(room: Room) -> None:
    """While the shard is away fifteen clients leave; it hears of the last ten."""
    cluster = room.cluster
    before = await cluster.published()
    clients = [await room.raw(tags=[str(number)]) for number in range(15)]
    cluster.kill("shard-1")
    await until("the slots to be parked", lambda: cluster.counters()["slots_attached"] == 0)
    for leaving in (clients[:5], clients[5:]):
        for client in leaving:
            client.reset()
        left = cluster.counters()["connections"] - len(leaving)
        await until(
            "the router to see that they are gone",
            lambda left=left: cluster.counters()["connections"] == left,
        )
    now = await cluster.published()
    assert now["ghosts"] == 10
    assert now["ghosts_dropped"] - before["ghosts_dropped"] == 5
    cluster.start("shard", "shard-1")
    await reported(room, "close", 10)
    assert await room.run(probe_app.count) == 0
    assert {report["tags"][0] for report in room.all("close")} == {str(number) for number in range(5, 15)}


async def test_parked_requests_beyond_their_bound_are_503(room: Room) -> None:
    cluster = room.cluster
    cluster.kill("shard-1")
    await until("the slots to be parked", lambda: cluster.counters()["slots_attached"] == 0)
    waiting = [asyncio.ensure_future(room.run(probe_app.nothing)) for _ in range(10)]
    await until("ten requests to be parked", lambda: cluster.counters()["parked"] == 10)
    for _ in range(3):
        reply = await request(cluster.port, "GET", room.path())
        assert (reply.status, "10 requests wait" in reply.text) == (503, True)
    assert (await cluster.published())["parked"] == 10
    cluster.start("shard", "shard-1")
    await within("the answers to those that waited", asyncio.gather(*waiting))
    assert (await cluster.published())["parked"] == 0


# --- handshakes and requests --------------------------------------------------------------------------------------


async def test_handshakes_beyond_their_bound_end_the_oldest_that_does_not_come(room: Room) -> None:
    cluster = room.cluster
    async with AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(await RawClient.open(cluster.port)) for _ in range(10)]
        for client in slow:
            await client.send("GET / HTTP/1.1\r\nHost:")
        await until("ten heads to be begun", lambda: cluster.counters()["handshakes_in_flight"] == 10)
        assert (await request(cluster.port, "GET", "/healthz")).status == 200
        async with await RawClient.open(cluster.port) as client:
            await client.handshake(room.path())
        statuses = [(await client.response()).status for client in slow]
        assert sorted(statuses) == [408] * 9 + [503]
    await until("the handshakes to be over", lambda: cluster.counters()["handshakes_in_flight"] == 0)


async def test_connections_that_send_nothing_take_no_place_from_those_that_do(room: Room) -> None:
    cluster = room.cluster
    async with AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(await RawClient.open(cluster.port)) for _ in range(60)]
        await until("fifty connections", lambda: cluster.counters()["http_connections"] == 50)
        for _ in range(3):
            assert (await request(cluster.port, "GET", "/healthz")).status == 200
            async with await RawClient.open(cluster.port) as client:
                await client.handshake(room.path())
        for client in silent[:10]:
            await client.expect_end()
        assert cluster.counters()["handshakes_in_flight"] == 0


async def test_upgrades_that_are_not_answered_in_time_are_503(room: Room) -> None:
    cluster = room.cluster
    path = room.path(respond=name_of(never), arguments="{}")
    async with await RawClient.open(cluster.port) as client:
        since = time.monotonic()
        await client.send(upgrade_head(path))
        await until("it to be in flight", lambda: cluster.counters()["handshakes_in_flight"] == 1)
        assert (await client.response()).status == 503
        assert 0.9 < time.monotonic() - since < 5
    assert (await cluster.published())["handshakes_in_flight"] == 0


async def test_head_and_body_have_bounds_of_their_own(room: Room) -> None:
    async with watching(room.cluster) as watch:
        for _ in range(8):
            async with await RawClient.open(room.cluster.port) as client:
                client.writer.write(b"GET / HTTP/1.1\r\nX: " + b"x" * (4 * MIB))
                assert (await client.response()).status == 431
            async with await RawClient.open(room.cluster.port) as client:
                client.writer.write(
                    f"POST {room.path()} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
                )
                client.writer.write((b"10000\r\n" + bytes(PIECE) + b"\r\n") * 64)
                assert (await client.response()).status == 413
    assert watch.growth < 8 * MIB
    assert watch.peaks["body_bytes"] <= 768 * KIB


async def test_of_bodies_beyond_their_bound_the_largest_makes_room(room: Room) -> None:
    """Two thirds of a bound are there already and do not get on: a body of half that size comes, and a small one."""
    cluster = room.cluster
    head = f"POST {room.path(step=name_of(probe_app.nothing))} HTTP/1.1\r\nHost: test\r\nContent-Length: "
    async with await RawClient.open(cluster.port) as first, await RawClient.open(cluster.port) as second:
        await first.send(f"{head}{700 * KIB}\r\n\r\n", bytes(700 * KIB - 2))
        await until("the body to be there", lambda: cluster.counters()["body_bytes"] == 700 * KIB - 2)
        second.writer.write(f"{head}{340 * KIB}\r\n\r\n".encode() + bytes(340 * KIB))
        assert (await second.response()).status == 200
        await room.run(probe_app.nothing)
        assert (await first.response()).status in (503, 408)  # the latter when this machine took a second for it
    await until("the body to be gone", lambda: cluster.counters()["body_bytes"] == 0)
