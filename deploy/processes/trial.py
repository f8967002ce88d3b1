"""Trying an app in a process of its own, before any member is touched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...common.errors import StartupError
from ..plan.changes import ChangeFailed
from ..plan.config import UpConfig
from ..plan.post import how_it_ended
from ..plan.staffing import listed
from .process import MemberProcess

TRIAL = "trial"
"""The name in that process's logs; no member has it."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """An app that works, as far as could be tried.

    Attributes:
        namespaces: Those that it has classes for.
        constructed: Those of them of which an object was constructed.
    """

    namespaces: tuple[str, ...]
    constructed: tuple[str, ...] = ()

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> Loaded:
        """What the process that tried it has reported."""
        return cls(*(tuple(map(str, report.get(part, ()))) for part in ("namespaces", "constructed")))


class Trial:
    """A ``python -m roost.shard.check``: loads the app as a shard would, and constructs an object of each class that
    may be.

    Args:
        config: With the app.
        on_fine: Called with what there is when it works.
        on_refused: Called with a sentence and an exit code when it does not; one of the two is called, once.
    """

    def __init__(
        self,
        config: UpConfig,
        *,
        on_fine: Callable[[Loaded], None],
        on_refused: Callable[[str, int], None],
    ) -> None:
        self._what = config.app_in_words
        self._patience_s = config.start_timeout
        self._on_fine = on_fine
        self._on_refused = on_refused
        self._told = False
        self._too_late: asyncio.TimerHandle | None = None
        self._process: MemberProcess | None = None
        try:
            argv = config.shard_argv(TRIAL)
            self._process = MemberProcess("shard.check", argv, on_ready=self._works, on_end=self._ended)
        except OSError as error:
            self._refuse(f"{self._what} cannot be tried: {error.strerror}", StartupError.exit_code)
            return
        self._too_late = asyncio.get_running_loop().call_later(self._patience_s, self._give_up)

    def _works(self, process: MemberProcess, report: dict[str, Any]) -> None:
        if not self._told:
            self._told = True
            self._on_fine(Loaded.of(report))

    def _give_up(self) -> None:
        self._refuse(f"{self._what} did not load within {self._patience_s:g} s", StartupError.exit_code)
        self.kill()

    def _ended(self, process: MemberProcess, exit_code: int, error: str) -> None:
        if self._too_late is not None:
            self._too_late.cancel()
        why = error or f"the process that tried {self._what} {how_it_ended(exit_code)}"
        self._refuse(why, exit_code if exit_code > 0 else StartupError.exit_code)

    def _refuse(self, why: str, exit_code: int) -> None:
        if not self._told:
            self._told = True
            self._on_refused(why, exit_code)

    async def ended(self) -> None:
        """Wait for the end of the process."""
        if self._process is not None:
            await self._process.gone.wait()

    def kill(self) -> None:
        """End the process, if it still runs."""
        if self._process is not None:
            self._process.kill()


def check_app(config: UpConfig) -> str:
    """Try an app without a cluster, on a loop of its own.

    Returns:
        What works, in a sentence.

    Raises:
        ChangeFailed: Something does not.
    """
    return asyncio.run(_check_app(config))


async def _check_app(config: UpConfig) -> str:
    result: asyncio.Future[Loaded] = asyncio.get_running_loop().create_future()

    def refused(why: str, exit_code: int) -> None:
        result.set_exception(ChangeFailed(why, exit_code))

    trial = Trial(config, on_fine=result.set_result, on_refused=refused)
    try:
        loaded = await result
    finally:
        await trial.ended()
    tried = (
        f"an object of {listed(loaded.constructed)} was constructed"
        if loaded.constructed
        else "no object was constructed, as no class has a trial_name"
    )
    return f"{config.app_in_words} can be hosted: {listed(loaded.namespaces)}; {tried}"
