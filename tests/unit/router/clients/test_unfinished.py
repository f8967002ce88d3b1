"""The account of unfinished messages: everybody may hold a little, a few may hold much, and nobody for ever."""

from __future__ import annotations

from unittest import mock

import pytest
from websockets.frames import Opcode

from roost.common.budget import Budget
from roost.router.clients.timers import TICK_S, Wheel
from roost.router.clients.unfinished import CUTS_A_TICK, PATIENCE_S, SMALL_BYTES, Unfinished
from roost.router.counters import RouterCounters
from roost.router.formats.frames import close_frame
from roost.router.websocket.connection import Connection
from roost.router.websocket.inlet import UNFINISHED
from roost.router.websocket.states import State
from roost.router.websocket.window import EVENT_BYTES
from tests.unit.router.fakes import FakeTransport, World, binary, client_frame, close, text

LIMIT = 1_000_000
HALF = LIMIT // 2
LARGE = 200_000


class Client:
    """Sends one message, as far as it is let."""

    def __init__(self, rig: Rig, size: int) -> None:
        self.rig, self.size, self.held = rig, size, 0
        self.reads, self.was_cut = True, False

    def send(self, count: int) -> None:
        assert self.reads, "it is not read"
        self.held = min(self.size, self.held + count)
        if self.held == self.size:
            self.held = 0
            self.reads = self.rig.account.update(self, 0, 0)
        else:
            self.reads = self.rig.account.update(self, self.held, self.size - self.held)
        self.rig.check()

    def read_on(self) -> None:
        self.reads = True

    def cut_message(self) -> None:
        self.held, self.was_cut = 0, True


class Rig:
    def __init__(self, connections: int = 10) -> None:
        self.counters = RouterCounters()
        self.counters.connections = connections
        self.now = 0.0
        self.wheel = Wheel(0.0)
        budget = Budget(LIMIT)
        self.counters.read(unfinished_bytes=budget)
        self.account = Unfinished(budget, self.counters, self.wheel)
        self.clients: list[Client] = []

    def client(self, size: int = LARGE) -> Client:
        self.clients.append(Client(self, size))
        return self.clients[-1]

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += TICK_S
            self.wheel.advance(self.now)

    def check(self) -> None:
        assert self.counters.unfinished_bytes == sum(each.held for each in self.clients)


