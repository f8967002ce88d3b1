from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest

from roost.common.budget import Budget
from roost.common.errors import WireError
from roost.common.machine.counters import (
    PUBLISH_INTERVAL_S,
    CounterFile,
    Counters,
    Figure,
    Kind,
    gauge,
    high_water,
    read_counters,
    total,
)
from tests.support.waiting import until


class SomeCounters(Counters):
    connections: int = gauge("Connections that are open")
    messages_in: int = total("Messages, größere too", unit="messages")
    longest_us: int = high_water("The longest of them")


def test_a_subclass_adds_its_counters_to_the_links_and_all_start_at_0() -> None:
    counters = SomeCounters()
    assert {"connections", "messages_in", "wire_garbage", "batches_in"} <= set(counters.names)
    assert set(counters.values()) == {0}
    counters.messages_in += 3
    assert dict(zip(counters.names, counters.values(), strict=True))["messages_in"] == 3


def test_two_sets_of_counters_do_not_share_values() -> None:
    one, other = SomeCounters(), SomeCounters()
    one.connections += 1
    assert other.connections == 0


def test_a_figure_that_a_budget_keeps_is_read_there(tmp_path: Path) -> None:
    counters, other = SomeCounters(), SomeCounters()
    budget = Budget(10)
    counters.read(connections=budget)
    budget.taken += 7
    assert (counters.connections, other.connections) == (7, 0)
    file = CounterFile(tmp_path / "c", counters)
    file.close()
    assert read_counters(tmp_path / "c").values["connections"] == 7
    with pytest.raises(AttributeError):
        counters.read(connections=Budget(1))
    with pytest.raises(AttributeError):
        counters.read(nothing=Budget(1))
    with pytest.raises(AttributeError, match="there is no counter 'nothing'"):
        counters.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_what_is_published_is_read_back(tmp_path: Path) -> None:
    counters = SomeCounters()
    file = CounterFile(tmp_path / "router-1.counters", counters)
    counters.connections = 7
    counters.messages_in = 2**40
    assert read_counters(tmp_path / "router-1.counters").values["connections"] == 0, "not published yet"
    file.publish()
    reading = read_counters(tmp_path / "router-1.counters")
    assert reading.pid == os.getpid()
    assert reading.publications == 1
    assert (reading.values["connections"], reading.values["messages_in"]) == (7, 2**40)
    assert set(reading.values) == set(counters.names)
    file.close()


def test_the_file_says_what_each_figure_is(tmp_path: Path) -> None:
    counters = SomeCounters()
    file = CounterFile(tmp_path / "c", counters)
    counters.connections, counters.messages_in, counters.longest_us, counters.batches_in = 1, 2, 3, 4
    file.close()
    reading = read_counters(tmp_path / "c")
    assert reading.figures == counters.figures
    assert reading.figures["connections"] == Figure(Kind.GAUGE, "Connections that are open")
    assert reading.figures["messages_in"] == Figure(Kind.TOTAL, "Messages, größere too", "messages")
    assert reading.figures["longest_us"].kind is Kind.HIGH_WATER
    grown = {name: value for name, value in reading.totals.items() if value}
    assert grown == {"messages_in": 2, "batches_in": 4}, "what is held now has no rate, nor has a high-water mark"


def test_close_publishes_once_more_and_leaves_it_to_be_read(tmp_path: Path) -> None:
    counters = SomeCounters()
    file = CounterFile(tmp_path / "c", counters)
    counters.connections = 5
    file.close()
    file.close()
    assert read_counters(tmp_path / "c").values["connections"] == 5
    assert [path.name for path in tmp_path.iterdir()] == ["c"], "no leftover of the making"


def test_a_figure_out_of_range_does_not_hide_the_others(tmp_path: Path) -> None:
    counters = SomeCounters()
    file = CounterFile(tmp_path / "c", counters)
    counters.connections, counters.messages_in, counters.wire_garbage = -1, 2**64 + 5, 4
    file.publish()
    values = read_counters(tmp_path / "c").values
    assert (values["connections"], values["messages_in"], values["wire_garbage"]) == (0, 2**64 - 1, 4)
    file.close()


