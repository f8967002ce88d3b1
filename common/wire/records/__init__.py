"""The wire between routers and shards: the records, their byte layout, writers and readers.

Readers hand each record to a *sink* as they meet it, without building anything between: this is the road of every
message. A group that does not parse raises ``WireError`` at the bad record.
"""

from .layout import NO_ATTACHMENT
from .model import (
    AcceptMode,
    Ahead,
    EventSink,
    Form,
    Headers,
    HttpRequest,
    HttpResponse,
    ObjectState,
    OutputSink,
    Passport,
    Pieces,
)
from .parts import Incoming, Parts, Wholes
from .reading import read_events, read_output
from .steps import STEP_BYTES, EventSteps, OutputSteps
from .writing import PIECE_BYTES, EventWriter, OutputWriter, RecordWriter

__all__ = [
    "NO_ATTACHMENT",
    "PIECE_BYTES",
    "STEP_BYTES",
    "AcceptMode",
    "Ahead",
    "EventSink",
    "EventSteps",
    "EventWriter",
    "Form",
    "Headers",
    "HttpRequest",
    "HttpResponse",
    "Incoming",
    "ObjectState",
    "OutputSink",
    "OutputSteps",
    "OutputWriter",
    "Parts",
    "Passport",
    "Pieces",
    "RecordWriter",
    "Wholes",
    "read_events",
    "read_output",
]
