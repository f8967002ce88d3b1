"""Room on the disk that is taken beforehand, so that a start finds it when the disk has become full.

What a start writes goes over what an earlier one has written, as far as that can be: a lock, counters and last words
into files of the same size, the directory's commits into a log that has its blocks from the first start on.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from pathlib import Path
from typing import BinaryIO

_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE


def keep_room(descriptor: int, size: int) -> None:
    """Give a file blocks for its first *size* bytes. What it holds, and its length, stay as they are.

    Where the file system cannot, or the disk is full already, nothing happens.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with contextlib.suppress(AttributeError):
        libc.fallocate64(descriptor, _KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(size))


def write_over(path: Path, content: bytes, error: OSError) -> BinaryIO:
    """Write into the file at *path*, which must have the size of *content*, as no new one can be written.

    Args:
        path: Whose content nobody needs any more.
        content: What to write.
        error: Why no new file can be written.

    Returns:
        The file, open.

    Raises:
        OSError: *error*, if it is not that the disk is full, or if there is no such file.
    """
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        error.filename = error.filename or str(path)  # what is said names the file
        raise error
    try:
        file = open(path, "r+b")  # noqa: SIM115
    except OSError:
        raise error from None
    if os.fstat(file.fileno()).st_size != len(content):
        file.close()
        raise error
    file.write(content)
    file.flush()
    return file
