"""Who takes part in the race: how each is started, and what it can do."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from roost.common.machine.counters import read_counters
from tests.bench.race import building
from tests.bench.race.building import HERE, Unavailable
from tests.bench.race.processes import end
from tests.bench.running import roost as roost_cluster
from tests.support.ports import free_port

HIBERNATE_AFTER_S = 1.0
"""Idleness after which an object of roost sleeps, so that rows do not wait long; workerd's 10 s cannot be changed."""
_START_TIMEOUT_S = 60.0
_SLEEP_TIMEOUT_S = 60.0
_WORKERD_SLEEPS_AFTER_S = 13.0
"""Ten, and some to be sure: it cannot be asked."""


def _nothing() -> None:
    pass


def _plain(kind: str) -> str:
    return f"/{kind}/race"


@dataclass(frozen=True)
class Server:
    """A server that runs.

    Attributes:
        port: Where, on 127.0.0.1.
        roots: Process ids; all that descend from them belong to it.
        path: The path of a request for an object of a kind: ``echo``, ``cast``, ``wake``.
        await_asleep: Returns when idle objects have left memory, where there is such a thing.
    """

    port: int
    roots: Sequence[int]
    path: Callable[[str], str] = field(default=_plain)
    await_asleep: Callable[[], None] = field(default=_nothing)


class Peer(ABC):
    """One of those compared.

    Attributes:
        name: On the command line and in the raw data.
        most_connections: As many as one server of it can have with 20,000 descriptors a process.
        wakes: Whether it has objects that sleep, so that waking can be measured.
        routers: Processes that hold its sockets; what has one is compared with roost's one router, what has two with
            its two. Zero: with both.
    """

    name: ClassVar[str]
    most_connections: ClassVar[int] = 19_500
    wakes: ClassVar[bool] = False
    routers: ClassVar[int] = 0

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    @abstractmethod
    def prepare(self) -> str:
        """Install or compile what is needed; returns what it is, with its version.

        Raises:
            Unavailable: It cannot take part; the message says why.
        """

    @abstractmethod
    def start(self) -> AbstractContextManager[Server]:
        """A server that runs for as long as the ``with`` block lasts."""


