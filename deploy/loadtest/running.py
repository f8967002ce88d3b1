"""A run from its settings to its exit code: looks at the machine, says what would stop it, runs, shows, writes."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.live import Live

from ...common.errors import ConfigError
from ..report.tables import show, width_of
from . import machine
from .capacity import ServerFacts, fit
from .config import LoadConfig
from .coordinator import Coordinator
from .page import page
from .result import Books
from .view import live, summary
from .worker import config_to_dict

EXIT_FAULTS = 3
"""Something was lost or wrong, refused, or closed."""
EXIT_INTERRUPTED = 130


def run(config: LoadConfig, console: Console) -> int:
    """Carry a run out.

    Returns:
        The exit code.

    Raises:
        RoostError: It cannot be carried out.
        OSError: A file cannot be written.
    """
    _check_files(config)
    family, address = machine.find_address(config.target)
    server: ServerFacts | None = None
    memory_before: dict[str, int] = {}
    if config.admin:
        status = machine.ask_admin(config.admin)
        server, memory_before = machine.server_facts(status), machine.server_memory(status)
    about = machine.description()
    fitted = fit(config, machine.facts(address), server)
    console.print(fitted.sentence, highlight=False, soft_wrap=True)
    if fitted.warning:
        console.print(f"but {fitted.warning}", style="yellow", highlight=False, soft_wrap=True)
    try:
        if console.is_terminal:
            with Live(console=console, refresh_per_second=4, transient=True) as picture:
                books = asyncio.run(
                    _run(
                        Coordinator(
                            config, fitted, family, address, lambda books, word: picture.update(live(books, word))
                        ),
                        memory_before,
                    )
                )
        else:
            books = asyncio.run(_run(Coordinator(config, fitted, family, address, _quiet), memory_before))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("ended at once, without a result", style="yellow")
        return EXIT_INTERRUPTED
    show(console, summary(books, width_of(console)))
    settings = config_to_dict(config) | {"processes_used": fitted.processes, "sources_used": list(fitted.sources)}
    _write(config, books, settings, about, lambda line: console.print(line, highlight=False, soft_wrap=True))
    if books.faults():
        return EXIT_FAULTS
    return EXIT_INTERRUPTED if books.interrupted else 0


async def _run(coordinator: Coordinator, memory_before: dict[str, int]) -> Books:
    coordinator.books.memory_before = memory_before
    return await coordinator.run()


def _quiet(books: Books, word: str) -> None:
    pass


def _check_files(config: LoadConfig) -> None:
    """Fail before the run rather than after it."""
    for path in (config.json, config.report):
        if path is not None and not path.parent.is_dir():
            raise ConfigError(f"there is no folder {path.parent} for {path.name}")
    if config.report is not None and importlib.util.find_spec("matplotlib") is None:
        raise ConfigError(
            f"a report needs matplotlib, which is not installed: `{sys.executable} -m pip install matplotlib` adds it"
        )


def _write(
    config: LoadConfig, books: Books, settings: dict[str, Any], about: dict[str, Any], say: Callable[[str], None]
) -> None:
    result = books.to_dict(settings, about)
    if config.json is not None:
        config.json.write_text(json.dumps(result, indent=1) + "\n")
        say(f"result: {config.json}")
    if config.report is not None:
        from . import plots  # a second of importing, for reports only

        drawn = plots.draw(books)
        if config.report.suffix.lower() == ".png":
            config.report.write_bytes(plots.png(drawn))
        else:
            config.report.write_text(page(result, {title: plots.svg(figure, title) for title, figure in drawn.items()}))
        say(f"report: {config.report}")
