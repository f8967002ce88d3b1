"""A real cluster for tests: router and shard processes on a free port, awaited until ready, gone at the end.

::

    with Cluster(app="deploy/examples/chat.py", routers=2, shards=2, shard={"hibernate_after_s": 0.2}) as cluster:
        await websockets.connect(cluster.ws("/chat-room/lobby"))

Starting blocks (it is done once for many tests), all else is quick. Whatever happens, leaving the ``with`` block ends
every process and removes every file; a process that had to be killed, or whose log shows a defect of ours, fails the
test then.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar

from roost.common import limits
from roost.common.cluster.cluster_map import ClusterMap, balancing, moving, without
from roost.common.cluster.directory_file import FILE_NAME, DirectoryFile
from roost.common.ids import Incarnation, id_from_name, slot_of
from roost.common.machine.counters import read_counters
from roost.common.machine.run_folder import counters_path
from tests.support.directories import update
from tests.support.folders import counters_in, map_in
from tests.support.ports import free_port
from tests.support.waiting import until

REPOSITORY = Path(__file__).resolve().parents[2]
START_DEADLINE_S = 30.0
STOP_DEADLINE_S = 15.0

DEFECTS = re.compile(
    r"Exception in callback|exception was never retrieved|was never awaited|Task was destroyed|unexpected \w+Error"
    r"|Fatal Python error|bad record in a|could not be applied|given up after batch"
    r"|error of roost's own"
)
"""What no log may say, whatever a test does to the cluster: traces of a defect of ours rather than of the user's."""
ON_PURPOSE = "on purpose"
"""What a test's own error says, so that its traces are not taken for a defect."""


def options(settings: Mapping[str, Any]) -> list[str]:
    """Settings by field name as a command line: ``{"max_body_bytes": 5}`` → ``--max-body-bytes 5``."""
    words: list[str] = []
    for name, value in settings.items():
        option = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-", 1))
        elif isinstance(value, (list, tuple)):
            words += [f"{option}={item}" for item in value]
        else:
            words.append(f"{option}={value}")
    return words


class ProcessFailed(AssertionError):
    """A process did not start, or did not end, as it should."""


@dataclass
class Process:
    """One process of a cluster, in one of its lives."""

    kind: str
    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    ready: IO[bytes]
    incarnation: int = 0

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def log_text(self, since: int = 0) -> str:
        """What it has logged, from byte *since*."""
        return self.log.read_bytes()[since:].decode(errors="replace")

    def await_ready(self, deadline: float) -> None:
        """Wait for the line on its ready pipe.

        Raises:
            ProcessFailed: It said that it cannot start, ended, or said nothing until *deadline* (monotonic seconds).
        """
        with self.ready:
            said, _, _ = select.select([self.ready], [], [], max(0.0, deadline - time.monotonic()))
            line = self.ready.readline() if said else None
        if line is None:
            raise ProcessFailed(f"{self.name} was not ready within {START_DEADLINE_S:g} s:\n{self.log_text()}")
        if not line:
            raise ProcessFailed(f"{self.name} ended with {self.popen.wait(5)} before it was ready:\n{self.log_text()}")
        report = json.loads(line)
        if not report.get("ready"):
            code = self.popen.wait(STOP_DEADLINE_S)
            assert code == report["exit_code"], f"{self.name} announced {report} and ended with {code}"
            raise ProcessFailed(f"{self.name} cannot start: {report['error']}\n{self.log_text()}")
        self.incarnation = report["incarnation"]

    def stop(self, deadline_s: float = STOP_DEADLINE_S) -> int:
        """Tell it to end and wait for that; kill it when it takes too long.

        Returns:
            Its exit code.

        Raises:
            ProcessFailed: It had to be killed.
        """
        if self.alive:
            self.popen.terminate()
        return self.ended(deadline_s)

    def ended(self, deadline_s: float = STOP_DEADLINE_S) -> int:
        """Wait for its end, which it has been told of; kill it when it takes too long. As ``stop``, but without a
        second signal: one that comes when the process is about to exit would become its exit code."""
        try:
            return self.popen.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise ProcessFailed(
                f"{self.name} did not end within {deadline_s:g} s of SIGTERM:\n{self.log_text()[-4000:]}"
            ) from None


