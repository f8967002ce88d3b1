"""Who is dead when no supervisor says so."""

from __future__ import annotations

from roost.common.cluster.cluster_map import ClusterMap, Member, MemberKind, plan_first, with_member
from roost.common.ids import Incarnation
from roost.common.machine.liveness import Sight
from roost.router.guard.judging import Findings, Guard

ME = Member("router-1", MemberKind.ROUTER, Incarnation(1), pid=101)
ROUTER = Member("router-2", MemberKind.ROUTER, Incarnation(2), pid=102)
ONE = Member("shard-1", MemberKind.SHARD, Incarnation(3), "ipc://3", ("room",), 103)
TWO = Member("shard-2", MemberKind.SHARD, Incarnation(4), "ipc://4", ("room",), 104)
DEAD = Sight(False)


def cluster(*members: Member) -> ClusterMap:
    made = ClusterMap()
    for member in members:
        made = with_member(made, member)
    return plan_first(made) if made.shards else made


FULL = cluster(ME, ROUTER, ONE, TWO)


class World:
    """A guard and what it sees: all live and count, but for what a test says."""

    def __init__(self, current: ClusterMap = FULL) -> None:
        self.guard = Guard(ME.incarnation, grace_s=10.0, stall_kill_s=30.0, frozen_kill_s=5.0)
        self.current = current
        self.now = 0.0
        self.count = 0
        self.seen: dict[Member, Sight] = {}

    def look(self, after: float = 1.0) -> Findings:
        self.now += after
        self.count += 1
        sights = {
            member.incarnation: self.seen.get(member, Sight(True, (self.count, self.count)))
            for member in self.current.members.values()
            if member != ME
        }
        return self.guard.look(self.now, self.current, sights)


def test_nothing_is_to_be_done_while_all_work() -> None:
    world = World()
    assert [world.look() for _ in range(100)] == [Findings()] * 100


def test_a_dead_router_leaves_at_once() -> None:
    world = World()
    world.seen[ROUTER] = DEAD
    assert world.look() == Findings(remove=(ROUTER,))


def test_a_dead_shard_has_its_time_of_grace() -> None:
    world = World()
    world.seen[ONE] = DEAD
    found = [world.look() for _ in range(11)]
    assert found[:10] == [Findings()] * 10
    assert found[10] == Findings(remove=(ONE,))
    assert world.look() == Findings(remove=(ONE,)), "until the map does without it"


def test_the_last_shard_stays_until_another_lives() -> None:
    world = World()
    world.seen |= {ONE: DEAD, TWO: DEAD}
    assert [world.look() for _ in range(30)] == [Findings()] * 30
    del world.seen[TWO]
    assert world.look() == Findings(remove=(ONE,))


def test_grace_is_of_one_incarnation() -> None:
    world = World()
    world.seen[ONE] = DEAD
    for _ in range(9):
        world.look()
    successor = Member("shard-1", MemberKind.SHARD, Incarnation(9), "ipc://9", ("room",), 109)
    world.current = cluster(ME, ROUTER, TWO, successor)
    assert world.look() == Findings()
    world.seen[successor] = DEAD
    assert [world.look() for _ in range(10)] == [Findings()] * 10
    assert world.look() == Findings(remove=(successor,))


def test_a_frozen_member_is_killed_and_found_dead_later() -> None:
    world = World()
    world.seen[ONE] = Sight(True, (1, 1))
    found = [world.look() for _ in range(6)]
    assert found == [Findings()] * 5 + [Findings(kill=((ONE, "frozen"),))]
    world.seen[ONE] = DEAD
    assert world.look() == Findings()


def test_a_stalled_member_is_killed() -> None:
    world = World()
    for second in range(31):
        world.seen[ROUTER] = Sight(True, (1, second))
        found = world.look()
        assert found == (Findings(kill=((ROUTER, "stalled"),)) if second == 30 else Findings())


def test_one_that_is_busy_is_not_frozen() -> None:
    world = World()
    world.seen[ONE] = Sight(True, (1, 1), running=True)
    assert [world.look() for _ in range(20)] == [Findings()] * 20


def test_a_guard_that_was_stopped_itself_kills_nobody() -> None:
    world = World()
    world.look()
    world.count -= 1  # nobody has counted between these two looks
    assert world.look(after=3600.0) == Findings()


def test_who_has_published_nothing_is_not_judged() -> None:
    world = World()
    world.seen[ONE] = Sight(True)
    assert [world.look() for _ in range(60)] == [Findings()] * 60


def test_a_supervisor_starts_the_judging_anew() -> None:
    world = World()
    world.seen |= {ONE: DEAD, ROUTER: Sight(True, (1, 1))}
    for _ in range(5):
        world.look()
    world.guard.rest()
    assert [world.look() for _ in range(5)] == [Findings()] * 5
    assert world.look() == Findings(kill=((ROUTER, "frozen"),))
    assert world.look().remove == ()


def test_a_router_that_is_not_in_the_map_judges_nobody() -> None:
    world = World(cluster(ROUTER, ONE, TWO))
    world.seen[ROUTER] = DEAD
    assert world.look() == Findings()
