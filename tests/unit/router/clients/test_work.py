"""What clients' input costs a turn of the loop: steps, slices, gates."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import pytest
from websockets.frames import Opcode

from roost.common.close_codes import VANISHED
from roost.common.limits import WINDOW_MESSAGES
from roost.common.wire.records import AcceptMode
from roost.router.clients import work as module
from roost.router.clients.work import Gate, Work
from roost.router.formats.frames import data_frame, pong_frame
from roost.router.websocket.client_frames import STEP_FRAMES, ClientFrame, ClientFrames
from roost.router.websocket.connection import Connection
from roost.router.websocket.states import State
from tests.unit.router.fakes import FakeTransport, World, binary, client_frame, close, state, text

PING = client_frame(Opcode.PING, b"")


class Shell:
    """A queue whose clock the workers move."""

    def __init__(self) -> None:
        self.now = 100.0
        self.wakes = 0
        self.worked = 0.0
        self.work = Work(self._wake, lambda: self.now, lambda: self.worked)
        self.log: list[str] = []

    def _wake(self) -> None:
        self.wakes += 1


class Steps:
    """A worker with so many steps to do."""

    def __init__(self, shell: Shell, name: str, steps: int, seconds: float = 0.0) -> None:
        self.shell, self.name, self.steps, self.seconds = shell, name, steps, seconds
        self.broken: Exception | None = None

    def work(self) -> bool:
        self.shell.log.append(self.name)
        self.shell.now += self.seconds
        self.steps -= 1
        return self.steps > 0

    def break_off(self, error: Exception) -> None:
        self.broken = error

    go_on = work


@pytest.fixture
def shell() -> Shell:
    return Shell()


@pytest.fixture
def world() -> World:
    return World()


# --- the queue ---


def test_all_have_their_turn_whatever_one_has_left(shell: Shell) -> None:
    for name, steps in (("a", 4), ("b", 1), ("c", 2)):
        shell.work.add(Steps(shell, name, steps))
    assert not shell.work.run()
    assert "".join(shell.log) == "abcacaa"


def test_who_comes_goes_before_those_who_use_up_what_they_have_sent(shell: Shell) -> None:
    for name in "abcd":
        shell.work.add(Steps(shell, name, 9, module.SLICE_S / 4))
    assert shell.work.run()
    assert "".join(shell.log) == "abcd"
    shell.work.add(Steps(shell, "new", 1))
    shell.log.clear()
    assert shell.work.run()
    assert shell.log == ["a", "new", "b", "c", "d"]


def test_a_crowd_that_comes_leaves_a_step_of_each_turn_to_those_who_were_there(shell: Shell) -> None:
    shell.work.add(Steps(shell, "old", 3, module.SLICE_S / 4))
    shell.work.add(Steps(shell, "x", 1, module.SLICE_S))
    assert shell.work.run()
    for _ in range(2):
        shell.log.clear()
        for _ in range(9):
            shell.work.add(Steps(shell, "crowd", 1, module.SLICE_S / 4))
        shell.work.run()
        assert shell.log == ["old", "crowd", "crowd", "crowd"]


def test_a_turn_takes_a_slice_and_the_rest_comes_in_later_turns(shell: Shell) -> None:
    shell.work.add(Steps(shell, "a", 10, module.SLICE_S / 2.5))
    assert shell.work.run()
    assert len(shell.log) == 3
    assert shell.work.run()
    assert len(shell.log) == 6
    while shell.work.run():
        pass
    assert (len(shell.log), len(shell.work), shell.wakes) == (10, 0, 1)


def test_one_step_that_takes_too_long_is_still_the_only_one_of_its_turn(shell: Shell) -> None:
    shell.work.add(Steps(shell, "a", 2, 1.0))
    shell.work.add(Steps(shell, "b", 1))
    assert shell.work.run()
    assert shell.log == ["a"]


def test_who_is_in_the_queue_is_there_once(shell: Shell) -> None:
    worker = Steps(shell, "a", 1)
    shell.work.add(worker)
    shell.work.add(worker)
    assert not shell.work.run()
    assert shell.log == ["a"]
    shell.work.add(worker)
    assert (shell.wakes, len(shell.work)) == (2, 1)


def test_one_that_fails_is_broken_off_and_the_others_work_on(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    victim, other = Steps(shell, "victim", 5), Steps(shell, "other", 1)
    error = RuntimeError()

    def fail() -> bool:
        raise error

    monkeypatch.setattr(victim, "work", fail)
    shell.work.add(victim)
    shell.work.add(other)
    assert not shell.work.run()
    assert (victim.broken, shell.log, len(shell.work)) == (error, ["other"], 0)


def test_the_longest_turn_is_measured_while_there_is_work_and_not_while_the_loop_sleeps(shell: Shell) -> None:
    shell.work.add(Steps(shell, "a", 2, module.SLICE_S))
    assert shell.work.run()
    shell.now += 0.5  # other work of the loop
    assert not shell.work.run()
    assert shell.work.longest_turn == pytest.approx(0.5 + module.SLICE_S)
    shell.now += 60
    shell.work.add(Steps(shell, "b", 1))
    assert not shell.work.run()
    assert shell.work.longest_turn < 1


def test_what_a_turn_worked_is_told_apart_from_what_it_waited_for_a_processor(shell: Shell) -> None:
    shell.work.add(Steps(shell, "a", 3, module.SLICE_S))
    assert shell.work.run()
    shell.now, shell.worked = shell.now + 0.5, shell.worked + 0.006  # others had the processor
    assert shell.work.run()
    shell.now, shell.worked = shell.now + 0.009, shell.worked + 0.009
    assert not shell.work.run()
    assert shell.work.longest_turn == pytest.approx(0.5 + module.SLICE_S)
    assert shell.work.most_worked == pytest.approx(0.009)
    shell.worked += 60
    shell.work.add(Steps(shell, "b", 1))
    assert not shell.work.run()
    assert shell.work.most_worked < 1


# --- gates ---


def test_a_gate_lets_through_one_after_the_other_until_it_is_shut(shell: Shell) -> None:
    shut = True
    gate = Gate(shell.work, lambda: not shut)
    waiters = [Steps(shell, name, 1) for name in "abc"]
    for waiter in waiters:
        gate.add(waiter)
    gate.open()
    assert len(shell.work) == 0, "it is shut"
    shut = False
    gate.remove(waiters[0])
    gate.open()
    assert gate.work()
    shut = True
    assert not gate.work()
    assert (shell.log, len(gate)) == (["b"], 1)


def test_whoever_fails_at_a_gate_keeps_no_other_from_passing(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(shell.work, lambda: True)
    victim, other = Steps(shell, "victim", 1), Steps(shell, "other", 1)
    monkeypatch.setattr(victim, "go_on", lambda: 1 / 0)
    gate.add(victim)
    gate.add(other)
    gate.open()
    assert not shell.work.run()
    assert isinstance(victim.broken, ZeroDivisionError)
    assert shell.log == ["other"]


# --- a connection's input ---


def respond(world: World) -> None:
    world.entry().set_state(state(world.entry().object_id, pair=("ping", "pong")))


FLOODS: dict[str, bytes] = {
    "pings": PING,
    "pongs": client_frame(Opcode.PONG),
    "empty fragments": client_frame(Opcode.CONT, fin=False),
    "requests for automatic responses": text("ping"),
    "messages": text(""),
}


@pytest.mark.parametrize("what", FLOODS)
def test_one_read_is_taken_in_steps_and_not_read_on_meanwhile(
    world: World, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, transport = world.connect()
    respond(world)
    if what == "empty fragments":
        connection.data_received(client_frame(Opcode.BINARY, b"x", fin=False))
    count = 20 * STEP_FRAMES if what != "messages" else WINDOW_MESSAGES
    connection.data_received(FLOODS[what] * count)
    assert transport.paused
    assert connection.has_input
    steps = 1
    protocol = connection._protocol
    assert protocol is not None
    left = protocol.unparsed
    while protocol.unparsed:
        connection.work()
        steps += 1
        assert left - protocol.unparsed <= STEP_FRAMES * len(FLOODS[what])
        left = protocol.unparsed
    assert steps == count // STEP_FRAMES
    assert not transport.paused
    assert not connection.has_input


def test_the_answers_of_a_step_leave_in_one_write(world: World) -> None:
    connection, transport = world.connect()
    respond(world)
    connection.data_received(b"".join(client_frame(Opcode.PING, b"%d" % n) for n in range(10)))
    assert transport.written == [b"".join(pong_frame(b"%d" % n) for n in range(10))]
    transport.take()
    connection.data_received(text("ping") * 10)
    assert transport.written == [data_frame(b"pong", False) * 10]
    assert world.counters.auto_responses == 10


def test_a_client_that_does_not_take_its_pongs_is_owed_one(world: World) -> None:
    connection, transport = world.connect()
    connection.pause_writing()
    for n in range(1000):
        connection.data_received(client_frame(Opcode.PING, b"%d" % n))
        world.run()
    assert transport.take() == b""
    connection.resume_writing()
    assert transport.take() == pong_frame(b"999")
    connection.pause_writing()
    connection.resume_writing()
    assert transport.take() == b""


def test_nothing_is_owed_to_one_that_the_object_has_closed(world: World) -> None:
    connection, transport = world.connect()
    connection.pause_writing()
    connection.data_received(PING)
    connection.object_closed(4000, "", False)
    transport.take()
    connection.resume_writing()
    assert transport.take() == b""


def many(world: World, count: int = 3 * STEP_FRAMES) -> tuple[Connection, FakeTransport]:
    """A connection that has sent *count* messages and a Close, of which a step is taken."""
    connection, transport = world.connect()
    connection.data_received(text("m") * count + close(4000, "bye"))
    assert connection.has_input
    return connection, transport


def fails_for(victim: Connection) -> Callable[[ClientFrames], list[ClientFrame]]:
    """``ClientFrames.go_on`` with a defect that only *victim* meets."""
    go_on = ClientFrames.go_on

    def step(protocol: ClientFrames) -> list[ClientFrame]:
        return go_on(protocol) if protocol is not victim._protocol else [][1]

    return step


def kinds(world: World) -> list[object]:
    return [record[0] for record in world.link.take()]


def test_one_that_vanishes_before_all_is_taken_delivers_it_first(world: World) -> None:
    connection, _ = many(world)
    connection.connection_lost(None)
    assert connection.state is State.GHOST
    world.run()
    assert kinds(world) == ["message"] * 3 * STEP_FRAMES + ["closed"]
    assert not connection.has_input
    connection.acknowledge(1, 3 * STEP_FRAMES + 1)
    assert connection.state is State.GONE
    assert world.counters.unfinished_bytes == 0


def test_one_that_vanishes_without_a_close_is_told_of_behind_all_that_it_sent(world: World) -> None:
    connection, _ = world.connect()
    connection.data_received(text("m") * 100 + text("begun")[:-1])
    connection.connection_lost(None)
    assert world.counters.unfinished_bytes > 0, "what a ghost has sent counts as well"
    world.run()
    records = world.link.take()
    assert [record[0] for record in records] == ["message"] * 100 + ["closed"]
    assert records[-1][4:] == (1006, VANISHED, False)
    assert world.counters.unfinished_bytes == 0


def test_one_that_breaks_the_protocol_is_failed_behind_all_that_came_before(world: World) -> None:
    connection, _ = world.connect()
    connection.data_received(text("m") * 100 + b"\x83\x80\0\0\0\0")
    assert kinds(world) == ["message"] * STEP_FRAMES
    world.run()
    assert kinds(world) == ["message"] * (100 - STEP_FRAMES)
    connection.acknowledge(1, 100)
    connection.handlers_ended()
    assert kinds(world) == ["failed"]


def test_one_that_is_reset_meanwhile_is_heard_for_its_close_only(world: World) -> None:
    connection, transport = many(world)
    connection.object_closed(1011, "reset", True)
    world.link.take()
    world.run()
    assert kinds(world) == []
    assert transport.closed


def test_one_that_is_stopped_with_input_left_goes_on_with_it(world: World) -> None:
    connection, transport = many(world, 2 * WINDOW_MESSAGES)
    world.run()
    assert len(kinds(world)) == WINDOW_MESSAGES
    assert len(world.shared.work) == 0, "a stopped connection is no work"
    assert transport.paused
    connection.acknowledge(1, WINDOW_MESSAGES)
    world.run()
    connection.acknowledge(WINDOW_MESSAGES + 1, 2 * WINDOW_MESSAGES)
    world.run()
    assert kinds(world) == ["message"] * WINDOW_MESSAGES + ["closed"]


def test_a_defect_of_ours_in_a_step_ends_one_connection(world: World) -> None:
    victim, transport = many(world)
    other, _ = many(world)
    with mock.patch.object(ClientFrames, "go_on", fails_for(victim)):
        world.run()
    assert transport.aborted
    assert world.counters.defects == 1
    assert not other.has_input


# --- what stopped connections wait for ---


def test_a_hold_costs_nothing_until_it_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand clients of a held object: nothing of them is tried while time passes and others go on."""
    stopped = [world.connect("held")[0] for _ in range(100)]
    world.entry("held").hold(True)
    for connection in stopped:
        connection.data_received(text("waits"))
    tried: list[Connection] = []
    monkeypatch.setattr(Connection, "go_on", lambda connection: tried.append(connection))
    world.entry("other").hold(False)
    world.shared.windows.unblocked(world.link)
    world.pass_time(5)
    world.shared.on_tick()
    world.run()
    assert tried == []
    world.entry("held").hold(False)
    world.run()
    assert tried == stopped


