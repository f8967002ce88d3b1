"""The picture of a cluster: rates, sums, JSON and the terminal."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from roost.common.machine.counters import Figure, Kind
from roost.deploy.commands import cli
from roost.deploy.report.status import ClusterStatus, MemberStatus, Rates, duration, render
from roost.deploy.report.tables import show, width_of

ROUTER = MemberStatus(
    name="router-1",
    kind="router",
    state="ready",
    pid=11,
    incarnation=1,
    uptime_s=61.0,
    restarts=0,
    slots=0,
    error="",
    counters={"connections": 1200, "messages_in": 5000, "ghosts": 3, "longest_collection_us": 700},
    rates={"messages_in": 250.0},
)
SHARD = replace(
    ROUTER,
    name="shard-1",
    kind="shard",
    pid=12,
    restarts=2,
    slots=4096,
    counters={"objects_awake": 4, "objects_asleep": 6, "sockets": 1200, "events": 5000, "longest_collection_us": 900},
    rates={"events": 250.0},
    seat="shard-1",
    holds_seat=True,
)
DEAD = replace(SHARD, name="shard-2", state="failed", pid=0, slots=0, error="shard-2: no class", counters={}, rates={})
PICTURE = ClusterStatus(
    "running",
    "http://h:1",
    "http://h:2",
    "/data",
    "chat.py",
    10,
    3700.0,
    5,
    (ROUTER, SHARD, DEAD),
    12,
    "scaling to 3 shards",
    {
        "connections": Figure(Kind.GAUGE, "WebSockets that are open"),
        "ghosts": Figure(Kind.GAUGE, "Connections without TCP"),
        "messages_in": Figure(Kind.TOTAL, "Messages taken from clients"),
        "bytes_in": Figure(Kind.TOTAL, "Their payload", "bytes"),
        "objects_awake": Figure(Kind.GAUGE, "Objects in memory"),
        "objects_asleep": Figure(Kind.GAUGE, "Objects that are not"),
        "sockets": Figure(Kind.GAUGE, "Sockets"),
        "events": Figure(Kind.TOTAL, "Events"),
        "longest_collection_us": Figure(Kind.HIGH_WATER, "Microseconds of the longest collection", "microseconds"),
    },
)


def test_rates_are_growth_over_time() -> None:
    rates = Rates()
    assert rates.per_second() == {}
    rates.add(10.0, 1, {"messages_in": 100})
    assert rates.per_second() == {}
    rates.add(12.0, 1, {"messages_in": 300, "events": 4})
    assert rates.per_second() == {"messages_in": 100.0, "events": 2.0}


def test_rates_forget_what_is_old() -> None:
    rates = Rates()
    for second in range(20):
        rates.add(float(second), 1, {"events": 0 if second < 10 else (second - 9) * 7})
    assert rates.per_second() == {"events": 7.0}


def test_rates_begin_anew_with_another_process() -> None:
    rates = Rates()
    rates.add(1.0, 1, {"events": 1000})
    rates.add(2.0, 2, {"events": 5})
    assert rates.per_second() == {}
    rates.add(3.0, 2, {"events": 9})
    assert rates.per_second() == {"events": 4.0}


def test_two_readings_at_one_time_make_no_rate() -> None:
    rates = Rates()
    rates.add(1.0, 1, {"events": 1})
    rates.add(1.0, 1, {"events": 2})
    assert rates.per_second() == {}


def test_the_picture_survives_json() -> None:
    document = json.loads(json.dumps(PICTURE.to_dict()))
    assert document["totals"]["connections"] == 1200
    assert document["totals"]["events"] == 5000
    assert document["totals"]["longest_collection_us"] == 900, "the highest of all members, not the sum"
    assert document["figures"]["bytes_in"] == {"kind": "total", "unit": "bytes", "help": "Their payload"}
    assert document["rates"] == {"events": 250.0, "messages_in": 250.0}
    assert ClusterStatus.from_dict(document) == PICTURE


def test_the_terminal_says_nothing_of_changes_when_there_is_none() -> None:
    assert "now" not in render(replace(PICTURE, slots_in_transit=0, change=""), 80).plain


def test_something_else_is_no_picture() -> None:
    with pytest.raises(KeyError):
        ClusterStatus.from_dict({"state": "running"})


def test_the_terminal_shows_each_member_and_the_errors() -> None:
    text = render(PICTURE, 80).plain
    for part in (
        "roost running for 1 h 1 min at http://h:1",
        "admin http://h:2 · supervisor 10 · map 5",
        "app   chat.py",
        "data  /data",
        "now   scaling to 3 shards · 12 slots in transit",
        "1,200 connections · 4 objects awake, 6 asleep · 250 messages/s in",
        "shard-2: no class",
    ):
        assert part in text
    rows = [re.sub(" +", " ", line).strip() for line in text.splitlines()]
    assert "router-1 ready 11 1 min 0 1,200 250 0" in rows
    assert "shard-1 ready 12 1 min 2 4,096 4 6 1,200 250 0" in rows
    assert "shard-2 failed – – 2 0 0 0 0 0 0" in rows


BUSY = replace(
    SHARD,
    state="stalled",
    pid=4_194_304,
    uptime_s=86_400.0 * 365,
    restarts=1_000,
    counters={"objects_awake": 1_234_567, "objects_asleep": 12_345_678, "sockets": 1_234_567},
    rates={"events": 1_234_567.0, "sends": 12_345_678.0},
)
TITLES = ["member", "state", "pid", "up", "deaths", "slots", "awake", "asleep", "sockets", "in/s", "out/s"]


def crowd(count: int) -> ClusterStatus:
    """A cluster of *count* processes, half of them routers; the shards have as many figures as there can be."""
    routers = [replace(ROUTER, name=f"router-{number}") for number in range(1, count // 2 + 1)]
    shards = [replace(BUSY, name=f"shard-{number}") for number in range(1, count - count // 2 + 1)]
    return replace(PICTURE, members=(*routers, *shards), app="/" + "folder/" * 30 + "app.py")


@pytest.mark.parametrize("width", [60, 80, 120, 200, None])
@pytest.mark.parametrize("count", [1, 40])
def test_a_table_has_whole_names_and_numbers_at_any_width(width: int | None, count: int) -> None:
    picture = crowd(count)
    lines = render(picture, width).plain.splitlines()
    (start,) = (number for number, line in enumerate(lines) if line.startswith("member"))
    rows = lines[start : start + 1 + count]
    assert [row.split()[0] for row in rows[1:]] == [member.name for member in picture.members]
    titles = rows[0].split()
    assert titles == [title for title in TITLES if title in titles]
    assert "sockets" in titles
    assert all("1,234,567" in row for row in rows if row.startswith("shard"))
    assert "…" not in "".join(lines)
    too_wide = [line for line in lines if width is not None and len(line) > width]
    assert all(line.startswith("app ") for line in too_wide), "a path is whole, so that it can be copied"
    left_out = [title for title in TITLES if title not in titles]
    if left_out:
        assert rows[-1] is not lines[-1]
        assert " ".join(lines[start + 1 + count :]).split()[:3] == ["no", "room", "for"]
        assert all(title in " ".join(lines[start + 1 + count :]) for title in left_out)
    else:
        assert "no room" not in "\n".join(lines)
    if width is None or width == 200:
        assert titles == TITLES


def printed(picture: ClusterStatus, terminal: bool, columns: int = 80) -> str:
    out = io.StringIO()
    if terminal:
        out.isatty = lambda: True  # type: ignore[method-assign]
    console = Console(file=out, width=columns, force_terminal=terminal)
    show(console, render(picture, width_of(console)))
    return out.getvalue()


def test_a_pipe_gets_everything_plain_and_unwrapped() -> None:
    text = printed(crowd(40), terminal=False)
    assert text == render(crowd(40)).plain + "\n"
    assert "\x1b" not in text
    assert len([line for line in text.splitlines() if line.startswith(("router-", "shard-"))]) == 40


def test_a_terminal_gets_colours_and_what_fits() -> None:
    text = printed(crowd(40), terminal=True)
    assert "\x1b[" in text
    assert re.sub(r"\x1b\[[0-9;]*m", "", text) == render(crowd(40), 80).plain + "\n"


def test_the_command_writes_all_of_it_into_a_pipe_of_any_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    monkeypatch.setattr(cli.client, "status", lambda *_: crowd(40))
    monkeypatch.setattr(sys, "argv", ["roost", "status"])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, "ascii", write_through=True))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert out.getvalue().decode() == render(crowd(40)).plain.replace("·", "?").replace("–", "?") + "\n"


def test_names_and_errors_cannot_act_upon_the_terminal() -> None:
    nasty = "x\x1b[2J\r\n\x07[bold]\u202e"
    member = replace(DEAD, name=nasty, state=nasty, error=f"blocked in chat-room/{nasty}")
    text = render(replace(PICTURE, members=(member,), app=nasty, change=nasty), 200).plain
    assert all(line.isprintable() for line in text.split("\n"))
    assert r"x\x1b[2J\r\n\x07[bold]\u202e" in text
    assert sum(line.startswith("router") for line in text.split("\n")) == 0


def test_what_follows_an_errors_first_line_is_indented() -> None:
    member = replace(DEAD, error="shard-2 failed\nshard-1  ready")
    assert render(replace(PICTURE, members=(member,))).plain.endswith("\nshard-2 failed\n  shard-1  ready")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.9, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3_599, "59 min 59 s"),
        (7_320, "2 h 2 min"),
        (90_000, "1 d 1 h"),
        (86_400 * 12, "12 d"),
    ],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text
    assert duration(seconds, parts=1) == " ".join(text.split()[:2])
