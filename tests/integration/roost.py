"""The command ``roost`` for tests: ``roost up`` in a data folder of its own, and what it leaves behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roost.common.cluster.cluster_map import ClusterMap
from roost.common.cluster.directory_file import FILE_NAME
from roost.common.machine.run_folder import run_folder
from roost.common.runtime.processes import python_words
from roost.deploy.commands import client
from tests.support.cluster import REPOSITORY
from tests.support.folders import counters_in, map_in
from tests.support.ports import free_port

DEADLINE_S = 30.0


def wait_for(what: str, condition: Callable[[], Any]) -> Any:
    """Poll what nothing announces."""
    give_up_at = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < give_up_at, f"waited {DEADLINE_S:g} s for {what}"
        time.sleep(0.02)
    return found


def lives(pid: int) -> bool:
    """Whether a process runs. One that has ended and that nobody has waited for (an orphan's new parent) does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Roost:
    """The command, in a data folder of its own, with a port of its own."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.run = run_folder(self.data)
        self.port = port or free_port()
        self.up: subprocess.Popen[str] | None = None

    def words(self, *words: object) -> list[str]:
        """A command line of ``roost``."""
        return [*python_words("roost"), *map(str, words), "--data", str(self.data)]

    def command(self, *words: object, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.words(*words),
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            cwd=REPOSITORY,
            check=False,
            **more,
        )

    def up_words(self, *words: object) -> list[object]:
        return ["up", "--port", self.port, "--admin-port", 0, *words]

    def start(self, *words: object, cwd: Path = REPOSITORY) -> subprocess.Popen[str]:
        """``roost up`` in the foreground; returns once it serves."""
        with (self.folder / "stderr").open("w") as stderr:
            self.up = subprocess.Popen(
                self.words(*self.up_words(*words)),
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=cwd,
            )
        assert self.up.stdout is not None
        self.said = []
        for line in self.up.stdout:
            self.said.append(line.rstrip())
            if "roost serves at" in line:
                return self.up
        pytest.fail(f"it ended with {self.up.wait()}:\n{(self.folder / 'stderr').read_text()}")

    def hear(self, pattern: str) -> str:
        """Read on until the supervisor says something."""
        assert self.up is not None
        assert self.up.stdout is not None
        for line in self.up.stdout:
            self.said.append(line.rstrip())
            if re.search(pattern, line):
                return line
        pytest.fail(f"it ended with {self.up.wait()} and never said {pattern!r}: {self.said}")

    def end(self, signum: int = signal.SIGTERM) -> int:
        """Signal the supervisor and wait for its end."""
        assert self.up is not None
        self.up.send_signal(signum)
        return self.finish()

    def finish(self) -> int:
        """Wait for the supervisor's end."""
        assert self.up is not None
        rest, _ = self.up.communicate(timeout=DEADLINE_S)
        self.said += rest.splitlines()
        return self.up.returncode

    def status(self) -> dict[str, Any]:
        """What ``roost status --json`` says, without a process for each look."""
        return client.status(self.data, self.run).to_dict()

    def member(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(member for member in self.status()["members"] if member["name"] == name)
        return found

    def get(self, path: str = "/chat-room/lobby") -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=DEADLINE_S) as response:
                found: int = response.status
                return found
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def map(self) -> ClusterMap:
        """The cluster map as it is now."""
        return map_in(self.data)

    def counters(self, name: str) -> dict[str, int]:
        """What a member has published last."""
        return counters_in(self.run, name)

    def owned(self) -> dict[str, int]:
        """How many slots each shard of the map owns, by name."""
        map_ = self.map()
        return {member.name: len(map_.slots_of(member.incarnation)) for member in map_.shards}

    def left_behind(self) -> list[str]:
        """What an ended cluster must not leave: processes and files."""
        found = [str(path) for path in (self.run, *self.run.glob("*")) if os.path.lexists(path)]
        if self.data.exists():
            found += [path.name for path in self.data.iterdir() if path.name not in (FILE_NAME, "roost.log")]
        found += [f"process {pid}" for pid in processes_of(self.data)]
        return found

    def clean_up(self) -> None:
        if self.up is not None:
            self.up.kill()
            self.up.wait()
        for pid in processes_of(self.data):
            os.kill(pid, signal.SIGKILL)
        if self.up is not None:
            self.up.communicate()  # only now: the members have its stdout, too
        shutil.rmtree(self.run, ignore_errors=True)


def processes_of(data: Path) -> list[int]:
    """The processes that have this data folder in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if os.fsencode(data) in words or b"--data=" + os.fsencode(data) in words:
            found.append(int(path.parent.name))
    return found
