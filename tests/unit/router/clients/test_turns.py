"""The router's own work that grows with what clients have: it is done in steps, some in each turn of the loop."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.frames import Opcode

from roost.common.limits import SLOTS
from roost.common.wire.records import AcceptMode
from roost.router.clients.gathering import AHEAD_BYTES
from roost.router.clients.retirement import Retirement
from roost.router.clients.timers import CALLS, CALLS_A_STEP, Wheel
from roost.router.clients.work import AT_ONCE_BYTES, ENDS_AT_ONCE, OWN_SLICE_S, STEPS_AT_ONCE, Errand, Work
from roost.router.formats.frames import pong_frame
from roost.router.owners.attaching import BYTES_OF_EVENT
from roost.router.owners.giving import PIECE
from roost.router.websocket.client_frames import ClientFrames, is_one_message
from roost.router.websocket.connection import Connection
from roost.router.websocket.states import State
from tests.unit.router.fakes import World, binary, client_frame, close, text
from tests.unit.router.http import rig as http
from tests.unit.router.rig import Rig, cluster, shard

LOOK_S = OWN_SLICE_S / 4
"""Seconds that pass between two looks at the clock."""
A_TURN = 5 * STEPS_AT_ONCE
"""Steps of an errand in a turn of such a clock, or a little more than there are."""
COUNT = 3_000


@pytest.fixture
def rig() -> Rig:
    """One whose turns are short; all slots are attached."""
    rig = Rig(turns=True)
    rig.take_map(cluster(1, shard(1)))
    while rig.soon:
        rig.soon.pop(0)()
    clock = itertools.count()
    rig.world.work_now = lambda: LOOK_S * next(clock)
    return rig


def turns(rig: Rig, done: Callable[[], int]) -> list[int]:
    """Let the loop turn until nothing is left to do; by how much *done* grew in each turn."""
    figures = [done()]
    while rig.soon:
        calls, rig.soon[:] = list(rig.soon), []
        for call in calls:
            call()
        figures.append(done())
    return [after - before for before, after in itertools.pairwise(figures)]


def in_state(rig: Rig, *states: State) -> int:
    return sum(each.state in states for each in rig.world.shared.connections.all())


@pytest.mark.parametrize("objects", [1, COUNT])
def test_sockets_that_end_with_their_shard_are_closed_in_steps(rig: Rig, objects: int) -> None:
    clients = [rig.connect(f"o{number % objects}", mode=AcceptMode.STANDARD)[0] for number in range(COUNT)]
    rig.forwarding.shard_died(rig.links[1])
    assert not any(each.entry.link for each in clients), "nothing more goes to a dead shard"
    closed = turns(rig, lambda: in_state(rig, State.CLOSED_BY_ROUTER))
    assert sum(closed) == COUNT
    assert max(closed) <= A_TURN
    assert rig.world.counters.standard_closed == COUNT


@pytest.mark.parametrize("objects", [1, COUNT])
def test_what_a_shard_lets_go_of_is_taken_back_in_steps_and_attached_only_then(rig: Rig, objects: int) -> None:
    clients = [rig.connect(f"o{number % objects}")[0] for number in range(COUNT)]
    for each in clients:
        each.data_received(text("again"))
    rig.take_map(cluster(2, shard(1), shard(2), owners=[2] * SLOTS))
    rig.links[1].take()
    rig.forwarding.released(rig.links[1], 2, list(range(SLOTS)))
    assert not any(each.entry.link for each in clients), "nothing more goes to the old owner"
    assert rig.links[2].take() == []

    def taken_back() -> int:
        return sum(event[2] == 0 for each in clients for event in each.window.events.values())

    steps = []
    while any(each.entry.link is None for each in clients):
        before = taken_back()
        calls, rig.soon[:] = list(rig.soon), []
        for call in calls:
            call()
        given = [record[1].connection for record in rig.links[2].take() if record[0] == "restore"]
        if not given:
            steps.append(taken_back() - before)
        else:
            assert sum(steps) >= COUNT - A_TURN, "nobody is attached before all are taken back"
    assert max(steps) <= A_TURN


def test_requests_that_waited_for_too_long_are_answered_in_steps(rig: Rig) -> None:
    rig.forwarding.shard_died(rig.links[1])
    turns(rig, lambda: 0)
    askers = [rig.ask(f"o{number}")[1] for number in range(1_000)]
    rig.world.pass_time(31)
    rig.forwarding.on_second()
    answered = turns(rig, lambda: sum(len(each.got) for each in askers))
    assert sum(answered) == len(askers)
    assert max(answered) <= A_TURN


@pytest.mark.parametrize("objects", [1, COUNT])
def test_clients_whose_objects_cannot_be_reached_are_closed_in_steps(rig: Rig, objects: int) -> None:
    for number in range(COUNT):
        rig.connect(f"o{number % objects}")
    rig.forwarding.shard_died(rig.links[1])
    turns(rig, lambda: 0)
    rig.world.shared.ping_after = 1 << 20
    rig.world.wheel.tick += 10_000
    rig.forwarding.on_second()
    closed = turns(rig, lambda: in_state(rig, State.CLOSED_BY_ROUTER))
    assert sum(closed) == COUNT
    assert max(closed) <= A_TURN


def test_events_given_to_a_new_owner_count_by_their_bytes(rig: Rig) -> None:
    clients = [rig.connect(f"o{number}")[0] for number in range(60)]
    for each in clients:
        each.data_received(binary(bytes(AHEAD_BYTES - 1)))
        each.data_received(binary(bytes(AHEAD_BYTES - 1)))
    rig.links[1].writer.take()
    rig.take_map(cluster(2, shard(2)))
    given = turns(rig, lambda: sum(each.entry.link is rig.links[2] for each in clients))
    assert sum(given) == len(clients)
    assert max(given) * (1 << 19) <= PIECE * BYTES_OF_EVENT + (1 << 20)


def test_one_object_with_many_sockets_is_given_to_its_owner_in_steps(rig: Rig) -> None:
    clients = [rig.connect()[0] for _ in range(COUNT)]
    for each in clients:
        each.data_received(text("before"))
    rig.links[1].writer.take()
    rig.take_map(cluster(2, shard(2)))
    given = turns(rig, lambda: sum(each.entry.link is rig.links[2] for each in clients))
    assert sum(given) == COUNT
    assert max(given) <= PIECE
    records = rig.links[2].take()
    assert [record[0] for record in records[:2]] == ["restore", "message"]
    assert sum(record[0] == "restore" for record in records) == COUNT
    assert restored(records, clients[0])


def restored(records: list[tuple[Any, ...]], client: Connection) -> bool:
    """Whether the slot of a client's object is said to be whole, behind everything else of it."""
    kind, _, slots = records[-1]
    return kind == "restored" and client.entry.slot in slots


