"""What would stop a run here, said before it begins. Pure: the facts come from ``machine``."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...common.errors import StartupError
from ...common.limits import MAX_WEBSOCKETS_PER_OBJECT
from .config import AUTO, MAX_PROCESSES, LoadConfig

DESCRIPTORS_BESIDE = 200
"""Descriptors of a process beside its connections': pipes, libraries, sockets on their way out."""
SPARE_PORTS = 500
"""Ports of an address that others, and connections on their way out, may hold."""
FILLED = 0.45
"""Share of an address's ports that is used. Linux looks through every other port before it tries those between: once
half are taken, each connection costs it a search of all of that half (measured: 1,000 a second instead of 4,000)."""
MAX_SOURCES = 250
"""Addresses of 127.0.0.0/24 that are used."""
BYTES_PER_CONNECTION = 12_000
"""Memory of a connection in the load tester (2 to 4 kB) with its sockets' in the kernel, on the safe side."""
CONNECTIONS_PER_PROCESS = 10_000
"""Up to so many, a process is no bottleneck where there are cores enough."""
FRAMES_PER_PROCESS = 25_000
"""Frames a second that a process takes in with half a core."""


class WouldNotFit(StartupError):
    """The run cannot be carried out here; the message says what stops it and what to do."""

    exit_code = 74


@dataclass(frozen=True, slots=True)
class Facts:
    """What the machine allows.

    Attributes:
        cores: Processors.
        descriptors: What a process may open.
        descriptors_free: What the whole system may still open.
        ports: Local ports for outgoing connections, for each address.
        memory_bytes: Memory that is free.
        loopback: Whether the server is at 127.0.0.0/8.
    """

    cores: int
    descriptors: int
    descriptors_free: int
    ports: int
    memory_bytes: int
    loopback: bool


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What is known of a server of ours.

    Attributes:
        routers: How many hold its sockets.
        descriptors: What they may open, all together; 0: not known.
        connections: What they hold already.
    """

    routers: int
    descriptors: int
    connections: int


@dataclass(frozen=True, slots=True)
class Fit:
    """How a run is carried out.

    Attributes:
        processes: How many.
        sources: Addresses to connect from; empty: the system chooses.
        sentence: What would stop it first, or does.
        warning: Something that may stop it, and does not lie with the load tester; or empty.
    """

    processes: int
    sources: tuple[str, ...]
    sentence: str
    warning: str


def fit(config: LoadConfig, facts: Facts, server: ServerFacts | None) -> Fit:
    """Find how many processes and addresses a run takes, and what limits it.

    Raises:
        WouldNotFit: It cannot be carried out.
    """
    wanted = config.connections
    each = max(1, facts.descriptors - DESCRIPTORS_BESIDE)
    ports = max(1, facts.ports - SPARE_PORTS)
    processes = _processes(config, facts, each)
    sources = config.source or _loopback_sources(wanted, ports, facts.loopback)
    most_processes = MAX_PROCESSES if config.processes == AUTO else processes
    most_sources = MAX_SOURCES if facts.loopback and not config.source else max(1, len(sources))
    limits = [
        (
            each * most_processes,
            f"the {facts.descriptors:,} descriptors of each of {most_processes} processes",
            "raise `ulimit -n`" + ("" if config.processes == AUTO else " or --processes"),
        ),
        (
            facts.descriptors_free,
            "the descriptors that the whole system has left",
            "raise the sysctl fs.file-max",
        ),
        (
            ports * most_sources,
            f"the {facts.ports:,} local ports of each of {most_sources} source addresses"
            if most_sources > 1
            else f"the {facts.ports:,} local ports of one source address",
            "widen the sysctl net.ipv4.ip_local_port_range, add addresses with --source, or use several machines",
        ),
        (
            facts.memory_bytes // BYTES_PER_CONNECTION,
            f"the {facts.memory_bytes / 1e9:.1f} GB of memory that are free",
            "free some, or use several machines",
        ),
    ]
    capacity, what, remedy = min(limits)
    if capacity < wanted:
        raise WouldNotFit(
            f"{wanted:,} connections do not fit: {what} are enough for {capacity:,}; {remedy}, or ask for fewer"
        )
    over = f" from {len(sources)} addresses" if len(sources) > 1 else ""
    sentence = (
        f"{wanted:,} connections in {processes} process{'es' if processes > 1 else ''}{over}; the first limit of this "
        f"machine would be {what}, at {capacity:,} connections ({remedy})"
    )
    return Fit(processes, sources, sentence, _server_warning(config, server))


def _processes(config: LoadConfig, facts: Facts, each: int) -> int:
    if config.processes != AUTO:
        return min(int(config.processes), config.connections)
    needed = math.ceil(config.connections / each)
    useful = max(
        math.ceil(config.connections / CONNECTIONS_PER_PROCESS),
        math.ceil((config.frames_per_s + config.echoes_per_s + config.broadcasts_per_s) / FRAMES_PER_PROCESS),
    )
    return min(MAX_PROCESSES, config.connections, max(needed, min(useful, facts.cores)))


def _loopback_sources(connections: int, ports: int, loopback: bool) -> tuple[str, ...]:
    """As many addresses as the ports need, each filled to ``FILLED``."""
    if not loopback:
        return ()
    count = min(MAX_SOURCES, math.ceil(connections / (FILLED * ports)))
    return tuple(f"127.0.0.{number + 1}" for number in range(count))


def _server_warning(config: LoadConfig, server: ServerFacts | None) -> str:
    """Why a server of ours will refuse some. The run goes on: it may be what somebody wants to see."""
    if server is None:
        return ""
    largest = math.ceil(config.connections / config.objects)
    if largest > MAX_WEBSOCKETS_PER_OBJECT:
        enough = math.ceil(config.connections / MAX_WEBSOCKETS_PER_OBJECT)
        return (
            f"the server will refuse {largest - MAX_WEBSOCKETS_PER_OBJECT:,} sockets of an object with {largest:,}: an "
            f"object of roost takes {MAX_WEBSOCKETS_PER_OBJECT:,}; use --objects {enough}"
        )
    room = server.descriptors - server.connections - DESCRIPTORS_BESIDE * server.routers
    if server.descriptors and room < config.connections:
        return (
            f"the server's {server.routers} router{'s' if server.routers > 1 else ''} can hold about "
            f"{max(0, room):,} more connections with the descriptors that they have: `roost scale --routers` adds some"
        )
    return ""
