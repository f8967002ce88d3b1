"""A router's answer to an error of its own code: it ends the one connection that it worked for, and goes on.

Whoever works for one connection after the other, or for whatever is due, catches what is raised for one of them and
calls its ``break_off``: the others get their turn, and that one does not stay half done. See ``common.defects`` for the
rule and the other processes.
"""

from __future__ import annotations

import logging

from ...common.runtime.defects import origin_of
from ..counters import RouterCounters

log = logging.getLogger("roost.router")


class Defects:
    """Counts and logs them: each place that raises with its traceback once, then in a line.

    Args:
        counters: Where they are counted.
    """

    __slots__ = ("_counters", "_known")

    def __init__(self, counters: RouterCounters) -> None:
        self._counters = counters
        self._known: set[tuple[str, str, int]] = set()

    def note(self, what: str, error: Exception) -> None:
        """An error of our own was met; *what* follows from it, in words."""
        self._counters.defects += 1
        place = origin_of(error)
        if place in self._known:
            log.error("an error of roost's own, seen before: %r; %s", error, what)
        else:
            self._known.add(place)
            log.critical("an error of roost's own; %s", what, exc_info=error)
