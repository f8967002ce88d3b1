"""What events are at work: their handlers wait, or something that they have started has not ended.

Each has a row in the shard's last words until all of that has ended, since it may end the process at any moment: a
thread or a child that a handler waits for, a task that it has left. A handler that ends without waiting, and leaves
nothing, costs nothing here: while it runs it is noted by the runner.
"""

from __future__ import annotations

from collections.abc import Callable

from ...common.machine.last_words import LastWords


class Note:
    """An event that is at work. Whatever its handler starts has a hold on it, and so has what that starts.

    Attributes:
        event: Router and connection, as ``LastWords`` has them.
        seq: Its number there.
        object_id: Its object.
        holds: What has not ended.
        ticket: For its row; 0 while it has none.
    """

    __slots__ = ("event", "holds", "object_id", "seq", "ticket")

    def __init__(self, event: int, seq: int, object_id: bytes) -> None:
        self.event = event
        self.seq = seq
        self.object_id = object_id
        self.holds = 0
        self.ticket = 0


class Unfinished:
    """The rows of a shard.

    Args:
        words: Where they are; ``None`` to note nothing.
        now: The loop's clock.
    """

    __slots__ = ("_now", "_words")

    def __init__(self, words: LastWords | None, now: Callable[[], float]) -> None:
        self._words = words
        self._now = now

    def hold(self, note: Note) -> None:
        """Something of the event has begun, and does not end in this step."""
        note.holds += 1
        if note.holds == 1 and self._words is not None:
            note.ticket = self._words.keep(note.event, note.seq, note.object_id, self._now())

    def release(self, note: Note) -> None:
        """It has ended."""
        note.holds -= 1
        if not note.holds and note.ticket and self._words is not None:
            self._words.drop(note.ticket)
            note.ticket = 0

    def close(self) -> None:
        """The process ends in good order, whatever is still at work."""
        words, self._words = self._words, None
        if words is not None:
            words.drop_all()