def test_a_new_process_replaces_the_file_of_the_old_one(tmp_path: Path) -> None:
    old = CounterFile(tmp_path / "c", SomeCounters())
    counters = SomeCounters()
    new = CounterFile(tmp_path / "c", counters)
    counters.connections = 1
    new.publish()
    old.publish()
    assert read_counters(tmp_path / "c").values["connections"] == 1
    old.close()
    new.close()


def test_publishing_grows_nothing(tmp_path: Path) -> None:
    file = CounterFile(tmp_path / "c", SomeCounters())
    size = (tmp_path / "c").stat().st_size
    for _ in range(10):
        file.publish()
    file.close()
    assert (tmp_path / "c").stat().st_size == size


async def test_start_publishes_again_and_again_until_close(tmp_path: Path) -> None:
    published: asyncio.Queue[None] = asyncio.Queue()

    class Watched(CounterFile):
        def publish(self) -> None:
            super().publish()
            published.put_nowait(None)

    file = Watched(tmp_path / "c", SomeCounters())
    file.start(asyncio.get_running_loop())
    file.start(asyncio.get_running_loop())
    assert published.qsize() == 1, "the second start changes nothing"
    for _ in range(3):
        await asyncio.wait_for(published.get(), PUBLISH_INTERVAL_S * 20)
    assert read_counters(tmp_path / "c").publications == 3
    file.close()
    await asyncio.sleep(PUBLISH_INTERVAL_S * 1.5)  # nothing is to happen
    assert read_counters(tmp_path / "c").publications == 4, "one by close, none after it"


async def test_what_is_not_counted_as_it_changes_is_counted_before_each_publication(tmp_path: Path) -> None:
    """Or whoever waits for figures of after a call would get older ones."""
    counters = SomeCounters()
    file = CounterFile(tmp_path / "c", counters)
    facts = [1]
    file.bring_up_to_date = lambda: setattr(counters, "connections", len(facts))
    file.start(asyncio.get_running_loop())
    assert read_counters(tmp_path / "c").values["connections"] == 1
    facts.append(2)
    seen = read_counters(tmp_path / "c").publications
    await until("another publication", lambda: read_counters(tmp_path / "c").publications > seen)
    assert read_counters(tmp_path / "c").values["connections"] == 2
    file.close()


def test_every_cut_is_refused(tmp_path: Path) -> None:
    file = CounterFile(tmp_path / "c", SomeCounters())
    whole = (tmp_path / "c").read_bytes()
    file.close()
    for length in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(WireError):
            read_counters(tmp_path / "cut")


def test_another_file_or_version_is_refused(tmp_path: Path) -> None:
    file = CounterFile(tmp_path / "c", SomeCounters())
    whole = (tmp_path / "c").read_bytes()
    file.close()
    for changed in (b"X" + whole[1:], whole[:8] + b"\x7f" + whole[9:], whole + b"\x00"):
        (tmp_path / "bad").write_bytes(changed)
        with pytest.raises(WireError):
            read_counters(tmp_path / "bad")


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_counters(tmp_path / "c")


def test_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        CounterFile(tmp_path / "none" / "c", SomeCounters())


def test_a_process_beats_while_its_loop_is_held_up(tmp_path: Path) -> None:
    path = tmp_path / "c"

    file = CounterFile(path, SomeCounters())

    async def hold_up() -> None:
        file.start(asyncio.get_running_loop())
        before = read_counters(path)
        while read_counters(path).beats < before.beats + 2:
            time.sleep(0.01)  # noqa: ASYNC251  # on purpose: nothing else runs on this loop
        assert read_counters(path).publications == before.publications
        file.close()
        file.close()

    asyncio.run(hold_up())
    after = read_counters(path).beats
    assert not [thread for thread in threading.enumerate() if thread.name == "heart"]
    assert read_counters(path).beats == after


def test_no_counter_is_an_attribute_of_its_class() -> None:
    """Reading one would cost more than twice as much: Python looks at the class first, and then cannot cache."""

    class Mine(Counters):
        own: int = gauge("Mine alone")

    mine = Mine()
    assert {"own", "batches_in"} <= set(mine.names) == set(mine.figures)
    assert not any(hasattr(Mine, name) for name in mine.names)
