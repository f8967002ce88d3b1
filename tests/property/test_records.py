"""The wire's codec: what is written is read, and bytes of any kind end in a reading or in ``WireError``."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.common.errors import WireError
from roost.common.ids import OBJECT_ID_BYTES, ObjectId
from roost.common.wire.records import (
    AcceptMode,
    Ahead,
    EventWriter,
    HttpRequest,
    HttpResponse,
    ObjectState,
    OutputWriter,
    Parts,
    Passport,
    Pieces,
    RecordWriter,
    read_events,
    read_output,
)

Call = tuple[Any, ...]


class Recorder:
    """A sink that keeps what it was told, with arrays as lists."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        def record(*args: Any, **kwargs: Any) -> None:
            plain = [list(arg) if isinstance(arg, (array, tuple)) and not isinstance(arg, str) else arg for arg in args]
            self.calls.append((name, *plain, *sorted(kwargs.items())))

        return record


# Each strategy gives a call of a writer's method beside the call that the reader's sink must see for it.

u8, u16, u32, u64 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32, 64))
object_ids = st.binary(min_size=OBJECT_ID_BYTES, max_size=OBJECT_ID_BYTES).map(ObjectId)
finite = st.floats(allow_nan=False)
texts = st.text(max_size=40)
headers = st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=40)), max_size=4)
tags = st.lists(texts, max_size=10).map(tuple)
attachments = st.none() | st.binary(max_size=2048)


@st.composite
def messages(draw: st.DrawFn) -> tuple[Call, Call]:
    connection, seq, deliveries = draw(u32), draw(u64), draw(u8)
    data = draw(texts | st.binary(max_size=200))
    payload = data.encode() if isinstance(data, str) else data
    return (
        ("message", connection, seq, deliveries, payload, isinstance(data, bytes)),
        ("message", connection, seq, deliveries, data),
    )


def same(name: str, *fields: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Call, Call]]:
    return st.tuples(*fields).map(lambda values: ((name, *values), (name, *values)))


def numbered(name: str, *typecodes: str) -> st.SearchStrategy[tuple[Call, Call]]:
    """A call whose arguments are arrays of one length."""
    cells = {"I": u32, "Q": u64, "d": finite}
    rows = st.lists(st.tuples(*(cells[code] for code in typecodes)), max_size=20)

    def call(values: list[tuple[Any, ...]]) -> tuple[Call, Call]:
        columns = [[row[i] for row in values] for i in range(len(typecodes))]
        arrays = [array(code, column) for code, column in zip(typecodes, columns, strict=True)]
        return (name, *arrays), (name, *columns)

    return rows.map(call)


slots = st.lists(st.integers(0, 4095), max_size=20)
object_states = st.builds(
    ObjectState, object_ids, revision=u64, event_timeout_ms=u32, auto_response=st.none() | st.tuples(texts, texts)
)
requests = st.builds(HttpRequest, u32, u32, object_ids, texts, texts, texts, texts, headers, st.binary(max_size=200))
passports = st.builds(
    Passport,
    connection=u32,
    hibernatable=st.booleans(),
    closed_by_object=st.booleans(),
    ordinal=u64,
    next_seq=u64,
    auto_response_time=st.none() | finite,
    object_id=object_ids,
    namespace=texts,
    name=texts,
    url=texts,
    protocol=texts,
    tags=tags,
    attachment=attachments,
)
plain_responses = st.builds(HttpResponse, u32, u16, st.just(AcceptMode.PLAIN), headers, st.binary(max_size=200))
accepted_responses = st.builds(
    HttpResponse,
    u32,
    u16,
    st.sampled_from([AcceptMode.HIBERNATABLE, AcceptMode.STANDARD, AcceptMode.UNACCEPTED]),
    headers,
    st.binary(max_size=20),
    u64,
    tags,
    attachments,
)
payloads = st.sampled_from([b"", b"a", b"b", b"hello" * 20]) | st.binary(max_size=50)