def half_given(rig: Rig, count: int = COUNT) -> list[Connection]:
    """One object with so many clients, of which the first have been given to shard 2."""
    clients = [rig.connect()[0] for _ in range(count)]
    for each in clients:
        each.data_received(text("before"))
    rig.links[1].writer.take()
    rig.take_map(cluster(2, shard(2)))
    while not any(each.entry.link for each in clients):
        rig.soon.pop(0)()
    assert clients[0].entry.link is rig.links[2]
    assert clients[-1].entry.link is None
    return clients


def messages(records: list[tuple[Any, ...]], client: Connection) -> list[tuple[int, str]]:
    """How often those of a client were sent before, and what they say."""
    return [(record[3], record[4]) for record in records if record[0] == "message" and record[1] == client.number]


def test_what_clients_say_while_half_of_them_are_there_stays_in_order(rig: Rig) -> None:
    clients = half_given(rig)
    first, last = clients[0], clients[-1]
    for each in (first, last):
        each.data_received(text("meanwhile"))
    turns(rig, lambda: 0)
    records = rig.links[2].take()
    assert messages(records, first) == [(1, "before"), (0, "meanwhile")]
    assert messages(records, last) == [(1, "before"), (0, "meanwhile")]
    assert [record[1].connection for record in records if record[0] == "restore"] == [each.number for each in clients]
    assert rig.forwarding.attached == SLOTS


