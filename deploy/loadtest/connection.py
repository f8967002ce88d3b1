"""One WebSocket of the load tester, from its handshake to its end."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from ...common.close_codes import ABNORMAL, NORMAL
from . import frames
from .ledger import Account, absent
from .target import MAX_HEAD_BYTES, HandshakeRefused
from .traffic import echo_key
from .world import World

MAX_UNSENT_BYTES = 1 << 20
"""Bytes that wait for the server to read: beyond that, a connection's turns to send pass."""
CLOSE_TIMEOUT_S = 5.0
"""Seconds for a server to answer a Close and to end the TCP connection."""


class Holder(Protocol):
    """Who is told of a connection's life."""

    def began(self, connection: Connection) -> None:
        """It is open."""

    def ended(self, connection: Connection) -> None:
        """It was open and is over."""


class Connection(asyncio.Protocol):
    """One life of a seat.

    Attributes:
        number: The seat's.
        account: What it has got.
        opened_us: When it was open, 0 before; ``closed_us``: when it began to close, ``None`` before.
        is_ours: Whether we have begun to close it.
        sent: Echoes asked for on it; the first is number ``base`` + 1.
        open: It takes and gives messages.
        blocked: The server does not read.
        opened: Done when it is open; an error: it was refused.
        ended: Done when the TCP connection is over.
    """

    __slots__ = (
        "_accept",
        "_code",
        "_head",
        "_holder",
        "_reader",
        "_request",
        "_timer",
        "_waiter",
        "_world",
        "account",
        "base",
        "blocked",
        "closed_us",
        "ended",
        "is_ours",
        "number",
        "open",
        "opened",
        "opened_us",
        "sent",
        "transport",
    )

    def __init__(self, world: World, holder: Holder, number: int, base: int, request: bytes, accept: bytes) -> None:
        self._world, self._holder, self.number, self.base = world, holder, number, base
        self._request, self._accept, self._head = request, accept, b""
        self._reader = frames.FrameReader()
        self._code = 0
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.account = Account()
        if world.config.echoes_per_s:
            self.account.start_at(echo_key(number), base)
        self.sent = 0
        self.opened_us = 0
        self.closed_us: int | None = None
        self.open = self.blocked = self.is_ours = False
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] | None = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()

    @property
    def code(self) -> int:
        """The code of the server's Close; ``ABNORMAL`` without one."""
        return self._code or ABNORMAL

    # --- the transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(MAX_UNSENT_BYTES)
        self.transport.write(self._request)
        self._request = b""

    def pause_writing(self) -> None:
        self.blocked = True

    def resume_writing(self) -> None:
        self.blocked = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self._timer is not None:
            self._timer.cancel()
        if self.opened is not None:
            self._refuse("the connection ended in the handshake")
        if not self.ended.done():
            self.ended.set_result(None)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self.opened_us:
            self._holder.ended(self)

    def data_received(self, data: bytes) -> None:
        if self.opened is not None:
            data = self._shake_hands(data)
            if not data:
                return
        world = self._world
        try:
            found = self._reader.feed(data)
        except frames.BrokenFrames as error:
            world.traffic.findings.example(f"connection {self.number} was ended: {error}")
            self.closed_us = self.closed_us or world.now_us()
            self.transport.abort()
            return
        now_us = world.now_us()
        for opcode, payload in found:
            if opcode == world.opcode:
                world.traffic.take(self.number, self.account, payload, now_us)
            elif opcode == frames.PING:
                self.transport.write(frames.client_frame(frames.PONG, payload))
            elif opcode == frames.CLOSE:
                self._got_close(payload)
            elif opcode != frames.PONG:
                self._got_other_kind(payload)
        if self._waiter is not None and not self._waiter.done() and not self.unanswered():
            self._waiter.set_result(None)

    # --- the handshake ---

    def _shake_hands(self, data: bytes) -> bytes:
        self._head += data
        head, ending, rest = self._head.partition(b"\r\n\r\n")
        if not ending:
            if len(self._head) > MAX_HEAD_BYTES:
                self._refuse("an answer without an end")
                self.transport.abort()
            return b""
        self._head = b""
        try:
            self._world.target.check(head, self._accept)
        except HandshakeRefused as error:
            self._refuse(error.reason)
            self.transport.abort()
            return b""
        opened, self.opened = self.opened, None
        self._accept = b""
        self.open = True
        self.opened_us = max(1, self._world.now_us())
        self._holder.began(self)
        if opened is not None and not opened.done():
            opened.set_result(None)
        return rest

    def _refuse(self, reason: str) -> None:
        if self.opened is not None and not self.opened.done():
            self.opened.set_exception(HandshakeRefused(reason))

    # --- messages ---

    def say(self, payload: bytes) -> None:
        """Send a message."""
        self.transport.write(frames.client_frame(self._world.opcode, payload))

    def unanswered(self) -> list[int]:
        """The numbers of its echoes that have not come."""
        if not self.sent:
            return []
        return absent(self.account, echo_key(self.number), self.base + 1, self.base + self.sent)

    def _got_other_kind(self, payload: bytes) -> None:
        findings = self._world.traffic.findings
        if self._world.traffic.codec.is_ours(payload):
            findings.corrupted += 1
            findings.example(f"connection {self.number} got binary for text, or text for binary")
        else:
            findings.foreign += 1

    # --- the end ---

    def _got_close(self, payload: bytes) -> None:
        self._code = frames.close_code(payload)
        if self.closed_us is None:
            self.closed_us = self._world.now_us()
            self.transport.write(frames.client_frame(frames.CLOSE, payload[:2]))
            # The server ends the TCP connection first (RFC 6455 7.1.1): whoever does so keeps its port for a minute.
            self._timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self.transport.abort)
        self.open = False

    async def answered(self, wait_s: float) -> None:
        """Send nothing more, and wait until all echoes have come, the connection ends, or *wait_s* is over."""
        self.open = False
        if self.unanswered():
            self._waiter = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._waiter], timeout=wait_s)
            self._waiter = None

    async def leave(self) -> None:
        """Close it with a handshake; without one when the server takes too long."""
        self.open = False
        if self.closed_us is None:
            self.closed_us = self._world.now_us()
            self.is_ours = True
        if self.ended.done():
            return
        self.transport.write(frames.close_frame(NORMAL))
        try:
            await asyncio.wait([self.ended], timeout=CLOSE_TIMEOUT_S)
        finally:
            if not self.ended.done():
                self.transport.abort()
