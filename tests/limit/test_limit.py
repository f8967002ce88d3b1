"""As many sockets on one object as there may be: nothing is lost, nothing is left. ``python -m tests.limit`` does the
same and says how long each thing took, against its goals."""

from __future__ import annotations

import pytest

from tests.limit.outcome import Row, as_markdown, as_text
from tests.limit.scenario import Limit


@pytest.mark.limit
@pytest.mark.timeout(600)
async def test_32768_sockets_on_one_object() -> None:
    rows = await Limit().run()
    assert any(row.what == "one more is refused" for row in rows)


async def test_the_same_with_few_sockets() -> None:
    """That it works at all should not only be seen when somebody asks for the limit."""
    rows = await Limit(200, rounds=1, weigh=False).run()
    assert {row.sockets for row in rows} == {200}


def test_a_row_says_what_its_goal_was() -> None:
    row = Row("opened", 32_768, 16.0, {"a_second": 2048.0, "worst_s": 0.25, "memory_kb": 6.04}, goal_s=15.0)
    assert row.missed == "opened, 32,768 sockets: 16.00 s; the goal is 15.00 s"
    assert not Row("opened", 32_768, 14.9, goal_s=15.0).missed
    assert row.cells() == [
        "opened",
        "32,768",
        "16.00 s",
        "< 15.00 s",
        "a second 2,048, worst 250.0 ms, memory 6.0 kB",
    ]
    assert as_text([row]).splitlines()[1].startswith("opened   32,768  16.00 s  < 15.00 s  a second")
    assert as_markdown([row]).splitlines()[1] == "| --- | ---: | ---: | ---: | --- |"
