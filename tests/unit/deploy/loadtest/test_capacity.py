"""What would stop a run, in one sentence, and how the run gets round it."""

from __future__ import annotations

from typing import Any

import pytest

from roost.deploy.loadtest.capacity import Facts, Fit, ServerFacts, WouldNotFit, fit
from roost.deploy.loadtest.config import LoadConfig

ROOMY: dict[str, Any] = {
    "cores": 2,
    "descriptors": 20_000,
    "descriptors_free": 1 << 30,
    "ports": 28_232,
    "memory_bytes": 64 << 30,
    "loopback": True,
}


def fitted(facts: dict[str, Any] | None = None, server: ServerFacts | None = None, **settings: Any) -> Fit:
    return fit(LoadConfig(url="ws://h/{object}", **settings), Facts(**ROOMY | (facts or {})), server)


def refused(facts: dict[str, Any] | None = None, **settings: Any) -> str:
    with pytest.raises(WouldNotFit) as caught:
        fitted(facts, **settings)
    return str(caught.value)


def test_a_small_run_is_one_process_from_one_address() -> None:
    found = fitted(connections=100)
    assert (found.processes, found.sources, found.warning) == (1, ("127.0.0.1",), "")
    assert found.sentence.startswith("100 connections in 1 process; the first limit of this machine would be ")
    assert ". " not in found.sentence


def test_descriptors_and_ports_are_got_round() -> None:
    found = fitted(connections=100_000, mode="idle")
    assert found.processes == 6
    assert len(found.sources) == 9
    assert 100_000 / len(found.sources) < 28_232 / 2, "Linux is slow at finding ports in the second half"
    assert 100_000 / found.processes < 20_000 - 200


def test_traffic_takes_more_processes_up_to_the_cores() -> None:
    assert fitted(connections=100, rate=500).processes == 1
    assert fitted(connections=100, rate=40_000).processes == 2
    assert fitted({"cores": 8}, connections=2_000, mode="broadcast", rate=50).processes == 5


def test_never_more_processes_than_connections() -> None:
    assert fitted(connections=2, processes="8").processes == 2


@pytest.mark.parametrize(
    ("facts", "settings", "words"),
    [
        ({}, {"connections": 50_000, "processes": "2"}, ["39,600", "descriptors", "ulimit -n", "--processes"]),
        ({"descriptors": 300}, {"connections": 10_000}, ["6,400", "descriptors", "ulimit -n"]),
        ({"descriptors_free": 900}, {"connections": 1_000}, ["900", "fs.file-max"]),
        ({"loopback": False}, {"connections": 30_000}, ["27,732", "ports", "ip_local_port_range", "--source"]),
        ({"loopback": False}, {"connections": 60_000, "source": ("10.0.0.1", "10.0.0.2")}, ["55,464", "ports"]),
        ({"memory_bytes": 12 << 20}, {"connections": 2_000}, ["memory", "1,048"]),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(
    facts: dict[str, Any], settings: dict[str, Any], words: list[str]
) -> None:
    sentence = refused(facts, **settings)
    for word in words:
        assert word in sentence
    assert ". " not in sentence


def test_addresses_that_are_given_are_used() -> None:
    assert fitted({"loopback": False}, connections=30_000, source=("10.0.0.1", "10.0.0.2")).sources == (
        "10.0.0.1",
        "10.0.0.2",
    )


def test_what_the_server_will_refuse_is_said_and_tried() -> None:
    server = ServerFacts(routers=3, descriptors=60_000, connections=0)
    assert "use --objects 2" in fitted(server=server, connections=32_769).warning
    assert fitted(server=server, connections=32_769, objects=2).warning == ""
    assert fitted(server=server, connections=32_768).warning == ""


def test_a_server_with_too_few_descriptors() -> None:
    one = ServerFacts(routers=1, descriptors=20_000, connections=5_000)
    assert "about 14,800 more" in fitted(server=one, connections=15_000).warning
    assert fitted(server=one, connections=14_000).warning == ""
    unknown = ServerFacts(routers=1, descriptors=0, connections=0)
    assert fitted(server=unknown, connections=30_000).warning == ""
