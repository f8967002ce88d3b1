from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator

import pytest

from roost.common import logs

HEAD = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ shard-1 ")


@pytest.fixture
def loggers() -> Iterator[None]:
    """The process's loggers, as they were afterwards."""
    touched = [logging.getLogger(), logging.getLogger(logs.OURS)]
    before = [(logger.handlers[:], logger.level) for logger in touched]
    yield
    for logger, (handlers, level) in zip(touched, before, strict=True):
        logger.handlers[:], logger.level = handlers, level


def written(
    text: str, *args: object, name: str = "roost.shard", label: str = "", error: BaseException | None = None
) -> list[str]:
    """The lines of one record, each without its head, which must be the same for all."""
    made = logging.LogRecord(name, logging.WARNING, "", 0, text, args, None)
    if error is not None:
        made.exc_info = (type(error), error, error.__traceback__)
    lines = logs.LineFormatter("shard-1", lambda: label).format(made).split("\n")
    heads = {found[0] for line in lines if (found := HEAD.match(line))}
    assert len(heads) == 1, lines
    assert all(HEAD.match(line) for line in lines), lines
    return [HEAD.sub("", line, count=1) for line in lines]


def test_a_line_has_time_level_process_and_message() -> None:
    assert written("%d slots move", 5) == ["5 slots move"]


def test_what_users_log_has_the_object_and_the_logger() -> None:
    assert written("hello", name="chat", label="room/lobby") == ["room/lobby chat: hello"]
    assert written("hello", name="root", label="room/lobby") == ["room/lobby hello"]
    assert written("hello", name="roosters") == ["roosters: hello"]
    assert written("room/lobby moves", label="room/other") == ["room/lobby moves"]


def test_further_lines_have_the_same_beginning() -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError as error:
        lines = written("it failed", error=error)
    assert lines[:2] == ["it failed", "    Traceback (most recent call last):"]
    assert lines[-2:] == ["    ValueError: first", "    second"]


def test_a_clients_text_forges_no_line() -> None:
    forged = "2026-01-01T00:00:00.000Z CRITICAL supervisor forged"
    assert written("unknown command %s", f"x\n{forged}") == ["unknown command x", f"    {forged}"]
    assert written("unknown command %s", f"x\r{forged}\x85\u2028") == [f"unknown command x\\x0d{forged}\\x85\\u2028"]


@pytest.mark.parametrize("text", ["\x1b[2J", "\x00", "\x7f", "\x9b31m", "\u202e", "\u2066", "\b\b", "\r"])
def test_nothing_speaks_to_the_terminal(text: str) -> None:
    (line,) = written("said %s", text)
    assert line.isprintable()
    assert line != "said "


def test_ordinary_text_stays_as_it_is() -> None:
    text = "Grüße, 你好 🐦\tend"
    assert written(text) == [text]


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", {"ours debug", "ours info", "ours error", "theirs debug", "theirs info", "theirs error"}),
        ("warning", {"ours error", "theirs info", "theirs error"}),
        ("error", {"ours error", "theirs info", "theirs error"}),
    ],
)
@pytest.mark.usefixtures("loggers")
def test_users_records_are_written_from_info_on(
    level: str, shown: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.install_logging(level, "shard-1", lambda: "")
    for name, what in (("roost.shard", "ours"), ("chat", "theirs")):
        for severity in ("debug", "info", "error"):
            getattr(logging.getLogger(name), severity)(f"{what} {severity}")
    assert {" ".join(line.split()[-2:]) for line in capsys.readouterr().err.splitlines()} == shown


@pytest.mark.usefixtures("loggers")
def test_a_process_without_users_code_has_one_level(capsys: pytest.CaptureFixture[str]) -> None:
    logs.install_logging("warning", "router-1")
    logging.getLogger("asyncio").info("hidden")
    logging.getLogger("asyncio").warning("shown")
    assert capsys.readouterr().err.endswith(" WARNING router-1 asyncio: shown\n")
    assert sys.stderr is not None


def test_a_line_without_a_logger() -> None:
    assert re.fullmatch(r"\S+Z INFO supervisor roost drains", logs.line("roost drains", "supervisor"))
