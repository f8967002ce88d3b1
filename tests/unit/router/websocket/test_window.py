"""The unacknowledged window."""

from __future__ import annotations

import gc
import sys
import tracemalloc

import pytest

from roost.common.limits import WINDOW_BYTES, WINDOW_MESSAGES
from roost.router.websocket.window import EVENT_BYTES, End, Window
from tests.support.links import LinkToShard


def filled(count: int, size: int = 1) -> Window:
    window = Window()
    for _ in range(count):
        window.add(b"x" * size, False, 1)
    return window


def test_events_are_numbered_from_one() -> None:
    window = Window()
    assert [window.add(b"a", False, 1), window.add(b"b", True, 1), window.end(End(False, 1000, "", True, 1))] == [
        1,
        2,
        3,
    ]
    assert window.next_seq == 4


def test_it_is_full_at_its_count() -> None:
    assert filled(WINDOW_MESSAGES - 1).admits(1)
    assert not filled(WINDOW_MESSAGES).admits(1)


def test_it_is_full_at_its_bytes() -> None:
    window = filled(1, WINDOW_BYTES - 2 * EVENT_BYTES - 10)
    assert window.admits(10)
    assert not window.admits(11)


@pytest.mark.parametrize("size", [0, 1, 20, 1000])
def test_a_message_takes_what_it_counts_with(size: int) -> None:
    gc.collect()
    tracemalloc.start()
    try:
        windows = [Window() for _ in range(50)]
        for window in windows:
            for _ in range(WINDOW_MESSAGES // 2):
                window.add(bytes(bytearray(size)), False, 1)
        took, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    counted = sum(window.size for window in windows)
    assert took < counted, "the rest of it is what it takes at its shard"


def test_a_long_text_counts_as_it_takes_at_its_shard() -> None:
    window = Window()
    text = "x" * 10_000 + "\N{GRINNING FACE}"
    payload = text.encode()
    window.add(payload, False, 1)
    assert sys.getsizeof(text) < window.size == 4 * len(payload) + EVENT_BYTES
    assert window.acknowledge(1, 1) == 4 * len(payload) + EVENT_BYTES
    for other, binary in ((payload, True), (b"x" * 10_000, False)):
        window.add(other, binary, 1)
        assert window.clear() == len(other) + EVENT_BYTES


def test_an_empty_one_admits_any_size() -> None:
    window = Window()
    assert window.admits(WINDOW_BYTES * 40)
    window.add(b"x" * (WINDOW_BYTES + 1), False, 1)
    assert not window.admits(1)


@pytest.mark.parametrize(
    ("first", "last", "left"),
    [(1, 1, [2, 3, 4, 5]), (2, 4, [1, 5]), (5, 5, [1, 2, 3, 4]), (1, 10**15, []), (7, 9, [1, 2, 3, 4, 5])],
)
def test_ranges_are_forgotten_in_any_order(first: int, last: int, left: list[int]) -> None:
    window = filled(5, 10)
    assert window.acknowledge(first, last) == (10 + EVENT_BYTES) * (5 - len(left))
    assert list(window.events) == left
    assert window.size == (10 + EVENT_BYTES) * len(left)


def test_a_range_acknowledged_twice_changes_nothing() -> None:
    window = filled(3)
    window.acknowledge(2, 2)
    assert window.acknowledge(1, 2) == 1 + EVENT_BYTES
    assert window.acknowledge(1, 2) == 0
    assert list(window.events) == [3]


def test_half_empty_needs_room_in_both_bounds() -> None:
    window = filled(WINDOW_MESSAGES)
    window.acknowledge(1, WINDOW_MESSAGES // 2 - 1)
    assert not window.half_empty
    window.acknowledge(1, WINDOW_MESSAGES // 2)
    assert window.half_empty
    assert not filled(1, WINDOW_BYTES // 2 + 1).half_empty


def test_sending_again_keeps_the_order_and_counts_deliveries() -> None:
    window, link = Window(), LinkToShard()
    window.add(b"one", False, 1)
    window.add(b"two", True, 0)
    window.acknowledge(1, 0)
    window.end(End(False, 1001, "bye", True, 1))
    link.flush_soon()
    window.send_again(link.writer, 9)
    assert link.take() == [
        ("message", 9, 1, 1, "one"),
        ("message", 9, 2, 0, b"two"),
        ("closed", 9, 3, 1, 1001, "bye", True),
    ]
    link.flush_soon()
    window.send_again(link.writer, 9)
    assert [record[3] for record in link.take()] == [2, 1, 2]


def test_deliveries_fit_into_their_byte() -> None:
    window, link = Window(), LinkToShard()
    window.add(b"x", False, 300)
    window.end(End(True, 1002, "y", False, 300))
    window.send_again(link.writer, 1)
    link.flush_soon()
    assert [record[3] for record in link.take()] == [255, 255]


def test_clearing_frees_everything() -> None:
    window = filled(3, 5)
    assert window.clear() == 3 * (5 + EVENT_BYTES)
    assert not window.events
    assert window.size == 0
    assert window.next_seq == 4


# --- an owner that lets go ---


def test_only_what_was_begun_counts_as_sent() -> None:
    window, link = Window(), LinkToShard()
    for payload, sent in ((b"begun", 1), (b"not begun", 1), (b"crashed before", 2), (b"waited", 0)):
        window.add(payload, False, sent)
    window.end(End(False, 1000, "", True, 1))
    window.take_back({1})
    window.send_again(link.writer, 9)
    link.flush_soon()
    assert [record[2:4] for record in link.take()] == [(1, 1), (2, 0), (3, 1), (4, 0), (5, 0)]


def test_the_end_can_have_been_begun_as_well() -> None:
    window, link = Window(), LinkToShard()
    window.end(End(True, 1002, "", False, 1))
    window.take_back([1])
    window.send_again(link.writer, 9)
    link.flush_soon()
    assert link.take()[0][3] == 1


def test_the_end_is_kept_as_long_as_an_event_before_it() -> None:
    window, link = Window(), LinkToShard()
    window.add(b"slow", False, 1)
    window.add(b"quick", False, 1)
    window.end(End(False, 1000, "", True, 1))
    assert window.acknowledge(2, 3) == 5 + EVENT_BYTES
    assert not window.end_is_over()
    window.take_back({1})
    window.send_again(link.writer, 9)
    link.flush_soon()
    assert [record[2:4] for record in link.take()] == [(1, 1), (3, 1)]
    assert window.acknowledge(1, 1) == 4 + EVENT_BYTES
    assert window.end_is_over()
    assert not window.events


def test_an_end_that_was_not_acknowledged_is_not_over() -> None:
    window = filled(1)
    window.end(End(False, 1000, "", True, 1))
    window.acknowledge(1, 1)
    assert not window.end_is_over()
    assert list(window.events) == [2]


def test_a_dropped_event_frees_its_bytes() -> None:
    window = filled(2, 5)
    window.end(End(False, 1000, "", True, 1))
    assert window.drop(1) == (b"xxxxx", False, 1)
    assert (window.size, list(window.events)) == (5 + EVENT_BYTES, [2, 3])
    assert window.drop(1) is None
    assert isinstance(window.drop(3), End)
    assert window.size == 5 + EVENT_BYTES
