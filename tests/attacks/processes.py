"""The processes of an attack: where they run, and what memory they have.

With two processors the router's loop has one of its own, and all others share the rest: so what an attacker can send is
what one core can send, and the router's figures are its own. The router's other threads are among the others, above all
that of ZeroMQ: beside a loop that never waits, as in a flood, the kernel lets it wait for the end of a slice of 3 ms
at each message of a link. On a machine with a processor to spare it does not.

What the neighbour waits for should be the cluster, and not the attackers beside it, which would have machines of their
own. So the neighbour, which sleeps nearly all the time, is given the processor whenever it wants it (a real-time
priority, where that is allowed). The attackers give way to the shard: beside processes of the same policy it would wait
for the end of their time slices, up to a tick of the kernel (4 ms), at each echo. They have all that the shard leaves,
and a hundredth of the processor for certain (``SCHED_IDLE``): one write of theirs, a fraction of a millisecond, has
tens of thousands of small things for the router and the shard to do.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path


def pin(router: int, others: list[int]) -> str:
    """Give the router's loop a processor of its own; returns what was done, in words."""
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        return "all on one processor"
    for process in (router, *others):
        _pin(process, set(processors[1:]))
    os.sched_setaffinity(router, {processors[0]})  # its first thread, which the loop runs on
    return f"the router's loop on a processor of its own, all others on {len(processors) - 1}"


def _pin(process: int, processors: set[int]) -> None:
    for thread in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), processors)


@contextlib.contextmanager
def giving_way(processes: Iterable[int]) -> Iterator[None]:
    """Have *processes* run while nobody else of this session wants the processor. What wakes up takes it from them at
    once: by the kernel's rules, other than for a process that is merely nice. In the end they are like all others
    again: on a machine that others keep busy they would hardly come to their end."""
    processes = tuple(processes)
    try:
        for process in processes:
            os.sched_setscheduler(process, os.SCHED_IDLE, os.sched_param(0))
        yield
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setscheduler(process, os.SCHED_OTHER, os.sched_param(0))


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Whoever calls this has the processor whenever it wants it, as far as the system allows that."""
    before = os.sched_getaffinity(0)
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    try:
        if len(before) > 1:
            os.sched_setaffinity(0, set(sorted(before)[1:]))
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.sched_setaffinity(0, before)


def private_bytes(process: int) -> int:
    """Memory that is a process's own, bytes."""
    return _status(process)["RssAnon"]


def forget_peak(process: int) -> None:
    """Let the peak of a process's memory begin anew."""
    Path(f"/proc/{process}/clear_refs").write_text("5")


def peak_bytes(process: int) -> int:
    """The most private memory that a process has had since ``forget_peak``."""
    status = _status(process)
    return max(status["VmHWM"] - status["RssFile"] - status["RssShmem"], status["RssAnon"])


def _status(process: int) -> dict[str, int]:
    found = {}
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            found[name] = int(value.split()[0]) * 1024
    return found
