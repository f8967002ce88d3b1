"""How clients are taken from a listening socket: so many in each turn of the loop that routers run on."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import uvloop

from roost.router.clients.transport import begin_with_loop
from roost.router.http import intake as taking
from roost.router.http.intake import CLIENTS_A_TURN, Intake
from tests.support.waiting import DEADLINE_S

HOST = "127.0.0.1"


class Turns:
    """Counts the turns of the running loop."""

    def __init__(self) -> None:
        self.number = 0
        self._next()

    def _next(self) -> None:
        self.number += 1
        asyncio.get_running_loop().call_soon(self._next)


class Guests:
    """What an intake gives protocols to.

    Attributes:
        made: The turn in which each protocol was made.
        begun: And told of its transport.
        heard: What all have sent.
        errors: What the loop was told of.
    """

    def __init__(self, *, fails: bool = False) -> None:
        self.turns = Turns()
        self.made: list[int] = []
        self.begun: list[int] = []
        self.heard: list[bytes] = []
        self.errors: list[Any] = []
        self.lost = 0
        self.fails = fails
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.errors.append(context["exception"]))

    def begin(self, client: socket.socket) -> None:
        begin_with_loop(self.make, client)

    def make(self) -> Guest:
        self.made.append(self.turns.number)
        if self.fails and len(self.made) == 1:
            raise RuntimeError("on purpose")
        return Guest(self)

    async def until(self, what: str, condition: Callable[[], bool]) -> None:
        """Look in each turn of the loop."""
        give_up_at = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < give_up_at, f"waited {DEADLINE_S:g} s for {what}"
            await asyncio.sleep(0)


class Guest(asyncio.Protocol):
    def __init__(self, all_of_them: Guests) -> None:
        self._all = all_of_them

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._all.begun.append(self._all.turns.number)

    def data_received(self, data: bytes) -> None:
        self._all.heard.append(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._all.lost += 1


class Port(socket.socket):
    """A listening socket whose first accepts fail."""

    fails_with: int = 0
    times: int = 0

    def accept(self) -> Any:
        if self.times:
            self.times -= 1
            raise OSError(self.fails_with, "on purpose")
        return super().accept()


@contextlib.contextmanager
def port() -> Iterator[Port]:
    with Port() as made:
        made.bind((HOST, 0))
        made.listen(4096)
        made.setblocking(False)
        yield made


@contextlib.contextmanager
def crowd(listening: socket.socket, count: int) -> Iterator[list[socket.socket]]:
    """Clients that the system has accepted, each of which has sent its number."""
    with contextlib.ExitStack() as opened:
        clients = []
        for number in range(count):
            clients.append(opened.enter_context(socket.create_connection(listening.getsockname(), 5)))
            clients[-1].sendall(b"%d" % number)
        yield clients


def on_uvloop(scenario: Callable[[Port], Awaitable[None]]) -> None:
    async def main() -> None:
        with port() as listening:
            await scenario(listening)

    uvloop.run(main())


def test_of_many_that_wait_each_turn_takes_some() -> None:
    async def scenario(listening: Port) -> None:
        guests = Guests()
        with crowd(listening, 200), contextlib.closing(Intake([listening], guests.begin)):
            await guests.until("what all have sent", lambda: len(guests.heard) == 200)
        assert sorted(map(int, guests.heard)) == list(range(200))
        assert max(Counter(guests.made).values()) == CLIENTS_A_TURN
        assert max(Counter(guests.begun).values()) <= CLIENTS_A_TURN
        assert guests.made[-1] - guests.made[0] < 3 * 200 // CLIENTS_A_TURN, "no turn is left out"

    on_uvloop(scenario)


def test_a_turn_takes_no_more_while_so_many_sockets_have_something_that_the_loop_looks_again_and_again() -> None:
    """libuv asks the system for 1,024 events at a time, and asks again if there are as many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))

    async def scenario(listening: Port) -> None:
        guests = Guests()
        with crowd(listening, 1_100) as first, contextlib.closing(Intake([listening], guests.begin)):
            await guests.until("the crowd", lambda: len(guests.heard) == 1_100)
            with crowd(listening, 100):
                for client in first:
                    client.sendall(b"again")  # the loop does not run meanwhile
                guests.made.clear()
                await guests.until("the others", lambda: len(guests.made) == 100)
        assert max(Counter(guests.made).values()) == CLIENTS_A_TURN

    try:
        on_uvloop(scenario)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
def test_without_a_descriptor_clients_wait_in_the_queue(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking, "REST_S", 0.01)

    async def scenario(listening: Port) -> None:
        listening.fails_with, listening.times = code, 3
        guests = Guests()
        with crowd(listening, 5), contextlib.closing(Intake([listening], guests.begin)):
            await guests.until("what all have sent", lambda: len(guests.heard) == 5)
        assert [error.errno for error in guests.errors] == [code] * 3, "once for each rest, and no busy loop"

    on_uvloop(scenario)


def test_who_is_gone_before_it_is_accepted_is_passed_over() -> None:
    async def scenario(listening: Port) -> None:
        listening.fails_with, listening.times = errno.ECONNABORTED, 3
        guests = Guests()
        with crowd(listening, 5), contextlib.closing(Intake([listening], guests.begin)):
            await guests.until("what all have sent", lambda: len(guests.heard) == 5)
        assert guests.errors == []

    on_uvloop(scenario)


def test_a_client_for_whom_no_protocol_can_be_made_is_told_and_the_others_are_taken() -> None:
    async def scenario(listening: Port) -> None:
        guests = Guests(fails=True)
        with crowd(listening, 20) as clients, contextlib.closing(Intake([listening], guests.begin)):
            await guests.until("the others", lambda: len(guests.heard) == 19)
            assert [str(error) for error in guests.errors] == ["on purpose"]
            clients[0].settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                assert clients[0].recv(10) == b""

    on_uvloop(scenario)


def test_a_closed_intake_takes_nobody_and_those_who_have_been_taken_stay() -> None:
    async def scenario(listening: Port) -> None:
        guests = Guests()
        with crowd(listening, 3 * CLIENTS_A_TURN) as clients:
            intake = Intake([listening], guests.begin)
            await guests.until("the first", lambda: bool(guests.made))
            intake.close()
            intake.close()
            taken = len(guests.made)
            assert taken == CLIENTS_A_TURN
            await guests.until("what they have sent", lambda: len(guests.heard) == taken)
            for client in clients:
                client.sendall(b"more")
            await guests.until("what they have sent", lambda: len(guests.heard) == 2 * taken)
            assert len(guests.made) == taken
            assert guests.lost == 0

    on_uvloop(scenario)


def test_an_intake_that_rests_can_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking, "REST_S", 0.01)

    async def scenario(listening: Port) -> None:
        listening.fails_with, listening.times = errno.EMFILE, 1
        guests = Guests()
        with crowd(listening, 1):
            intake = Intake([listening], guests.begin)
            await guests.until("the error", lambda: bool(guests.errors))
            intake.close()
            await asyncio.sleep(0.03)
            assert guests.made == []

    on_uvloop(scenario)