@dataclass
class Cluster:
    """Routers ``router-1`` … and shards ``shard-1`` … on one port of 127.0.0.1.

    Attributes:
        app: The user's file.
        routers: How many routers share the port.
        shards: How many shards share the slots.
        router: Settings of each router, by field name.
        shard: Settings of each shard.
        limits: Constants of ``roost.common.limits`` in all processes, so that little is needed to reach a bound.
        fails_on_defects: Whether traces of a defect in a log fail the test at the end.
        own_sessions: Whether each process has a session of its own. Linux shares a processor out among sessions first
            (``sched_autogroup``): what one process gives way to is to be in its session.
    """

    app: str | Path
    routers: int = 1
    shards: int = 1
    router: Mapping[str, Any] = field(default_factory=dict)
    shard: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    fails_on_defects: bool = True
    own_sessions: bool = True
    host: str = "127.0.0.1"
    port: int = 0

    running: ClassVar[list[Cluster]] = []
    """Clusters whose logs belong into the report of a test that fails now."""

    def __post_init__(self) -> None:
        # Not under pytest's tmp_path: the path of a Unix socket may have 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="roost-test-"))
        self.data, self.run = self.folder / "data", self.folder / "run"
        self.processes: dict[str, Process] = {}
        self.port = self.port or free_port()

    # --- starting and ending ------------------------------------------------------------------------------------

    def __enter__(self) -> Cluster:
        try:
            names = [("shard", f"shard-{n + 1}") for n in range(self.shards)]
            names += [("router", f"router-{n + 1}") for n in range(self.routers)]
            deadline = time.monotonic() + START_DEADLINE_S
            started = [self.spawn(kind, name) for kind, name in names]
            for process in started:
                process.await_ready(deadline)
        except BaseException:
            self._clean_up()
            raise
        Cluster.running.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        Cluster.running.remove(self)
        problems = []
        try:
            # Routers first, as a supervisor does it: they say good-bye to the clients.
            for members in ("router", "shard"):
                ending = [process for process in self.processes.values() if process.kind == members and process.alive]
                for process in ending:
                    process.popen.terminate()
                for process in ending:
                    try:
                        code = process.ended()
                    except ProcessFailed as failure:
                        problems.append(str(failure))
                    else:
                        if code != 0:
                            problems.append(f"{process.name} ended with {code}:\n{process.log_text()[-4000:]}")
            if self.fails_on_defects:
                problems += self.defects()
        finally:
            self._clean_up()
        if problems and kind is None:
            raise ProcessFailed("\n".join(problems))

    def _clean_up(self) -> None:
        for process in self.processes.values():
            if process.alive:
                process.popen.send_signal(signal.SIGCONT)
                process.popen.kill()
                process.popen.wait()
            process.ready.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def spawn(self, kind: str, name: str, **settings: Any) -> Process:
        """Start a member without waiting for it; *settings* are beside those of its kind."""
        given: dict[str, Any] = {"name": name, "data": self.data, "run": self.run, "drain_timeout_s": 1.0}
        if kind == "router":
            given |= {"host": self.host, "port": self.port, **self.router}
        else:
            given |= {"app": self.app, "initial_shards": self.shards, **self.shard}
        given |= settings
        reading, writing = os.pipe()
        log = self.folder / f"{name}.log"
        try:
            with log.open("ab") as output:
                popen = subprocess.Popen(
                    [sys.executable, "-P", *self._program(kind), *options(given), f"--ready-fd={writing}"],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(writing,),
                    cwd=REPOSITORY,
                    env={**os.environ, "PYTHONPATH": self._python_path()},
                    # A Ctrl-C in the terminal is for pytest; it ends us in order.
                    start_new_session=self.own_sessions,
                    process_group=None if self.own_sessions else 0,
                )
        finally:
            os.close(writing)
        process = self.processes[name] = Process(kind, name, popen, log, os.fdopen(reading, "rb"))
        return process

    @staticmethod
    def _python_path() -> str:
        """So that apps of tests can import ``tests``."""
        return os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))

    def _program(self, kind: str) -> list[str]:
        if not self.limits:
            return ["-m", f"roost.{kind}"]
        # Before anything else is imported: modules take over the names.
        lines = ["import sys", "from roost.common import limits"]
        for name, value in self.limits.items():
            assert hasattr(limits, name), f"there is no limit {name}"
            lines.append(f"limits.{name} = {value}")
        lines += [f"from roost.{kind}.__main__ import main", "sys.exit(main())"]
        return ["-c", "\n".join(lines)]

    def start(self, kind: str, name: str, **settings: Any) -> Process:
        """Start a member, or start one again, and wait until it is ready."""
        process = self.spawn(kind, name, **settings)
        process.await_ready(time.monotonic() + START_DEADLINE_S)
        return process

    def kill(self, name: str) -> Process:
        """Kill a member with SIGKILL; returns when it is gone."""
        process = self.processes[name]
        process.popen.kill()
        process.popen.wait()
        return process

    def kill_router(self, name: str) -> None:
        """Kill a router and take it off the map, as the supervisor would."""
        self.forget(self.kill(name).incarnation)

    def forget(self, incarnation: int) -> None:
        """Propose the map without a dead router; one that ended in order has left by itself."""
        directory = DirectoryFile(self.data / FILE_NAME)
        try:
            while incarnation in (now := directory.map()).members:
                directory.propose(without(now, Incarnation(incarnation)))
        finally:
            directory.close()

    def send_to(self, *shards: str) -> None:
        """Ask for all slots to be on *shards*; on all shards without any."""
        directory = DirectoryFile(self.data / FILE_NAME)
        try:
            update(
                directory,
                lambda current: moving(
                    current,
                    balancing(
                        current,
                        {each.seat: each.incarnation for each in current.shards if not shards or each.name in shards},
                    ),
                ),
            )
        finally:
            directory.close()

    # --- where things are ---------------------------------------------------------------------------------------

    def http(self, path: str) -> str:
        return f"http://{self.host}:{self.port}{path}"

    def ws(self, path: str) -> str:
        return f"ws://{self.host}:{self.port}{path}"

    def map(self) -> ClusterMap:
        """The cluster map as it is now."""
        return map_in(self.data)

    def owner(self, namespace: str, name: str) -> Process:
        """The shard process that hosts an object."""
        member = self.map().owner(slot_of(id_from_name(namespace, name)))
        assert member is not None, "no shard owns slots yet"
        return self.processes[member.name]

    def counters(self, name: str = "router-1") -> dict[str, int]:
        """What a member has published last."""
        return counters_in(self.run, name)

    async def published(self, name: str = "router-1") -> dict[str, int]:
        """The counters of a member as they are after the call."""
        path = counters_path(self.run, name)
        # The next publication may hold figures from just before the call, the one after it does not.
        fresh = read_counters(path).publications + 2
        await until(f"{name} to publish its counters", lambda: read_counters(path).publications >= fresh)
        return self.counters(name)

    async def asleep(self, namespace: str, name: str) -> None:
        """Wait until the shard that hosts an object has none awake, by figures that it has published since the call."""
        shard = self.owner(namespace, name).name
        await self.published(shard)
        await until(f"{namespace}/{name} to fall asleep", lambda: self.counters(shard)["objects_awake"] == 0)

    def names_on(self, namespace: str, shard: str, count: int, stem: str = "object") -> list[str]:
        """Names of *count* objects that *shard* hosts."""
        map_ = self.map()
        found = []
        for number in range(100_000):
            owner = map_.owner(slot_of(id_from_name(namespace, f"{stem}-{number}")))
            if owner is not None and owner.name == shard:
                found.append(f"{stem}-{number}")
                if len(found) == count:
                    return found
        raise AssertionError(f"{shard} owns next to nothing")

    # --- logs ---------------------------------------------------------------------------------------------------

    def log_positions(self) -> dict[str, int]:
        """Where each log ends now."""
        return {name: process.log.stat().st_size for name, process in self.processes.items()}

    def logs_since(self, positions: Mapping[str, int]) -> str:
        """What all logs said after *positions*, by process."""
        parts = []
        for name, process in self.processes.items():
            text = process.log_text(positions.get(name, 0))
            if text:
                parts.append(f"--- {name}\n{text[-20_000:]}")
        return "\n".join(parts)

    def defects(self) -> list[str]:
        """The places in the logs that show a defect."""
        found = []
        for name, process in self.processes.items():
            text = process.log_text()
            for match in DEFECTS.finditer(text):
                if ON_PURPOSE in text[match.start() : match.end() + 1000]:
                    continue
                found.append(f"{name} logged a defect:\n{text[max(0, match.start() - 500) : match.end() + 2500]}")
                break
        return found
