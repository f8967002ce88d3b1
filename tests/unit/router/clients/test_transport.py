"""A client's transport: what one client costs a turn, what waits for it, and its ends."""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from roost.router.clients import ready as looking
from roost.router.clients import transport as module
from roost.router.clients.ready import IN, Ready
from roost.router.clients.transport import AT_ONCE, FIRST, HIGH_WATER, MOST_PIECES, ClientTransport
from roost.router.clients.work import ENDS_AT_ONCE, SLICE_S, Work

BUFFER = 1 << 16


class Protocol:
    """Keeps what it hears."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.transport: ClientTransport
        self.buffer = memoryview(bytearray(BUFFER))
        self.got = b""
        self.ends = False
        """The end of what comes is the end."""
        self.fails = ""
        """The method that raises."""

    def _note(self, what: str) -> None:
        self.log.append(what)
        if what == self.fails:
            raise RuntimeError("on purpose")

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._note("made")

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        self.got += self.buffer[:count].tobytes()
        if self.fails == "updated":
            self._note("updated")

    def eof_received(self) -> bool:
        self._note("eof")
        return not self.ends

    def pause_writing(self) -> None:
        self._note("pause")

    def resume_writing(self) -> None:
        self._note("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self._note("lost" if error is None else f"lost: {type(error).__name__}")


class Shell:
    """A loop without a loop.

    Attributes:
        soon: What is called in the next turn.
        told: What the loop was told of.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.look_s = 0.0
        self.opened = contextlib.ExitStack()
        self.log: list[str] = []
        self.soon: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        self.told: list[dict[str, Any]] = []
        self.ready = Ready(lambda: 0.0)
        self.opened.callback(self.ready.close)
        self.work = Work(lambda: None, self._clock)
        self.listening = self.opened.enter_context(socket.socket())
        self.listening.bind(("127.0.0.1", 0))
        self.listening.listen(1024)

    def _clock(self) -> float:
        self.now += self.look_s
        return self.now

    def call_soon(self, call: Callable[..., object], *what: object) -> None:
        self.soon.append((call, what))

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.told.append(context)

    def connect(self) -> tuple[Protocol, socket.socket]:
        """A client, and its own end."""
        there = self.opened.enter_context(socket.create_connection(self.listening.getsockname()))
        here, _ = self.listening.accept()
        self.opened.enter_context(here)
        here.setblocking(False)
        there.setblocking(False)
        protocol = Protocol(self.log)
        ClientTransport(self, self.ready, self.work, here, protocol).begin()  # type: ignore[arg-type]
        return protocol, there

    def turn(self) -> None:
        """One turn of the loop, but for its work."""
        soon, self.soon[:] = list(self.soon), []
        for call, what in soon:
            call(*what)
        self.ready.turn()

    def turns(self) -> None:
        """Until nothing comes."""
        for _ in range(10):
            self.turn()


@pytest.fixture
def shell() -> Iterator[Shell]:
    shell = Shell()
    with shell.opened:
        yield shell


def taken(client: socket.socket) -> bytes:
    """What a client has up to now."""
    parts = []
    with contextlib.suppress(BlockingIOError, ConnectionResetError):
        while part := client.recv(1 << 20):
            parts.append(part)
    return b"".join(parts)


def awaited(client: socket.socket, size: int) -> bytes:
    """The next *size* bytes, however long the system takes to hand them on."""
    client.settimeout(10)
    parts = []
    while size:
        parts.append(client.recv(size))
        assert parts[-1], "the end has come before"
        size -= len(parts[-1])
    return b"".join(parts)


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


# --- what comes ---


def test_what_comes_is_read_once_a_turn(shell: Shell) -> None:
    protocol, client = shell.connect()
    client.send(bytes(3 * BUFFER))
    shell.turn()
    assert len(protocol.got) == BUFFER, "a client that sends on and on has a read in each turn"
    shell.turns()
    assert len(protocol.got) == 3 * BUFFER


def test_reading_may_pause(shell: Shell) -> None:
    protocol, client = shell.connect()
    protocol.transport.pause_reading()
    protocol.transport.pause_reading()
    client.send(b"hello")
    shell.turns()
    assert protocol.got == b""
    assert len(shell.ready) == 0
    protocol.transport.resume_reading()
    protocol.transport.resume_reading()
    shell.turn()
    assert protocol.got == b"hello"


