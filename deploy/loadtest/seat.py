"""A seat: the connection that holds it, and, when connections are exchanged, the next one."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from array import array

from .connection import CLOSE_TIMEOUT_S, Connection
from .ledger import Life
from .messages import ECHO
from .target import HandshakeRefused
from .world import World

MAX_LIVES = 50_000
"""Ended connections of a process whose accounts are kept to the end; later ones are searched for gaps only."""
_BIND_ADDRESS_NO_PORT = 24
"""``IP_BIND_ADDRESS_NO_PORT``, which ``socket`` does not name: the port is chosen at connect, when it is known to
where; each address then has all ports for each server."""


class Seat:
    """A place of the plan.

    Attributes:
        number: Which.
        connection: Who holds it; ``None``: nobody, at the moment or for good.
        log: When each broadcast of this seat was sent; microseconds since the beginning of the run.
    """

    __slots__ = ("_echoes", "_world", "connection", "log", "number")

    def __init__(self, world: World, number: int) -> None:
        self._world, self.number = world, number
        self.connection: Connection | None = None
        self.log: array[int] | None = None
        self._echoes = 0

    # --- its connection ---

    async def open(self) -> None:
        """Open a WebSocket; a failure is counted by its reason."""
        world = self._world
        began_us = world.now_us()
        try:
            async with asyncio.timeout(world.config.connect_timeout):
                connection = await self._connect()
        except HandshakeRefused as error:
            world.traffic.failed[error.reason] += 1
        except TimeoutError:
            world.traffic.failed["no answer in time"] += 1
        except ssl.SSLError as error:
            world.traffic.failed[f"TLS: {error.reason or 'failed'}"] += 1
        except OSError as error:
            world.traffic.failed[_words(error)] += 1
        else:
            world.traffic.histograms["connect"].record(connection.opened_us - began_us)

    async def _connect(self) -> Connection:
        world = self._world
        object_ = world.plan.object_of(self.number)
        request, accept = world.target.request(object_, os.urandom(16))
        loop = asyncio.get_running_loop()
        sock = socket.socket(world.family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if world.sources:
                if world.family == socket.AF_INET:
                    sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
                sock.bind((world.sources[self.number % len(world.sources)], 0))
            await loop.sock_connect(sock, (world.address, world.target.port))
            transport, connection = await loop.create_connection(
                lambda: Connection(world, self, self.number, self._echoes, request, accept),
                sock=sock,
                ssl=world.tls,
                server_hostname=world.target.host if world.tls else None,
            )
        except BaseException:
            sock.close()
            raise
        try:
            if connection.opened is not None:
                await connection.opened
        except BaseException:
            connection.is_ours = True
            transport.abort()
            raise
        return connection

    def began(self, connection: Connection) -> None:
        """A connection is open."""
        self.connection = connection
        self._world.traffic.open += 1
        self._world.traffic.audience[self._world.plan.object_of(self.number)] += 1

    def ended(self, connection: Connection) -> None:
        """A connection that was open is over, whoever has ended it."""
        world, traffic = self._world, self._world.traffic
        self.connection = None
        traffic.open -= 1
        traffic.audience[world.plan.object_of(self.number)] -= 1
        (traffic.left if connection.is_ours else traffic.closed)[connection.code] += 1
        if connection.closed_us is None:
            connection.closed_us = world.now_us()
        self._settle_echoes(connection)
        if world.config.broadcasts_per_s:
            life = Life(self.number, connection.opened_us, connection.closed_us, connection.account)
            if len(world.lives) < MAX_LIVES:
                world.lives.append(life)
            else:
                for sender, gaps in connection.account.missing.items():
                    if sender >= 0:  # echoes have been settled
                        traffic.findings.miss(sender, sorted(gaps), self.number)

    def _settle_echoes(self, connection: Connection) -> None:
        gone = connection.unanswered()
        if gone:
            findings = self._world.traffic.findings
            findings.lost += len(gone)
            findings.example(
                f"connection {self.number} ended with {len(gone):,} messages unanswered, from {gone[0]} on"
            )

    async def exchange(self) -> None:
        """Close the connection in order, once it has all its echoes, and open another one."""
        connection = self.connection
        if connection is None or not connection.open:
            return
        await connection.answered(self._world.config.patience)
        await connection.leave()
        await asyncio.wait([connection.ended], timeout=CLOSE_TIMEOUT_S)
        await self.open()
        if self.connection is not None:
            self._world.traffic.exchanged += 1

    # --- what it says ---

    def say(self, kind: str, due_us: int) -> None:
        """Send a message that was due at a time, unless nobody is there to send it."""
        world, connection = self._world, self.connection
        if connection is None or not connection.open or connection.blocked:
            world.traffic.passed += 1
            return
        now_us = world.now_us()
        late_us = max(0, now_us - due_us)
        if kind == ECHO:
            self._echoes += 1
            connection.sent += 1
            sequence = self._echoes
        else:
            if self.log is None:
                self.log = array("Q")
            self.log.append(now_us)
            sequence = len(self.log)
        connection.say(world.traffic.codec.encode(kind, self.number, sequence, due_us, late_us))
        world.traffic.sent += 1
        world.traffic.histograms["late"].record(late_us)


def _words(error: OSError) -> str:
    """A reason to count by: without the addresses that asyncio puts into its messages."""
    if error.errno in (errno.EADDRNOTAVAIL, errno.EADDRINUSE):
        return "no local port is free"
    if error.errno == errno.EMFILE:
        return "no descriptor is free"
    return os.strerror(error.errno) if error.errno else type(error).__name__
