"""Standard input, output and errors as a server needs them, whatever it was started with.

* A descriptor 0, 1 or 2 that is closed is opened on ``/dev/null``. The next file that is opened would get its number,
  the directory's for instance, and what is printed would be written into that.
* Whoever reads our output may stop doing so: a pager, a log collector that hangs, a terminal where somebody has typed
  Ctrl-S. A pipe takes 64 KiB, then a write waits, and all clients with it. So a write waits for ``PATIENCE_S`` at most,
  and not at all once that was in vain: what finds no room is left out, and when there is room again that is said.
* In a process that runs objects' code nothing that is printed fails. The reader may have ended, the disk may be full,
  and neither is the code's business.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import Any, TextIO

PATIENCE_S = 0.1
"""Seconds that a write may wait."""
PIECE = select.PIPE_BUF
"""Bytes that a pipe takes at once when it says that it takes some."""


class Unhurried(io.RawIOBase):
    """A descriptor to write to, without waiting for whoever reads.

    Args:
        descriptor: The descriptor; it is not closed with this.
        never_fails: Errors of the system are taken for output that nobody takes.
    """

    def __init__(self, descriptor: int, *, never_fails: bool) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._never_fails = never_fails
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._left_out = 0

    def write(self, data: Any, /) -> int:
        """Write what finds room; the rest is left out, and counted. Returns the length of all."""
        whole = memoryview(data)
        at = 0
        try:
            if self._left_out and self._has_room():
                left_out, self._left_out = self._left_out, 0
                os.write(self._descriptor, f"\nroost: {left_out:,} bytes were left out, which nobody took\n".encode())
            while at < len(whole) and self._has_room():
                at += os.write(self._descriptor, whole[at : at + PIECE])
        except OSError:
            if not self._never_fails:
                raise
        self._left_out += len(whole) - at
        return len(whole)

    def _has_room(self) -> bool:
        return bool(self._poll.poll(0 if self._left_out else PATIENCE_S * 1000))

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether a terminal is there."""
        return os.isatty(self._descriptor)


def settle(*, never_fails: bool) -> None:
    """Make ``sys.stdin``, ``sys.stdout`` and ``sys.stderr`` such streams. Output that something else stands in for (a
    test's, say) is left as it is.

    Args:
        never_fails: What is printed is lost in silence where it cannot be written.
    """
    open_descriptors()
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream: TextIO = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and _number(stream) == descriptor:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
            raw = Unhurried(descriptor, never_fails=never_fails)
            setattr(sys, name, _text(io.BufferedWriter(raw), stream.encoding))


def open_descriptors() -> None:
    """See to it that 0, 1 and 2 are open. To be called before anything else is opened."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            os.set_inheritable(descriptor, True)  # whoever is started from here has the same need
        if getattr(sys, name) is None:
            file = open(descriptor, "r" if name == "stdin" else "w", closefd=False)  # noqa: SIM115
            setattr(sys, name, file)


def _text(buffer: io.BufferedWriter, encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(buffer, encoding=encoding, errors="backslashreplace", line_buffering=True)


def _number(stream: TextIO) -> int:
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return -1
