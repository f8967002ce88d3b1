"""What a supervisor says to people. Its work goes on when nobody can hear it."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import termios
from collections.abc import Callable
from typing import Any

from ...common.runtime.logs import escaped

log = logging.getLogger("roost.supervisor")


class Voice:
    """Says lines and never raises: the terminal may have gone, its reader may have ended, the log's disk may be full.

    Each line is tried, as a full disk may have room again; that they get lost is logged once until one gets through.

    Args:
        say: Takes each line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._is_heard = True

    def __call__(self, line: str) -> None:
        """Say one line."""
        try:
            self._say(escaped(line))  # it may tell of an app's errors, and these of what a client has sent
        # ValueError: the stream was closed.
        except (OSError, ValueError) as error:
            if self._is_heard:
                log.warning("nobody can be told any more what happens: %s", error)
            self._is_heard = False
        else:
            self._is_heard = True


class Terminal:
    """The terminal at stdin, if there is one, as it was when this was made."""

    def __init__(self) -> None:
        self._modes: list[Any] | None = None
        with contextlib.suppress(termios.error, OSError, ValueError):
            self._modes = termios.tcgetattr(0)

    def restore(self) -> None:
        """Leave it as it was: a debugger that is killed at its prompt cannot."""
        if self._modes is not None:
            with contextlib.suppress(termios.error, OSError):
                # Whoever is in the background would be stopped for it.
                if os.tcgetpgrp(0) == os.getpgrp():
                    termios.tcsetattr(0, termios.TCSADRAIN, self._modes)


def leave_output() -> None:
    """Drop what stdout and stderr could not get rid of: Python tries again at its end, and would make a failure of it,
    whatever the exit code was to be."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
