"""When links flush, with an endpoint that only notes what it transmits."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from roost.common.ids import Incarnation
from roost.common.machine.counters import Counters
from roost.common.wire.endpoint import ALONE_S, ALONE_TURNS, Endpoint, Link, Wiring
from roost.common.wire.records import TO_SHARD, Dialect, EventWriter
from roost.common.wire.session import MAX_GROUP_BYTES, Flag, Session


class Loop:
    """Keeps what is planned until the test says that the turn is over."""

    def __init__(self) -> None:
        self.soon: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def call_soon(self, call: Callable[..., object], *arguments: object) -> None:
        self.soon.append((call, arguments))

    def call_later(self, seconds: float, call: Callable[..., object], *, context: object) -> None:
        pass

    def turn(self) -> None:
        soon, self.soon = self.soon, []
        for call, arguments in soon:
            call(*arguments)


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time


class Noting(Endpoint):
    def __init__(self) -> None:
        self.loop, self.clock = Loop(), Clock()
        self.failed: list[Link[EventWriter]] = []
        super().__init__(
            Wiring(
                loop=self.loop,  # type: ignore[arg-type]
                cluster_id=1,
                local=Incarnation(1),
                clock=self.clock,
                on_group=lambda link, group: None,
                counters=Counters(),
                on_failed=lambda link, error: self.failed.append(link),
            )
        )
        self.batches = 0

    def link(self, dialect: Dialect[EventWriter] = TO_SHARD) -> Link[EventWriter]:
        return self._new_link(Incarnation(2), dialect)

    def _transmit(self, link: Link[EventWriter]) -> None:
        self.batches += len(link.session.take_outgoing())

    def _detach(self, link: Link[EventWriter]) -> None:
        pass

    async def _close_sockets(self) -> None:
        pass


@pytest.fixture
def endpoint() -> Noting:
    return Noting()


def say(link: Link[EventWriter]) -> None:
    link.writer.message(1, 1, 0, b"hello", False)
    link.flush_message()


def alone(endpoint: Noting, link: Link[EventWriter]) -> None:
    """Turns with one message each."""
    for _ in range(ALONE_TURNS):
        say(link)
        assert endpoint.loop.soon, "not yet taken to be alone"
        endpoint.loop.turn()
    endpoint.batches = 0


def test_messages_of_one_turn_leave_together_at_its_end(endpoint: Noting) -> None:
    link = endpoint.link()
    for _ in range(3):
        say(link)
    assert endpoint.batches == 0
    endpoint.loop.turn()
    assert endpoint.batches == 1


def test_what_is_planned_may_leave_before_the_rest_of_a_turn_and_what_comes_then_leaves_as_well(
    endpoint: Noting,
) -> None:
    link = endpoint.link()
    endpoint.flush_planned()
    assert endpoint.batches == 0
    say(link)
    endpoint.flush_planned()
    assert endpoint.batches == 1
    say(link)
    endpoint.loop.turn()
    assert endpoint.batches == 2
    endpoint.loop.turn()
    assert endpoint.batches == 2


def test_a_message_leaves_at_once_when_the_last_turns_had_one_each(endpoint: Noting) -> None:
    link = endpoint.link()
    alone(endpoint, link)
    for batches in (1, 2, 3):
        endpoint.clock.time += 2 * ALONE_S
        say(link)
        assert endpoint.batches == batches
        assert endpoint.loop.soon == []


def test_messages_that_come_together_after_one_alone_wait_for_each_other_again(endpoint: Noting) -> None:
    link = endpoint.link()
    alone(endpoint, link)
    endpoint.clock.time += 2 * ALONE_S
    for _ in range(5):
        say(link)  # the first leaves; the second comes too soon behind it to be alone
        endpoint.clock.time += ALONE_S / 4
    assert endpoint.batches == 1
    endpoint.loop.turn()
    assert endpoint.batches == 2
    endpoint.clock.time += 1.0
    say(link)
    say(link)
    assert endpoint.batches == 2, "the last turn had several"


def test_other_records_always_wait_for_the_end_of_the_turn(endpoint: Noting) -> None:
    """What goes along with a new map is written before the links are told of it."""
    link = endpoint.link()
    alone(endpoint, link)
    endpoint.clock.time += 1.0
    link.writer.closed(1, 2, 0, 1000, "", True)
    link.flush_soon()
    say(link)
    assert endpoint.batches == 0
    endpoint.loop.turn()
    assert endpoint.batches == 1


def test_a_link_that_fails_is_closed_at_once_and_reported_in_a_turn_of_its_own(endpoint: Noting) -> None:
    link = endpoint.link()
    link.writer.message(1, 1, 0, bytes(MAX_GROUP_BYTES), True)
    link.flush()
    assert link.closed
    assert endpoint.failed == [], "whoever writes may be in the middle of something"
    endpoint.loop.turn()
    assert endpoint.failed == [link]


def test_whoever_delivers_hears_of_the_end_of_each_run(endpoint: Noting) -> None:
    runs = []
    endpoint.on_drained = lambda: runs.append(1)
    endpoint.link(replace(TO_SHARD, waits_for_maps=True))
    endpoint.map_version = 5
    endpoint.loop.turn()
    assert runs == [1], "what had waited for the map"


def test_where_the_dialect_says_so_a_batch_waits_for_the_map_that_it_names(endpoint: Noting) -> None:
    """Of two links of one process one may wait and the other not."""
    heard: list[tuple[int, bytes]] = []
    endpoint._on_group = lambda link, group: heard.append((link.remote, group))
    waits = endpoint._new_link(Incarnation(3), replace(TO_SHARD, waits_for_maps=True))
    for link in (endpoint.link(), waits):
        other = Session(1, link.remote, Incarnation(1), 0.0)
        other.send(b"a group", 7, 0.0)
        for batch in other.take_outgoing():
            endpoint._deliver(link, batch, 0.0)
    assert heard == [(2, b"a group")]
    endpoint.map_version = 6
    endpoint.loop.turn()
    assert len(heard) == 1
    endpoint.map_version = 7
    endpoint.loop.turn()
    assert heard == [(2, b"a group"), (3, b"a group")]


class Carrier(Noting):
    """Its links are two; what is transmitted fails where the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.failing: set[int] = set()
        self.out: list[tuple[int, int]] = []

    def to(self, remote: int) -> Link[EventWriter]:
        return self._new_link(Incarnation(remote), TO_SHARD)

    def _transmit(self, link: Link[EventWriter]) -> None:
        batches = link.session.take_outgoing()
        if link.remote in self.failing:
            raise OSError("a bad descriptor")
        self.out += [(link.remote, struct.unpack_from("<I", batch, 44)[0]) for batch in batches]


