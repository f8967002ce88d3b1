"""How cost grows with the number of sockets, up to 100,000 over many objects.

One cluster is filled step by step. At each number of sockets, once all objects sleep: the memory of routers and shards,
their processor time over a while in which nothing happens but pings, and how long it takes until a message of each
object has come to all of its sockets, all objects being told at once. From the repository's root::

    python -m tests.bench.scale --json scale.json --png scale.png

There is one router for each 15,000 sockets from the beginning on, so that the steps differ in sockets only. The clients
are processes of their own (``tests/crowd``), and check each message. What 100,000 sockets of both ends take of the
kernel, about 1 GB, is in no process's memory.

It exits with 1 when something is lost, or when a socket costs more memory or processor time at the largest number than
``LINEAR`` times what it costs at a smaller one: then cost grows faster than the number of sockets. How long things take
is told as well, but a machine that does something else meanwhile would spoil that.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import math
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roost.common.limits import HANDSHAKE_TIMEOUT_S, PING_INTERVAL_S
from tests.bench.running import cpu_s, machine, pss_bytes, write_report
from tests.crowd.crowd import PER_PROCESS, Crowd
from tests.faults.supervised import Supervised
from tests.limit.scenario import APP, PATH
from tests.support.waiting import until

COUNTS = (1_000, 4_000, 16_000, 32_000, 64_000, 100_000)
OBJECTS = 1_000
SHARDS = 2
HIBERNATE_AFTER_S = 0.5
ROUNDS = 3
"""Broadcasts at each number."""
REST_S = PING_INTERVAL_S
"""Seconds over which processor time at rest is measured: each connection is pinged once."""
FORGOTTEN_S = HANDSHAKE_TIMEOUT_S + 1.0
"""Seconds after which a router's timer wheel has let go of what belonged to a handshake."""
MESSAGE_BYTES = 64
DEADLINE_S = 120.0
FEW = 16_000
"""Sockets from which on a connection's cost is compared: with fewer, what a process costs by itself outweighs it."""
LINEAR = 1.3


@dataclass(frozen=True)
class Step:
    """What was measured with one number of sockets.

    Attributes:
        sockets: How many.
        opened_s: Seconds for opening them all, this and the steps before together.
        opened_per_s: Sockets opened a second in this step.
        opened_cpu_s: Processor seconds of opening them all, of ``routers``, ``shards`` and ``clients``.
        memory_bytes: PSS of ``routers`` and ``shards``.
        memory_grown_bytes: What of it has come since there were no sockets.
        rest_cpu: Share of one processor that ``routers``, ``shards`` and ``clients`` use at rest.
        broadcast_s: Median seconds from the first word until the last socket has its message.
        broadcasts_s: Each of them.
        broadcast_cpu_s: Processor seconds of one broadcast, of ``routers``, ``shards`` and ``clients``.
    """

    sockets: int
    opened_s: float
    opened_per_s: float
    opened_cpu_s: dict[str, float]
    memory_bytes: dict[str, int]
    memory_grown_bytes: dict[str, int]
    rest_cpu: dict[str, float]
    broadcast_s: float
    broadcasts_s: list[float]
    broadcast_cpu_s: dict[str, float]

    @property
    def bytes_per_socket(self) -> float:
        """Memory of routers and shards."""
        return sum(self.memory_grown_bytes.values()) / self.sockets

    def per_socket(self) -> dict[str, float]:
        """What a socket costs, by name; each would be the same at any number if all grew in proportion."""
        return {
            "memory (bytes)": self.bytes_per_socket,
            "opening (µs of processor)": sum(self.opened_cpu_s.values()) / self.sockets * 1e6,
            "broadcast (µs of processor)": sum(self.broadcast_cpu_s.values()) / self.sockets * 1e6,
        }

    def line(self) -> str:
        """For the terminal."""
        rest = ", ".join(f"{who} {share:.1%}" for who, share in self.rest_cpu.items())
        return (
            f"{self.sockets:>7,} sockets: opened in {self.opened_s:6.1f} s ({self.opened_per_s:,.0f}/s), "
            f"{self.bytes_per_socket:,.0f} bytes each, broadcast {self.broadcast_s * 1000:,.0f} ms "
            f"({self.sockets / self.broadcast_s:,.0f} frames/s); at rest {rest}"
        )