def test_another_protocol_takes_over(shell: Shell) -> None:
    protocol, client = shell.connect()
    other = Protocol(shell.log)
    protocol.transport.set_protocol(other)
    assert protocol.transport.get_protocol() is other
    client.send(b"hello")
    shell.turn()
    assert (protocol.got, other.got) == (b"", b"hello")


def test_a_client_that_sends_no_more_is_written_to_if_its_protocol_says_so(shell: Shell) -> None:
    protocol, client = shell.connect()
    client.send(b"hello")
    client.shutdown(socket.SHUT_WR)
    shell.turns()
    assert (protocol.got, shell.log) == (b"hello", ["made", "eof"])
    protocol.transport.write(b"answer")
    assert awaited(client, 6) == b"answer"
    protocol.transport.close()
    shell.turns()
    assert shell.log[2:] == ["lost"]


def test_who_ends_gets_what_waits_before_its_end(shell: Shell) -> None:
    protocol, client = shell.connect()
    protocol.ends = True
    protocol.transport.write(bytes(20 << 20))
    client.shutdown(socket.SHUT_WR)
    shell.turn()
    assert "eof" in shell.log
    got = 0
    while "lost" not in shell.log:
        got += len(taken(client))
        shell.turn()
    awaited(client, (20 << 20) - got)


# --- what goes ---


