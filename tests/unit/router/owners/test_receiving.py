"""What a shard says."""

from __future__ import annotations

import random
import zlib
from array import array

import pytest

from roost.common.cluster.cluster_map import ClusterMap, Member, MemberKind
from roost.common.ids import id_from_name
from roost.common.limits import SLOTS
from roost.common.wire.records import AcceptMode, HttpResponse, OutputWriter, read_output
from roost.router.clients.output import AT_ONCE, WRITES_PER_TURN, Output
from roost.router.formats.compression import DEFLATE_STEP, Encoder, encoder_for
from roost.router.formats.frames import close_frame, data_frame
from roost.router.owners.forwarding import Forwarding
from roost.router.owners.receiving import Receiver
from roost.router.websocket.connection import Connection
from roost.router.websocket.states import State
from tests.support.links import LinkToShard
from tests.unit.router.fakes import NAMESPACE, FakeAsker, FakeTransport, World, accepted, close, state, text


class Rig:
    """A receiver fed with the bytes of a shard's writer."""

    def __init__(self) -> None:
        self.world = World()
        self.link = self.world.link
        self.forwarding = Forwarding(self.world.shared, lambda member: self.link, parked_ticks=600)
        shard = Member("s", MemberKind.SHARD, self.link.remote, "ipc://s", (NAMESPACE,))
        self.forwarding.take_map(ClusterMap(1, {shard.incarnation: shard}, (shard.incarnation,) * SLOTS))
        self.link.take()
        self.output = Output(lambda: None)
        self.receiver = Receiver(self.link, self.world.shared, self.forwarding, self.output)
        self.writer = OutputWriter()

    def deliver(self) -> None:
        for group in self.writer.take():
            read_output(group, self.receiver)

    def send(self, numbers: list[int], data: bytes = b"hi", binary: bool = False) -> None:
        self.writer.send(array("I", numbers), data, binary)
        self.deliver()

    def crowd(self, count: int) -> tuple[list[int], list[FakeTransport]]:
        made = [self.world.connect() for _ in range(count)]
        return [connection.number for connection, _ in made], [transport for _, transport in made]

    def acknowledge(self, number: int, first: int, last: int) -> None:
        self.writer.acknowledge(array("I", [number]), array("Q", [first]), array("Q", [last]))
        self.deliver()

    def ask(self, upgrade: bool = False) -> tuple[int, FakeAsker, Connection | None]:
        asker = FakeAsker()
        self.request = request = self.forwarding.desk.ask(
            asker,
            namespace=NAMESPACE,
            name="lobby",
            method="GET",
            url="http://h/",
            headers=(),
            body=b"",
            upgrade=upgrade,
        )
        self.link.take()
        return request.record.request, asker, request.connection

    def answer(self, response: HttpResponse) -> None:
        self.writer.response(response)
        self.deliver()


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_send_to_one_is_written_at_once(rig: Rig) -> None:
    connection, transport = rig.world.connect()
    rig.send([connection.number])
    rig.send([connection.number], b"\xff", True)
    assert transport.take() == data_frame(b"hi", False) + data_frame(b"\xff", True)
    assert (rig.world.counters.messages_out, rig.world.counters.bytes_out) == (2, 3)


def test_a_send_to_a_few_is_written_at_once(rig: Rig) -> None:
    numbers, transports = rig.crowd(AT_ONCE)
    rig.send(numbers)
    assert all(transport.take() == data_frame(b"hi", False) for transport in transports)
    assert rig.world.counters.messages_out == AT_ONCE


def test_a_send_to_many_waits_for_its_turn_and_what_follows_behind_it(rig: Rig) -> None:
    numbers, transports = rig.crowd(AT_ONCE + 1)
    rig.send(numbers, b"1")
    rig.send(numbers[:1], b"2")
    rig.writer.close(numbers[0], 4000, "bye")
    rig.deliver()
    assert not any(transport.written for transport in transports)
    assert not rig.output.run()
    assert transports[0].take() == data_frame(b"1", False) + data_frame(b"2", False) + close_frame(4000, "bye")
    assert all(transport.take() == data_frame(b"1", False) for transport in transports[1:])
    rig.send(numbers[1:2], b"3")
    assert transports[1].take() == data_frame(b"3", False)


