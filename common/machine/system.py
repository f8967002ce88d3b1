"""Whether roost can run on this system."""

from __future__ import annotations

import errno
import os
import signal
import threading

from ..errors import ThreadsTooFew, UnsupportedSystem

THREADS = 6
"""Threads that a router or shard starts before it serves, and one for users' code. Two are ZeroMQ's, which ends the
process when they cannot be started."""
_FILTER = " (a container's seccomp profile may be what forbids it)"
_REFUSED = (errno.ENOSYS, errno.EPERM, errno.EACCES)


def check_system() -> None:
    """Make sure that processes can be watched and ended for certain, which takes process descriptors.

    A pid may be another process's by the time it is used. Without descriptors a cluster could not know of a member's
    end, and could not give its slots away.

    Raises:
        UnsupportedSystem: The system has none: it is not Linux, it is older than 5.3, or a filter forbids them.
    """
    try:
        descriptor = os.pidfd_open(os.getpid())
    except AttributeError:
        raise _unsupported("its Python has no os.pidfd_open") from None
    except OSError as error:
        if error.errno not in _REFUSED:
            return  # too many open files, say: whoever needs one will tell
        raise _unsupported(f"pidfd_open says: {error.strerror}{_FILTER}") from None
    try:
        signal.pidfd_send_signal(descriptor, 0)  # the null signal: nothing is sent
    except AttributeError:
        raise _unsupported("its Python has no signal.pidfd_send_signal") from None
    except OSError as error:
        if error.errno in _REFUSED:
            raise _unsupported(f"pidfd_send_signal says: {error.strerror}{_FILTER}") from None
    finally:
        os.close(descriptor)


def check_threads(wanted: int = THREADS) -> None:
    """Make sure that so many threads can be started now.

    Raises:
        ThreadsTooFew: They cannot.
    """
    over = threading.Event()
    threads = []
    try:
        for _ in range(wanted):
            thread = threading.Thread(target=over.wait)
            thread.start()
            threads.append(thread)
    except (RuntimeError, MemoryError):
        raise ThreadsTooFew(wanted) from None
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _unsupported(why: str) -> UnsupportedSystem:
    system = os.uname()
    return UnsupportedSystem(
        f"Linux 5.3 or newer is needed, whose process descriptors tell of a process's end: this is {system.sysname} "
        f"{system.release}, and {why}"
    )
