"""A client that says whatever a test wants, byte by byte: HTTP heads, frames good and bad, resets.

For well-behaved clients tests use the ``websockets`` package; this is for everything that it refuses to send.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass
from types import TracebackType

from tests.support.frames import ACCEPT, CLOSE, TEXT, upgrade_head
from tests.support.shortly import brief
from tests.support.streams import ended
from tests.support.waiting import DEADLINE_S, within


@dataclass(frozen=True)
class Frame:
    """A frame from the server."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0

    def __repr__(self) -> str:
        rest = ("" if self.fin else ", unfinished") + (f", rsv {self.rsv}" if self.rsv else "")
        return f"Frame({self.opcode:#x}, {brief(self.payload)}{rest})"

    @property
    def text(self) -> str:
        assert self.opcode == TEXT, f"wanted a text frame, got {self}"
        return self.payload.decode()

    @property
    def code(self) -> int:
        """The code of a Close; 1005 when it has none."""
        assert self.opcode == CLOSE, f"wanted a Close frame, got {self}"
        return struct.unpack(">H", self.payload[:2])[0] if self.payload else 1005

    @property
    def reason(self) -> str:
        assert self.opcode == CLOSE, f"wanted a Close frame, got {self}"
        return self.payload[2:].decode()


@dataclass(frozen=True)
class Reply:
    """An HTTP response, its header names in lower case."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def __repr__(self) -> str:
        return f"Reply({self.status} {self.reason}, {self.headers}, {brief(self.body)})"

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    @property
    def text(self) -> str:
        return self.body.decode()


class RawClient:
    """One TCP connection. All reads have a deadline."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port: int, host: str = "127.0.0.1") -> RawClient:
        reader, writer = await within("a TCP connection", asyncio.open_connection(host, port, limit=1 << 26))
        return cls(reader, writer)

    async def __aenter__(self) -> RawClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await ended(self.writer)

    async def send(self, *data: bytes | str) -> None:
        """Send bytes as they are; text is encoded, nothing is added."""
        for part in data:
            self.writer.write(part.encode() if isinstance(part, str) else part)
        await within("the server to read", self.writer.drain())

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    # --- HTTP ---------------------------------------------------------------------------------------------------

    async def handshake(self, path: str, *more: str, trailing: bytes = b"", expect: int = 101) -> Reply:
        """Ask for a WebSocket.

        Args:
            path: The request target.
            more: Further header lines.
            trailing: Bytes to send in the same packet behind the head.
            expect: The status that the test wants.
        """
        await self.send(upgrade_head(path, *more).encode() + trailing)
        reply = await self.response()
        assert reply.status == expect, f"wanted {expect}, got {reply}"
        if expect == 101:
            assert reply.header("sec-websocket-accept") == ACCEPT
        return reply

    async def request(
        self, method: str, path: str, *more: str, body: bytes = b"", seconds: float = DEADLINE_S
    ) -> Reply:
        """Send a request and read its answer, which begins within *seconds*; the connection stays open."""
        lines = [f"{method} {path} HTTP/1.1", "Host: test", *more]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        await self.send("\r\n".join(lines) + "\r\n\r\n", body)
        return await self.response(head_only=method == "HEAD", seconds=seconds)

    async def response(self, head_only: bool = False, seconds: float = DEADLINE_S) -> Reply:
        """Read one response, by its Content-Length, its chunks, or to the end of the stream."""
        try:
            head = await within("a response head", self.reader.readuntil(b"\r\n\r\n"), seconds)
        except asyncio.IncompleteReadError as error:
            raise AssertionError(f"the connection ended before a whole response head: {error.partial!r}") from None
        first, *lines = head.decode("latin-1")[:-4].split("\r\n")
        version, status, reason = (*first.split(" ", 2), "")[:3]
        assert version == "HTTP/1.1", first
        headers = tuple((name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines))
        named = dict(headers)
        if head_only or status in ("101", "100", "204", "304"):
            body = b""
        elif "content-length" in named:
            body = await within("a response body", self.reader.readexactly(int(named["content-length"])))
        else:
            body = await within("the end of the response", self.reader.read())
        return Reply(int(status), reason, headers, body)

    # --- frames -------------------------------------------------------------------------------------------------

    async def frame(self, seconds: float = DEADLINE_S) -> Frame | None:
        """The next frame; ``None`` at the end of the stream (a reset counts as one)."""
        return await within("a frame", self._frame(), seconds)

    async def _frame(self) -> Frame | None:
        try:
            first, second = await self.reader.readexactly(2)
            assert not second & 0x80, "a server must not mask"
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack(">H", await self.reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", await self.reader.readexactly(8))
            payload = await self.reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise AssertionError(f"the stream ended inside a frame: {error.partial!r}") from None
            return None
        except ConnectionResetError:
            return None
        return Frame(first & 0x0F, payload, bool(first & 0x80), first >> 4 & 7)

    async def expect(self, opcode: int, payload: bytes | str | None = None) -> Frame:
        """The next frame, which must have this opcode and payload."""
        got = await self.frame()
        assert got is not None, f"the stream ended instead of a frame of type {opcode:#x}"
        assert got.opcode == opcode, f"wanted a frame of type {opcode:#x}, got {got}"
        if payload is not None:
            assert got.payload == (payload.encode() if isinstance(payload, str) else payload)
        return got

    async def expect_close(self, code: int) -> Frame:
        """The next frame must be a Close with *code*."""
        got = await self.expect(CLOSE)
        assert got.code == code, f"wanted Close {code}, got {got.code} {got.reason!r}"
        return got

    async def expect_end(self, seconds: float = DEADLINE_S) -> None:
        """The stream must end now, without another frame."""
        got = await self.frame(seconds)
        assert got is None, f"wanted the end of the stream, got {got}"

    async def expect_eof(self, seconds: float = DEADLINE_S) -> bytes:
        """Read raw bytes to the end of the stream."""
        try:
            return await within("the end of the stream", self.reader.read(), seconds)
        except ConnectionResetError:
            return b""


async def request(
    port: int, method: str, path: str, *headers: str, body: bytes = b"", seconds: float = DEADLINE_S
) -> Reply:
    """One request on a connection of its own."""
    async with await RawClient.open(port) as client:
        return await client.request(method, path, "Connection: close", *headers, body=body, seconds=seconds)
