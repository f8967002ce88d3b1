"""Descriptors that are kept for the start of a process.

Clients of the admin API, the processes of many posts, a watch over many folders: together they may take every
descriptor that the supervisor is allowed. Then no dead member could be started again, and its clients would lose their
objects. So some are held open for nothing, and lent while a post that has served gets its next process. New posts have
to do with what else there is: they would use the reserve up.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

HELD = 24
"""Descriptors that are held; a start takes nine, of which one stays with the process."""
SAY_EVERY_S = 60.0
"""Seconds between two lines of the log on clients that wait because there are none."""

log = logging.getLogger("roost.supervisor")


class Reserve:
    """Holds descriptors.

    Args:
        number: How many.
    """

    def __init__(self, number: int = HELD) -> None:
        self._number = number
        self._held: list[int] = []
        self.top_up()

    def top_up(self) -> None:
        """Hold as many again as there should be, as far as there are any. For each second."""
        try:
            while len(self._held) < self._number:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            pass  # others have them for a moment

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """They may be used in here, where nothing else may be opened: no turn of the loop."""
        self._let_go()
        try:
            yield
        finally:
            self.top_up()

    def close(self) -> None:
        """Hold none any more."""
        self._number = 0
        self._let_go()

    def _let_go(self) -> None:
        while self._held:
            os.close(self._held.pop())


class Shortage:
    """Takes what an event loop says when it cannot accept a connection for lack of descriptors: at each try, for each
    that waits, with a traceback. Here it is a line a minute.

    Args:
        now: Monotonic seconds.
        otherwise: Takes all else that the loop has to say.
    """

    def __init__(self, now: Callable[[], float], otherwise: Callable[[dict[str, Any]], object]) -> None:
        self._now = now
        self._otherwise = otherwise
        self._tries = 0
        self._not_before = float("-inf")

    def __call__(self, loop: object, context: dict[str, Any]) -> None:
        """As an event loop calls its exception handler."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in (errno.EMFILE, errno.ENFILE):
            self._otherwise(context)
            return
        self._tries += 1
        now = self._now()
        if now >= self._not_before:
            log.error(
                "no descriptor is left for clients of the admin API, which wait: %d tries since this was last said; "
                "raise the limit (ulimit -n, LimitNOFILE=)",
                self._tries,
            )
            self._not_before, self._tries = now + SAY_EVERY_S, 0
