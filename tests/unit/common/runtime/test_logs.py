from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Iterator

import pytest

from roost.common.runtime import logs

HEAD = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ shard-1 ")


@pytest.fixture
def loggers() -> Iterator[None]:
    """The process's loggers, as they were afterwards."""
    touched = [logging.getLogger(), logging.getLogger(logs.OURS)]
    before = [(logger.handlers[:], logger.level) for logger in touched]
    yield
    logging.root.manager.loggerClass = None
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


class Clock:
    """Seconds that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def handler(stream: io.StringIO, clock: Clock) -> logs.RationedHandler:
    handler = logs.RationedHandler(stream, clock)
    handler.setFormatter(logs.LineFormatter("shard-1", lambda: ""))
    return handler


def say(handler: logs.RationedHandler, text: str, *args: object, name: str = "roost.shard") -> None:
    handler.handle(logging.LogRecord(name, logging.ERROR, "", 0, text, args, None))


TRACE = "x" * 2000
"""About as long as the traceback of a handler."""


def test_one_kind_of_message_has_so_many_bytes(
    handler: logs.RationedHandler, stream: io.StringIO, clock: Clock
) -> None:
    """A client may have a line for each of its messages: 29 MB of them were written in 8 s."""
    for count in range(20_000):
        say(handler, "%s raised\n%s", f"message {count}", TRACE)
        clock.now += 0.001
    size = len(stream.getvalue())
    assert size < logs.BURST_BYTES + 21 * logs.BYTES_A_SECOND
    told = re.findall(r"(\d+) messages such as '%s raised\\n%s' were left out in (\d+) s", stream.getvalue())
    assert [int(seconds) for _, seconds in told] == [10]
    clock.now += 1000
    say(handler, "%s raised\n%s", "the last", TRACE)
    assert "the last" in stream.getvalue()
    told = re.findall(r"(\d+) messages such as", stream.getvalue())
    shown = len(re.findall(r"message \d+ raised", stream.getvalue()))
    assert sum(map(int, told)) + shown == 20_000


def test_other_kinds_are_written_all_the_same(handler: logs.RationedHandler, stream: io.StringIO) -> None:
    for _ in range(1000):
        say(handler, "%s raised\n%s", "it", TRACE)
    say(handler, "shard-1 is gone")
    say(handler, "%s raised\n%s", "another logger", "", name="roost.router")
    assert "shard-1 is gone" in stream.getvalue()
    assert "another logger raised" in stream.getvalue()


def test_what_users_log_is_theirs(handler: logs.RationedHandler, stream: io.StringIO) -> None:
    for _ in range(1000):
        say(handler, "%s", TRACE, name="chat")
    assert stream.getvalue().count(TRACE) == 1000


def test_what_was_left_out_is_told_at_the_end(handler: logs.RationedHandler, stream: io.StringIO) -> None:
    for _ in range(1000):
        say(handler, "%s", TRACE)
    handler.close()
    assert "messages such as '%s' were left out" in stream.getvalue()


def test_neither_does_it_silence_those_that_are_made_later(loggers: None, capsys: pytest.CaptureFixture[str]) -> None:
    logs.install_logging("info", "shard-1", lambda: "")
    for name in ("roost.made_later", "somebody.made_later"):
        logger = logging.getLogger(name)
        logger.disabled = True
        logger.error("%s says \x1b[2J", name)
    said = capsys.readouterr().err
    assert "roost.made_later says \\x1b[2J" in said
    assert "somebody" not in said


def test_an_apps_own_class_of_loggers_is_used_for_its_own(loggers: None) -> None:
    class Mine(logging.Logger):
        pass

    logs.install_logging("info", "shard-1", lambda: "")
    logging.setLoggerClass(Mine)
    try:
        assert type(logging.getLogger("somebody.of.mine")) is Mine
        assert type(logging.getLogger("roost.of.mine")) is not Mine
    finally:
        logging.setLoggerClass(logging.Logger)


def test_an_apps_configuration_of_logging_does_not_silence_ours(
    loggers: None, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, others = logging.getLogger("roost.shard"), logging.getLogger("somebody.else")
    logs.install_logging("info", "shard-1", lambda: "")
    try:
        for logger in (logging.getLogger(logs.OURS), ours, others):
            logger.disabled = True  # as logging.config.dictConfig({"version": 1}) does it
        ours.error("the object failed")
        others.error("not heard")
    finally:
        others.disabled = False
    said = capsys.readouterr().err
    assert "the object failed" in said
    assert "not heard" not in said