def test_the_closes_of_a_large_object_that_was_reset_come_in_turn(rig: Rig) -> None:
    count = 3 * WRITES_PER_TURN
    numbers, transports = rig.crowd(count)
    rig.send([numbers[0]], b"last words")
    for number in numbers:
        rig.writer.close(number, 1011, "reset", True)
    rig.deliver()
    assert not any(transport.eof for transport in transports)
    turns = []
    more = True
    while more:
        more = rig.output.run()
        turns.append(sum(transport.eof for transport in transports))
    assert turns == [WRITES_PER_TURN, 2 * WRITES_PER_TURN, count]
    assert transports[0].take() == data_frame(b"last words", False) + close_frame(1011, "reset")


def test_what_is_not_written_is_not_counted(rig: Rig) -> None:
    """To a client that is gone or closed, or behind a broadcast that is still being written."""
    numbers, _ = rig.crowd(AT_ONCE + 2)
    for number in numbers[:2]:
        connection = rig.world.shared.connections.get(number)
        assert connection is not None
        connection.close(4000, "bye")
    counters = rig.world.counters
    rig.send(numbers[:1])
    assert counters.messages_out == 0
    rig.send(numbers, b"12345")
    rig.send(numbers[2:3], b"1")
    assert (counters.messages_out, counters.bytes_out) == (0, 0)
    while rig.output.run():
        pass
    assert (counters.messages_out, counters.bytes_out) == (AT_ONCE + 1, 5 * AT_ONCE + 1)


def test_another_object_is_not_held_up(rig: Rig) -> None:
    numbers, _ = rig.crowd(AT_ONCE + 1)
    other, transport = rig.world.connect("other")
    rig.send(numbers)
    rig.send([other.number])
    assert transport.take() == data_frame(b"hi", False)


def test_sends_to_clients_that_compress(rig: Rig) -> None:
    connection, transport = rig.world.connect()
    connection.encoder = encoder_for(12)
    rig.send([connection.number])
    assert transport.take() == encoder_for(12).frame(b"hi", False)


def test_what_is_long_to_compress_is_compressed_in_steps_and_nothing_overtakes_it(rig: Rig) -> None:
    numbers, transports = rig.crowd(2)
    for number in numbers:
        connection = rig.world.shared.connections.get(number)
        assert connection is not None
        connection.encoder = encoder_for(15)
    data = b"x" * (3 * DEFLATE_STEP)
    rig.send(numbers, data)
    rig.send(numbers, b"behind it")
    assert rig.output.pending_bytes > len(data), "it has no other bound"
    turns = 1
    while rig.output.run():
        turns += 1
    assert turns >= 3
    assert rig.output.pending_bytes == 0
    for transport in transports:
        assert inflated(transport.take(), zlib.decompressobj(wbits=-15)) == data + b"behind it"


def test_what_is_long_and_not_compressed_is_written_at_once(rig: Rig) -> None:
    numbers, transports = rig.crowd(2)
    data = b"x" * (2 * DEFLATE_STEP)
    rig.send(numbers, data)
    assert [transport.take() for transport in transports] == [data_frame(data, False)] * 2


class Keeper(Encoder):
    """The encoder of one client that keeps the context of what it was sent before."""

    def __init__(self, window_bits: int) -> None:
        super().__init__(window_bits)
        self._kept = super()._deflate()

    def _deflate(self) -> zlib._Compress:
        return self._kept


def inflated(data: bytes, inflate: zlib._Decompress) -> bytes:
    """The messages of compressed frames, one behind the other."""
    messages, at = b"", 0
    while at < len(data):
        assert data[at] & 0xC0 == 0xC0
        length, at = data[at + 1], at + 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        messages += inflate.decompress(data[at : at + length] + b"\0\0\xff\xff")
        at += length
    return messages