def test_a_flush_that_fails_silences_no_other_link(caplog: pytest.LogCaptureFixture) -> None:
    endpoint = Carrier()
    first, second = endpoint.to(2), endpoint.to(3)
    endpoint.failing = {2}
    for link in (first, second):
        link.writer.message(1, 1, 0, b"x", True)
        link.flush_soon()
    endpoint.loop.turn()
    assert endpoint.out == [(3, 0)]
    assert "a bad descriptor" in caplog.text
    assert (first.closed, second.closed) == (True, False)
    second.writer.message(1, 2, 0, b"x", True)
    second.flush_soon()
    endpoint.loop.turn()
    assert endpoint.out == [(3, 0), (3, 0)], "it can be planned again"
    endpoint.clock.time += 10
    endpoint._tick()
    assert (3, Flag.PROBE) in endpoint.out, "the clock goes on for the others"
    assert endpoint.failed == [first]


def test_a_group_that_is_not_sent_gives_its_link_up(caplog: pytest.LogCaptureFixture) -> None:
    endpoint = Carrier()
    link, other = endpoint.to(2), endpoint.to(3)
    for each in (link, other):
        each.writer.message(1, 1, 0, b"x", True)
        each.flush_soon()
    with mock.patch.object(link.session.__class__, "send", side_effect=[MemoryError, None]):
        endpoint.loop.turn()
    assert link.closed
    assert endpoint.out[0] == (2, Flag.GAVE_UP)
    assert not other.closed


def test_a_link_that_was_given_up_tells_the_other_end_until_that_is_gone() -> None:
    endpoint = Carrier()
    link = endpoint.to(2)
    shard = Session(1, Incarnation(2), Incarnation(1), 100.0)
    endpoint._on_group = mock.Mock(side_effect=KeyError("a bug of ours"))
    shard.send(b"output", 1, 100.0)
    shard.send(b"more", 1, 100.0)
    first, second = shard.take_outgoing()
    endpoint._deliver(link, first, 100.0)
    assert (link.closed, endpoint.out) == (True, [(2, Flag.GAVE_UP)])
    link.writer.message(1, 1, 0, b"x", True)
    link.flush()
    assert len(endpoint.out) == 1, "nothing else goes there"
    endpoint._deliver(link, second, 100.1)
    assert endpoint.out == [(2, Flag.GAVE_UP)] * 2
    link.close()
    endpoint._deliver(link, first, 100.1)
    assert endpoint.out == [(2, Flag.GAVE_UP)] * 3, "also after its owner has dealt with it"
    endpoint.clock.time += 1
    endpoint._tick()
    assert endpoint.out == [(2, Flag.GAVE_UP)] * 4
    endpoint.loop.turn()
    assert endpoint.failed == [link]
    endpoint.keep(())
    assert not endpoint._links
    endpoint.clock.time += 1
    endpoint._tick()
    assert len(endpoint.out) == 4


def test_an_end_that_hears_of_it_gives_up_too() -> None:
    endpoint = Carrier()
    link = endpoint.to(2)
    router = Session(1, Incarnation(2), Incarnation(1), 100.0)
    router.give_up(100.0)
    (said,) = router.take_outgoing()
    endpoint._deliver(link, said, 100.0)
    endpoint.loop.turn()
    assert endpoint.failed == [link]
    assert endpoint._counters.wire_garbage == 0
    assert endpoint._counters.links_failed == 1


def test_where_an_error_of_ours_ends_the_process_it_does_so_before_anything_else_happens() -> None:
    """At a shard: the output that was not sent counts nowhere, so that a later acknowledgement would be too early."""
    ends: list[Exception] = []
    for broken in ("send", "tick"):
        endpoint = Carrier()
        endpoint._on_defect = ends.append
        link = endpoint.to(2)
        link.writer.message(1, 1, 0, b"x", True)
        endpoint.clock.time += 1
        with mock.patch.object(Session, broken, mock.Mock(side_effect=MemoryError(broken))):
            link.flush()
            endpoint._tick()
        assert [str(error) for error in ends] == [broken]
        assert link.closed
        ends.clear()
