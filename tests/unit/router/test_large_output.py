"""Messages that have come in pieces, on their way to clients: not copied, in order, compressed a step at a time."""

from __future__ import annotations

from array import array

import pytest

from roost.common.limits import SEND_BUFFER_BYTES
from roost.common.wire.records import AcceptMode, Ahead, HttpResponse, Parts, read_output
from roost.router.clients.send_buffers import HIGH_WATER
from roost.router.formats.compression import DEFLATE_STEP, encoder_for
from roost.router.formats.frames import close_frame, data_frame, frame_in_pieces
from tests.unit.router.owners.test_receiving import Rig

KIB, MIB = 1 << 10, 1 << 20


class LargeRig(Rig):
    """Its shard sends ahead what is large."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = Parts()
        self.stream = 0

    def deliver(self) -> None:
        for group in self.writer.take():
            read_output(group, self.receiver, self.parts)

    def ahead(self, data: bytes, piece: int = 256 * KIB) -> Ahead:
        self.stream += 1
        for at in range(0, len(data), piece):
            self.writer.part(self.stream, data[at : at + piece])
        return Ahead(self.stream)

    def send_large(self, numbers: list[int], data: bytes, binary: bool = True) -> None:
        ahead = self.ahead(data)
        self.writer.send_ahead(array("I", numbers), ahead, binary)
        self.deliver()

    def turns(self) -> int:
        count = 1
        while self.output.run():
            count += 1
        return count


@pytest.fixture
def rig() -> LargeRig:
    return LargeRig()


@pytest.mark.parametrize("size", [1, 125, 126, 65_535, 65_536, 3 * MIB + 7])
@pytest.mark.parametrize("binary", [False, True])
def test_a_frame_in_pieces_is_the_frame(size: int, binary: bool) -> None:
    data = b"x" * size
    parts = [memoryview(data)[at : at + 1000] for at in range(0, size, 1000)]
    frame = frame_in_pieces(parts, size, binary)
    assert b"".join(frame) == data_frame(data, binary)
    assert all(one is other for one, other in zip(frame[1:], parts, strict=True))


def test_a_large_message_reaches_each_target_and_its_pieces_are_shared(rig: LargeRig) -> None:
    numbers, transports = rig.crowd(3)
    data = bytes(range(256)) * 8 * KIB
    rig.send_large(numbers, data)
    rig.turns()
    for transport in transports:
        assert b"".join(transport.written) == data_frame(data, True)
        assert transport.high_water == HIGH_WATER
    assert len({id(piece) for transport in transports for piece in transport.written[1:]}) == 8
    assert (rig.world.counters.messages_out, rig.world.counters.bytes_out) == (3, 3 * len(data))
    assert rig.output.pending_bytes == 0


def test_nothing_overtakes_it_and_nothing_comes_between(rig: LargeRig) -> None:
    (first, second), transports = rig.crowd(2)
    rig.send([first, second], b"before")
    rig.send_large([first], b"x" * (2 * MIB))
    rig.send([first, second], b"after")
    rig.writer.close(first, 1000, "bye")
    rig.deliver()
    rig.turns()
    assert b"".join(transports[0].written) == (
        data_frame(b"before", False)
        + data_frame(b"x" * (2 * MIB), True)
        + data_frame(b"after", False)
        + close_frame(1000, "bye")
    )
    assert b"".join(transports[1].written) == data_frame(b"before", False) + data_frame(b"after", False)


def test_one_turn_writes_to_few_and_compresses_little(rig: LargeRig) -> None:
    numbers, transports = rig.crowd(10)
    for number in numbers[5:]:
        connection = rig.world.shared.connections.get(number)
        assert connection is not None
        connection.encoder = encoder_for(15)
    data = b"compressible " * (4 * MIB // 13)
    rig.send_large(numbers, data, False)
    assert rig.turns() >= 5 + len(data) // DEFLATE_STEP
    assert all(b"".join(transport.written) == data_frame(data, False) for transport in transports[:5])
    deflated = {b"".join(transport.written) for transport in transports[5:]}
    assert len(deflated) == 1
    assert len(deflated.pop()) < len(data) // 50
    assert rig.output.pending_bytes == 0


def test_a_client_that_is_slow_becomes_full_and_all_of_it_counts(rig: LargeRig) -> None:
    (number,), (transport,) = rig.crowd(1)
    transport.taken = False
    rig.send_large([number], bytes(6 * MIB))
    rig.turns()
    connection = rig.world.shared.connections.get(number)
    assert connection is not None
    assert connection.full
    assert [record for record in rig.link.take() if record[0] == "room"] == [("room", number, 0)]
    assert rig.world.shared.send_buffers.budget.taken >= 6 * MIB
    transport.drain(SEND_BUFFER_BYTES // 4)
    assert [record for record in rig.link.take() if record[0] == "room"] == [
        ("room", number, SEND_BUFFER_BYTES * 3 // 4)
    ]
    transport.drain()
    assert rig.world.shared.send_buffers.budget.taken == 0


def test_targets_that_are_gone_are_passed_over(rig: LargeRig) -> None:
    numbers, transports = rig.crowd(3)
    rig.send_large([77_777], bytes(MIB))
    gone = rig.world.shared.connections.get(numbers[0])
    assert gone is not None
    gone.connection_lost(None)
    rig.send_large(numbers, bytes(MIB))
    rig.turns()
    assert [sum(map(len, transport.written)) > MIB for transport in transports] == [False, True, True]
    assert rig.world.counters.stale_records == 0
    assert rig.parts.size == 0


def test_the_body_of_a_response_that_nobody_waits_for_is_forgotten(rig: LargeRig) -> None:
    rig.writer.response(HttpResponse(9, 200, AcceptMode.PLAIN, []), rig.ahead(bytes(MIB)))
    rig.deliver()
    assert rig.world.counters.stale_records == 1, "nobody has asked"
    assert rig.parts.size == 0