def test_an_encoder_may_keep_the_context_of_one_client(rig: Rig) -> None:
    """It is asked for each message to that client once, in the order in which they are written."""
    numbers, transports = rig.crowd(AT_ONCE + 1)
    connection = rig.world.shared.connections.get(numbers[0])
    assert connection is not None
    connection.encoder = Keeper(15)
    payload = random.Random(1).randbytes(1000)
    messages = [(numbers[:1], payload), (numbers, payload), (numbers[:2], payload * 100), (numbers[:1], payload)]
    for targets, message in messages:
        rig.send(targets, message)
    while rig.output.run():
        pass
    written = transports[0].take()
    assert inflated(written, zlib.decompressobj(wbits=-15)) == b"".join(message for _, message in messages)
    assert len(written) < 3 * len(payload), "it has seen that before"
    assert transports[1].take() == data_frame(payload, False) + data_frame(payload * 100, False)


def test_what_comes_for_the_gone_is_dropped_and_counted(rig: Rig) -> None:
    connection, transport = rig.world.connect()
    rig.send([77])
    rig.send([77, 78])
    rig.writer.close(77, 1000, "")
    rig.writer.attachment(77, b"x")
    rig.writer.object_state(state(id_from_name(NAMESPACE, "gone")))
    rig.writer.response(HttpResponse(99, 200, AcceptMode.PLAIN, ()))
    rig.deliver()
    rig.acknowledge(77, 1, 1)
    assert rig.world.counters.stale_records >= 5
    rig.send([77, connection.number])
    assert transport.take() == data_frame(b"hi", False)


def test_a_shard_that_does_not_own_an_object_is_not_believed(rig: Rig) -> None:
    connection, transport = rig.world.connect()
    connection.data_received(text("kept"))
    rig.world.entry().link = LinkToShard(99)
    rig.send([connection.number])
    rig.send([connection.number] * 2)
    rig.writer.close(connection.number, 1000, "")
    rig.writer.attachment(connection.number, b"forged")
    rig.writer.auto_response_times([connection.number], [1.5])
    rig.writer.object_state(state(connection.entry.object_id))
    rig.deliver()
    rig.acknowledge(connection.number, 1, 1)
    assert transport.take() == b""
    assert connection.state is State.OPEN
    assert connection.attachment is None
    assert connection.passport().auto_response_time is None
    assert connection.entry.state is None
    assert len(connection.window.events) == 1
    assert rig.world.counters.stale_records == 7


def test_acknowledgements_empty_the_window(rig: Rig) -> None:
    connection, _ = rig.world.connect()
    connection.data_received(text("a") + text("b") + text("c"))
    rig.acknowledge(connection.number, 2, 3)
    assert list(connection.window.events) == [1]
    rig.acknowledge(connection.number, 1, 1)
    assert rig.world.counters.window_bytes == 0


def test_the_end_of_a_close_handler_echoes_the_close(rig: Rig) -> None:
    connection, transport = rig.world.connect()
    connection.data_received(close(4001, "x"))
    rig.acknowledge(connection.number, 1, 1)
    assert transport.take() == close_frame(4001, "x")


def test_an_objects_own_close_that_queues_comes_before_the_echo(rig: Rig) -> None:
    numbers, transports = rig.crowd(AT_ONCE + 1)
    connection = rig.world.shared.connections.get(numbers[0])
    assert connection is not None
    connection.data_received(close(4001, "x"))
    rig.send(numbers)
    rig.writer.close(numbers[0], 3000, "mine")
    rig.deliver()
    rig.acknowledge(numbers[0], 1, 1)
    rig.output.run()
    assert transports[0].take() == data_frame(b"hi", False) + close_frame(3000, "mine")


def test_a_reset(rig: Rig) -> None:
    connection, transport = rig.world.connect()
    rig.writer.close(connection.number, 1011, "reset", True)
    rig.deliver()
    assert transport.take() == close_frame(1011, "reset")
    assert not connection.known


def test_attachments_and_state_are_kept(rig: Rig) -> None:
    connection, transport = rig.world.connect()
    rig.writer.attachment(connection.number, b"\x01")
    rig.writer.object_state(state(connection.entry.object_id))
    rig.deliver()
    assert connection.passport().attachment == b"\x01"
    connection.data_received(text("ping"))
    assert transport.take() == data_frame(b"pong", False)


