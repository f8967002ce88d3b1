"""What the public hears when an object's code fails: a plain sentence, and an id under which the log has the rest.

Exceptions and the reasons of ``abort`` are written for whoever runs the cluster: they hold names of classes, values,
paths. Clients are strangers. So a 500's body and a Close's reason say what has happened in words of the runtime's own,
and the id joins them with the line of the log. In development (the shard's ``--development``) whoever asks is who
writes the code, and the answer carries the traceback.
"""

from __future__ import annotations

import logging
import secrets
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..common.errors import LifeOver
from ..common.limits import MAX_CLOSE_REASON_BYTES

log = logging.getLogger("roost.shard")


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure, as the public hears of it.

    Attributes:
        id: 12 random hex digits, in the answer and in the log's line.
        text: The body of a 500.
        reason: The reason of a Close, at most 123 UTF-8 bytes.
    """

    id: str
    text: str
    reason: str

    @classmethod
    def of(cls, sentence: str, cause: BaseException | str, *, development: bool) -> Failure:
        """Make the words for a failure.

        Args:
            sentence: What has happened, in words that everybody may read.
            cause: Why: what the code raised, or said.
            development: Say why, too.
        """
        number = secrets.token_hex(6)
        public = f"{sentence} (error id {number})"
        if not development:
            return cls(number, public, _cut(public))
        if isinstance(cause, str):
            return cls(number, f"{public}\n\n{cause}", _cut(cause))
        return cls(number, f"{public}\n\n{in_full(cause)}", _cut(in_short(cause)))


def _cut(reason: str) -> str:
    """*reason* in the bytes that a Close has for it."""
    return reason.encode(errors="replace")[:MAX_CLOSE_REASON_BYTES].decode(errors="ignore")


# Exceptions of users' code are users' objects: to ask one for its text calls code that may raise anything itself.


def in_short(error: BaseException) -> str:
    """``ValueError: what it says``."""
    return _told(lambda: f"{type(error).__name__}: {error}", error)


def in_full(error: BaseException) -> str:
    """Its traceback, with those of what caused it."""
    return _told(lambda: "".join(traceback.format_exception(error)), error)


def safe_repr(value: object) -> str:
    """``repr``, shortened, of any object."""
    return _told(lambda: f"{value!r:.400}", value)


def _told(tell: Callable[[], str], of: object) -> str:
    try:
        return tell()
    except BaseException as error:
        return f"{_name(of)} (to ask it for its text raised {_name(error)})"


def _name(value: object) -> str:
    return type.__dict__["__name__"].__get__(type(value))  # type: ignore[no-any-return]  # a metaclass has no say here


def log_unseen(loop: object, context: dict[str, Any]) -> None:
    """The loop's exception handler where nothing else is known to do: log it, as asyncio does."""
    lines = [str(context.get("message") or "an exception that nobody has caught")]
    lines += [f"{key}: {safe_repr(value)}" for key, value in context.items() if key not in ("message", "exception")]
    error = context.get("exception")
    if error is not None:
        lines.append(in_full(error))
    log.error("%s", "\n".join(lines))


def is_end_of_life(error: BaseException | None) -> bool:
    """Whether *error* only says that the life of its code is over: nobody need hear of that."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_end_of_life(each) for each in error.exceptions)
    return isinstance(error, LifeOver)
