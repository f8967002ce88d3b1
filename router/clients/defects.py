"""A router's answer to an error of its own code: it ends the one connection that it worked for, and goes on.

Whoever works for one connection after the other, or for whatever is due, catches what is raised for one of them and
calls its ``break_off``: the others get their turn, and that one does not stay half done. See ``common.runtime.defects``
for the rule and the other processes.
"""

from __future__ import annotations

import logging

from ...common.runtime.defects import Survived
from ..counters import RouterCounters

log = logging.getLogger("roost.router")


class Defects(Survived):
    """Counts and logs them.

    Args:
        counters: Where they are counted.
    """

    __slots__ = ("_counters",)

    def __init__(self, counters: RouterCounters) -> None:
        super().__init__(log)
        self._counters = counters

    def note(self, what: str, error: Exception) -> None:
        """An error of our own was met; *what* follows from it, in words."""
        self._counters.defects += 1
        super().note(what, error)
