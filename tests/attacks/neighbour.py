"""A client like any other, that measures how long its echoes take while others attack."""

from __future__ import annotations

import socket
import time

from tests.attacks.floods import connected
from tests.attacks.table import Echoes
from tests.support.frames import TEXT, frame

PAUSE_S = 0.003
"""Seconds between two echoes."""
PATIENCE_S = 20.0
"""Seconds after which an echo does not come any more."""
MESSAGE = "neighbour"
_ANSWER = bytes((0x80 | TEXT, len(MESSAGE))) + MESSAGE.encode()


class Neighbour:
    """One client; it connects again when its connection is lost.

    Args:
        port: The cluster's.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def measure(self, until_s: float) -> Echoes:
        """Echo until *until_s*, monotonic seconds; the one that is under way then is waited for."""
        took, lost = [], 0
        while (began := time.monotonic()) < until_s:
            try:
                self._echo()
            except OSError:
                lost += 1
                self.close()
            took.append(time.monotonic() - began)
            time.sleep(PAUSE_S)
        return Echoes(tuple(took), lost)

    def _echo(self) -> None:
        if self._socket is None:
            self._socket = connected(self._port, "/echo/neighbour")
            self._socket.settimeout(PATIENCE_S)
        self._socket.sendall(frame(TEXT, MESSAGE))
        wanted = _ANSWER
        while wanted:
            got = self._socket.recv(len(wanted))
            if not got or not wanted.startswith(got):
                raise ConnectionError(f"{got!r} instead of {wanted!r}")
            wanted = wanted[len(got) :]

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
