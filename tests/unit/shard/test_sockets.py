from __future__ import annotations

import time
from typing import Any

import pytest

from roost.common.errors import TooManyWebSockets
from roost.common.limits import MAX_WEBSOCKETS_PER_OBJECT
from roost.shard.sockets import Socket, Sockets

OWNER: Any = None


def socket(ordinal: int, *tags: str) -> Socket:
    return Socket(OWNER, hibernatable=True, ordinal=ordinal, tags=tags)


def filled(*ordinals: int, tags: tuple[str, ...] = ("all",)) -> tuple[Sockets, dict[int, Socket]]:
    sockets, made = Sockets(), {ordinal: socket(ordinal, *tags) for ordinal in ordinals}
    for one in made.values():
        sockets.add(one)
    return sockets, made


def ordinals(listed: list[Socket]) -> list[int]:
    return [one.ordinal for one in listed]


def test_all_are_listed_newest_first_and_those_of_a_tag_oldest_first() -> None:
    sockets, _ = filled(1, 2, 3)
    assert ordinals(sockets.newest_first()) == [3, 2, 1]
    assert ordinals(sockets.tagged("all")) == [1, 2, 3]
    assert sockets.tagged("unknown") == []


def test_restored_ones_may_come_in_any_order() -> None:
    sockets, _ = filled(5, 2, 9)
    assert ordinals(sockets.newest_first()) == [9, 5, 2]
    sockets.add(socket(7, "all"))
    assert ordinals(sockets.tagged("all")) == [2, 5, 7, 9]
    sockets.add(socket(8, "all"))
    sockets.add(socket(10, "all"))
    assert ordinals(sockets.newest_first()) == [10, 9, 8, 7, 5, 2]


def test_removal_leaves_every_index() -> None:
    sockets, made = filled(1, 2, tags=("a", "b"))
    sockets.remove(made[1])
    assert made[1] not in sockets
    assert made[2] in sockets
    assert len(sockets) == 1
    assert ordinals(sockets.newest_first()) == ordinals(sockets.tagged("a")) == ordinals(sockets.tagged("b")) == [2]


def test_removing_twice_or_what_was_never_there_does_nothing() -> None:
    sockets, made = filled(1)
    sockets.remove(socket(1, "all"))
    assert len(sockets) == 1
    sockets.remove(made[1])
    sockets.remove(made[1])
    assert len(sockets) == 0


def test_there_is_room_for_32768() -> None:
    sockets, _ = filled(*range(MAX_WEBSOCKETS_PER_OBJECT - 1), tags=())
    sockets.check_room()
    sockets.add(socket(MAX_WEBSOCKETS_PER_OBJECT))
    with pytest.raises(TooManyWebSockets, match="32768"):
        sockets.check_room()


@pytest.mark.parametrize("newest_last", [True, False])
def test_removing_all_one_by_one_costs_the_same_each(newest_last: bool) -> None:
    """A list instead of the tables would take a hundred times as long here."""
    took = []
    for count in (2_000, 16_000):
        sockets, made = filled(*range(count))
        begin = time.process_time()
        for one in list(made.values()) if newest_last else reversed(list(made.values())):
            sockets.remove(one)
            sockets.tagged("unknown")
        took.append(time.process_time() - begin)
    assert took[1] < 30 * took[0], took


def test_ready_states() -> None:
    one = socket(1)
    assert one.ready_state == 1
    one.closed_by_object = True
    assert one.ready_state == 2
    one.closed_by_client = True
    assert one.ready_state == 3
    one.gone = True
    assert one.ready_state == 3
    other = socket(2)
    other.gone = True
    assert other.ready_state == 2
