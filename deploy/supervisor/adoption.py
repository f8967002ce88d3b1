"""Adoption: taking over the members that an earlier supervisor left. Pure.

What lives is compared with what this start wants::

    member that lives and is in the map                                     becomes
    router in a wanted seat, with the arguments that are wanted             its post's process
    router in a wanted seat, with other arguments                           the same, stale: scaling replaces it
    any other router, and all but one in a seat                             a post that leaves
    shard of the generation that is taken over, in a wanted seat            holds its seat; with other arguments than
                                                                            wanted, a reload follows
    any other shard                                                         a post that leaves

    member that lives and is not in the map                                 ended: it serves nobody
    shard of the map without a process, in a seat of that generation        a post that waits to be started: its next
                                                                            process takes its slots over
    any other member of the map without a process                           the reconciling takes it off the map

The **generation** taken over is the one that staffs most seats, the later one of two that staff as many. So a reload
that was interrupted before its last seat is taken back, and one that was interrupted after that is completed.

What is then missing or too many is a matter of scaling.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ...common.cluster.cluster_map import ClusterMap, Member, MemberKind
from ...common.ids import Incarnation
from ..plan.config import UpConfig
from ..plan.orders import same_orders
from ..plan.post import Post
from ..plan.staffing import Staff, generation_of, router_name, router_seat, seat_name
from ..processes.members import LiveMember


@dataclass(frozen=True, slots=True)
class Adopted:
    """What was taken over.

    Attributes:
        staff: Posts and seats.
        pids: The processes to watch, by the post's name.
        needs_reload: Shards that hold seats were started with other arguments.
    """

    staff: Staff
    pids: Mapping[str, int]
    needs_reload: bool


def in_map(members: Collection[LiveMember], map_: ClusterMap) -> list[tuple[LiveMember, Member]]:
    """The processes that serve, each with its place in the map."""
    found = []
    for live in members:
        member = map_.named(live.name) if live.holds_name else None
        if member is not None and member.pid == live.pid and live.kind == member.kind:
            found.append((live, member))
    return found


def adopt(config: UpConfig, serving: Collection[tuple[LiveMember, Member]], map_: ClusterMap, now: float) -> Adopted:
    """The staff that there is.

    Args:
        config: What this start wants.
        serving: As ``in_map``; not empty.
        map_: The map.
        now: Monotonic seconds.
    """
    staff = Staff(config)
    pids: dict[str, int] = {}
    alive = {member.incarnation for _, member in serving}
    staff.generation = _generation(map_, alive)
    wanted_seats = {seat_name(number) for number in range(1, config.shards + 1)}
    routers = _routers(config, [live for live, member in serving if member.kind is MemberKind.ROUTER])
    old_orders: tuple[str, ...] = ()
    for live, member in serving:
        if member.kind is MemberKind.ROUTER:
            argv = config.router_argv(live.name)
            post = Post(live.name, member.kind, argv, seat=router_seat(live.name))
            post.leaving = live.name not in routers
            if not post.leaving and not same_orders(live.kind, live.argv, argv):
                # Until another one has taken its place, whatever is started again is what it was.
                post.is_stale, post.argv = True, live.argv
        else:
            argv = config.shard_argv(live.name, member.seat)
            post = Post(live.name, member.kind, argv, seat=member.seat)
            if generation_of(live.name, member.seat) == staff.generation and member.seat in wanted_seats:
                staff.seats[member.seat] = live.name
                if not same_orders(live.kind, live.argv, argv):
                    # Until the reload has succeeded, whatever is started again is what it was.
                    post.argv = old_orders = live.argv
            else:
                post.leaving = True
        post.adopted(live.pid, member.incarnation, now, since=now - live.age_s)
        staff.posts[post.name] = post
        pids[post.name] = live.pid
    for member in map_.shards:
        takes_over = generation_of(member.name, member.seat) == staff.generation and member.seat in wanted_seats
        if member.incarnation not in alive and takes_over and member.seat not in staff.seats:
            post = staff.add_shard(member.seat, staff.generation)
            if old_orders:
                post.argv = _renamed(old_orders, post.name, post.seat)
            post.missed(now)
            staff.seats[member.seat] = post.name
    return Adopted(staff, pids, bool(old_orders))


def _routers(config: UpConfig, living: Collection[LiveMember]) -> set[str]:
    """The routers that stay: one for each seat, rather one that was told what is wanted, rather a later one."""
    wanted = {router_name(number) for number in range(1, config.routers + 1)}
    best: dict[str, tuple[bool, int, str]] = {}
    for live in living:
        seat = router_seat(live.name)
        if seat in wanted:
            fits = same_orders(live.kind, live.argv, config.router_argv(live.name))
            best[seat] = max(best.get(seat, (False, 0, "")), (fits, generation_of(live.name, seat), live.name))
    return {name for _, _, name in best.values()}


def _generation(map_: ClusterMap, alive: Collection[Incarnation]) -> int:
    staffed: defaultdict[int, int] = defaultdict(int)
    for member in map_.shards:
        number = generation_of(member.name, member.seat)
        if member.incarnation in alive and number:
            staffed[number] += 1
    return max(staffed, key=lambda number: (staffed[number], number), default=1)


def _renamed(argv: tuple[str, ...], name: str, seat: str) -> tuple[str, ...]:
    """The arguments of one shard for another one."""
    rest = [word for word in argv if not word.startswith(("--name=", "--seat="))]
    return (f"--name={name}", *([f"--seat={seat}"] if seat != name else []), *rest)
