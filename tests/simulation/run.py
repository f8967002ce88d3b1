"""One run: a cluster, its clients, and the plan of a seed carried out on them; then quiet, then the checks."""

from __future__ import annotations

import gc
import logging
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from roost.common.cluster.cluster_map import MemberKind
from roost.common.ids import Incarnation, Slot, id_from_name, slot_of
from roost.router.owners.forwarding import Forwarding

from . import checks, plan
from .clients import Caller, Client, Stage
from .cluster import Cluster, Member
from .defects import SITES, sites
from .loops import START_S, OurOwnError, State
from .network import Weather
from .outside import small
from .room import AsAsked
from .supervisor import Supervisor

SETTLE_S = 60.0
"""Simulated seconds after the last fault within which everything must be as if there had been none."""
LOOK_S = 0.25
"""Seconds between two looks whether that is so."""


@dataclass(slots=True)
class Outcome:
    """What came of a run.

    Attributes:
        seed: Which run.
        faults: What was wrong, in words; empty if nothing was.
        took_s: Simulated seconds.
        tally: How much of what there was.
        events: The event log, if asked for.
    """

    seed: int
    faults: list[str]
    took_s: float = 0.0
    tally: Counter[str] = field(default_factory=Counter)
    events: list[str] = field(default_factory=list)


