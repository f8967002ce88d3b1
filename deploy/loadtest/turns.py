"""When what is due: an open-loop schedule, which does not wait for anybody."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence


class Turns:
    """Takes turns at even distances: number *t* of all turns is due at ``t / rate`` and belongs to place ``t % total``.

    Each process has some of the places; together the processes fill all turns, without a word between them.

    Args:
        places: Those of this process, among 0 … *total* - 1, in any order.
        total: How many places there are.
        rate: Turns a second of all places together; 0: none ever.
        end_s: No turn is due from then on.
    """

    def __init__(self, places: Sequence[int], total: int, rate: float, end_s: float = math.inf) -> None:
        self._places = sorted((place, index) for index, place in enumerate(places))
        self._total, self._rate, self._end_s = total, rate, end_s
        self._round = self._at = 0

    @property
    def next_s(self) -> float:
        """When the next turn is due: seconds since the beginning; infinite when there is none."""
        if not self._places or not self._rate:
            return math.inf
        # A product and a quotient of whole numbers: a sum of distances would drift.
        due_s = (self._round * self._total + self._places[self._at][0]) / self._rate
        return due_s if due_s < self._end_s else math.inf

    def due(self, elapsed_s: float, at_most: int) -> Iterator[tuple[int, float]]:
        """The turns that are due and have not been taken.

        Args:
            elapsed_s: Seconds since the beginning.
            at_most: How many to take now; the others stay due.

        Yields:
            The index of the place in *places*, and when its turn was due.
        """
        for _ in range(at_most):
            due_s = self.next_s
            if due_s > elapsed_s or due_s == math.inf:
                return
            index = self._places[self._at][1]
            self._at += 1
            if self._at == len(self._places):
                self._round, self._at = self._round + 1, 0
            yield index, due_s
