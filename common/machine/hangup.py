"""SIGHUP: the terminal has gone, or somebody wants something read again.

A process that has a terminal ends with it, in good order; under ``nohup`` it goes on. One that has none (a service, a
member that a supervisor has started) hears of no terminal: somebody means "read your settings again", as other servers
do, and there is nothing that could be. To end, as SIGHUP would have it, costs a router all its clients.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable

log = logging.getLogger("roost.hangup")


def listen_to_hangup(loop: asyncio.AbstractEventLoop, end: Callable[[], object]) -> None:
    """Have *end* called when the terminal goes; without one SIGHUP is answered with a line in the log."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return
    loop.add_signal_handler(signal.SIGHUP, end if has_terminal() else _say)


def has_terminal() -> bool:
    """Whether this process has a terminal that could go."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _say() -> None:
    log.warning("SIGHUP changes nothing: `roost reload` brings new code, `roost up` takes other options over")
