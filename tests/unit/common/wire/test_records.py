"""The layout as it is drawn at the top of the module, byte by byte, and the cutting into groups."""

from __future__ import annotations

import struct
from array import array
from typing import Any

import pytest

from roost.common.errors import WireError
from roost.common.ids import ObjectId
from roost.common.limits import MAX_BATCH_BYTES
from roost.common.wire.records import (
    AcceptMode,
    Ahead,
    EventWriter,
    Form,
    HttpRequest,
    HttpResponse,
    ObjectState,
    OutputWriter,
    Parts,
    Passport,
    Pieces,
    read_events,
    read_output,
)
from roost.common.wire.records import parts as parts_module

ID = ObjectId(bytes(range(32)))


class Sends:
    """A sink for SEND alone: the test has no other record in its groups."""

    def __init__(self) -> None:
        self.seen: list[tuple[list[int], bytes, bool]] = []

    def send(self, connections: Any, data: bytes, binary: bool) -> None:
        self.seen.append((list(connections), data, binary))

    def send_pieces(self, connections: Any, data: Pieces, binary: bool) -> None:
        self.send(connections, data.join(), binary)


class Messages:
    def __init__(self) -> None:
        self.seen: list[tuple[int, int, int, str | bytes]] = []

    def message(self, connection: int, seq: int, deliveries: int, data: str | bytes) -> None:
        self.seen.append((connection, seq, deliveries, data))


def test_the_layout_of_events() -> None:
    writer = EventWriter()
    writer.message(7, 9, 2, b"hi", False)
    writer.closed(7, 10, 0, 1006, "gone", False)
    writer.failed(8, 1, 0, 1002, "bad")
    writer.auto_response_times([7, 8], [1.5, 2.5])
    writer.restored(3, [0, 4095])
    assert writer.take() == [
        b"\x01\0\x02" + struct.pack("<IQI", 7, 9, 2) + b"hi"
        b"\x02\0\0" + struct.pack("<IQHH", 7, 10, 1006, 4) + b"gone"
        b"\x03\0\0" + struct.pack("<IQHH", 8, 1, 1002, 3) + b"bad"
        b"\x61"
        + struct.pack("<III", 2, 7, 8)
        + struct.pack("<dd", 1.5, 2.5)
        + b"\x07"
        + struct.pack("<IHHH", 3, 2, 0, 4095)
    ]


def test_the_layout_of_a_request() -> None:
    writer = EventWriter()
    writer.request(HttpRequest(5, 6, ID, "n", "name", "GET", "http://h/n/name", [(b"a", b"bc")], b"body"))
    assert writer.take() == [
        b"\x04" + struct.pack("<II", 5, 6) + ID + b"\x01\0n\x04\0name\x03\0GET\x0f\0\0\0http://h/n/name"
        b"\x01\0\x01\0a\x02\0\0\0bc\x04\0\0\0body"
    ]


def test_the_layout_of_a_passport() -> None:
    writer = EventWriter()
    writer.restore(Passport(1, True, True, 2, 3, 4.5, ID, "n", "", "u", "p", ("x", "y"), b"att"))
    writer.restore(Passport(1, False, False, 2, 3, None, ID, "n", "", "u", "", (), None))
    assert writer.take() == [
        b"\x06" + struct.pack("<IBQQd", 1, 0b111, 2, 3, 4.5) + ID + b"\x01\0n\0\0\x01\0\0\0u\x01\0p\x02\x01\0x\x01\0y"
        b"\x03\0att"
        b"\x06" + struct.pack("<IBQQd", 1, 0, 2, 3, 0.0) + ID + b"\x01\0n\0\0\x01\0\0\0u\0\0\0\xff\xff"
    ]


def test_the_layout_of_room() -> None:
    writer = EventWriter()
    writer.room(7, 9)
    writer.room(7, 1 << 40)
    assert writer.take() == [
        b"\x08\0" + struct.pack("<II", 7, 9) + b"\x08\0" + struct.pack("<II", 7, 0xFFFFFFFF),
    ]


