"""Clients' sockets on the loop that routers run on: the loop looks at some, and a turn takes so many of the others as
fit."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import uvloop

from roost.common.limits import CLIENTS_OF_THE_LOOP
from roost.router.clients import ready as looking
from roost.router.clients.ready import Ready
from roost.router.clients.transport import Transports
from roost.router.clients.work import Work
from tests.support.waiting import DEADLINE_S

CLIENTS = 1_500


class Guests:
    """Protocols of clients.

    Attributes:
        heard: In which turn of the loop each has heard something, its number by whom.
        ended: The same for the ends of what comes.
        lost: How many have ended.
        turn: The present turn.
    """

    def __init__(self) -> None:
        self.heard: list[tuple[int, Guest]] = []
        self.ended: list[tuple[int, Guest]] = []
        self.lost: list[tuple[int, Guest]] = []
        self.made: list[Guest] = []
        self.turn = 0
        self._loop = asyncio.get_running_loop()
        self.work = Work(self._work_soon, time.monotonic)
        self.ready = Ready(time.monotonic)
        self.ready.start(self._loop)
        self.begin = Transports(self._loop, self.ready, self.work, self.make).begin
        self._next()

    def make(self) -> Guest:
        guest = Guest(self)
        self.made.append(guest)
        return guest

    def _next(self) -> None:
        self.turn += 1
        self._loop.call_soon(self._next)

    def _work_soon(self) -> None:
        self._loop.call_soon(self._work)

    def _work(self) -> None:
        if self.work.run():
            self._work_soon()

    async def until(self, what: str, condition: Callable[[], bool]) -> None:
        give_up_at = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < give_up_at, f"waited {DEADLINE_S:g} s for {what}"
            await asyncio.sleep(0)


class Guest(asyncio.BufferedProtocol):
    buffer = memoryview(bytearray(1 << 16))

    def __init__(self, all_of_them: Guests) -> None:
        self.all = all_of_them
        self.transport: Any = None
        self.got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.got += self.buffer[:nbytes].tobytes()
        self.all.heard.append((self.all.turn, self))

    def eof_received(self) -> bool:
        self.all.ended.append((self.all.turn, self))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.all.lost.append((self.all.turn, self))


@contextlib.contextmanager
def descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


Scenario = Callable[[Guests, list[socket.socket]], Awaitable[None]]


def on_uvloop(count: int, scenario: Scenario) -> None:
    """Run *scenario* with so many clients that are connected."""

    async def main() -> None:
        guests = Guests()
        with contextlib.ExitStack() as opened, contextlib.closing(guests.ready):
            listening = opened.enter_context(socket.socket())
            listening.bind(("127.0.0.1", 0))
            listening.listen(64)
            clients = []
            for _ in range(count):
                clients.append(opened.enter_context(socket.create_connection(listening.getsockname(), 5)))
                accepted, _ = listening.accept()
                accepted.setblocking(False)
                guests.begin(accepted)
                if len(clients) % 32 == 0:
                    await asyncio.sleep(0)
            await guests.until("all to begin", lambda: all(guest.transport is not None for guest in guests.made))
            await scenario(guests, clients)
            for guest in guests.made:
                guest.transport.abort()
            await guests.until("the end", lambda: len(guests.lost) == count)
            assert (guests.ready.loops, len(guests.ready)) == (0, 0)

    with descriptors():
        uvloop.run(main())


def test_of_very_many_that_send_in_one_moment_a_turn_reads_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """libuv would hand out all of them in one."""
    monkeypatch.setattr(looking, "READY_S", 0.0)

    async def scenario(guests: Guests, clients: list[socket.socket]) -> None:
        assert guests.ready.loops == CLIENTS_OF_THE_LOOP
        for client in clients:
            client.send(b"hello")  # the loop does not run meanwhile
        await guests.until("what all have sent", lambda: len(guests.heard) == CLIENTS)
        a_turn = Counter(turn for turn, _ in guests.heard)
        assert max(a_turn.values()) <= CLIENTS_OF_THE_LOOP + looking.AT_ONCE
        assert len({guest for _, guest in guests.heard}) == CLIENTS

    on_uvloop(CLIENTS, scenario)


def test_of_very_many_that_end_in_one_moment_a_turn_notices_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "READY_S", 0.0)

    async def scenario(guests: Guests, clients: list[socket.socket]) -> None:
        for client in clients:
            client.close()
        await guests.until("the ends", lambda: len(guests.lost) == CLIENTS)
        assert max(Counter(turn for turn, _ in guests.ended).values()) <= CLIENTS_OF_THE_LOOP + looking.AT_ONCE

    on_uvloop(CLIENTS, scenario)


def test_of_very_many_that_reset_their_connections_some_end_in_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop tells of those that it reads at once; the others take their turn."""
    monkeypatch.setattr(looking, "READY_S", 0.0)

    async def scenario(guests: Guests, clients: list[socket.socket]) -> None:
        for guest in guests.made:
            guest.transport.write(bytes(20_000))  # what is not read makes the end a reset
        for client in clients:
            client.close()
        await guests.until("the ends", lambda: len(guests.lost) == CLIENTS)
        a_turn = Counter(turn for turn, _ in guests.lost)
        assert max(a_turn.values()) <= CLIENTS_OF_THE_LOOP + looking.AT_ONCE

    on_uvloop(CLIENTS, scenario)


def test_when_one_of_the_loops_clients_has_gone_the_next_takes_its_place() -> None:
    async def scenario(guests: Guests, clients: list[socket.socket]) -> None:
        assert (guests.ready.loops, len(guests.ready)) == (CLIENTS_OF_THE_LOOP, 3)
        for client in clients[:2]:
            client.close()
        await guests.until("their ends", lambda: len(guests.lost) == 2)
        assert guests.ready.loops == CLIENTS_OF_THE_LOOP - 2

    on_uvloop(CLIENTS_OF_THE_LOOP + 3, scenario)
