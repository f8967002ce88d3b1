"""One connection: its states, its events, its closing, its backpressure."""

from __future__ import annotations

import gc
import sys

import pytest
from websockets.frames import Opcode

from roost.common.limits import ROUTER_WINDOWS_BYTES, WINDOW_BYTES, WINDOW_MESSAGES
from roost.common.wire.records import AcceptMode
from roost.router.clients.writers import TransportWriter
from roost.router.formats.frames import PING, close_frame, data_frame
from roost.router.websocket.connection import VANISHED, Connection
from roost.router.websocket.states import TRANSITIONS, State, Trigger
from roost.router.websocket.window import EVENT_BYTES, SMALL_BYTES
from tests.unit.router.fakes import (
    FakeTransport,
    World,
    accepted,
    binary,
    client_frame,
    close,
    open_protocol,
    state,
    text,
)


@pytest.fixture
def world() -> World:
    return World()


def windows_of(size: int) -> int:
    """The bound of which windows may hold *size* bytes."""
    return size * 4 // 3


def closed(number: int, seq: int, code: int, reason: str, clean: bool) -> tuple[object, ...]:
    return ("closed", number, seq, 0, code, reason, clean)


# --- the table ---


def test_every_state_but_the_last_leads_somewhere_and_every_state_is_reached() -> None:
    assert {before for before, _ in TRANSITIONS} == set(State) - {State.GONE}
    assert set(TRANSITIONS.values()) == set(State) - {State.PENDING}


def test_every_trigger_is_used() -> None:
    assert {trigger for _, trigger in TRANSITIONS} == set(Trigger)


def test_tcp_may_be_lost_in_every_state_that_has_it() -> None:
    for before in (
        State.OPEN,
        State.CLOSED_BY_CLIENT,
        State.CLOSED_BY_OBJECT,
        State.CLOSED_BY_ROUTER,
        State.ENDING,
    ):
        assert TRANSITIONS[before, Trigger.LOST] is State.GHOST


def test_what_is_not_in_the_table_is_a_defect(world: World) -> None:
    connection, _ = world.connect()
    with pytest.raises(AssertionError, match="OPEN cannot take ACCEPTED"):
        connection.accept_lost(accepted())


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


# --- closing ---