@contextlib.contextmanager
def _running(
    *words: str | Path,
    port: int,
    folder: Path | None = None,
    path: Callable[[str], str] = _plain,
    await_asleep: Callable[[], None] = _nothing,
) -> Iterator[Server]:
    """A server that is one command; it may start processes of its own."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            words, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            if not _serves(process, port):
                log.seek(0)
                said = log.read().decode(errors="replace")[-2000:]
                raise Unavailable(f"{Path(str(words[0])).name} does not serve: {said}")
            yield Server(port, [process.pid], path, await_asleep)
        finally:
            end(process)


def _serves(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the server accepts connections; false when it has ended, or needs too long."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            time.sleep(0.05)
    return False


class Roost(Peer):
    """One router and one shard."""

    name = "roost"
    wakes = True
    routers = 1

    def prepare(self) -> str:
        return f"roost {version('roost')}, {self.routers} router{'s' * (self.routers > 1)} and a shard"

    @contextlib.contextmanager
    def start(self) -> Iterator[Server]:
        with roost_cluster(
            shard=[f"--hibernate-after-s={HIBERNATE_AFTER_S}"],
            log_level="error",  # a router warns that it has no supervisor
            routers=self.routers,
        ) as cluster:
            yield Server(
                cluster.port,
                list(cluster.pids.values()),
                await_asleep=lambda: _await_asleep(cluster.run / "shard-1.counters"),
            )


class RoostTwo(Roost):
    """Two routers and one shard."""

    name = "roost2"
    most_connections = 39_000
    routers = 2


def _await_asleep(counters: Path) -> None:
    # The next publication may hold figures from just before the call, the one after it does not.
    fresh = read_counters(counters).publications + 2
    deadline = time.monotonic() + _SLEEP_TIMEOUT_S
    while True:
        reading = read_counters(counters)
        if reading.publications >= fresh and reading.values["objects_awake"] == 0:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"objects do not fall asleep: {reading.values['objects_awake']} are awake")
        time.sleep(0.05)


class Bare(Peer):
    """The limit in Python."""

    name = "bare"
    routers = 1

    def prepare(self) -> str:
        return f"epoll and socket.send in Python, {self.routers} process{'es' * (self.routers > 1)}"

    def start(self) -> AbstractContextManager[Server]:
        port = free_port()
        options = (f"--port={port}", f"--processes={self.routers}")
        return _running(sys.executable, HERE / "bare.py", *options, port=port)


class BareTwo(Bare):
    """The same with two processes."""

    name = "bare2"
    most_connections = 39_000
    routers = 2


class BareC(Peer):
    """The limit in C, for information."""

    name = "bare-c"
    routers = 1

    def prepare(self) -> str:
        building.compiled(self._cache, "bare.c")
        return f"epoll and send() in C, {self.routers} process{'es' * (self.routers > 1)}"

    def start(self) -> AbstractContextManager[Server]:
        port = free_port()
        return _running(building.compiled(self._cache, "bare.c"), str(port), str(self.routers), port=port)


class BareCTwo(BareC):
    """The same with two processes."""

    name = "bare-c2"
    most_connections = 39_000
    routers = 2


class Workerd(Peer):
    """The reference runtime: an object with the hibernation API, in-memory storage."""

    name = "workerd"
    most_connections = 9_500  # two descriptors a connection
    wakes = True

    def prepare(self) -> str:
        return building.output_of([str(building.workerd(self._cache)), "--version"])

    @contextlib.contextmanager
    def start(self) -> Iterator[Server]:
        port = free_port()
        with tempfile.TemporaryDirectory(prefix="roost-race-") as folder:
            shutil.copy(HERE / "worker.js", folder)
            config = Path(folder) / "config.capnp"
            config.write_text((HERE / "workerd.capnp").read_text().replace("PORT", str(port)))
            asleep = partial(time.sleep, _WORKERD_SLEEPS_AFTER_S)
            program = building.workerd(self._cache)
            with _running(program, "serve", config, port=port, await_asleep=asleep) as server:
                yield server


class Websockets(Peer):
    """One process on the asyncio API of ``websockets``."""

    name = "websockets"

    def prepare(self) -> str:
        return f"websockets {version('websockets')}, asyncio API on uvloop {version('uvloop')}, one process"

    def start(self) -> AbstractContextManager[Server]:
        port = free_port()
        return _running(sys.executable, HERE / "websockets_server.py", f"--port={port}", port=port)


class DurableActors(Peer):
    """The nearest rival, in its ``dev`` mode without watching the source: loopback, files, no cloud."""

    name = "durable-actors"

    def prepare(self) -> str:
        program = building.durable_actors(self._cache) / "bin" / "durable-actors"
        return building.output_of([str(program), "--version"]).replace(", version", "") + " in dev mode"

    @contextlib.contextmanager
    def start(self) -> Iterator[Server]:
        port = free_port()
        program = building.durable_actors(self._cache) / "bin" / "durable-actors"
        with tempfile.TemporaryDirectory(prefix="roost-race-") as name:
            folder = Path(name)
            (folder / "src").mkdir()
            shutil.copy(HERE / "actors.py", folder / "src" / "actors.py")
            (folder / "pyproject.toml").write_text('[project]\nname = "race"\nversion = "1"\n')
            options = ("dev", "--no-watch", f"--port={port}", f"--data-dir={folder / 'data'}")
            with _running(program, *options, port=port, folder=folder, path=partial(_grant, port)) as server:
                yield server


def _grant(port: int, kind: str) -> str:
    """The path that durable-actors permits for a minute to connect to an object: one for all connections."""
    request = Request(
        f"http://127.0.0.1:{port}/v1/projects/local/actors/{kind.capitalize()}/race/find-websocket",
        data=b'{"metadata": null}',
        headers={"content-type": "application/json"},
    )
    with urlopen(request, timeout=30) as answer:
        url = urlsplit(json.load(answer)["websocketUrl"])
    if url.port != port:
        raise RuntimeError(f"durable-actors wants to be reached at {url.netloc}, not at port {port}")
    return f"{url.path}?{url.query}"


PEERS: dict[str, type[Peer]] = {
    peer.name: peer for peer in (Roost, RoostTwo, Bare, BareTwo, BareC, BareCTwo, Workerd, Websockets, DurableActors)
}
"""All of them, by name, in the order of the table."""
