"""The bare server of the race, for a broadcast of as many sockets by as little as possible."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from tests.bench.running import await_port
from tests.support.cluster import REPOSITORY
from tests.support.ports import free_port

PROGRAM = REPOSITORY / "tests" / "bench" / "race" / "bare.py"
END_S = 20.0


@contextlib.contextmanager
def bare_server(processes: int) -> Iterator[int]:
    """A bare server in so many processes; gives its port. A path that begins with ``/cast`` is for broadcasts."""
    port = free_port()
    process = subprocess.Popen([sys.executable, PROGRAM, f"--port={port}", f"--processes={processes}"])
    try:
        await_port(port)
        yield port
    finally:
        process.terminate()  # it ends the others
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
