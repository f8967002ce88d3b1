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

from ...common.errors import LifeOver
from ...common.limits import MAX_CLOSE_REASON_BYTES
from ..api import exact

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


# Exceptions of users' code are users' objects: to ask one for its text calls code that may raise anything itself, and
# the text may be as long as what a client has sent (``self.members[message]``), each time that it sends it.

TOLD_CHARS = 16_000
"""Characters of a traceback that are told: of a longer one its beginning and its end."""
TOLD_IN_SHORT_CHARS = 1_000
"""Characters of an error's own words that are told."""


def in_short(error: BaseException) -> str:
    """``ValueError: what it says``."""
    return shortened(_told(lambda: f"{type(error).__name__}: {error}", error), TOLD_IN_SHORT_CHARS)


def in_full(error: BaseException) -> str:
    """Its traceback, with those of what caused it."""
    return shortened(_told(lambda: "".join(traceback.format_exception(error)), error), TOLD_CHARS)


def in_words(value: object) -> str:
    """What an object says of itself as text."""
    return shortened(_told(lambda: exact.text(str(value)), value), TOLD_IN_SHORT_CHARS)


def shortened(text: str, limit: int) -> str:
    """*text*, or its beginning and its end with the number of characters between that are left out."""
    if len(text) <= limit:
        return text
    end = limit // 4
    return f"{text[: limit - end]}… ({len(text) - limit:,} characters) …{text[-end:]}"


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
    lines = [in_words(context.get("message") or "an exception that nobody has caught")]
    lines += [f"{key}: {safe_repr(value)}" for key, value in context.items() if key not in ("message", "exception")]
    error = context.get("exception")
    if error is not None:
        lines.append(in_full(error))
    log.error("%s", "\n".join(lines))


def is_a(error: BaseException | None, kind: type[BaseException]) -> bool:
    """``isinstance``, which asks the error itself as well: for its ``__class__``."""
    return issubclass(type(error), kind)


def is_end_of_life(error: BaseException | None) -> bool:
    """Whether *error* only says that the life of its code is over: nobody need hear of that."""
    if error is None:
        return False
    left, seen = [error], {id(error)}  # no recursion: groups can be nested as deeply as memory goes, and share members
    while left:
        each = left.pop()
        if is_a(each, BaseExceptionGroup):
            for member in _members(each):
                if id(member) not in seen:
                    seen.add(id(member))
                    left.append(member)
        elif not is_a(each, LifeOver):
            return False
    return True


_members: Callable[[BaseException], tuple[BaseException, ...]] = vars(BaseExceptionGroup)["exceptions"].__get__
