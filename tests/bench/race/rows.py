"""What is measured: each row of the table, as what one client does with one server."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tests.bench.race.crowd import Crowd, CrowdFailed
from tests.bench.race.peers import Server
from tests.bench.race.processes import cpu_of, cpu_of_machine, memory_of

AT_ONCE = 64
"""Handshakes under way."""
SIZE = 64
"""Bytes of a message."""
WARM_S = 0.5
"""Seconds of echoing before those measured: the reference compiles what is used often."""
_LONGER = 10
"""Times as long, for a server that answers nobody in the usual time."""
WARM_BROADCASTS = 3
SETTLE_TIMEOUT_S = 60.0
QUIET_TIMEOUT_S = 60.0
"""Seconds that a server may take to be done with clients that came or went: durable-actors takes 20 for 9,000."""
_QUIET_S = 0.4
_QUIET = 0.1
"""Share of a processor, over that time, that is rest; the servers' clocks tick all the time."""
WAKES = 3
"""Times that an object is woken in one measurement."""


@dataclass(frozen=True)
class Setting:
    """What a measurement has.

    Attributes:
        server: The server.
        enter: Makes a client for objects of a kind: ``echo``, ``cast``, ``wake``.
        seconds: Length of what is measured.
        connections: As many as the row wants, or as the peer can have.
    """

    server: Server
    enter: Callable[[str], Crowd]
    seconds: float
    connections: int


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name: On the command line and in the raw data.
        title: What the table says.
        unit: Of the value.
        better: Whether more of it is better, or less.
        measure: Does it once; the answer's ``value`` is the figure.
        connections: How many it wants.
        alone: Whether the server is started for each measurement, and no other runs: what needs much memory.
        fewer: Whether a peer that cannot have that many takes part with as many as it can have.
        sleeps: Whether it makes sense only for objects that can sleep.
        client_processes: Processes of the client.
        most_rounds: Rounds that are enough for what hardly varies.
    """

    name: str
    title: str
    unit: str
    better: Literal["more", "less"]
    measure: Callable[[Setting], dict[str, Any]]
    connections: int
    alone: bool = False
    fewer: bool = False
    sleeps: bool = False
    client_processes: int = 1
    most_rounds: int = 100


class Meter:
    """Processor time of server and client, and of everything else, between two points of time."""

    def __init__(self, server: Server, crowd: Crowd) -> None:
        self._server, self._crowd = server, crowd
        self._before = self._read()

    def _read(self) -> tuple[float, float, float, float]:
        return time.monotonic(), cpu_of(self._server.roots), cpu_of([self._crowd.pid]), cpu_of_machine()

    def read(self, messages: int) -> dict[str, float]:
        """Processors that the server used, microseconds of it for each of *messages*, and processors that neither
        server nor client used: what else the machine did."""
        took, server, client, machine = (now - then for now, then in zip(self._read(), self._before, strict=True))
        return {
            "server_cpu": round(server / took, 3),
            "server_cpu_us": round(server / messages * 1e6, 2),
            "elsewhere_cpu": round(max(0.0, machine - server - client) / took, 3),
        }


def echo(setting: Setting) -> dict[str, Any]:
    """Round trips a second; with one connection the median latency in microseconds."""
    with setting.enter("echo") as crowd:
        crowd.connect(setting.connections, AT_ONCE)
        meter = Meter(setting.server, crowd)
        found = crowd.echo(setting.seconds, WARM_S, SIZE)
        answered = 0
        if not found["round_trips"]:  # some need longer for one round of a thousand
            answered = found["all"]
            found = crowd.echo(_LONGER * setting.seconds, WARM_S, SIZE)
        if not found["round_trips"]:
            raise CrowdFailed(f"no echo of {setting.connections:,} came in {_LONGER * setting.seconds:g} s")
        found |= meter.read(answered + found["all"])
    return {"value": found["p50_us"] if setting.connections == 1 else found["per_s"], **found}


def _broadcast(setting: Setting, in_flight: int) -> dict[str, Any]:
    with setting.enter("cast") as crowd:
        opened = crowd.connect(setting.connections, AT_ONCE)
        await_quiet(setting.server.roots)
        meter = Meter(setting.server, crowd)
        found = crowd.broadcast(setting.seconds, WARM_BROADCASTS, in_flight, SIZE)
        found |= meter.read(found["all"] * setting.connections)
    return {"open_s": opened["seconds"], **found}


def broadcast(setting: Setting) -> dict[str, Any]:
    """Frames a second, two broadcasts at a time."""
    found = _broadcast(setting, in_flight=2)
    return {"value": found["frames_per_s"], **found}


def one_broadcast(setting: Setting) -> dict[str, Any]:
    """Milliseconds until everybody has a broadcast, one at a time."""
    found = _broadcast(setting, in_flight=1)
    return {"value": found["complete_p50_ms"], **found}


def connect(setting: Setting) -> dict[str, Any]:
    """Connections a second."""
    with setting.enter("cast") as crowd:
        meter = Meter(setting.server, crowd)
        found = crowd.connect(setting.connections, AT_ONCE)
        found |= meter.read(setting.connections)
    return {"value": found["per_s"], **found}


def memory(setting: Setting) -> dict[str, Any]:
    """Bytes of an idle connection whose object sleeps, in all processes of the server: the slope from a few on."""
    few = setting.connections // 9
    with setting.enter("cast") as crowd:
        crowd.connect(few, AT_ONCE)
        before = settled(setting.server)
        crowd.connect(setting.connections, AT_ONCE)
        after = settled(setting.server)
    slope = (after - before) / (setting.connections - few)
    return {"value": round(slope), "few": few, "bytes_few": before, "bytes_many": after}


def wake(setting: Setting) -> dict[str, Any]:
    """Milliseconds from sending a message to an object that sleeps until its answer."""
    times = []
    with setting.enter("wake") as crowd:
        crowd.connect(setting.connections, AT_ONCE)
        for _ in range(WAKES):
            setting.server.await_asleep()
            answer, seconds = crowd.ask('"who"')
            if answer != "woken":
                raise CrowdFailed(f"the object was not asleep: it answered {answer!r}")
            times.append(seconds * 1e3)
    return {"value": round(statistics.median(times), 3), "times_ms": times, "connections": setting.connections}


def await_quiet(roots: Sequence[int]) -> None:
    """Wait until servers do next to nothing: they have started, and forgotten the connections of the client before.

    Args:
        roots: Of all servers that run.

    Raises:
        CrowdFailed: They go on for too long.
    """
    deadline = time.monotonic() + QUIET_TIMEOUT_S
    while True:
        before = cpu_of(roots)
        time.sleep(_QUIET_S)
        used = (cpu_of(roots) - before) / _QUIET_S
        if used < _QUIET:
            return
        if time.monotonic() > deadline:
            raise CrowdFailed(f"the servers do not come to rest: they use {used:.0%} of a processor")


def settled(server: Server) -> int:
    """Memory of a server once its objects sleep and two readings, a second apart, differ by less than 0.2 %.

    Raises:
        CrowdFailed: It never settles.
    """
    server.await_asleep()
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    last = 0
    while True:
        found = memory_of(server.roots)
        if abs(found - last) < 0.002 * last:
            return found
        if time.monotonic() > deadline:
            raise CrowdFailed(f"memory does not settle: {found:,} bytes after {last:,}")
        last = found
        time.sleep(1)


ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        Row("echo-1", "echo, 1 connection: median latency", "µs", "less", echo, 1),
        Row("echo-64", "echo, 64 connections", "round trips/s", "more", echo, 64),
        Row("echo-1000", "echo, 1,000 connections", "round trips/s", "more", echo, 1_000),
        Row("broadcast-2000", "broadcast to 2,000", "frames/s", "more", broadcast, 2_000),
        Row("broadcast-9000", "broadcast to 9,000", "frames/s", "more", broadcast, 9_000, alone=True),
        Row(
            "broadcast-32768",
            "one broadcast to 32,768, until all have it",
            "ms",
            "less",
            one_broadcast,
            32_768,
            alone=True,
            client_processes=2,
        ),
        Row("connect", "connecting, 4,000 connections", "connects/s", "more", connect, 4_000, alone=True),
        Row(
            "memory-9000",
            "an idle connection, of 9,000",
            "bytes",
            "less",
            memory,
            9_000,
            alone=True,
            most_rounds=2,
        ),
        Row(
            "wake-10000",
            "waking an object that has 10,000 sockets",
            "ms",
            "less",
            wake,
            10_000,
            alone=True,
            fewer=True,
            sleeps=True,
            most_rounds=2,
        ),
    )
}
"""All of them, by name, in the order of the table."""
