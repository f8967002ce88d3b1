"""``roost up`` with its members in a folder of its own, and everything that a fault does to it."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from roost.common.cluster.cluster_map import ClusterMap
from roost.common.ids import id_from_name, slot_of
from roost.common.machine.run_folder import run_folder
from roost.common.runtime.processes import python_words
from roost.deploy.commands import client
from roost.deploy.processes.run_folder import live_members
from tests.support.cluster import DEFECTS, ON_PURPOSE, REPOSITORY
from tests.support.folders import counters_in, map_in
from tests.support.ports import free_port
from tests.support.waiting import until

APP = Path(__file__).with_name("app.py")
DEADLINE_S = 40.0
"""Seconds for whatever a command does to a loaded cluster."""
TAIL = 120
"""Lines of the log that a failure shows."""


class Supervisor:
    """One ``roost up``. What it and its members say is read from a pipe: no file that a full disk could spoil."""

    def __init__(self, words: list[str]) -> None:
        self.popen = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=REPOSITORY
        )
        self.said: list[str] = []
        self._ears = threading.Thread(target=self._listen, daemon=True)
        self._ears.start()

    def _listen(self) -> None:
        assert self.popen.stdout is not None
        with self.popen.stdout as stdout:
            for line in stdout:  # to the end of the last member: they have inherited the pipe
                self.said.append(line.rstrip())

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def heard(self, pattern: str) -> bool:
        """Whether a line of it matches."""
        return any(re.search(pattern, line) for line in list(self.said))

    def hang_up(self) -> None:
        """Wait until all that could speak have ended."""
        self.popen.wait(DEADLINE_S)
        self._ears.join(DEADLINE_S)


class Supervised:
    """A cluster under a supervisor, as an async context manager.

    Args:
        shards: How many.
        routers: How many.
        app: The user's file; it is copied into the folder, so that a test may change it.
        options: Further words for ``roost up``.

    Attributes:
        app: The copy.
        notes: The file into which objects write what outlives them.
        phase: What the scenario is doing, for the report of a failure.
    """

    def __init__(self, *, shards: int = 2, routers: int = 2, app: Path = APP, options: tuple[str, ...] = ()) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="roost-faults-"))
        self.data = self.folder / "data"
        self.run = run_folder(self.data)
        self.notes = self.folder / "notes"
        self.app = self.folder / "app.py"
        shutil.copy(app, self.app)
        self.port = free_port()
        self.supervisors: list[Supervisor] = []
        self.phase = "start"
        self._shards, self._routers, self._options = shards, routers, options
        self._began = time.monotonic()

    # --- its life -----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Supervised:
        try:
            await self.up()
        except BaseException as error:
            self._explain(error)
            self._sweep()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.enter("the end of all")
                if self.processes():
                    await self.down()
                self._check_the_end()
        except BaseException as late:
            error = late
            raise
        finally:
            if error is not None:
                self._explain(error)
            self._sweep()

    async def up(self) -> Supervisor:
        """``roost up``; returns once it serves."""
        options = ["--port", self.port, "--admin-port", 0, "--var", f"NOTES={self.notes}", *self._options]
        numbers = ["--shards", self._shards, "--routers", self._routers]
        now = Supervisor(self.words("up", self.app, *options, *numbers))
        self.supervisors.append(now)
        await until("roost up", lambda: now.heard("roost serves at") or not now.alive, DEADLINE_S)
        assert now.alive, f"roost up has ended with {now.popen.wait()}: {now.said}"
        return now

    async def down(self) -> None:
        """``roost down``; returns when the supervisor's process is gone as well."""
        last = self.supervisors[-1]
        supervised = last.alive
        await self.command("down")
        code = await asyncio.to_thread(last.popen.wait, DEADLINE_S)
        assert code == 0 or not supervised, f"the supervisor ended with {code}"

    def _check_the_end(self) -> None:
        """Nothing may be left of an ended cluster, and no log may tell of a defect."""
        left = [f"process {pid}" for pid in self.processes()]
        left += [str(path) for path in (self.run, *self.run.glob("*")) if path.exists()]
        assert not left, f"left behind: {left}"
        for supervisor in self.supervisors:
            supervisor.hang_up()
        text = self.log()
        for match in DEFECTS.finditer(text):
            if ON_PURPOSE not in text[match.start() : match.end() + 1000]:
                raise AssertionError(f"a defect in the log: {text[max(0, match.start() - 500) : match.end() + 2500]}")

    def _explain(self, error: BaseException) -> None:
        """Say in what phase it failed, who was there, and what they logged."""
        lines = [f"in the phase {self.phase!r}, {time.monotonic() - self._began:.1f} s after the start"]
        try:
            found = self.map()
            lines.append(f"map {found.version}, {len(found.next_owners)} slots in transit")
            lines += [
                f"  {member.name} incarnation {member.incarnation} pid {member.pid}: {len(found.slots_of(inc))} slots"
                for inc, member in found.members.items()
            ]
        except Exception as second:
            lines.append(f"the map cannot be read: {second}")
        lines.append(f"processes: {live_members(self.run) if self.run.exists() else {}}")
        lines += self.log().splitlines()[-TAIL:]
        error.add_note("\n".join(lines))

    def _sweep(self) -> None:
        for supervisor in self.supervisors:
            if supervisor.alive:
                supervisor.popen.kill()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        for supervisor in self.supervisors:
            supervisor.hang_up()
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.run, ignore_errors=True)

    # --- asking it ----------------------------------------------------------------------------------------------

    def enter(self, phase: str) -> None:
        """Name what comes now."""
        self.phase = phase

    def words(self, *words: object) -> list[str]:
        """A command line of ``roost``."""
        return [*python_words("roost"), *map(str, words), "--data", str(self.data)]

    async def command(self, *words: object, code: int = 0) -> str:
        """Run a command to its end, which has to be *code*; gives what it said."""
        done = await asyncio.to_thread(
            subprocess.run,
            self.words(*words),
            capture_output=True,
            text=True,
            timeout=2 * DEADLINE_S,
            cwd=REPOSITORY,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == code, f"`roost {' '.join(map(str, words))}` ended with {done.returncode}: {said}"
        return said

    async def status(self) -> dict[str, Any]:
        """What ``roost status --json`` says."""
        return (await asyncio.to_thread(client.status, self.data)).to_dict()

    def map(self) -> ClusterMap:
        """The cluster map as it is now."""
        return map_in(self.data)

    def names_on(self, namespace: str, shard: str, count: int) -> tuple[str, ...]:
        """Names of *count* objects that *shard* hosts now."""
        found = self.map()
        member = found.named(shard)
        assert member is not None, f"there is no {shard}"
        names = map(str, range(100_000))
        theirs = (n for n in names if found.owners[slot_of(id_from_name(namespace, n))] == member.incarnation)
        return tuple(itertools.islice(theirs, count))

    def counters(self, name: str) -> dict[str, int]:
        """What a member has published last."""
        return counters_in(self.run, name)

    def members(self, stem: str = "") -> dict[str, int]:
        """The pids of the members that live and whose names begin so."""
        return {name: pid for name, pid in live_members(self.run).items() if name.startswith(stem)}

    def noted(self) -> list[tuple[int, int, str, bool, bool]]:
        """The close events that objects have noted: connection, code, reason, clean, redelivered."""
        if not self.notes.exists():
            return []
        lines = [line.split("\t") for line in self.notes.read_text().splitlines()]
        return [(int(who), int(code), reason, clean == "1", again == "1") for who, code, reason, clean, again in lines]

    def processes(self) -> list[int]:
        """All processes that have this data folder in their command line."""
        folder, found = os.fsencode(self.folder), []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if folder in path.read_bytes() and int(path.parent.name) != os.getpid():
                    found.append(int(path.parent.name))
            except OSError:
                continue  # it has ended meanwhile
        return found

    def log(self) -> str:
        """What the supervisors and members have said."""
        return "\n".join(line for supervisor in self.supervisors for line in list(supervisor.said))

    # --- faults -------------------------------------------------------------------------------------------------

    async def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Kill a member; returns its pid when it is gone."""
        pid = self.members()[name]
        end = Watched(pid)
        os.kill(pid, number)
        await end.gone()
        return pid

    async def kill_supervisor(self) -> None:
        """Kill the supervisor; its members stay."""
        last = self.supervisors[-1]
        last.popen.kill()
        await asyncio.to_thread(last.popen.wait)

    async def again(self, name: str, before: int, seconds: float = DEADLINE_S) -> int:
        """Wait until *name* serves in another process than *before*; gives its pid."""

        def serves() -> bool:
            member = self.map().named(name)
            return member is not None and member.pid != before and self.members().get(name) == member.pid

        await until(f"{name} to serve in another process than {before}", serves, seconds)
        return self.members()[name]

    async def attached(self, seconds: float = DEADLINE_S) -> None:
        """Wait until every slot has an owner, none is in transit, and each router has attached all."""

        def all_attached() -> bool:
            found = self.map()
            names = [member.name for member in found.routers]
            return (
                found.has_owners
                and not found.next_owners
                and {member.name: member.pid for member in found.members.values()} == self.members()
                and all(self.counters(name)["slots_attached"] == len(found.owners) for name in names)
            )

        await until("all slots to be attached", all_attached, seconds)

    def limit_files(self, size: int | None) -> list[int]:
        """Let no process of the cluster write a file beyond *size* bytes (``None``: any size); gives their pids."""
        pids = self.processes()
        for pid in pids:
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY if size is None else size, hard))
        return pids


class Watched:
    """A process whose end can be awaited, whoever's child it is."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = os.pidfd_open(pid)

    async def gone(self, seconds: float = DEADLINE_S) -> float:
        """Wait for its end; gives the time (monotonic)."""
        if not await self.within(seconds):
            raise AssertionError(f"waited {seconds:g} s for the end of process {self.pid}")
        return time.monotonic()

    async def within(self, seconds: float) -> bool:
        """Wait at most so long for its end; says whether it came. To be called once."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._fd, ended.set)
        try:
            await asyncio.wait_for(ended.wait(), seconds)
            return True
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._fd)
            os.close(self._fd)
