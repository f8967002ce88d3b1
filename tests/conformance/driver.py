"""The test's side of ``app``: rooms to talk to, and the reports of what their objects met."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.client import RawClient, Reply, request
from tests.support.cluster import Cluster
from tests.support.waiting import DEADLINE_S, within

Step = Callable[..., Any]
Report = dict[str, Any]


def name_of(step: Step) -> str:
    """How an object finds a step."""
    return f"{step.__module__}:{step.__qualname__}"


class Raised(Exception):
    """A step raised in the object.

    Attributes:
        types: The names of the exception's class and its bases.
        text: Its message.
    """

    def __init__(self, types: list[str], text: str) -> None:
        self.types, self.text = types, text
        super().__init__(f"{types[0]}: {text}")


class Reports:
    """Receives what objects report, in a thread of its own: an object never waits for a busy test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._seen: dict[str, list[Report]] = defaultdict(list)
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._receive, name="reports", daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        while True:
            datagram = self._socket.recv(1 << 20)
            if not datagram:
                return
            report = json.loads(datagram)
            with self._changed:
                self._seen[report["object"]].append(report)
                self._changed.notify_all()

    def close(self) -> None:
        """End the thread."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", str(self.path))
        self._thread.join()
        self._socket.close()

    def of(self, name: str) -> list[Report]:
        """What the object *name* has reported so far."""
        with self._changed:
            return list(self._seen[name])

    def wait(self, name: str, enough: Callable[[list[Report]], bool], seconds: float) -> bool:
        """Block until *enough* holds for the reports of *name*, or *seconds* have passed."""
        with self._changed:
            return bool(self._changed.wait_for(lambda: enough(self._seen[name]), seconds))


_numbers = itertools.count(1)


@dataclass
class Room:
    """One object, by its name, with everything that a test does to it.

    Attributes:
        life: How often the object had been constructed when it took the last step of ``run``. To ask for that by
            another step is another event: on a busy machine the object may have slept before.
    """

    cluster: Cluster
    reports: Reports
    name: str
    namespace: str = "probe"
    patience_s: float = DEADLINE_S
    """Seconds that a step may take."""

    def __post_init__(self) -> None:
        self._taken: dict[str, int] = defaultdict(int)
        self.life = 0

    def path(self, **query: str) -> str:
        return f"/{self.namespace}/{quote(self.name, safe='')}" + (f"?{urlencode(query)}" if query else "")

    def _responding(self, step: Step | None, arguments: dict[str, Any]) -> str:
        if step is None:
            return self.path(**{key: json.dumps(value) for key, value in arguments.items()})
        return self.path(respond=name_of(step), arguments=json.dumps(arguments))

    # --- HTTP ---------------------------------------------------------------------------------------------------

    async def run(self, step: Step, /, **arguments: Any) -> Any:
        """Call *step* in the object.

        Raises:
            Raised: It raised there.
        """
        reply = await request(
            self.cluster.port,
            "POST",
            self.path(step=name_of(step)),
            body=json.dumps(arguments).encode(),
            seconds=self.patience_s,
        )
        assert reply.status == 200, f"{name_of(step)}: {reply}"
        answer = json.loads(reply.body)
        self.life = answer["life"]
        if "raised" in answer:
            raise Raised(answer["raised"], answer["text"])
        return answer["result"]

    async def refused(self, step: Step, kind: type[Exception], /, *facts: str, **arguments: Any) -> None:
        """*step* must raise *kind* (or a subclass) in the object, with *facts* in its message."""
        with pytest.raises(Raised) as caught:
            await self.run(step, **arguments)
        raised = caught.value
        assert kind.__name__ in raised.types, f"wanted {kind.__name__}, got {raised.types}: {raised.text}"
        for fact in facts:
            assert fact in raised.text

    async def request(self, step: Step, method: str = "GET", /, *headers: str, body: bytes = b"", **args: Any) -> Reply:
        """Send a request that *step* answers with a Response."""
        return await request(self.cluster.port, method, self._responding(step, args), *headers, body=body)

    async def when(self, event: str, step: Step | None) -> None:
        """From now on *step* handles *event* of the object, in its later lives too."""
        from tests.conformance import app

        await self.run(app.when, event=event, step=step and name_of(step))

    # --- WebSockets ---------------------------------------------------------------------------------------------

    async def connect(
        self, step: Step | None = None, /, *, options: dict[str, Any] | None = None, **args: Any
    ) -> Client:
        """Open a socket with the real client; *step* answers the handshake, or the object accepts it with ``tags``."""
        settings = {"compression": None, "ping_interval": None, "max_size": None, "close_timeout": 2, **(options or {})}
        opening = connect(self.cluster.ws(self._responding(step, args)), proxy=None, **settings)
        return Client(await within("a handshake", opening))

    async def raw(self, step: Step | None = None, /, *headers: str, trailing: bytes = b"", **args: Any) -> RawClient:
        """Open a socket with the client that can misbehave."""
        async with contextlib.AsyncExitStack() as opening:
            client = await opening.enter_async_context(await RawClient.open(self.cluster.port))
            await client.handshake(self._responding(step, args), *headers, trailing=trailing)
            opening.pop_all()
        return client

    # --- reports ------------------------------------------------------------------------------------------------

    async def saw(self, what: str, seconds: float = DEADLINE_S) -> Report:
        """The object's next report of this kind (each is given once)."""
        index = self._taken[what]
        self._taken[what] += 1

        def enough(reports: list[Report]) -> bool:
            return sum(report["what"] == what for report in reports) > index

        if not await asyncio.to_thread(self.reports.wait, self.name, enough, seconds):
            raise AssertionError(
                f"waited {seconds:g} s for report {index + 1} of {what!r}; came: {self.reports.of(self.name)}"
            )
        return self.all(what)[index]

    def all(self, what: str) -> list[Report]:
        """Every report of this kind so far."""
        return [report for report in self.reports.of(self.name) if report["what"] == what]

    def order(self) -> list[str]:
        """The kinds of all reports so far, in order."""
        return [report["what"] for report in self.reports.of(self.name)]

    async def asleep(self) -> None:
        """Wait until the instance has been dropped (once more)."""
        await self.saw("dropped")


