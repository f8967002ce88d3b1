"""A server of one process on the asyncio API of ``websockets``, as its documentation would have it: uvloop,
``broadcast()``, no compression. ``/cast…`` sends each message to all, any other path sends it back."""

from __future__ import annotations

import argparse
import asyncio
import signal

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

_CASTING: set[ServerConnection] = set()


async def handle(connection: ServerConnection) -> None:
    if connection.request is None or not connection.request.path.startswith("/cast"):
        async for message in connection:
            await connection.send(message)
        return
    _CASTING.add(connection)
    try:
        async for message in connection:
            broadcast(_CASTING, message)
    finally:
        _CASTING.discard(connection)


async def run(port: int) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with serve(handle, "127.0.0.1", port, compression=None, backlog=4096):
        await ended.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(run(parser.parse_args().port))


if __name__ == "__main__":
    main()
