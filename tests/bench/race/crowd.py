"""The client of the race, from Python's side: ``client.c`` obeys lines and answers each with a line of JSON."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

CLIENT = ("client.c", "connections.c", "client.h")
"""What it is compiled from."""
PATIENCE_S = 20.0
"""Seconds beyond its own length that a command may take."""
_MARGIN_S = 10.0
"""Seconds more until the client is given up that does not even say so."""


class CrowdFailed(Exception):
    """The client found something wrong, or does not answer: nothing that it measured counts."""


class Crowd:
    """Connections to one server, for as long as the ``with`` block lasts.

    Args:
        program: ``client.c``, compiled.
        port: Where, on 127.0.0.1.
        path: Of the request.
        processes: How many the connections spread over.
        patience_s: Seconds beyond its own length that a command may take.
    """

    def __init__(
        self, program: Path, port: int, path: str, *, processes: int = 1, patience_s: float = PATIENCE_S
    ) -> None:
        words = ["--port", str(port), "--path", path, "--processes", str(processes), "--patience", str(patience_s)]
        self._patience_s = patience_s
        self._rest = b""
        self._process = subprocess.Popen([program, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def __enter__(self) -> Crowd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._ask("quit", 0)
        finally:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.close()
            self._process.stdout.close()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    @property
    def pid(self) -> int:
        """The process that its others are children of."""
        return self._process.pid

    def connect(self, count: int, at_once: int = 64) -> dict[str, Any]:
        """Open connections until there are *count*, with at most *at_once* handshakes under way.

        Returns:
            opened, seconds, per_s, cpu (shares of a processor, one of each process).
        """
        return self._ask(f"connect {count} {at_once}", 0)

    def echo(self, seconds: float, warm_s: float, size: int) -> dict[str, Any]:
        """Each connection has one message of *size* bytes under way, for *warm_s* and then *seconds*.

        Returns:
            round_trips, all (with those of the warm time), per_s, p50_us, p90_us, p99_us, max_us, cpu.
        """
        return self._ask(f"echo {seconds} {warm_s} {size}", seconds + warm_s)

    def broadcast(self, seconds: float, warm: int, in_flight: int, size: int) -> dict[str, Any]:
        """Messages of the first connection that all get, *in_flight* at a time, *warm* and then as many as go into
        *seconds*.

        Returns:
            broadcasts, all (with the warm ones), seconds, frames_per_s, complete_p50_ms, complete_max_ms (from the
            sending of one until all have it), reordered (frames that came after one that was sent later), cpu.
        """
        return self._ask(f"broadcast {seconds} {warm} {in_flight} {size}", seconds)

    def ask(self, text: str) -> tuple[str, float]:
        """Send *text* on the first connection.

        Returns:
            The text of the next message on it, and the seconds until it came.
        """
        found = self._ask(f"ask {text}", 0)
        return found["answer"], found["us"] / 1e6

    def _ask(self, line: str, length_s: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
        except BrokenPipeError:
            pass  # it has ended, and said why
        found: dict[str, Any] = json.loads(self._line(line, time.monotonic() + length_s + self._patience_s + _MARGIN_S))
        if "error" in found:
            raise CrowdFailed(found["error"])
        return found

    def _line(self, asked: str, deadline: float) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._rest:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise CrowdFailed(f"the client does not answer to {asked!r}")
            data = os.read(descriptor, 65_536)
            if not data:
                raise CrowdFailed(f"the client ended at {asked!r}")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line
