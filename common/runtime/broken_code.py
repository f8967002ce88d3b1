"""In development: what keeps the code that was saved from loading, left in the run folder for routers to answer with.

A shard that cannot load its app leaves the traceback there, and one that can takes it away.
"""

from __future__ import annotations

import contextlib
import traceback
from pathlib import Path

from ..errors import AppError

_FILE = "broken-code"
MOST_CHARS = 20_000
"""The end of a longer traceback is what counts."""
_LOADING = ("shard/objects/loader.py", "<frozen importlib", "/importlib/")
"""Files of the lines that load an app."""


def note(run: Path, error: AppError) -> str:
    """Leave what *error* says, whole or not at all; returns it: the sentence, an empty line, the traceback if there is
    one."""
    text = str(error)
    if error.__cause__ is not None:
        text = f"{text}\n\n{_of_the_app(error.__cause__)[-MOST_CHARS:]}"
    text = text.rstrip()
    with contextlib.suppress(OSError):
        fresh = run / f"{_FILE}.new"
        fresh.write_text(text, encoding="utf-8", errors="backslashreplace")
        fresh.replace(run / _FILE)
    return text


def forget(run: Path) -> None:
    """The code loads."""
    with contextlib.suppress(OSError):
        (run / _FILE).unlink(missing_ok=True)


def read(run: Path) -> str:
    """What was left there; empty when the code loads."""
    try:
        return (run / _FILE).read_text(encoding="utf-8", errors="backslashreplace")
    except OSError:
        return ""


def _of_the_app(error: BaseException) -> str:
    """The traceback of *error* from the app's own first line on: what comes before is how the app was loaded."""
    told = traceback.TracebackException.from_exception(error)
    while told.stack and any(part in told.stack[0].filename for part in _LOADING):
        del told.stack[0]
    return "".join(told.format())
