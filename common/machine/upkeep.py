"""Upkeep: what a process keeps in the run folder, and puts back when somebody has removed it.

A run folder is tidied away by accident: ``rm -rf``, a backup that is put back, a cleaner of old files. The processes do
not need it while they run: locks are held by descriptors, counters are mapped, connections stay. But whoever comes
later needs it, so each process looks once a second for what it has made itself.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

from ..errors import RoostError
from .run_folder import follow_folders

log = logging.getLogger("roost.upkeep")


class Kept(Protocol):
    """Something in the run folder."""

    path: Path

    def restore(self) -> bool:
        """Put it back if it is gone, or if another one is in its place.

        Returns:
            Whether it was gone.

        Raises:
            OSError, RoostError: It cannot be put back now.
        """
        ...


class Upkeep:
    """Looks after what a process keeps.

    Args:
        kept: What there is; the lock first, which makes the folder.
    """

    def __init__(self, *kept: Kept) -> None:
        self._kept = list(kept)
        self._failing = ""

    def add(self, kept: Kept) -> None:
        """Look after one more."""
        self._kept.append(kept)

    def look(self) -> None:
        """Put back what is gone; costs a few calls of ``stat``. For each second."""
        failing, restored = "", []
        for kept in self._kept:
            try:
                if kept.restore():
                    restored.append(kept.path)
            except (OSError, RoostError) as error:
                failing = failing or f"{kept.path} is gone from the run folder and cannot be put back yet: {error}"
        follow_folders()
        if restored:
            names = ", ".join(path.name for path in restored)
            log.warning("somebody has removed %s from the run folder %s: put back", names, restored[0].parent)
        if failing and failing != self._failing:
            log.error("%s", failing)
        self._failing = failing


def is_file(path: Path, device: int, inode: int) -> bool:
    """Whether the file at *path* is that one."""
    try:
        info = path.stat()
    except FileNotFoundError:
        return False
    return (info.st_dev, info.st_ino) == (device, inode)
