"""The output queues: in turn, in order, in pieces."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from roost.router.clients import output
from roost.router.clients.objects import ObjectEntry
from roost.router.clients.output import PIECE, WRITES_PER_TURN, WRITING_S, Broadcast, Frames, Output
from roost.router.formats.compression import encoder_for
from roost.router.formats.frames import close_frame, data_frame
from roost.router.websocket.connection import Connection
from tests.unit.router.fakes import FakeTransport, World


class Stage:
    """Objects with many clients, and an output that a test drives."""

    def __init__(self) -> None:
        self.world = World()
        self.asked = 0
        self.now = self.look_s = 0.0
        self.output = Output(self._on_work, self._clock)
        self.log: list[tuple[str, int]] = []
        self.names: list[str] = []

    def _on_work(self) -> None:
        self.asked += 1

    def _clock(self) -> float:
        self.now += self.look_s
        return self.now

    def crowd(self, name: str, count: int) -> tuple[ObjectEntry[Any], list[FakeTransport], list[int]]:
        self.names.append(name)
        made = [self.world.connect(name) for _ in range(count)]
        return self.world.entry(name), [transport for _, transport in made], [c.number for c, _ in made]

    def message(self, payload: bytes, numbers: list[int]) -> Broadcast:
        return Broadcast(Frames(payload, False), numbers, self.world.shared.connections.get, self.world.counters)

    def note(self, what: str) -> Callable[[], None]:
        return lambda: self.log.append((what, sum(self.world.entry(name).pending_writes for name in self.names)))

    def run_all(self) -> int:
        turns = 1
        while self.output.run():
            turns += 1
        return turns


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_turn_whose_writes_take_long_ends_before_all_that_it_may_do(stage: Stage) -> None:
    entry, transports, numbers = stage.crowd("a", 1000)
    stage.output.broadcast(entry, stage.message(b"x", numbers))
    stage.look_s = WRITING_S
    assert stage.output.run()
    assert sum(bool(transport.written) for transport in transports) == PIECE
    stage.look_s = WRITING_S / 2
    assert stage.output.run()
    assert sum(bool(transport.written) for transport in transports) == 3 * PIECE
    stage.run_all()
    assert all(transport.take() == data_frame(b"x", False) for transport in transports)


def test_a_broadcast_reaches_everybody_once_in_pieces(stage: Stage) -> None:
    entry, transports, numbers = stage.crowd("a", 1000)
    stage.output.broadcast(entry, stage.message(b"x", numbers))
    assert stage.asked == 1
    assert entry.pending_writes == 1000
    assert stage.output.pending_bytes > 4000
    assert stage.output.run()
    assert sum(bool(transport.written) for transport in transports) == WRITES_PER_TURN
    assert stage.run_all() == -(-1000 // WRITES_PER_TURN) - 1
    assert {transport.take() for transport in transports} == {data_frame(b"x", False)}
    assert (entry.pending_writes, stage.output.pending_bytes) == (0, 0)
    assert entry.output is None


def test_every_client_gets_the_same_bytes_object(stage: Stage) -> None:
    entry, transports, numbers = stage.crowd("a", 100)
    stage.output.broadcast(entry, stage.message(b"x" * 1000, numbers))
    stage.run_all()
    assert len({id(transport.written[0]) for transport in transports}) == 1


def test_nothing_of_an_object_overtakes(stage: Stage) -> None:
    entry, transports, numbers = stage.crowd("a", 300)
    stage.output.broadcast(entry, stage.message(b"1", numbers))
    stage.output.behind(entry, stage.note("between"))
    stage.output.broadcast(entry, stage.message(b"2", numbers[:1]))
    connection = stage.world.shared.connections.get(numbers[0])
    assert connection is not None
    stage.output.behind(entry, partial(connection.object_closed, 1000, "", False))
    stage.output.run()
    assert stage.log == []
    stage.run_all()
    assert stage.log == [("between", 1)]
    assert transports[0].take() == data_frame(b"1", False) + data_frame(b"2", False) + close_frame(1000, "")


def test_what_an_action_causes_queues_behind_it(stage: Stage) -> None:
    entry, _, _ = stage.crowd("a", 1)

    def first() -> None:
        assert entry.output is not None
        stage.output.behind(entry, stage.note("caused"))

    stage.output.behind(entry, first)
    stage.output.behind(entry, stage.note("second"))
    stage.run_all()
    assert [what for what, _ in stage.log] == ["second", "caused"]


def test_objects_take_turns(stage: Stage) -> None:
    big, big_transports, big_numbers = stage.crowd("big", 5000)
    small, small_transports, small_numbers = stage.crowd("small", PIECE)
    stage.output.broadcast(big, stage.message(b"x", big_numbers))
    stage.output.broadcast(small, stage.message(b"y", small_numbers))
    assert stage.asked == 1
    stage.output.run()
    assert all(transport.written for transport in small_transports)
    written = sum(bool(transport.written) for transport in big_transports)
    assert written == WRITES_PER_TURN - PIECE


def test_large_messages_come_in_smaller_pieces(stage: Stage) -> None:
    entry, transports, numbers = stage.crowd("a", 100)
    stage.output.broadcast(entry, stage.message(b"x" * (16 << 10) * 9, numbers))
    stage.output.run()
    assert sum(bool(transport.written) for transport in transports) == pytest.approx(WRITES_PER_TURN / 10, abs=2)
    stage.run_all()
    assert all(len(transport.written) == 1 for transport in transports)
    assert (entry.pending_writes, stage.output.pending_bytes) == (0, 0)


def test_a_message_larger_than_a_turn_still_goes_out(stage: Stage) -> None:
    entry, transports, numbers = stage.crowd("a", 3)
    stage.output.broadcast(entry, stage.message(b"x" * (8 << 20), numbers))
    stage.run_all()
    assert all(len(transport.written) == 1 for transport in transports)


def test_those_that_are_gone_or_closed_are_passed_over(stage: Stage) -> None:
    entry, transports, numbers = stage.crowd("a", 100)
    connections = [stage.world.shared.connections.get(number) for number in numbers]
    stage.output.broadcast(entry, stage.message(b"x", [*numbers, 999_999]))
    gone, closed = connections[98], connections[99]
    assert isinstance(gone, Connection)
    assert isinstance(closed, Connection)
    gone.connection_lost(None)
    closed.object_closed(1000, "", False)
    transports[99].take()
    stage.run_all()
    assert transports[97].written
    assert not transports[98].written
    assert not transports[99].written


def test_compressed_frames_are_made_once_for_each_window(stage: Stage) -> None:
    entry, transports, numbers = stage.crowd("a", 4)
    for number, bits in zip(numbers, (0, 15, 15, 9), strict=True):
        connection = stage.world.shared.connections.get(number)
        assert connection is not None
        connection.encoder = encoder_for(bits) if bits else None
    stage.output.broadcast(entry, stage.message(b"hello", numbers))
    stage.run_all()
    frames = [transport.written[0] for transport in transports]
    assert frames == [
        data_frame(b"hello", False),
        encoder_for(15).frame(b"hello", False),
        encoder_for(15).frame(b"hello", False),
        encoder_for(9).frame(b"hello", False),
    ]
    assert frames[1] is frames[2]


def test_however_much_comes_a_turn_writes_its_share(stage: Stage) -> None:
    """It used to be written out of turn, so that no more than 2^18 writes waited: 28 s of one turn."""
    entry, transports, numbers = stage.crowd("a", 400)
    for _ in range(1000):
        stage.output.broadcast(entry, stage.message(b"x", numbers))
    assert not any(transport.written for transport in transports)
    assert entry.pending_writes == 400_000
    stage.output.run()
    assert sum(len(transport.written) for transport in transports) == WRITES_PER_TURN
    stage.run_all()
    assert all(len(transport.written) == 1000 for transport in transports)
    assert (entry.pending_writes, stage.output.pending_bytes) == (0, 0)


def test_an_object_with_much_to_write_takes_nothing_new_of_its_clients(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "OBJECT_WRITES", 1000)
    entry, _, numbers = stage.crowd("a", 400)
    other, transports, others = stage.crowd("b", 1)
    for count, behind in enumerate((False, False, True), 1):
        stage.output.broadcast(entry, stage.message(b"x", numbers))
        assert (entry.is_behind, entry.is_shut()) == (behind, behind), count
    entry.hold(True)
    entry.hold(False)
    assert entry.is_shut(), "its mailbox is another matter"
    stage.output.broadcast(other, stage.message(b"y", others))
    assert not other.is_shut()
    turns = 0
    while entry.is_shut():
        assert entry.pending_writes > 500
        stage.output.run()
        turns += 1
    assert turns > 1
    assert transports[0].written, "others are written in turn"
    assert entry.pending_writes <= 500


def test_an_object_with_much_to_write_is_told_to_send_no_more(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "OBJECT_WRITES", 1000)
    entry, _, numbers = stage.crowd("a", 400)
    link = stage.world.link
    link.take()
    for _ in range(4):
        stage.output.broadcast(entry, stage.message(b"x", numbers))
    assert link.take() == [("behind", entry.object_id, True)]
    while entry.pending_writes > 700:
        stage.output.run()
    assert link.take() == []
    stage.run_all()
    assert link.take() == [("behind", entry.object_id, False)]


def test_all_together_have_so_much_memory(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "MAX_PENDING_BYTES", 20_000)
    entry, _, numbers = stage.crowd("a", 100)
    stage.output.broadcast(entry, stage.message(b"x" * 18_000, numbers))
    assert not stage.output.is_full
    stage.output.broadcast(entry, stage.message(b"x" * 2_000, numbers))
    assert stage.output.is_full
    stage.run_all()
    assert not stage.output.is_full


def test_work_is_asked_for_again_after_a_rest(stage: Stage) -> None:
    entry, _, numbers = stage.crowd("a", 10)
    for expected in (1, 2):
        stage.output.broadcast(entry, stage.message(b"x", numbers))
        assert stage.asked == expected
        assert not stage.output.run()


def test_an_action_that_fails_does_not_leave_the_object_stuck(stage: Stage) -> None:
    entry, transports, numbers = stage.crowd("a", 50)

    def fail() -> None:
        raise RuntimeError("on purpose")

    stage.output.behind(entry, fail)
    stage.output.broadcast(entry, stage.message(b"x", numbers))
    with pytest.raises(RuntimeError):
        stage.output.run()
    stage.run_all()
    assert all(transport.written for transport in transports)
    assert entry.output is None