def test_the_layout_of_what_goes_ahead() -> None:
    output = OutputWriter()
    output.cut(4)
    output.part(7, memoryview(b"-ab-")[1:3])
    output.part(8, b"\xc3\xbcx", Form.LATIN, 2)
    output.part(7, b"")
    output.send_ahead(array("I", [1, 2]), Ahead(7), True)
    output.response(HttpResponse(1, 200, AcceptMode.PLAIN, [], b"not this"), Ahead(8))
    events = EventWriter()
    events.message_ahead(7, 9, 2, Ahead(5), False)
    events.request(HttpRequest(5, 6, ID, "", "", "", "", [], b"not this"), Ahead(9))
    assert output.take() == [
        b"\x4a\0" + struct.pack("<I", 4),
        b"\x62" + struct.pack("<IBII", 7, 0, 0, 2) + b"ab",
        b"\x62" + struct.pack("<IBII", 8, 2, 2, 3) + b"\xc3\xbcx",
        b"\x62" + struct.pack("<IBII", 7, 0, 0, 0),
        b"\x4b\x01" + struct.pack("<IIII", 2, 7, 1, 2) + b"\x46" + struct.pack("<IHBHII", 1, 200, 0, 0, 0xFFFFFFFF, 8),
    ]
    assert events.take() == [
        b"\x09\0\x02"
        + struct.pack("<IQI", 7, 9, 5)
        + b"\x04"
        + struct.pack("<II", 5, 6)
        + ID
        + bytes(6 + 4 + 2)
        + struct.pack("<II", 0xFFFFFFFF, 9)
    ]


def test_a_payload_that_has_come_ahead_is_whole_in_its_record() -> None:
    class Sink(Messages):
        def send_pieces(self, connections: Any, data: Pieces, binary: bool) -> None:
            self.seen.append((list(connections), len(data), data.join(), binary))  # type: ignore[arg-type]

        def request(self, request: HttpRequest) -> None:
            self.seen.append(request.body)  # type: ignore[arg-type]

        def response(self, response: HttpResponse) -> None:
            assert isinstance(response.body, Pieces)
            self.seen.append(response.body.join())  # type: ignore[arg-type]

        send = None

    parts, sink = Parts(), Sink()
    events, output = EventWriter(), OutputWriter()
    for stream, data in ((1, "grüß".encode()), (2, b"body"), (3, b"binary")):
        for at in range(len(data)):  # also inside a character
            events.part(stream, data[at : at + 1])
            output.part(stream, data[at : at + 1])
    events.message_ahead(7, 9, 2, Ahead(1), False)
    events.message_ahead(7, 10, 0, Ahead(3), True)
    events.request(HttpRequest(5, 0, ID, "", "", "", "", [], b""), Ahead(2))
    for group in events.take():
        read_events(group, sink, parts)  # type: ignore[arg-type]
    assert sink.seen == [(7, 9, 2, "grüß"), (7, 10, 0, b"binary"), b"body"]
    assert (len(parts), parts.size) == (0, 0)
    sink.seen.clear()
    output.send_ahead(array("I", [1, 2]), Ahead(3), True)
    output.response(HttpResponse(5, 200, AcceptMode.PLAIN, []), Ahead(2))
    output.part(1, b"")
    for group in output.take():
        read_output(group, sink, parts)  # type: ignore[arg-type]
    assert sink.seen == [([1, 2], 6, b"binary", True), b"body"]
    assert (len(parts), parts.size) == (0, 0)


def test_a_record_whose_payload_has_not_come_is_a_wire_error() -> None:
    output, events = OutputWriter(), EventWriter()
    output.send_ahead(array("I", [1]), Ahead(3), True)
    events.message_ahead(1, 1, 0, Ahead(3), True)
    with pytest.raises(WireError, match="stream 3"):
        read_output(output.take()[0], Sends())  # type: ignore[arg-type]
    with pytest.raises(WireError, match="stream 3"):
        read_events(events.take()[0], Messages(), Parts())  # type: ignore[arg-type]


def test_whoever_lets_go_of_pieces_is_told_of_each() -> None:
    watched: list[memoryview] = []
    parts, pieces = Parts(watched.append), [memoryview(b"one"), memoryview(b"two")]
    for piece in pieces:
        parts.add(1, piece)
    parts.add(2, memoryview(b""))
    assert [id(piece) for piece in watched] == [id(piece) for piece in pieces], "the very views that are passed on"
    assert parts.take(1).parts == pieces


