"""One life of a member: its process, its ready pipe, and the news of its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

_REPORT_BYTES = 65_536
"""A longer report is none."""


class MemberProcess:
    """A started ``python -m roost.router`` or ``roost.shard``.

    The process gets a session of its own: a Ctrl-C in the terminal reaches the supervisor alone, which ends its
    members in order. It is not tied to this process by ``PR_SET_PDEATHSIG``: members outlive their supervisor.

    Attributes:
        pid: The process.
        gone: Set once it has ended and ``on_end`` was called.
    """

    def __init__(
        self,
        kind: str,
        argv: Sequence[str],
        *,
        on_ready: Callable[[MemberProcess, dict[str, Any]], None],
        on_end: Callable[[MemberProcess, int, str], None],
    ) -> None:
        """Start the process; needs a running loop.

        Args:
            kind: ``router`` or ``shard``.
            argv: Its arguments; ``--ready-fd`` is added.
            on_ready: Called at most once, with the report.
            on_end: Called once, with the exit code (negative for a signal) and the error that it reported, or "".
        """
        self._loop = asyncio.get_running_loop()
        self._on_ready, self._on_end = on_ready, on_end
        self._buffer = b""
        self._error = ""
        self.gone = asyncio.Event()
        self._ready_fd, theirs = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"roost.{kind}", *argv, f"--ready-fd={theirs}"],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs,),
                start_new_session=True,
            )
        except BaseException:
            os.close(self._ready_fd)
            raise
        finally:
            os.close(theirs)
        self.pid = self._process.pid
        os.set_blocking(self._ready_fd, False)
        self._loop.add_reader(self._ready_fd, self._read_report)
        # Not yet waited for, so the pid cannot have been given to another process.
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._ended)

    def terminate(self) -> None:
        """Ask it to drain and end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it now."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)

    def _read_report(self) -> None:
        try:
            chunk = os.read(self._ready_fd, _REPORT_BYTES)
        except BlockingIOError:
            return
        self._buffer += chunk
        if chunk and b"\n" not in self._buffer and len(self._buffer) < _REPORT_BYTES:
            return
        line, newline, _ = self._buffer.partition(b"\n")
        self._close_pipe()
        if not newline:
            return  # it died, or closed the pipe without a word: its end, or the start's deadline, will tell
        try:
            report = json.loads(line)
        except ValueError:
            return
        if isinstance(report, dict) and report.get("ready"):
            self._on_ready(self, report)
        elif isinstance(report, dict):
            self._error = str(report.get("error", ""))

    def _ended(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        exit_code = self._process.wait()
        if self._ready_fd >= 0:
            self._read_report()  # what it said last
        if self._ready_fd >= 0:
            self._close_pipe()
        self._on_end(self, exit_code, self._error)
        self.gone.set()

    def _close_pipe(self) -> None:
        self._loop.remove_reader(self._ready_fd)
        os.close(self._ready_fd)
        self._ready_fd = -1
