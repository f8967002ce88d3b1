"""What a router does for whoever writes the app behind it (``--development``): it says what was asked and answered, and
answers with what keeps the code that was saved from loading."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from ..common.errors import RequestError
from ..common.runtime import broken_code
from ..common.wire.records import Headers, HttpResponse, Pieces
from .formats.http import Refusal
from .formats.urls import path_of
from .http.connection import HttpConnection
from .http.front import Front
from .http.own_pages import OWN_PATHS
from .http.parser import Incoming
from .http.phases import Phase
from .websocket.connection import Connection
from .websocket.states import State

log = logging.getLogger("roost.access")

LOOK_S = 0.1
"""Seconds between two looks why no shard comes, for a request that waits for one."""
_CLOSED_HERE = (State.CLOSED_BY_OBJECT, State.CLOSED_BY_ROUTER, State.ENDING)


class ObservedConnection(HttpConnection):
    """An HTTP connection that tells.

    Args:
        front: What the HTTP connections share.
        run: The run folder.
    """

    __slots__ = ("_asked_at", "_run")

    def __init__(self, front: Front, run: Path) -> None:
        super().__init__(front)
        self._run = run
        self._asked_at = 0.0

    def _start(self, incoming: Incoming) -> None:
        self._asked_at = monotonic()
        super()._start(incoming)

    def _ask(self, incoming: Incoming) -> None:
        # WebSockets go to the code that ran before: they are to outlive a mistake.
        if not incoming.head.wants_websocket and path_of(incoming.head.target) not in OWN_PATHS:
            broken = broken_code.read(self._run)
            if broken:
                self.failed(Refusal(500, broken))
                return
        super()._ask(incoming)
        if self._phase is Phase.WAITING:
            # For a shard, which may be about to find that its code does not load.
            asyncio.get_running_loop().call_later(LOOK_S, self.go_on)

    def _respond(self, status: int, headers: Headers, body: bytes | Pieces, declared: int | None = None) -> None:
        self._tell(status, len(body))
        super()._respond(status, headers, body, declared)

    def failed(self, error: RequestError) -> None:
        """There is no answer of an object."""
        sentence, _, _ = str(error).partition("\n")
        self._tell(error.status, len(str(error)), sentence)
        super().failed(error)

    def upgraded(self, connection: Connection, response: HttpResponse) -> None:
        """The object accepted the WebSocket."""
        incoming, transport = self._incoming, self._transport
        super().upgraded(connection, response)
        if incoming is not None and transport is not None and self._transport is None:
            target = incoming.head.target
            log.info("WebSocket %s opened, %.0f ms", target, 1_000 * (monotonic() - self._asked_at))
            transport.set_protocol(ObservedSocket(connection, target))

    def _refuse(self, error: RequestError) -> None:
        log.info("a request was refused, %d: %s", error.status, error)
        super()._refuse(error)

    def _tell(self, status: int, size: int, why: str = "") -> None:
        incoming = self._incoming
        if incoming is not None:
            head, took_ms = incoming.head, 1_000 * (monotonic() - self._asked_at)
            log.info(
                "%s %s %d, %.0f ms, %d bytes%s", head.method, head.target, status, took_ms, size, why and f": {why}"
            )


class ObservedSocket(asyncio.BufferedProtocol):
    """Stands between a transport and its WebSocket, and tells of its end.

    Args:
        connection: The WebSocket.
        target: What was asked for when it was opened.
    """

    def __init__(self, connection: Connection, target: str) -> None:
        self._connection = connection
        self._target = target
        self._opened_at = monotonic()

    def get_buffer(self, sizehint: int) -> memoryview:
        """As the WebSocket's, and so on."""
        return self._connection.get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        self._connection.buffer_updated(nbytes)

    def eof_received(self) -> bool:
        return self._connection.eof_received()

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        connection, took_s = self._connection, monotonic() - self._opened_at
        if connection.client_close is not None:
            how = "code {} {}".format(*connection.client_close).rstrip()
        elif connection.state in _CLOSED_HERE:
            how = "by this side"
        else:
            how = "the client vanished"
        connection.connection_lost(exc)
        log.info("WebSocket %s closed, %.1f s, %s", self._target, took_s, how)


def protocol_factory(front: Front, run: Path) -> Callable[[], HttpConnection]:
    """Makes the protocol of each TCP connection that the listener accepts."""
    return lambda: ObservedConnection(front, run)
