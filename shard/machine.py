"""The machine of a shard: what it takes from outside beside what every member takes."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from ..common.cluster.outside import Machine
from ..common.ids import Incarnation
from ..common.machine.last_words import LastWords, forget_links, last_words_path
from ..common.machine.run_folder import ipc_endpoint, remove_sockets
from ..common.runtime.startup import DEFECT_EXIT_CODE
from ..common.settings.shard import ShardConfig
from ..common.wire.link import Acceptor, Wiring
from .host import Host
from .running.memory import limit_memory, offer_to_be_killed
from .watchdog import Watchdog


class ShardMachine(Machine):
    """See ``Machine``.

    Args:
        config: The shard's settings.
    """

    def __init__(self, config: ShardConfig) -> None:
        super().__init__(config)
        self._memory_bytes = config.memory_limit_bytes

    def limit_memory(self) -> None:
        """Keep an object that wants too much from hurting more than its shard.

        Raises:
            ConfigError: as ``memory.limit_memory``.
        """
        offer_to_be_killed()
        limit_memory(self._memory_bytes)

    @property
    def endpoint_of(self) -> Callable[[Incarnation], str]:
        """Where the shard's address is, by its incarnation."""
        return partial(ipc_endpoint, self._config.run, self._config.name)

    def last_words(self, incarnation: Incarnation) -> LastWords:
        """The shard's note, once what earlier incarnations have left is removed."""
        run, name = self._config.run, self._config.name
        forget_links(run, name)
        remove_sockets(run, name)
        return LastWords(last_words_path(run, name, incarnation))

    def acceptor(self, wiring: Wiring, endpoint: str) -> Acceptor:
        """As ``Acceptor``."""
        return Acceptor(wiring, endpoint)

    def watchdog(self, host: Host, look: Callable[[float], None]) -> Watchdog:
        """As ``Watchdog``."""
        return Watchdog(host, look=look)

    def on_fork(self, become_copy: Callable[[], object]) -> None:
        """Have *become_copy* called in each process that is forked off this one."""
        os.register_at_fork(after_in_child=become_copy)

    def end_at_once(self) -> None:
        """End the process, whatever it is doing: what it would still say might be wrong."""
        os._exit(DEFECT_EXIT_CODE)
