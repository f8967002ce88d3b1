"""Everything that can happen to an object with as many sockets as one may have, one after the other on one cluster.

A real cluster under its supervisor, one shard and one router for each 15,000 sockets, and real sockets (``crowd``),
which check each message that they get. What goes wrong is an ``AssertionError`` that names the phase; how long things
took is in the rows.
"""

from __future__ import annotations

import asyncio
import json
import math
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from roost.common.errors import TooManyWebSockets
from roost.common.limits import HANDSHAKE_TIMEOUT_S, MAX_WEBSOCKETS_PER_OBJECT, PING_INTERVAL_S
from roost.common.machine.counters import read_counters
from tests.bench.running import cpu_s, pss_bytes
from tests.crowd.crowd import PER_PROCESS, Crowd
from tests.faults.supervised import Supervised
from tests.limit.bare import bare_server
from tests.limit.outcome import Row
from tests.support.client import RawClient, request
from tests.support.waiting import until

APP = Path(__file__).with_name("app.py")
HIBERNATE_AFTER_S = 0.3
PATH = "/hall/{object}?who={number}"
OBJECT = "/hall/0"
WAKE_AT = 10_000
"""Sockets of the object whose waking has a goal."""
ROUNDS = 5
"""Times that what is quick is done."""
SETTLE_S = 0.5
"""Seconds between two readings of memory, which has come to rest when both are nearly the same."""
MESSAGE_BYTES = 64

OPEN_S = 15.0
"""Goal for opening all."""
BARE_RATIO = 1.3
"""Goal for a broadcast: how much longer than the bare server's it may take."""
WAKE_S = 0.020
"""Goal for waking an object with WAKE_AT sockets, with the list of all of them."""
DEADLINE_S = 60.0
"""For whatever is done to all sockets."""
GROWTH, SPARE_BYTES = 0.1, 4 << 20
"""Share of the memory of all sockets, and bytes beside it, that the same sockets may take more the second time."""
OPEN_FORGOTTEN_S, CLOSED_FORGOTTEN_S = HANDSHAKE_TIMEOUT_S + 1.0, PING_INTERVAL_S + 1.0
"""Seconds after which a router's timer wheel has let go of what belonged to a handshake, and of a closed connection."""
CLOSE_BY_CLIENT, CLOSE_BY_OBJECT = 1000, 4000
HELD = {
    "router": ("connections", "ghosts", "objects", "window_bytes", "send_buffer_bytes", "stopped", "parked"),
    "shard": ("objects_awake", "objects_asleep", "sockets"),
}
"""Counters that are 0 when there is nothing."""


