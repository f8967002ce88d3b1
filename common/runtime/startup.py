"""How a member starts: its logging, the lock on its name, and the report to whoever started it.

A member that was started with ``--ready-fd`` writes one line of JSON there, ``{"ready": true, "name": …,
"incarnation": …}`` or ``{"error": "<sentence>", "exit_code": N}``, and closes it. End of file without a line means
that the process died.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ..errors import ConfigError, DataFolderInUse, FolderTrouble, RoostError, StartupError
from ..ids import Incarnation
from ..machine import standard_streams
from ..machine.first_process import step_aside
from ..machine.run_folder import counters_path, lock_path, locked_names, make_run_folder
from ..machine.system import check_system, check_threads
from ..machine.upkeep import is_file
from . import heap
from .config import MemberConfig, parse
from .logs import escaped, install_logging

ConfigT = TypeVar("ConfigT", bound=MemberConfig)

UNEXPECTED_EXIT_CODE = 1
"""What a process exits with after an error that a restart may cure."""
DEFECT_EXIT_CODE = 79
"""What a shard exits with after an error of roost's own code (``defects``): it comes back clean, and redelivery does
the rest."""
_HELP = frozenset({"-h", "--help"})
_PID_BYTES = 20
_MAX_PATH = 4_096
_LOCK_PATIENCE_S = 0.25
"""Seconds for which a held name is tried again: whoever asks for its holder locks it for a moment."""


def launch(
    cls: type[ConfigT],
    argv: Sequence[str],
    *,
    prog: str,
    serve: Callable[[ConfigT], None],
    label: Callable[[], str] | None = None,
) -> int:
    """Run a member from its command line: parse, set up logging, serve; whatever fails is reported in one place.

    Args:
        cls: The config class.
        argv: The arguments, without the program's name.
        prog: What the command is called in ``--help`` and errors.
        serve: Runs until the member has drained. It calls ``report_ready`` itself.
        label: For a member that runs users' code: tells whose runs, for its log records.

    Returns:
        The exit code.
    """
    standard_streams.open_descriptors()
    step_aside()
    heap.settle()
    standard_streams.settle(never_fails=True)
    ready_fd = _ready_fd_in(argv)
    try:
        if not _HELP.intersection(argv):
            check_system()
        config = parse(cls, argv, prog=prog)
        check_threads()
        install_logging(config.log_level, config.name, label)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)  # what users print should not wait for more of it
        os.register_at_fork(after_in_child=_become_an_ordinary_process)
        serve(config)
    except Exception as error:
        return report_error(ready_fd, error)
    return 0


def _become_an_ordinary_process() -> None:
    """In a process that users' code has forked: signals are its own again. The event loop's handlers would write to a
    pipe that it shares with the member, and so tell the member to end."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _ready_fd_in(argv: Sequence[str]) -> int:
    """The ready descriptor, found even when the other arguments do not parse."""
    option, value = "--ready-fd", ""
    for at, word in enumerate(argv):
        if word == option and at + 1 < len(argv):
            value = argv[at + 1]
        elif word.startswith(option + "="):
            value = word[len(option) + 1 :]
    return int(value) if value.isascii() and value.isdigit() else -1


def report_ready(fd: int, name: str, incarnation: Incarnation) -> None:
    """Tell whoever started this process that it serves; does nothing without a descriptor (``fd < 0``)."""
    _report(fd, {"ready": True, "name": name, "incarnation": incarnation})


def report_error(fd: int, error: BaseException) -> int:
    """Tell whoever started this process that it cannot go on: on *fd*, or on stderr without one.

    An error that is not one of ours has its traceback written to stderr as well: it is a defect.

    Returns:
        The exit code to end with.
    """
    sentence = str(error) or type(error).__name__
    if not isinstance(error, RoostError | OSError):
        traceback.print_exception(error)
        sentence = f"unexpected {type(error).__name__}: {sentence}"
    exit_code = error.exit_code if isinstance(error, StartupError) else UNEXPECTED_EXIT_CODE
    if not _report(fd, {"error": sentence, "exit_code": exit_code}):
        print(f"roost: {escaped(sentence)}", file=sys.stderr, flush=True)
    return exit_code


def _report(fd: int, message: dict[str, object]) -> bool:
    if fd < 0:
        return False
    try:
        os.write(fd, json.dumps(message).encode() + b"\n")
        os.close(fd)
    except OSError:
        # Nobody listens (any more): the starter died, or the report has been made. A member outlives its starter.
        return False
    return True


