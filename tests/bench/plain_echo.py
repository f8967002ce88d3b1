"""What roost's echo is measured against: the same libraries, a router and a shard process, and nothing else.

The router terminates WebSockets with the Sans-I/O protocol of ``websockets`` on uvloop; messages go to the shard in
batches over a ZeroMQ PAIR that is driven by its descriptor: connection number, kind, length, payload, one batch for
each turn of the loop. The shard calls a handler for each message and sends back what that sends, in batches as well.
No sessions, windows, acknowledgements, objects, restores, bounds: a lost batch is lost, a slow client piles up. It is
as fast as we can make such a program; being slower than it is the price of what it lacks.

Run it alone with ``python tests/bench/plain_echo.py --port 9000``; it serves until it is ended by a signal.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import uvloop
import zmq
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

_RECORD = struct.Struct("<IBI")  # connection, binary, length; the payload follows
_LONG = struct.Struct("!BBH")
_HEADS = tuple(tuple(bytes((first, length)) for length in range(126)) for first in (0x81, 0x82))
_NOBLOCK = int(zmq.NOBLOCK)
_POLLIN = int(zmq.POLLIN)


class Pair:
    """One end of the PAIR: collects records, sends them once per turn, hands over what comes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, address: str, bind: bool, on_batch: Callable[[bytes], None]):
        self._loop = loop
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PAIR)
        for option in (zmq.SNDHWM, zmq.RCVHWM, zmq.LINGER):
            self._socket.setsockopt(option, 0)
        if bind:
            self._socket.bind(address)
        else:
            self._socket.connect(address)
        base: Any = super(zmq.Socket, self._socket)  # without pyzmq's conveniences: half the cost
        self._send, self._recv, self._get = base.send, base.recv, base.get
        self._on_batch = on_batch
        self.parts: list[bytes] = []
        loop.add_reader(self._socket.getsockopt(zmq.FD), self._drain)

    def flush_soon(self) -> None:
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        batch = b"".join(self.parts)
        self.parts.clear()
        self._send(batch, _NOBLOCK)
        # Sending may have used up the descriptor's signal.
        if self._get(zmq.EVENTS) & _POLLIN:
            self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        recv, on_batch = self._recv, self._on_batch
        try:
            while True:
                on_batch(recv(_NOBLOCK))
        except zmq.Again:
            pass


# --- the router ---


class Client(asyncio.Protocol):
    """One client's connection."""

    __slots__ = ("_number", "_open", "_protocol", "_router", "transport")

    def __init__(self, router: Router) -> None:
        self._router = router
        self._protocol = ServerProtocol()
        self._open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._number = self._router.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del self._router.clients[self._number]

    def data_received(self, data: bytes) -> None:
        protocol = self._protocol
        protocol.receive_data(data)
        if not self._open:
            self._shake_hands()
            return
        pair = self._router.pair
        parts = pair.parts
        for frame in protocol.events_received():
            assert isinstance(frame, Frame)
            if frame.opcode is Opcode.TEXT or frame.opcode is Opcode.BINARY:
                payload = cast(bytes, frame.data)
                if not parts:
                    pair.flush_soon()
                parts += (_RECORD.pack(self._number, frame.opcode is Opcode.BINARY, len(payload)), payload)
        if protocol.writes:
            self._answer()

    def _shake_hands(self) -> None:
        protocol = self._protocol
        for event in protocol.events_received():
            assert isinstance(event, Request)
            protocol.send_response(protocol.accept(event))
            self._open = True
        self._answer()

    def _answer(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self.transport.write(data)
            else:
                self.transport.close()


class Router:
    def __init__(self, loop: asyncio.AbstractEventLoop, address: str) -> None:
        self.clients: dict[int, Client] = {}
        self._count = 0
        self.met = asyncio.Event()
        self.pair = Pair(loop, address, True, self._batch)

    def add(self, client: Client) -> int:
        self._count += 1
        self.clients[self._count] = client
        return self._count

    def _batch(self, batch: bytes) -> None:
        clients, unpack, heads = self.clients, _RECORD.unpack_from, _HEADS
        position, end = 0, len(batch)
        if not end:
            self.met.set()
        while position < end:
            number, binary, length = unpack(batch, position)
            start = position + 9
            position = start + length
            client = clients.get(number)
            if client is None:
                continue
            if length < 126:
                client.transport.write(heads[binary][length] + batch[start:position])
            else:
                assert length < 1 << 16
                client.transport.write(_LONG.pack(0x81 + binary, 126, length) + batch[start:position])


async def run_router(address: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    router = Router(loop, address)
    await router.met.wait()  # a PAIR that nobody has connected to takes nothing
    await loop.create_server(lambda: Client(router), "127.0.0.1", port)
    await _until_ended(loop)


# --- the shard ---


class Shard:
    def __init__(self, loop: asyncio.AbstractEventLoop, address: str) -> None:
        self._pair = Pair(loop, address, False, self._batch)
        self._pair.flush_soon()  # an empty batch: here I am

    def _batch(self, batch: bytes) -> None:
        unpack, handler = _RECORD.unpack_from, self.message
        position, end = 0, len(batch)
        while position < end:
            number, binary, length = unpack(batch, position)
            start = position + 9
            position = start + length
            data = batch[start:position]
            handler(number, data if binary else data.decode())

    def message(self, connection: int, message: str | bytes) -> None:
        """What a user would write."""
        self.send(connection, message)

    def send(self, connection: int, message: str | bytes) -> None:
        parts = self._pair.parts
        if not parts:
            self._pair.flush_soon()
        if isinstance(message, str):
            data = message.encode()
            parts += (_RECORD.pack(connection, 0, len(data)), data)
        else:
            parts += (_RECORD.pack(connection, 1, len(message)), message)


async def run_shard(address: str) -> None:
    loop = asyncio.get_running_loop()
    Shard(loop, address)
    await _until_ended(loop)


# --- starting ---


async def _until_ended(loop: asyncio.AbstractEventLoop) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    gc.freeze()
    await ended.wait()


def start(port: int, folder: Path) -> list[subprocess.Popen[bytes]]:
    """Start both processes; the caller ends them. They serve once *port* accepts connections."""
    address = f"ipc://{folder}/plain"
    return [
        subprocess.Popen([sys.executable, __file__, "--part", part, "--address", address, "--port", str(port)])
        for part in ("router", "shard")
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--part", choices=["router", "shard"])
    parser.add_argument("--address")
    options = parser.parse_args()
    if options.part == "router":
        uvloop.run(run_router(options.address, options.port))
    elif options.part == "shard":
        uvloop.run(run_shard(options.address))
    else:
        with tempfile.TemporaryDirectory() as folder:
            processes = start(options.port, Path(folder))
            print(f"plain echo at ws://127.0.0.1:{options.port}/ ({os.getpid()})", flush=True)
            try:
                signal.pause()
            except KeyboardInterrupt:
                pass
            finally:
                for process in processes:
                    process.terminate()
                for process in processes:
                    process.wait()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)
    main()
