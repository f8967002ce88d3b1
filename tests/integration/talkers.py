"""Clients that talk all the time, and know what each answer must be: a lost, doubled or reordered message shows.

They talk to ``Tally`` of ``app.py``, which numbers the messages of each socket by its attachment.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from websockets.asyncio.client import ClientConnection, connect

from tests.support.waiting import within

PAUSE_S = 0.01


class Talker:
    """One client."""

    def __init__(self, name: str, socket: ClientConnection) -> None:
        self.name = name
        self.socket = socket
        self.sent = self.answered = 0
        self._stopped = asyncio.Event()
        self._all_answered = asyncio.Event()
        self.tasks = [asyncio.create_task(self._talk()), asyncio.create_task(self._listen())]

    async def _talk(self) -> None:
        while not self._stopped.is_set():
            self.sent += 1
            await self.socket.send(str(self.sent))
            await asyncio.sleep(PAUSE_S)

    async def _listen(self) -> None:
        async for answer in self.socket:
            self.answered += 1
            assert answer == f"{self.name} {self.answered} '{self.answered}'", f"message {self.answered}: {answer!r}"
            if self._stopped.is_set() and self.answered == self.sent:
                self._all_answered.set()

    async def finish(self) -> None:
        """Stop talking; each message must have its answer, and the socket must be open."""
        self._stopped.set()
        await self.tasks[0]
        if self.answered < self.sent:
            waiting = asyncio.create_task(self._all_answered.wait())
            await asyncio.wait([waiting, self.tasks[1]], timeout=20, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        if self.tasks[1].done():
            self.tasks[1].result()
            raise AssertionError(f"{self.name}: the socket was closed with {self.socket.close_code}")
        assert self.answered == self.sent, f"{self.name}: {self.sent - self.answered} of {self.sent} without an answer"


@contextlib.asynccontextmanager
async def talking(port: int, count: int = 40) -> AsyncIterator[list[Talker]]:
    """*count* clients, each with an object of its own, that talk while the block runs."""
    talkers = []
    async with contextlib.AsyncExitStack() as opened:
        for number in range(count):
            name = f"talker-{number}"
            socket = await within("a socket", connect(f"ws://127.0.0.1:{port}/tally/{name}?who={name}"))
            await opened.enter_async_context(socket)
            talkers.append(Talker(name, socket))
        try:
            yield talkers
            await asyncio.gather(*(talker.finish() for talker in talkers))
            assert min(talker.sent for talker in talkers) > 10, "they had time to talk"
        finally:
            for talker in talkers:
                for task in talker.tasks:
                    task.cancel()
            await asyncio.gather(*(task for talker in talkers for task in talker.tasks), return_exceptions=True)
