"""The public port, with real sockets: which addresses it has, and that nobody is lost when a router lets it go."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from roost.common.errors import ConfigError, PortTaken
from roost.common.machine.addresses import bound_sockets
from roost.common.settings.router import RouterConfig
from roost.router.app import Router
from roost.router.clients.transport import begin_with_loop
from roost.router.http import listener as listening
from roost.router.http.half_open import half_open
from roost.router.http.listener import Listener, migrates
from roost.router.machine import RouterMachine
from tests.support.cluster import REPOSITORY
from tests.support.waiting import within

HOST = "127.0.0.1"
HAS_IPV6 = socket.has_ipv6 and Path("/proc/net/if_inet6").exists()


class Echo(asyncio.Protocol):
    """Answers once, as a request is answered, and closes."""

    def __init__(self, name: bytes = b"", on_accept: Callable[[], None] = lambda: None) -> None:
        self.name, self.on_accept = name, on_accept

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.on_accept()

    def data_received(self, data: bytes) -> None:
        self.transport.write(self.name + data)
        self.transport.close()


def connected(host: str, port: int) -> socket.socket:
    """A client that the kernel has accepted; the loop does not run meanwhile."""
    client = socket.create_connection((host, port), 5)
    client.sendall(b"hello")
    return client


async def answer(client: socket.socket) -> bytes:
    """All that a client hears; raises if it is reset."""
    client.setblocking(False)
    heard, loop = b"", asyncio.get_running_loop()
    with client:
        while data := await within("an answer", loop.sock_recv(client, 100)):
            heard += data
    return heard


async def listening_at(port: int = 0, name: bytes = b"", host: str = HOST) -> Listener:
    made = Listener(host, port)
    made.start(partial(begin_with_loop, lambda: Echo(name)))
    return made


# --- addresses ---


@pytest.mark.skipif(not HAS_IPV6, reason="this system has no IPv6")
@pytest.mark.parametrize("host", ["::", ""])
async def test_any_address_is_one_of_ipv6_or_ipv4(host: str) -> None:
    made = await listening_at(host=host)
    assert made.is_wildcard
    for client in ("127.0.0.1", "127.0.0.7", "::1", "localhost"):
        assert await answer(connected(client, made.port)) == b"hello"
    made.close()


@pytest.mark.skipif(not HAS_IPV6, reason="this system has no IPv6")
async def test_one_address_is_no_other() -> None:
    made = await listening_at(host="::1")
    assert not made.is_wildcard
    assert await answer(connected("::1", made.port)) == b"hello"
    with pytest.raises(ConnectionRefusedError):
        connected("127.0.0.1", made.port)
    made.close()


async def test_a_name_is_all_its_addresses_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def two(*args: object, **options: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0)) for one in ("192.0.2.1", HOST, "127.0.0.2", HOST)]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    sockets = bound_sockets("name", 0, shared=True)
    names = [one.getsockname() for one in sockets]
    assert [name[0] for name in names] == [HOST, "127.0.0.2"]
    assert len({name[1] for name in names}) == 1, "one port for all"
    for one in sockets:
        one.close()


@pytest.mark.parametrize("host", ["192.0.2.1", "nope.invalid", "::1%nope", "a" * 300, "[::1]"])
def test_a_host_that_is_none_of_ours_is_refused(host: str) -> None:
    with pytest.raises(ConfigError):
        Listener(host, 0)


async def test_a_port_is_shared_with_those_that_share_it() -> None:
    first = await listening_at()
    second = await listening_at(first.port)
    with pytest.raises(PortTaken):
        bound_sockets(HOST, first.port, shared=False)
    first.close()
    second.close()
    with socket.create_server((HOST, 0)) as alone, pytest.raises(PortTaken):
        Listener(HOST, alone.getsockname()[1])


# --- the end ---


async def test_whoever_waits_to_be_accepted_is_accepted_first() -> None:
    """With ``close()`` in place of ``drain()`` each of them is reset."""
    first = await listening_at(name=b"first ")
    second = await listening_at(first.port, name=b"second ")
    clients = [connected(HOST, first.port) for _ in range(64)]  # both have some, and accept none: the loop is here
    await first.drain(handed_on=False)
    heard = [await answer(client) for client in clients]
    assert set(heard) == {b"first hello", b"second hello"}
    assert await answer(connected(HOST, first.port)) == b"second hello"
    second.close()


async def test_whoever_comes_while_it_drains_goes_to_another_one() -> None:
    first = await listening_at(name=b"first ")
    second = await listening_at(first.port, name=b"second ")
    waiting = [connected(HOST, first.port) for _ in range(16)]
    draining = asyncio.create_task(first.drain(handed_on=False))
    await asyncio.sleep(0)  # from now on new clients are turned away; nobody has been accepted yet
    loop, late = asyncio.get_running_loop(), [socket.socket() for _ in range(16)]
    for client in late:
        client.setblocking(False)
    began = time.monotonic()
    await within("connections", asyncio.gather(*(loop.sock_connect(client, (HOST, first.port)) for client in late)))
    assert time.monotonic() - began < 4, "one SYN is sent again after a second"
    for client in late:
        await loop.sock_sendall(client, b"hello")
    assert {await answer(client) for client in late} == {b"second hello"}
    assert {await answer(client) for client in waiting} == {b"first hello", b"second hello"}
    await draining
    second.close()


async def test_the_last_one_at_a_port_answers_whoever_it_has_accepted() -> None:
    only = await listening_at()
    clients = [connected(HOST, only.port) for _ in range(64)]
    await only.drain(handed_on=False)
    assert {await answer(client) for client in clients} == {b"hello"}
    with pytest.raises(ConnectionRefusedError):
        connected(HOST, only.port)


async def test_a_router_is_not_done_while_its_port_may_bring_clients(tmp_path: Path) -> None:
    """Nobody is left, but a handshake is under way: whoever comes with it is waited for like all others."""
    config = RouterConfig(name="router-1", data=tmp_path, run=tmp_path)
    router = Router(config, RouterMachine(config))
    router._front.drain(ending=True)
    port_ends = asyncio.Event()
    router._listening_ends = asyncio.create_task(port_ends.wait())  # type: ignore[arg-type]  # stands for the drain
    try:
        router._tick()
        assert not router._drained.is_set()
        port_ends.set()
        await router._listening_ends
        router._tick()
        assert router._drained.is_set()
    finally:
        router._stop_ticking()


async def test_a_system_that_hands_on_needs_no_wait(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    setting = tmp_path / "tcp_migrate_req"
    monkeypatch.setattr(listening, "_MIGRATES", setting)
    assert not migrates(), "an old kernel"
    setting.write_text("0\n")
    assert not migrates()
    setting.write_text("1\n")
    assert migrates()
    turned_away: list[bool] = []
    monkeypatch.setattr(Listener, "_turn_away", lambda self: turned_away.append(True) or True)
    for handed_on in (True, False):
        made = await listening_at()
        await made.drain(handed_on=handed_on)
    assert turned_away == [True], "alone at the port, there is nobody to hand on to"


async def test_a_system_without_filters_accepts_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(bound: socket.socket) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(listening, "_drop_syns", refused)
    only = await listening_at()
    clients = [connected(HOST, only.port) for _ in range(8)]
    await only.drain(handed_on=False)
    assert {await answer(client) for client in clients} == {b"hello"}


def test_a_client_that_is_slow_to_shake_hands_is_waited_for() -> None:
    """Over the loopback a handshake takes no time; this one is played packet by packet."""
    program = [sys.executable, "-m", "tests.integration.slow_handshake"]
    if subprocess.run(["unshare", "-rn", "test", "-w", "/dev/net/tun"], capture_output=True).returncode:
        pytest.skip("needs network namespaces and /dev/net/tun")
    done = subprocess.run(["unshare", "-rn", *program], cwd=REPOSITORY, capture_output=True, text=True, timeout=30)
    assert done.stdout == "ok\n", done.stderr[-2000:]


def test_what_the_system_does_not_tell_is_not_taken_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert half_open(1) == frozenset()
    monkeypatch.setattr(socket, "AF_NETLINK", 99)
    assert half_open(1) is None
