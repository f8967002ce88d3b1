"""Folding against a naive model: each connection gets what it was sent, in order, at the price that is promised."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from roost.shard.outgoing.outbox import Outbox
from tests.support.links import LinkToRouter
from tests.unit.shard.harness import peer_of

ROUTERS = 3
PAYLOADS = st.sampled_from(["a", "b", "é" * 50, "", b"a", b"b", b"", b"\xff" * 50])
TARGETS = st.tuples(st.integers(0, ROUTERS - 1), st.integers(1, 4))
SEND = st.tuples(st.just("send"), TARGETS, PAYLOADS)
CLOSE = st.tuples(st.just("close"), TARGETS, st.integers(1000, 1003))
ATTACH = st.tuples(st.just("attachment"), TARGETS, st.binary(max_size=3))
DRAIN = st.tuples(st.just("drain"), st.none(), st.none())


def apply(box: Outbox, peers: list[Any], step: tuple[str, Any, Any]) -> None:
    kind, target, value = step
    if kind == "drain":
        box.drain()
        return
    peer, counter = peers[target[0]], target[1]
    if kind == "send":
        # Equal payloads are not the same object for those who send them.
        box.send(peer, counter, value[:1] + value[1:] if value else value)
    elif kind == "close":
        box.record(peer, lambda writer: writer.close(counter, value, ""))
    else:
        box.record(peer, lambda writer: writer.attachment(counter, value))


@given(st.lists(st.one_of(SEND, SEND, SEND, CLOSE, ATTACH, DRAIN), max_size=40))
def test_each_connection_gets_its_output_in_order_and_as_often(steps: list[tuple[str, Any, Any]]) -> None:
    links = [LinkToRouter(number + 1) for number in range(ROUTERS)]
    box = Outbox(lambda _: None)
    peers = [peer_of(link) for link in links]
    expected: dict[tuple[int, int], list[Any]] = defaultdict(list)
    for step in [*steps, ("drain", None, None)]:
        apply(box, peers, step)
        if step[0] != "drain":
            expected[step[1]].append((step[0], step[2]))
    got: dict[tuple[int, int], list[Any]] = defaultdict(list)
    for number, link in enumerate(links):
        link.flush()
        for record in link.take():
            if record[0] == "send":
                for counter in record[1]:
                    got[number, counter].append(("send", record[2]))
            else:
                got[number, record[1]].append((record[0], record[2]))
    assert got == expected
    assert box.size == 0


@given(st.lists(st.one_of(SEND, SEND, CLOSE), max_size=40))
def test_a_run_of_one_payload_is_one_record_to_each_router(steps: list[tuple[str, Any, Any]]) -> None:
    """And whatever the runs, a group carries each distinct payload once."""
    links = [LinkToRouter(number + 1) for number in range(ROUTERS)]
    box = Outbox(lambda _: None)
    peers = [peer_of(link) for link in links]
    expected: list[list[tuple[Any, ...]]] = [[] for _ in links]
    last: Any = None  # payload of the run
    in_run: set[int] = set()  # routers that have a record of the run
    distinct: list[set[Any]] = [set() for _ in links]
    for step in steps:
        apply(box, peers, step)
        kind, (router, counter), value = step
        if kind == "close":
            expected[router].append(("close", counter, value, "", False))
            last, in_run = None, set()
            continue
        if last is None or type(value) is not type(last) or value != last:
            last, in_run = value, set()
        if router in in_run:
            next(record for record in reversed(expected[router]) if record[0] == "send")[1].append(counter)
        else:
            in_run.add(router)
            expected[router].append(("send", [counter], value))
        distinct[router].add((type(value), value))
    box.drain()
    for link, records, payloads in zip(links, expected, distinct, strict=True):
        link.flush()
        wire = b"".join(link.groups)
        assert link.take() == records
        for _, payload in payloads:
            data = payload.encode() if isinstance(payload, str) else payload
            if len(data) >= 50:
                assert wire.count(data) == 1