@st.composite
def sends(draw: st.DrawFn) -> tuple[Call, Call]:
    targets, data, binary = draw(st.lists(u32, max_size=20)), draw(payloads), draw(st.booleans())
    return ("send", array("I", targets), data, binary), ("send", targets, data, binary)


@st.composite
def released(draw: st.DrawFn) -> tuple[Call, Call]:
    cancelled = draw(st.lists(st.tuples(u32, u64), max_size=5))
    call = ("released", draw(u32), draw(slots), [one for one, _ in cancelled], [seq for _, seq in cancelled])
    return call, call


events = st.one_of(
    messages(),
    same("closed", u32, u64, u8, u16, texts, st.booleans()),
    same("failed", u32, u64, u8, u16, texts),
    same("request", requests),
    numbered("auto_response_times", "I", "d"),
    same("restore", passports),
    same("restored", u32, slots),
    same("room", u32, u32),
    same("behind", object_ids, st.booleans()),
    same("object_state", object_states),
)
outputs = st.one_of(
    sends(),
    numbered("acknowledge", "I", "Q", "Q"),
    same("close", u32, u16, texts, st.booleans()),
    same("attachment", u32, st.binary(max_size=16_384)),
    same("response", plain_responses),
    same("response", accepted_responses),
    same("hold", object_ids, st.booleans()),
    released(),
    same("owed", u32, st.booleans()),
    same("cut", u32),
    numbered("auto_response_times", "I", "d"),
    same("object_state", object_states),
)

SIDES = [
    pytest.param(events, EventWriter, read_events, id="events"),
    pytest.param(outputs, OutputWriter, read_output, id="output"),
]
Records = st.SearchStrategy[tuple[Call, Call]]
Reader = Callable[[bytes, Any], None]


def written(writer: RecordWriter, calls: Sequence[tuple[Call, Call]]) -> tuple[list[bytes], list[Call]]:
    for (name, *args), _ in calls:
        getattr(writer, name)(*args)
    return writer.take(), [expected for _, expected in calls]


def read(reader: Reader, group: bytes) -> tuple[list[Call], bool]:
    """What *group* says, and whether it ended in a ``WireError``; any other exception is the test's failure."""
    sink = Recorder()
    try:
        reader(group, sink)
    except WireError:
        return sink.calls, False
    return sink.calls, True


@pytest.mark.parametrize(("records", "writer", "reader"), SIDES)
@given(data=st.data())
def test_every_record_is_read_as_it_was_written(
    records: Records, writer: type[RecordWriter], reader: Reader, data: st.DataObject
) -> None:
    groups, expected = written(writer(), data.draw(st.lists(records, max_size=12)))
    calls: list[Call] = []
    for group in groups:
        said, whole = read(reader, group)
        assert whole
        calls += said
    assert calls == expected


@pytest.mark.parametrize(("records", "writer", "reader"), SIDES)
@given(data=st.data())
def test_each_method_of_the_sink_is_reached(
    records: Records, writer: type[RecordWriter], reader: Reader, data: st.DataObject
) -> None:
    """The types of what is handed over: text as ``str``, binary as ``bytes``."""
    groups, _ = written(writer(), [data.draw(records)])
    said, _ = read(reader, b"".join(groups))
    for _, *args in said:
        assert not any(isinstance(arg, (bytearray, memoryview)) for arg in args)