def test_payloads_whose_records_do_not_come_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts_module, "MAX_PARTS_BYTES", 10)
    parts = Parts()
    parts.add(1, memoryview(bytes(6)))
    parts.add(2, memoryview(bytes(4)))
    parts.add(1, memoryview(b""))
    parts.add(9, memoryview(b""))
    parts.add(2, memoryview(bytes(6)))
    with pytest.raises(WireError, match="11 bytes"):
        parts.add(3, memoryview(b"x"))


def test_the_layout_of_output() -> None:
    writer = OutputWriter()
    writer.send(array("I", [1, 2]), b"xy", True)
    writer.send(array("I", [3]), b"xy", True)
    writer.acknowledge(array("I", [1]), array("Q", [2]), array("Q", [5]))
    writer.close(1, 1005, "", True)
    writer.attachment(1, b"a")
    writer.hold(ID, True)
    writer.released(9, [1], [6], [7])
    writer.owed(3, True)
    writer.cut(4)
    writer.object_state(ObjectState(ID, 4, 1000, ("ping", "pong")))
    writer.object_state(ObjectState(ID, 5, 0, None))
    assert writer.take() == [
        b"\x41\x01"
        + struct.pack("<II", 2, 2)
        + b"xy"
        + struct.pack("<II", 1, 2)
        + b"\x42"
        + struct.pack("<III", 0, 1, 3)
        + b"\x43"
        + struct.pack("<IIQQ", 1, 1, 2, 5)
        + b"\x44\x01"
        + struct.pack("<IHH", 1, 1005, 0)
        + b"\x45"
        + struct.pack("<IH", 1, 1)
        + b"a"
        b"\x47\x01"
        + ID
        + b"\x48"
        + struct.pack("<IHHIIQ", 9, 1, 1, 1, 6, 7)
        + b"\x49\x01"
        + struct.pack("<I", 3)
        + b"\x4a\0"
        + struct.pack("<I", 4)
        + b"\x60"
        + ID
        + struct.pack("<QIB", 4, 1000, 1)
        + b"\x04\0ping\x04\0pong"
        b"\x60" + ID + struct.pack("<QIB", 5, 0, 0) + b"\0\0\0\0"
    ]


def test_the_layout_of_responses() -> None:
    writer = OutputWriter()
    writer.response(HttpResponse(1, 200, AcceptMode.PLAIN, [(b"a", b"b")], b"body"))
    writer.response(HttpResponse(2, 101, AcceptMode.HIBERNATABLE, [], b"", 7, ("t",), None))
    assert writer.take() == [
        b"\x46" + struct.pack("<IHB", 1, 200, 0) + b"\x01\0\x01\0a\x01\0\0\0b\x04\0\0\0body"
        b"\x46" + struct.pack("<IHB", 2, 101, 1) + b"\0\0\0\0\0\0" + struct.pack("<Q", 7) + b"\x01\x01\0t\xff\xff"
    ]


def test_a_group_ends_at_the_first_record_past_the_limit() -> None:
    writer = EventWriter()
    payload = bytes(1000)
    for seq in range(1000):
        writer.message(1, seq, 0, payload, True)
    assert writer.size == 1000 * 1019
    groups = writer.take()
    assert len(groups) == 4
    for group in groups[:-1]:
        assert MAX_BATCH_BYTES <= len(group) < MAX_BATCH_BYTES + 1019
    assert writer.size == 0
    assert writer.take() == []

    sink = Messages()
    for group in groups:
        read_events(group, sink)  # type: ignore[arg-type]
    assert [seq for _, seq, _, _ in sink.seen] == list(range(1000))


def test_a_record_larger_than_a_batch_is_a_group_of_its_own() -> None:
    writer = EventWriter()
    writer.message(1, 1, 0, b"small", True)
    writer.message(1, 2, 0, bytes(3 * MAX_BATCH_BYTES), True)
    writer.message(1, 3, 0, b"small", True)
    sizes = [len(group) for group in writer.take()]
    assert sizes == [24 + 19 + 3 * MAX_BATCH_BYTES, 24]


