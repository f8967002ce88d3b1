"""Who does what: connections have numbers, their *seats*, which are shared out over objects and processes."""

from __future__ import annotations

from dataclasses import dataclass

TALKERS = 16
"""Connections of an object that broadcast. Each receiver keeps account of each of them: all of 32,768 would be a
thousand million accounts."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A run's shares.

    Attributes:
        connections: Seats, numbered from 0.
        objects: Seat *n* belongs to object *n* modulo this.
        processes: Each holds a row of neighbouring seats, so that each has some of each object.
    """

    connections: int
    objects: int
    processes: int

    def seats_of(self, process: int) -> range:
        """The seats of a process."""
        return range(process * self.connections // self.processes, (process + 1) * self.connections // self.processes)

    def object_of(self, seat: int) -> int:
        """The object of a seat."""
        return seat % self.objects

    def members_of(self, object_: int) -> int:
        """How many seats an object has."""
        return (self.connections - object_ + self.objects - 1) // self.objects

    def talkers(self) -> list[int]:
        """The seats that broadcast, in the order of their turns: the objects take turns, then their talkers. They are
        up to ``TALKERS`` and half of an object's seats, evenly spread, so that they belong to all processes."""
        rows: list[list[int]] = []
        for object_ in range(self.objects):
            members = self.members_of(object_)
            count = min(TALKERS, max(1, members // 2))
            rows.append([object_ + self.objects * (turn * members // count) for turn in range(count)])
        longest = max(map(len, rows))
        return [row[turn] for turn in range(longest) for row in rows if turn < len(row)]
