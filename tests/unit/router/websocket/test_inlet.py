"""What a client sends: messages in order, answers of the router's own, and who is not read for how long."""

from __future__ import annotations

import pytest
from websockets.frames import Opcode

from roost.common.close_codes import VANISHED
from roost.common.limits import ROUTER_WINDOWS_BYTES, WINDOW_BYTES, WINDOW_MESSAGES
from roost.common.wire.records import AcceptMode
from roost.router.formats.frames import close_frame, data_frame
from roost.router.websocket.states import State
from roost.router.websocket.window import EVENT_BYTES, SMALL_BYTES
from tests.unit.router.fakes import World, binary, client_frame, close, text
from tests.unit.router.websocket.rig import closed, respond


@pytest.fixture
def world() -> World:
    return World()


def windows_of(size: int) -> int:
    """The bound of which windows may hold *size* bytes."""
    return size * 4 // 3


# --- messages ---


def test_messages_become_numbered_events(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(text("héllo") + binary(b"\xff\x00"))
    connection.data_received(text(""))
    assert world.link.take() == [
        ("message", 1, 1, 0, "héllo"),
        ("message", 1, 2, 0, b"\xff\x00"),
        ("message", 1, 3, 0, ""),
    ]
    assert transport.take() == b""
    assert (world.counters.messages_in, world.counters.bytes_in) == (3, 8)
    assert world.counters.window_bytes == 8 + 3 * EVENT_BYTES


def test_a_message_may_come_byte_by_byte(world: World) -> None:
    connection, _ = world.connect()
    for byte in text("slow"):
        connection.data_received(bytes((byte,)))
    assert world.link.take() == [("message", 1, 1, 0, "slow")]


def test_fragments_are_joined_even_inside_a_character(world: World) -> None:
    connection, _ = world.connect()
    raw = "a€b".encode()
    connection.data_received(client_frame(Opcode.TEXT, raw[:2], fin=False))
    connection.data_received(client_frame(Opcode.PING, b"between"))
    connection.data_received(client_frame(Opcode.CONT, b"", fin=False) + client_frame(Opcode.CONT, raw[2:]))
    connection.data_received(client_frame(Opcode.BINARY, b"1", fin=False) + client_frame(Opcode.CONT, b"2"))
    assert world.link.take() == [("message", 1, 1, 0, "a€b"), ("message", 1, 2, 0, b"12")]


def test_pings_are_answered_with_their_body_and_tell_nobody(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(client_frame(Opcode.PING, b"abc") + client_frame(Opcode.PONG, b"x"))
    assert transport.take() == b"\x8a\x03abc"
    assert world.link.take() == []


def test_nothing_comes_after_our_close(world: World) -> None:
    connection, transport = world.connect()
    connection.object_closed(4000, "", False)
    transport.take()
    connection.data_received(client_frame(Opcode.PING, b"abc"))
    assert transport.take() == b""


def test_invalid_utf_8_fails_the_connection_with_1007(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(text("ok") + client_frame(Opcode.TEXT, b"\xff") + text("never"))
    assert world.link.take() == [("message", 1, 1, 0, "ok")]
    assert transport.take() == b"", "its answer may be on its way"
    assert connection.acknowledge(1, 1)
    connection.handlers_ended()
    (failed,) = world.link.take()
    assert failed[:5] == ("failed", 1, 2, 0, 1007)
    assert transport.take() == close_frame(1007, failed[5])
    assert transport.eof
    assert not transport.ending
    assert connection.state is State.CLOSED_BY_ROUTER


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x83\x80\0\0\0\0", 1002),  # an opcode that does not exist
        (b"\x81\x01a", 1002),  # not masked
        (client_frame(Opcode.CONT, b"x"), 1002),  # nothing to continue
        (client_frame(Opcode.BINARY, b"x" * 1001), 1009),
        (client_frame(Opcode.BINARY, b"x" * 600, fin=False) + client_frame(Opcode.CONT, b"x" * 401), 1009),
        (close(999), 1002),
        (client_frame(Opcode.CLOSE, b"\x03\xe8\xff"), 1007),
    ],
    ids=[
        "unknown opcode",
        "not masked",
        "nothing to continue",
        "too large",
        "too large in fragments",
        "a code that may not be sent",
        "a reason that is no text",
    ],
)
def test_broken_protocol_is_told_to_both_sides(world: World, data: bytes, code: int) -> None:
    connection, transport = world.connect(max_size=1000)
    connection.data_received(data)
    (failed,) = world.link.take()
    assert failed[:5] == ("failed", 1, 1, 0, code)
    assert transport.take() == close_frame(code, failed[5])
    assert transport.eof
    connection.data_received(b"whatever follows is not looked at" * 10)
    connection.connection_lost(None)
    assert world.link.take() == []
    assert world.counters.protocol_errors == 1


def test_the_end_of_a_failed_connection_is_bounded(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(b"\x83\x80\0\0\0\0")
    world.pass_time(9.9)
    assert not transport.ending
    world.pass_time(0.3)
    assert transport.aborted


# --- automatic responses ---


def test_a_matching_text_is_answered_here(world: World) -> None:
    connection, transport = world.connect()
    respond(world)
    connection.data_received(text("ping"))
    assert transport.take() == data_frame(b"pong", False)
    assert world.link.take() == []
    assert world.counters.auto_responses == 1
    assert connection.passport().auto_response_time == 1_700_000_100.0


@pytest.mark.parametrize(
    "message",
    [text("pin"), text("pingx"), text("Ping"), text("ping "), text("ping\0"), binary(b"ping")],
    ids=["shorter", "longer", "in capitals", "with a space", "with a NUL", "binary"],
)
def test_everything_else_goes_to_the_object(world: World, message: bytes) -> None:
    connection, transport = world.connect()
    respond(world)
    connection.data_received(message)
    assert transport.take() == b""
    assert len(world.link.take()) == 1


def test_it_matches_in_fragments_and_when_empty(world: World) -> None:
    connection, transport = world.connect()
    respond(world)
    connection.data_received(client_frame(Opcode.TEXT, b"pi", fin=False) + client_frame(Opcode.CONT, b"ng"))
    assert transport.take() == data_frame(b"pong", False)
    respond(world, "", "")
    connection.data_received(text(""))
    assert transport.take() == data_frame(b"", False)


def test_the_time_is_told_before_the_next_event_of_that_connection(world: World) -> None:
    connection, _ = world.connect()
    other, _ = world.connect()
    respond(world)
    connection.data_received(text("ping"))
    other.data_received(text("m"))
    connection.data_received(text("m"))
    assert world.link.take() == [
        ("message", 2, 1, 0, "m"),
        ("auto_times", [1], [1_700_000_100.0]),
        ("message", 1, 1, 0, "m"),
    ]
    connection.data_received(text("ping") + close(1000))
    assert [record[0] for record in world.link.take()] == ["auto_times", "closed"]


def test_order_with_what_is_sent_through_is_kept(world: World) -> None:
    connection, transport = world.connect()
    respond(world)
    connection.data_received(text("e1") + text("ping") + text("e2") + text("ping"))
    assert transport.take() == data_frame(b"pong", False) * 2
    assert [record[4] for record in world.link.take() if record[0] == "message"] == ["e1", "e2"]


def test_it_is_for_hibernatable_sockets_only(world: World) -> None:
    connection, transport = world.connect(mode=AcceptMode.STANDARD)
    respond(world)
    connection.data_received(text("ping"))
    assert transport.take() == b""
    assert world.link.take() == [("message", 1, 1, 0, "ping")]


def test_after_the_objects_close_it_is_not_answered(world: World) -> None:
    connection, transport = world.connect()
    respond(world)
    connection.object_closed(4000, "", False)
    transport.take()
    connection.data_received(text("ping"))
    assert transport.take() == b""
    assert connection.passport().auto_response_time is None


# --- backpressure ---


def test_a_full_window_stops_reading_and_half_of_it_starts_it_again(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(b"".join(text(str(n)) for n in range(WINDOW_MESSAGES + 3)))
    world.run()
    assert len(world.link.take()) == WINDOW_MESSAGES
    assert transport.paused
    assert world.counters.stopped == 1
    connection.acknowledge(1, WINDOW_MESSAGES // 2 - 1)
    assert world.link.take() == []
    connection.acknowledge(WINDOW_MESSAGES // 2, WINDOW_MESSAGES // 2)
    assert [record[2:5:2] for record in world.link.take()] == [
        (WINDOW_MESSAGES + 1 + n, str(WINDOW_MESSAGES + n)) for n in range(3)
    ]
    assert not transport.paused
    assert world.counters.stopped == 0


def test_a_large_message_waits_for_an_empty_window(world: World) -> None:
    connection, transport = world.connect(max_size=WINDOW_BYTES * 2)
    connection.data_received(binary(b"x") + binary(b"y" * WINDOW_BYTES) + binary(b"z"))
    assert len(world.link.take()) == 1
    connection.acknowledge(1, 1)
    assert len(world.link.take()) == 1
    assert transport.paused
    connection.acknowledge(2, 2)
    world.run()
    assert [record[4] for record in world.link.take()] == [b"z"]
    assert not transport.paused


def test_a_fragmented_message_that_waits_is_joined_once(world: World) -> None:
    connection, _ = world.connect()
    world.entry().held = True
    connection.data_received(client_frame(Opcode.TEXT, b"ab", fin=False) + client_frame(Opcode.CONT, b"c") + text("d"))
    for _ in range(3):
        connection.go_on()
    assert world.link.take() == []
    world.entry().held = False
    world.pass_gates()
    assert [record[4] for record in world.link.take()] == ["abc", "d"]


@pytest.mark.parametrize("gate", ["held", "blocked", "windows"])
def test_gates_stop_messages_and_pass_everything_else(world: World, gate: str) -> None:
    connection, transport = world.connect()
    respond(world)

    def set_gate(shut: bool) -> None:
        if gate == "held":
            world.entry().held = shut
        elif gate == "blocked":
            world.link.blocked = shut
        else:
            world.shared.window_bytes.taken = ROUTER_WINDOWS_BYTES if shut else 0

    set_gate(True)
    connection.data_received(client_frame(Opcode.PING, b"1") + text("ping") + text("waits" * 1000) + close(1000))
    assert transport.take() == data_frame(b"pong", False) + b"\x8a\x011"
    assert [record[0] for record in world.link.take()] == []
    assert transport.paused
    assert connection.gate is not None
    world.pass_gates()
    assert connection.gate is not None
    set_gate(False)
    world.pass_gates()
    assert [record[0] for record in world.link.take()] == ["auto_times", "message", "closed"]
    assert not transport.paused
    assert connection.gate is None


def test_above_half_of_all_windows_those_above_their_share_are_stopped_and_the_others_go_on() -> None:
    """A hundred clients and 100 MiB: 512 KiB are everybody's share of the second half."""
    world = World(all_windows_bytes=windows_of(100 << 20))
    clients = [world.connect() for _ in range(100)]
    large, small = clients[:50], clients[50:]
    chunk = binary(bytes((64 << 10) - EVENT_BYTES))
    for connection, transport in large:
        connection.data_received(chunk * 16)
        world.run()
        assert not transport.paused, "up to half of the bound everybody may fill its window"
    assert world.counters.window_bytes == 50 << 20
    for connection, transport in small:
        for _ in range(8):
            connection.data_received(chunk)
        assert not transport.paused
        connection.data_received(chunk)
        assert transport.paused
    for connection, transport in large:
        connection.data_received(binary(b"x"))
        assert transport.paused
    assert world.counters.window_bytes <= 100 << 20
    assert len(world.shared.windows.crowded) == 100


def test_one_stopped_at_its_share_goes_on_when_its_own_window_has_room_or_all_have() -> None:
    world = World(all_windows_bytes=windows_of(4 << 20))
    (first, paused_first), (second, paused_second) = [world.connect() for _ in range(4)][:2]
    world.shared.window_bytes.taken = (2 << 20) + 1
    for connection in (first, second):
        connection.data_received(binary(bytes(250 << 10)) * 2 + binary(bytes(200 << 10)))
    assert paused_first.paused
    assert paused_second.paused
    first.acknowledge(1, 1)
    assert not paused_first.paused, "it holds less than its share now"
    world.pass_gates()
    assert paused_second.paused
    world.shared.window_bytes.taken = 0
    world.pass_gates()
    assert not paused_second.paused


def test_above_half_an_empty_window_admits_one_message_of_any_size_at_the_bound_a_small_one() -> None:
    world = World(all_windows_bytes=windows_of(1 << 20))
    connection, transport = world.connect()
    world.shared.window_bytes.taken = (1 << 20) - 1
    connection.data_received(binary(bytes(600 << 10)))
    world.link.take()  # it has gone ahead
    assert not transport.paused
    assert world.counters.window_bytes > 1 << 20
    connection.acknowledge(1, 1)
    world.shared.window_bytes.taken = 1 << 20
    connection.data_received(binary(bytes(SMALL_BYTES - EVENT_BYTES)))
    assert not transport.paused, "who holds nothing is not shut out by those who hold much"
    connection.data_received(binary(b"x"))
    assert transport.paused
    other, its_transport = world.connect()
    other.data_received(binary(bytes(SMALL_BYTES - EVENT_BYTES + 1)))
    assert its_transport.paused


def test_a_client_that_vanishes_while_stopped_first_delivers_what_it_sent(world: World) -> None:
    connection, _ = world.connect()
    world.entry().held = True
    connection.data_received(text("waits"))
    connection.connection_lost(None)
    assert world.link.take() == []
    assert connection.state is State.GHOST
    world.entry().held = False
    world.pass_gates()
    assert world.link.take() == [("message", 1, 1, 0, "waits"), closed(1, 2, 1006, VANISHED, False)]
    connection.acknowledge(1, 2)
    assert connection.state is State.GONE
    assert world.counters.stopped == 0


def test_one_that_closed_properly_while_stopped_is_reported_so(world: World) -> None:
    connection, _ = world.connect()
    world.entry().held = True
    connection.data_received(text("waits") + close(4000, "proper"))
    connection.connection_lost(None)
    world.entry().held = False
    world.pass_gates()
    assert world.link.take()[1:] == [closed(1, 2, 4000, "proper", True)]


def test_one_that_failed_while_stopped_delivers_before_it_fails(world: World) -> None:
    connection, transport = world.connect()
    world.entry().held = True
    connection.data_received(text("waits") + b"\x83\x80\0\0\0\0")
    assert transport.take() == b""
    world.entry().held = False
    world.pass_gates()
    (first,) = world.link.take()
    assert first[4] == "waits"
    assert connection.acknowledge(1, 1)
    connection.handlers_ended()
    (failed,) = world.link.take()
    assert failed[:5] == ("failed", 1, 2, 0, 1002)
    assert transport.take() == close_frame(1002, failed[5])


def test_a_reset_while_stopped_lets_the_clients_close_through(world: World) -> None:
    connection, transport = world.connect()
    world.entry().held = True
    connection.data_received(text("waits") + close(1000))
    connection.object_closed(1011, "reset", True)
    assert transport.closed
    assert world.link.take() == []
    assert connection.gate is None


def test_a_ghost_that_is_dropped_while_stopped_is_gone(world: World) -> None:
    connection, _ = world.connect()
    world.entry().held = True
    connection.data_received(text("waits"))
    connection.connection_lost(None)
    connection.forget_events()
    assert connection.state is State.GONE
    assert world.counters.stopped == 0


def test_while_parked_messages_wait_in_the_window(world: World) -> None:
    connection, transport = world.connect()
    world.entry().link = None
    connection.data_received(text("a") + close(1000))
    assert world.link.take() == []
    assert not transport.paused
    world.link.flush_soon()
    connection.window.send_again(world.link.writer, 1)
    assert world.link.take() == [("message", 1, 1, 0, "a"), closed(1, 2, 1000, "", True)]