def test_a_gate_that_shuts_again_tries_no_more_of_those_who_wait(world: World) -> None:
    entry = world.entry()
    connections = [world.connect()[0] for _ in range(10)]
    entry.hold(True)
    for connection in connections:
        connection.data_received(text("waits"))
    entry.hold(False)
    assert entry.gate is not None
    for _ in range(3):
        entry.gate.work()
    entry.hold(True)
    world.run()
    assert len(world.link.take()) == 3
    assert len(entry.gate) == 7
    entry.hold(False)
    world.run()
    assert [record[1] for record in world.link.take()] == list(range(4, 11)), "in the order of their coming"


def test_a_link_that_is_unblocked_wakes_its_own_objects_only(world: World) -> None:
    other = type(world.link)(8)
    mine, _ = world.connect("mine")
    world.entry("theirs", other)
    theirs, _ = world.connect("theirs")
    world.link.blocked = other.blocked = True
    for connection in (mine, theirs):
        connection.data_received(text("waits"))
    world.link.blocked = False
    world.shared.windows.unblocked(world.link)
    world.run()
    assert (mine.has_input, theirs.has_input) == (False, True)
    other.blocked = False
    world.shared.windows.unblocked(other)
    world.run()
    assert not theirs.has_input


def test_one_behind_a_hold_and_a_blocked_link_waits_for_both(world: World) -> None:
    connection, _ = world.connect()
    world.entry().hold(True)
    world.link.blocked = True
    connection.data_received(text("waits"))
    world.entry().hold(False)
    world.run()
    world.link.blocked = False
    assert connection.has_input
    world.shared.windows.unblocked(world.link)
    world.run()
    assert not connection.has_input


