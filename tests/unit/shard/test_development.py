from __future__ import annotations

import asyncio
import io
import re
import time
from pathlib import Path

import pytest

from roost.common.machine.counters import PUBLISH_INTERVAL_S, CounterFile, read_counters
from roost.shard.counters import ShardCounters
from roost.shard.development import LabelledOutput, debugging


def printed(*texts: tuple[str, str]) -> list[str]:
    """The lines, without their times, of what objects have written in turn."""
    stream, running = io.StringIO(), [""]
    output = LabelledOutput(stream, "shard-1", lambda: running[0])
    for label, text in texts:
        running[0] = label
        print(text, end="", file=output)
    return [re.sub(r"^\S+Z ", "", line) for line in stream.getvalue().splitlines()]


def test_each_line_says_whose_it_is() -> None:
    assert printed(("room/a", "hello\n"), ("", "from nobody\n")) == [
        "PRINT shard-1 room/a hello",
        "PRINT shard-1 from nobody",
    ]


def test_a_line_comes_whole_however_it_is_written() -> None:
    assert printed(("room/a", "one "), ("room/b", "other\nand "), ("room/a", "line\n\n"), ("room/b", "on\n")) == [
        "PRINT shard-1 room/b other",
        "PRINT shard-1 room/a one line",
        "PRINT shard-1 room/a ",
        "PRINT shard-1 room/b and on",
    ]


def test_what_clients_sent_is_printed_as_escapes() -> None:
    assert printed(("room/a", "\x1b[2J\r\n")) == ["PRINT shard-1 room/a \\x1b[2J\\x0d"]


def test_the_beginning_of_a_line_is_shown_when_it_is_flushed_or_long() -> None:
    stream = io.StringIO()
    output = LabelledOutput(stream, "shard-1", lambda: "room/a")
    print("so far", end="", file=output)
    assert stream.getvalue() == ""
    output.flush()
    assert stream.getvalue().endswith("Z PRINT shard-1 room/a so far\n")
    for _ in range(100):
        output.write("a" * 1_000)
    assert len(stream.getvalue()) > 90_000


def test_a_debugger_is_not_disturbed() -> None:
    stream = io.StringIO()
    output = LabelledOutput(stream, "shard-1", lambda: "room/a")
    with debugging:
        output.write("(Pdb) ")
        assert stream.getvalue() == "(Pdb) "
    assert not debugging


def hold_the_loop(seconds: float) -> None:
    time.sleep(seconds)


async def test_a_loop_that_stands_still_in_a_debugger_is_alive(tmp_path: Path) -> None:
    path = tmp_path / "shard-1.counters"
    file = CounterFile(path, ShardCounters())
    file.stands_in = debugging.__bool__
    file.start(asyncio.get_running_loop())
    try:
        for in_debugger in (False, True):
            before = read_counters(path)
            assert before is not None
            if in_debugger:
                with debugging:
                    hold_the_loop(4 * PUBLISH_INTERVAL_S)
            else:
                hold_the_loop(4 * PUBLISH_INTERVAL_S)
            after = read_counters(path)
            assert after is not None
            assert after.beats > before.beats
            assert (after.publications > before.publications) is in_debugger
    finally:
        file.close()


@pytest.mark.parametrize("name", ["encoding", "errors"])
def test_it_passes_for_stdout(name: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    output = LabelledOutput(stream, "shard-1", str)
    assert getattr(output, name) == getattr(stream, name)
    assert not output.isatty()
    assert output.writable()
    assert output.buffer is stream.buffer