def test_clients_that_leave_while_half_of_them_are_there_end_for_the_new_owner(rig: Rig) -> None:
    clients = half_given(rig)
    first, last = clients[0], clients[-1]
    first.connection_lost(None)
    last.data_received(close(1000))
    turns(rig, lambda: 0)
    records = rig.links[2].take()
    ends = [(record[1], record[4]) for record in records if record[0] == "closed"]
    assert ends == [(first.number, 1006), (last.number, 1000)]
    assert [record[1].connection for record in records if record[0] == "restore"] == [each.number for each in clients]
    for each in clients:
        rig.receiver(2).acknowledge([each.number], [1], [2])
    assert first not in rig.world.shared.connections.all()


def test_if_all_leave_before_they_are_there_nothing_is_left(rig: Rig) -> None:
    clients = half_given(rig, PIECE + 10)
    for each in clients:
        each.forget_events()
        each.connection_lost(None)
    turns(rig, lambda: 0)
    assert len(rig.world.shared.objects) == 0
    assert rig.forwarding.attached == SLOTS


def test_requests_wait_until_all_is_there(rig: Rig) -> None:
    half_given(rig)
    for name in ("lobby", "other"):
        rig.ask(name, upgrade=True)
    turns(rig, lambda: 0)
    kinds = [record[0] for record in rig.links[2].take()]
    assert kinds[-3:] == ["restored", "request", "request"] or kinds.index("restored") < kinds.index("request")
    assert kinds.count("request") == 2


def test_an_owner_that_dies_half_way_has_begun_nothing(rig: Rig) -> None:
    clients = half_given(rig)
    clients[0].data_received(text("meanwhile"))
    rig.forwarding.shard_died(rig.links[2])
    assert not any(each.entry.link for each in clients), "nothing more goes to a dead shard"
    clients[0].data_received(text("later"))
    clients[-1].data_received(text("later"))
    rig.take_map(cluster(3, shard(3)))
    given = turns(rig, lambda: sum(each.entry.link is rig.links[3] for each in clients))
    assert max(given) <= PIECE
    records = rig.links[3].take()
    assert messages(records, clients[0]) == [(1, "before"), (0, "meanwhile"), (0, "later")]
    assert messages(records, clients[-1]) == [(1, "before"), (0, "later")]
    assert sum(record[0] == "restore" for record in records) == COUNT
    assert restored(records, clients[0])
    assert len({id(each.entry) for each in clients}) == 1


def test_an_owner_that_says_it_has_let_go_half_way_is_not_believed(rig: Rig) -> None:
    clients = half_given(rig)
    rig.receiver(2).released(2, [clients[0].entry.slot], [], [])
    turns(rig, lambda: 0)
    assert all(each.entry.link is rig.links[2] for each in clients)
    assert rig.forwarding.attached == SLOTS


def test_an_owner_whose_link_is_blocked_gets_the_rest_later(rig: Rig) -> None:
    clients = half_given(rig)
    rig.links[2].blocked = True
    turns(rig, lambda: 0)
    assert clients[-1].entry.link is None
    rig.links[2].blocked = False
    rig.forwarding.unblocked(rig.links[2])
    turns(rig, lambda: 0)
    assert all(each.entry.link is rig.links[2] for each in clients)
    assert rig.forwarding.attached == SLOTS


def test_who_waited_for_room_goes_on_when_it_is_there(rig: Rig) -> None:
    """The gate of those that were not there yet is nobody's afterwards."""
    clients = half_given(rig)
    entry, last = clients[0].entry, clients[-1]
    entry.fall_behind(True)
    last.entry.held = True
    last.data_received(text("meanwhile"))
    assert last.has_input
    turns(rig, lambda: 0)
    assert last.has_input, "its object is behind"
    entry.fall_behind(False)
    turns(rig, lambda: 0)
    assert not last.has_input
    assert messages(rig.links[2].take(), last) == [(1, "before"), (0, "meanwhile")]


