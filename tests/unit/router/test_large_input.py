"""Large messages of clients, which go ahead in pieces: what waits behind them, and what becomes of them when their
owner or their client goes."""

from __future__ import annotations

from typing import Any

import pytest

from roost.common.close_codes import TRY_AGAIN_LATER, VANISHED
from roost.common.limits import MAX_BATCH_BYTES
from roost.router.clients.gathering import AHEAD_BYTES
from roost.router.owners import giving, replay
from roost.router.websocket.states import State
from roost.router.websocket.window import memory_of
from tests.unit.router.fakes import FakeTransport, World, binary, close, text
from tests.unit.router.rig import Rig, cluster, shard
from tests.unit.router.test_moves import A, B, hand_over, of, release
from tests.unit.router.test_moves import rig as moving

BIG = bytes(range(256)) * (3 * MAX_BATCH_BYTES // 256)
EVENTS = ("message", "closed", "failed")
rig = moving


@pytest.fixture
def world() -> World:
    return World()


def some_pieces(world: World) -> None:
    """The first pieces come at the shard, and not all."""
    link = world.link
    link.session.unconfirmed_bytes = 511 << 10
    link.shipping.work()
    link.flushes += 1


@pytest.mark.parametrize(
    "data", [bytes(AHEAD_BYTES - 1), bytes(AHEAD_BYTES), BIG, "grüße " * (AHEAD_BYTES // 6)], ids=len
)
def test_a_message_comes_as_it_was(world: World, data: str | bytes) -> None:
    connection, transport = world.connect()
    connection.data_received(text(data) if isinstance(data, str) else binary(data))
    for _ in range(3):
        world.run()
    assert world.link.take() == [("message", connection.number, 1, 0, data)]
    assert not transport.paused
    assert (len(world.link.parts), len(world.link.shipping), world.counters.stopped) == (0, 0, 0)
    assert world.counters.unfinished_bytes == 0
    assert not connection.sends_ahead


def test_what_is_behind_it_waits_and_it_is_in_no_window_before(world: World) -> None:
    connection, transport = world.connect()
    other, _ = world.connect()
    connection.data_received(text("before") + binary(BIG) + text("after") + close(1000))
    other.data_received(text("other"))
    assert transport.paused
    assert list(connection.window.events) == [1]
    assert connection.state is State.OPEN
    records = world.link.take()
    assert [record[1:3] for record in records if record[1] == other.number] == [(other.number, 1)]
    mine = [record for record in records if record[1] == connection.number]
    assert [record[0] for record in mine] == ["message", "message", "message", "closed"]
    assert [record[2] for record in mine] == [1, 2, 3, 4]
    assert mine[1][4] == BIG
    assert records.index(mine[0]) < records.index(mine[1])


def test_an_acknowledgement_meanwhile_starts_nothing_twice(world: World) -> None:
    connection, _ = world.connect()
    connection.data_received(text("before") + binary(BIG) + text("after"))
    connection.acknowledge(1, 1)
    connection.go_on()
    assert len(world.link.shipping) == 1
    assert [record[2] for record in world.link.take()] == [1, 2, 3]


def test_one_that_has_gone_ahead_may_have_to_wait_at_a_gate(world: World) -> None:
    connection, _ = world.connect()
    connection.data_received(binary(BIG) + text("after"))
    world.entry().hold(True)
    assert world.link.take() == []
    assert len(world.link.parts) == 1
    world.entry().hold(False)
    world.pass_gates()
    assert [record[2] for record in world.link.take()] == [1, 2]
    assert len(world.link.parts) == 0


def test_it_has_its_room_among_all_windows_before_it_goes() -> None:
    """Its shard has it from then on: what many have sent ahead and cannot pass on would be beyond the bound."""
    world = World(all_windows_bytes=4 * len(BIG))  # three quarters are for windows
    connections = [world.connect()[0] for _ in range(10)]
    for connection in connections:
        connection.data_received(binary(BIG))
    begun = [connection for connection in connections if connection.sends_ahead]
    assert 1 <= len(begun) <= 3
    assert world.shared.window_bytes.taken == sum(memory_of(BIG, True) for _ in begun)
    for _ in range(3):
        world.run()
    world.pass_gates()
    assert len(of(world.link.take(), "message")) == len(begun), "each has room for what has gone ahead"
    assert world.shared.window_bytes.taken == sum(memory_of(BIG, True) for _ in begun), "once"
    for connection in begun:
        connection.acknowledge(1, 1)
    assert world.shared.window_bytes.taken == 0


def test_a_client_that_is_lost_has_sent_it_all_the_same(world: World) -> None:
    connection, _ = world.connect()
    connection.data_received(binary(BIG) + text("after"))
    some_pieces(world)
    connection.connection_lost(None)
    assert connection.state is State.GHOST
    assert [record[:3] for record in world.link.take()] == [
        ("message", connection.number, 1),
        ("message", connection.number, 2),
        ("closed", connection.number, 3),
    ]
    connection.acknowledge(1, 3)
    assert connection.state is State.GONE


@pytest.mark.parametrize("how", ["reset", "closed", "forgotten", "defect"])
def test_nobody_wants_it_any_more(world: World, how: str) -> None:
    connection, transport = world.connect()
    connection.data_received(binary(BIG) + text("after"))
    some_pieces(world)
    if how == "reset":
        connection.object_closed(1011, "reset", True)
    elif how == "closed":
        connection.close(TRY_AGAIN_LATER, "enough")
    elif how == "forgotten":
        connection.forget_events()
    else:
        connection.break_off(ValueError("a defect"))
        connection.connection_lost(None)
    world.link.flush_soon()
    messages = of(world.link.take(), *EVENTS)
    assert not of(messages, "message")
    assert world.shared.window_bytes.taken == 0
    assert [record[3:] for record in messages] == {
        "closed": [(0, TRY_AGAIN_LATER, "enough", False)],
        "defect": [(0, 1006, VANISHED, False)],
    }.get(how, [])
    assert (len(world.link.parts), len(world.link.shipping)) == (0, 0)
    assert not connection.sends_ahead
    assert isinstance(transport, FakeTransport)


# --- requests ---


def bodies(records: list[tuple[Any, ...]]) -> list[bytes]:
    return [record[1].body for record in records if record[0] == "request"]


def test_the_body_of_a_request_goes_ahead_and_small_ones_do_not_wait(rig: Rig) -> None:
    rig.ask(body=BIG)
    rig.ask(body=b"small")
    rig.ask(body=bytes(AHEAD_BYTES))
    assert bodies(rig.links[1].take()) == [b"small", bytes(AHEAD_BYTES), BIG]
    assert len(rig.links[1].parts) == 0


def test_a_request_whose_client_leaves_on_the_way_is_sent_as_any_other(rig: Rig) -> None:
    request, _ = rig.ask(body=BIG)
    rig.forwarding.desk.abandon(request)
    assert bodies(rig.links[1].take()) == [BIG]
    assert request.record.body == b""


def test_a_request_on_its_way_moves_with_its_object_once(rig: Rig) -> None:
    rig.ask(body=BIG)
    link = rig.links[1]
    link.session.unconfirmed_bytes = 511 << 10
    link.shipping.work()
    link.flushes += 1
    release(rig)
    link.flush_soon()
    assert bodies(link.take()) == []
    assert len(link.parts) == 0
    hand_over(rig)
    assert bodies(rig.links[2].take()) == [BIG]


def test_a_request_on_its_way_fails_with_its_objects_process(rig: Rig) -> None:
    request, asker = rig.ask(body=BIG)
    rig.take_map(cluster(3, B))
    assert asker.got[0][:2] == ("failed", 502)
    assert request.shipment is None
    assert bodies(rig.links[2].take()) == []


# --- owners that change ---


def test_a_death_on_the_way_has_it_sent_to_the_next_owner_as_new(rig: Rig) -> None:
    connection, _ = rig.connect()
    connection.data_received(text("before") + binary(BIG) + text("after"))
    before = of(rig.links[1].take(), *EVENTS)[:1]
    assert before
    connection.acknowledge(1, 3)
    connection.data_received(binary(BIG))  # on its way when the shard dies
    rig.take_map(cluster(3, B))
    assert [record[2:4] for record in of(rig.links[2].take(), *EVENTS)] == [(4, 0)]
    assert not connection.sends_ahead


def test_a_move_on_the_way_frees_what_has_come_and_keeps_the_order(rig: Rig) -> None:
    connection, transport = rig.connect()
    connection.data_received(binary(BIG) + text("after"))
    link = rig.links[1]
    link.session.unconfirmed_bytes = 511 << 10
    link.shipping.work()
    link.flushes += 1
    release(rig)
    assert not connection.sends_ahead
    assert of(link.take(), *EVENTS) == []
    assert (len(link.parts), len(link.shipping)) == (0, 0)
    hand_over(rig)
    if transport.paused:
        connection.acknowledge(1, 1)
    records = of(rig.links[2].take(), *EVENTS)
    assert [record[2:4] for record in records] == [(1, 0), (2, 0)]
    assert records[0][4] == BIG


def test_one_that_has_gone_ahead_and_waits_is_freed_by_a_move(rig: Rig) -> None:
    connection, _ = rig.connect()
    connection.data_received(binary(BIG))
    entry = connection.entry
    entry.hold(True)
    assert of(rig.links[1].take(), *EVENTS) == []
    assert len(rig.links[1].parts) == 1
    release(rig)
    rig.links[1].flush_soon()
    assert of(rig.links[1].take(), *EVENTS) == []
    assert len(rig.links[1].parts) == 0
    hand_over(rig)
    assert [record[2:4] for record in of(rig.links[2].take(), *EVENTS)] == [(1, 0)]
    assert A.incarnation != B.incarnation


# --- what is sent again ---


def test_what_is_sent_again_goes_ahead_and_its_slot_waits_for_it(rig: Rig) -> None:
    connection, _ = rig.connect()
    connection.data_received(text("before") + binary(BIG) + text("after"))
    assert [record[2] for record in of(rig.links[1].take(), *EVENTS)] == [1, 2, 3]
    rig.take_map(cluster(3, B))
    new = rig.links[2]
    assert new.writer.size < MAX_BATCH_BYTES, "no record holds it"
    assert connection.entry.link is None
    records = of(new.take(), *EVENTS, "restore", "restored")
    assert connection.entry.link is new
    mine = [record for record in records if record[0] != "restored" or connection.entry.slot in record[2]]
    assert [record[0] for record in mine] == ["restore", "message", "message", "message", "restored"]
    assert [record[2:4] for record in mine[1:4]] == [(1, 1), (2, 1), (3, 1)]
    assert mine[2][4] == BIG
    assert len(new.parts) == 0


def test_one_whose_client_is_reset_meanwhile_is_forgotten_there(rig: Rig) -> None:
    connection, _ = rig.connect()
    other, _ = rig.connect()
    for each in (connection, other):
        each.data_received(binary(BIG))
    rig.links[1].take()
    rig.take_map(cluster(3, B))
    new = rig.links[2]
    new.shipping.work()
    connection.forget_events()
    records = of(new.take(), *EVENTS)
    assert [(record[1], record[4]) for record in records] == [(other.number, BIG)]
    new.flush_soon()
    new.take()
    assert (len(new.parts), new.parts.size) == (0, 0)


def test_an_owner_that_dies_meanwhile_leaves_it_to_the_next(rig: Rig) -> None:
    connection, _ = rig.connect()
    connection.data_received(binary(BIG))
    rig.links[1].take()
    rig.take_map(cluster(3, B))
    rig.links[2].shipping.work()
    rig.take_map(cluster(4, shard(3)))
    assert connection.entry.link is None
    records = of(rig.links[3].take(), *EVENTS)
    assert [record[2:] for record in records] == [(1, 1, BIG)]


def test_what_comes_while_the_slot_waits_goes_ahead_as_well(rig: Rig) -> None:
    connection, _ = rig.connect()
    other, _ = rig.connect()
    connection.data_received(binary(BIG))
    rig.links[1].take()
    rig.take_map(cluster(3, B))
    new = rig.links[2]
    new.shipping.work()
    other.data_received(binary(BIG))  # parked with it
    new.flush_soon()
    records = of(new.take(), *EVENTS)
    assert [(record[1], record[3], record[4]) for record in records] == [
        (connection.number, 1, BIG),
        (other.number, 0, BIG),
    ]


def test_a_link_takes_so_much_ahead_of_slots_that_wait(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "AHEAD_AT_ONCE_BYTES", len(BIG))
    monkeypatch.setattr(giving, "AHEAD_AT_ONCE_BYTES", len(BIG))
    clients = [rig.connect(f"o{number}")[0] for number in range(4)]
    for each in clients:
        each.data_received(binary(BIG))
    rig.links[1].take()
    rig.take_map(cluster(3, B))
    new = rig.links[2]
    assert len(new.shipping) == 1
    assert {record[1] for record in of(new.take(), *EVENTS)} == {each.number for each in clients}
    assert len(new.parts) == 0
