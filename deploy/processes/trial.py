"""Trying what members would be told in a process of its own, before any member is touched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
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
    """A ``python -m roost.shard.check`` or ``roost.router.check`` with the arguments of a member.

    Args:
        kind: ``shard`` or ``router``.
        argv: What the member would be told.
        what: What is tried, in words.
        patience_s: How long it may take.
        on_fine: Called with the report when it works.
        on_refused: Called with a sentence and an exit code when it does not; one of the two is called, once.
    """

    def __init__(
        self,
        kind: str,
        argv: Sequence[str],
        what: str,
        patience_s: float,
        *,
        on_fine: Callable[[dict[str, Any]], None],
        on_refused: Callable[[str, int], None],
    ) -> None:
        self._what = what
        self._patience_s = patience_s
        self._on_fine = on_fine
        self._on_refused = on_refused
        self._told = False
        self._too_late: asyncio.TimerHandle | None = None
        self._process: MemberProcess | None = None
        try:
            self._process = MemberProcess(f"{kind}.check", argv, on_ready=self._works, on_end=self._ended)
        except OSError as error:
            self._refuse(f"{what} cannot be tried: {error.strerror}", StartupError.exit_code)
            return
        self._too_late = asyncio.get_running_loop().call_later(patience_s, self._give_up)

    @classmethod
    def of_app(
        cls,
        config: UpConfig,
        *,
        on_fine: Callable[[Loaded], None],
        on_refused: Callable[[str, int], None],
    ) -> Trial:
        """Load the app as a shard would, and construct an object of each class that may be."""
        return cls(
            "shard",
            config.shard_argv(TRIAL),
            config.app_in_words,
            config.start_timeout,
            on_fine=lambda report: on_fine(Loaded.of(report)),
            on_refused=on_refused,
        )

    @classmethod
    async def of_router(cls, config: UpConfig, *, begun: Callable[[Trial], None]) -> tuple[str, int] | None:
        """Try a router's settings.

        Args:
            config: With the settings.
            begun: Gets the trial, which ends by itself.

        Returns:
            Why they do not work, with an exit code; ``None`` when they do.
        """
        result: asyncio.Future[tuple[str, int] | None] = asyncio.get_running_loop().create_future()

        def done(why: tuple[str, int] | None) -> None:
            if not result.done():  # whoever waited for it may have given up
                result.set_result(why)

        begun(
            cls(
                "router",
                config.router_argv(TRIAL),
                "the routers' settings",
                config.start_timeout,
                on_fine=lambda report: done(None),
                on_refused=lambda why, exit_code: done((why, exit_code)),
            )
        )
        return await result

    def _works(self, process: MemberProcess, report: dict[str, Any]) -> None:
        if not self._told:
            self._told = True
            self._on_fine(report)

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

    trial = Trial.of_app(config, on_fine=result.set_result, on_refused=refused)
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
