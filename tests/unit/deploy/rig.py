"""A cluster without processes: posts, a map, and members that do what real ones do, step by step."""

from __future__ import annotations

import random
from collections.abc import Callable

from roost.common.cluster import cluster_map
from roost.common.cluster.cluster_map import ClusterMap, Member
from roost.common.ids import Incarnation
from roost.common.machine.counters import Reading
from roost.deploy.plan.changes import Change, Seen
from roost.deploy.plan.config import UpConfig
from roost.deploy.plan.post import Post, PostState, Restart
from roost.deploy.plan.reconciling import concerns, is_dead, is_settled, next_map, next_steps
from roost.deploy.plan.staffing import Staff

GRACE_S = 10.0


class Rig:
    """What a conductor sees and does; time stands still until a test moves it."""

    def __init__(self, shards: int = 2, routers: int = 1, staff: Staff | None = None) -> None:
        self.staff = staff or Staff.first(UpConfig(shards=shards, routers=routers))
        self.map = ClusterMap()
        self.initial_shards = shards
        self.now = 0.0
        self.change: Change | None = None
        self.counters: dict[str, Reading] = {}
        self.moved = 0
        self.log: list[str] = []
        self._pid = 100
        self._incarnation = 0

    # --- what members do ---

    def start(self, post: Post) -> None:
        self._pid += 1
        self.log.append(f"start {post.name}")
        post.started(self._pid, self.now, 60.0)

    def enter(self, post: Post) -> None:
        """Its process comes into the map and says that it is ready."""
        self._incarnation += 1
        member = Member(post.name, post.kind, Incarnation(self._incarnation), pid=post.pid, seat=post.seat)
        self.map = cluster_map.entered(self.map, member, self.initial_shards)
        self.counters[post.name] = Reading(post.pid, 0, 0, {})
        post.ready(member.incarnation, self.now)

    def enter_all(self) -> None:
        for post in self.staff.posts.values():
            if post.state is PostState.STARTING:
                self.enter(post)

    def hand_over(self) -> bool:
        """Every owner that lives lets go of what is in transit."""
        done = False
        for member in self.map.shards:
            post = self.staff.posts.get(member.name)
            if post is not None and post.pid == member.pid:
                after = cluster_map.handed_over(self.map, member.incarnation, list(self.map.next_owners))
                if after is not None:
                    self.map, done = after, True
        return done

    def die(self, name: str, code: int | None = -9, error: str = "") -> None:
        self.log.append(f"died {name}")
        self.staff.posts[name].ended(code, error, self.now)

    def end(self, name: str) -> None:
        """A process that was told to end does so: it leaves the map if it owns nothing."""
        post = self.staff.posts[name]
        member = self.map.named(name)
        if member is not None and member.pid == post.pid and not concerns(self.map, member.incarnation):
            self.map = cluster_map.without(self.map, member.incarnation)
        verdict = post.ended(0, "", self.now)
        assert not isinstance(verdict, Restart) or post.state is PostState.WAITING

    # --- what the conductor does ---

    def turn(self) -> bool:
        """One turn; returns whether anything was done."""
        done = False
        if self.change is not None:
            before = (len(self.change.lines), self.change.outcome, dict(self.staff.seats), len(self.staff.posts))
            self.change.step(Seen(self.now, self.map, dict(self.counters)))
            done = before != (
                len(self.change.lines),
                self.change.outcome,
                dict(self.staff.seats),
                len(self.staff.posts),
            )
        while (new := next_map(self.map, self.staff, self.now, GRACE_S)) is not None:
            assert new.version == self.map.version + 1
            self.moved += len(new.next_owners.keys() - self.map.next_owners.keys())
            self.map, done = new, True
        steps = next_steps(self.staff, self.map, self.now)
        for post in steps.start:
            self.start(post)
        for post in steps.kill:
            self.log.append(f"kill {post.name}")
            self.die(post.name)
        for post in steps.retire:
            self.log.append(f"retire {post.name}")
            post.retire(self.now + 30.0)
        for post in steps.end:
            self.log.append(f"end {post.name}")
            post.ask_to_end(self.now + 15.0)
        for post in steps.forget:
            del self.staff.posts[post.name]
        return done or bool(steps.start or steps.kill or steps.retire or steps.end or steps.forget)

    def obey(self) -> bool:
        """Members do what they were told: get ready, hand over, end."""
        done = self.hand_over()
        for post in list(self.staff.posts.values()):
            if post.state is PostState.STARTING:
                self.enter(post)
                done = True
            elif post.state in (PostState.ENDING, PostState.RETIRING):
                self.end(post.name)
                done = True
        return done

    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Go on until nothing happens any more, or *until* holds."""
        for _ in range(300):
            if until is not None and until():
                return
            done = self.turn()
            if until is not None and until():
                return
            if not (self.obey() or done):
                if self.change is None or self.change.outcome is not None:
                    break
                self.now += 0.5
        assert until is None or until(), f"{until} never held: {self.log}"

    def carry_out(self, change: Change) -> Change:
        self.change = change
        self.run()
        self.change = None
        self.run()
        return change

    # --- what must hold ---

    def owned(self) -> dict[str, int]:
        return {member.name: len(self.map.slots_of(member.incarnation)) for member in self.map.shards}

    def holds_seat(self, post: Post) -> bool:
        return self.staff.seats.get(post.seat) == post.name

    def settled(self) -> bool:
        return is_settled(self.map, self.staff) and not any(
            is_dead(member, self.staff, ()) for member in self.map.members.values()
        )


def disturb(rig: Rig, choose: random.Random) -> None:
    """Something happens to some member: it dies, its successor is slow, handing over gets on or does not."""
    match choose.randrange(6):
        case 0:
            alive = [post for post in rig.staff.posts.values() if post.pid]
            if alive:
                rig.die(choose.choice(alive).name)
        case 1:
            rig.hand_over()
        case 2:
            starting = [post for post in rig.staff.posts.values() if post.state is PostState.STARTING]
            if starting:
                rig.enter(choose.choice(starting))
        case 3:
            rig.obey()
        case 4:
            rig.now += choose.choice((0.1, 1.0, 11.0))
        case 5:
            pass
    rig.turn()


def started(shards: int = 2, routers: int = 1) -> Rig:
    """A cluster that serves."""
    rig = Rig(shards, routers)
    rig.run()
    assert rig.settled()
    rig.moved = 0
    rig.log.clear()
    return rig