@pytest.mark.parametrize(("records", "writer", "reader"), SIDES)
@settings(max_examples=30)
@given(data=st.data())
def test_every_truncation_says_a_part_of_the_truth_or_fails(
    records: Records, writer: type[RecordWriter], reader: Reader, data: st.DataObject
) -> None:
    groups, expected = written(writer(), data.draw(st.lists(records, min_size=1, max_size=4)))
    group = groups[0]
    step = max(1, len(group) // 200)
    for end in {*range(0, len(group), step), *range(max(0, len(group) - 20), len(group))}:
        said, whole = read(reader, group[:end])
        assert said == expected[: len(said)]
        assert len(said) < len(expected), f"cut at {end} of {len(group)}, and all was read"
        assert not whole or end == 0 or said


@pytest.mark.parametrize(("records", "writer", "reader"), SIDES)
@settings(max_examples=300)
@given(data=st.data())
def test_changed_bytes_end_in_a_reading_or_a_wire_error(
    records: Records, writer: type[RecordWriter], reader: Reader, data: st.DataObject
) -> None:
    groups, _ = written(writer(), data.draw(st.lists(records, min_size=1, max_size=4)))
    group = bytearray(groups[0])
    for _ in range(data.draw(st.integers(1, 4))):
        # Heads stand at the start, and a wrong length or type there does the most harm.
        place = data.draw(st.integers(0, min(len(group), 60) - 1) | st.integers(0, len(group) - 1))
        group[place] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | u8)
    read(reader, bytes(group))


@pytest.mark.parametrize(("records", "writer", "reader"), SIDES)
@settings(max_examples=300)
@given(group=st.binary(max_size=300))
def test_garbage_ends_in_a_reading_or_a_wire_error(
    records: Records, writer: type[RecordWriter], reader: Reader, group: bytes
) -> None:
    read(reader, group)


@pytest.mark.parametrize(("records", "writer", "reader"), SIDES)
@given(kind=u8, rest=st.binary(max_size=300))
def test_any_type_with_any_bytes_ends_in_a_reading_or_a_wire_error(
    records: Records, writer: type[RecordWriter], reader: Reader, kind: int, rest: bytes
) -> None:
    read(reader, bytes((kind,)) + rest)


@pytest.mark.parametrize("kind", range(256))
def test_a_side_refuses_the_other_sides_records(kind: int) -> None:
    group = bytes((kind,)) + bytes(200)
    if not 0x01 <= kind <= 0x09 and kind not in (0x60, 0x62):
        with pytest.raises(WireError):
            read_events(group, Recorder())
    if not 0x41 <= kind <= 0x4B and kind not in (0x60, 0x62):
        with pytest.raises(WireError):
            read_output(group, Recorder())


@pytest.mark.parametrize("writer", [EventWriter, OutputWriter])
@given(data=st.data())
def test_payloads_that_go_ahead_come_together_whatever_travels_between(
    writer: type[EventWriter | OutputWriter], data: st.DataObject
) -> None:
    """Several at a time, in parts of any size, some of them given up; their records in any order."""
    payloads = data.draw(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=5))
    given_up = data.draw(st.sets(st.sampled_from(range(len(payloads)))))
    pending = dict(enumerate(payloads, 1))
    out, expected, kept = writer(), [], 0
    while pending:
        stream = data.draw(st.sampled_from(sorted(pending)))
        if isinstance(out, OutputWriter) and data.draw(st.booleans()):
            out.cut(stream)
        if pending[stream]:
            size = data.draw(st.integers(1, 60))
            out.part(stream, pending[stream][:size])
            pending[stream] = pending[stream][size:]
        elif stream - 1 in given_up:
            out.part(stream, b"")
            del pending[stream]
        else:
            payload = payloads[stream - 1]
            if isinstance(out, OutputWriter):
                out.send_ahead(array("I", [stream]), Ahead(stream), True)
            else:
                out.message_ahead(stream, 1, 0, Ahead(stream), True)
            expected.append((stream, payload))
            del pending[stream]
    parts, seen = Parts(), []

    class Sink(Recorder):
        def send_pieces(self, connections: Sequence[int], data: Pieces, binary: bool) -> None:
            seen.append((connections[0], data.join()))

        def message(self, connection: int, seq: int, deliveries: int, data: bytes) -> None:
            seen.append((connection, data))

    sink: Any = Sink()
    for group in out.take():
        (read_output if isinstance(out, OutputWriter) else read_events)(group, sink, parts)
        kept = max(kept, len(parts))
    assert seen == expected
    assert kept <= len(payloads)
    assert (len(parts), parts.size) == (0, 0)