@dataclass
class Client:
    """A well-behaved client; its reads have a deadline."""

    connection: ClientConnection

    async def say(self, step: Step, /, **arguments: Any) -> None:
        """Have the object call *step* in the handler of a message of this client."""
        await self.send(f"!{name_of(step)} {json.dumps(arguments)}")

    async def send(self, message: Any) -> None:
        await within("a message to be sent", self.connection.send(message))

    async def receive(self) -> str | bytes:
        received: str | bytes = await within("a message", self.connection.recv())
        return received

    async def settled(self) -> None:
        """Wait until what the object has set before is known to the router of this client."""
        from tests.conformance import app

        await self.say(app.answer)
        assert await self.receive() == "settled"

    async def closed(self, seconds: float = DEADLINE_S) -> tuple[int, str]:
        """Wait for the end; the code and reason of the server's Close, or 1006 without one."""
        try:
            got = await within("the end of the connection", self.connection.recv(), seconds)
        except ConnectionClosed as closed:
            return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")
        raise AssertionError(f"wanted the end of the connection, got {got!r}")

    async def close(self, code: int = 1000, reason: str = "") -> tuple[int, str]:
        """Close; the code and reason of the server's answer, or 1006 without one."""
        await within("the close handshake", self.connection.close(code, reason))
        received = self.connection.protocol.close_rcvd
        return (received.code, received.reason) if received else (1006, "")

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.close()


def unique(stem: str) -> str:
    """A name that no other test's object has."""
    return f"{stem[:200]}-{next(_numbers)}"
