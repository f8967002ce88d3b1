"""What a shard does for whoever writes the app that it runs (``--development``).

* ``print`` says whose code it was, and when, in the form of the log.
* ``breakpoint()`` works: while a debugger waits for somebody's next command, nobody takes the shard for a hung one.
* Modules are compiled anew: Python tells versions of a file apart by their size and the second of their change, and a
  swap takes less than a second.
* Why the app does not load is left for the routers to show.
"""

from __future__ import annotations

import io
import logging
import pdb
import sys
from collections.abc import Callable
from typing import Any, TextIO

from ..common.errors import AppError
from ..common.runtime import broken_code
from ..common.runtime.logs import line
from ..common.settings.shard import ShardConfig
from .objects.loader import HostedClass, load

log = logging.getLogger("roost.shard")

_LONGEST_BEGINNING = 8_192
"""Characters that wait for the end of their line."""


class Debugging:
    """Whether somebody is in a debugger: then the loop stands still, and that is no fault."""

    def __init__(self) -> None:
        self._depth = 0

    def __bool__(self) -> bool:
        return self._depth > 0

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1


debugging = Debugging()
"""Of this process."""


class LabelledOutput(io.TextIOBase):
    """Stands in for stdout: each line gets the beginning that a log line has. A debugger's prompt stays as it is.

    Args:
        stream: Where the lines go.
        process: What the process is called.
        label: Tells whose code runs.
    """

    def __init__(self, stream: TextIO, process: str, label: Callable[[], str]) -> None:
        super().__init__()
        self._stream = stream
        self._process = process
        self._label = label
        self._begun: dict[str, str] = {}

    def write(self, text: str) -> int:
        """Write whole lines; the beginning of one waits for its end, by whose it is."""
        if debugging:
            self._stream.write(text)
            self._stream.flush()
            return len(text)
        label = self._label()
        *whole, begun = (self._begun.pop(label, "") + text).split("\n")
        if len(begun) > _LONGEST_BEGINNING:
            whole.append(begun)
        elif begun:
            self._begun[label] = begun
        self._put(label, whole)
        return len(text)

    def _put(self, label: str, lines: list[str]) -> None:
        for each in lines:
            self._stream.write(line(each, self._process, level="PRINT", label=label) + "\n")
        self._stream.flush()

    def flush(self) -> None:
        """Show what has begun, as a line."""
        label = self._label()
        begun = self._begun.pop(label, "")
        self._put(label, [begun] if begun else [])

    def writable(self) -> bool:
        """It is."""
        return True

    def isatty(self) -> bool:
        """As the stream: debuggers edit lines in a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The stream's descriptor."""
        return self._stream.fileno()

    @property
    def buffer(self) -> Any:
        """The stream's own, for bytes: they are nobody's lines."""
        return getattr(self._stream, "buffer", None)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's."""
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """The stream's."""
        return self._stream.errors


def is_called(descriptor: int) -> bool:
    """Wait until the supervisor needs this process, which has done by then what takes a start its time.

    Returns:
        Whether it does: ``False`` when it has ended, or does not want it any more.
    """
    with open(descriptor, "rb", buffering=0) as pipe:
        return pipe.read(1) != b""


def prepare(process: str, label: Callable[[], str]) -> None:
    """Make this process one for development. Before the app is loaded.

    Args:
        process: What the process is called.
        label: Tells whose code runs.
    """
    sys.dont_write_bytecode = True
    sys.stdout = LabelledOutput(sys.stdout, process, label)
    wait_for_commands = pdb.Pdb.interaction

    def interaction(self: pdb.Pdb, *args: Any, **named: Any) -> None:
        with debugging:
            wait_for_commands(self, *args, **named)

    pdb.Pdb.interaction = interaction  # type: ignore[method-assign]  # of debuggers made from it as well


def load_or_note(config: ShardConfig) -> dict[str, HostedClass]:
    """Load the app; why it does not load is logged, and left for routers.

    Raises:
        AppError: It does not.
    """
    try:
        classes = load(config.app)
    except AppError as error:
        log.error("%s", broken_code.note(config.run, error))
        raise
    broken_code.forget(config.run)
    return classes