def test_the_client_closes_and_the_object_answers(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(text("last") + close(4001, "done"))
    assert world.link.take() == [("message", 1, 1, 0, "last"), closed(1, 2, 4001, "done", True)]
    assert transport.take() == b""
    assert connection.state is State.CLOSED_BY_CLIENT
    assert connection.writable
    connection.writer.write(data_frame(b"farewell", False))
    connection.object_closed(3000, "mine", False)
    assert transport.take() == data_frame(b"farewell", False) + close_frame(3000, "mine")
    assert transport.closed
    assert connection.state is State.ENDING
    connection.connection_lost(None)
    assert connection.state is State.GHOST
    assert not connection.acknowledge(1, 1)
    assert connection.acknowledge(2, 2)
    assert connection.state is State.GONE
    assert len(world.shared.connections) == len(world.shared.objects) == 0
    assert world.counters.connections == world.counters.window_bytes == 0


@pytest.mark.parametrize(("code", "reason"), [(1000, "bye"), (None, "")])
def test_when_the_handler_ends_without_a_close_the_client_gets_its_own_back(
    world: World, code: int | None, reason: str
) -> None:
    connection, transport = world.connect()
    connection.data_received(close(code, reason))
    assert world.link.take() == [closed(1, 1, code or 1005, reason, True)]
    assert connection.acknowledge(1, 1)
    assert transport.take() == b""
    connection.handlers_ended()
    assert transport.take() == close_frame(code or 1005, reason)
    assert transport.closed


def test_a_close_handler_that_does_not_end_holds_the_client_for_ten_seconds(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(close(1000, "bye"))
    world.pass_time(9.9)
    assert transport.take() == b""
    world.pass_time(0.3)
    assert transport.take() == close_frame(1000, "bye")
    assert transport.closed
    connection.handlers_ended()
    assert transport.take() == b""


def test_a_client_that_has_closed_may_half_close_tcp_and_still_be_answered(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(close(1000))
    assert connection.eof_received()
    connection.object_closed(1000, "", False)
    assert transport.take() == close_frame(1000, "")


def test_the_object_closes_and_the_client_answers(world: World) -> None:
    connection, transport = world.connect()
    connection.object_closed(4000, "enough", False)
    assert transport.take() == close_frame(4000, "enough")
    assert not transport.ending
    assert not connection.writable
    connection.data_received(text("still talking") + close(4000, "fine"))
    assert world.link.take() == [("message", 1, 1, 0, "still talking"), closed(1, 2, 4000, "fine", True)]
    assert transport.closed
    assert transport.take() == b""


def test_a_second_close_of_the_object_changes_nothing(world: World) -> None:
    connection, transport = world.connect()
    connection.object_closed(4000, "one", False)
    connection.object_closed(4001, "two", False)
    assert transport.take() == close_frame(4000, "one")


def test_the_object_closes_and_the_client_does_not_answer(world: World) -> None:
    connection, transport = world.connect()
    connection.object_closed(4000, "", False)
    world.pass_time(9.9)
    assert not transport.ending
    world.pass_time(0.3)
    assert transport.aborted
    connection.connection_lost(None)
    assert world.link.take() == [closed(1, 1, 1006, VANISHED, False)]


def test_the_object_closes_and_the_client_then_breaks_the_protocol(world: World) -> None:
    connection, transport = world.connect()
    connection.object_closed(4000, "", False)
    transport.take()
    connection.data_received(b"\x83\x80\0\0\0\0")
    assert world.link.take()[0][:5] == ("failed", 1, 1, 0, 1002)
    assert transport.take() == b""  # one Close is all that a client gets
    assert transport.eof


def test_a_code_of_1005_is_a_close_without_a_code(world: World) -> None:
    connection, transport = world.connect()
    connection.object_closed(1005, "", False)
    assert transport.take() == b"\x88\x00"


def test_a_code_of_1006_ends_tcp_without_a_close(world: World) -> None:
    connection, transport = world.connect()
    connection.object_closed(1006, "", False)
    assert transport.take() == b""
    assert transport.closed
    connection.connection_lost(None)
    assert world.link.take() == [closed(1, 1, 1006, VANISHED, False)]


def test_after_a_reset_the_object_hears_nothing_more(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(text("unheard"))
    world.link.take()
    connection.object_closed(1011, "reset", True)
    assert transport.take() == close_frame(1011, "reset")
    assert transport.eof
    assert not transport.ending
    assert world.counters.window_bytes == 0
    assert not connection.known
    connection.data_received(text("nobody listens") + close(1011))
    assert transport.closed
    connection.connection_lost(None)
    assert world.link.take() == []
    assert connection.state is State.GONE


def test_a_reset_ends_a_closing_that_the_object_began(world: World) -> None:
    connection, transport = world.connect()
    connection.object_closed(4000, "", False)
    transport.take()
    connection.object_closed(1011, "reset", True)
    assert transport.take() == b""
    assert transport.eof
    world.pass_time(10.3)
    assert transport.aborted


def test_a_reset_answers_a_client_that_has_closed(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(close(1000))
    connection.object_closed(1011, "reset", True)
    assert transport.take() == close_frame(1011, "reset")
    assert transport.closed


def test_a_reset_without_a_close(world: World) -> None:
    connection, transport = world.connect()
    connection.object_closed(1006, "", True)
    assert transport.take() == b""
    assert transport.closed
    connection.connection_lost(None)
    assert world.link.take() == []
    assert connection.state is State.GONE


def test_a_reset_of_a_ghost_ends_it(world: World) -> None:
    connection, _ = world.connect()
    connection.connection_lost(None)
    connection.object_closed(1011, "reset", True)
    assert connection.state is State.GONE


def test_a_client_that_vanishes(world: World) -> None:
    connection, _ = world.connect()
    assert not connection.eof_received()
    connection.connection_lost(ConnectionResetError())
    connection.connection_lost(None)
    assert world.link.take() == [closed(1, 1, 1006, VANISHED, False)]
    assert connection.state is State.GHOST
    assert not connection.writable
    connection.object_closed(1000, "", False)
    connection.acknowledge(1, 1)
    assert connection.state is State.GONE


def test_a_client_that_vanishes_after_its_close_is_not_reported_twice(world: World) -> None:
    connection, _ = world.connect()
    connection.data_received(close(1000))
    connection.connection_lost(None)
    assert world.link.take() == [closed(1, 1, 1000, "", True)]


def test_a_client_that_was_gone_before_its_101(world: World) -> None:
    connection = world.pending()
    connection.accept_lost(accepted())
    assert world.link.take() == [closed(1, 1, 1006, VANISHED, False)]
    assert connection.known
    connection.acknowledge(1, 1)
    assert connection.state is State.GONE


def test_a_refused_handshake_leaves_nothing(world: World) -> None:
    connection = world.pending()
    connection.refuse()
    connection.refuse()
    assert connection.state is State.GONE
    assert world.link.take() == []
    assert len(world.shared.connections) == len(world.shared.objects) == 0


def test_the_router_closes(world: World) -> None:
    connection, transport = world.connect()
    connection.close(1001, "the router is ending")
    assert transport.take() == close_frame(1001, "the router is ending")
    assert world.link.take() == [closed(1, 1, 1001, "the router is ending", False)]
    connection.data_received(text("dropped") + close(1001))
    assert transport.closed
    connection.connection_lost(None)
    assert world.link.take() == []


def test_the_router_closes_one_whose_client_has_closed(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(close(1000))
    world.link.take()
    connection.close(1001, "ending")
    assert transport.take() == close_frame(1001, "ending")
    assert transport.closed
    assert world.link.take() == []


# --- ways to be accepted ---


def test_nobody_accepted_it(world: World) -> None:
    connection, transport = world.connect(mode=AcceptMode.UNACCEPTED)
    assert not connection.known
    connection.data_received(text("into the void") + client_frame(Opcode.PING, b"p"))
    assert transport.take() == b"\x8a\x01p"
    connection.data_received(close(1000, "bye"))
    assert transport.take() == close_frame(1000, "bye")
    assert transport.closed
    connection.connection_lost(None)
    assert world.link.take() == []
    assert connection.state is State.GONE


def test_nobody_accepted_it_and_it_breaks_the_protocol(world: World) -> None:
    connection, transport = world.connect(mode=AcceptMode.UNACCEPTED)
    connection.data_received(b"\x83\x80\0\0\0\0")
    assert transport.take() == close_frame(1002, "unknown opcode 3")
    assert transport.eof
    assert world.link.take() == []


def test_a_passport_says_everything(world: World) -> None:
    connection = world.pending()
    connection.accept(
        accepted(ordinal=9, tags=("a", "b"), attachment=b"\xa0"),
        open_protocol(),
        transport := FakeTransport(),
        TransportWriter(transport),
        subprotocol="chat",
    )
    connection.data_received(text("x"))
    connection.attachment = b"new"
    connection.object_closed(4000, "", False)
    passport = connection.passport()
    assert (passport.connection, passport.ordinal, passport.tags, passport.attachment) == (1, 9, ("a", "b"), b"new")
    assert (passport.hibernatable, passport.closed_by_object, passport.next_seq) == (True, True, 2)
    assert (passport.namespace, passport.name, passport.url) == ("chat-room", "lobby", "http://host/chat-room/lobby")
    assert (passport.protocol, passport.auto_response_time) == ("chat", None)
    assert passport.object_id == connection.entry.object_id


# --- automatic responses ---


def respond(world: World, request: str = "ping", response: str = "pong") -> None:
    entry = world.entry()
    revision = entry.state.revision + 1 if entry.state else 1
    entry.set_state(state(entry.object_id, revision, (request, response)))


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
            world.counters.window_bytes = ROUTER_WINDOWS_BYTES if shut else 0

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
    assert len(world.shared.crowded) == 100


def test_one_stopped_at_its_share_goes_on_when_its_own_window_has_room_or_all_have() -> None:
    world = World(all_windows_bytes=windows_of(4 << 20))
    (first, paused_first), (second, paused_second) = [world.connect() for _ in range(4)][:2]
    world.counters.window_bytes = (2 << 20) + 1
    for connection in (first, second):
        connection.data_received(binary(bytes(250 << 10)) * 2 + binary(bytes(200 << 10)))
    assert paused_first.paused
    assert paused_second.paused
    first.acknowledge(1, 1)
    assert not paused_first.paused, "it holds less than its share now"
    world.pass_gates()
    assert paused_second.paused
    world.counters.window_bytes = 0
    world.pass_gates()
    assert not paused_second.paused


def test_above_half_an_empty_window_admits_one_message_of_any_size_at_the_bound_a_small_one() -> None:
    world = World(all_windows_bytes=windows_of(1 << 20))
    connection, transport = world.connect()
    world.counters.window_bytes = (1 << 20) - 1
    connection.data_received(binary(bytes(600 << 10)))
    world.link.take()  # it has gone ahead
    assert not transport.paused
    assert world.counters.window_bytes > 1 << 20
    connection.acknowledge(1, 1)
    world.counters.window_bytes = 1 << 20
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


# --- slow clients ---


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
    assert world.shared.send_buffers.total == len(world.shared.send_buffers) == 0
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
    assert world.shared.send_buffers.total == 0


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
    (small, _), (large, cut), (other, _) = (world.connect() for _ in range(3))
    for connection in (small, large, other):
        connection._transport.taken = False  # type: ignore[union-attr, attr-defined]
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
    assert world.shared.send_buffers.total < 256 << 10
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
    assert world.shared.send_buffers.total > 100 << 10
    connection.connection_lost(None)
    assert world.shared.send_buffers.total == len(world.shared.send_buffers) == 0


# --- signs of life ---


def test_a_silent_client_is_pinged_and_then_ended(world: World) -> None:
    connection, transport = world.connect()
    world.pass_time(19.9)
    assert transport.take() == b""
    world.pass_time(0.3)
    assert transport.take() == PING
    world.pass_time(19.7)
    assert not transport.ending
    world.pass_time(0.5)
    assert transport.aborted
    assert world.counters.pings_unanswered == 1
    connection.connection_lost(None)
    assert world.link.take() == [closed(1, 1, 1006, VANISHED, False)]


def test_any_sign_of_life_answers_the_ping(world: World) -> None:
    connection, transport = world.connect()
    world.pass_time(20.5)
    assert transport.take() == PING
    world.pass_time(15)
    connection.data_received(text("alive")[:3])
    world.pass_time(19)
    assert transport.take() == b""
    world.pass_time(6.5)
    assert transport.take() == PING
    assert not transport.ending


def test_a_talking_client_is_not_pinged(world: World) -> None:
    connection, transport = world.connect()
    for _ in range(30):
        world.pass_time(3)
        connection.data_received(client_frame(Opcode.PONG))
    assert transport.take() == b""


def test_no_deadline_runs_while_we_do_not_read(world: World) -> None:
    connection, transport = world.connect()
    world.pass_time(20.2)
    assert transport.take() == PING
    world.entry().held = True
    connection.data_received(text("waits"))
    world.pass_time(200)
    assert not transport.ending
    world.entry().held = False
    world.pass_gates()
    world.pass_time(19)
    assert not transport.ending


def test_the_objects_close_waits_for_a_client_that_we_do_not_read(world: World) -> None:
    connection, transport = world.connect()
    world.entry().held = True
    connection.data_received(text("waits") + close(4000))
    connection.object_closed(4000, "", False)
    world.pass_time(60)
    assert not transport.ending
    world.entry().held = False
    world.pass_gates()
    assert transport.closed


def test_what_waits_is_dropped_when_the_router_closes_one_that_the_object_has_closed(world: World) -> None:
    """Its object is out of reach for too long: nobody wants its messages, and its Close is behind them."""
    connection, transport = world.connect()
    world.entry().held = True
    connection.data_received(text("waits") + close(4000))
    connection.object_closed(4000, "", False)
    connection.close(1013, "out of reach")
    assert world.link.take() == [closed(1, 1, 1013, "out of reach", False)]
    assert transport.closed
    assert connection.gate is None


def test_closing_stops_the_pings(world: World) -> None:
    connection, transport = world.connect()
    world.pass_time(15)
    connection.object_closed(4000, "", False)
    transport.take()
    world.pass_time(9)
    assert transport.take() == b""


def test_the_wheel_forgets_a_connection_that_is_gone(world: World) -> None:
    connection, transport = world.connect()
    connection.connection_lost(None)
    connection.acknowledge(1, 1)
    world.pass_time(60)
    assert world.wheel._buckets == {}
    assert isinstance(connection, Connection)
    assert not transport.ending


def test_a_connection_that_is_gone_needs_no_cycle_collector(world: World) -> None:
    connection = world.pending()
    protocol = open_protocol()
    connection.accept(accepted(), protocol, transport := FakeTransport(), TransportWriter(transport))
    connection.data_received(text("part")[:-1])
    gc.collect()
    connection.connection_lost(None)
    connection.acknowledge(1, 1)
    assert connection.state is State.GONE
    kept = sys.getrefcount(protocol)
    del connection
    assert sys.getrefcount(protocol) == kept, "the connection does not refer to it"
    assert not gc.collect()