def test_a_link_that_is_blocked_while_they_pass_keeps_the_others_waiting_for_it(world: World) -> None:
    connections = [world.connect()[0] for _ in range(3)]
    world.link.blocked = True
    for connection in connections:
        connection.data_received(text("waits"))
    world.link.blocked = False
    world.shared.windows.unblocked(world.link)
    gate = world.entry().gate
    assert gate is not None
    gate.open()
    gate.work()
    world.link.blocked = True
    world.run()
    assert len(world.link.take()) == 1
    world.link.blocked = False
    world.shared.windows.unblocked(world.link)
    world.run()
    assert len(world.link.take()) == 2


def test_an_object_that_is_parked_takes_what_waits_into_the_windows(world: World) -> None:
    connection, _ = world.connect()
    world.link.blocked = True
    connection.data_received(text("waits"))
    world.entry().belongs_to(None)
    world.run()
    assert not connection.has_input
    assert len(connection.window.events) == 1


def test_acknowledgements_do_not_try_what_a_hold_keeps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    connection, _ = world.connect()
    connection.data_received(text("before"))
    world.entry().hold(True)
    connection.data_received(text("waits"))
    monkeypatch.setattr(Connection, "go_on", lambda connection: pytest.fail("it was tried"))
    connection.acknowledge(1, 1)


def test_a_pushing_client_and_a_large_message_leave_gates_without_a_trace(world: World) -> None:
    connection, _ = world.connect(mode=AcceptMode.STANDARD)
    world.entry().hold(True)
    connection.data_received(binary(b"waits"))
    gate = world.entry().gate
    connection.break_off(RuntimeError())
    assert gate is not None
    assert (len(gate), connection.gate) == (0, None)
