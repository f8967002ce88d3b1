"""How log records become lines. All processes of a cluster write the same form, since their lines land in one stream::

    2026-11-30T14:55:25.123Z WARNING shard-1 room/lobby chat.moves: the text
    time (UTC)               level   process object     logger      message

Object and logger are said of users' records; roost's own messages name what they are about. Each further line of a
record (a traceback, say) has the same beginning and is indented. What a message holds may be a client's: control
characters, with which it could forge lines or speak to somebody's terminal, are shown as escapes.

What clients do may have a line for each time they do it: an object's handler raises for each message that it cannot
read, with a traceback of 2 kB. So roost's own messages are rationed, each kind for itself: beyond ``BURST_BYTES`` one
kind has ``BYTES_A_SECOND``, and the others are counted, and the count is said. Users' own records are theirs to ration.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable
from typing import TextIO

OURS = "roost"
"""The logger above all of roost's own."""
BURST_BYTES = 1 << 20
"""Bytes of one kind of message that a process may write at once."""
BYTES_A_SECOND = 16 << 10
"""And for long: 1.4 GB a day."""
SAY_EVERY_S = 10.0
"""Seconds between two lines that say how much was left out."""

_ESCAPED = {
    code: (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
    for code in (
        *range(0x20),
        *range(0x7F, 0xA0),
        *(0x200E, 0x200F, 0x061C),  # marks of direction
        *(0x2028, 0x2029),  # separators, which some viewers break lines at
        *range(0x202A, 0x202F),  # embeddings and overrides of direction: text would not stand where it seems to
        *range(0x2066, 0x206A),
    )
    if code not in (0x09, 0x0A)
}
"""Tabs do no harm, and line breaks become lines with a beginning of their own."""


def escaped(text: str) -> str:
    """*text* for a terminal or a log: what would act there is shown as an escape; lines stay lines."""
    return text.translate(_ESCAPED)


class LineFormatter(logging.Formatter):
    """The form of the module's docstring.

    Args:
        process: What the process is called.
        label: Tells whose code runs, ``namespace/name``; empty when it is nobody's.
    """

    def __init__(self, process: str, label: Callable[[], str] | None = None) -> None:
        super().__init__()
        self._process = process
        self._label = label

    def format(self, record: logging.LogRecord) -> str:
        """The record's lines, without the last line break."""
        head = f"{self.time(record)} {record.levelname} {self._process} "
        is_ours = _is_ours(record.name)
        label = self._label() if self._label is not None and not is_ours else ""
        if label:
            head += f"{label} "
        message = record.getMessage()
        if not is_ours and record.name != "root":
            message = f"{record.name}: {message}"
        more = [message]
        if record.exc_info and record.exc_info[0] is not None:
            more.append(self.formatException(record.exc_info).rstrip("\n"))
        if record.stack_info:
            more.append(self.formatStack(record.stack_info))
        lines = escaped("\n".join(more)).split("\n")
        return f"\n{head}    ".join([f"{head}{lines[0]}", *lines[1:]])

    @staticmethod
    def time(record: logging.LogRecord) -> str:
        """The record's time: UTC with milliseconds."""
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def _is_ours(name: str) -> bool:
    return name == OURS or name.startswith(f"{OURS}.")


class _OurLogger(logging.Logger):
    """One that is not disabled. The usual ways to set up an app's logging (``logging.config.dictConfig``,
    ``fileConfig``) disable every logger that there is and that they do not name: nobody means the log of the shard's
    errors by that."""

    @property
    def disabled(self) -> bool:
        """Never; ``logging.disable`` and levels have their effect."""
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        pass


class _Ration:
    """What one kind of message may still write.

    Attributes:
        left: Bytes.
        at: When that was so, monotonic seconds.
        left_out: Records since that was last said.
        since: When the first of them came.
    """

    __slots__ = ("at", "left", "left_out", "since")

    def __init__(self, now: float) -> None:
        self.left = float(BURST_BYTES)
        self.at = self.since = now
        self.left_out = 0

    def allows(self, now: float) -> bool:
        """Whether another record may be written."""
        self.left = min(BURST_BYTES, self.left + (now - self.at) * BYTES_A_SECOND)
        self.at = now
        return self.left > 0


class RationedHandler(logging.StreamHandler[TextIO]):
    """Writes records, of roost's own so many bytes of each kind. A kind is a message without what is filled in.

    Args:
        stream: Where to.
        now: Monotonic seconds.
    """

    def __init__(self, stream: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._now = now
        self._rations: dict[tuple[str, str], _Ration] = {}
        self._short: dict[tuple[str, str], _Ration] = {}  # those of which something was left out
        self._written = 0  # characters of the last record

    def emit(self, record: logging.LogRecord) -> None:
        """Write *record*, or count it."""
        if not _is_ours(record.name):
            super().emit(record)
            return
        kind, now = (record.name, str(record.msg)), self._now()
        ration = self._rations.get(kind)
        if ration is None:
            ration = self._rations[kind] = _Ration(now)
        if ration.allows(now):
            super().emit(record)
            ration.left -= self._written
        else:
            if not ration.left_out:
                ration.since = now
                self._short[kind] = ration
            ration.left_out += 1
        if self._short:
            self._say(now)

    def format(self, record: logging.LogRecord) -> str:
        """As the formatter has it."""
        text = super().format(record)
        self._written = len(text)
        return text

    def _say(self, now: float, *, at_once: bool = False) -> None:
        """Say what was left out, of each kind once in a while."""
        for kind, ration in list(self._short.items()):
            if at_once or now - ration.since >= SAY_EVERY_S:
                del self._short[kind]
                left_out, ration.left_out = ration.left_out, 0
                took_s = now - ration.since
                text = f"{left_out} messages such as {kind[1]!r} were left out in {took_s:.0f} s: there were too many"
                super().emit(logging.LogRecord(f"{OURS}.logs", logging.WARNING, "", 0, "%s", (text,), None))

    def close(self) -> None:
        """Say what was left out, and end."""
        with self.lock or contextlib.nullcontext():
            self._say(self._now(), at_once=True)
        super().close()


def install_logging(level: str, process: str, label: Callable[[], str] | None = None) -> None:
    """Write log records to stderr.

    Args:
        level: The least severe ones of roost itself. What users' code logs is written from ``info`` on, in a process
            that runs it.
        process: What the process is called.
        label: Given by a process that runs users' code; tells whose runs.
    """
    install_handler(level, LineFormatter(process, label), hosts=label is not None)


def install_handler(level: str, formatter: logging.Formatter, *, hosts: bool) -> None:
    """As ``install_logging``, with any formatter; *hosts*: the process runs users' code."""
    handler = RationedHandler(sys.stderr)
    handler.setFormatter(formatter)
    root, least = logging.getLogger(), logging.getLevelName(level.upper())
    root.handlers[:] = [handler]
    root.setLevel(min(least, logging.INFO) if hosts else least)
    logging.getLogger(OURS).setLevel(least)
    manager = logging.root.manager
    for name, logger in manager.loggerDict.items():
        if _is_ours(name) and type(logger) is logging.Logger:
            logger.__class__ = _OurLogger
    manager.loggerClass = _logger  # type: ignore[assignment]  # for those that are made later; it is only called


def _logger(name: str) -> logging.Logger:
    return (_OurLogger if _is_ours(name) else logging.getLoggerClass())(name)


def line(text: str, process: str, *, level: str = "INFO", label: str = "") -> str:
    """What is said without a logger, in the same form."""
    record = logging.LogRecord("root", logging.INFO, "", 0, "%s", (text,), None)
    record.levelname = level
    return LineFormatter(process, lambda: label).format(record)
