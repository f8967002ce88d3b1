"""Sinks refuse by default what they do not take."""

from __future__ import annotations

import inspect

import pytest

from roost.common.errors import WireError
from roost.common.wire.records import (
    EventSink,
    EventWriter,
    OutputSink,
    OutputWriter,
    Sink,
    layout,
    read_events,
    read_output,
)

KINDS = [
    (sink, name)
    for sink in (EventSink, OutputSink)
    for name, _ in inspect.getmembers(sink, inspect.isfunction)
    if name != "refuse"
]


@pytest.mark.parametrize(("sink", "name"), KINDS)
def test_a_record_that_a_sink_does_not_take_is_refused_by_its_name(sink: type[Sink], name: str) -> None:
    method = getattr(sink(), name)
    with pytest.raises(WireError, match=r"^a record [A-Z_]+ has come where none is taken$") as refused:
        method(*(None for _ in inspect.signature(method).parameters))
    assert isinstance(getattr(layout, str(refused.value).split()[2]), int), "a record of that name"


@pytest.mark.parametrize("sink", [EventSink, OutputSink])
def test_all_that_a_sink_refuses_has_a_name_of_its_own(sink: type[Sink]) -> None:
    names = [name for of, name in KINDS if of is sink]
    told: list[str] = []
    noting = type("Noting", (sink,), {"refuse": lambda _, kind: told.append(kind)})()
    for name in names:
        method = getattr(noting, name)
        method(*(None for _ in inspect.signature(method).parameters))
    assert len(set(told)) == len(names)


def test_what_is_refused_is_no_bad_byte_of_the_group() -> None:
    """The reader must not take the refusal for its own: it says what is wrong, and not where."""

    class Messages(EventSink):
        def message(self, connection: int, seq: int, deliveries: int, data: str | bytes) -> None:
            pass

    events, output = EventWriter(), OutputWriter()
    events.message(1, 1, 0, b"taken", True)
    events.room(1, 5)
    with pytest.raises(WireError, match=r"^a record ROOM has come"):
        read_events(events.take()[0], Messages())
    output.cut(4)
    with pytest.raises(WireError, match=r"^a record CUT has come"):
        read_output(output.take()[0], OutputSink())