class Scale:
    """One run.

    Args:
        counts: Numbers of sockets, ascending.
        objects: Objects that they spread over.
        shards: Shards that host those.
    """

    def __init__(self, counts: list[int], objects: int, shards: int) -> None:
        self._counts, self._objects, self._shards = counts, objects, shards
        self.routers = math.ceil(counts[-1] / PER_PROCESS)
        self.steps: list[Step] = []
        self._opened_s = 0.0
        self._opened_cpu_s: dict[str, float] = {}
        self._said = 0

    async def run(self) -> None:
        """All steps.

        Raises:
            AssertionError: A message was lost or came twice, or a connection has ended.
        """
        most = self._counts[-1]
        options = ("--connections", str(most), "--hibernate-after", str(HIBERNATE_AFTER_S))
        async with (
            Supervised(shards=self._shards, routers=self.routers, app=APP, options=options) as self._up,
            Crowd(self._up.port, PATH, objects=self._objects, most=most) as self._crowd,
        ):
            nothing = await self._nothing()
            for count in self._counts:
                self.steps.append(await self._step(count, nothing))
                print(self.steps[-1].line(), flush=True)
            self._up.enter("close all")
            await self._crowd.close(1000, DEADLINE_S)
            seen = await self._crowd.seen()
            assert not seen.strange, f"{seen.strange} messages that nobody expected: {seen.examples}"

    async def _nothing(self) -> dict[str, int]:
        """The memory before there are sockets; once the clients run, for they share pages with the members."""
        await self._crowd.seen()
        await asyncio.sleep(1)
        return self._memory()

    async def _step(self, count: int, nothing: dict[str, int]) -> Step:
        up, crowd = self._up, self._crowd
        up.enter(f"open {count:,} sockets")
        added = count - crowd.count
        before = await self._cpu()
        took_s = (await crowd.grow(count, DEADLINE_S))["took_s"]
        after = await self._cpu()
        self._opened_s += took_s
        self._opened_cpu_s = {who: self._opened_cpu_s.get(who, 0.0) + after[who] - before[who] for who in after}
        up.enter(f"rest with {count:,} sockets")
        await asyncio.sleep(FORGOTTEN_S)
        await until(f"{count:,} sockets to be known and all objects to sleep", self._asleep, DEADLINE_S)
        memory = self._memory()
        rest_cpu = await self._rest()
        up.enter(f"broadcast to {count:,} sockets")
        before = await self._cpu()
        broadcasts_s = [await self._broadcast() for _ in range(ROUNDS)]
        after = await self._cpu()
        return Step(
            sockets=count,
            opened_s=self._opened_s,
            opened_per_s=added / took_s,
            opened_cpu_s=self._opened_cpu_s,
            memory_bytes=memory,
            memory_grown_bytes={who: now - nothing[who] for who, now in memory.items()},
            rest_cpu=rest_cpu,
            broadcast_s=statistics.median(broadcasts_s),
            broadcasts_s=broadcasts_s,
            broadcast_cpu_s={who: (used - before[who]) / ROUNDS for who, used in after.items()},
        )

    def _asleep(self) -> bool:
        counters = [self._up.counters(name) for name in self._up.members("shard")]
        return sum(found["sockets"] for found in counters) == self._crowd.count and not any(
            found["objects_awake"] for found in counters
        )

    async def _rest(self) -> dict[str, float]:
        before, began = await self._cpu(), time.monotonic()
        await asyncio.sleep(REST_S)
        took_s, after = time.monotonic() - began, await self._cpu()
        return {who: (used - before[who]) / took_s for who, used in after.items()}

    async def _broadcast(self) -> float:
        self._said += 1
        text = f"announcement {self._said} ".ljust(MESSAGE_BYTES, ".")
        await self._crowd.expect(text)
        began = await self._crowd.tell_each_object(f"say {text}")
        _, last_at = await self._crowd.arrived(DEADLINE_S)
        return last_at - began

    def _memory(self) -> dict[str, int]:
        return {f"{stem}s": sum(map(pss_bytes, self._up.members(stem).values())) for stem in ("router", "shard")}

    async def _cpu(self) -> dict[str, float]:
        used = {f"{stem}s": sum(map(cpu_s, self._up.members(stem).values())) for stem in ("router", "shard")}
        return {**used, "clients": (await self._crowd.seen()).cpu_s}


