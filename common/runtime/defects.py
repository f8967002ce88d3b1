"""Defects: errors of roost's own code, and how they are told from errors of users' code. Pure.

What our code raises on purpose is caught where it is expected, and so is whatever users' code raises. An exception that
leaves a callback or a task of ours all the same is a **defect**: something was left half done, and nobody knows what
holds. Each kind of process has one answer to that:

* A shard ends at once, with ``startup.DEFECT_EXIT_CODE``. A crash is what everybody else can deal with: its next
  incarnation gets everything anew, and what it had not acknowledged.
* A router ends the one connection that it worked for, and goes on (``router.clients.defects``). Where that was a link
  and no connection, it gives the link up, so that the shard starts anew (``wire.endpoint``).
* The supervisor logs it and takes its next turn (``deploy.supervisor.conductor``): it is on no message's road.

Tasks and threads of ours that nobody awaits hand what they raise to the loop's exception handler, where that answer is
given.

Users' code runs on the same loop as a shard's own, and what its callbacks raise reaches the same handler. So a defect
is recognised by its traceback: it came out of a function of ours, and none of the user's was on the way.
"""

from __future__ import annotations

import logging
import os
import sysconfig
from collections.abc import Callable
from types import TracebackType

from ..errors import ApiError

_PACKAGE = __name__.rpartition(".common.")[0]
_OWN = tuple(
    f"{_PACKAGE}.{part}."
    for part in ("common", "router", "shard", "deploy.plan", "deploy.processes", "deploy.supervisor")
)
SURFACE = tuple(
    f"{_PACKAGE}.shard.{module}"
    for module in (
        "api.attachments",
        "api.context",
        "api.life",
        "api.namespaces",
        "api.request",
        "api.web_socket",
        "objects.responses",
        "running.loop_calls",
    )
)
"""Modules whose functions users' code calls: with what it passes, and from where it likes."""
_LIBRARIES = tuple({os.path.dirname(os.__file__), *(sysconfig.get_path(name) for name in ("purelib", "platlib"))})


def is_defect(error: BaseException | None) -> bool:
    """Whether *error*, which the loop's exception handler was given, is one of our own code."""
    # Not ``isinstance``, nor the error's own attributes: an error of the user's answers for itself, and may raise.
    if error is None or issubclass(type(error), ApiError) or not issubclass(type(error), Exception):
        return False
    entered = False
    trace: TracebackType | None = _traceback(error)
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        path = trace.tb_frame.f_code.co_filename
        trace = trace.tb_next
        if module.startswith(_OWN):
            if not entered and module.startswith(SURFACE):
                return False  # the user's code has handed a function of the API to the loop
            entered = True
        elif _is_library(path):
            # asyncio's own first steps into a callback; below, what our code has called.
            if not entered and not _runs_callbacks(module):
                return False
        else:
            return False
    return entered


_traceback: Callable[[BaseException], TracebackType | None] = vars(BaseException)["__traceback__"].__get__


def origin_of(error: BaseException) -> tuple[str, str, int]:
    """What was raised, in which file and line: the same for one defect that is met again and again."""
    trace = error.__traceback__
    if trace is None:
        return type(error).__name__, "", 0
    while trace.tb_next is not None:
        trace = trace.tb_next
    return type(error).__name__, trace.tb_frame.f_code.co_filename, trace.tb_lineno


class Survived:
    """Logs the defects that a process goes on after: each place that raises with its traceback once, then in a line.

    Args:
        log: Where to.
    """

    __slots__ = ("_known", "_log")

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._known: set[tuple[str, str, int]] = set()

    def note(self, what: str, error: Exception) -> None:
        """An error of our own was met; *what* follows from it, in words."""
        place = origin_of(error)
        if place in self._known:
            self._log.error("an error of roost's own, seen before: %r; %s", error, what)
        else:
            self._known.add(place)
            self._log.critical("an error of roost's own; %s", what, exc_info=error)


def _is_library(path: str) -> bool:
    # uvloop's frames name its sources, those of frozen modules no file at all.
    return path.startswith((*_LIBRARIES, "<frozen")) or path.endswith(".pyx")


def _runs_callbacks(module: str) -> bool:
    return module.startswith(("asyncio.", "uvloop."))
