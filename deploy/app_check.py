"""Trying an app in a process of its own, before any shard is given it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..common.errors import StartupError
from .config import UpConfig
from .post import how_it_ended
from .process import MemberProcess

CHECKER = "app-check"
"""The name in the checking process's logs; no member has it."""


class AppCheck:
    """A ``python -m roost.shard.check`` with the arguments of a shard.

    Args:
        config: What a shard would be told.
        on_fine: Called with the namespaces of an app that loads.
        on_refused: Called with a sentence and an exit code when it does not; one of the two is called, once.
    """

    def __init__(
        self,
        config: UpConfig,
        *,
        on_fine: Callable[[tuple[str, ...]], None],
        on_refused: Callable[[str, int], None],
    ) -> None:
        self._config = config
        self._on_fine = on_fine
        self._on_refused = on_refused
        self._told = False
        self._too_late: asyncio.TimerHandle | None = None
        self.process: MemberProcess | None = None
        try:
            self.process = MemberProcess(
                "shard.check", config.shard_argv(CHECKER), on_ready=self._loads, on_end=self._ended
            )
        except OSError as error:
            self._refuse(f"the app cannot be tried: {error.strerror}", StartupError.exit_code)
            return
        self._too_late = asyncio.get_running_loop().call_later(config.start_timeout, self._give_up)

    def _loads(self, process: MemberProcess, report: dict[str, Any]) -> None:
        if not self._told:
            self._told = True
            self._on_fine(tuple(map(str, report.get("namespaces", ()))))

    def _give_up(self) -> None:
        self._refuse(
            f"{self._config.app_in_words} did not load within {self._config.start_timeout:g} s", StartupError.exit_code
        )
        self.kill()

    def _ended(self, process: MemberProcess, exit_code: int, error: str) -> None:
        if self._too_late is not None:
            self._too_late.cancel()
        why = error or f"the process that loaded {self._config.app_in_words} {how_it_ended(exit_code)}"
        self._refuse(why, exit_code if exit_code > 0 else StartupError.exit_code)

    def _refuse(self, why: str, exit_code: int) -> None:
        if not self._told:
            self._told = True
            self._on_refused(why, exit_code)

    def kill(self) -> None:
        """End the process, if it still runs."""
        if self.process is not None:
            self.process.kill()
