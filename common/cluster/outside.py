"""What lies outside of a member's process, and is handed in: its name, clock, directory, neighbours, counters.

A ``Machine`` is made once, in ``__main__``. The simulation makes its own, in which many members live in one process.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, Protocol

from ..ids import Incarnation
from ..machine.counters import CounterFile, Counters
from ..machine.run_folder import counters_path, make_data_folder
from ..machine.upkeep import Kept, Upkeep
from ..runtime.clock import Clock, SystemClock
from ..runtime.collector import Collector
from ..runtime.config import MemberConfig
from ..runtime.startup import hold_name, others_serve, raise_descriptor_limit, report_ready
from .directory import Directory, open_directory, url_in
from .neighbours import LocalNeighbours, Neighbours


class Name(Kept, Protocol):
    """A member's name, which one process holds at a time."""

    def release(self) -> None:
        """Give it back."""
        ...


class Machine:
    """This machine, as a member meets it.

    Args:
        config: The member's settings.

    Attributes:
        clock: The time.
        pid: The member's process.
    """

    def __init__(self, config: MemberConfig) -> None:
        self._config = config
        self.clock: Clock = SystemClock()
        self.pid = os.getpid()

    def take_name(self) -> Name:
        """Take the member's name, and make its folders if they are missing.

        Raises:
            ConfigError, StartupError: as ``make_data_folder`` and ``hold_name``.
        """
        make_data_folder(self._config.data)
        return hold_name(self._config.run, self._config.name)

    async def open_directory(self, initial_shards: int = 0) -> Directory:
        """Open the cluster's directory; one that is missing is made if no other member serves.

        Raises:
            DirectoryError: as ``directory.open_directory``.
        """
        url, create = url_in(self._config.data), not others_serve(self._config.run)
        return await open_directory(url, initial_shards=initial_shards, create=create)

    def neighbours(self) -> Neighbours:
        """The other members, for the loop that runs."""
        return LocalNeighbours(self._config.run, asyncio.get_running_loop())

    def descriptor_limit(self) -> int:
        """Have as many descriptors as the system allows; returns how many."""
        return raise_descriptor_limit()

    def counter_file(self, counters: Counters) -> CounterFile:
        """Where *counters* are published."""
        return CounterFile(counters_path(self._config.run, self._config.name), counters)

    def collector(self, counters: Any, **options: Any) -> Collector:
        """As ``Collector``."""
        return Collector(counters, self.clock, **options)

    def upkeep(self, *kept: Kept) -> Upkeep:
        """As ``Upkeep``."""
        return Upkeep(*kept)

    def report_ready(self, incarnation: Incarnation) -> None:
        """Tell whoever started the member that it serves."""
        report_ready(self._config.ready_fd, self._config.name, incarnation)
