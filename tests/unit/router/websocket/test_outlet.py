"""Clients that do not take what they are sent as fast as it comes: who is full, who stalls, who is cut."""

from __future__ import annotations

import pytest
from websockets.frames import Opcode

from roost.common.close_codes import VANISHED
from roost.router.formats.frames import PING, close_frame, data_frame
from roost.router.websocket.connection import Connection
from tests.unit.router.fakes import World, client_frame, close, text
from tests.unit.router.websocket.rig import closed, respond


@pytest.fixture
def world() -> World:
    return World()


def fill(connection: Connection) -> None:
    """Write more than a client's share, 4 MiB."""
    for _ in range(64 + 1):
        connection.writer.write(bytes(64 << 10))


def test_a_client_that_takes_nothing_for_thirty_seconds_is_closed(world: World) -> None:
    connection, transport = world.connect()
    transport.taken = False
    connection.writer.write(bytes(64 << 10))
    world.pass_time(29)
    assert connection.writable
    world.pass_time(2.1)
    assert transport.take().endswith(close_frame(1013, "slow consumer"))
    assert (world.counters.slow_consumers_closed, world.counters.send_buffers_cut) == (1, 0)
    assert world.link.take() == [closed(1, 1, 1013, "slow consumer", False)]
    assert not connection.writable
    world.pass_time(10.3)
    assert transport.aborted


def test_one_that_takes_a_byte_now_and_then_is_not(world: World) -> None:
    connection, transport = world.connect()
    transport.taken = False
    connection.writer.write(bytes(64 << 10))
    for left in range(64 << 10, (64 << 10) - 20, -1):
        transport.drain(left - 1)
        world.pass_time(15)
    assert connection.writable
    assert not transport.ending


def test_a_client_is_full_with_more_than_its_share_and_its_shard_hears_when_half_of_it_is_taken(world: World) -> None:
    connection, transport = world.connect()
    transport.taken = False
    for _ in range(64):
        connection.writer.write(bytes(64 << 10))
    assert world.link.take() == []
    connection.writer.write(b"over")
    connection.writer.write(b"what was on its way")
    assert world.link.take() == [("room", 1, 0)]
    transport.drain((2 << 20) + 1)
    assert world.link.take() == []
    transport.drain(2 << 20)
    assert world.link.take() == [("room", 1, 2 << 20)]
    assert transport.slow, "it has not caught up"
    assert not transport.closed
    transport.drain()
    assert world.shared.send_buffers.budget.taken == len(world.shared.send_buffers) == 0
    fill(connection)
    assert world.link.take() == [("room", 1, 0)], "it may be full again"


def test_a_message_of_any_size_goes_out_and_fills_its_client(world: World) -> None:
    connection, transport = world.connect()
    transport.taken = False
    connection.writer.write(bytes(33 << 20))
    assert world.link.take() == [("room", 1, 0)]
    transport.drain()
    assert world.link.take() == [("room", 1, 4 << 20)]
    assert connection.writable


@pytest.mark.parametrize(("waiting", "answer"), [(0, [4 << 20]), (2 << 20, [2 << 20]), ((2 << 20) + 1, [])])
def test_a_shard_that_asks_for_room_is_answered_at_once_or_when_half_is_free(
    world: World, waiting: int, answer: list[int]
) -> None:
    connection, transport = world.connect()
    transport.taken = False
    connection.writer.write(bytes(waiting))
    connection.owe(True)
    assert world.link.take() == [("room", 1, size) for size in answer]
    assert connection.owed
    transport.drain()
    assert world.link.take() == ([] if answer else [("room", 1, 4 << 20)])
    connection.owe(False)
    assert world.link.take() == []
    assert not connection.owed


def test_a_client_that_was_full_and_is_lost_has_room_for_everything(world: World) -> None:
    connection, transport = world.connect()
    transport.taken = False
    fill(connection)
    connection.owe(True)
    assert world.link.take() == [("room", 1, 0)]
    connection.connection_lost(None)
    assert world.link.take() == [("room", 1, 4 << 20), closed(1, 1, 1006, VANISHED, False)]
    connection.owe(True)
    assert world.link.take() == [("room", 1, 4 << 20)]


def test_a_closing_lasts_as_long_as_its_client_takes_what_was_sent(world: World) -> None:
    connection, transport = world.connect()
    transport.taken = False
    connection.writer.write(bytes(1 << 20))
    connection.object_closed(1000, "", False)
    for left in range(30):
        world.pass_time(9)
        transport.drain(transport.buffered - 1000 - left)
    assert not transport.ending
    world.pass_time(19)
    assert not transport.aborted
    world.pass_time(22)
    assert transport.aborted, "30 s after the last progress"


