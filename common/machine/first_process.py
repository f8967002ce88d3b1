"""What the first process of a container owes the others: to bury whoever has lost its parent, and to pass signals on.

The system makes process 1 the parent of every orphan. Whoever waits for children of its own, as a supervisor, an event
loop or users' code does, cannot at the same time wait for all: it would take the others' exit codes away. So process 1
does nothing else, and the program goes on in its only child.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

_KILLED = 128
"""Plus the signal's number: what a process that ends by a signal is said to exit with (shells)."""
_TO_SPARE = 3
"""Descriptors from this one on are the program's."""


def step_aside() -> None:
    """Do nothing unless this is process 1: then go on in a child; process 1 ends when that one does, as it did.

    Must be called before there are threads or an event loop.
    """
    if os.getpid() == 1:
        keep_house()


def keep_house() -> None:
    """Fork; returns in the child. This process reaps and passes on signals until the child ends, then ends likewise."""
    sys.stdout.flush()
    sys.stderr.flush()
    everything = signal.valid_signals()
    # Blocked, so that none is lost: for process 1, the system drops what nobody waits for.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, everything)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    _close_descriptors()
    while True:
        signalled = signal.sigwaitinfo(everything)
        if signalled.si_signo == signal.SIGCHLD:
            exit_code = _reap(child)
            if exit_code is not None:
                os._exit(exit_code)
        # One that the system has sent comes from the terminal (positive code), which has sent it to the child as well.
        elif signalled.si_code <= 0:
            os.kill(child, signalled.si_signo)


def _close_descriptors() -> None:
    """The end of a pipe must be seen when the child closes it. By a look at those that are open: there may be as many
    as 2^30 in a container, where nobody has set a limit."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) >= _TO_SPARE:
            with contextlib.suppress(OSError):  # the one for the look itself
                os.close(int(name))


def _reap(child: int) -> int | None:
    """Bury all that have ended; gives the exit code of *child* if it is one of them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else _KILLED - code
