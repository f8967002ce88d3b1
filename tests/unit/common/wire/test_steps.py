"""Long groups are handed out in steps, in order, and nothing overtakes their rest."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable

import pytest

from roost.common.errors import WireError
from roost.common.ids import Incarnation
from roost.common.wire.records import STEP_BYTES, EventWriter, OutputWriter, Parts, Steps, read_events, read_output
from roost.common.wire.session import Session
from tests.unit.common.wire.test_endpoint import Carrier

COUNT = 2_000


class Output:
    """Takes what a shard says."""

    def __init__(self) -> None:
        self.sent: list[tuple[list[int], bytes]] = []

    def send(self, connections: list[int], data: bytes, binary: bool) -> None:
        self.sent.append((list(connections), data))


class Events:
    """Takes what a router says."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def message(self, connection: int, seq: int, deliveries: int, data: bytes) -> None:
        self.numbers.append(seq)


def messages(first: int, count: int = COUNT) -> bytes:
    writer = EventWriter()
    for number in range(first, first + count):
        writer.message(1, number, 0, b"x", True)
    (group,) = writer.take()
    return group


def test_a_shards_group_comes_in_steps_and_later_records_know_earlier_payloads() -> None:
    writer = OutputWriter()
    for number in range(COUNT):
        writer.send(array("I", [number]), b"%d" % number, True)
    writer.send(array("I", [1, 2, 3]), b"once", True)
    writer.send(array("I", [4, 5]), b"once", True)  # the same payload again, perhaps as a reference
    (group,) = writer.take()
    sink, steps = Output(), 1
    reader = Steps(read_output, group, sink, Parts())
    before = 0
    while reader.go_on():
        assert len(sink.sent) - before <= STEP_BYTES // 8
        before, steps = len(sink.sent), steps + 1
    assert steps >= len(group) // STEP_BYTES
    assert sink.sent[:COUNT] == [([number], b"%d" % number) for number in range(COUNT)]
    assert sorted(number for connections, _ in sink.sent[COUNT:] for number in connections) == [1, 2, 3, 4, 5]
    assert {data for _, data in sink.sent[COUNT:]} == {b"once"}


def test_a_routers_group_comes_in_steps() -> None:
    group, sink, calls = messages(1), Events(), []
    reader = Steps(read_events, group, sink, Parts(), lambda: calls.append(len(sink.numbers)))
    while reader.go_on():
        pass
    assert sink.numbers == list(range(1, COUNT + 1))
    assert len(calls) >= len(group) // (STEP_BYTES + 30)
    assert max(after - before for before, after in itertools.pairwise(calls)) <= STEP_BYTES // 19


def test_a_bad_record_in_the_middle_is_met_in_its_step() -> None:
    sink = Events()
    reader = Steps(read_events, messages(1) + b"\xff", sink, Parts(), lambda: None)
    with pytest.raises(WireError, match="no router sends a record of type 0xff"):
        all(reader.go_on() for _ in range(COUNT))
    assert len(sink.numbers) == COUNT


# --- at the end of a link ---


class Receiving(Carrier):
    """One whose clock moves with each look, and that hands groups out in steps."""

    def __init__(self) -> None:
        super().__init__()
        self.sink = Events()
        self.drained = 0
        self._on_group = self._group
        self._now = self._look
        self.looks = 0.0

    def _look(self) -> float:
        self.looks += 1.0
        return self.looks

    def _group(self, link: object, group: bytes) -> Callable[[], bool] | None:
        if len(group) <= STEP_BYTES:
            read_events(group, self.sink)  # type: ignore[arg-type]
            return None
        return Steps(read_events, group, self.sink, Parts(), lambda: None).go_on


def sent(*groups: bytes) -> list[bytes]:
    session = Session(1, Incarnation(2), Incarnation(1), 100.0)
    for group in groups:
        session.send(group, 1, 100.0)
    return list(session.take_outgoing())


def test_what_comes_behind_a_long_group_waits_for_its_rest() -> None:
    endpoint = Receiving()
    link = endpoint.to(2)
    long, short = sent(messages(1), messages(COUNT + 1, 1))
    endpoint._deliver(link, long, 0.0, until=endpoint.looks + 3.0)
    taken = len(endpoint.sink.numbers)
    assert 0 < taken < COUNT
    endpoint._deliver(link, short, 0.0, until=0.0)
    assert len(endpoint.sink.numbers) > taken
    assert COUNT + 1 not in endpoint.sink.numbers
    while endpoint._go_on(link, until=0.0):
        pass
    assert endpoint.sink.numbers == list(range(1, COUNT + 2))
    assert not link.rest


@pytest.mark.parametrize("end", ["close", "keep"])
def test_what_has_come_is_handed_out_before_a_link_is_closed(end: str) -> None:
    """The other end takes it for received: it may have acknowledged what led to it."""
    endpoint = Receiving()
    link = endpoint.to(2)
    for batch in sent(messages(1), messages(COUNT + 1)):
        endpoint._deliver(link, batch, 0.0, until=0.0)
    assert len(endpoint.sink.numbers) < COUNT
    if end == "close":
        link.close()
    else:
        endpoint.keep(())
    assert endpoint.sink.numbers == list(range(1, 2 * COUNT + 1))
    assert link.closed


def test_a_link_that_is_closed_in_a_step_gets_no_further() -> None:
    endpoint = Receiving()
    link = endpoint.to(2)

    def close(*_: object) -> None:
        endpoint.sink.numbers.append(1)
        link.close()

    endpoint.sink.message = close  # type: ignore[method-assign]
    batches = sent(messages(1))
    endpoint._deliver(link, batches[0], 0.0)
    assert link.closed
    assert not link.rest
    assert len(endpoint.sink.numbers) <= STEP_BYTES // 19 + 1
