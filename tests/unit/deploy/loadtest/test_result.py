"""The verdict on a run, and its JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hdrh.histogram import HdrHistogram

from roost.deploy.loadtest.config import LoadConfig
from roost.deploy.loadtest.ledger import Findings
from roost.deploy.loadtest.page import page
from roost.deploy.loadtest.result import SENDING, Books


def report(t: int, **facts: Any) -> dict[str, Any]:
    figures: dict[str, Any] = dict.fromkeys(
        ("cpu_us", "lag_us", "open", "sent", "received", "exchanged", "passed", "wrapped", "bad"), 0
    )
    empty: dict[str, Any] = {"failed": {}, "closed": {}, "left": {}, "histograms": {}, "fan": []}
    return {"t": t, "span_us": 1_000_000} | figures | empty | facts


def books(**settings: Any) -> Books:
    made = Books(LoadConfig(url="ws://h/<x>", connections=10, **settings), 2)
    made.phase = SENDING
    made.settled = True
    made.begun_s, made.done_s = 100.0, 110.0
    return made


def good(**settings: Any) -> Books:
    made = books(**settings)
    for process in (0, 1):
        made.second(process, report(0, open=5))
        made.second(process, report(1, open=5, sent=50, received=50, histograms={"echo": [[100, 50]]}))
    return made


def test_totals_and_seconds_are_of_all_processes() -> None:
    made = good()
    assert made.total("received") == 100
    assert [(second.open, second.sent, second.received) for second in made.seconds.values()] == [
        (10, 0, 0),
        (10, 100, 100),
    ]
    assert made.histograms["echo"].total == made.seconds[1].echo.total == 100
    assert made.faults() == []


@pytest.mark.parametrize("name", ["lost", "duplicated", "reordered", "corrupted", "misdelivered"])
def test_each_fault_fails_the_run(name: str) -> None:
    made = good()
    made.findings.merge(Findings(**{name: 2}))  # type: ignore[arg-type]
    assert made.faults() == [f"2 {name}"]


def test_what_the_server_says_of_its_own_does_not() -> None:
    made = good()
    made.findings.merge(Findings(foreign=2))
    assert made.faults() == []
    assert made.notes() == ["2 messages of the server's own came as well"]


def test_refused_and_closed_connections_fail_it() -> None:
    made = good()
    made.second(0, report(2, open=4, sent=50, received=50, failed={"HTTP 503": 3}, closed={"1013": 1}))
    made.second(1, report(2, open=4, sent=50, received=50, failed={"HTTP 503": 1}, closed={"1013": 1, "1006": 1}))
    assert made.faults() == [
        "4 not opened (HTTP 503)",
        "2 closed by the server (1013)",
        "1 closed by the server (1006)",
    ]


def test_a_server_that_never_answers_fails_it() -> None:
    made = books()
    made.second(0, report(0, open=5, sent=10))
    assert made.faults() == ["nothing came back"]


def test_own_copies_must_come_always_or_never() -> None:
    made = good(mode="broadcast")
    made.findings.merge(Findings(own_due=5))
    assert made.faults() == []
    assert made.notes() == ["the server does not send broadcasts to their sender"]
    made.findings.merge(Findings(own_due=5, own_came=4))
    assert made.faults() == ["6 lost"]


def test_a_broadcast_is_put_together_from_processes_and_seconds() -> None:
    made = books(mode="broadcast")
    made.second(0, report(0, fan=[[2, 1, 1_000, 3, 1_500, 1_900, 0, 0]]))
    made.second(1, report(0, fan=[[2, 1, 1_000, 4, 1_300, 1_700, 0, 0]]))
    made.second(0, report(1, fan=[[2, 1, 1_000, 1, 2_000, 2_400, 0, 0]]))
    first, last = made.fan_out()
    assert (first.percentile(100), last.percentile(100)) == (300, 1_400)
    assert made.broadcasts[2, 1].receivers == 8


def test_a_busy_process_makes_the_figures_its_own() -> None:
    made = good()
    made.second(0, report(2, open=5, cpu_us=880_000, sent=50, received=50))
    assert made.client_bound() == []
    made.processes[1].cpu_us.clear()
    made.processes[1].span_us.clear()
    made.second(1, report(2, open=5, cpu_us=910_000, sent=50, received=50))
    assert made.client_bound() == ["sending and receiving"]
    assert made.notes()[0].startswith("client-bound: ")


def test_a_process_that_is_busy_while_broadcasts_come_in_is_found_though_it_rests_between() -> None:
    made = books(mode="broadcast")
    made.second(0, report(0, cpu_us=100_000, fan=[[2, 1, 0, 3, 0, 100_000, 95_000, 100_000]]))
    assert made.client_bound() == ["taking in broadcasts"]


def test_memory_counts_what_came_with_the_connections() -> None:
    made = books()
    made.memory_before = {"router": 1_000_000, "shard": 500_000}
    made.second(0, report(0, open=5))
    made.second(1, report(0, open=5))
    made.memory(0, {"router": 1_040_000, "shard": 501_000})
    made.memory(1, {"router": 1_050_000, "shard": 502_000})
    assert made.memory_per_connection() == {"router": 5_000, "shard": 200}


def test_the_json_holds_histograms_that_others_read() -> None:
    document = json.loads(json.dumps(good().to_dict({"url": "ws://h/<x>"}, {"cores": 2})))
    assert document["verdict"]["ok"]
    echo = document["latency_us"]["echo"]
    assert HdrHistogram.decode(echo["hdr"]).get_total_count() == echo["count"] == 100
    assert document["timeline"][1]["echo_p50"] == 100
    assert document["messages"]["offered"] == 10_000
    assert document["messages"]["sent_per_s"] == 10.0


def test_an_interrupted_run_was_offered_less() -> None:
    made = good()
    made.done_s = 102.0
    made.interrupted = True
    assert made.to_dict({}, {})["messages"]["offered"] == 2_000
    assert made.faults() == []
    assert made.notes()[-1].startswith("interrupted")


def test_the_page_stands_alone_and_escapes() -> None:
    made = good()
    made.findings.merge(Findings(lost=1, examples=["connection 1 never got <b>"]))
    text = page(made.to_dict({"url": "ws://h/<x>"}, {"cores": 2}), {"Plot": "<svg></svg>"})
    assert "<svg></svg>" in text
    assert "&lt;x&gt;" in text
    assert "<x>" not in text
    assert "<b>" not in text
    assert '<h1 class="failed">Failed: 1 lost</h1>' in text
    assert "src=" not in text
    assert "http" not in text.replace("http://www.w3.org", "")


def test_the_page_begins_with_the_verdict() -> None:
    made = good()
    text = page(made.to_dict({"url": "ws://h/x"}, {"cores": 2}), {})
    assert '<h1 class="ok">Passed: every message came once, in order and as it was sent</h1>' in text
    assert "<title>Passed: 0 connections to ws://h/x</title>" in text
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_a_server_that_wraps_what_it_is_sent_is_told_to_be_no_echo_server() -> None:
    made = books()
    made.second(0, report(0, open=5, sent=10, wrapped=40))
    assert not made.will_not_echo(made.begun_s + 1)
    assert made.will_not_echo(made.begun_s + 3)
    made.findings.merge(Findings(lost=10, foreign=40, wrapped=40))
    assert made.faults() == ["10 lost"]
    assert made.sentence().startswith("this is no echo server: it must send each message back to its sender")
    assert "as a chat does; deploy/examples/load_target.py is one" in made.sentence()
    assert made.sentence().endswith("; 10 lost")
    assert made.to_dict({}, {})["verdict"]["sentence"] == made.sentence()


@pytest.mark.parametrize(("mode", "word"), [("broadcast", "no broadcast server"), ("mixed", "no mixed server")])
def test_the_other_modes_say_what_they_want(mode: str, word: str) -> None:
    made = books(mode=mode)
    made.second(0, report(0, open=5, sent=10, wrapped=40))
    assert word in made.unfit()


def test_a_server_that_says_other_things_only_is_no_echo_server_either_but_may_yet_become_one() -> None:
    made = books()
    made.second(0, report(0, open=5, sent=10))
    made.findings.merge(Findings(lost=10, foreign=3))
    assert "but sends others of its own only" in made.unfit()
    assert not made.will_not_echo(made.begun_s + 3)


@pytest.mark.parametrize("mode", ["echo", "broadcast", "mixed", "idle"])
def test_who_echoes_may_say_things_of_its_own_beside(mode: str) -> None:
    made = good(mode=mode)
    made.second(0, report(2, open=5, sent=60, received=50, wrapped=3))
    assert (made.unfit(), made.will_not_echo(made.begun_s + 9)) == ("", False)
    assert made.faults() == []
