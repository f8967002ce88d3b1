"""How log records become lines. All processes of a cluster write the same form, since their lines land in one stream::

    2026-11-30T14:55:25.123Z WARNING shard-1 room/lobby chat.moves: the text
    time (UTC)               level   process object     logger      message

Object and logger are said of users' records; roost's own messages name what they are about. Each further line of a
record (a traceback, say) has the same beginning and is indented. What a message holds may be a client's: control
characters, with which it could forge lines or speak to somebody's terminal, are shown as escapes.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

OURS = "roost"
"""The logger above all of roost's own."""

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
        is_ours = record.name == OURS or record.name.startswith(f"{OURS}.")
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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root, least = logging.getLogger(), logging.getLevelName(level.upper())
    root.handlers[:] = [handler]
    root.setLevel(min(least, logging.INFO) if hosts else least)
    logging.getLogger(OURS).setLevel(least)


def line(text: str, process: str, *, level: str = "INFO", label: str = "") -> str:
    """What is said without a logger, in the same form."""
    record = logging.LogRecord("root", logging.INFO, "", 0, "%s", (text,), None)
    record.levelname = level
    return LineFormatter(process, lambda: label).format(record)
