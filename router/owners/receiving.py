"""What a shard says, applied to connections and requests.

Everything that one object says takes effect in the order said. Most of it does so at once; behind a broadcast that is
still being written it queues (see ``output``). Acknowledgements only empty windows and need not wait, but for one: the
end of a close handler makes the router echo the client's Close, unless the object's own Close came first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from ...common.ids import ObjectId
from ...common.wire.records import AcceptMode, HttpResponse, ObjectState, OutputSink, Pieces
from ..clients.context import ClientContext
from ..clients.links import OwnerLink
from ..clients.objects import ObjectEntry
from ..clients.output import AT_ONCE, Broadcast, Frames, LargeBroadcast, Output
from ..formats.compression import DEFLATE_STEP
from ..formats.frames import data_frame
from ..formats.http import Refusal
from ..websocket.connection import Connection
from ..websocket.states import State
from .forwarding import Forwarding
from .requests import Request

log = logging.getLogger("roost.router")


class Receiver(OutputSink):
    """The output sink of one link.

    Args:
        link: The link; records for objects that are attached to another are stale and dropped.
        shared: What all connections share.
        forwarding: Requests and slots.
        output: The output queues.
    """

    __slots__ = ("_counters", "_forwarding", "_get", "_link", "_output", "_shared", "_windows")

    def __init__(
        self, link: OwnerLink, shared: ClientContext[Connection], forwarding: Forwarding, output: Output
    ) -> None:
        self._link = link
        self._shared = shared
        self._windows = shared.windows
        self._counters = shared.counters
        self._get = shared.connections.get
        self._forwarding = forwarding
        self._output = output

    def _entry_of(self, connection: Connection | None) -> ObjectEntry[Connection] | None:
        """The object of a connection that this link may speak of."""
        if connection is None or connection.entry.link is not self._link:
            self._counters.stale_records += 1
            return None
        return connection.entry

    def _entry_of_first(self, connections: Sequence[int]) -> ObjectEntry[Connection] | None:
        """The object of some connections: all belong to one, and the first that is still there says which."""
        for number in connections:
            connection = self._get(number)
            if connection is not None:
                return self._entry_of(connection)
        return None

    def send(self, connections: Sequence[int], data: bytes, binary: bool) -> None:
        """A message of an object to some of its connections."""
        if len(connections) != 1:
            self._send_to_many(connections, data, binary)
        else:
            counters, connection = self._counters, self._get(connections[0])
            if connection is None or connection.entry.link is not self._link:
                counters.stale_records += 1
            elif connection.entry.output is not None or connection.encoder is not None:
                self._send_to_many(connections, data, binary)
            elif connection.writable:
                counters.messages_out += 1
                counters.bytes_out += len(data)
                try:
                    connection.writer.write(data_frame(data, binary))
                except Exception as error:
                    connection.break_off(error)

    def send_pieces(self, connections: Sequence[int], data: Pieces, binary: bool) -> None:
        """The same for a large message, which has come in pieces."""
        entry = self._entry_of_first(connections)
        if entry is not None:
            self._output.broadcast(entry, LargeBroadcast(data, binary, connections, self._get, self._counters))

    def _send_to_many(self, connections: Sequence[int], data: bytes, binary: bool) -> None:
        entry = self._entry_of_first(connections)
        if entry is None:
            return
        if len(data) > DEFLATE_STEP and self._compresses(connections):
            pieces = Pieces([memoryview(data)], len(data))
            large = LargeBroadcast(pieces, binary, connections, self._get, self._counters, held=len(data))
            self._output.broadcast(entry, large)
            return
        broadcast = Broadcast(Frames(data, binary), connections, self._get, self._counters)
        if entry.output is None and broadcast.writes_left <= AT_ONCE:
            broadcast.write(AT_ONCE)
        else:
            self._output.broadcast(entry, broadcast)

    def _compresses(self, connections: Sequence[int]) -> bool:
        """Whether one of *connections* gets compressed messages."""
        found = map(self._get, connections)
        return any(connection is not None and connection.encoder is not None for connection in found)

    def acknowledge(self, connections: Sequence[int], firsts: Sequence[int], lasts: Sequence[int]) -> None:
        """Events that the shard is done with."""
        get, link = self._get, self._link
        for number, first, last in zip(connections, firsts, lasts, strict=True):
            connection = get(number)
            if connection is None or connection.entry.link is not link:
                self._counters.stale_records += 1
            else:
                try:
                    if connection.acknowledge(first, last):
                        entry = connection.entry
                        if entry.output is None:
                            connection.handlers_ended()
                        else:
                            self._output.behind(entry, partial(self._apply, connection, connection.handlers_ended))
                except Exception as error:
                    connection.break_off(error)
        if self._windows.are_full:
            self._windows.relieved()

    @staticmethod
    def _apply(connection: Connection, action: Callable[..., object], *what: object) -> None:
        """Do what a record asks of one connection. A defect of ours ends that connection, and no link or other one."""
        try:
            action(*what)
        except Exception as error:
            connection.break_off(error)

    def close(self, connection: int, code: int, reason: str, final: bool) -> None:
        """An object closes one of its connections."""
        target = self._get(connection)
        entry = self._entry_of(target)
        if entry is None or target is None:
            return
        close = partial(self._apply, target, target.object_closed, code, reason, final)
        if entry.output is None and not (final and len(entry.connections) > AT_ONCE):
            close()
        else:
            # Also when a large object was reset: its closes come together, and are written some in each turn.
            self._output.behind(entry, close)

    def attachment(self, connection: int, attachment: bytes) -> None:
        """A connection has a new attachment. It is not seen by clients, so it need not wait for output."""
        target = self._get(connection)
        if self._entry_of(target) is not None and target is not None:
            target.attachment = attachment

    def response(self, response: HttpResponse) -> None:
        """The answer to a request."""
        request = self._forwarding.desk.requests.take(response.request, self._link)
        if request is None:
            self._counters.stale_records += 1
            return
        entry = self._shared.objects.get(request.record.object_id)
        if entry is None or entry.output is None:
            self._answer(request, response)
        else:
            self._output.behind(entry, partial(self._answer, request, response))

    def _answer(self, request: Request, response: HttpResponse) -> None:
        connection, asker = request.connection, request.asker
        try:
            self._pass_on(request, response)
        except Exception as error:
            if asker is not None:
                asker.break_off(error)
            if connection is not None:
                if response.mode is not AcceptMode.PLAIN and connection.state is State.PENDING:
                    self._apply(connection, connection.accept_lost, response)  # the object has to hear of the end
                else:
                    connection.break_off(error)

    @staticmethod
    def _pass_on(request: Request, response: HttpResponse) -> None:
        connection, asker = request.connection, request.asker
        if response.mode is AcceptMode.PLAIN:
            if connection is not None:
                connection.refuse()
            if asker is not None:
                asker.answered(response)
        elif connection is None:
            log.error("object %r accepted a WebSocket in answer to an ordinary request", request.record.name)
            if asker is not None:
                asker.failed(Refusal(500, "the object accepted a WebSocket that was not asked for"))
        elif asker is not None:
            asker.upgraded(connection, response)
        else:
            connection.accept_lost(response)

    def hold(self, object_id: ObjectId, held: bool) -> None:
        """An object's mailbox is full, or half empty again."""
        self._forwarding.desk.hold(self._link, object_id, held)

    def owed(self, connection: int, owed: bool) -> None:
        """Output for a connection waits at the shard, or none does any more."""
        target = self._get(connection)
        if target is None:
            if owed:
                # It has gone: what waits there has to go somewhere.
                self._link.writer.room(connection, self._shared.send_buffers.each)
                self._link.flush_soon()
            return
        entry = self._entry_of(target)
        if entry is not None and entry.output is not None:
            self._output.behind(entry, partial(target.owe, owed))
        elif entry is not None:
            target.owe(owed)

    def cut(self, connection: int) -> None:
        """The shard holds too much for its clients, and most for this one."""
        target = self._get(connection)
        if self._entry_of(target) is not None and target is not None and target.writable:
            target.cut()

    def released(self, map_version: int, slots: Sequence[int], connections: Sequence[int], seqs: Sequence[int]) -> None:
        """A shard has let go of slots."""
        self._forwarding.released(self._link, map_version, slots, connections, seqs)

    def auto_response_times(self, connections: Sequence[int], times: Sequence[float]) -> None:
        """The shard has answered requests for an automatic response that this router did not know yet."""
        for number, time in zip(connections, times, strict=True):
            target = self._get(number)
            if self._entry_of(target) is not None and target is not None:
                target.answered_automatically(time)

    def object_state(self, state: ObjectState) -> None:
        """An object has set something for all its sockets."""
        objects = self._shared.objects
        entry = objects.get(state.object_id)
        if entry is not None and entry.link is self._link:
            entry.set_state(state)
        elif entry is None and self._forwarding.speaks_for(self._link, state.object_id):
            objects.remembered.put(state)
        else:
            self._counters.stale_records += 1
