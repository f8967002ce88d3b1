"""A process that an object's code has forked: a copy of the shard, which must never act as the shard.

``os.fork()`` copies everything: the loop, what waits in it, ZeroMQ's sockets, the directory, the mapped counters. A
child that does its work and ends (``os._exit``, ``exec``, and ``multiprocessing`` does it in that way) is the user's.
One that returns from the handler, raises, or waits for something comes back to the loop, where it would take the
shard's turns beside the shard, for ever. It ends there, with the exit code that it would have as a program of its own.

Whatever the child would touch of the shard's is replaced at the fork by an ``Ending``. All lives are over in the child:
what it asks of ``ctx`` or of a socket raises, since only its parent can speak for the object.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from ..api.current import current_label
from .failures import in_full, is_end_of_life

T = TypeVar("T")

log = logging.getLogger("roost.shard")


class Ending:
    """Stands for what the child must not touch: whoever asks it for anything ends the child.

    Args:
        kept: What it stands for, which is kept: to let go of it might touch it.
    """

    def __init__(self, *kept: object) -> None:
        self.__dict__["kept"] = kept

    def __getattr__(self, name: str) -> NoReturn:
        leave(sys.exc_info()[1])

    def __setitem__(self, key: object, value: object) -> NoReturn:
        leave(sys.exc_info()[1])

    def __call__(self, *args: object, **options: object) -> NoReturn:
        leave(sys.exc_info()[1])


def leave(error: BaseException | None = None, label: str = "") -> NoReturn:
    """End this process, which an object's code has forked and come back from.

    Args:
        error: What the code has raised.
        label: The object, and what of it ran; by default the object whose code runs, if any does.
    """
    code = 0
    where = label or current_label() or "an object"
    if isinstance(error, SystemExit):
        code = _exit_code(error)
    elif error is not None:
        code = 1
        hint = "; only its parent acts for the object" if is_end_of_life(error) else ""
        log.error("process %d, which %s has forked, ends%s\n%s", os.getpid(), where, hint, in_full(error).rstrip())
    else:
        log.warning(
            "process %d, which %s has forked, has come back to the event loop, which is the shard's, and ends: let it "
            "end itself with os._exit()",
            os.getpid(),
            where,
        )
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _exit_code(error: SystemExit) -> int:
    """As Python has it for a program of its own."""
    code = error.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    try:
        print(code, file=sys.stderr)
    except BaseException:
        pass  # its text is the user's code
    return 1


class InThread:
    """A function for another thread, which would go on as a worker of the copy's after a fork in it."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any, **options: Any) -> Any:
        before = os.getpid()
        try:
            result = self.function(*args, **options)
        except BaseException as error:
            if os.getpid() != before:
                leave(error)
            raise
        if os.getpid() != before:
            leave()
        return result

    def __repr__(self) -> str:
        return repr(self.function)