def test_the_passport_has_the_time_of_an_automatic_response_that_the_shard_gave(rig: Rig) -> None:
    connection, _ = rig.world.connect()
    rig.writer.auto_response_times([connection.number, 77], [12.5, 13.5])
    rig.deliver()
    assert connection.passport().auto_response_time == 12.5
    assert rig.world.counters.stale_records == 1
    rig.writer.auto_response_times([connection.number], [11.5])
    rig.deliver()
    assert connection.passport().auto_response_time == 12.5, "the latest"


def test_an_ordinary_answer(rig: Rig) -> None:
    number, asker, _ = rig.ask()
    response = HttpResponse(number, 200, AcceptMode.PLAIN, [(b"a", b"b")], b"body")
    rig.answer(response)
    rig.answer(response)
    assert asker.got == [("answered", response)]


def test_an_ordinary_answer_to_an_upgrade(rig: Rig) -> None:
    number, asker, connection = rig.ask(upgrade=True)
    rig.answer(HttpResponse(number, 403, AcceptMode.PLAIN, ()))
    assert asker.got[0][0] == "answered"
    assert connection is not None
    assert connection.state is State.GONE


def test_an_accepted_upgrade(rig: Rig) -> None:
    number, asker, connection = rig.ask(upgrade=True)
    rig.answer(accepted(request=number, ordinal=4, tags=("t",), attachment=b"a"))
    assert asker.got[0][:2] == ("upgraded", connection)
    assert connection is not None
    assert connection.state is State.OPEN
    assert connection.passport().tags == ("t",)


def test_an_upgrade_whose_client_is_gone(rig: Rig) -> None:
    number, _, connection = rig.ask(upgrade=True)
    rig.forwarding.desk.abandon(rig.request)
    rig.answer(accepted(request=number))
    assert rig.link.take()[0][:5] == ("closed", 1, 1, 0, 1006)
    assert connection is not None
    assert connection.state is State.GHOST


def test_the_answer_to_a_client_that_is_gone_is_dropped(rig: Rig) -> None:
    number, asker, _ = rig.ask()
    rig.forwarding.desk.abandon(rig.request)
    rig.answer(HttpResponse(number, 200, AcceptMode.PLAIN, ()))
    assert asker.got == []


def test_a_websocket_that_nobody_asked_for(rig: Rig) -> None:
    number, asker, _ = rig.ask()
    rig.answer(accepted(request=number))
    assert asker.got[0][:2] == ("failed", 500)


def test_an_answer_queues_behind_the_objects_output(rig: Rig) -> None:
    numbers, _ = rig.crowd(AT_ONCE + 1)
    number, asker, connection = rig.ask(upgrade=True)
    assert connection is not None
    rig.send(numbers)
    rig.writer.response(accepted(request=number))
    rig.writer.send(array("I", [connection.number]), b"welcome", False)
    rig.deliver()
    assert asker.got == []
    rig.output.run()
    assert asker.got[0][0] == "upgraded"
    assert asker.transport.take() == data_frame(b"welcome", False)


def test_holds(rig: Rig) -> None:
    entry = rig.world.entry()
    rig.writer.hold(entry.object_id, True)
    rig.deliver()
    assert entry.held
    rig.writer.hold(entry.object_id, False)
    rig.deliver()
    assert not entry.held


def test_acknowledgements_that_relieve_the_bound_of_all_windows_let_the_stopped_go_on(rig: Rig) -> None:
    (one, two), (_, paused) = rig.crowd(2)
    shared = rig.world.shared
    first = shared.connections.get(one)
    second = shared.connections.get(two)
    assert first is not None
    assert second is not None
    first.data_received(text("a"))
    shared.window_bytes.taken += 2 * shared.window_bytes.half  # of others
    second.data_received(text("waits" * 1000))
    assert paused.paused
    rig.acknowledge(one, 1, 1)
    assert paused.paused, "not even half is free"
    shared.window_bytes.taken -= 2 * shared.window_bytes.half
    rig.acknowledge(one, 2, 2)
    rig.world.run()
    assert not paused.paused
    assert rig.link.take()[-1] == ("message", two, 1, 0, "waits" * 1000)