class Run:
    """Carries a plan out.

    Args:
        seed: The seed.
        tracing: Keep an event log.
        theme: What the run is to be full of; see ``plan``.
    """

    def __init__(self, seed: int, *, tracing: bool = False, theme: str = "") -> None:
        self.plan = plan.draw(seed, theme)
        self.cluster = Cluster(seed, initial_shards=self.plan.shards, tracing=tracing)
        self.supervisor = Supervisor(self.cluster)
        self.cluster.talk = self._talk
        self.clients: list[Client] = []
        self.callers: list[Caller] = []
        self._over = False
        self._verdict: list[str] = []
        self._quiet_at = 0.0
        self._routers = self.plan.routers

    # --- the course of a run ---

    def go(self) -> list[str]:
        """Carry everything out; returns what was wrong."""
        cluster = self.cluster
        for number in range(1, self.plan.shards + 1):
            self.supervisor.seats[f"shard-{number}"] = f"shard-{number}"
        for number in range(1, self.plan.routers + 1):
            self.supervisor.add_router(f"router-{number}")
        self.supervisor.begin()
        for step in self.plan.steps:
            cluster.later(step.at, self._do, step)
        cluster.later(self.plan.lasts_s + 0.6, self._heal)
        cluster.scheduler.run(lambda: self._over or cluster.history.stopped or cluster.broken is not None)
        if cluster.broken is not None:
            raise cluster.broken
        return [*cluster.history.faults, *self._verdict]

    def _do(self, step: plan.Step) -> None:
        if self.cluster.history.tracing and not step.what.startswith("say_"):
            self.cluster.history.note(f"--- {step.what} {step.who:.3f} {step.value:.3f}")
        if step.what.startswith("say_"):
            self._say(step.what[4:], step.who, step.value)
        else:
            getattr(self, f"_{step.what}")(step.who, step.value)

    def _heal(self) -> None:
        """No more faults: mend what does not mend itself, and wait until all is quiet."""
        cluster = self.cluster
        if cluster.history.tracing:
            cluster.history.note("--- no more faults")
        cluster.network.weather = Weather()
        cluster.network.deaf.clear()
        cluster.hunts.clear()
        for client in self.clients:
            client.slow_down(False)
        for process in cluster.members:
            process.armed = None
        for pair in sorted(cluster.network.cut):
            cluster.network.heal(pair)
        cluster.store.full = False
        cluster.store.lag_s.clear()
        for member in list(cluster.members.values()):
            cluster.thaw(member.process)
        self.supervisor.begin()
        self._quiet_at = cluster.now
        cluster.later(LOOK_S, self._look, self._empty)

    def _look(self, then: Callable[[], None]) -> None:
        unsettled = checks.unsettled(self)
        if not unsettled:
            then()
        elif self.cluster.now - self._quiet_at > SETTLE_S:
            self._verdict.append(f"not settled {SETTLE_S:g} s after the last fault: " + "; ".join(unsettled))
            self._over = True
        else:
            self.cluster.later(LOOK_S, self._look, then)

    def _empty(self) -> None:
        """All is as it should be: check, then let all clients go and check again."""
        self._verdict += checks.after(self)
        if self.cluster.history.tracing:
            self.cluster.history.note("--- the clients go")
        for client in self.clients:
            client.close(1000, "end")
        self._quiet_at = self.cluster.now
        self.cluster.later(LOOK_S, self._look, self._end)

    def _end(self) -> None:
        self._verdict += checks.at_the_end(self)
        self._over = True

    # --- clients ---

    def _open_clients(self) -> list[Client]:
        return [client for client in self.clients if client.stage is Stage.OPEN]

    def _connect(self, who: float, value: float) -> None:
        room = self.plan.rooms[int(who * 997) % len(self.plan.rooms)]
        client = Client(self.cluster, int(value) + 1, room, ("", "red", "blue")[int(who * 991) % 3])
        self.clients.append(client)
        self.cluster.clients.append(client)
        self._try_to_connect(client, who)

    def _try_to_connect(self, client: Client, who: float) -> None:
        routers = [each for each in self.cluster.living(MemberKind.ROUTER) if each.process.loop.factory is not None]
        if routers:
            client.connect(_one_of(routers, who).process)
        else:
            self.cluster.later(0.3, self._try_to_connect, client, who)

    def _call(self, who: float, value: float) -> None:
        routers = [each for each in self.cluster.living(MemberKind.ROUTER) if each.process.loop.factory is not None]
        if routers:
            room = self.plan.rooms[int(who * 997) % len(self.plan.rooms)]
            wait, size = (
                f"{value * 0.2:.3f}" if value > 0.5 else "",
                int(40_000 * (value * 17 % 1)) if value < 0.7 else 0,
            )
            caller = Caller(self.cluster, 1000 + len(self.callers), room, wait, size)
            self.callers.append(caller)
            self.cluster.clients.append(caller)
            caller.call(_one_of(routers, value).process)

    def _say(self, verb: str, who: float, value: float) -> None:
        clients = self._open_clients()
        if not clients:
            return
        argument = {
            "tagged": "red",
            "wait": f"{0.05 * value:.4f}",
            "stubborn": f"{3 + 5 * value:.3f}",
            "auto": "on" if value < 0.7 else "off",
            "limit": str((0, 20_000, 60_000)[int(3 * value)]),
            "large": str(int(4_000 + 30_000 * value**2)),
            "bye": str(4000 + int(100 * value)),
        }.get(verb, "")
        _one_of(clients, who).say(verb, argument)

    def _ping(self, who: float, value: float) -> None:
        clients = self._open_clients()
        if clients:
            _one_of(clients, who).ping()

    def _close(self, who: float, value: float) -> None:
        clients = self._open_clients()
        if clients:
            _one_of(clients, who).close(1000 + (3000 if value else 0), "bye")

    def _talk(self, client: Client) -> None:
        if client in self._open_clients():
            client.say("echo", "")

    def _vanish(self, who: float, value: float) -> None:
        clients = self._open_clients()
        if clients:
            _one_of(clients, who).vanish()

    def _numb(self, who: float, value: float) -> None:
        """A client takes nothing for a while, and there is much for it meanwhile."""
        clients = self._open_clients()
        if clients:
            client = _one_of(clients, who)
            client.slow_down(True)
            self.cluster.later(0.3 + 4 * value**2, client.slow_down, False)
            for index in range(3):
                self.cluster.later(0.05 * (index + value), self._flood, client, (who * (index + 3)) % 1)

    def _flood(self, client: Client, who: float) -> None:
        if who < 0.5:
            client.say("flood", "x")
        else:
            mates = [each for each in self._open_clients() if each.room == client.room]
            if mates:
                _one_of(mates, 2 * who - 1).say("flood", "y")

    # --- faults ---

    def _some(self, kind: MemberKind, who: float) -> Member | None:
        members = [each for each in self.cluster.serving(kind) if each.process.state is State.RUNNING]
        return _one_of(members, who) if members else None

    def _crash_shard(self, who: float, value: float) -> None:
        member = self._some(MemberKind.SHARD, who)
        if member is not None:
            self.cluster.kill(member.process)

    def _lose_shard(self, who: float, value: float) -> None:
        member = self._some(MemberKind.SHARD, who)
        if member is not None:
            self.supervisor.lost.add(member.name)
            self.cluster.kill(member.process)

    def _crash_router(self, who: float, value: float) -> None:
        member = self._some(MemberKind.ROUTER, who)
        if member is not None:
            self.cluster.kill(member.process)

    def _freeze(self, member: Member | None, value: float) -> None:
        if member is not None:
            self.cluster.freeze(member.process)
            # Shorter than the time after which it is killed, or longer.
            self.cluster.later(0.2 + 10 * value, self.cluster.thaw, member.process)

    def _freeze_shard(self, who: float, value: float) -> None:
        self._freeze(self._some(MemberKind.SHARD, who), value)

    def _freeze_router(self, who: float, value: float) -> None:
        self._freeze(self._some(MemberKind.ROUTER, who), value)

    def _expel(self, member: Member | None, who: float, value: float) -> None:
        if member is not None:
            expelled_s, thawed_s = 0.3 + 3 * value, 0.3 + 3 * value + 2 * who**2
            # It may go on for a while before it learns that it was expelled.
            self.cluster.store.lag_s[member.name] = 3 * (thawed_s - expelled_s) + 0.1
            self.cluster.freeze(member.process)
            self.cluster.later(expelled_s, self.supervisor.expel, member)
            self.cluster.later(thawed_s, self.cluster.thaw, member.process)
            self.cluster.later(thawed_s, self.cluster.store.lag_s.pop, member.name, None)

    def _expel_shard(self, who: float, value: float) -> None:
        self._expel(self._some(MemberKind.SHARD, who), who, value)

    def _expel_router(self, who: float, value: float) -> None:
        self._expel(self._some(MemberKind.ROUTER, who), who, value)

    def _lose_supervisor(self, who: float, value: float) -> None:
        self.supervisor.die()
        if value < 0.5:
            self.cluster.later(1 + 10 * value, self.supervisor.begin)

    def _defect(self, who: float, value: float) -> None:
        """A process of ours meets an error of its own, the next time that it comes to some place."""
        kind = MemberKind.ROUTER if who < 0.5 else MemberKind.SHARD
        member = self._some(kind, (2 * who) % 1)
        if member is not None:
            member.process.armed = _one_of(list(SITES[kind]), value)

    def _defect_in_map(self, who: float, value: float) -> None:
        """A router fails to take the next map."""
        member = self._some(MemberKind.ROUTER, who)
        if member is not None:
            member.process.armed = (Forwarding, "take_map")

    # --- moves ---

    def _grow(self, who: float, value: float) -> None:
        if len(self.supervisor.seats) < 4:
            self.supervisor.add_shard()

    def _shrink(self, who: float, value: float) -> None:
        self.supervisor.remove_shard(_one_of(list(self.supervisor.seats.values()), who))

    def _reload(self, who: float, value: float) -> None:
        self.supervisor.replace_shard(_one_of(list(self.supervisor.seats.values()), who))

    def _move(self, who: float, value: float) -> None:
        """Rooms' slots go somewhere else, whatever is going on."""
        shards = self.cluster.store.map.shards
        if shards and self.cluster.store.map.has_owners:
            moves = {}
            for index, room in enumerate(self.plan.rooms):
                if (who * (index + 3)) % 1 < 0.6:
                    to = _one_of(list(shards), (value * (index + 7)) % 1)
                    moves[slot_of(id_from_name("room", room))] = to.incarnation
            self.supervisor.move(moves)

    def _move_on(self, who: float, value: float) -> None:
        """Several moves, one right after the other."""
        for index in range(2 + int(3 * who)):
            self.cluster.later(index * 0.05 * value, self._move, (who * (index + 2)) % 1, (value * (index + 5)) % 1)

    def _bounce(self, who: float, value: float) -> None:
        """A room's slot goes away and comes back, while most of what is sent to its shard gets lost on the way."""
        current, network = self.cluster.store.map, self.cluster.network
        slot = slot_of(id_from_name("room", _one_of(self.plan.rooms, who)))
        home = current.owners[slot]
        others = [member.incarnation for member in current.shards if member.incarnation != home]
        if others and current.has_owners:
            network.deaf[home] = 0.3 + 0.7 * value
            self.cluster.later(0.15 + 0.3 * who, network.deaf.pop, home, None)
            for index in range(5):
                self.cluster.later(0.02 * index * value, self._say, "echo", (who * (index + 3)) % 1, value)
                self.cluster.later(0.02 * index * who, self._call, (who * (index + 3)) % 1, value)
            self.cluster.later(0.03 * who, self.supervisor.move, {slot: _one_of(others, value)})
            self.cluster.later(0.05, self._bounce_back, slot, home, 50)

    def _bounce_back(self, slot: Slot, home: Incarnation, tries: int) -> None:
        current = self.cluster.store.map
        if current.owners[slot] == home or slot in current.next_owners:
            if tries:
                self.cluster.later(0.01, self._bounce_back, slot, home, tries - 1)
        elif home in current.members:
            self.supervisor.move({slot: home})

    def _crash_mover(self, who: float, value: float) -> None:
        """A move, in which the one who lets go or the one who takes over dies."""
        self._move(who, value)
        current = self.cluster.store.map
        if current.next_owners:
            slot = _one_of(sorted(current.next_owners), who)
            victim = current.owners[slot] if value < 0.5 else current.next_owners[slot]
            member = self.cluster.member_of(victim)
            if member is not None:
                self.cluster.later(0.15 * ((who + value) % 1) ** 2, self.cluster.kill, member.process)

    def _crash_unseen(self, who: float, value: float) -> None:
        """A move that a router does not hear of for a while, and the death of a shard soon after."""
        router = self._some(MemberKind.ROUTER, who)
        if router is not None:
            self._lag_of(router.name, 1.0 + 2 * value)
            self._move(who, value)
            for index in range(4):
                self.cluster.later(0.02 + 0.03 * index, self._say, "cast", (who * (index + 3)) % 1, value)
            self.cluster.later(0.05 + 0.15 * value, self._crash_shard, (who * 7) % 1, value)

    def _crash_again(self, who: float, value: float) -> None:
        """The death of a shard, and of whoever is then given what it had, half way through that."""
        for index in range(6):
            self.cluster.later(0.01 * index * value, self._say, "cast", (who * (index + 3)) % 1, value)
        self._crash_shard(who, value)
        self.cluster.hunts.append(0.5 + value / 2)

    def _move_talking(self, who: float, value: float) -> None:
        """A move, half way through which clients talk."""
        self.cluster.hunts.append(value / 2)
        self._move(who, value)

    # --- the network, the disk ---

    def _cut_link(self, who: float, value: float) -> None:
        network = self.cluster.network
        router, shard = self._some(MemberKind.ROUTER, who), self._some(MemberKind.SHARD, value)
        if router is not None and shard is not None:
            pair = (router.incarnation, shard.incarnation)
            network.cut.add(pair)
            self.cluster.later(0.05 + 2 * value, network.heal, pair)

    def _weather(self, seconds: float, **what: float) -> None:
        weather = self.cluster.network.weather
        for name, value in what.items():
            setattr(weather, name, value)
            self.cluster.later(seconds, setattr, weather, name, getattr(Weather(), name))

    def _lose_batches(self, who: float, value: float) -> None:
        self._weather(0.2 + 2 * who, loss=0.02 + 0.5 * value)

    def _double_batches(self, who: float, value: float) -> None:
        self._weather(0.2 + 2 * who, doubling=0.5 * value)

    def _overtake(self, who: float, value: float) -> None:
        self._weather(0.2 + 2 * who, overtaking=0.5 * value, delay_s=0.03)

    def _slow_down(self, who: float, value: float) -> None:
        self._weather(0.2 + 2 * who, delay_s=0.3 * value)

    def _lag(self, who: float, value: float) -> None:
        self._lag_of(_one_of(list(self.cluster.members.values()), who).name, 3 * value)

    def _lag_of(self, name: str, seconds: float) -> None:
        """A process hears of new maps late."""
        self.cluster.store.lag_s[name] = seconds
        self.cluster.later(3.0, self.cluster.store.lag_s.pop, name, None)

    def _fill_disk(self, who: float, value: float) -> None:
        self.cluster.store.full = True
        self.cluster.later(0.1 + 3 * value, setattr, self.cluster.store, "full", False)

    def _join_router(self, who: float, value: float) -> None:
        if self.supervisor.alive and len(self.cluster.living(MemberKind.ROUTER)) < 4:
            self._routers += 1
            self.supervisor.add_router(f"router-{self._routers}")

    def _leave_router(self, who: float, value: float) -> None:
        member = self._some(MemberKind.ROUTER, who)
        if member is not None and len(self.supervisor.routers) > 1 and member.name in self.supervisor.routers:
            del self.supervisor.routers[member.name]
            self.cluster.terminate(member.process, signal.SIGTERM if value < 0.5 else signal.SIGUSR1)


