"""A cluster has its port for itself, although its routers share it."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from roost.common.errors import ConfigError, PortTaken
from roost.deploy.plan.config import UpConfig
from roost.deploy.processes.ports import Reservation, listen_alone
from tests.support.ports import free_port

HOST = "127.0.0.1"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def router_socket(port: int) -> Iterator[socket.socket]:
    """A socket that listens as a router's does."""
    with socket.socket() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((HOST, port))
        made.listen()
        yield made


def test_a_reserved_port_is_free_for_routers_and_for_no_other_cluster(port: int) -> None:
    reserved = Reservation(HOST, port)
    with pytest.raises(PortTaken, match=f"port {port} on {HOST} is taken: another roost cluster"):
        Reservation(HOST, port)
    for _ in range(2):
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((HOST, port))
        made.close()
    reserved.close()
    Reservation(HOST, port).close()


@pytest.mark.parametrize("host", [HOST, "0.0.0.0", ""])
def test_routers_that_listen_without_a_supervisor_count(router_socket: socket.socket, port: int, host: str) -> None:
    with pytest.raises(PortTaken, match="another program listens there"):
        Reservation(host, port)
    # The failed attempt holds nothing.
    router_socket.close()
    Reservation(host, port).close()


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this system has no IPv6")
def test_any_address_is_one_of_ipv4_as_well(port: int, router_socket: socket.socket) -> None:
    with pytest.raises(PortTaken, match="another program listens there"):
        Reservation("::", port)
    router_socket.close()
    Reservation("::", port).close()
    made = listen_alone("::", port)
    socket.create_connection((HOST, port)).close()
    made.close()


def test_another_programs_wildcard_counts(port: int) -> None:
    with socket.create_server(("0.0.0.0", port)), pytest.raises(PortTaken):
        Reservation(HOST, port)


def test_connections_of_an_earlier_cluster_do_not_count(port: int) -> None:
    with socket.create_server((HOST, port)) as server, socket.create_connection((HOST, port)) as client:
        accepted, _ = server.accept()
        accepted.close()  # this end goes to TIME_WAIT
        client.recv(1)
    Reservation(HOST, port).close()


def test_the_admin_port_is_listened_on_alone(port: int) -> None:
    with listen_alone(HOST, port), pytest.raises(PortTaken, match="another program"):
        listen_alone(HOST, port)
    with listen_alone(HOST, 0) as picked:
        assert picked.getsockname()[1] > 0


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "\udcff"])
def test_a_host_that_is_not_ours_is_a_wrong_setting(port: int, host: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(repr(host)[1:-1])):
        Reservation(host, port)


def test_an_empty_host_which_would_be_every_address_is_refused() -> None:
    with pytest.raises(ConfigError, match="host must not be empty"):
        UpConfig(host="")
