"""What is done to a cluster under load, each as a function that gives its row of the table.

The test-suite runs them short, ``python -m tests.faults`` at full length. They wait for events: a process's end, a
map, a counter, an answer; the only sleeps are lengths of time that are themselves part of the fault.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import os
import random
import re
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from roost.common.cluster.cluster_map import ClusterMap, moving, targets
from roost.common.cluster.directory_file import FILE_NAME, DirectoryFile
from roost.common.errors import AppError
from roost.common.ids import Incarnation, Slot, id_from_name, slot_of
from roost.common.limits import GRACE_S, SEND_BUFFER_BYTES, STALL_TIMEOUT_S
from roost.deploy.plan.reloading import CANARY_S
from tests.faults.deaf import Deaf, Memory
from tests.faults.load import Group, Load, Report
from tests.faults.supervised import APP, DEADLINE_S, Supervised, Watched
from tests.faults.table import POISONED, Row
from tests.support.client import request
from tests.support.cluster import Cluster
from tests.support.waiting import until


@dataclass(frozen=True)
class Size:
    """How large a scenario is run.

    Attributes:
        connections: WebSockets.
        rate: Messages a second of each.
        kills: How often a shard is killed.
        every_s: Seconds between two of these kills.
        steady_s: Seconds of traffic before the first fault and after the last.
        thaws_s: After how many seconds a stopped shard is let go on, in turn.
        idle: Sockets that say nothing in the scenario of idle ones.
        full_s: How long the disk stays full after a death.
        grace_s: The cluster's grace time for a dead shard.
        reloads: How often the same app is reloaded before others are.
        canary_s: How long a reload watches its first shard.
        storm_s: How long slots are moved and shards killed at random.
        seed: For what is drawn by lot.
    """

    connections: int
    rate: float
    kills: int
    every_s: float
    steady_s: float
    thaws_s: tuple[float, ...]
    idle: int
    full_s: float
    grace_s: float
    reloads: int
    canary_s: float
    storm_s: float
    seed: int = 1


SHORT = Size(
    connections=80,
    rate=5.0,
    kills=4,
    every_s=1.0,
    steady_s=0.5,
    thaws_s=(),
    idle=500,
    full_s=2.0,
    grace_s=1.5,
    reloads=0,
    canary_s=0.5,
    storm_s=4.0,
)
FULL = Size(
    connections=500,
    rate=5.0,
    kills=30,
    every_s=2.0,
    steady_s=3.0,
    thaws_s=(1.0, 4.7, 4.9, 5.1, 5.3, 5.5),
    idle=10_000,
    full_s=15.0,  # longer than the grace time of a dead shard, shorter than connections wait for an owner
    grace_s=GRACE_S,
    reloads=3,
    canary_s=CANARY_S,
    storm_s=60.0,
)


def mixed(size: Size) -> tuple[Group, ...]:
    """Half of the connections talk to objects that answer at once, a quarter to such that go on working, a quarter
    hears what eight of them say each."""
    quarter = size.connections // 4
    return (
        Group("ledger", size.connections - 2 * quarter, size.rate, objects=max(1, quarter // 2)),
        Group("busy", quarter, size.rate, objects=max(1, quarter // 2)),
        Group("fan", quarter, size.rate / 5, objects=max(1, quarter // 8)),
    )


@dataclass
class Course:
    """A cluster and its load, while a scenario runs.

    Attributes:
        up: The cluster.
        load: Its clients.
        before: Connections that are open at the start.
        began: When the faults began (monotonic seconds).
    """

    up: Supervised
    load: Load
    before: int
    began: float = field(default_factory=time.monotonic)

    async def row(self, what: str, notes: str = "") -> Row:
        """The faults are over: wait until traffic flows, then until all is answered."""
        self.up.enter(f"after: {what}")
        await self.load.flowing()
        took_s = time.monotonic() - self.began
        pauses = (await self.load.report()).pauses
        report = await self.load.settle()
        return Row(what, self.before, report, pauses, took_s, notes)


@contextlib.asynccontextmanager
async def course(up: Supervised, size: Size, *groups: Group, reconnect: bool = False) -> AsyncIterator[Course]:
    """Traffic flows when it begins; pauses count from then on."""
    up.enter("connect")
    async with Load(up.port, *(groups or mixed(size)), reconnect=reconnect) as load:
        up.enter("steady traffic")
        await load.begin()
        await load.flowing()
        await asyncio.sleep(size.steady_s)
        before = await load.report()
        await load.mark()
        yield Course(up, load, before.open)


# --- deaths of shards -----------------------------------------------------------------------------------------------


async def shards_killed(size: Size) -> Row:
    """SIGKILL to one shard after the other, again and again; the supervisor brings them back.

    In turn, as an object is refused that was at work at three deaths within a minute (ADR 27): one that always is
    cannot be told from one that kills.
    """
    async with Supervised(shards=2, routers=2) as up, course(up, size) as now:
        next_at = time.monotonic()
        for number in range(size.kills):
            await asyncio.sleep(max(0.0, next_at - time.monotonic()))
            next_at += size.every_s
            name = f"shard-{number % 2 + 1}"
            up.enter(f"kill {number + 1} of {size.kills}: {name}")
            pid = up.members().get(name)
            if pid is None:
                continue  # it is on its way back
            await up.kill(name)
        await up.attached()
        return await now.row(f"a shard killed every {size.every_s:g} s, {size.kills} times")


async def shard_stopped(size: Size) -> Row:
    """SIGSTOP to a shard: it is found and killed. One that goes on before that, or just then, does no harm."""
    async with Supervised(shards=2, routers=2) as up, course(up, size) as now:
        for thaw_s in size.thaws_s:
            up.enter(f"stop shard-2, go on after {thaw_s:g} s")
            pid = up.members()["shard-2"]
            end = Watched(pid)
            os.kill(pid, signal.SIGSTOP)
            await end.within(thaw_s)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            await now.load.flowing()
            await up.attached()
        up.enter("stop shard-1")
        pid = up.members()["shard-1"]
        end, stopped_at = Watched(pid), time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        killed_after_s = await end.gone() - stopped_at
        await up.again("shard-1", pid)
        await up.attached()
        times = ", ".join(f"{thaw_s:g}" for thaw_s in size.thaws_s)
        more = f", others let go on after {times} s" if times else ""
        return await now.row(f"a shard stopped (SIGSTOP){more}", f"killed after {killed_after_s:.1f} s")


async def crash_to_first_redelivered(size: Size) -> float:
    """Seconds from a shard's SIGKILL to the first answer to a message that had been delivered to it already."""
    busy = Group("busy", size.connections, 4 * size.rate, objects=max(1, size.connections // 8))
    async with Supervised(shards=2, routers=2) as up, course(up, size, busy) as now:
        killed_at = time.monotonic()
        await up.kill("shard-1")
        found = await now.load.until("a redelivered message", lambda report: report.first_again_at > 0)
        (await now.row("a shard killed")).check()
        return found.first_again_at - killed_at


async def idle_sockets(size: Size) -> Row:
    """SIGKILL to the only shard of a cluster whose many sockets are idle and whose objects sleep."""
    objects = 20
    async with Supervised(shards=1, routers=1, options=("--hibernate-after", "0.5")) as up:
        up.enter("connect")
        async with Load(up.port, Group("ledger", size.idle, objects=objects)) as load:
            await load.once()
            before = await load.until("an answer to each", lambda report: not report.unanswered)
            await until("all objects to sleep", lambda: not up.counters("shard-1")["objects_awake"], DEADLINE_S)
            await load.mark()
            up.enter("kill the shard")
            began = time.monotonic()
            pid = await up.kill("shard-1")
            await up.again("shard-1", pid)
            back_at = time.monotonic()

            def all_known() -> bool:
                with contextlib.suppress(FileNotFoundError):
                    found = up.counters("shard-1")
                    return found["sockets"] == size.idle and not found["slots_waiting"]
                return False

            await until(f"the new shard to know {size.idle} sockets", all_known, DEADLINE_S)
            attached_s, took_s = time.monotonic() - back_at, time.monotonic() - began
            listed = 0
            for number in range(objects):
                listed += json.loads((await request(up.port, "GET", f"/ledger/{number}")).body)["sockets"]
            assert listed == size.idle, f"get_web_sockets() lists {listed} of {size.idle}"
            await load.once()
            report = await load.settle()
            notes = f"all attached {attached_s:.1f} s after the shard's return"
            what = f"the only shard of {size.idle:,} idle sockets killed"
            figures = {"attached_s": attached_s}
            return Row(what, before.open, report, report.pauses, took_s, notes, figures)


async def moved_and_killed(size: Size, *, routers_too: bool = False) -> Row:
    """Slots on their way to and fro between three shards all the time, and every now and then one of these is killed,
    or a router.

    The test itself proposes the maps and starts the dead again: no supervisor, which would put things in order.

    A kill may hit a shard just while the code of an event runs whose slot is on its way to another seat. Such an event
    is not given to that one, and its connection closed (``router.poison``): routers must have counted each of these.
    """
    lots = random.Random(size.seed)
    victims = ["shard-1", "shard-2", "shard-3", *(["router-1", "router-2", "router-3"] if routers_too else [])]
    with Cluster(APP, routers=3, shards=3, shard={"hibernate_after_s": 0.3}) as cluster:
        async with Load(cluster.port, *mixed(size), reconnect=routers_too) as load:
            await load.begin()
            await load.flowing()
            await load.mark()
            before = await load.report()
            directory = DirectoryFile(cluster.data / FILE_NAME)
            with contextlib.closing(directory):
                began = time.monotonic()
                moves = kills = 0
                while time.monotonic() - began < size.storm_s:
                    current = directory.map()
                    if not current.next_owners or lots.random() < 0.3:
                        moves += directory.propose(moving(current, some_moves(current, lots)))
                    if lots.random() < 0.15:
                        kills += 1
                        name = lots.choice(victims)
                        # A dead router that a supervisor takes off the map, or its successor by coming.
                        takes_off = name.startswith("router") and lots.random() < 0.5
                        await asyncio.to_thread(cluster.kill_router if takes_off else cluster.kill, name)
                        await asyncio.to_thread(cluster.start, name.split("-")[0], name)
                    await asyncio.sleep(lots.uniform(0.05, 0.3))
                await until("all moves to end", lambda: not directory.map().next_owners, DEADLINE_S)

            def are_back(report: Report) -> bool:
                return report.open == before.open - (0 if routers_too else report.closed.get(POISONED, 0))

            await load.until("who was cut off to be back", are_back)
            await load.flowing()
            took_s = time.monotonic() - began
            pauses = (await load.report()).pauses
            who = "shards and routers" if routers_too else "shards"
            what = f"slots moved at random and {who} killed at random for {size.storm_s:g} s"
            poisoned = 0
            if not routers_too:  # else who was closed has come back, and routers' figures have died with them
                for name in ("router-1", "router-2", "router-3"):
                    poisoned += (await cluster.published(name))["poisoned"]
            notes = f"{moves} moves, {kills} kills" + f"; {poisoned} closed as poisoned (1011)" * bool(poisoned)
            return Row(what, before.open, await load.settle(), pauses, took_s, notes, poisoned=poisoned)


def some_moves(current: ClusterMap, lots: random.Random) -> dict[Slot, Incarnation]:
    """A third of the slots that are not in transit, each to a shard that does not own it."""
    shards = [member.incarnation for member in current.shards]
    slots = [Slot(slot) for slot in range(len(current.owners)) if slot not in current.next_owners]
    return {
        slot: lots.choice([shard for shard in shards if shard != current.owners[slot]])
        for slot in slots
        if lots.random() < 0.3
    }


# --- deaths of others -----------------------------------------------------------------------------------------------


VANISHED = (1006, "WebSocket disconnected without sending Close frame.", False)
"""What an object hears of a client whose router has died."""


async def router_killed(size: Size) -> Row:
    """SIGKILL to a router: its clients come back elsewhere, and its connections have one close event each."""
    async with Supervised(shards=2, routers=2) as up, course(up, size, reconnect=True) as now:
        up.enter("kill router-1")
        pid = await up.kill("router-1")
        await up.again("router-1", pid)
        return await all_told_of(now, "a router killed")


async def router_stopped(size: Size) -> Row:
    """SIGSTOP to a router while slots begin to move: the move waits until it is found and killed, so that whoever has
    its connections hears of their end."""
    async with Supervised(shards=2, routers=2) as up, course(up, size, reconnect=True) as now:
        up.enter("stop router-1 and scale")
        pid = up.members()["router-1"]
        os.kill(pid, signal.SIGSTOP)
        await up.command("scale", "--shards", 4)
        await up.again("router-1", pid)
        await up.attached()
        return await all_told_of(now, "a router stopped (SIGSTOP) while 2 shards become 4")


async def all_told_of(now: Course, what: str) -> Row:
    """Of the connections of a router that has died: their clients are back, and each had one close event."""
    now.up.enter("its clients come back")
    report = await now.load.until("its clients", lambda found: found.reconnected == len(found.ended) > 0)
    now.up.enter(f"close events of the connections {report.ended}")
    await until("a close event for each", lambda: len(now.up.noted()) >= len(report.ended), DEADLINE_S)
    row = await now.row(what, f"its {len(report.ended)} clients came back; one close event (1006) for each")
    told = sorted(note[:4] for note in now.up.noted())
    assert told == sorted((who, *VANISHED) for who in row.report.ended), f"one close event for each, got {told}"
    return row


async def supervisor_killed(size: Size) -> Row:
    """SIGKILL to the supervisor, then to a shard: routers give its slots away. The next ``roost up`` adopts.

    Some clients leave while nobody owns their objects: these hear of it all the same, once.
    """
    async with (
        Supervised(shards=2, routers=2, options=("--grace", str(size.grace_s))) as up,
        course(up, size) as now,
    ):
        up.enter("kill the supervisor")
        await up.kill_supervisor()
        await now.load.flowing()
        leaving = 6
        async with Load(up.port, Group("ledger", leaving, names=up.names_on("ledger", "shard-1", leaving))):
            up.enter("kill shard-1 with no supervisor alive")
            dead = up.map().named("shard-1")
            assert dead is not None
            killed_at = time.monotonic()
            await up.kill("shard-1")
            assert dead.incarnation in up.map().members, "its slots wait for it"
        up.enter("wait for routers to give its slots away")
        await until("its end in the map", lambda: dead.incarnation not in up.map().members, DEADLINE_S)
        given_s = time.monotonic() - killed_at
        await up.attached()
        await now.load.flowing()
        await until("a close event for each client that left", lambda: len(up.noted()) >= leaving, DEADLINE_S)
        up.enter("roost up again")
        others = up.members()
        await up.up()
        await until("a new shard-1", lambda: "shard-1" in up.members(), DEADLINE_S)
        await up.attached()
        assert others.items() <= up.members().items(), "what ran is adopted, not replaced"
        assert len({*up.map().owners}) == 2, "the new shard has its share"
        row = await now.row(
            "the supervisor killed, then a shard, then `roost up`", f"slots given away in {given_s:.1f} s"
        )
        left = sorted((code, clean) for _, code, _, clean, _ in up.noted())
        assert left == [(1000, True)] * leaving, f"one close event for each of the {leaving} that left, got {left}"
        return row


# --- clients and disks ----------------------------------------------------------------------------------------------

FLOOD = (64, 256 << 10)
"""Messages and their size that a client asks for and does not read: 16 MiB."""
FLOODED = 12
"""How many clients do so."""
SLACK_BYTES = 48 << 20
"""What a router may grow by beside the send buffers: batches on their way, and what the allocator keeps."""


async def slow_clients(size: Size) -> Row:
    """Clients that ask for much and read nothing for a while: who goes on then gets all, who does not is closed, and
    nobody else notices."""
    async with Supervised(shards=2, routers=1) as up, course(up, size) as now:
        up.enter("ask and do not read")
        router = up.members()["router-1"]
        memory = Memory(router)
        deaf = [await asyncio.to_thread(Deaf, up.port, f"/flood/{number}") for number in range(FLOODED)]
        for client in deaf:
            client.ask(*FLOOD)
            await asyncio.sleep(0.05)
            memory.look()

        up.enter("some read on")
        late, never = deaf[: FLOODED // 2], deaf[FLOODED // 2 :]
        await asyncio.sleep(STALL_TIMEOUT_S / 3)
        memory.look()
        for client in late:
            count = await asyncio.to_thread(client.read, FLOOD[0])
            assert count == FLOOD[0] * FLOOD[1], f"wanted all, got {count:,} bytes"
        up.enter("the others are closed")

        def all_closed() -> bool:
            memory.look()
            return up.counters("router-1")["slow_consumers_closed"] == len(never)

        await until("the others to be closed", all_closed, STALL_TIMEOUT_S + DEADLINE_S)
        code = await asyncio.to_thread(never[0].last_close)
        assert code == 1013, f"who reads on gets what was sent up to the Close: wanted 1013, got {code}"
        bound = FLOODED * (SEND_BUFFER_BYTES + FLOOD[1]) + SLACK_BYTES
        assert memory.grown < bound, f"the router grew by {memory.grown:,} bytes, {bound:,} are allowed"
        for client in deaf:
            client.close()
        await until("them to be gone", lambda: up.counters("router-1")["connections"] == now.before, DEADLINE_S)
        return await now.row(
            f"{FLOODED} clients that are sent 16 MiB each and read nothing, half of them for a while",
            f"{len(late)} got all when they read on, the others were closed with 1013; "
            f"the router grew by {memory.grown / 2**20:.0f} MiB",
        )


async def disk_full(size: Size) -> Row:
    """No process of the cluster can write to the directory: traffic goes on; what has to change then waits for room."""
    async with Supervised(shards=2, routers=2) as up, course(up, size) as now:
        up.enter("fill the disk")
        wal = up.data / f"{FILE_NAME}-wal"
        up.limit_files(wal.stat().st_size // 2)  # whatever comes next would go behind that
        await asyncio.sleep(size.steady_s)
        calm = await now.load.flowing()
        assert not calm.redelivered
        up.enter("kill shard-1 while the disk is full")
        others = {name: pid for name, pid in up.members().items() if name != "shard-1"}
        version = up.map().version
        pid = await up.kill("shard-1")
        await until(
            "a start that finds no room", lambda: up.supervisors[-1].heard("directory.* cannot be used"), DEADLINE_S
        )
        await asyncio.sleep(size.full_s)
        assert up.map().version == version, "the disk was not full"
        assert up.supervisors[-1].alive
        assert others.items() <= up.members().items(), "nobody else died"
        up.enter("make room")
        up.limit_files(None)
        await up.again("shard-1", pid)
        await up.attached()
        return await now.row(
            "a full disk, a shard killed meanwhile, then room", f"pauses before the kill: {calm.pauses}"
        )


# --- scaling and reloading ------------------------------------------------------------------------------------------


CLOSED = re.compile(r"([0-9,]+) sockets under accept\(\) closed with 1012")


async def scaled(size: Size) -> Row:
    """``roost scale`` from two shards to five and down to one."""
    async with Supervised(shards=2, routers=2) as up, course(up, size) as now:
        async with Load(up.port, Group("standing", 8, size.rate, objects=8)) as standing:
            await standing.begin()
            told = 0
            for shards in (5, 1):
                up.enter(f"scale to {shards} shards")
                told += int(found[1]) if (found := CLOSED.search(await up.command("scale", "--shards", shards))) else 0
                await up.attached()
                assert len(up.members("shard-")) == shards
                await asyncio.sleep(size.steady_s)
            report = await standing.report()
        assert report.closed == {1012: told}, f"the commands told of {told} sockets under accept(): {report.closed}"
        return await now.row("2 → 5 → 1 shards", f"{report.closed[1012]} of 8 sockets under accept() closed with 1012")


async def routers_scaled(size: Size) -> Row:
    """``roost scale --routers`` from one to three and down to one: who leaves tells its clients."""
    async with Supervised(shards=2, routers=1) as up, course(up, size, reconnect=True) as now:
        for routers in (3, 1):
            up.enter(f"scale to {routers} routers")
            if routers == 1:
                # Clients that come now spread over all three.
                async with Load(up.port, Group("ledger", 60, size.rate, objects=10)) as more:
                    await more.begin()
                    await more.flowing()
                    await up.command("scale", "--shards", 2, "--routers", routers)
                    await up.attached()
                    seen = await more.settle()
                assert seen.closed.keys() == {1001}, f"a router that leaves closes with 1001: {seen.closed}"
                assert not seen.violations, seen.examples
                assert not seen.lost
            else:
                await up.command("scale", "--shards", 2, "--routers", routers)
                await up.attached()
        await now.load.until("who left to be back", lambda report: report.open == now.before)
        return await now.row("1 → 3 → 1 routers", f"{sum(seen.closed.values())} of 60 clients told to go (1001)")


async def reloaded(size: Size) -> Row:
    """``roost reload`` with the same app, with a broken one, which is refused, and with another version."""
    async with Supervised(shards=2, routers=2) as up, course(up, size) as now:
        reload = ("reload", "--canary", size.canary_s)
        generations = [up.members("shard-")]
        for number in range(size.reloads):
            up.enter(f"reload the same app, {number + 1} of {size.reloads}")
            await up.command(*reload)
            await up.attached()
            generations.append(up.members("shard-"))
        up.enter("reload an app that does not import")
        text, before = up.app.read_text(), up.members()
        up.app.write_text(text + "\nimport no_such_module\n")
        said = await up.command(*reload, code=AppError.exit_code)
        assert "no_such_module" in said, said
        assert up.members() == before, "it is refused before any shard is touched"
        up.enter("reload another version")
        up.app.write_text(text.replace("VERSION = 1", "VERSION = 2"))
        await up.command(*reload)
        await up.attached()
        generations.append(up.members("shard-"))
        await now.load.flowing()
        old = (await now.load.report()).versions["1"]
        same = f"the same app {size.reloads} times, " if size.reloads else ""
        row = await now.row(f"reloaded: {same}a broken one (refused), another version")
        assert row.report.versions["1"] == old, "the old version answers nothing any more"
        assert row.report.versions["2"] > 0
        for earlier, later in itertools.pairwise(generations):
            assert not {*earlier.values()} & {*later.values()}, "each shard has a successor"
        return row


async def moved(size: Size, routers: int, namespace: str) -> list[Row]:
    """All connections are moved: by a second shard that comes, when it goes again, and by a reload."""
    # Objects whose slots a second shard takes over, all of them.
    owners = targets({"shard-1": 1.0, "shard-2": 1.0})
    names = (str(number) for number in itertools.count())
    theirs = (name for name in names if owners[slot_of(id_from_name(namespace, name))] == "shard-2")
    chosen = tuple(itertools.islice(theirs, max(1, size.connections // 10)))
    group = Group(namespace, size.connections, size.rate, names=chosen)
    rows = []
    async with Supervised(shards=1, routers=routers) as up, Load(up.port, group) as load:
        for what, command in {
            "by a second shard": ("scale", "--shards", 2),
            "when it goes": ("scale", "--shards", 1),
            "by a reload": ("reload", "--canary", size.canary_s),
        }.items():
            up.enter(what)
            await load.begin()
            await load.flowing()
            await asyncio.sleep(size.steady_s)
            await load.mark()
            now = Course(up, load, size.connections)
            await up.command(*command)
            await up.attached()
            await load.until("an answer of another instance to each", lambda report: report.moved == size.connections)
            rows.append(await now.row(f"{size.connections:,} connections moved {what}"))
    return rows


ALL: Mapping[str, Callable[[Size], Coroutine[Any, Any, Row]]] = {
    "scaled": scaled,
    "routers-scaled": routers_scaled,
    "reloaded": reloaded,
    "shards-killed": shards_killed,
    "moved-and-killed": moved_and_killed,
    "moved-and-all-killed": functools.partial(moved_and_killed, routers_too=True),
    "shard-stopped": shard_stopped,
    "router-killed": router_killed,
    "router-stopped": router_stopped,
    "supervisor-killed": supervisor_killed,
    "slow-clients": slow_clients,
    "disk-full": disk_full,
    "idle-sockets": idle_sockets,
}
"""The scenarios of the table, in its order."""
