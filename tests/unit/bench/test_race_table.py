"""The race's page: its table, its marks, its goals, and where it stands among other text."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.race.table import BEGIN, END, replaced, section


def report(**changes: Any) -> dict[str, Any]:
    one = {"value": 200.0, "cpu": [0.5], "server_cpu_us": 30.0}
    echo = [one, one | {"value": 300.0, "server_cpu_us": 32.0}]
    return {
        "command": "python -m tests.bench.race",
        "rounds": 2,
        "machine": {"when": "today", "processors": 2, "model": "a processor", "system": "a system", "python": "3.11"},
        "peers": {"roost": "roost 1", "bare": "epoll", "workerd": "workerd 1"},
        "absent": {"durable-actors": "pip cannot install durable-actors[cli]: no network"},
        "rows": {
            "echo-64": {"title": "echo, 64", "unit": "round trips/s", "better": "more"},
            "wake-10000": {"title": "waking", "unit": "ms", "better": "less"},
        },
        "samples": {
            "echo-64": {
                "roost": echo,
                "bare": [{"value": 400.0, "cpu": [0.95], "elsewhere_cpu": 0.02}, {"value": 500.0, "cpu": [0.5]}],
                "workerd": [{"value": 50.0, "cpu": [0.1]}, None],
            },
            "wake-10000": {"roost": [{"value": 1.5}], "workerd": [{"value": 1.0, "fewer": 9_500}]},
        },
        "failures": ["echo-64, workerd: it ended"],
    } | changes


def row(text: str, title: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {title}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_has_our_figure_and_each_ratio_with_the_peers_figure() -> None:
    text = section(report())
    assert row(text, "echo, 64, round trips/s; 1 router")[1:] == [
        "250",
        "**0.55×** (450†)",
        "–",
        "**4.00×** (50.0)",
        "–",
        "–",
    ]
    assert "2 routers" not in text


def test_what_was_less_says_so() -> None:
    text = section(report())
    assert row(text, "waking, ms (less is better); 1 router")[4] == "**1.50×** (1.00, with 9,500)"


def test_marks_are_explained_where_there_are_any() -> None:
    assert "*client-bound*" in section(report())
    free = report()
    free["samples"]["echo-64"].pop("bare")
    assert "client-bound" not in section(free)


def test_goals_say_what_was_reached() -> None:
    text = section(report())
    assert "- echo, 64: roost has 4.00× of workerd, wanted at least 3.00×: reached." in text
    assert "- waking: roost has 1.50 ms, wanted at most 20.0: reached." in text
    slow = report()
    slow["samples"]["echo-64"]["workerd"] = [{"value": 100.0}, {"value": 150.0}]
    assert "roost has 2.00× of workerd, wanted at least 3.00×: **not reached**." in section(slow)


def test_who_is_absent_and_what_failed_is_said() -> None:
    text = section(report())
    assert "- `durable-actors` did not: pip cannot install durable-actors[cli]: no network" in text
    assert "- echo-64, workerd: it ended" in text
    assert "0.02 processors" in text


def test_processor_time_of_a_message() -> None:
    text = section(report())
    assert "| echo, 64 | 31.0 | – | – |" in text


def test_the_section_is_added_to_a_page_and_replaced_in_it() -> None:
    page = replaced("# Performance\n\nWords.\n", "first\n")
    assert page == f"# Performance\n\nWords.\n\n{BEGIN}\nfirst\n{END}\n"
    page = replaced(page + "\nMore words.\n", "second\n")
    assert page == f"# Performance\n\nWords.\n\n{BEGIN}\nsecond\n{END}\n\nMore words.\n"
    assert replaced("", "only\n") == f"{BEGIN}\nonly\n{END}\n"


def test_a_page_with_half_of_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="only one of the marks"):
        replaced(f"words\n{BEGIN}\n", "section\n")