def raise_descriptor_limit() -> int:
    """Raise this process's limit of open descriptors to what the system allows it.

    Returns:
        The limit that holds now.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return soft  # the kernel has a limit all the same, and does not say it here
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return soft  # some systems call the hard limit infinite and allow less: keep what we have
    return hard


class HeldName:
    """A lock on a name in the run folder, held until ``release()`` or the end of the process, however it ends.

    Processes that this one forks (users' code may) do not hold it: they may outlive this one, and its successor must be
    able to take the name.
    """

    def __init__(self, path: Path, fd: int, folder_fd: int) -> None:
        self.path = path
        self._fd = fd
        self._folder_fd = folder_fd
        os.register_at_fork(after_in_child=self._let_go)

    def _let_go(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            os.close(self._folder_fd)
            self._fd = self._folder_fd = -1

    def restore(self) -> bool:
        """Put the lock back if it is gone from the run folder, and the folder as well. Nobody has missed it meanwhile:
        whoever asks looks at the descriptor, too (``is_holder``).

        Returns:
            Whether it was gone.

        Raises:
            ConfigError: The folder or the lock cannot be made.
            DataFolderInUse: Another process has taken the name.
        """
        if self._fd < 0 or _is_at(self.path, self._fd):
            return False
        make_run_folder(self.path.parent)
        folder_fd, fd = _open_lock(self.path)
        try:
            fcntl.flock(folder_fd, fcntl.LOCK_SH)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, _PID_BYTES, 0).decode("ascii", "replace").strip()
            os.close(fd)
            os.close(folder_fd)
            raise DataFolderInUse(f"process {holder or 'unknown'} holds {self.path} now") from None
        _write_holder(fd, self.path.parent)
        # Under the old numbers, at once: a fork between two steps would keep what it does not know of.
        os.dup2(fd, self._fd, inheritable=False)
        os.dup2(folder_fd, self._folder_fd, inheritable=False)
        os.close(fd)
        os.close(folder_fd)
        return True

    def release(self) -> None:
        """Let the name go and tidy up: the last one out removes the run folder."""
        if self._fd < 0:
            return
        # Unlinked while locked: who opened the old file meanwhile sees, once it has the lock, that it is not the one
        # at the path any more, and starts over.
        if _is_at(self.path, self._fd):
            self.path.unlink(missing_ok=True)
        self._let_go()
        try:
            self.path.parent.rmdir()
        except OSError:
            pass  # others are still in it


def hold_name(run: Path, name: str) -> HeldName:
    """Take the lock on *name* in the run folder (made if missing): proof that no other process of that name lives.

    It also keeps a shared lock on the folder itself, which tells ``systemd-tmpfiles`` to leave its contents alone.

    Raises:
        DataFolderInUse: A live process holds the name.
        ConfigError: The run folder cannot be used.
    """
    path = lock_path(run, name)
    give_up_at = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        make_run_folder(run)
        try:
            folder_fd, fd = _open_lock(path)
        except FileNotFoundError:
            continue  # the last one out removed the folder just now
        try:
            fcntl.flock(folder_fd, fcntl.LOCK_SH)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, _PID_BYTES, 0).decode("ascii", "replace").strip()
            os.close(fd)
            os.close(folder_fd)
            if time.monotonic() < give_up_at:
                time.sleep(0.01)
                continue
            raise DataFolderInUse(
                f"{name!r} is running already in this data folder (process {holder or 'unknown'}; lock {path})"
            ) from None
        if _is_at(path, fd):
            _write_holder(fd, run)
            return HeldName(path, fd, folder_fd)
        os.close(fd)  # its last holder unlinked it between our open and our lock
        os.close(folder_fd)


def _write_holder(fd: int, run: Path) -> None:
    """Process and run folder, over what another one has written there, which needs no room on the disk."""
    os.pwrite(fd, str(os.getpid()).encode().ljust(_PID_BYTES) + _folder_of(run), 0)


def _folder_of(run: Path) -> bytes:
    """The run folder as locks have it: as it was called when they were taken, wherever it has been moved since."""
    return os.fsencode(os.path.realpath(run))


def _open_lock(path: Path) -> tuple[int, int]:
    """Descriptors of the lock's folder and of the lock, made if missing."""
    folder_fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return folder_fd, os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        os.close(folder_fd)
        raise
    except OSError as error:
        os.close(folder_fd)
        sentence = f"the lock {path} cannot be opened: {error.strerror}"
        raise FolderTrouble.or_else(error.errno, sentence, ConfigError) from error


def is_holder(run: Path, name: str, pid: int) -> bool:
    """Whether the process *pid* lives and is the member *name*: it holds the name, whatever has become of the file.

    A lock that is missing, or that nobody holds, proves nothing: somebody may have tidied the folder, or put back a
    copy. The process itself is asked then: it has the lock open as long as it lives, and no fork of it has. The number
    may be another process's by now, be it of the same name in another cluster: the lock says of which folder it is.
    """
    holder = holder_of(run, name)
    if holder:
        return holder == pid
    try:
        links = sorted(os.listdir(f"/proc/{pid}/fd"), key=int)  # opened at the start: among the first
    except OSError:
        return False  # it has ended; or the number is another user's process now
    for number in links:
        link = f"/proc/{pid}/fd/{number}"
        try:
            if os.path.basename(os.readlink(link)).removesuffix(" (deleted)") == lock_path(run, name).name:
                return _lock_is_of(link, run)
        except OSError:
            continue  # closed meanwhile
    return False


def _lock_is_of(path: str, run: Path) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        folder = os.pread(fd, _MAX_PATH, _PID_BYTES)
    finally:
        os.close(fd)
    return folder in (b"", _folder_of(run))  # releases before this one did not write it


def others_serve(run: Path) -> bool:
    """Whether another member lives in the run folder that has joined the directory: so that there must be one."""
    return any(
        (holder_of(run, name) or os.getpid()) != os.getpid()
        for name in locked_names(run)
        if counters_path(run, name).exists()
    )


def forget_name(run: Path, name: str) -> None:
    """Remove the lock on *name* that a process which was killed has left; does nothing while somebody holds it."""
    path = lock_path(run, name)
    try:
        fd = os.open(path, os.O_RDWR)
    except OSError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(path, fd):
            path.unlink(missing_ok=True)  # while it is locked, as in ``HeldName.release``
    except BlockingIOError:
        pass
    finally:
        os.close(fd)


def holder_of(run: Path, name: str) -> int | None:
    """The pid of the process that holds the lock on *name* in the run folder; ``None`` when nobody does, or when the
    lock is not there: ``is_holder`` tells whether a process has ended."""
    try:
        fd = os.open(lock_path(run, name), os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(fd, _PID_BYTES, 0).strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(fd)
    return None


def _is_at(path: Path, fd: int) -> bool:
    ours = os.fstat(fd)
    return is_file(path, ours.st_dev, ours.st_ino)
