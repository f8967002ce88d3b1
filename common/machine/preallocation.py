"""Room on the disk that is taken beforehand, so that a start finds it when the disk has become full.

What a start writes goes over what an earlier one has written: a lock into a file of the same size, the directory's
commits into a log that has its blocks from the first start on. Counters and last words are on no disk.
"""

from __future__ import annotations

import contextlib
import ctypes

_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE


def keep_room(descriptor: int, size: int) -> None:
    """Give a file blocks for its first *size* bytes. What it holds, and its length, stay as they are.

    Where the file system cannot, or the disk is full already, nothing happens.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with contextlib.suppress(AttributeError):
        libc.fallocate64(descriptor, _KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(size))
