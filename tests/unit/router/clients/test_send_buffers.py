"""The account of what waits for slow clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from roost.common.budget import Budget
from roost.router.clients.send_buffers import FRAMES_OF_A_STEP, HOLD_COST, LOOK_TICKS, RELIEF, SendBuffers, SlowClient

EACH, LIMIT = 4 << 20, 1 << 20
PATIENCE = 600
KIB = 1 << 10


class Client:
    """Owner and transport in one."""

    def __init__(self, account: SendBuffers, log: list[Client]) -> None:
        self.account, self.log = account, log
        self.waiting = self.taken = 0
        self.stalls = 0
        self.slow: SlowClient = account.add(self, self, 0)

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def get_extra_info(self, name: str) -> Any:
        raise AssertionError(name)

    def write(self, frame: bytes) -> bool:
        self.waiting += len(frame)
        return self.account.note(self.slow, frame)

    def take(self, size: int) -> None:
        self.waiting -= size
        self.taken += size

    def stalled(self) -> None:
        self.stalls += 1

    def cut(self) -> None:
        self.log.append(self)


class Rig:
    def __init__(
        self, limit: int = LIMIT, least: int = 1, in_steps: Callable[[Iterator[None]], None] | None = None
    ) -> None:
        self.account = SendBuffers(
            EACH,
            Budget(limit),
            patience=PATIENCE,
            least=least,
            output_of=lambda client: (client.taken, 0),
            in_steps=in_steps,
        )
        self.cut: list[Client] = []

    def clients(self, count: int) -> list[Client]:
        return [Client(self.account, self.cut) for _ in range(count)]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_shared_frame_counts_once_and_what_each_keeps_of_it_for_each(rig: Rig) -> None:
    frame = bytes(100 * KIB)
    for client in rig.clients(5):
        client.write(frame)
    assert rig.account.budget.taken == 100 * KIB + 5 * HOLD_COST
    assert rig.cut == []


def test_equal_frames_that_are_two_objects_count_twice(rig: Rig) -> None:
    first, second = rig.clients(2)
    first.write(bytes(100 * KIB))
    second.write(bytes(100 * KIB))
    assert rig.account.budget.taken == 200 * KIB + 2 * HOLD_COST


def test_a_shared_frame_is_counted_until_the_last_that_waits_for_it_is_gone(rig: Rig) -> None:
    frame = bytes(100 * KIB)
    first, second = rig.clients(2)
    first.write(frame)
    second.write(frame)
    rig.account.remove(first.slow)
    assert rig.account.budget.taken == 100 * KIB + HOLD_COST
    rig.account.remove(second.slow)
    rig.account.remove(second.slow)
    assert rig.account.budget.taken == len(rig.account) == 0


def test_frames_leave_when_their_last_byte_has(rig: Rig) -> None:
    (client,) = rig.clients(1)
    for size in (10, 20, 30):
        client.write(bytes(size * KIB))
    client.waiting = 50 * KIB + 1
    client.write(b"")
    assert rig.account.budget.taken == 60 * KIB + 4 * HOLD_COST
    client.waiting = 50 * KIB
    client.write(b"")
    assert rig.account.budget.taken == 50 * KIB + 4 * HOLD_COST
    client.waiting = 0
    client.write(b"")
    assert rig.account.budget.taken == HOLD_COST


def test_the_same_frame_twice_for_one_client_is_there_once(rig: Rig) -> None:
    (client,) = rig.clients(1)
    frame = bytes(10 * KIB)
    client.write(frame)
    client.write(frame)
    assert rig.account.budget.taken == 10 * KIB + 2 * HOLD_COST
    client.waiting = 10 * KIB
    client.write(b"")
    assert rig.account.budget.taken == 10 * KIB + 2 * HOLD_COST


def test_it_tells_when_more_waits_for_a_client_than_its_share() -> None:
    (client,) = Rig(1 << 30).clients(1)
    assert not client.write(bytes(EACH))
    assert client.write(b"x")
    client.take(EACH)
    assert not client.write(b"x")
    assert client.write(bytes(3 * EACH)), "a message of any size is taken, and fills it"
    assert client.stalls == 0


def pass_ticks(rig: Rig, first: int, last: int) -> None:
    for tick in range(first, last + 1):
        rig.account.look(tick)


def test_a_client_that_takes_nothing_for_long_has_stalled_and_hears_so_once(rig: Rig) -> None:
    first, second = rig.clients(2)
    pass_ticks(rig, 1, PATIENCE - 1)
    assert (first.stalls, second.stalls) == (0, 0)
    pass_ticks(rig, PATIENCE, 3 * PATIENCE)
    assert (first.stalls, second.stalls) == (1, 1)
    assert len(rig.account) == 2, "it is still there until its TCP ends"


def test_one_byte_in_time_is_progress_and_the_time_runs_from_it(rig: Rig) -> None:
    (client,) = rig.clients(1)
    for tick in range(1, 10 * PATIENCE):
        if tick % (PATIENCE - 30) == 0:
            client.take(1)
        rig.account.look(tick)
    assert client.stalls == 0
    pass_ticks(rig, 10 * PATIENCE, 11 * PATIENCE + 20)
    assert client.stalls == 1


def test_with_a_least_rate_a_byte_in_time_is_not_enough() -> None:
    """30 s at 1,000 bytes a second."""
    rig = Rig(least=30_000)
    fair, foul = rig.clients(2)
    for tick in range(1, 2 * PATIENCE):
        fair.take(51)
        foul.take(49)
        rig.account.look(tick)
    assert (fair.stalls, foul.stalls) == (0, 1)


def test_a_look_costs_a_part_of_all_clients_and_each_is_looked_at_once_a_second(rig: Rig) -> None:
    looked: list[Any] = []
    account = SendBuffers(
        EACH,
        Budget(LIMIT),
        patience=PATIENCE,
        output_of=lambda client: looked.append(client) or (0, 0),
    )
    clients = [Client(account, rig.cut) for _ in range(1_000)]
    looked.clear()
    account.look(1)
    assert len(looked) == 1_000 // LOOK_TICKS
    for tick in range(2, LOOK_TICKS + 1):
        account.look(tick)
    assert sorted(map(id, looked)) == sorted(map(id, clients))


def test_at_the_bound_it_first_looks_for_what_has_gone_by_itself(rig: Rig) -> None:
    first, second = rig.clients(2)
    for _ in range(9):
        first.write(bytes(100 * KIB))
    first.waiting = 100 * KIB
    second.write(bytes(100 * KIB))
    second.write(bytes(100 * KIB))
    assert rig.cut == []
    assert rig.account.budget.taken == 300 * KIB + 3 * HOLD_COST


def test_at_the_bound_the_largest_are_cut_until_a_sixteenth_is_free(rig: Rig) -> None:
    clients = rig.clients(5)
    for client, size in zip(clients, (100, 300, 200, 400, 50), strict=True):
        client.write(bytes(size * KIB))
    assert rig.cut == [clients[3]]
    assert rig.account.budget.taken == 650 * KIB + 4 * HOLD_COST
    clients[0].write(bytes(370 * KIB))
    assert rig.cut == [clients[3], clients[0]]
    assert len(rig.account) == 3


def test_the_one_that_is_written_to_may_be_the_largest_and_what_follows_is_not_noted(rig: Rig) -> None:
    other, client = rig.clients(2)
    other.write(bytes(50 * KIB))
    client.write(bytes(2 << 20))
    assert rig.cut == [client]
    client.write(bytes(100 * KIB))
    assert rig.account.budget.taken == 50 * KIB + HOLD_COST


def test_who_waits_for_what_all_wait_for_is_not_the_largest(rig: Rig) -> None:
    """To cut one of a crowded room frees nothing: the one that alone keeps half as much has the larger share."""
    *room, lonely = rig.clients(11)
    shared = bytes(600 * KIB)
    for client in room:
        client.write(shared)
    lonely.write(bytes(300 * KIB))
    assert rig.cut == []
    lonely.write(bytes(120 * KIB))
    assert rig.cut == [lonely]


def test_a_room_is_cut_as_a_whole(rig: Rig) -> None:
    rooms = [rig.clients(3) for _ in range(3)]
    for room, size in zip(rooms, (250, 400, 300), strict=True):
        frame = bytes(size * KIB)
        for client in room:
            client.write(frame)
    (last,) = rig.clients(1)
    last.write(bytes(90 * KIB))
    assert set(rig.cut) == set(rooms[1])
    assert rig.account.budget.taken == 640 * KIB + 7 * HOLD_COST


def test_many_tiny_frames_count_what_they_cost(rig: Rig) -> None:
    (client,) = rig.clients(1)
    for _ in range(LIMIT // HOLD_COST + 1):
        client.write(b"\x81\x00")
    assert rig.cut == [client]


def test_the_bound_holds_whatever_is_written(rig: Rig) -> None:
    clients = rig.clients(200)
    shared = [bytes(n * KIB) for n in range(1, 20)]
    for number in range(20_000):
        client = clients[number * 7919 % len(clients)]
        client.write(shared[number % 19] if number % 3 else bytes(number % 5_000))
        assert rig.account.budget.taken <= LIMIT
    assert rig.cut


def test_who_has_most_is_looked_for_in_steps_and_cut_in_steps() -> None:
    searches: list[Iterator[None]] = []
    rig = Rig(limit=3000 * KIB, in_steps=searches.append)
    clients = rig.clients(1000)
    frame = b"x" * 100
    for client in clients:
        for _ in range(2):
            client.write(frame)
    few = rig.clients(20)
    for client in few:
        for _ in range(50):
            client.write(b"y" * 100)
    (search,) = searches
    assert rig.cut == []
    assert rig.account.budget.taken > 3000 * KIB
    steps = 0
    while rig.account.budget.taken > 3000 * KIB:
        next(search)
        steps += 1
    assert steps > 2000 // FRAMES_OF_A_STEP, "all frames are looked at"
    assert len(rig.cut) <= 1
    for _ in search:
        steps += 1
    assert set(rig.cut) <= set(few)
    assert rig.account.budget.taken <= 3000 * KIB - 3000 * KIB // RELIEF
    for client in clients:
        client.write(b"z" * 300)
    assert len(searches) > 1, "the next search is another one"


def test_what_comes_during_a_search_has_a_bound() -> None:
    searches: list[Iterator[None]] = []
    rig = Rig(in_steps=searches.append)
    first, second = rig.clients(2)
    first.write(bytes(LIMIT))
    assert rig.cut == []
    while not rig.cut:
        second.write(bytes(KIB))
        assert rig.account.budget.taken <= LIMIT + LIMIT // RELIEF + 4 * KIB
    assert rig.cut == [first]
    assert len(searches) == 1
    assert rig.account.budget.taken < LIMIT


def test_clients_that_leave_during_a_search_are_not_cut() -> None:
    searches: list[Iterator[None]] = []
    rig = Rig(in_steps=searches.append)
    clients = rig.clients(3)
    for client in clients:
        client.write(bytes(LIMIT // 3))
    for client in clients:
        rig.account.remove(client.slow)
    for _ in searches[0]:
        pass
    assert rig.cut == []
    assert rig.account.budget.taken == 0
