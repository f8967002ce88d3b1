"""Streams that have an owner: whoever opens or serves one here waits for its end before the loop is gone.

A writer that is dropped while TCP is open warns when the collector finds it, perhaps minutes later and in the test that
happens to run then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

PATIENCE_S = 5.0
"""How long a stream may take to send what it still holds."""

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def ended(writer: asyncio.StreamWriter) -> None:
    """Close a stream and wait for its end; what the other side does not take within ``PATIENCE_S`` is dropped."""
    writer.close()
    closed = asyncio.ensure_future(writer.wait_closed())
    await asyncio.wait({closed}, timeout=PATIENCE_S)
    if not closed.done():
        writer.transport.abort()
        await asyncio.wait({closed})
    try:
        closed.result()
    except OSError:
        pass  # the other side has reset it, as some tests want


@contextlib.asynccontextmanager
async def serving(handle: Handler) -> AsyncIterator[int]:
    """A TCP server on a free port of 127.0.0.1, which the block gets, with *handle* for each connection.

    At the end of the block the handlers that still run are cancelled and every stream is closed. A handler that has
    raised fails the block, unless it raised an ``OSError`` or met the end of its stream.
    """
    loop = asyncio.get_running_loop()
    handlers: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # clients leave when they like

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A plain function: what the loop has accepted is owned from here on, also when no task of it ever runs.
        handlers[loop.create_task(serve(reader, writer))] = writer

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for _ in range(3):
            await asyncio.sleep(0)  # asyncio calls ``accept`` two turns after it has taken a connection from the queue
        for task in handlers:
            task.cancel()
        outcomes = await asyncio.gather(*handlers, return_exceptions=True)
        await asyncio.gather(*(ended(writer) for writer in handlers.values()))
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
