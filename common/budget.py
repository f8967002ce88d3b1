"""Budgets: how much there is of something that many take from, and how much of it is taken.

What bounds a process is an object, and not a figure of its metrics: whoever takes from it has it, and the counter that
tells others of it reads it (``Counters.read``).
"""

from __future__ import annotations


class Budget:
    """One of them.

    It only counts. Whoever takes some adds to ``taken``, before or after it has looked whether there is room, and takes
    it off again when it is given back: who goes, or waits, when there is too little is somebody else's rule.

    Args:
        limit: How much there is, in bytes or pieces.

    Attributes:
        limit: See above.
        half: Half of that. Many a rule begins to weigh there.
        taken: How much is taken; may be more than there is, where a rule allows that.
    """

    __slots__ = ("half", "limit", "taken")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.half = limit // 2
        self.taken = 0

    def __repr__(self) -> str:
        return f"Budget({self.taken:,} of {self.limit:,})"

    @property
    def is_over(self) -> bool:
        """Whether more is taken than there is."""
        return self.taken > self.limit

    @property
    def left(self) -> int:
        """How much is left; negative if more is taken than there is."""
        return self.limit - self.taken

    def fits(self, more: int) -> bool:
        """Whether there is room for *more*."""
        return self.taken + more <= self.limit
