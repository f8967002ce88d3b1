"""What objects send to their clients, written in turn.

A frame to a few connections is written at once. One to many (a broadcast) would hold the loop for as long as the
system takes for all of it, about 10 µs a connection, so it is written in pieces, and between two pieces the loop does
other work. While an object has such work pending, everything else of it queues behind (further messages, closes,
answers to handshakes), so that nothing overtakes; other objects write past it and take turns with it.

A room of 1,500 makes 1,500 writes of each message that one of its clients sends, and they all may talk: 15 ms of work
for 20 bytes. So what waits is bounded where it comes from. An object that has ``OBJECT_WRITES`` waiting takes no more
of its clients' messages until half of that is written (``ObjectEntry.fall_behind``). What its shard has had before, and
what clients at other routers send, still comes: it waits as a record, in which a target has four bytes. When all
objects have ``MAX_PENDING_BYTES`` of these, the links are not read until there is room (``is_full``); their other ends
then run into bounds of their own. Nothing is written out of turn to make room: that held the loop for half a minute.

``Output`` is driven by its shell: ``on_work`` asks for a call of ``run`` in the next loop turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import Protocol

from ...common.wire.records import Pieces
from ..counters import RouterCounters
from ..formats.compression import Deflating, Encoder
from ..formats.frames import data_frame, frame_in_pieces
from .client import Client

AT_ONCE = 32
"""Connections that a frame is written to without queueing."""
PIECE = 64
"""Writes of one object before another has its turn."""
WRITES_PER_TURN = 192
"""Writes before the loop gets its turn: about 2 ms (10 µs each)."""
WRITING_S = 0.002
"""Seconds after which it gets its turn whatever is left of these: a write takes the system 50 µs and more to a client
of this machine that is full of small messages, since it puts them together."""
BYTES_PER_WRITE = 16 << 10
"""A larger frame counts as several writes, one for each of these."""
OBJECT_WRITES = 1 << 14
"""Writes of one object that may wait until its clients here are not read: 0.2 seconds' work."""
MAX_PENDING_BYTES = 64 << 20
"""Memory of what waits, of all objects together."""
BROADCAST_BYTES = 512
"""What a broadcast takes beside its message and its targets."""
TARGET_BYTES = 4


class Frames:
    """One message in the forms that its targets need, each made once."""

    __slots__ = ("_binary", "_encoded", "_payload", "plain", "size")

    def __init__(self, payload: bytes, binary: bool) -> None:
        self._payload = payload
        self._binary = binary
        self._encoded: dict[Encoder, bytes] | None = None
        self.plain = data_frame(payload, binary)
        self.size = len(payload)

    def encoded(self, encoder: Encoder) -> bytes:
        """The frame for clients that have this encoder."""
        if self._encoded is None:
            self._encoded = {}
        frame = self._encoded.get(encoder)
        if frame is None:
            frame = self._encoded[encoder] = encoder.frame(self._payload, self._binary)
        return frame


