"""Tens of thousands of WebSockets, held by processes of their own (``clients``)."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from tests.crowd.clients import MOST
from tests.support.program import Program

PER_PROCESS = 14_000
"""Connections for which a crowd has one process: fewer than a process can have, since they share out unevenly, and than
half of an address's ports, since Linux is slow at finding those of the other half."""
AT_ONCE = 256
"""Handshakes under way at a time, all processes together."""
BEYOND_S = 10.0
"""Seconds that an answer may take longer than what it reports on."""


@dataclass(frozen=True)
class Seen:
    """What the connections have seen since their beginning.

    Attributes:
        open: Connections that are open.
        ended: Connections that have ended, by close code; 1006 without a Close.
        strange: Messages that nobody expected.
        examples: Some of these in words.
        pings: Pings that were answered.
        cpu_s: Processor time of the processes.
    """

    open: int
    ended: Counter[int]
    strange: int
    examples: list[str]
    pings: int
    cpu_s: float


@dataclass
class Crowd:
    """The connections, as an async context manager.

    Args:
        port: Where the cluster listens.
        path: What each of them asks for; ``{object}`` and ``{number}`` are replaced.
        objects: How many objects they spread over, named 0, 1, …
        most: How many there will be.

    Attributes:
        count: How many have been opened.
    """

    port: int
    path: str
    most: int
    objects: int = 1
    count: int = 0
    _parts: list[Program] = field(default_factory=list)

    async def __aenter__(self) -> Crowd:
        for number in range(math.ceil(self.most / min(PER_PROCESS, MOST))):
            source = f"127.0.0.{2 + number}"
            self._parts.append(
                await Program.start(f"the clients at {source}", "tests.crowd.clients", str(self.port), source)
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(part.end(error) for part in self._parts))

    @property
    def pids(self) -> list[int]:
        """The processes."""
        return [part.pid for part in self._parts]

    async def _ask(self, part: Program, do: str, seconds: float = 0.0, **words: Any) -> dict[str, Any]:
        if seconds:
            words["seconds"] = seconds
        said = await part.ask(json.dumps({"do": do, **words}), f"the clients to {do}", seconds + BEYOND_S)
        assert "error" not in said, f"{do}: {said['error']}"
        return said

    async def _ask_all(self, do: str, seconds: float = 0.0, **words: Any) -> list[dict[str, Any]]:
        return list(await asyncio.gather(*(self._ask(part, do, seconds, **words) for part in self._parts)))

    async def grow(self, to: int, seconds: float) -> dict[str, Any]:
        """Open connections until there are *to*.

        Returns:
            ``took_s`` for all of them, and ``handshakes_s`` with ``p50``, ``p99`` and ``max``, the worst of each that a
            process has seen.
        """
        began, added, parts = time.monotonic(), to - self.count, len(self._parts)
        ends = [self.count + added * number // parts for number in range(parts + 1)]
        said = await asyncio.gather(
            *(
                self._ask(
                    part,
                    "open",
                    first=first,
                    count=after - first,
                    objects=self.objects,
                    path=self.path,
                    at_once=max(1, AT_ONCE // parts),
                    seconds=seconds,
                )
                for part, (first, after) in zip(self._parts, itertools.pairwise(ends), strict=True)
            )
        )
        self.count = to
        assert sum(one["open"] for one in said) == to, f"{said} instead of {to}"
        spreads = [one["handshakes_s"] for one in said if one["handshakes_s"]]
        return {
            "took_s": max(one["ended_at"] for one in said) - began,
            "handshakes_s": {name: max(spread[name] for spread in spreads) for name in ("p50", "p99", "max")},
        }

    async def expect(self, text: str) -> None:
        """From now on each connection is to get *text*, once."""
        said = await self._ask_all("expect", text=text)
        assert sum(one["expecting"] for one in said) == self.count

    async def arrived(self, seconds: float) -> tuple[float, float]:
        """Wait until what is expected has come to all; gives when the first and the last have got it (monotonic).

        Raises:
            AssertionError: Some have not got it in *seconds*, or some have got it twice.
        """
        said = await self._ask_all("arrived", seconds)
        twice = sum(one["twice"] for one in said)
        assert not twice, f"{twice} connections have got a message twice"
        return min(one["first_at"] for one in said), max(one["last_at"] for one in said)

    async def tell_each_object(self, text: str) -> float:
        """One connection of each object says *text*; gives when the first did (monotonic)."""
        said = await self._ask_all("tell", text=text, below=self.objects)
        assert sum(one["told"] for one in said) == min(self.objects, self.count)
        return min(float(one["began_at"]) for one in said)

    async def ask(self, text: str, every: int = 1, seconds: float = 60.0) -> list[float]:
        """Every so many-th connection says *text*, and has to be answered with its number and the text.

        Returns:
            The seconds that each answer took.
        """
        said = await self._ask_all("ask", seconds, text=text, every=every)
        took = [one_took for one in said for one_took in one["took_s"]]
        assert len(took) == math.ceil(self.count / every)
        return took

    async def close(self, code: int, seconds: float) -> float:
        """All close with *code*, as fast as they can; gives the seconds until the last TCP has ended."""
        said = await self._ask_all("close", seconds, code=code)
        assert sum(one["closed"] for one in said) == self.count
        self.count = 0
        return max(one["ended_at"] for one in said) - min(one["began_at"] for one in said)

    async def closed(self, seconds: float) -> float:
        """Wait until the other side has closed all; gives when the last TCP has ended (monotonic)."""
        said = await self._ask_all("closed", seconds)
        self.count = 0
        return max(float(one["ended_at"]) for one in said)

    async def seen(self) -> Seen:
        """What they have seen so far."""
        said = await self._ask_all("report")
        ended: Counter[int] = Counter()
        for one in said:
            ended.update({int(code): count for code, count in one["ended"].items()})
        return Seen(
            open=sum(one["open"] for one in said),
            ended=ended,
            strange=sum(one["strange"] for one in said),
            examples=[example for one in said for example in one["examples"]],
            pings=sum(one["pings"] for one in said),
            cpu_s=sum(one["cpu_s"] for one in said),
        )
