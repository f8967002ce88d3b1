"""What the benchmarks share: starting a router and a shard, and what the system says of processes and the machine."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.support.ports import free_port

HERE = Path(__file__).parent
START_TIMEOUT_S = 20.0
_TICKS = os.sysconf("SC_CLK_TCK")
_LIBRARIES = ("pyzmq", "uvloop", "websockets", "httptools")


@dataclass(frozen=True)
class Roost:
    """A cluster of one shard and one router, or several.

    Attributes:
        port: The public port.
        pids: Process ids by member name.
        run: The run folder, with the counter files.
    """

    port: int
    pids: dict[str, int]
    run: Path


@contextlib.contextmanager
def roost(
    *,
    shard: Sequence[str] = (),
    router: Sequence[str] = (),
    log_level: str = "warning",
    python: str = sys.executable,
    app: Path = HERE / "echo_app.py",
    routers: int = 1,
) -> Iterator[Roost]:
    """A running cluster with the app of the benchmarks, or another.

    Args:
        shard: More arguments for the shard.
        router: More arguments for the router.
        log_level: What both may log.
        python: The interpreter, and with it the environment, whose roost is run.
        app: The user's file.
        routers: How many routers share the port.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="roost-bench-") as folder:
        run = Path(folder) / "run"
        common = [f"--data={folder}/data", f"--run={run}", f"--log-level={log_level}"]
        processes: dict[str, subprocess.Popen[bytes]] = {}
        pending: list[int] = []
        try:
            processes["shard-1"], ready = _start(python, "shard-1", [*common, f"--app={app}", *shard])
            pending.append(ready)
            for number in range(1, routers + 1):
                name = f"router-{number}"
                processes[name], ready = _start(python, name, [*common, f"--port={port}", *router])
                pending.append(ready)
            while pending:
                _await_ready(pending.pop())
            yield Roost(port, {name: process.pid for name, process in processes.items()}, run)
        finally:
            for ready in pending:
                os.close(ready)
            for process in reversed(processes.values()):
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _start(python: str, name: str, argv: Sequence[str]) -> tuple[subprocess.Popen[bytes], int]:
    kind = name.partition("-")[0]
    ours, theirs = os.pipe()
    try:
        process = subprocess.Popen(
            [python, "-P", "-m", f"roost.{kind}", f"--name={name}", f"--ready-fd={theirs}", *argv],
            pass_fds=(theirs,),
        )
    finally:
        os.close(theirs)
    return process, ours


def _await_ready(descriptor: int) -> None:
    with open(descriptor, "rb", buffering=0) as ready:
        if not select.select([ready], [], [], START_TIMEOUT_S)[0]:
            raise RuntimeError("a process did not become ready in time")
        report = json.loads(ready.readline() or b'{"error": "the process died"}')
    if "error" in report:
        raise RuntimeError(report["error"])


def await_port(port: int) -> None:
    """Wait until something accepts connections."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a process has used, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def pss_bytes(pid: int) -> int:
    """Bytes of memory of a process, pages that it shares counted in part. Kernel memory, such as socket buffers, is
    not in it."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no Pss of process {pid}")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processors": os.cpu_count(),
        "model": model[0].split(":")[1].strip() if model else platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "load_before": os.getloadavg(),
        "when": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def write_report(report: dict[str, Any], path: Path | None) -> None:
    """Write the report to *path*, if there is one."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=2) + "\n")
        print(f"raw data: {path}")
