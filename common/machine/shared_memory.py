"""Memory of a process that others may read: its counters, its last words.

No file holds it. A file that a process has mapped can be cut off by whoever may write it (``truncate``, a backup that
is copied over it), and at its next access the system ends the process (SIGBUS). So the memory is the process's own
(``memfd_create``) and sealed: nobody can change its length, and nobody else can write into it, root included. It needs
no room on a disk, and does not wait for one.

In the run folder lies a link to it, ``/proc/<pid>/fd/<number>``, which leads there as long as the process lives. Who
wants to know what it held when the process died has it open by then.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import stat
import weakref
from pathlib import Path

from .upkeep import is_file

MAX_BYTES = 1 << 20
"""Bytes that a reader takes: a link may lead to something else when its process is dead and its number another's."""

_SEAL_FUTURE_WRITE = 0x10  # F_SEAL_FUTURE_WRITE: only what is mapped now can be written
_NO_EXEC = 0x08  # MFD_NOEXEC_SEAL: without it some systems refuse (vm.memfd_noexec = 2), and older ones do not know it


class SharedMemory:
    """Memory of this process, and the link that others find it by.

    Args:
        path: The link; whatever is there is replaced. Its folder must exist.
        content: What the memory holds at first. It keeps that length.

    Attributes:
        map: The memory.

    Raises:
        OSError: The link cannot be made.
    """

    __slots__ = ("__weakref__", "_descriptor", "_file", "map", "path")

    def __init__(self, path: Path, content: bytes) -> None:
        self.path = path
        self._descriptor = descriptor = _memory(path.name)
        # With this object, not with ``close``: whoever asks a little later still learns how it ended.
        weakref.finalize(self, os.close, descriptor)
        os.write(descriptor, content)
        self.map = mmap.mmap(descriptor, len(content))
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL | _SEAL_FUTURE_WRITE
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        info = os.fstat(descriptor)
        self._file = info.st_dev, info.st_ino
        self.restore()

    def restore(self) -> bool:
        """Make the link anew if it is gone, or if something else is in its place.

        Returns:
            Whether it was gone.

        Raises:
            OSError: It cannot be made.
        """
        if is_file(self.path, *self._file):
            return False
        fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        try:
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(f"/proc/{os.getpid()}/fd/{self._descriptor}")
            fresh.replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise
        return True

    def close(self) -> None:
        """This process writes nothing there any more."""
        self.map.close()


def _memory(name: str) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(f"roost:{name}", flags | _NO_EXEC)
    except OSError:
        return os.memfd_create(f"roost:{name}", flags)


def open_shared(path: Path) -> int:
    """A descriptor of the memory that the link at *path* leads to.

    Raises:
        FileNotFoundError: There is no link, or its process has ended.
        OSError: It cannot be opened, or is something else.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would let its reader wait
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} leads to something else")
    return descriptor


def content_of(descriptor: int) -> bytes:
    """What the memory holds; of something longer ``MAX_BYTES``."""
    return os.pread(descriptor, MAX_BYTES, 0)


def read_shared(path: Path) -> bytes:
    """What the memory at *path* holds now.

    Raises:
        as ``open_shared``.
    """
    descriptor = open_shared(path)
    try:
        return content_of(descriptor)
    finally:
        os.close(descriptor)
