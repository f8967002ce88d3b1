"""An error of roost's own code ends the one connection that it was met for; everybody else is served on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from roost.common.ids import id_from_name
from roost.common.settings.router import RouterConfig
from roost.common.wire.records import AcceptMode, HttpResponse
from roost.router.app import Router
from roost.router.clients import transport
from roost.router.clients.defects import Defects
from roost.router.clients.output import Output
from roost.router.clients.retirement import Retirement
from roost.router.clients.writers import Writer
from roost.router.formats.frames import data_frame
from roost.router.http.connection import HttpConnection, protocol_factory
from roost.router.http.listener import Listener
from roost.router.http.parser import RequestParser
from roost.router.machine import RouterMachine
from roost.router.websocket.connection import Connection
from roost.router.websocket.states import State
from tests.unit.router.fakes import NAMESPACE, FakeTransport, accepted, close, text
from tests.unit.router.rig import Rig, cluster, shard


class Bug(RuntimeError):
    """A bug of ours."""


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    rig.take_map(cluster(1, shard(1)))
    rig.links[1].take()
    yield rig
    counters = rig.world.counters
    assert counters.window_bytes >= 0
    assert counters.stopped == 0
    assert counters.connections == len([each for each in rig.world.shared.connections.all() if each.state in LIVE])


LIVE = set(State) - {State.PENDING, State.GHOST, State.GONE}


def fails_for(one: Connection | Writer, name: str) -> Any:
    """A method of a class that raises for one of its instances."""
    original = getattr(type(one), name)
    bug = mock.Mock(side_effect=Bug)

    def method(self: object, *args: Any) -> Any:
        return bug(*args) if self is one else original(self, *args)

    return mock.patch.object(type(one), name, method)


def is_ended(rig: Rig, connection: Connection, transport: FakeTransport) -> None:
    """TCP is aborted, and the object hears of it once that is over."""
    assert transport.aborted
    rig.links[1].take()
    connection.connection_lost(None)
    assert [(record[0], record[4]) for record in rig.links[1].take()] == [("closed", 1006)]
    assert rig.world.counters.defects >= 1


@pytest.mark.parametrize("many", [1, 3, 40])
def test_output_that_fails_for_one_client_reaches_the_others(rig: Rig, many: int) -> None:
    clients = [rig.connect() for _ in range(max(2, many))]
    (victim, transport), (_, other) = clients[0], clients[1]
    with fails_for(victim.writer, "write"):
        rig.receiver(1).send([each.number for each, _ in clients[:many]], b"hello", False)
        rig.receiver(1).send([clients[1][0].number], b"behind it", False)
        while rig.output.run():
            pass
    expected = ([data_frame(b"hello", False)] if many > 1 else []) + [data_frame(b"behind it", False)]
    assert other.take() == b"".join(expected)
    is_ended(rig, victim, transport)
    assert not rig.links[1].closed


@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("acknowledge", lambda to, number: to.acknowledge([number], [1], [1])),
        ("object_closed", lambda to, number: to.close(number, 4000, "bye", False)),
        ("handlers_ended", lambda to, number: to.acknowledge([number], [1], [1])),
    ],
)
def test_a_record_that_fails_ends_the_connection_that_it_is_for(
    rig: Rig, name: str, act: Callable[[Any, int], None]
) -> None:
    victim, transport = rig.connect()
    other, _ = rig.connect()
    for each in (victim, other):
        each.data_received(close(1000) if name == "handlers_ended" else text("x"))
    with fails_for(victim, name):
        act(rig.receiver(1), victim.number)
        act(rig.receiver(1), other.number)
    assert transport.aborted
    victim.connection_lost(None)
    assert rig.world.counters.defects == 1
    assert not rig.links[1].closed
    assert other.gate is None
    assert rig.world.shared.connections.get(victim.number) is None or victim.state is State.GHOST


def test_an_upgrade_whose_answer_fails_is_gone_for_its_object(rig: Rig) -> None:
    request, asker = rig.ask(upgrade=True)
    assert request.connection is not None
    rig.links[1].take()
    with mock.patch.object(type(asker), "upgraded", mock.Mock(side_effect=Bug)):
        rig.receiver(1).response(accepted(AcceptMode.HIBERNATABLE, request.record.request))
    assert [what for what, _ in asker.got] == ["broken off"]
    assert [(record[0], record[4]) for record in rig.links[1].take()] == [("closed", 1006)]
    assert request.connection.state is State.GHOST


def test_an_answer_that_fails_ends_its_client_only(rig: Rig) -> None:
    (request, asker), (second, other) = rig.ask(), rig.ask()
    with mock.patch.object(type(asker), "answered", mock.Mock(side_effect=[Bug, None])) as answered:
        for each in (request, second):
            rig.receiver(1).response(HttpResponse(each.record.request, 200, AcceptMode.PLAIN, (), b""))
    assert ([what for what, _ in asker.got], other.got) == (["broken off"], [])
    assert answered.call_count == 2


def test_one_failing_timer_takes_nobody_along(rig: Rig) -> None:
    clients = [rig.connect() for _ in range(3)]
    (victim, transport), *others = clients
    with fails_for(victim, "on_tick"):
        rig.world.pass_time(21)
    for _, other in others:
        assert other.take() == b"\x89\x00", "pinged as ever"
    is_ended(rig, victim, transport)


def test_one_that_cannot_go_on_keeps_no_other_stopped(rig: Rig) -> None:
    clients = [rig.connect() for _ in range(3)]
    rig.forwarding.desk.hold(rig.links[1], id_from_name(NAMESPACE, "lobby"), True)
    for each, _ in clients:
        each.data_received(text("waits"))
    assert rig.world.counters.stopped == 3
    rig.links[1].take()
    victim, transport = clients[0]
    with fails_for(victim, "_take"):
        rig.forwarding.desk.hold(rig.links[1], id_from_name(NAMESPACE, "lobby"), False)
        rig.world.run()
    assert [record[0] for record in rig.links[1].take()] == ["message", "message"]
    assert rig.world.counters.stopped == 0
    is_ended(rig, victim, transport)


def test_one_whose_end_fails_is_forgotten_all_the_same(rig: Rig) -> None:
    victim, _ = rig.connect()
    victim.data_received(text("unacknowledged"))
    rig.links[1].take()
    with fails_for(victim, "_settle"):
        victim.connection_lost(None)
    assert [(record[0], record[4]) for record in rig.links[1].take()] == [("closed", 1006)]
    assert victim.state is State.GONE
    assert rig.world.shared.connections.all() == []
    assert len(rig.world.shared.objects) == 0
    assert rig.world.counters.window_bytes == 0


@pytest.mark.parametrize("state", [state for state in State if state is not State.GONE])
def test_a_connection_can_be_broken_off_in_every_state(rig: Rig, state: State) -> None:
    if state is State.PENDING:
        connection, transport = rig.world.pending(), FakeTransport()
    else:
        connection, transport = rig.connect()
        connection.data_received(text("x"))
        if state is State.GHOST:
            connection.connection_lost(None)
        else:
            connection.state = state
    assert connection.state is state
    connection.break_off(Bug())
    if transport.aborted:
        connection.connection_lost(None)
        connection.break_off(Bug())
    assert connection.state is State.GONE
    assert rig.world.shared.connections.all() == []


def test_the_end_of_a_parked_slot_and_of_a_refused_object_goes_on_past_one_that_fails(rig: Rig) -> None:
    clients = [rig.connect() for _ in range(3)]
    victim, transport = clients[1]
    with fails_for(victim, "close"):
        rig.forwarding.shard_died(rig.links[1])
        rig.world.pass_time(31)
        rig.forwarding.on_second()
    assert [each.state for each, _ in (clients[0], clients[2])] == [State.CLOSED_BY_ROUTER] * 2
    assert transport.aborted
    victim.connection_lost(None)


def test_a_router_that_retires_goes_on_past_one_that_fails(rig: Rig) -> None:
    clients = [rig.connect() for _ in range(3)]
    victim, transport = clients[1]
    retirement = Retirement(rig.world.shared.connections, 1000, 0.0)
    with fails_for(victim, "close"):
        for step in range(20):
            retirement.step(0.05 * step)
    assert [each.state for each, _ in (clients[0], clients[2])] == [State.CLOSED_BY_ROUTER] * 2
    assert retirement.step(2.0)
    is_ended(rig, victim, transport)


def test_a_place_is_logged_with_its_traceback_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    defects = Defects(rig.world.counters)
    for _ in range(3):
        try:
            raise KeyError("lobby")
        except KeyError as error:
            defects.note("connection 5 is ended", error)
    assert caplog.text.count("Traceback") == 1
    assert caplog.text.count("seen before: KeyError('lobby'); connection 5 is ended") == 2
    assert rig.world.counters.defects == 3


async def test_the_clock_goes_on_when_a_part_of_them_fails(tmp_path: Any) -> None:
    config = RouterConfig(name="router-1", data=tmp_path, run=tmp_path)
    router = Router(config, RouterMachine(config))
    with (
        mock.patch.object(router._forwarding, "on_second", side_effect=Bug),
        mock.patch.object(router._collector, "on_second") as collected,
    ):
        router._tick()
    router._stop_ticking()
    assert collected.called
    assert router.counters.defects == 1


async def test_a_late_clock_tells_how_much_of_that_was_work(tmp_path: Any) -> None:
    config = RouterConfig(name="router-1", data=tmp_path, run=tmp_path)
    router = Router(config, RouterMachine(config))
    router._tick()
    router._stop_ticking()
    router._due -= 10  # others had the processor
    router._tick()
    router._stop_ticking()
    assert router.counters.longest_turn_us > 9_000_000
    assert 0 < router.counters.longest_turn_worked_us < 5_000_000


async def test_turns_that_write_on_are_measured(tmp_path: Any) -> None:
    config = RouterConfig(name="router-1", data=tmp_path, run=tmp_path)
    router = Router(config, RouterMachine(config))
    with mock.patch.object(Output, "run", side_effect=[True, False, False]):
        router._write_output()
        router._wrote = router._wrote[0] - 10, router._wrote[1] - 0.5
        router._write_output()
        assert router.counters.longest_turn_us == pytest.approx(10_000_000, rel=0.5)
        assert router.counters.longest_turn_worked_us == pytest.approx(500_000, rel=0.5)
        router._wrote = router._wrote[0], -100.0
        router._write_output()
        assert router.counters.longest_turn_worked_us < 1_000_000, "the loop may have slept"


@pytest.mark.parametrize("by_loop", [0, 1], ids=["read by us", "read by the loop"])
@pytest.mark.parametrize("where", [(RequestParser, "feed"), (HttpConnection, "_enter")])
async def test_what_a_protocol_raises_ends_that_client_alone(
    where: tuple[type, str],
    by_loop: int,
    tmp_path: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "CLIENTS_OF_THE_LOOP", by_loop)
    config = RouterConfig(name="router-1", data=tmp_path, run=tmp_path)
    machine = RouterMachine(config)
    router = Router(config, machine)
    asyncio.get_running_loop().set_exception_handler(router._unseen_error)
    listener = Listener("127.0.0.1", 0)
    transports = machine.transports(router._shared.work, protocol_factory(router._front))
    with (
        contextlib.closing(transports),
        contextlib.closing(listener),
        mock.patch.object(*where, mock.Mock(side_effect=[Bug, None, None])),
    ):
        listener.start(transports.begin)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        with contextlib.suppress(ConnectionResetError):
            await writer.wait_closed()
    assert router.counters.defects == 1
    assert router.counters.http_connections == 0
    assert "an HTTP connection is ended" in caplog.text