def not_linear(steps: list[Step]) -> list[str]:
    """What costs more for each socket at the largest number than at a smaller one, in words."""
    last, wrong = steps[-1], []
    for name, cost in last.per_socket().items():
        for step in steps:
            smaller = step.per_socket()[name]
            if step.sockets >= FEW and cost > LINEAR * smaller:
                wrong.append(
                    f"{name}: {cost:,.1f} a socket at {last.sockets:,}, {smaller:,.1f} at {step.sockets:,}: "
                    f"{cost / smaller:.2f} times as much"
                )
    return wrong


def draw(steps: list[Step], path: Path) -> None:
    """The plot: each figure against the number of sockets, with the straight line from nothing to its last value."""
    from matplotlib.figure import Figure  # only who wants a plot needs it

    sockets = [step.sockets / 1000 for step in steps]
    figure = Figure(figsize=(11, 8), layout="constrained")
    panels = figure.subplots(2, 2).flat

    def panel(title: str, lines: dict[str, list[float]]) -> None:
        axes = next(panels)
        for label, values in lines.items():
            (line,) = axes.plot(sockets, values, marker="o", label=label)
            axes.plot([0, sockets[-1]], [0, values[-1]], linestyle=":", linewidth=1, color=line.get_color())
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("sockets (thousands)")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)

    panel(
        "Memory beyond that of the empty cluster (MiB)",
        {who: [step.memory_grown_bytes[who] / 2**20 for step in steps] for who in steps[0].memory_grown_bytes},
    )
    panel(
        "Processor at rest, with pings (% of one)",
        {who: [step.rest_cpu[who] * 100 for step in steps] for who in steps[0].rest_cpu},
    )
    panel("Time to open all (s)", {"all processes": [step.opened_s for step in steps]})
    panel("Time until a message has come to all (s)", {"all objects at once": [step.broadcast_s for step in steps]})
    figure.savefig(path, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", type=int, nargs="+", default=list(COUNTS), help="sockets at each step, ascending")
    parser.add_argument("--objects", type=int, default=OBJECTS, help="default %(default)s")
    parser.add_argument("--shards", type=int, default=SHARDS, help="default %(default)s")
    parser.add_argument("--json", type=Path, help="file for machine, settings and all figures")
    parser.add_argument("--png", type=Path, help="file for the plot; needs matplotlib (the extra `load`)")
    options = parser.parse_args()
    if options.counts != sorted(set(options.counts)) or options.counts[0] < 1:
        parser.error("--counts must be ascending numbers of sockets")
    before = machine()
    scale = Scale(options.counts, options.objects, options.shards)
    print(f"{scale.routers} routers, {options.shards} shards, {options.objects:,} objects", flush=True)
    asyncio.run(scale.run())
    wrong = not_linear(scale.steps)
    for line in wrong:
        print(f"NOT LINEAR: {line}")
    if options.png is not None:
        draw(scale.steps, options.png)
        print(f"plot: {options.png}")
    settings: dict[str, Any] = {name: str(value) for name, value in vars(options).items()}
    report = {
        "machine": before,
        "settings": {**settings, "routers": scale.routers},
        "steps": [dataclasses.asdict(step) | {"per_socket": step.per_socket()} for step in scale.steps],
        "not_linear": wrong,
    }
    write_report(report, options.json)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