def test_a_client_that_has_just_come_to_the_close_has_its_time_to_answer(world: World) -> None:
    connection, transport = world.connect()
    transport.taken = False
    connection.writer.write(bytes(100 << 10))
    connection.object_closed(1000, "", False)
    world.pass_time(9)
    transport.drain()
    world.pass_time(10)
    assert not transport.aborted
    connection.data_received(close(1000))
    assert transport.closed


def test_a_closing_with_the_least_rate_has_an_end() -> None:
    """30 s at 1,000 bytes a second; a byte now and then would put it off for days."""
    world = World(least_rate=1_000)
    (fair, takes), (foul, trickles) = world.connect(), world.connect()
    for connection, transport in ((fair, takes), (foul, trickles)):
        transport.taken = False
        connection.writer.write(bytes(1 << 20))
        connection.object_closed(1000, "", False)
    for _ in range(10):
        world.pass_time(9)
        if not trickles.aborted:
            trickles.drain(trickles.buffered - 100)
        takes.drain(takes.buffered - 11_000)
    assert (takes.ending, trickles.aborted) == (False, True)


def test_a_client_with_output_before_a_ping_is_alive_while_it_takes_that(world: World) -> None:
    connection, transport = world.connect()
    transport.taken = False
    connection.writer.write(bytes(1 << 20))
    world.pass_time(21)
    assert transport.take().endswith(PING)
    for _ in range(10):
        transport.drain(transport.buffered - 50_000)
        world.pass_time(19)
    assert not transport.ending
    world.pass_time(29)
    assert transport.aborted or not connection.writable


def test_what_is_on_its_way_counts_only_once_the_transport_says_so(world: World) -> None:
    connection, transport = world.connect()
    transport.buffered = 100 << 20
    connection.writer.write(b"x")
    assert connection.writable
    assert world.shared.send_buffers.budget.taken == 0


def test_who_asks_for_automatic_responses_and_takes_none_is_not_read(world: World) -> None:
    connection, transport = world.connect()
    respond(world)
    transport.taken = False
    fill(connection)
    connection.writer.write(bytes(4 << 20))
    assert world.link.take() == [("room", 1, 0)]
    transport.take()
    connection.data_received(text("ping") + text("behind"))
    assert (transport.take(), transport.paused, world.link.take()) == (b"", True, [])
    transport.drain()
    assert transport.take() == data_frame(b"pong", False)
    assert not transport.paused
    assert [record[0] for record in world.link.take()] == ["room", "auto_times", "message"]


def test_pings_of_one_that_takes_nothing_are_not_answered(world: World) -> None:
    connection, transport = world.connect()
    transport.taken = False
    fill(connection)
    connection.writer.write(bytes(4 << 20))
    transport.take()
    connection.data_received(client_frame(Opcode.PING, b"there?"))
    assert transport.take() == b""


def test_when_all_clients_together_have_too_much_waiting_the_largest_is_cut() -> None:
    world = World(all_send_buffers_bytes=1 << 20)
    clients = [world.connect() for _ in range(3)]
    for _, transport in clients:
        transport.taken = False
    (small, _), (large, cut), (other, _) = clients
    small.writer.write(bytes(100 << 10))
    large.writer.write(bytes(800 << 10))
    assert not cut.aborted
    other.writer.write(bytes(150 << 10))
    world.run()
    assert cut.aborted
    assert not large.writable
    assert small.writable
    assert other.writable
    assert world.link.take() == [closed(2, 1, 1013, "slow consumer", False)]
    assert (world.counters.slow_consumers_closed, world.counters.send_buffers_cut) == (1, 1)
    assert world.shared.send_buffers.budget.taken < 256 << 10
    large.connection_lost(None)
    assert len(world.shared.send_buffers) == 2


def test_one_that_was_closed_and_does_not_drain_is_cut_like_any_other() -> None:
    world = World(all_send_buffers_bytes=8 << 20)
    (closing, slow), (other, still) = world.connect(), world.connect()
    slow.taken = still.taken = False
    fill(closing)
    closing.stalled()
    assert not closing.writable
    assert not slow.ending
    for _ in range(64):
        other.writer.write(bytes(64 << 10))
    world.run()
    assert slow.aborted
    assert other.writable
    assert (world.counters.slow_consumers_closed, world.counters.send_buffers_cut) == (1, 1)


def test_a_slow_client_that_is_lost_is_not_counted_any_more(world: World) -> None:
    connection, transport = world.connect()
    transport.taken = False
    connection.writer.write(bytes(100 << 10))
    assert world.shared.send_buffers.budget.taken > 100 << 10
    connection.connection_lost(None)
    assert world.shared.send_buffers.budget.taken == len(world.shared.send_buffers) == 0
