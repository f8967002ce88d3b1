"""The file that all processes of a background cluster write to: put aside when it is large.

They have it open for appending and inherit it, so it cannot be moved under them. What is in it is copied, and the file
is cut to nothing, where all of them go on. Lines that are written between the two are lost; that is a few microseconds.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

log = logging.getLogger("roost.supervisor")

FILE_NAME = "roost.log"
LARGE_BYTES = 64 << 20
"""Bytes at which it is put aside, over what was put aside before: so both take 128 MiB."""


def log_path(data: Path) -> Path:
    """Where a background cluster's processes write."""
    return data / FILE_NAME


def put_aside_path(path: Path) -> Path:
    """Where the log at *path* is put aside."""
    return path.with_suffix(".log.1")


class LogFile:
    """The log of a cluster whose supervisor is this process.

    Args:
        path: Where a background cluster has it.
        descriptor: Of the process's own output. If that is no such file, nothing is done.
    """

    def __init__(self, path: Path, descriptor: int = 2) -> None:
        self._path = path
        self._descriptor = descriptor
        self._failing = ""

    def look(self) -> None:
        """Put the log aside if it is large. For each second: costs a call."""
        info = os.fstat(self._descriptor)
        if info.st_size < LARGE_BYTES:
            return
        failing = ""
        try:
            found = self._path.stat()
            if (found.st_dev, found.st_ino) != (info.st_dev, info.st_ino):
                return  # it is somebody else's: a terminal's recording, a service's
            self._put_aside()
        except OSError as error:
            failing = f"{self._path} has {info.st_size >> 20} MiB and cannot be put aside: {error}"
        if failing and failing != self._failing:
            log.error("%s", failing)
        self._failing = failing

    def _put_aside(self) -> None:
        aside = put_aside_path(self._path)
        making = aside.with_suffix(".new")
        try:
            with self._path.open("rb") as source, open(making, "wb", opener=_private) as target:
                shutil.copyfileobj(source, target, 1 << 20)
                target.flush()
                shutil.copyfileobj(source, target)  # what came meanwhile
                target.flush()
                os.truncate(self._path, 0)
            making.replace(aside)
        finally:
            making.unlink(missing_ok=True)
        log.warning("%s was large: it is put aside as %s", self._path.name, aside.name)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