def _one_of(things: list, who: float):  # type: ignore[no-untyped-def,type-arg]
    return things[min(int(who * len(things)), len(things) - 1)]


class _Logs(logging.Handler):
    """What members log: an error of the room's code that nobody asked for is a fault, and tracing shows all."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self._cluster = cluster

    def emit(self, record: logging.LogRecord) -> None:
        history = self._cluster.history
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, AsAsked | OurOwnError | SystemExit):
            history.fault(f"{record.getMessage()}: {error!r}")
        elif history.tracing:
            history.note(f"    {record.name} {record.levelname}: {record.getMessage()}")


def _tally(run: Run) -> Counter[str]:
    cluster, history = run.cluster, run.cluster.history
    lost = [member for member in cluster.members.values() if member.lost_at > 0]
    return Counter(
        {
            "messages": sum(len(client.accepted) for client in run.clients),
            "replies": sum(len(client.arrived) for client in run.clients),
            "executions": len(history.executions),
            "executions redelivered": sum(each.redelivered for each in history.executions),
            "executions at expelled shards": sum(each.stale for each in history.executions),
            "executions cancelled": sum(each.cancelled for each in history.executions),
            "maps": len(cluster.maps),
            "releases": history.releases,
            "shards lost": sum(member.kind is MemberKind.SHARD for member in lost),
            "routers lost": sum(member.kind is MemberKind.ROUTER for member in lost),
            "members expelled alive": sum(0 < member.lost_at < member.died_at for member in lost),
            "owners lost half way": cluster.hunted,
            "batches carried": cluster.network.carried,
            "batches lost": cluster.network.lost,
            "writes refused": cluster.store.refused,
            "errors of our own": len(history.defects),
        }
    )


def simulate(seed: int, *, tracing: bool = False, theme: str = "") -> Outcome:
    """Run one seed."""
    collecting = gc.isenabled()
    gc.disable()
    logger = logging.getLogger("roost")
    before = logger.level, logger.propagate
    try:
        with small(), sites():
            run = Run(seed, tracing=tracing, theme=theme)
            logs = _Logs(run.cluster)
            logger.setLevel(logging.INFO if tracing else logging.ERROR)
            logger.propagate = False
            logger.addHandler(logs)
            try:
                faults = run.go()
            finally:
                logger.setLevel(logging.CRITICAL + 1)
                run.cluster.scheduler.dispose()
                logger.removeHandler(logs)
                logger.setLevel(before[0])
                logger.propagate = before[1]
        return Outcome(seed, faults, run.cluster.now - START_S, _tally(run), run.cluster.history.events)
    finally:
        if collecting:
            gc.enable()
