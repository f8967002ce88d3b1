"""Large payloads are let go of a piece at a time, whoever is the last who has them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest

from roost.common.runtime.discards import Discards

PIECE = 256 << 10


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def held() -> int:
    """Pieces that are in memory."""
    return round(tracemalloc.get_traced_memory()[0] / PIECE)


def pieces(discards: Discards, count: int) -> list[memoryview]:
    made = [memoryview(bytes(PIECE)) for _ in range(count)]
    for each in made:
        discards.watch(each)
    return made


def test_what_nobody_has_goes_piece_by_piece() -> None:
    asked: list[Discards] = []
    discards = Discards(asked.append)
    payload = pieces(discards, 10)
    transport = list(payload)
    payload.clear()
    assert (held(), len(discards), asked) == (10, 0, [])
    transport.clear()
    assert (held(), len(discards), asked) == (10, 10, [discards])
    left = []
    while True:
        more = discards.work()
        left.append(held())
        if not more:
            break
    assert left == list(range(9, -1, -1))


def test_it_asks_again_for_what_goes_later() -> None:
    asked: list[Discards] = []
    discards = Discards(asked.append)
    first, second = pieces(discards, 2)
    del first
    assert not discards.work()
    del second
    assert asked == [discards, discards]
    assert not discards.work()
    assert held() == 0


def test_whoever_has_a_part_of_a_piece_has_its_bytes() -> None:
    discards = Discards(lambda _: None)
    (piece,) = pieces(discards, 1)
    part = piece[10:20]
    del piece
    assert not discards.work()
    assert held() == 1
    assert bytes(part) == bytes(10)
    del part
    assert held() == 0


def test_equal_pieces_are_different_ones() -> None:
    discards = Discards(lambda _: None)
    first, second = pieces(discards, 2)
    del first
    assert len(discards) == 1
    assert bytes(second[:1]) == b"\0"


def test_at_the_end_all_goes_at_once() -> None:
    asked: list[Discards] = []
    discards = Discards(asked.append)
    payload = pieces(discards, 4)
    payload.pop()
    discards.close()
    assert held() == 3
    payload.clear()
    assert held() == 0
    assert len(asked) == 1
