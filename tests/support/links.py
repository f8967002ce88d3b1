"""Links without processes: what is written to them is read back, as tuples that begin with the record's name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from roost.common.ids import Incarnation, ObjectId
from roost.common.wire.records import (
    Ahead,
    EventWriter,
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
from roost.common.wire.records.layout import PART
from roost.common.wire.shipping import Shipment, Shipping

Record = tuple[Any, ...]


class Recorder:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.records: list[Record] = []


class EventRecorder(Recorder):
    """A sink of events."""

    def message(self, connection: int, seq: int, deliveries: int, data: str | bytes) -> None:
        self.records.append(("message", connection, seq, deliveries, data))

    def closed(self, connection: int, seq: int, deliveries: int, code: int, reason: str, clean: bool) -> None:
        self.records.append(("closed", connection, seq, deliveries, code, reason, clean))

    def failed(self, connection: int, seq: int, deliveries: int, code: int, description: str) -> None:
        self.records.append(("failed", connection, seq, deliveries, code, description))

    def request(self, request: HttpRequest) -> None:
        self.records.append(("request", request))

    def auto_response_times(self, connections: Sequence[int], times: Sequence[float]) -> None:
        self.records.append(("auto_times", list(connections), list(times)))

    def restore(self, passport: Passport) -> None:
        self.records.append(("restore", passport))

    def restored(self, map_version: int, slots: Sequence[int]) -> None:
        self.records.append(("restored", map_version, list(slots)))

    def room(self, connection: int, size: int) -> None:
        self.records.append(("room", connection, size))

    def behind(self, object_id: ObjectId, is_behind: bool) -> None:
        self.records.append(("behind", object_id, is_behind))

    def object_state(self, state: ObjectState) -> None:
        self.records.append(("object_state", state))


class OutputRecorder(Recorder):
    """A sink of objects' output."""

    def send(self, connections: Sequence[int], data: bytes, binary: bool) -> None:
        self.records.append(("send", list(connections), data if binary else data.decode()))

    def send_pieces(self, connections: Sequence[int], data: Pieces, binary: bool) -> None:
        self.send(connections, data.join(), binary)

    def acknowledge(self, connections: Sequence[int], firsts: Sequence[int], lasts: Sequence[int]) -> None:
        if connections:  # else it is only to be confirmed
            self.records.append(("ack", sorted(zip(connections, firsts, lasts, strict=True))))

    def close(self, connection: int, code: int, reason: str, final: bool) -> None:
        self.records.append(("close", connection, code, reason, final))

    def attachment(self, connection: int, attachment: bytes) -> None:
        self.records.append(("attachment", connection, attachment))

    def response(self, response: HttpResponse) -> None:
        if isinstance(response.body, Pieces):
            response = replace(response, body=response.body.join())
        self.records.append(("response", response))

    def hold(self, object_id: ObjectId, held: bool) -> None:
        self.records.append(("hold", object_id, held))

    def released(self, map_version: int, slots: Sequence[int], connections: Sequence[int], seqs: Sequence[int]) -> None:
        self.records.append(("released", map_version, list(slots), list(zip(connections, seqs, strict=True))))

    def owed(self, connection: int, owed: bool) -> None:
        self.records.append(("owed", connection, owed))

    def cut(self, connection: int) -> None:
        self.records.append(("cut", connection))

    def auto_response_times(self, connections: Sequence[int], times: Sequence[float]) -> None:
        self.records.append(("auto_response_times", list(zip(connections, times, strict=True))))

    def object_state(self, state: ObjectState) -> None:
        self.records.append(("object_state", state.revision, state.event_timeout_ms, state.auto_response))


class FakeLink:
    """What the two kinds have in common."""

    def __init__(self, remote: int) -> None:
        self.remote = Incarnation(remote)
        self.blocked = False
        self.closed = False
        self.parts = Parts()

    def close(self) -> None:
        self.closed = True


class LinkToShard(FakeLink):
    """A router's link. Whatever is shipped has gone when the records are read."""

    def __init__(self, remote: int = 7) -> None:
        super().__init__(remote)
        self.writer = EventWriter()
        self.flushes = 0
        self.session = SimpleNamespace(unconfirmed_bytes=0)
        self.shipping = Shipping(self)

    def ship(self, data: bytes | Pieces, owner: Hashable, on_shipped: Callable[[Ahead], None]) -> Shipment:
        """What is shipped has gone, pieces and all, when the records are read."""
        return self.shipping.ship(data, owner, on_shipped)

    def cancel(self, shipment: Shipment) -> None:
        if not self.closed and not self.shipping.cancel(shipment) and shipment.stream:
            self.writer.part(shipment.stream, b"")

    def flush_soon(self) -> None:
        assert not self.closed
        self.flushes += 1

    flush = flush_message = flush_soon

    def give_up(self, error: Exception) -> None:
        raise AssertionError("a test that expects this replaces it") from error

    def take(self) -> list[Record]:
        """The records written since the last call, all of which must have been flushed."""
        sink = EventRecorder()
        goes_on = True
        while goes_on:
            goes_on = not self.closed and len(self.shipping) > 0
            self.flushes += goes_on and self.shipping.work()
            for group in self.writer.take():
                read_events(group, sink, self.parts)
        assert not sink.records or self.flushes, "records were written and not flushed"
        self.flushes = 0
        return sink.records


class LinkToRouter(FakeLink):
    """A shard's link, whose other end confirms when the test says so. What goes ahead in pieces it takes as fast as
    that comes, unless ``takes_pieces`` is false."""

    def __init__(self, remote: int = 1) -> None:
        super().__init__(remote)
        self.writer = OutputWriter()
        self.session = SimpleNamespace(sent=0, confirmed=0, unconfirmed_bytes=0)
        self.prompt = False  # each batch is confirmed in the next turn
        self.on_confirmed: Callable[[Any], None] | None = None
        self.on_unblocked: Callable[[Any], None] | None = None
        self.groups: list[bytes] = []
        self.takes_pieces = True
        self.pieces = 0  # parts that have come, altogether

    def flush(self) -> None:
        groups = self.writer.take()
        if not self.closed:
            self.session.sent += len(groups)
            self.groups += groups
            pieces = sum(len(group) for group in groups if group[0] == PART)
            self.pieces += sum(group[0] == PART for group in groups)
            if not self.takes_pieces:
                self.session.unconfirmed_bytes += pieces
            elif pieces and self.on_confirmed is not None:
                asyncio.get_running_loop().call_soon(self._took_pieces)
            if self.prompt and groups:
                asyncio.get_running_loop().call_soon(self.confirm)

    flush_soon = flush

    def _took_pieces(self) -> None:
        if self.on_confirmed is not None:
            self.on_confirmed(self)

    def take_pieces(self) -> None:
        """The router has confirmed the pieces that have come."""
        self.session.unconfirmed_bytes = 0
        self._took_pieces()

    def take(self) -> list[Record]:
        """The records that have left since the last call."""
        recorder = OutputRecorder()
        for group in self.groups:
            read_output(group, recorder, self.parts)
        self.groups.clear()
        return recorder.records

    def confirm(self, number: int | None = None) -> None:
        """The router has confirmed all batches, or those to *number*."""
        self.session.confirmed = self.session.sent if number is None else number
        if self.on_confirmed is not None:
            self.on_confirmed(self)

    def unblock(self) -> None:
        self.blocked = False
        assert self.on_unblocked is not None
        self.on_unblocked(self)
