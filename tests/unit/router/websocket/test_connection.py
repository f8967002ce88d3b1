"""One connection: its closing, ways to be accepted, signs of life."""

from __future__ import annotations

import gc
import sys

import pytest
from websockets.frames import Opcode

from roost.common.close_codes import VANISHED
from roost.common.wire.records import AcceptMode
from roost.router.clients.writers import TransportWriter
from roost.router.formats.frames import PING, close_frame, data_frame
from roost.router.websocket.connection import Connection
from roost.router.websocket.states import State
from tests.unit.router.fakes import FakeTransport, World, accepted, client_frame, close, open_protocol, text
from tests.unit.router.websocket.rig import closed


@pytest.fixture
def world() -> World:
    return World()


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
    assert world.wheel.scheduled == 0
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
