"""Held output against a naive model: whatever routers say and objects do, each connection gets what it was sent, in
order, once; its closes and the acknowledgements of its events come behind the messages before them; nothing is left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from roost.common.budget import Budget
from roost.common.errors import OutboxFull
from roost.common.wire import shipping
from roost.shard.counters import ShardCounters
from roost.shard.outgoing import backlog as backlog_module
from roost.shard.outgoing import outbox as outbox_module
from roost.shard.outgoing.flow import Flow
from roost.shard.outgoing.outbox import Outbox
from roost.shard.outgoing.output import Output
from roost.shard.outgoing.peers import Peer
from tests.support.links import LinkToRouter
from tests.unit.shard.harness import peer_of

ROUTERS, CONNECTIONS = 2, 3
CONNECTIONS_IN_ALL = ROUTERS * CONNECTIONS
PORTION, LIMIT, ALL = 100, 2_000, 10_000
LARGE, PIECE, UNDER_WAY = 240, 70, 200
TARGETS = st.tuples(st.integers(0, ROUTERS - 1), st.integers(1, CONNECTIONS))
PAYLOADS = st.sampled_from(["a", b"a", "b" * 30, "c" * 70, b"d" * 250, "e" * 99, b"f" * 400, "g" * 300, "ü" * 120])
STEPS = st.one_of(
    st.tuples(st.just("send"), TARGETS, PAYLOADS),
    st.tuples(st.just("send"), TARGETS, PAYLOADS),
    st.tuples(st.just("cast"), st.none(), PAYLOADS),
    st.tuples(st.just("close"), TARGETS, st.integers(1000, 1003)),
    st.tuples(st.just("attachment"), TARGETS, st.binary(max_size=3)),
    st.tuples(st.just("event"), TARGETS, st.none()),
    st.tuples(st.just("room"), TARGETS, st.sampled_from([0, 0, 1, 50, 120, 1000])),
    st.tuples(st.just("turn"), st.none(), st.none()),
    st.tuples(st.just("block"), st.integers(0, ROUTERS - 1), st.booleans()),
)


class Router:
    """What one router has got, by connection."""

    def __init__(self, number: int) -> None:
        self.link = LinkToRouter(number + 1)
        self.link.takes_pieces = False
        self.peer: Peer = peer_of(self.link)
        self.got: dict[int, list[Any]] = defaultdict(list)
        self.owed: dict[int, bool] = {}
        self.cut: set[int] = set()

    def read(self) -> None:
        self.link.take_pieces()
        self.link.confirm()
        for record in self.link.take():
            if record[0] == "send":
                for counter in record[1]:
                    self.got[counter].append(record[2])
            elif record[0] == "ack":
                for counter, first, last in record[1]:
                    self.got[counter] += [("ack", seq) for seq in range(first, last + 1)]
            elif record[0] == "owed":
                self.owed[record[1]] = record[2]
            elif record[0] == "cut":
                self.cut.add(record[1])
            else:
                self.got[record[1]].append((record[0], record[2]))


class Shard:
    """One object, its outbox and its routers."""

    def __init__(self, limit: int = LIMIT) -> None:
        counters = ShardCounters()
        self.output = Output(lambda: None, lambda seconds, do: None, counters)
        self.flow = self.output.flow = Flow(Budget(ALL), self.output.acknowledge_behind, self.output.plan, counters)
        self.box = Outbox(self.output.plan_outbox, limit, self.flow)
        self.routers = [Router(number) for number in range(ROUTERS)]
        for router in self.routers:
            self.output.meet(router.peer)
        self.expected: dict[tuple[int, int], list[Any]] = defaultdict(list)
        self.seqs: dict[tuple[int, int], int] = defaultdict(int)

    def held(self, at: int, counter: int) -> Any:
        return self.routers[at].peer.held.get(counter)

    def send(self, target: tuple[int, int], payload: str | bytes) -> None:
        """As ``WebSocket.send``."""
        backlog = self.held(*target)
        try:
            if backlog is not None:
                backlog.send(payload)
            else:
                self.box.send(self.routers[target[0]].peer, target[1], payload)
        except OutboxFull:
            return
        self.expected[target].append(payload)

    def record(self, target: tuple[int, int], kind: str, write: Callable[[Any], None], value: Any) -> None:
        """As ``HostedObject.record_close`` and ``record_attachment``."""
        backlog, peer = self.held(*target), self.routers[target[0]].peer
        if kind == "close" and backlog is not None:
            backlog.record(write)
        else:
            self.box.record(peer, write, behind=target[1] if kind == "close" else 0)
        self.expected[target].append((kind, value))

    def do(self, kind: str, target: Any, value: Any) -> None:
        if kind == "send":
            self.send(target, value)
        elif kind == "cast":
            for at in range(ROUTERS):
                for counter in range(1, CONNECTIONS + 1):
                    self.send((at, counter), value)
        elif kind == "close":
            self.record(target, kind, lambda writer: writer.close(target[1], value, ""), value)
        elif kind == "attachment":
            self.record(target, kind, lambda writer: writer.attachment(target[1], value), value)
        elif kind == "event":
            self.seqs[target] += 1
            self.output.note_ended(self.box, self.routers[target[0]].peer, target[1], self.seqs[target])
            self.expected[target].append(("ack", self.seqs[target]))
        elif kind == "room":
            self.say_room(*target, value)
        elif kind == "block":
            router = self.routers[target]
            if value:
                router.link.blocked = True
            elif router.link.blocked:
                router.link.unblock()
        else:
            self.turn()

    def say_room(self, at: int, counter: int, size: int) -> None:
        peer = self.routers[at].peer
        if size or counter in peer.held:
            self.flow.room(peer, counter, size)
        else:
            self.flow.begin(self.box, peer, counter)

    def turn(self) -> None:
        self.output.flush()
        for router in self.routers:
            router.read()

    def settle(self) -> None:
        """Give everybody room until nothing is left."""
        for router in self.routers:
            router.link.unblock()
        for _ in range(500):
            self.turn()
            for at, router in enumerate(self.routers):
                for counter in list(router.peer.held):
                    self.say_room(at, counter, 60)
            if not self.box.holds and not self.box.planned and not self.output.planned:
                break
        for _ in range(5):
            self.turn()


def split(items: list[Any]) -> tuple[list[Any], list[Any]]:
    """What is in order (messages, closes, and where acknowledgements stand), and what is in an order of its own."""
    return (
        [item for item in items if not (isinstance(item, tuple) and item[0] in ("attachment", "ack"))],
        [item for item in items if isinstance(item, tuple) and item[0] == "attachment"],
    )


@pytest.fixture(autouse=True, scope="module")
def small_portions() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbox_module, "_PORTION", PORTION)
        patch.setattr(outbox_module, "LARGE_BYTES", LARGE)
        patch.setattr(backlog_module, "LARGE_BYTES", LARGE)
        patch.setattr(shipping, "PIECE_BYTES", PIECE)
        patch.setattr(shipping, "UNDER_WAY_BYTES", UNDER_WAY)
        yield


def check(shard: Shard) -> None:
    for at, router in enumerate(shard.routers):
        for counter in range(1, CONNECTIONS + 1):
            got, expected = router.got[counter], shard.expected[at, counter]
            assert split(got) == split(expected)
            acks = [item for item in got if isinstance(item, tuple) and item[0] == "ack"]
            assert acks == [("ack", seq) for seq in range(1, shard.seqs[at, counter] + 1)], "each once, and in order"
            for seq in range(1, shard.seqs[at, counter] + 1):
                before = split(expected[: expected.index(("ack", seq))])[0]
                assert split(got[: got.index(("ack", seq))])[0][: len(before)] == before, "behind what came before"
            assert not router.owed.get(counter, False)
    assert (shard.box.size, shard.flow.held.taken, shard.flow.waiting) == (0, 0, 0)
    assert not any(router.peer.held for router in shard.routers)
    assert not shard.flow.shipping


@given(st.lists(STEPS, max_size=60))
@example([("cast", None, b"d" * 250), ("cast", None, "a"), ("cast", None, "a"), ("turn", None, None)])
def test_each_connection_gets_what_it_was_sent_in_order_and_once(steps: list[tuple[str, Any, Any]]) -> None:
    shard = Shard()
    for step in steps:
        shard.do(*step)
        beside = outbox_module._ENTRY_BYTES * (len(steps) + CONNECTIONS_IN_ALL) + 400
        holders = outbox_module._HOLDER_BYTES * len(steps) * CONNECTIONS_IN_ALL
        assert shard.box.size <= LIMIT + beside + holders, "records and acknowledgements aside"
    shard.settle()
    check(shard)


@given(st.lists(STEPS, max_size=60), st.lists(STEPS, max_size=10))
@example([("cast", None, b"d" * 250), ("room", (0, 1), 0), ("cast", None, b"d" * 250)], [])
def test_what_an_object_holds_when_it_moves_leaves_at_once(
    steps: list[tuple[str, Any, Any]], more: list[tuple[str, Any, Any]]
) -> None:
    shard = Shard()
    for step in steps:
        shard.do(*step)
    for router in shard.routers:
        router.link.unblock()
    shard.flow.let_go(shard.box)
    for step in more:
        if step[0] not in ("room", "block"):
            shard.do(*step)
    shard.turn()
    for _ in range(LIMIT):
        if not shard.flow.keeps(shard.box):
            break
        shard.turn()  # what goes in pieces, which waits for nobody's room
    shard.turn()
    check(shard)


@given(st.lists(STEPS, max_size=60), TARGETS)
def test_of_a_connection_that_goes_nothing_is_left_and_others_lose_nothing(
    steps: list[tuple[str, Any, Any]], gone: tuple[int, int]
) -> None:
    shard = Shard()
    for step in steps:
        shard.do(*step)
    shard.flow.gone(shard.routers[gone[0]].peer, gone[1])
    shard.settle()
    got, expected = shard.routers[gone[0]].got.pop(gone[1], []), shard.expected.pop(gone, [])
    acks = [item for item in got if isinstance(item, tuple) and item[0] == "ack"]
    assert acks == [item for item in expected if isinstance(item, tuple) and item[0] == "ack"]
    shard.seqs.pop(gone, None)
    check(shard)
    assert not any(len(router.link.parts) for router in shard.routers), "nor is half a payload left at a router"