def test_an_error_in_a_step_keeps_nothing_parked(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.connect()

    def fail(*_: object) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(rig.forwarding, "_park", fail)
    rig.take_map(cluster(2, shard(2)))
    turns(rig, lambda: 0)
    assert rig.world.counters.defects == 1
    assert rig.forwarding.attached == SLOTS


def test_items_of_the_wheel_that_are_left_over_are_called_in_steps() -> None:
    called = []

    class Item:
        def on_tick(self, tick: int) -> None:
            called.append(tick)

        def break_off(self, error: Exception) -> None:
            raise error

    wheel = Wheel(0.0)
    for _ in range(COUNT):
        wheel.schedule(Item(), 1)
    wheel.advance(5.0)
    assert len(called) == CALLS
    assert wheel.is_behind
    steps = 0
    while wheel.work():
        steps += 1
        assert len(called) == CALLS + steps * CALLS_A_STEP
    assert len(called) == COUNT
    assert wheel.tick == 100
    assert not wheel.is_behind


def test_a_router_that_retires_closes_no_more_in_a_step_whatever_its_rate() -> None:
    world = World()
    for _ in range(COUNT):
        world.connect()
    retirement = Retirement(world.shared.connections, 1e6, 0.0)
    closed = [0]
    for step in range(1, 100):
        done = retirement.step(0.05 * step)
        closed.append(sum(each.state is State.CLOSED_BY_ROUTER for each in world.shared.connections.all()))
        if done:
            break
    assert closed[-1] == COUNT
    assert max(after - before for before, after in itertools.pairwise(closed)) == 512


def test_the_routers_own_work_and_that_of_clients_do_not_wait_for_each_other() -> None:
    now, log = [0.0], []

    class Worker:
        def __init__(self, name: str) -> None:
            self.name = name

        def work(self) -> bool:
            log.append(self.name)
            now[0] += 1.0
            return len(log) < 6

        def break_off(self, error: Exception) -> None:
            raise error

    work = Work(lambda: None, lambda: now[0])
    for name in "ab":
        work.add(Worker(name))
    work.add_own(Worker("own"))
    assert len(work) == 3
    while work.run():
        pass
    assert log[:6] == ["own", "a", "own", "b", "own", "a"]


def test_an_errand_that_fails_is_over_and_says_so() -> None:
    errors: list[Exception] = []
    work = Work(lambda: None, lambda: 0.0)

    def steps() -> Iterator[None]:
        yield
        raise RuntimeError("on purpose")

    work.add_own(Errand(steps(), errors.append))
    assert not work.run()
    assert [str(error) for error in errors] == ["on purpose"]
    assert len(work) == 0


# --- reads ---

PING = client_frame(Opcode.PING)


def test_many_small_reads_of_one_turn_take_turns_when_they_have_had_their_share() -> None:
    world = World()
    clients = [world.connect(f"o{number}") for number in range(400)]
    for client, _ in clients:
        client.data_received(PING * 20)
    answered = sum(bool(transport.take()) for _, transport in clients)
    assert 5 < answered < 40
    assert sum(transport.paused for _, transport in clients) == len(clients) - answered
    assert len(world.shared.work) == len(clients) - answered
    world.run()
    assert sum(transport.take() == pong_frame(b"") * 20 for _, transport in clients) == len(clients) - answered
    assert not any(transport.paused for _, transport in clients)


def test_a_whole_message_that_comes_alone_is_taken_at_once_whatever_others_send() -> None:
    world = World()
    crowd = [world.connect("crowd") for _ in range(200)]
    for client, _ in crowd:
        client.data_received(PING * 60)
    assert len(world.shared.work) > 0
    neighbour, _ = world.connect("neighbour")
    for message in (text("hello"), text("x" * 126), binary(b"y" * 300)):
        neighbour.data_received(message)
    assert [record[4] for record in world.link.take()] == ["hello", "x" * 126, b"y" * 300]
    neighbour.data_received(text("two") + text("together"))
    assert world.link.take() == []
    world.run()
    assert [record[4] for record in world.link.take()] == ["two", "together"]


@pytest.mark.parametrize(
    ("data", "is_one"),
    [
        (text("x"), True),
        (text(""), True),
        (binary(b"x" * 125), True),
        (binary(b"x" * 126), True),
        (binary(b"x" * 60_000)[:1000], True),
        (text("x") + text("y"), False),
        (text("x")[:3], False),
        (PING, False),
        (client_frame(Opcode.BINARY, b"x", fin=False), False),
        (client_frame(Opcode.CONT, b"x"), False),
        (binary(b"x" * 70_000), False),
        (b"\x81", False),
        (b"\x00", False),
    ],
)
def test_one_message_is_told_by_its_head(data: bytes, is_one: bool) -> None:
    assert is_one_message(data) is is_one


def test_bytes_that_are_put_off_stay_in_order_with_what_comes_behind_and_before() -> None:
    frames = ClientFrames(1 << 20)
    stream = b"".join(text(str(number)) for number in range(50))
    got = frames.receive(stream[:11])
    frames.put_off(stream[11:40])
    frames.put_off(stream[40:])
    assert frames.unparsed == len(stream) - 11
    while frames.unparsed:
        got += frames.go_on()
    assert [payload for _, payload in got] == [str(number).encode() for number in range(50)]


# --- ends ---


def test_of_many_that_end_in_one_turn_some_are_let_go_of_at_once_and_all_in_turn() -> None:
    world = World()
    clients = [world.connect(f"o{number}") for number in range(COUNT)]
    assert sum(not client.eof_received() for client, _ in clients) == ENDS_AT_ONCE, "the transport closes those"
    assert not any(transport.closed for _, transport in clients)
    now = itertools.count()
    world.work_now = lambda: next(now) * OWN_SLICE_S
    assert world.shared.work.run(), "a turn has room for one with this clock"
    assert sum(transport.closed for _, transport in clients) == 1
    world.run()
    assert sum(transport.closed for _, transport in clients) == COUNT - ENDS_AT_ONCE
    assert not clients[0][0].eof_received(), "a later turn begins anew"


def test_an_end_that_waits_for_its_turn_does_not_overtake_the_close_that_the_client_has_sent() -> None:
    world = World()
    for number in range(ENDS_AT_ONCE):
        world.connect(f"o{number}")[0].eof_received()
    client, transport = world.connect("lobby")
    world.shared.work.taken = AT_ONCE_BYTES + 1
    client.data_received(close(1000) + PING)
    assert client.state is State.OPEN
    assert client.eof_received()
    world.run()
    assert client.state is State.CLOSED_BY_CLIENT
    assert not transport.closed, "its object has not ended"


def test_who_is_gone_when_its_end_has_its_turn_is_left_alone() -> None:
    world = World()
    clients = [world.connect(f"o{number}") for number in range(ENDS_AT_ONCE + 1)]
    for client, _ in clients:
        client.eof_received()
    last, transport = clients[-1]
    last.connection_lost(None)
    world.run()
    assert not transport.closed


def test_rooms_that_end_together_take_turns_as_well() -> None:
    rig = http.Rig()
    clients = [rig.client() for _ in range(3 * ENDS_AT_ONCE)]
    assert sum(not client.protocol.eof_received() for client in clients) == ENDS_AT_ONCE
    clients[-1].protocol.connection_lost(None)
    rig.world.run()
    assert sum(client.transport.closed for client in clients) == 2 * ENDS_AT_ONCE - 1


# --- requests that take too much ---

BEGUN = b"GET /chat-room/lobby HTTP/1.1\r\nHost: h\r\nx: "


@pytest.mark.parametrize(("bound", "limit"), [("heads", 40 * 2_050), ("handshakes", 40)])
def test_heads_that_have_to_make_room_go_in_steps_while_very_much_comes(bound: str, limit: int) -> None:
    rig = http.Rig()
    clients = [rig.client() for _ in range(1_000)]
    getattr(rig.front.budgets, bound).limit = limit
    for client in clients:
        client.protocol.data_received(BEGUN + bytes(2_000).replace(b"\0", b"v"))
    gone = sum(client.transport.eof for client in clients)
    assert gone < 40, "a few, before too much had come for this turn"
    now = itertools.count()
    rig.world.work_now = lambda: next(now) * OWN_SLICE_S
    while rig.world.shared.work.run():
        before, gone = gone, sum(client.transport.eof for client in clients)
        assert gone - before <= 2 * STEPS_AT_ONCE
    left = [client for client in clients if not client.transport.eof]
    assert 20 <= len(left) <= 45
    assert left == clients[-len(left) :], "the oldest go"


def test_one_head_too_many_at_a_quiet_time_makes_room_at_once() -> None:
    rig = http.Rig()
    first, second = rig.client(), rig.client()
    rig.front.budgets.handshakes.limit = 1
    for client in (first, second):
        client.protocol.data_received(BEGUN)
    assert (first.transport.eof, second.transport.eof) == (True, False)
    assert http.status(first.take()) == 503
