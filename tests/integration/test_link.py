"""Two ends of links over real ZeroMQ, ipc and tcp: nothing is lost, doubled or reordered, whatever is cut."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvloop
import zmq

from roost.common.errors import StartupError, WireError
from roost.common.ids import Incarnation
from roost.common.machine.counters import Counters
from roost.common.runtime.clock import SystemClock
from roost.common.wire import endpoint as endpoint_module
from roost.common.wire import link as link_module
from roost.common.wire import session as session_module
from roost.common.wire.link import DRAIN_S, Acceptor, Dialer, Link, Rest, Wiring, routing_id
from roost.common.wire.records import (
    TO_ROUTER,
    TO_SHARD,
    Dialect,
    EventWriter,
    OutputWriter,
    RecordWriter,
    Sink,
    read_events,
    read_output,
)
from roost.common.wire.session import Session
from tests.support.streams import ended, serving

CLUSTER = 0xFEED
ROUTER, SHARD = Incarnation(11), Incarnation(22)
DEADLINE_S = 30.0


class Heard:
    """A sink that keeps the payloads of messages and sends, in order."""

    def __init__(self) -> None:
        self.payloads: list[bytes | str] = []

    def message(self, connection: int, seq: int, deliveries: int, data: str | bytes) -> None:
        self.payloads.append(data)

    def send(self, connections: object, data: bytes, binary: bool) -> None:
        self.payloads.append(data)


class Ends:
    """A dialer and an acceptor with one link between them, and what each side heard."""

    def __init__(self, endpoint: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.changed = asyncio.Event()
        self.router_counters, self.shard_counters = Counters(), Counters()
        self.heard_by_router, self.heard_by_shard = Heard(), Heard()
        self.failed: list[tuple[object, Exception]] = []
        self.acceptor = Acceptor(self.wiring(SHARD, self.at_shard, self.shard_counters), endpoint)
        self.dialer = Dialer(self.wiring(ROUTER, self.at_router, self.router_counters))

    def wiring(self, local: Incarnation, on_group: Callable[[Any, bytes], Rest | None], counters: Counters) -> Wiring:
        return Wiring(
            loop=self.loop,
            cluster_id=CLUSTER,
            local=local,
            clock=SystemClock(),
            on_group=on_group,
            counters=counters,
            on_failed=self.at_failure,
        )

    def at_shard(self, link: Link[OutputWriter], group: bytes) -> Rest | None:
        read_events(group, self.heard_by_shard)  # type: ignore[arg-type]
        self.changed.set()
        return None

    def at_router(self, link: Link[EventWriter], group: bytes) -> Rest | None:
        read_output(group, self.heard_by_router)  # type: ignore[arg-type]
        self.changed.set()
        return None

    def at_failure(self, link: Link[EventWriter] | Link[OutputWriter], error: Exception) -> None:
        self.failed.append((link, error))
        self.changed.set()

    def join(self, endpoint: str | None = None) -> tuple[Link[EventWriter], Link[OutputWriter]]:
        to_shard = self.dialer.connect(SHARD, endpoint or self.acceptor.endpoint, TO_SHARD)
        return to_shard, self.acceptor.add_peer(ROUTER, TO_ROUTER)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self.changed.clear()
                try:
                    await asyncio.wait_for(self.changed.wait(), 0.05)
                except TimeoutError:
                    pass  # counters change without a call

    async def aclose(self) -> None:
        await self.dialer.aclose()
        await self.acceptor.aclose()


@pytest_asyncio.fixture(params=["ipc", "tcp"])
async def ends(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ends]:
    ends = Ends("tcp://127.0.0.1:*" if request.param == "tcp" else f"ipc://{tmp_path}/s")
    yield ends
    await ends.aclose()


@pytest_asyncio.fixture
async def tcp_ends() -> AsyncIterator[Ends]:
    ends = Ends("tcp://127.0.0.1:*")
    yield ends
    await ends.aclose()


def say(link: Link[EventWriter], *payloads: bytes) -> None:
    for payload in payloads:
        link.writer.message(1, 1, 0, payload, True)
    link.flush_soon()


def answer(link: Link[OutputWriter], *payloads: bytes) -> None:
    for payload in payloads:
        link.writer.send(array("I", [1]), payload, True)
    link.flush_soon()


# --- the plain road ---


async def test_records_travel_both_ways_in_order(ends: Ends) -> None:
    to_shard, to_router = ends.join()
    asked = [b"%d" % number for number in range(5000)]
    for start in range(0, 5000, 50):
        say(to_shard, *asked[start : start + 50])
        answer(to_router, *asked[start : start + 50])
        await asyncio.sleep(0)
    await ends.until(lambda: len(ends.heard_by_shard.payloads) == len(ends.heard_by_router.payloads) == 5000)
    assert ends.heard_by_shard.payloads == ends.heard_by_router.payloads == asked


async def test_one_turn_of_the_loop_is_one_batch(ends: Ends) -> None:
    to_shard, _ = ends.join()
    for number in range(100):
        say(to_shard, b"%d" % number)
    await ends.until(lambda: len(ends.heard_by_shard.payloads) == 100)
    assert to_shard.session.sent == 1


async def test_everything_is_confirmed_soon_and_then_both_ends_rest(ends: Ends) -> None:
    to_shard, to_router = ends.join()
    say(to_shard, b"one")
    await ends.until(lambda: to_shard.session.confirmed == 1)
    await ends.until(lambda: not to_shard.session.busy and not to_router.session.busy)
    await asyncio.sleep(10 * endpoint_module.TICK_S)
    batches = ends.router_counters.batches_in + ends.shard_counters.batches_in
    await asyncio.sleep(10 * endpoint_module.TICK_S)
    assert ends.router_counters.batches_in + ends.shard_counters.batches_in == batches
    assert ends.dialer._timer is None
    assert ends.acceptor._timer is None


async def test_a_record_far_larger_than_a_batch_arrives_whole(ends: Ends) -> None:
    to_shard, to_router = ends.join()
    large = os.urandom(20 << 20)
    say(to_shard, large, b"after")
    answer(to_router, large, b"after")
    await ends.until(lambda: len(ends.heard_by_shard.payloads) == len(ends.heard_by_router.payloads) == 2)
    assert ends.heard_by_shard.payloads == [large, b"after"]
    assert ends.heard_by_router.payloads == [large, b"after"]


async def test_a_shard_may_be_connected_to_and_a_router_spoken_to_before_they_are_there(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/late"
    ends = Ends(endpoint)
    to_router = ends.acceptor.add_peer(ROUTER, TO_ROUTER)
    answer(to_router, b"waits for the router")
    await asyncio.sleep(0.05)
    to_shard = ends.dialer.connect(SHARD, endpoint, TO_SHARD)
    say(to_shard, b"hello")
    await ends.until(lambda: ends.heard_by_shard.payloads and ends.heard_by_router.payloads)
    assert ends.heard_by_router.payloads == [b"waits for the router"]
    await ends.aclose()


async def test_a_burst_is_taken_in_runs_so_that_the_loop_goes_on(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    to_shard, _ = ends.join()
    say(to_shard, b"warm")
    await ends.until(lambda: ends.heard_by_shard.payloads)
    for number in range(1000):
        to_shard.writer.message(1, 1, 0, b"%d" % number, True)
        to_shard.flush()
    turns, largest, before = 0, 0, 1
    async with asyncio.timeout(DEADLINE_S):
        while len(ends.heard_by_shard.payloads) < 1001:
            await asyncio.sleep(0)
            turns += 1
            largest = max(largest, len(ends.heard_by_shard.payloads) - before)
            before = len(ends.heard_by_shard.payloads)
    assert largest <= link_module.DRAIN_BATCHES
    assert turns >= 1000 // link_module.DRAIN_BATCHES


# --- callbacks and maps ---


async def test_confirmations_are_reported(ends: Ends) -> None:
    to_shard, _ = ends.join()
    reported: list[int] = []
    to_shard.on_confirmed = lambda link: reported.append(link.session.confirmed)
    say(to_shard, b"one")
    await ends.until(lambda: reported)
    assert reported == [1]


async def test_a_link_is_blocked_by_what_is_unconfirmed_and_says_when_it_is_not(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "LINK_UNCONFIRMED_BYTES", 1000)
    to_shard, _ = ends.join()
    unblocked: list[bool] = []
    to_shard.on_unblocked = lambda link: unblocked.append(link.blocked)
    to_shard.writer.message(1, 1, 0, bytes(2000), True)
    to_shard.flush()
    assert to_shard.blocked
    await ends.until(lambda: unblocked)
    assert unblocked == [False]


async def test_records_of_a_newer_map_wait_for_it(ends: Ends) -> None:
    to_shard, _ = ends.join()
    ends.acceptor.map_version = 1
    ends.dialer.map_version = 2
    say(to_shard, b"needs 2")
    await ends.until(lambda: to_shard.session.confirmed == 1)
    say(to_shard, b"behind it")
    await ends.until(lambda: to_shard.session.confirmed == 2)
    assert ends.heard_by_shard.payloads == []
    ends.acceptor.map_version = 2
    assert ends.heard_by_shard.payloads == [], "not inside the owner's own change of map"
    await ends.until(lambda: len(ends.heard_by_shard.payloads) == 2)
    assert ends.heard_by_shard.payloads == [b"needs 2", b"behind it"]


async def test_a_router_takes_what_shards_say_under_any_map(ends: Ends) -> None:
    """It confirms the batch, so the shard acknowledges the message behind it: the output must not wait, and be lost."""
    _, to_router = ends.join()
    ends.acceptor.map_version = 7
    answer(to_router, b"hello")
    await ends.until(lambda: to_router.session.confirmed == 1)
    assert ends.heard_by_router.payloads == [b"hello"]


async def test_a_group_that_does_not_parse_gives_the_link_up(ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
    to_shard, to_router = ends.join()
    say(to_shard, b"good")
    await ends.until(lambda: ends.heard_by_shard.payloads)
    to_shard.session.send(b"\xeeno record", 0, SystemClock().now())
    say(to_shard, b"behind it")
    await ends.until(lambda: len(ends.failed) == 2)
    (link, error), (other, told) = ends.failed
    assert (link, other) == (to_router, to_shard)
    assert isinstance(error, WireError)
    assert (to_router.closed, to_shard.closed) == (True, True)
    assert str(told) == f"incarnation {SHARD} has given the session up"
    assert ends.heard_by_shard.payloads == [b"good"]
    assert (ends.shard_counters.links_failed, ends.shard_counters.wire_garbage >= 1) == (1, True)
    assert "given up after batch 2" in caplog.text


async def test_an_error_while_a_group_is_applied_gives_the_link_up_and_the_socket_goes_on(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    other = Dialer(ends.wiring(Incarnation(12), lambda link, group: None, Counters()))
    to_shard, to_router = ends.join()
    ends.acceptor.add_peer(Incarnation(12), TO_ROUTER)
    other_link = other.connect(SHARD, ends.acceptor.endpoint, TO_SHARD)
    original = ends.acceptor._on_group

    def broken(link: Link[OutputWriter], group: bytes) -> None:
        if link is to_router:
            raise KeyError("a bug")
        original(link, group)

    ends.acceptor._on_group = broken
    say(to_shard, b"meets the bug")
    await ends.until(lambda: ends.failed)
    assert "a bug" in caplog.text
    say(other_link, b"another router")
    await ends.until(lambda: ends.heard_by_shard.payloads)
    assert ends.heard_by_shard.payloads == [b"another router"]
    await other.aclose()


async def test_a_closed_link_is_silent_and_its_incarnation_unknown(ends: Ends) -> None:
    to_shard, _ = ends.join()
    say(to_shard, b"one")
    await ends.until(lambda: ends.heard_by_shard.payloads)
    ends.acceptor.remove_peer(ROUTER)
    ends.acceptor.remove_peer(ROUTER)
    say(to_shard, b"two")
    await ends.until(lambda: ends.shard_counters.batches_unexpected >= 1)
    assert ends.heard_by_shard.payloads == [b"one"]
    to_shard.close()
    to_shard.close()
    say(to_shard, b"three")
    await asyncio.sleep(0)
    assert to_shard.writer.size == 0, "a closed link keeps nothing"


class Said(Sink):
    """Takes what one shard says to another in the dialect of a test."""

    def __init__(self) -> None:
        self.words: list[bytes] = []


async def test_a_shard_talks_to_a_shard_in_a_dialect_of_their_own(ends: Ends) -> None:
    """A dialect is a writer and a reader; links, sessions and sockets know neither."""

    class Words(RecordWriter):
        def say(self, word: bytes) -> None:
            self._add(bytes([0x70, len(word)]) + word)

    def read(group: bytes, sink: Said, *_: object) -> int:
        position = 0
        while position < len(group):
            assert group[position] == 0x70
            end = position + 2 + group[position + 1]
            sink.words.append(group[position + 2 : end])
            position = end
        return position

    words = Dialect(Words, read, waits_for_maps=True)
    other_shard = Incarnation(33)
    heard = {SHARD: Said(), other_shard: Said()}

    def hear(link: Link[Words], group: bytes) -> None:
        link.read(group, heard[SHARD if link.remote == other_shard else other_shard], link.parts)
        ends.changed.set()

    accepts = ends.acceptor._on_group
    ends.acceptor._on_group = lambda link, group: (hear if link.dialect is words else accepts)(link, group)
    dials = Dialer(ends.wiring(other_shard, hear, Counters()))
    to_shard, _ = ends.join()
    there = dials.connect(SHARD, ends.acceptor.endpoint, words)
    here = ends.acceptor.add_peer(other_shard, words)
    for link, word in ((there, b"ask"), (here, b"answer")):
        link.writer.say(word)
        link.flush_soon()
    say(to_shard, b"a router, as ever")
    await ends.until(lambda: heard[SHARD].words and heard[other_shard].words and ends.heard_by_shard.payloads)
    assert (heard[SHARD].words, heard[other_shard].words) == ([b"ask"], [b"answer"])
    assert ends.heard_by_shard.payloads == [b"a router, as ever"]
    await dials.aclose()


async def test_a_second_link_to_one_incarnation_is_refused(ends: Ends) -> None:
    ends.join()
    with pytest.raises(ValueError, match="already"):
        ends.dialer.connect(SHARD, ends.acceptor.endpoint, TO_SHARD)
    with pytest.raises(ValueError, match="already"):
        ends.acceptor.add_peer(ROUTER, TO_ROUTER)


async def test_addresses_that_cannot_be_used_are_refused(ends: Ends, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no address"):
        ends.dialer.connect(SHARD, "nonsense", TO_SHARD)
    ends.dialer.connect(SHARD, ends.acceptor.endpoint, TO_SHARD)
    for endpoint in ("ipc://" + "x" * 120, f"ipc://{tmp_path}/no/such/folder", "tcp://127.0.0.1:1"):
        if endpoint.startswith("tcp") and os.geteuid() == 0:
            endpoint = ends.acceptor.endpoint if "tcp" in ends.acceptor.endpoint else "tcp://256.0.0.1:1"
        with pytest.raises(StartupError, match="cannot bind"):
            Ends(endpoint)


async def test_a_router_that_the_map_does_not_name_yet_is_heard_once_it_does(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    to_shard = ends.dialer.connect(SHARD, ends.acceptor.endpoint, TO_SHARD)
    say(to_shard, b"too early")
    await ends.until(lambda: ends.shard_counters.batches_unexpected)
    ends.acceptor.add_peer(ROUTER, TO_ROUTER)
    await ends.until(lambda: ends.heard_by_shard.payloads)
    assert ends.heard_by_shard.payloads == [b"too early"]
    assert ends.shard_counters.wire_garbage == 0
    assert not caplog.records, "maps reach members some milliseconds apart: nothing is wrong"


# --- cuts ---


class Proxy:
    """A TCP proxy that ends its connections when told to, losing what it holds."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self.cuts = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def before(cls, endpoint: str) -> AsyncIterator[tuple[Proxy, str]]:
        """A proxy before a TCP endpoint, and the endpoint to connect to instead."""
        proxy = cls(int(endpoint.rsplit(":", 1)[1]))
        async with serving(proxy._serve) as port:
            yield proxy, f"tcp://127.0.0.1:{port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self._target)
        both = {writer, onward_writer}
        self._writers |= both
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, onward_writer))
                pumps.create_task(self._pump(onward_reader, writer))
        finally:
            self._writers -= both
            await ended(onward_writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (data := await reader.read(1 << 16)) and not writer.transport.is_closing():
                writer.write(data)  # else cut: uvloop's transports raise a RuntimeError
                await writer.drain()
        except OSError:
            pass  # cut
        writer.close()

    def cut(self) -> None:
        """End what is connected; counted only if something was."""
        self.cuts += bool(self._writers)
        for writer in self._writers:
            writer.transport.abort()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_link_cut_many_times_under_load_loses_doubles_and_reorders_nothing(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(cut_under_load())


async def cut_under_load() -> None:
    ends = Ends("tcp://127.0.0.1:*")
    async with Proxy.before(ends.acceptor.endpoint) as (proxy, endpoint), contextlib.aclosing(ends):
        await load_and_cut(ends, proxy, endpoint)


async def load_and_cut(ends: Ends, proxy: Proxy, endpoint: str) -> None:
    to_shard, to_router = ends.join(endpoint)
    total, given = 60_000, 0
    padding = b"." * 500

    def load() -> None:
        nonlocal given
        for _ in range(40):
            if given < total and not to_shard.blocked and not to_router.blocked:
                say(to_shard, b"%d " % given + padding)
                answer(to_router, b"%d " % given + padding)
                given += 1

    async with asyncio.timeout(DEADLINE_S * 1.8):
        next_cut = ends.loop.time()
        while len(ends.heard_by_shard.payloads) < total or len(ends.heard_by_router.payloads) < total:
            load()
            await asyncio.sleep(0 if given < total else 0.005)
            if ends.loop.time() >= next_cut and proxy.cuts < 60:
                proxy.cut()
                next_cut = ends.loop.time() + 0.03
    expected = [b"%d " % number + padding for number in range(total)]
    assert ends.heard_by_shard.payloads == expected
    assert ends.heard_by_router.payloads == expected
    assert proxy.cuts >= 15
    assert to_shard.session.resent + to_router.session.resent > 0, "no cut has lost anything: the test shows nothing"
    assert ends.router_counters.batches_resent == to_shard.session.resent
    assert not ends.failed


class LongGroups(Ends):
    """Both ends take what comes in steps, of which a turn does a few."""

    STEPS = 20

    def __init__(self, endpoint: str) -> None:
        self.done: Counter[str] = Counter()
        super().__init__(endpoint)

    def at_shard(self, link: Link[OutputWriter], group: bytes) -> Rest:
        return lambda: self._step("shard")

    def at_router(self, link: Link[EventWriter], group: bytes) -> Rest:
        return lambda: self._step("router")

    def _step(self, end: str) -> bool:
        self.done[end] += 1
        until = time.monotonic() + DRAIN_S / 2
        while time.monotonic() < until:
            pass
        self.changed.set()
        return self.done[end] < self.STEPS


async def test_what_is_left_of_a_long_group_is_handed_out_though_nothing_more_comes(tmp_path: Path) -> None:
    async with contextlib.aclosing(LongGroups(f"ipc://{tmp_path}/s")) as ends:
        to_shard, to_router = ends.join()
        say(to_shard, b"a")
        answer(to_router, b"b")
        await ends.until(lambda: ends.done == {"shard": ends.STEPS, "router": ends.STEPS})
        assert not ends.failed


async def test_a_quiet_link_survives_a_cut_and_what_is_said_meanwhile_arrives(tcp_ends: Ends) -> None:
    ends = tcp_ends
    async with Proxy.before(ends.acceptor.endpoint) as (proxy, endpoint):
        to_shard, to_router = ends.join(endpoint)
        for turn in range(1, 6):
            say(to_shard, b"s%d" % turn)
            await ends.until(lambda turn=turn: len(ends.heard_by_shard.payloads) == turn)
            proxy.cut()
            answer(to_router, b"r%d" % turn)
            await ends.until(lambda turn=turn: len(ends.heard_by_router.payloads) == turn)
        assert ends.heard_by_router.payloads == [b"r%d" % turn for turn in range(1, 6)]


# --- garbage ---


async def test_garbage_of_a_raw_dealer_is_dropped_counted_and_logged_once(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    to_shard, _ = ends.join()
    say(to_shard, b"before")
    await ends.until(lambda: ends.heard_by_shard.payloads)
    stranger = Session(CLUSTER, Incarnation(99), SHARD, 0.0)
    stranger.send(b"a batch under another name than its own", 0, 0.0)
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 1000)
        dealer.connect(ends.acceptor.endpoint)
        for number in range(50):
            dealer.send(b"garbage %d" % number)
            dealer.send(b"")
            dealer.send_multipart([b"three", b"frames", b"each"])
            dealer.send_multipart([routing_id(ROUTER), b"posing", b""])
            dealer.send_multipart(stranger.outgoing)
        await ends.until(lambda: ends.shard_counters.wire_garbage >= 250)
        say(to_shard, b"after")
        await ends.until(lambda: len(ends.heard_by_shard.payloads) == 2)
    assert ends.heard_by_shard.payloads == [b"before", b"after"]
    assert ends.shard_counters.wire_garbage == 250
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "no router here" in warnings[0].getMessage()


async def test_a_pretender_under_a_routers_name_does_no_harm_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(link_module, "HEARTBEAT_TIMEOUT_S", 0.2)
    ends = Ends(f"ipc://{tmp_path}/s")
    to_shard, _ = ends.join()
    say(to_shard, b"before")
    await ends.until(lambda: ends.heard_by_shard.payloads)
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 1000)
        dealer.setsockopt(zmq.ROUTING_ID, routing_id(ROUTER))
        dealer.connect(ends.acceptor.endpoint)
        for _ in range(20):
            dealer.send(b"garbage")
            dealer.send_multipart([b"two", b"frames"])
        await ends.until(lambda: ends.shard_counters.wire_garbage >= 40)
    # The pretender has taken the router's connection over; the router's socket notices by its heartbeats.
    say(to_shard, b"after")
    await ends.until(lambda: len(ends.heard_by_shard.payloads) == 2)
    assert ends.heard_by_shard.payloads == [b"before", b"after"]
    assert not ends.failed
    await ends.aclose()


async def test_garbage_over_plain_tcp_is_dropped_counted_and_logged_once(
    tcp_ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    ends = tcp_ends
    to_shard, _ = ends.join()
    say(to_shard, b"before")
    await ends.until(lambda: ends.heard_by_shard.payloads)
    port = int(ends.acceptor.endpoint.rsplit(":", 1)[1])
    pieces = [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(100), b"\xff" * 100, b"", b"\xff\x00"]
    for count, piece in enumerate(pieces, 1):
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(piece)
            await asyncio.sleep(0.02)
        await ends.until(lambda count=count: ends.shard_counters.wire_garbage >= count)
    say(to_shard, b"after")
    await ends.until(lambda: len(ends.heard_by_shard.payloads) == 2)
    assert ends.heard_by_shard.payloads == [b"before", b"after"]
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "does not speak ZeroMQ" in warnings[0].getMessage()


async def test_a_minute_later_the_log_tells_how_much_garbage_came_since(
    tcp_ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0
    tcp_ends.acceptor._now = lambda: now
    for _ in range(5):
        tcp_ends.acceptor._garbage("batch", "nonsense")
    now += endpoint_module.LOG_INTERVAL_S
    tcp_ends.acceptor._garbage("batch", "nonsense")
    assert [record.getMessage() for record in caplog.records] == [
        "dropped: nonsense",
        "dropped: nonsense; 4 more in the last 60 s",
    ]
    assert tcp_ends.shard_counters.wire_garbage == 6


async def test_batches_for_an_earlier_process_at_the_address_are_dropped(tmp_path: Path) -> None:
    ends = Ends(f"ipc://{tmp_path}/s")
    to_dead = ends.dialer.connect(Incarnation(21), ends.acceptor.endpoint, TO_SHARD)
    ends.acceptor.add_peer(ROUTER, TO_ROUTER)
    say(to_dead, b"for the process before")
    await ends.until(lambda: ends.shard_counters.wire_garbage == 1)
    assert ends.heard_by_shard.payloads == []
    to_dead.close()
    say(ends.dialer.connect(SHARD, ends.acceptor.endpoint, TO_SHARD), b"for this one")
    await ends.until(lambda: ends.heard_by_shard.payloads)
    assert ends.heard_by_shard.payloads == [b"for this one"]
    await ends.aclose()
