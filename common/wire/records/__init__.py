"""The wire between routers and shards: the records, their byte layout, writers and readers.

Readers hand each record to a *sink* as they meet it, without building anything between: this is the road of every
message. A group that does not parse raises ``WireError`` at the bad record.
"""

from .dialect import TO_ROUTER, TO_SHARD, Dialect, W
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
    Sink,
)
from .parts import Incoming, Parts, Wholes
from .reading import Reader, read_events, read_output
from .steps import STEP_BYTES, Steps
from .writing import PIECE_BYTES, EventWriter, OutputWriter, RecordWriter

__all__ = [
    "NO_ATTACHMENT",
    "PIECE_BYTES",
    "STEP_BYTES",
    "TO_ROUTER",
    "TO_SHARD",
    "AcceptMode",
    "Ahead",
    "Dialect",
    "EventSink",
    "EventWriter",
    "Form",
    "Headers",
    "HttpRequest",
    "HttpResponse",
    "Incoming",
    "ObjectState",
    "OutputSink",
    "OutputWriter",
    "Parts",
    "Passport",
    "Pieces",
    "Reader",
    "RecordWriter",
    "Sink",
    "Steps",
    "W",
    "Wholes",
    "read_events",
    "read_output",
]
