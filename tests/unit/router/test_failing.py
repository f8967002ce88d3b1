"""A client that breaks the protocol: what it sent before is answered first."""

from __future__ import annotations

from typing import Any

import pytest
from websockets.frames import Opcode

from roost.common.wire.records import AcceptMode
from roost.router.formats.frames import close_frame, data_frame
from roost.router.websocket.states import State
from tests.unit.router.fakes import World, client_frame, close, text

BAD = b"\x83\x80\0\0\0\0"
TOLD = close_frame(1002, "unknown opcode 3")
FAILED = ("failed", 1, 2, 0, 1002, "unknown opcode 3")


@pytest.fixture
def world() -> World:
    return World()


def failing(world: World) -> tuple[Any, Any]:
    """A connection with one message whose answer is on its way, and a bad frame behind it."""
    connection, transport = world.connect()
    connection.data_received(text("before") + BAD)
    assert world.link.take() == [("message", 1, 1, 0, "before")]
    assert transport.take() == b""
    assert not transport.eof
    return connection, transport


def test_the_answer_comes_before_the_close(world: World) -> None:
    connection, transport = failing(world)
    connection.writer.write(data_frame(b"answer", False))
    assert connection.acknowledge(1, 1), "the caller lets the output before it go first"
    assert world.link.take() == []
    connection.handlers_ended()
    assert transport.take() == data_frame(b"answer", False) + TOLD
    assert transport.eof
    assert world.link.take() == [FAILED]
    assert connection.state is State.CLOSED_BY_ROUTER
    assert world.counters.protocol_errors == 1


@pytest.mark.parametrize(
    "bad",
    [BAD, client_frame(Opcode.TEXT, b"\xff"), client_frame(Opcode.BINARY, bytes(1 << 20) + b"x"), close(999)],
    ids=["1002", "1007", "1009", "a bad Close"],
)
def test_it_is_so_for_every_failure(world: World, bad: bytes) -> None:
    connection, transport = world.connect()
    connection.data_received(text("one") + text("two") + bad)
    assert len(world.link.take()) == 2
    assert not connection.acknowledge(2, 2), "the first is not answered yet"
    assert transport.take() == b""
    assert connection.acknowledge(1, 1)
    connection.handlers_ended()
    (failed,) = world.link.take()
    assert transport.take() == close_frame(failed[4], failed[5])


def test_without_a_message_before_it_nothing_is_waited_for(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(text("before"))
    connection.acknowledge(1, 1)
    world.link.take()
    connection.data_received(BAD)
    assert transport.take() == TOLD
    assert world.link.take() == [FAILED]


def test_a_handler_that_does_not_end_is_waited_for_until_the_close_timeout(world: World) -> None:
    connection, transport = failing(world)
    world.pass_time(9)
    assert transport.take() == b""
    assert not transport.aborted
    world.pass_time(2)
    assert transport.take() == TOLD
    assert world.link.take() == [FAILED]
    assert not connection.acknowledge(1, 1)
    connection.handlers_ended()
    assert transport.take() == b""
    assert connection.acknowledge(2, 2)
    world.pass_time(11)
    assert transport.aborted, "the client does not end its side"


def test_nothing_more_of_it_is_looked_at(world: World) -> None:
    connection, transport = failing(world)
    connection.data_received(text("late") + client_frame(Opcode.PING, b"x") + close(1000) + b"\xff" * 100)
    assert world.link.take() == []
    assert transport.take() == b""


def test_one_that_ends_its_side_still_gets_its_answer(world: World) -> None:
    connection, transport = failing(world)
    assert connection.eof_received(), "TCP stays open"
    connection.acknowledge(1, 1)
    connection.handlers_ended()
    assert transport.take() == TOLD


def test_one_that_is_gone_meanwhile_has_failed(world: World) -> None:
    connection, _ = failing(world)
    connection.connection_lost(None)
    assert world.link.take() == [FAILED]
    connection.acknowledge(1, 2)
    assert connection.state is State.GONE
    assert world.counters.protocol_errors == 1


def test_the_object_may_close_meanwhile(world: World) -> None:
    connection, transport = failing(world)
    connection.object_closed(4000, "mine", False)
    assert transport.take() == close_frame(4000, "mine")
    connection.acknowledge(1, 1)
    connection.handlers_ended()
    assert transport.take() == b"", "nothing comes after our Close"
    assert transport.eof
    assert world.link.take() == [FAILED]


def test_the_object_may_end_it_without_a_close_meanwhile(world: World) -> None:
    connection, transport = failing(world)
    connection.object_closed(1006, "", False)
    assert transport.closed
    connection.acknowledge(1, 1)
    connection.handlers_ended()
    assert world.link.take() == []
    connection.connection_lost(None)
    assert world.link.take() == [FAILED]


def test_its_object_may_be_reset_meanwhile(world: World) -> None:
    connection, transport = failing(world)
    connection.object_closed(1011, "reset", True)
    assert transport.take() == close_frame(1011, "reset")
    connection.connection_lost(None)
    assert world.link.take() == []
    assert connection.state is State.GONE


def test_the_router_may_close_meanwhile(world: World) -> None:
    connection, transport = failing(world)
    connection.close(1001, "bye")
    assert transport.take() == close_frame(1001, "bye")
    connection.acknowledge(1, 1)
    connection.handlers_ended()
    assert world.link.take() == [("closed", 1, 2, 0, 1001, "bye", False)]
    assert transport.take() == b""


def test_its_shard_may_be_lost_meanwhile(world: World) -> None:
    connection, transport = failing(world)
    connection.forget_events()
    world.pass_time(11)
    assert transport.take() == TOLD
    assert world.link.take() == []


def test_one_that_waits_for_its_window_fails_behind_it(world: World) -> None:
    connection, transport = world.connect()
    world.entry().held = True
    connection.data_received(text("waits") + BAD)
    world.pass_time(30)
    assert transport.take() == b"", "it is not its fault that we do not read"
    world.entry().held = False
    world.pass_gates()
    assert connection.acknowledge(1, 1)
    connection.handlers_ended()
    assert transport.take() == TOLD


def test_nobody_accepted_it(world: World) -> None:
    connection, transport = world.connect(mode=AcceptMode.UNACCEPTED)
    connection.data_received(text("nobody reads this") + BAD)
    assert transport.take() == TOLD
    assert world.link.take() == []


# --- the client's answer to our Close -----------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1016, 1100, 2000, 2999, 999, 1005, 1006, 5000])
def test_once_our_close_is_out_the_client_answers_with_what_it_likes(world: World, code: int) -> None:
    connection, transport = world.connect()
    connection.object_closed(2000, "", False)
    transport.take()
    connection.data_received(close(code, "echo"))
    assert world.link.take() == [("closed", 1, 1, 0, code, "echo", True)]
    assert transport.closed
    assert world.counters.protocol_errors == 0


def test_a_close_between_two_fragments_is_heard(world: World) -> None:
    connection, _ = world.connect()
    connection.data_received(client_frame(Opcode.TEXT, b"a", fin=False) + close(1000, "bye"))
    assert world.link.take() == [("closed", 1, 1, 0, 1000, "bye", True)]
    connection.connection_lost(None)
    assert world.link.take() == []