class Broadcast:
    """One message on its way to many connections.

    Args:
        frames: The message.
        targets: The connections' counters.
        lookup: Finds a connection that is still there.
        counters: Where what is written is counted: a target that is gone, or closed, is not.

    Attributes:
        cost: Writes that one of its writes counts for.
        writes_left: Writes that are still to be done, each counted at its cost.
        memory: Bytes that it takes until then.
    """

    __slots__ = ("_counters", "_frames", "_left", "_lookup", "cost", "memory", "writes_left")

    def __init__(
        self,
        frames: Frames,
        targets: Sequence[int],
        lookup: Callable[[int], Client | None],
        counters: RouterCounters,
    ) -> None:
        self._counters = counters
        self._frames = frames
        self._left: Iterator[int] = iter(targets)
        self._lookup = lookup
        self.cost = 1 + len(frames.plain) // BYTES_PER_WRITE
        self.writes_left = len(targets) * self.cost
        self.memory = BROADCAST_BYTES + len(frames.plain) + TARGET_BYTES * len(targets)

    def write(self, budget: int) -> int:
        """Write to the next targets; to at least one.

        Returns:
            How many writes that was, each counted at its cost: ``writes_left`` is so many less.
        """
        lookup, frames, left = self._lookup, self._frames, self._left
        plain = frames.plain
        count = max(1, budget // self.cost)
        written = 0
        for number in islice(left, count):
            connection = lookup(number)
            if connection is not None and connection.writable:
                written += 1
                try:
                    connection.writer.write(plain if connection.encoder is None else frames.encoded(connection.encoder))
                except Exception as error:
                    connection.break_off(error)  # the other targets get it all the same
        self._counters.messages_out += written
        self._counters.bytes_out += written * frames.size
        done = min(count * self.cost, self.writes_left)
        self.writes_left -= done
        return done


class LargeBroadcast(Broadcast):
    """A message that has come in pieces, or is long to compress, on its way to one connection or more.

    Its pieces are given to the transports as they are: what a client does not take at once waits there once for all.
    For clients that agreed to compression it is compressed first, a step at a time, each of which is a turn's worth of
    work; the object's further output waits behind that, as behind any broadcast.

    Args:
        message: The message.
        binary: Binary or text.
        targets: The connections' counters.
        lookup: Finds a connection that is still there.
        counters: Where what is written is counted.
        held: Bytes of the message for which there is no bound where it comes from.
    """

    __slots__ = ("_binary", "_compressed", "_message", "_plain", "_targets")

    def __init__(
        self,
        message: Pieces,
        binary: bool,
        targets: Sequence[int],
        lookup: Callable[[int], Client | None],
        counters: RouterCounters,
        held: int = 0,
    ) -> None:
        self._message = message
        self._binary = binary
        self._plain = frame_in_pieces(message.parts, message.size, binary)
        self._compressed: dict[Encoder, Deflating] = {}
        self._targets = deque(targets)
        self._lookup = lookup
        self._counters = counters
        self.cost = min(1 + message.size // BYTES_PER_WRITE, WRITES_PER_TURN)
        self.writes_left = len(targets) * self.cost
        # Not a payload that has its bound where it comes from: links would not be read while it is compressed.
        self.memory = BROADCAST_BYTES + held + TARGET_BYTES * len(targets)

    def write(self, budget: int) -> int:
        """Write to the next target, or go on with compressing what it gets.

        Returns:
            As before; compressing counts as what a turn may do, and leaves the writes as they are.
        """
        connection = self._lookup(self._targets[0])
        if connection is not None and connection.writable:
            frame = self._plain
            try:
                encoder = connection.encoder
                if encoder is not None:
                    compressed = self._compressed.get(encoder)
                    if compressed is None:
                        compressed = self._compressed[encoder] = encoder.begin(self._message.parts, self._binary)
                    if not compressed.step():
                        return WRITES_PER_TURN
                    frame = compressed.frame
                connection.writer.write_pieces(frame)
            except Exception as error:
                connection.break_off(error)
            else:
                self._counters.messages_out += 1
                self._counters.bytes_out += self._message.size
        self._targets.popleft()
        self.writes_left -= self.cost
        return self.cost


class Speaker(Protocol):
    """An object, as far as its output is concerned (``objects.ObjectEntry``)."""

    output: deque[Broadcast | Callable[[], None]] | None
    """What waits to be written to its clients; ``None`` (the usual case) when nothing does."""
    pending_writes: int
    """Writes of it that wait."""
    is_behind: bool
    """So many that its clients may not cause more."""
    on_spoken: Callable[[], None] | None
    """Called once when nothing waits any more, if somebody waits for that."""

    def fall_behind(self, is_behind: bool) -> None:
        """Much waits, or not so much any more."""
        ...


class Output:
    """The queues of all objects that have output pending, served in turn.

    Args:
        on_work: Called when there is work after there was none; its shell then calls ``run`` in the next loop turn,
            and again as long as that returns true.
        now: Seconds, monotonic; without it a turn is bounded by its writes alone.

    Attributes:
        pending_bytes: Memory of what waits, all objects together.
    """

    __slots__ = ("_active", "_now", "_on_work", "pending_bytes")

    def __init__(self, on_work: Callable[[], None], now: Callable[[], float] = lambda: 0.0) -> None:
        self._active: deque[Speaker] = deque()
        self._on_work = on_work
        self._now = now
        self.pending_bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether no more should come at present."""
        return self.pending_bytes >= MAX_PENDING_BYTES

    def broadcast(self, entry: Speaker, broadcast: Broadcast) -> None:
        """Write a message to many of the object's connections, after all that it has pending."""
        self.pending_bytes += broadcast.memory
        entry.pending_writes += broadcast.writes_left
        if not entry.is_behind and entry.pending_writes > OBJECT_WRITES:
            entry.fall_behind(True)
        self._enqueue(entry, broadcast)

    def behind(self, entry: Speaker, action: Callable[[], None]) -> None:
        """Run *action* once all that the object has pending is written: it must not overtake it."""
        self._enqueue(entry, action)

    def _enqueue(self, entry: Speaker, item: Broadcast | Callable[[], None]) -> None:
        if entry.output is None:
            entry.output = deque((item,))
            self._active.append(entry)
            if len(self._active) == 1:
                self._on_work()
        else:
            entry.output.append(item)

    def run(self) -> bool:
        """Write for one turn of the loop.

        Returns:
            Whether there is more to do.
        """
        budget, now = WRITES_PER_TURN, self._now
        until = now() + WRITING_S
        while self._active and budget > 0:
            budget -= self._serve_next(min(PIECE, budget))
            if now() >= until:
                break
        return bool(self._active)

    def _serve_next(self, budget: int) -> int:
        """Give the next object its turn; returns the writes it used."""
        entry = self._active.popleft()
        queue = entry.output
        assert queue is not None
        used = 0
        try:
            while queue and used < budget:
                item = queue[0]
                if isinstance(item, Broadcast):
                    left = item.writes_left
                    used += item.write(budget - used)
                    entry.pending_writes -= left - item.writes_left
                    if item.writes_left == 0:
                        queue.popleft()
                        self.pending_bytes -= item.memory
                else:
                    # The queue stays while it runs: what it causes queues behind it, not past it.
                    queue.popleft()
                    item()
                    used += 1
        finally:
            # Even if an action failed, the object must not be stuck.
            if queue:
                self._active.append(entry)
            else:
                entry.output = None
            if entry.is_behind and entry.pending_writes <= OBJECT_WRITES // 2:
                entry.fall_behind(False)
            on_spoken = entry.on_spoken
            if on_spoken is not None and not queue:
                entry.on_spoken = None
                on_spoken()
        return max(1, used)


def has_actions(queue: Collection[Broadcast | Callable[[], None]]) -> bool:
    """Whether an object's output queue holds more than messages to clients."""
    return not all(isinstance(item, Broadcast) for item in queue)