class Taking:
    """A system that takes all that is written, as when a client reads as fast as we write."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[int] = []
        monkeypatch.setattr(module.os, "writev", self.writev)

    def writev(self, descriptor: int, pieces: list[bytes]) -> int:
        self.calls.append(sum(map(len, pieces)))
        return self.calls[-1]

    def take(self) -> int:
        """Bytes written since the last call."""
        size = sum(self.calls)
        self.calls.clear()
        return size


@pytest.mark.parametrize("piece", [100_000_000, 300_000, 1_000], ids=["one", "large pieces", "small pieces"])
def test_to_a_client_that_takes_all_at_once_a_turn_writes_a_part(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    """All of 200 MB would be a turn of 70 ms."""
    protocol, _ = shell.connect()
    system, transport, size = Taking(monkeypatch), protocol.transport, 100_000_000
    if piece == size:
        transport.write(bytes(size))
    else:
        transport.writelines([bytes(piece)] * (size // piece))
    first = system.take()
    assert FIRST // AT_ONCE * MOST_PIECES * 1_000 <= first <= FIRST
    turns = 0
    while transport.get_write_buffer_size():
        shell.turn()
        turns += 1
        assert 0 < max(system.calls) <= AT_ONCE
        first += system.take()
    assert turns >= (size - FIRST) // AT_ONCE
    assert first // piece * piece == size // piece * piece
    shell.turn()
    assert transport._events == IN


def test_many_for_whom_much_waits_have_their_turns(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    clients = [shell.connect()[0] for _ in range(40)]
    system = Taking(monkeypatch)
    for protocol in clients:
        protocol.transport.write(bytes(20 << 20))
    system.take()
    monkeypatch.setattr(looking, "READY_S", -1.0)  # the first look at the clock says that it is over
    waited = [protocol.transport.get_write_buffer_size() for protocol in clients]
    for _ in range(3):
        shell.turn()
        assert system.take() == looking.AT_ONCE * AT_ONCE
    told = [
        before - protocol.transport.get_write_buffer_size() for before, protocol in zip(waited, clients, strict=True)
    ]
    assert set(told) == {AT_ONCE, 2 * AT_ONCE}, "all before any has another"


@pytest.mark.parametrize("seed", range(8))
def test_all_comes_in_the_order_in_which_it_was_written(shell: Shell, seed: int) -> None:
    rng = random.Random(seed)
    protocol, client = shell.connect()
    transport, sent, got = protocol.transport, bytearray(), bytearray()
    for _ in range(60):
        pieces = [rng.randbytes(rng.choice([0, 1, 100, 5000, 300_000])) for _ in range(rng.randrange(1, 5))]
        sent += b"".join(pieces)
        if len(pieces) == 1:
            transport.write(pieces[0])
        else:
            transport.writelines(memoryview(piece) for piece in pieces)
        if rng.random() < 0.5:
            got += taken(client)
        if rng.random() < 0.7:
            shell.turn()
    while transport.get_write_buffer_size():
        got += taken(client)
        shell.turn()
    got += awaited(client, len(sent) - len(got))
    assert got == sent


@pytest.mark.parametrize("seed", range(4))
def test_nothing_that_is_written_past_it_overtakes_what_waits(shell: Shell, seed: int) -> None:
    """Whoever does that looks at how much waits, as ``Outlet`` does."""
    rng = random.Random(seed)
    protocol, client = shell.connect()
    transport, got, direct = protocol.transport, bytearray(), 0
    descriptor = transport.get_extra_info("socket").fileno()
    said = [b"%08d" % number * rng.choice([1, 1, 1, 60_000]) for number in range(400)]
    for rest in said:
        if not transport.get_write_buffer_size() and rng.random() < 0.8:
            with contextlib.suppress(BlockingIOError):
                rest = rest[os.write(descriptor, rest) :]
            direct += not rest
        if rest:
            transport.write(rest)
        if rng.random() < 0.5:
            got += taken(client)
        if rng.random() < 0.5:
            shell.turn()
    while transport.get_write_buffer_size():
        got += taken(client)
        shell.turn()
    whole = b"".join(said)
    assert got + awaited(client, len(whole) - len(got)) == whole
    assert 20 < direct < 400


def test_a_pause_is_asked_for_and_ended_by_its_limits(shell: Shell) -> None:
    protocol, client = shell.connect()
    transport = protocol.transport
    transport.write(bytes(AT_ONCE + HIGH_WATER))
    while not transport.get_write_buffer_size() > HIGH_WATER:
        transport.write(bytes(1000))
    assert shell.log == ["made", "pause"]
    transport.write(bytes(1000))
    assert shell.log == ["made", "pause"], "once"
    while transport.get_write_buffer_size() > HIGH_WATER // 4:
        assert shell.log == ["made", "pause"]
        taken(client)
        shell.turn()
    assert shell.log == ["made", "pause", "resume"]
    transport.set_write_buffer_limits(10, 5)
    assert transport.get_write_buffer_limits() == (5, 10)
    while transport.get_write_buffer_size() <= 10:
        transport.write(bytes(1000))
    assert shell.log == ["made", "pause", "resume", "pause"]
    while transport.get_write_buffer_size():
        taken(client)
        shell.turn()
    transport.set_write_buffer_limits(low=25)
    assert transport.get_write_buffer_limits() == (25, 100)


def test_who_was_paused_goes_on_while_some_still_waits(shell: Shell) -> None:
    protocol, client = shell.connect()
    transport = protocol.transport
    transport.set_write_buffer_limits(8 << 20, 4 << 20)
    transport.write(bytes(20 << 20))
    assert shell.log == ["made", "pause"]
    while shell.log == ["made", "pause"]:
        assert transport.get_write_buffer_size() > 4 << 20
        taken(client)
        shell.turn()
    assert shell.log == ["made", "pause", "resume"]
    assert 3 << 20 < transport.get_write_buffer_size() <= 4 << 20


def test_our_side_ends_behind_what_waits(shell: Shell) -> None:
    protocol, client = shell.connect()
    protocol.transport.write(bytes(20 << 20))
    protocol.transport.write_eof()
    protocol.transport.write_eof()
    with pytest.raises(RuntimeError):
        protocol.transport.write(b"more")
    got = 0
    while got < 20 << 20:
        got += len(taken(client))
        shell.turn()
    shell.turn()
    assert select.select([client], [], [], 1)[0]
    assert client.recv(10) == b"", "the end"
    client.send(b"still here")
    shell.turn()
    assert protocol.got == b"still here"


# --- ends ---


def test_many_that_reset_their_connections_end_in_turn(shell: Shell) -> None:
    clients = [shell.connect() for _ in range(3 * ENDS_AT_ONCE)]
    for number, (protocol, client) in enumerate(clients):
        if number % 2:
            protocol.transport.write(bytes(20 << 20))  # it is told of its end by what waits, too
        reset(client)
    shell.look_s = SLICE_S
    shell.turn()
    shell.turn()
    assert shell.log.count("lost: ConnectionResetError") <= ENDS_AT_ONCE
    steps = 0
    while shell.work.run():
        steps += 1
        shell.turn()
    shell.turns()
    assert sum(line.startswith("lost") for line in shell.log) == len(clients)
    assert steps >= ENDS_AT_ONCE
    assert len(shell.ready) == 0
    assert shell.told == []


def test_whose_end_waits_for_its_turn_is_not_written_to(shell: Shell) -> None:
    clients = [shell.connect() for _ in range(ENDS_AT_ONCE + 1)]
    for _, client in clients:
        reset(client)
    shell.turns()
    protocol, _ = next(each for each in clients if not each[0].transport.is_closing())
    protocol.transport.write(b"to nobody")
    protocol.transport.writelines([b"to nobody"])
    assert protocol.transport.get_write_buffer_size() == 0
    protocol.transport.close()
    shell.turns()
    assert sum(line.startswith("lost") for line in shell.log) == len(clients)
    shell.work.run()
    shell.turns()
    assert sum(line.startswith("lost") for line in shell.log) == len(clients), "nobody ends twice"


def test_a_close_waits_for_what_is_written(shell: Shell) -> None:
    protocol, client = shell.connect()
    protocol.transport.write(bytes(20 << 20))
    protocol.transport.close()
    protocol.transport.close()
    client.send(b"nobody reads this")
    got = 0
    while "lost" not in shell.log:
        got += len(taken(client))
        shell.turn()
    awaited(client, (20 << 20) - got)
    assert protocol.got == b""


def test_an_abort_drops_what_waits_and_nothing_overtakes_it(shell: Shell) -> None:
    protocol, client = shell.connect()
    transport = protocol.transport
    transport.write(bytes(20 << 20))
    transport.abort()
    assert transport.is_closing()
    assert transport.get_write_buffer_size() > 0, "who writes past the transport must see that something waits"
    transport.abort()
    shell.turns()
    assert shell.log == ["made", "pause", "lost"]
    assert len(taken(client)) < 20 << 20
    assert transport.get_write_buffer_size() == 0
    assert transport.get_extra_info("peername", "nobody") == "nobody"


def test_a_descriptor_is_open_until_the_protocol_knows(shell: Shell) -> None:
    protocol, _ = shell.connect()
    number = protocol.transport.get_extra_info("socket").fileno()
    protocol.transport.abort()
    os.fstat(number)
    shell.turn()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


@pytest.mark.parametrize("method", ["made", "updated", "eof", "resume"])
def test_an_error_of_the_protocol_ends_that_client_alone(shell: Shell, method: str) -> None:
    other, its_client = shell.connect()
    there = shell.opened.enter_context(socket.create_connection(shell.listening.getsockname()))
    here, _ = shell.listening.accept()
    here.setblocking(False)
    protocol = Protocol([])
    protocol.fails = method
    ClientTransport(shell, shell.ready, shell.work, here, protocol).begin()  # type: ignore[arg-type]
    if method == "resume":
        protocol.transport.write(bytes(20 << 20))
        there.setblocking(False)
        while "resume" not in protocol.log:
            taken(there)
            shell.turn()
    else:
        there.send(b"hello")
        there.shutdown(socket.SHUT_WR)
    its_client.send(b"hello")
    shell.turns()
    assert protocol.log[-1] == "lost"
    assert [str(context["exception"]) for context in shell.told] == ["on purpose"]
    assert shell.told[0]["protocol"] is protocol
    assert other.got == b"hello"


def test_an_error_when_a_pause_is_asked_for_is_told(shell: Shell) -> None:
    protocol, _ = shell.connect()
    protocol.fails = "pause"
    protocol.transport.write(bytes(20 << 20))
    assert [str(context["exception"]) for context in shell.told] == ["on purpose"]
    assert not protocol.transport.is_closing()


def test_a_system_that_looks_at_no_more_sockets_ends_that_client(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol, _ = shell.connect()

    def full(*what: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Ready, "change", full)
    protocol.transport.write(bytes(20 << 20))
    shell.turns()
    assert "lost: OSError" in shell.log
