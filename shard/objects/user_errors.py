"""What objects' code raises, counted and logged; and what the loop gets to see of it, told from errors of our own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from ...common.runtime.defects import is_defect
from ..counters import ShardCounters
from ..running.failures import Failure, in_full, in_short, is_end_of_life, log_unseen
from ..running.tasks import ObjectTask
from .misuse import add_hint

log = logging.getLogger("roost.shard")


class UserErrors:
    """See the module.

    Args:
        counters: ``errors`` is kept up to date.
        development: Whoever asks for something is who writes the code: answers say why it has failed.

    Attributes:
        on_defect: Called with an error of our own code; is to end the process at once (``common.runtime.defects``).
    """

    def __init__(self, counters: ShardCounters, *, development: bool) -> None:
        self._counters = counters
        self._development = development
        self._log_unseen: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] = log_unseen
        self.on_defect: Callable[[Exception], None] = lambda error: None

    def note(self, where: str, error: BaseException | None, number: str = "") -> None:
        """The user's code has raised: log it with its traceback, and with the id under which the public hears of it, if
        it does. Nothing else is hurt by it."""
        self._counters.errors += 1
        if error is None:
            return
        add_hint(error)
        known_as = f" (error id {number})" if number else ""
        log.error("%s raised %s%s\n%s", where, in_short(error), known_as, in_full(error).rstrip())

    def failed(self, sentence: str, where: str, error: BaseException) -> Failure:
        """As ``note``, for an error of which the public hears *sentence*."""
        add_hint(error)
        failure = self.failure(sentence, error)
        self.note(where, error, failure.id)
        return failure

    def failure(self, sentence: str, cause: BaseException | str) -> Failure:
        """What the public hears of a failure that whoever asks has logged."""
        return Failure.of(sentence, cause, development=self._development)

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Be told of what the loop gets to see."""
        self._log_unseen = loop.get_exception_handler() or log_unseen
        loop.set_exception_handler(self._unseen)

    def _unseen(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A task has raised and nobody has looked, or a callback has: log it; objects' tasks are called after them."""
        error: Any = context.get("exception")
        if is_defect(error) and type(context.get("future")) is not ObjectTask:
            self.on_defect(error)
        elif not is_end_of_life(error):  # that is how tasks of a reset object end
            self._counters.errors += 1
            self._log_unseen(loop, context)
