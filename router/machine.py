"""The machine of a router: what it takes from outside beside what every member takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..common.cluster.outside import Machine
from ..common.wire.link import Dialer, Wiring
from .clients.descriptors import Descriptors
from .clients.ready import Ready
from .clients.tcp import output_of
from .clients.transport import Transports
from .clients.work import Work
from .http.listener import Listener


class RouterMachine(Machine):
    """See ``Machine``."""

    def dialer(self, wiring: Wiring, has_room: Callable[[], bool]) -> Dialer:
        """As ``Dialer``."""
        return Dialer(wiring, has_room=has_room)

    def listener(self, host: str, port: int, backlog: int) -> Listener:
        """As ``Listener``."""
        return Listener(host, port, backlog)

    def transports(self, work: Work, protocol_factory: Callable[[], object]) -> Transports:
        """As ``Transports``."""
        loop, ready = asyncio.get_running_loop(), Ready(self.clock.now)
        ready.start(loop)
        return Transports(loop, ready, work, protocol_factory)

    def descriptors(self, limit: int, wanted: int) -> Descriptors:
        """As ``Descriptors``."""
        return Descriptors(limit, wanted)

    def output_of(self, transport: Any) -> tuple[int, int]:
        """How far a client has come with its output: see ``clients.tcp``."""
        return output_of(transport)