def test_up_to_half_everybody_goes_on() -> None:
    rig = Rig()
    clients = [rig.client() for _ in range(4)]
    for each in clients:
        each.send(HALF // 4 - 1)
        assert each.reads
    assert len(rig.account) == 4
    for each in clients:
        each.send(LARGE)
    assert rig.counters.unfinished_bytes == 0
    assert len(rig.account) == 0


def test_beyond_half_only_those_whose_rest_has_room_and_the_others_in_turn() -> None:
    rig = Rig()
    clients = [rig.client() for _ in range(6)]
    for each in clients:
        each.send(90_000)  # the sixth brings it over the half
    assert [each.reads for each in clients] == [True] * 6
    going: list[Client] = []
    for each in clients:
        each.send(1)
        if each.reads:
            going.append(each)
    # 110,000 bytes each are set aside of the 460,000 left; the sixth has asked first.
    assert going == [*clients[:3], clients[5]]
    going[1].send(LARGE)
    assert clients[3].reads, "it is less than half again"
    assert clients[4].reads
    for each in (clients[0], clients[2], clients[3], clients[5], clients[4]):
        each.send(LARGE)
    assert rig.counters.unfinished_bytes == 0


def test_however_many_come_all_get_through_within_the_bound() -> None:
    rig = Rig(connections=100)
    clients = [rig.client() for _ in range(100)]
    done = 0
    most = 0
    while done < 100:
        moved = False
        for each in clients:
            if each.reads and not each.was_cut and each.size:
                each.send(7_000)
                moved = True
                most = max(most, rig.counters.unfinished_bytes)
                if each.held == 0:
                    each.size = 0
                    done += 1
        assert moved, "nobody can go on"
    assert most <= LIMIT + 100 * 7_000, "one read each beyond the half"
    assert not any(each.was_cut for each in clients)


def test_what_was_promised_is_kept_whatever_others_hold() -> None:
    rig = Rig()
    others = [rig.client() for _ in range(3)]
    for each in others:
        each.send(170_000)
    first = rig.client()
    first.send(1)
    assert first.reads
    for _ in range(9):
        small = rig.client(60_000)
        small.send(50_000)
    assert rig.counters.unfinished_bytes > 900_000
    while first.held:
        first.send(10_000)
        assert first.reads


def test_a_little_is_everybodys() -> None:
    rig = Rig()
    for _ in range(4):
        rig.client().send(150_000)
    little = rig.account.small_bytes
    small = rig.client(little)
    small.send(little - 1)
    assert small.reads
    crowd = Rig(connections=10_000)
    assert crowd.account.small_bytes == 25
    assert Rig(connections=0).account.small_bytes == SMALL_BYTES


def test_one_of_any_size_goes_on_when_nobody_else_does() -> None:
    rig = Rig()
    huge = rig.client(50 * LIMIT)
    while huge.held < 49 * LIMIT:
        huge.send(LIMIT)
        assert huge.reads
    other = rig.client()
    other.send(1)
    assert not other.reads
    huge.send(50 * LIMIT)
    assert other.reads


def test_who_does_not_get_on_is_cut_when_others_have_waited() -> None:
    rig = Rig()
    idle, slow = rig.client(), rig.client(900_000)
    idle.send(100_000)
    slow.send(450_000)
    waiting = rig.client()
    waiting.send(150_000)
    assert idle.reads
    assert not waiting.reads
    for _ in range(int(PATIENCE_S) - 1):
        rig.pass_time(1)
        slow.send(1)
    assert not idle.was_cut
    rig.pass_time(2)
    assert idle.was_cut, "nothing has come of it for longest"
    assert slow.was_cut, "so much is set aside for it that there would be no room all the same"
    rig.check()
    assert waiting.reads
    waiting.send(LARGE)
    rig.pass_time(100)
    assert rig.counters.unfinished_cut == 2


def test_no_more_are_cut_than_must_be() -> None:
    rig = Rig()
    idle = [rig.client(), rig.client(), rig.client(), rig.client(), rig.client()]
    for each in idle:
        each.send(190_000)
    waiting = rig.client()
    waiting.send(1)
    assert not waiting.reads
    rig.pass_time(PATIENCE_S + 1)
    assert [each.was_cut for each in idle].count(True) == 1
    assert waiting.reads


def test_idle_messages_are_nobodys_business_while_nobody_waits() -> None:
    rig = Rig()
    idle = rig.client()
    idle.send(199_999)
    rig.pass_time(1000)
    assert not idle.was_cut


def test_if_all_wait_one_goes() -> None:
    rig = Rig()
    clients = [rig.client() for _ in range(5)]
    for each in clients:
        each.held = 190_000
        rig.account.update(each, 190_000, 0)  # between two fragments
    waiting = [each for each in clients if not rig.account.update(each, 190_001, 0) or not each.reads]
    assert rig.counters.unfinished_bytes > 900_000
    del waiting
    late = rig.client()
    late.reads = rig.account.update(late, 100_000, 100_000)
    late.held = 100_000
    assert not late.reads
    rig.pass_time(PATIENCE_S + 1)
    assert sum(each.was_cut for each in clients) == 1
    assert late.reads


def test_many_in_the_way_are_found_by_one_look_a_tick() -> None:
    """A look at all for each of them would stop the router for minutes."""
    rig = Rig(connections=10_000)
    for _ in range(1000):
        rig.client(10_000).send(5000)
    assert sum(not each.reads for each in rig.clients) > 800
    rig.pass_time(PATIENCE_S - 1)
    for _ in range(round(3 / TICK_S)):
        cut = sum(each.was_cut for each in rig.clients)
        with mock.patch.object(Unfinished, "_in_the_way", autospec=True, side_effect=Unfinished._in_the_way) as look:
            rig.pass_time(TICK_S)
        assert look.call_count <= 1
        assert sum(each.was_cut for each in rig.clients) - cut <= CUTS_A_TICK
    assert all(each.reads or each.was_cut for each in rig.clients)
    assert rig.counters.unfinished_cut == sum(each.was_cut for each in rig.clients) > CUTS_A_TICK


# --- connections --------------------------------------------------------------------------------------------------


@pytest.fixture
def world() -> World:
    return World(all_windows_bytes=4 << 20)  # a quarter for what is unfinished


SIZE = 300_000


def begins(world: World, sent: int = SIZE - 1) -> tuple[Connection, FakeTransport, bytes]:
    connection, transport = world.connect()
    frame = binary(bytes(SIZE))
    connection.data_received(frame[: len(frame) - SIZE + sent])
    return connection, transport, frame[len(frame) - SIZE + sent :]


def test_a_connection_without_room_is_not_read_until_there_is(world: World) -> None:
    first, second, third = [begins(world) for _ in range(3)]
    assert world.counters.unfinished_bytes == 3 * (SIZE - 1)
    assert (first[1].paused, second[1].paused) == (False, False)
    fourth = begins(world, 1)
    assert fourth[1].paused
    world.link.take()
    second[0].data_received(second[2])
    assert world.link.take()[0][:3] == ("message", 2, 1)
    assert world.counters.unfinished_bytes == 2 * (SIZE - 1) + 1
    assert world.counters.window_bytes == SIZE + EVENT_BYTES
    assert not fourth[1].paused
    for each in (first, third, fourth):
        each[0].data_received(each[2])
    assert world.counters.unfinished_bytes == 3 * SIZE, "they go ahead"
    assert [record[0] for record in world.link.take()] == ["message"] * 3
    assert world.counters.unfinished_bytes == 0


def test_what_a_lost_connection_had_begun_is_given_back(world: World) -> None:
    connections = [begins(world)[0] for _ in range(3)]
    fourth = begins(world, 1)
    assert fourth[1].paused
    connections[0].connection_lost(None)
    assert not fourth[1].paused
    for each in (*connections[1:], fourth[0]):
        each.connection_lost(None)
    assert world.counters.unfinished_bytes == 0
    assert len(world.shared.unfinished) == 0


def test_a_close_of_the_client_gives_it_back(world: World) -> None:
    connection, _ = world.connect()
    connection.data_received(client_frame(Opcode.BINARY, bytes(SIZE), fin=False))
    assert world.counters.unfinished_bytes == SIZE
    connection.data_received(close(1000))
    assert world.counters.unfinished_bytes == 0


def test_a_failure_gives_it_back(world: World) -> None:
    connection, _ = world.connect()
    connection.data_received(client_frame(Opcode.BINARY, bytes(SIZE), fin=False) + b"\x83\x80\0\0\0\0")
    assert world.counters.unfinished_bytes == 0


def test_one_in_the_way_is_closed_with_1013_and_its_object_hears_it(world: World) -> None:
    idle = [begins(world) for _ in range(3)]
    waiting = begins(world, 1)
    world.link.take()
    for _ in range(7):
        world.pass_time(5)
        for each in (*idle, waiting):
            if each[0].state is State.OPEN:
                each[0]._heard = world.wheel.tick  # it answers pings
    connection, transport, rest = idle[1]
    assert world.link.take() == [("closed", connection.number, 1, 0, 1013, UNFINISHED, False)]
    assert transport.take().endswith(close_frame(1013, UNFINISHED))
    assert connection.state is State.CLOSED_BY_ROUTER
    assert not waiting[1].paused
    connection.data_received(rest + text("never"))
    assert world.link.take() == []
    assert world.counters.unfinished_bytes == 2 * (SIZE - 1) + 1


def test_what_waits_for_its_window_counts(world: World) -> None:
    connection, transport = world.connect()
    world.entry().held = True
    connection.data_received(text("x" * 1000) * 3)
    assert world.counters.unfinished_bytes == 3000
    connection.data_received(binary(bytes(SIZE)))
    assert world.counters.unfinished_bytes == 3000 + SIZE
    world.entry().held = False
    world.pass_gates()
    world.link.take()
    assert (world.counters.unfinished_bytes, world.counters.window_bytes) == (0, 3000 + SIZE + 4 * EVENT_BYTES)
    assert not transport.paused


def test_one_that_waits_for_room_is_not_taken_for_dead(world: World) -> None:
    for _ in range(3):
        begins(world)
    connection, transport, _ = begins(world, 1)
    assert transport.paused
    world.pass_time(15)
    assert not transport.aborted
    connection.object_closed(4000, "", False)
    world.pass_time(11)
    assert not transport.aborted, "its Close may be behind the message that we do not read"


def test_whole_messages_that_wait_for_their_windows_keep_others_waiting() -> None:
    rig = Rig()
    queued = [rig.client() for _ in range(6)]
    for each in queued:
        assert rig.account.update(each, 0, 0, LARGE), "its window stops it"
        each.held = LARGE
    late = rig.client()
    late.send(1)
    assert not late.reads
    rig.pass_time(10)
    for each in queued[:2]:
        each.held = 0
        rig.account.update(each, 0, 0, 0)
    assert late.reads, "there are 199,999 bytes of room"


def test_those_whose_windows_are_full_are_not_cut() -> None:
    rig = Rig()
    for _ in range(6):
        full = rig.client()
        full.held = LARGE
        rig.account.update(full, 0, 0, LARGE)
    late = rig.client()
    late.send(1)
    rig.pass_time(PATIENCE_S + 1)
    assert [each.was_cut for each in rig.clients] == [False] * 6 + [True], "the one that could not go on in time"


def test_one_that_waits_makes_room_by_what_it_had_queued() -> None:
    rig = Rig()
    clients = [rig.client() for _ in range(6)]
    for each in clients:
        each.held = 150_000
        each.reads = rig.account.update(each, 50_000, 100_000, 100_000)
    assert not clients[5].reads
    for each in clients:
        each.held = 50_000
        each.reads = rig.account.update(each, 50_000, 100_000, 0)
    assert all(each.reads for each in clients)
    assert rig.counters.unfinished_bytes == 300_000


def test_those_who_wait_for_each_others_input_to_be_parsed_do_not_wait_for_ever() -> None:
    """What was read is put off in a crowded turn: it counts as queued, and is a part of a message only when parsed."""
    rig = Rig()
    clients = [rig.client(LIMIT) for _ in range(8)]
    for client in clients:  # some of each message, and what came behind that
        client.reads = rig.account.update(client, 70_000, LIMIT - 70_000, 70_000)
    crowd = [client for client in clients if not client.reads]
    assert len(crowd) >= 2
    for client in clients:
        if client not in crowd:
            rig.account.update(client, 0, 0)  # gone
    for client in crowd:
        rig.account.update(client, 140_000, LIMIT - 140_000, 0)
    assert any(client.reads for client in crowd), "or nothing would ever make room"
