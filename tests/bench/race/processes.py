"""What the system says of the processes of a server: all that descend from those we started."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from tests.bench.running import pss_bytes

_TICKS = os.sysconf("SC_CLK_TCK")


def trees(roots: Iterable[int]) -> list[int]:
    """The processes *roots* and all that descend from them, as far as they live."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[0] != "Z":
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    waiting = [root for root in roots if Path(f"/proc/{root}").exists()]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def cpu_of(roots: Iterable[int]) -> float:
    """Seconds of processor time of all of them, and of those of their children that have ended."""
    total = 0
    for pid in trees(roots):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += sum(map(int, fields[11:15]))
    return total / _TICKS


def memory_of(roots: Iterable[int]) -> int:
    """Bytes of memory of all of them; see ``pss_bytes``."""
    total = 0
    for pid in trees(roots):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += pss_bytes(pid)
    return total


def cpu_of_machine() -> float:
    """Seconds that all processors have worked since the start, for whomever."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    user, nice, system, _, _, irq, softirq, steal = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / _TICKS


def end(process: subprocess.Popen[bytes], patience_s: float = 20.0) -> None:
    """End a process that we started, and with it all that descend from it: SIGTERM to the first of them, SIGKILL to
    whoever is left after *patience_s*."""
    handles = []
    for pid in trees([process.pid]):
        with contextlib.suppress(ProcessLookupError):
            handles.append(os.pidfd_open(pid))  # a number could be somebody else's by the time it is used
    process.terminate()
    deadline = time.monotonic() + patience_s
    for handle in handles:
        if not select.select([handle], [], [], max(0.0, deadline - time.monotonic()))[0]:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)
    process.wait()