class Limit:
    """One run.

    Args:
        sockets: How many; with fewer than the limit nothing is refused.
        rounds: Times that what is quick is done.
        weigh: Whether memory means anything: that takes waiting.
        say: Told what is done next.

    Attributes:
        rows: What has been measured.
    """

    def __init__(
        self,
        sockets: int = MAX_WEBSOCKETS_PER_OBJECT,
        rounds: int = ROUNDS,
        weigh: bool = True,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.sockets = sockets
        self._rounds = rounds
        self._weigh = weigh
        self.rows: list[Row] = []
        self._say = say
        self._said = 0
        self._ended: Counter[int] = Counter()
        self._forgotten_at = -math.inf
        self._slept_s = 0.0

    async def run(self) -> list[Row]:
        """All of it.

        Raises:
            AssertionError: Something was lost, doubled, refused or left behind.
        """
        routers = math.ceil(self.sockets / PER_PROCESS)
        options = ("--connections", str(self.sockets), "--hibernate-after", str(HIBERNATE_AFTER_S))
        async with (
            Supervised(shards=1, routers=routers, app=APP, options=options) as self._up,
            Crowd(self._up.port, PATH, most=self.sockets) as self._crowd,
        ):
            await self._tell()  # so that what is loaded with the first request does not count for sockets
            start = await self._at_rest()
            opened = await self._grow(min(WAKE_AT, self.sockets))
            await self._wake(goal_s=WAKE_S if self.sockets >= WAKE_AT else 0.0)
            opened += await self._grow(self.sockets)
            self._note("all of them opened", opened, goal_s=OPEN_S)
            await self._one_more()
            await self._broadcasts("broadcast to all", asleep=False)
            await self._beside_the_bare_server()
            full = await self._at_rest()
            took = {f"{stem}_kb": (full[stem] - start[stem]) / self.sockets / 1024 for stem in start}
            self._note("hibernated: memory of each socket", self._slept_s, took)
            if self.sockets > WAKE_AT:
                await self._wake()
            await self._broadcasts("woken by a broadcast to all", asleep=True)
            await self._all_ask("each says something, all at once")
            await self._kill()
            await self._all_ask("each says something after that")
            await self._broadcasts("broadcast after that", asleep=False)
            await self._close_all()
            await self._nothing_left()
            empty = await self._at_rest()
            await self._grow(self.sockets)
            again = await self._at_rest()
            kept = {f"{stem}s_keep_kb": max(0, empty[stem] - start[stem]) / 1024 for stem in start}
            more = {f"{stem}_kb": (again[stem] - start[stem]) / self.sockets / 1024 for stem in start}
            self._note("all opened again: memory of each socket", self._slept_s, {**more, **kept})
            await self._object_closes()
            await self._nothing_left()
            self._no_growth(start, full, again)
        return self.rows

    def _enter(self, phase: str) -> None:
        self._say(phase)
        self._up.enter(phase)

    def _note(self, what: str, took_s: float, figures: dict[str, float] | None = None, goal_s: float = 0.0) -> None:
        self.rows.append(Row(what, self._crowd.count or self.sockets, took_s, figures or {}, goal_s))

    # --- asking -------------------------------------------------------------------------------------------------------

    async def _tell(self) -> dict[str, Any]:
        """What the object says of itself."""
        reply = await request(self._up.port, "GET", OBJECT)
        assert reply.status == 200, reply
        told: dict[str, Any] = json.loads(reply.body)
        return told

    def _total(self, stem: str, counter: str) -> int:
        """A counter of all members whose names begin so."""
        return sum(self._up.counters(name)[counter] for name in self._up.members(stem))

    async def _until(self, what: str, condition: Callable[[], bool]) -> None:
        """Wait until counters say so that were published after this call: what they said before may be a quarter of a
        second old."""
        before = self._publications()

        def fresh() -> bool:
            now = self._publications()
            return all(now[name] >= before.get(name, 0) + 2 for name in now) and condition()

        await until(what, fresh, DEADLINE_S)

    def _publications(self) -> dict[str, int]:
        return {name: read_counters(self._up.run / f"{name}.counters").publications for name in self._up.members()}

    def _memory(self) -> dict[str, int]:
        members = self._up.members()
        return {
            stem: sum(pss_bytes(pid) for name, pid in members.items() if name.startswith(stem))
            for stem in ("router", "shard")
        }

    def _cpu(self) -> dict[tuple[str, int], float]:
        return {(name.split("-")[0], pid): cpu_s(pid) for name, pid in self._up.members().items()}

    async def _busy(self, doing: Awaitable[float]) -> tuple[float, dict[str, float]]:
        """The seconds that *doing* gives, and the processor time of the members and the clients meanwhile; that of a
        member which has died is not known."""
        before, clients = self._cpu(), (await self._crowd.seen()).cpu_s
        took_s = await doing
        used = {"routers_cpu_s": 0.0, "shard_cpu_s": 0.0}
        for (stem, pid), now in self._cpu().items():
            used["routers_cpu_s" if stem == "router" else "shard_cpu_s"] += now - before.get((stem, pid), 0.0)
        return took_s, {**used, "clients_cpu_s": (await self._crowd.seen()).cpu_s - clients}

    async def _at_rest(self) -> dict[str, int]:
        """Wait until the object sleeps, all its sockets being there, and memory stays the same; gives that."""
        self._enter(f"hibernate with {self._crowd.count:,} sockets")
        count = self._crowd.count

        def asleep() -> bool:
            return (
                not self._total("shard", "objects_awake")
                and self._total("shard", "sockets") == count
                and self._total("router", "connections") == count
                and not self._total("router", "window_bytes")
            )

        began = time.monotonic()
        await self._until(f"the object to sleep and {count:,} sockets to stay", asleep)
        self._slept_s = time.monotonic() - began
        assert (await self._crowd.seen()).open == count
        return await self._memory_at_rest()

    async def _memory_at_rest(self) -> dict[str, int]:
        if self._weigh:
            await asyncio.sleep(max(0.0, self._forgotten_at - time.monotonic()))
        before = self._memory()
        give_up_at = time.monotonic() + DEADLINE_S
        while True:
            await asyncio.sleep(SETTLE_S)
            now = self._memory()
            if all(abs(now[stem] - before[stem]) < 0.005 * before[stem] for stem in now):
                return now
            assert time.monotonic() < give_up_at, f"memory does not come to rest: {before}, then {now}"
            before = now

    # --- what is done -------------------------------------------------------------------------------------------------

    async def _grow(self, to: int) -> float:
        if to == self._crowd.count:
            return 0.0
        self._enter(f"open sockets up to {to:,}")
        added = to - self._crowd.count
        spread: dict[str, float] = {}

        async def grow() -> float:
            grown = await self._crowd.grow(to, DEADLINE_S)
            spread.update({f"handshake_{name}_s": value for name, value in grown["handshakes_s"].items()})
            return float(grown["took_s"])

        took_s, used = await self._busy(grow())
        self._forgotten_at = time.monotonic() + OPEN_FORGOTTEN_S
        self._note(f"{added:,} opened", took_s, {"a_second": added / took_s, **spread, **used})
        told = await self._tell()
        assert told["sockets"] == to, f"the object has {told['sockets']:,} of {to:,} sockets"
        return took_s

    async def _wake(self, goal_s: float = 0.0) -> None:
        """Wake the sleeping object by one message, and by a request for the list of its sockets; that takes longer."""
        self._enter(f"wake with {self._crowd.count:,} sockets")
        count = self._crowd.count
        answered, listed, within = [], [], []
        lives = {(await self._tell())["life"]}
        for _ in range(self._rounds):
            await self._asleep()
            answered += await self._crowd.ask("are you there?", every=count)
            await self._asleep()
            began = time.monotonic()
            told = await self._tell()
            listed.append(time.monotonic() - began)
            within.append(told["listing_s"])
            assert told["sockets"] == count, f"it lists {told['sockets']:,} of {count:,} sockets"
            lives.add(told["life"])
        assert len(lives) == self._rounds + 1, f"it was not asleep: {lives}"
        awake = await self._crowd.ask("and now?", every=count)
        figures = {"worst_s": max(listed), "the_list_alone_s": statistics.median(within)}
        self._note("woken by a request for the list of all", statistics.median(listed), figures, goal_s)
        figures = {"worst_s": max(answered), "when_awake_s": awake[0]}
        self._note("woken by a message", statistics.median(answered), figures, goal_s)

    async def _asleep(self) -> None:
        await self._until("the object to sleep", lambda: not self._total("shard", "objects_awake"))

    async def _broadcasts(self, what: str, *, asleep: bool) -> None:
        self._enter(what)
        took, first = [], []

        async def all_of_them() -> float:
            for _ in range(self._rounds):
                if asleep:
                    await self._asleep()
                first_s, last_s = await self._broadcast(self._crowd, "say ")
                first.append(first_s)
                took.append(last_s)
            return statistics.median(took)

        took_s, used = await self._busy(all_of_them())
        figures = {
            "frames_a_second": self._crowd.count / took_s,
            "worst_s": max(took),
            "first_frame_s": statistics.median(first),
        }
        self._note(what, took_s, {**figures, **used})

    async def _broadcast(self, crowd: Crowd, verb: str) -> tuple[float, float]:
        """One of the crowd says something that comes to all; gives the seconds until the first and the last have it."""
        self._said += 1
        text = f"announcement {self._said} ".ljust(MESSAGE_BYTES, ".")
        await crowd.expect(text)
        began = await crowd.tell_each_object(f"{verb}{text}")
        first_at, last_at = await crowd.arrived(DEADLINE_S)
        return first_at - began, last_at - began

    async def _beside_the_bare_server(self) -> None:
        """Broadcasts in turn with those of a bare server that has as many connections, in as many processes."""
        self._enter("broadcast in turn with a bare server")
        routers, ours, theirs = len(self._up.members("router")), [], []
        with bare_server(routers) as port:
            async with Crowd(port, "/cast", most=self.sockets) as crowd:
                await crowd.grow(self.sockets, DEADLINE_S)
                for _ in range(self._rounds):
                    ours.append((await self._broadcast(self._crowd, "say "))[1])
                    theirs.append((await self._broadcast(crowd, ""))[1])
        bare_s = statistics.median(theirs)
        ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
        figures = {"bare_server_s": bare_s, "ratio_percent": 100 * statistics.median(ratios)}
        self._note("broadcast, in turn with a bare server", statistics.median(ours), figures, BARE_RATIO * bare_s)

    async def _all_ask(self, what: str) -> None:
        self._enter(what)
        took: list[float] = []

        async def ask() -> float:
            began = time.monotonic()
            took.extend(await self._crowd.ask(f"question {len(self.rows)}", seconds=DEADLINE_S))
            return time.monotonic() - began

        took_s, used = await self._busy(ask())
        took.sort()
        figures = {"answer_p50_s": took[len(took) // 2], "answer_worst_s": took[-1]}
        self._note(what, took_s, {**figures, **used})

    async def _one_more(self) -> None:
        """The object may have no more sockets: what ``accept_web_socket`` raises, it answers with."""
        if self.sockets < MAX_WEBSOCKETS_PER_OBJECT:
            return
        self._enter("one more")
        began = time.monotonic()
        async with await RawClient.open(self._up.port) as client:
            reply = await client.handshake(f"{OBJECT}?who={self.sockets}", expect=503)
        took_s = time.monotonic() - began
        assert reply.text == str(TooManyWebSockets(MAX_WEBSOCKETS_PER_OBJECT, "hibernatable")), reply
        await self._until("the refusal to be counted", lambda: self._total("shard", "sockets_refused") == 1)
        assert (await self._tell())["sockets"] == self.sockets
        assert self._total("shard", "sockets") == self._total("router", "connections") == self.sockets
        self._note("one more is refused", took_s)

    async def _kill(self) -> None:
        self._enter("kill -9 the object's shard")
        count, up = self._crowd.count, self._up
        ready_s = [0.0]

        async def kill() -> float:
            life = (await self._tell())["life"]
            began = time.monotonic()
            pid = await up.kill("shard-1")
            await up.again("shard-1", pid)
            ready_s[0] = time.monotonic() - began

            def attached() -> bool:
                found = up.counters("shard-1")
                return found["sockets"] == count and not found["slots_waiting"]

            await until(f"the new shard to know {count:,} sockets", attached, DEADLINE_S)
            took_s = time.monotonic() - began
            told = await self._tell()
            assert told["life"] != life
            assert told["sockets"] == count, f"it lists {told['sockets']:,} of {count:,} sockets"
            return took_s

        took_s, used = await self._busy(kill())
        seen = await self._crowd.seen()
        assert seen.open == count, f"{count - seen.open:,} sockets were lost: {seen.ended}"
        self._note("shard killed, all attached again", took_s, {"new_shard_ready_s": ready_s[0], **used})

    async def _close_all(self) -> None:
        """All clients close at once; the object hears of each."""
        self._enter("all clients close")
        took_s, used = await self._busy(self._crowd.close(CLOSE_BY_CLIENT, DEADLINE_S))
        await self._all_heard(CLOSE_BY_CLIENT)
        self._note("all closed by clients, and the object has heard of each", took_s, used)

    async def _object_closes(self) -> None:
        """The object closes all of its sockets in one turn."""
        self._enter("the object closes all")

        async def close() -> float:
            began = time.monotonic()
            assert (await request(self._up.port, "GET", f"{OBJECT}?close={CLOSE_BY_OBJECT}")).status == 200
            return await self._crowd.closed(DEADLINE_S) - began

        took_s, used = await self._busy(close())
        await self._all_heard(CLOSE_BY_OBJECT)
        self._note("all closed by the object, which has heard of each", took_s, used)

    async def _all_heard(self, code: int) -> None:
        self._forgotten_at = time.monotonic() + CLOSED_FORGOTTEN_S
        self._ended[code] += self.sockets
        closes = (await self._tell())["closes"]
        wanted = {f"{code} clean": count for code, count in self._ended.items()}
        assert closes == wanted, f"the object has heard {closes}, and there were {wanted}"
        seen = await self._crowd.seen()
        assert seen.ended == self._ended, f"clients were closed with {dict(seen.ended)}"
        assert not seen.strange, f"{seen.strange} messages that nobody expected: {seen.examples}"

    async def _nothing_left(self) -> None:
        """Wait until no counter tells of anything that is held."""
        self._enter("see what is left")

        def left() -> dict[str, int]:
            found = {f"{stem} {name}": self._total(stem, name) for stem, names in HELD.items() for name in names}
            return {name: value for name, value in found.items() if value}

        try:
            await self._until("all counters of what is held to be 0", lambda: not left())
        except AssertionError as error:
            error.add_note(f"they say: {left()}")
            raise

    def _no_growth(self, start: dict[str, int], full: dict[str, int], again: dict[str, int]) -> None:
        """The second crowd has to find room where the first one was. How much of it the allocator gives back to the
        system in between says little: it keeps what is in pieces."""
        for stem, before in start.items():
            grown, more = full[stem] - before, again[stem] - full[stem]
            assert more < GROWTH * grown + SPARE_BYTES, (
                f"the same sockets again took {more:,} bytes of the {stem}s beyond the {grown:,} of the first time"
            )
