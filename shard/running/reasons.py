"""Why the runtime ends what an object's code does, and what becomes of the event that it worked on."""

from __future__ import annotations

from enum import Enum


class Reason(Enum):
    """Why a handler was cancelled, or given up. The value is the sentence that a client hears whose request it was."""

    RESET = "the object was reset"
    """The object has called ``abort``, or code of it has failed that its life depends on. The event is over."""
    MOVES = "its object moves to another process"
    """The handler has not ended in time, and its object moves: the event comes again at the next owner."""
    SHARD_ENDS = "the shard ends"
    """The same with all objects of the process."""
    TOO_LONG = "it took too long"
    """The handler has had the event timeout that its object has set. The event is over."""

    @property
    def comes_again(self) -> bool:
        """Whether the event is not acknowledged, so that the object's next owner gets it."""
        return self is Reason.MOVES or self is Reason.SHARD_ENDS
