"""The test's hold on its clients, which are a process of their own (``clients``)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from tests.support.program import Program

OPEN_DEADLINE_S = 60.0
ANSWER_DEADLINE_S = 10.0
POLL_S = 0.1


@dataclass(frozen=True)
class Group:
    """Connections that do the same.

    Attributes:
        namespace: The class that they talk to.
        connections: How many.
        rate: Messages a second of each; 0 for none.
        objects: How many objects they spread over, named 0, 1, …
        names: The objects' names instead.
        hosts: How many addresses 127.0.0.x they connect to: one has 28,000 ports for clients.
    """

    namespace: str
    connections: int
    rate: float = 5.0
    objects: int = 1
    names: tuple[str, ...] = ()
    hosts: int = 1


@dataclass(frozen=True)
class Pauses:
    """Over the connections: the median and the worst of each one's longest, in seconds."""

    p50: float
    worst: float

    def __str__(self) -> str:
        return f"p50 {self.p50 * 1000:.0f} ms, worst {self.worst * 1000:.0f} ms"


@dataclass(frozen=True)
class Report:
    """What the clients have seen so far; pauses since the last mark.

    Attributes:
        open: Connections that are open.
        closed: Connections that were ended by the cluster, by close code; 1006 without a Close.
        ended: The numbers of those.
        reconnected: Connections opened in place of those.
        refused: Tries to reconnect that failed.
        sent: Messages sent.
        given_up: Messages of closed connections that were not answered.
        unanswered: Messages of open ones that are not answered yet.
        waiting: The oldest of those: age in seconds, connection, number.
        handled: Messages that were answered.
        lost: Answers that open connections have not got, those to others' messages included.
        redelivered: Answers that say that the event may have been handled before.
        versions: Answers by the app's version.
        violations: By kind (``checking``).
        examples: Some of them in words.
        moved: Connections that another instance has answered than the one before the mark.
        pauses: From sending a message to its answer.
        moved_pauses: The same of those that moved.
        silences: Between two answers.
        first_again_at: When the first answer came, since the mark, that says so (monotonic seconds); 0 if none did.
        client_late_s: How late the clients' own clock has ticked: pauses of that length are their own.
    """

    open: int
    closed: Mapping[int, int]
    ended: Sequence[int]
    reconnected: int
    refused: int
    sent: int
    given_up: int
    unanswered: int
    waiting: Sequence[Any]
    handled: int
    lost: int
    redelivered: int
    versions: Mapping[str, int]
    violations: Mapping[str, int]
    examples: Sequence[str]
    moved: int
    pauses: Pauses
    moved_pauses: Pauses
    silences: Pauses
    first_again_at: float
    client_late_s: float

    @classmethod
    def of(cls, said: dict[str, Any]) -> Report:
        """Read what the clients have printed."""
        said = dict(said)
        closed = {int(code): count for code, count in said.pop("closed").items()}
        for name in ("pauses", "moved_pauses", "silences"):
            said[name] = Pauses(**said.pop(f"{name}_s"))
        return cls(closed=closed, **said)


class Load:
    """The clients of one scenario, as a context manager: they open at its start and are gone after it."""

    def __init__(self, port: int, *groups: Group, reconnect: bool = False) -> None:
        self._words = [str(port), json.dumps([asdict(group) for group in groups]), *(["reconnect"] * reconnect)]
        self.connections = sum(group.connections for group in groups)
        self.last: Report | None = None

    async def __aenter__(self) -> Load:
        self._program = await Program.start("the clients", "tests.faults.clients", *self._words)
        try:
            said = await self._program.answer("its connections", OPEN_DEADLINE_S)
            assert said["open"] == self.connections
        except BaseException as error:
            await self._program.end(error)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self._ask("end")
        elif self.last is not None:
            error.add_note(f"the clients' last report: {self.last}")
        await self._program.end(error)

    async def _ask(self, *words: object, seconds: float = ANSWER_DEADLINE_S) -> dict[str, Any]:
        return await self._program.ask(" ".join(map(str, words)), f"the clients to answer {words[0]!r}", seconds)

    async def begin(self) -> None:
        """Let the connections talk."""
        await self._ask("begin")

    async def once(self) -> None:
        """Let each connection say one message."""
        await self._ask("once")

    async def mark(self) -> None:
        """Pauses count from here."""
        await self._ask("mark")

    async def report(self) -> Report:
        """What they have seen so far."""
        self.last = Report.of(await self._ask("report"))
        return self.last

    async def settle(self, seconds: float = 20.0) -> Report:
        """Stop talking and wait for what is not answered yet; how much never came is ``lost``."""
        self.last = Report.of(await self._ask("settle", seconds, seconds=seconds + ANSWER_DEADLINE_S))
        return self.last

    async def until(self, what: str, condition: Callable[[Report], bool], seconds: float = 20.0) -> Report:
        """Wait until a report says so.

        Raises:
            AssertionError: None did in *seconds*.
        """
        give_up_at = time.monotonic() + seconds
        while not condition(found := await self.report()):
            assert time.monotonic() < give_up_at, f"waited {seconds:g} s for {what}; the clients say {found}"
            await asyncio.sleep(POLL_S)
        return found

    async def flowing(self, seconds: float = 40.0) -> Report:
        """Wait until every connection that is open has been answered within the last second, some new one at least."""
        before = (await self.report()).handled
        return await self.until(
            "the traffic to flow again",
            lambda report: report.handled > before and all(age < 1.0 for age, _, _ in report.waiting),
            seconds,
        )