def test_equal_payloads_of_a_group_travel_once() -> None:
    writer = OutputWriter()
    for number in range(100):
        writer.send(array("I", [number]), b"tick" * 100, False)
        writer.send(array("I", [number]), b"tock" * 100, False)
    (group,) = writer.take()
    assert group.count(b"tick" * 100) == 1
    assert group.count(b"tock" * 100) == 1
    sink = Sends()
    read_output(group, sink)  # type: ignore[arg-type]
    assert sink.seen == [([number], text * 100, False) for number in range(100) for text in (b"tick", b"tock")]


def test_text_and_binary_of_the_same_bytes_are_two_payloads() -> None:
    writer = OutputWriter()
    for binary in (False, True, False, True):
        writer.send(array("I", [1]), b"same", binary)
    (group,) = writer.take()
    assert group.count(b"same") == 2
    sink = Sends()
    read_output(group, sink)  # type: ignore[arg-type]
    assert [binary for _, _, binary in sink.seen] == [False, True, False, True]


def test_payload_indices_begin_anew_in_each_group() -> None:
    """Each group is read on its own, so a payload that was in the group before must be there again."""
    writer = OutputWriter()
    big = bytes(MAX_BATCH_BYTES // 3)
    for number in range(12):
        writer.send(array("I", [number]), b"%d" % number + big, True)
        writer.send(array("I", [number]), b"small", True)
    groups = writer.take()
    assert len(groups) > 2
    seen = []
    for group in groups:
        sink = Sends()
        read_output(group, sink)  # type: ignore[arg-type]
        seen += sink.seen
    assert [(to, data[:5]) for to, data, _ in seen if data == b"small"] == [([n], b"small") for n in range(12)]
    assert [data[:2] for _, data, _ in seen if data != b"small"] == [(b"%d" % n + big)[:2] for n in range(12)]


def test_a_writer_begins_anew_after_take() -> None:
    writer = OutputWriter()
    for _ in range(2):
        writer.send(array("I", [1]), b"again", False)
        (group,) = writer.take()
        sink = Sends()
        read_output(group, sink)  # type: ignore[arg-type]
        assert sink.seen == [([1], b"again", False)]


def test_an_index_of_no_payload_is_a_wire_error() -> None:
    with pytest.raises(WireError):
        read_output(b"\x42" + struct.pack("<III", 0, 1, 1), Sends())  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, 2, 0xFFFFFFFF])
def test_a_send_whose_payload_ends_behind_the_group_is_a_wire_error(count: int) -> None:
    with pytest.raises(WireError):
        read_output(b"\x41\0" + struct.pack("<II", count, 100) + b"short", Sends())  # type: ignore[arg-type]


def test_text_that_is_no_utf_8_is_a_wire_error() -> None:
    with pytest.raises(WireError, match="bad record in a router's group"):
        read_events(b"\x01\0\0" + struct.pack("<IQI", 1, 1, 1) + b"\xff", Messages())  # type: ignore[arg-type]


def test_what_stood_before_a_bad_record_has_been_handed_over() -> None:
    writer = EventWriter()
    writer.message(1, 1, 0, b"good", False)
    sink = Messages()
    with pytest.raises(WireError):
        read_events(writer.take()[0] + b"\xff", sink)  # type: ignore[arg-type]
    assert sink.seen == [(1, 1, 0, "good")]


def test_an_empty_group_says_nothing() -> None:
    read_events(b"", Messages())  # type: ignore[arg-type]
    read_output(b"", Sends())  # type: ignore[arg-type]


def test_a_sinks_own_error_is_not_taken_for_the_peers() -> None:
    """Bad bytes are the peer's fault; a defect in the reader's own process must stay visible as what it is."""

    class Broken:
        def message(self, *_: object) -> None:
            raise ValueError("a defect of ours")

        send = response = message

    events, output, response = EventWriter(), OutputWriter(), OutputWriter()
    events.message(1, 1, 0, b"x", False)
    output.send(array("I", [1, 2]), b"x", False)
    response.response(HttpResponse(1, 200, AcceptMode.PLAIN, []))
    for reader, writer in ((read_events, events), (read_output, output), (read_output, response)):
        with pytest.raises(ValueError, match="a defect of ours"):
            reader(writer.take()[0], Broken())


def test_a_response_of_no_mode_is_a_wire_error() -> None:
    with pytest.raises(WireError, match="no mode 4"):
        read_output(b"\x46" + struct.pack("<IHB", 1, 101, 4) + bytes(30), Sends())  # type: ignore[arg-type]
