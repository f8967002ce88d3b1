"""One life of a member: its process, its ready pipe, and the news of its end.

A member that this program started is its child (``MemberProcess``); one that an earlier supervisor started is not
(``AdoptedProcess``): a pid descriptor tells of its end all the same, but nobody learns its exit code.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from ...common.runtime.processes import python_words

_REPORT_BYTES = 65_536
"""A longer report is none."""


class Process(ABC):
    """What the two have in common.

    Attributes:
        pid: The process.
        gone: Set once it has ended, and whoever wanted to know was told.
    """

    pid: int
    gone: asyncio.Event

    def terminate(self) -> None:
        """Ask it to drain and end."""
        self._signal(signal.SIGTERM)

    def retire(self) -> None:
        """Ask it, a router, to send its clients away at a bearable rate and then end."""
        self._signal(signal.SIGUSR1)

    def kill(self) -> None:
        """End it now."""
        self._signal(signal.SIGKILL)

    @abstractmethod
    def _signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""

    @abstractmethod
    def let_go(self) -> None:
        """Stop watching it; it goes on."""


class MemberProcess(Process):
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
        reads_input: bool = False,
        stands_by: bool = False,
    ) -> None:
        """Start the process; needs a running loop.

        Args:
            kind: ``router`` or ``shard``; or ``shard.check``, which reports and ends.
            argv: Its arguments; ``--ready-fd`` is added.
            on_ready: Called at most once, with the report.
            on_end: Called once, with the exit code (negative for a signal) and the error that it reported, or "".
            reads_input: It gets this program's stdin, for a debugger in a terminal.
            stands_by: It waits for ``call`` before it begins; ``dismiss`` ends it instead, as does the end of this
                program. Shards only.

        Raises:
            OSError: No process can be started or watched just now; none is left running.
        """
        self._loop = asyncio.get_running_loop()
        self._on_ready, self._on_end = on_ready, on_end
        self._buffer = b""
        self._error = ""
        self.gone = asyncio.Event()
        self._ready_fd, theirs = os.pipe()
        passed, self._call_fd = [theirs], -1
        words = [*python_words(f"roost.{kind}"), *argv, f"--ready-fd={theirs}"]
        try:
            if stands_by:
                listening, self._call_fd = os.pipe()
                passed.append(listening)
                words.append(f"--standby-fd={listening}")
            self._process = subprocess.Popen(
                words,
                stdin=None if reads_input else subprocess.DEVNULL,
                pass_fds=passed,
                start_new_session=True,
            )
        except BaseException:
            os.close(self._ready_fd)
            self.dismiss()
            raise
        finally:
            for descriptor in passed:
                os.close(descriptor)
        self.pid = self._process.pid
        try:
            # Not yet waited for, so the pid cannot have been given to another process.
            self._pidfd = os.pidfd_open(self.pid)
        except BaseException:
            # No descriptor is left. A process that nobody watches would serve on and keep its name for ever.
            os.close(self._ready_fd)
            self._process.kill()
            self._process.wait()
            raise
        os.set_blocking(self._ready_fd, False)
        self._loop.add_reader(self._ready_fd, self._read_report)
        self._loop.add_reader(self._pidfd, self._ended)

    def call(self) -> None:
        """Let it begin, which has stood by.

        Raises:
            OSError: It has ended.
        """
        try:
            os.write(self._call_fd, b"!")
        finally:
            self.dismiss()

    def dismiss(self) -> None:
        """It is not needed: one that stands by ends."""
        if self._call_fd >= 0:
            os.close(self._call_fd)
            self._call_fd = -1

    def _signal(self, number: int) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)

    def let_go(self) -> None:
        """Stop watching it; it goes on, as after the death of this program."""
        if self._process.returncode is None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            # Popen warns of a child that is left running; this one is left on purpose.
            self._process.returncode = 0
        if self._ready_fd >= 0:
            self._close_pipe()

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
        self.dismiss()
        if self._ready_fd >= 0:
            self._read_report()  # what it said last
        if self._ready_fd >= 0:
            self._close_pipe()
        try:
            self._on_end(self, exit_code, self._error)
        finally:
            self.gone.set()

    def _close_pipe(self) -> None:
        self._loop.remove_reader(self._ready_fd)
        os.close(self._ready_fd)
        self._ready_fd = -1


class AdoptedProcess(Process):
    """A member that somebody else has started.

    Attributes:
        pid: The process.
        gone: Set once it has ended and ``on_end`` was called.
    """

    def __init__(self, pid: int, *, on_end: Callable[[AdoptedProcess], None]) -> None:
        """Watch the process; needs a running loop.

        Raises:
            ProcessLookupError: There is none.
        """
        self.pid = pid
        self.gone = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._on_end = on_end
        self._pidfd = os.pidfd_open(pid)
        self._loop.add_reader(self._pidfd, self._ended)

    def _signal(self, number: int) -> None:
        if self._pidfd < 0:
            return
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            pass  # it has ended, and the loop will say so

    def _ended(self) -> None:
        self.let_go()
        try:
            self._on_end(self)
        finally:
            self.gone.set()

    def let_go(self) -> None:
        """Stop watching it; it goes on."""
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
