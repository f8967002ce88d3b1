"""What to do next, so that the cluster becomes what it should be. Pure.

There is one mechanism for all that can happen to a cluster: compare what should be (``staffing``) with what is (the
posts' processes and the cluster map), and take the next step of the tables below. Nothing remembers how far an earlier
intention got. So a member may die, a command be called off or a supervisor be killed between any two steps: the next
look starts from what it finds.

**The map** (``next_map``; the first rule that applies, then again until none does). A member of the map is *dead* when
it is not the present process of its post, or of no post and without a process.

===============================================================  ===================================================
in the map                                                       the next map
===============================================================  ===================================================
a dead router                                                    without it: shards report its clients as gone
a dead shard that owns nothing and that nobody waits for         without it
a dead shard, slots, nobody waits for it, another one serves     its slots go to the others (``inherited``)
no slot has an owner, and all seats' shards serve                the first assignment
slots that belong to another serving shard than their owner,     marked as in transit (``moving``): their owners, which
their owner serves, not in transit, ``MOVES_AT_ONCE`` at most     must serve, hand them over
===============================================================  ===================================================

Slots move in portions: a slot is away for as long as its whole portion takes to let go of and to attach, so a smaller
one pauses its sockets for less.

*Nobody waits* for a shard whose post is leaving, failed or gone, or whose grace has passed. Slots of a shard in its
grace stay with it, and none move to it meanwhile.

**The processes** (``next_steps``):

=========  ============================  =======================================================  ==================
post       state                         and                                                      step
=========  ============================  =======================================================  ==================
any        WAITING, due                                                                           start it
any        STARTING, out of patience                                                              kill it
shard      READY, leaving                it owns no slot and none is on its way to it             tell it to end
shard      STARTING, leaving             the same                                                 tell it to end
router     READY, leaving                it is the last one of those, none retires now, one that  let it retire
                                         stays serves, and none that stays is on its way
router     STARTING, leaving                                                                      tell it to end
router     RETIRING, out of patience                                                              tell it to end
any        ENDING, out of patience                                                                kill it
any        ENDED, leaving                its name is not in the map any more                      forget the post
=========  ============================  =======================================================  ==================
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import islice

from ...common.cluster import cluster_map
from ...common.cluster.cluster_map import ClusterMap, Member, MemberKind
from ...common.ids import Incarnation, Slot
from .post import Post, PostState
from .staffing import Staff, in_order

MOVES_AT_ONCE = 1_024
"""Slots in transit at a time. The next ones set out when half of these have arrived, not one by one: each time costs
every process the reading of a map."""


@dataclass(slots=True)
class Steps:
    """What to do with processes now."""

    start: list[Post] = field(default_factory=list)
    retire: list[Post] = field(default_factory=list)
    end: list[Post] = field(default_factory=list)
    kill: list[Post] = field(default_factory=list)
    forget: list[Post] = field(default_factory=list)


def is_dead(member: Member, staff: Staff, strangers_gone: Collection[Incarnation]) -> bool:
    """Whether a member of the map has no process any more.

    Args:
        member: Of the map.
        staff: The posts, whose ends are known.
        strangers_gone: Those members without a post whose processes have ended.
    """
    post = staff.posts.get(member.name)
    return member.incarnation in strangers_gone if post is None else post.pid != member.pid


def next_map(
    current: ClusterMap, staff: Staff, now: float, grace_s: float, strangers_gone: Collection[Incarnation] = ()
) -> ClusterMap | None:
    """One step of the map towards what it should be; ``None``: nothing to change now.

    Args:
        current: The map.
        staff: What should be, and which processes there are.
        now: Monotonic seconds.
        grace_s: Seconds that a dead shard has to come back.
        strangers_gone: As ``is_dead``.
    """
    serving = {post.incarnation for post in staff.posts.values() if post.serves}
    for member in current.members.values():
        if is_dead(member, staff, strangers_gone):
            after = _without_dead(current, member, staff.posts.get(member.name), serving, now, grace_s)
            if after is not None:
                return after
    if not current.has_owners:
        waited_for = staff.holders
        ready = waited_for and all(post.serves and post.incarnation in current.members for post in waited_for)
        return cluster_map.plan_first(current) if ready else None
    moves = moves_wanted(current, staff)
    return cluster_map.moving(current, moves) if moves else None


def _without_dead(
    current: ClusterMap, member: Member, post: Post | None, serving: Collection[Incarnation], now: float, grace_s: float
) -> ClusterMap | None:
    if member.kind is MemberKind.SHARD:
        if post is not None and not post.is_given_up(now, grace_s):
            return None
        others = [shard for shard in current.shards if shard is not member]
        if concerns(current, member.incarnation) and not any(shard.incarnation in serving for shard in others):
            return None
    return cluster_map.without_dead(current, member.incarnation)


def concerns(current: ClusterMap, incarnation: Incarnation) -> bool:
    """Whether a member owns slots, or some are on their way to it."""
    return incarnation in current.owners or incarnation in current.next_owners.values()


def moves_wanted(current: ClusterMap, staff: Staff) -> dict[Slot, Incarnation]:
    """The moves that can begin now, for ``cluster_map.moving``.

    A seat whose shard has not been in the map yet, or has lost its place, has no share for now. One whose shard is in
    its grace keeps its share, but nothing goes there while nobody is there to take it.
    """
    seats, serving = {}, set()
    for seat, name in staff.seats.items():
        member = current.named(name)
        if member is not None:
            seats[seat] = member.incarnation
    if not seats or len(current.next_owners) > MOVES_AT_ONCE // 2:
        return {}
    for post in staff.posts.values():
        if post.serves:
            serving.add(post.incarnation)
    moves = cluster_map.balancing(current, seats)
    possible = {slot: to for slot, to in moves.items() if to in serving and current.owners[slot] in serving}
    return dict(islice(possible.items(), MOVES_AT_ONCE - len(current.next_owners)))


def is_settled(current: ClusterMap, staff: Staff) -> bool:
    """Whether each slot is where it belongs: nothing is in transit, nothing has to move, and nobody is waited for.

    A seat's shard that does not serve is waited for as long as the map has its place; after that the cluster does
    without it until it comes back.
    """
    if not current.has_owners or current.next_owners:
        return False
    seats = {}
    for post in staff.holders:
        if post.serves and post.incarnation in current.members:
            seats[post.seat] = post.incarnation
        elif post.serves or current.named(post.name) is not None:
            return False
    return bool(seats) and not cluster_map.balancing(current, seats)


def next_steps(staff: Staff, current: ClusterMap, now: float) -> Steps:
    """What the processes need now.

    Args:
        staff: The posts.
        current: The newest map that is known. That it may be an older one does no harm: slots are given only to shards
            that hold a seat, so one that is leaving and owns nothing gets none later.
        now: Monotonic seconds.
    """
    steps = Steps()
    routers = [post for post in staff.posts.values() if post.kind is MemberKind.ROUTER]
    # One after the other: the rate at which clients are sent away is the cluster's. And not while those that stay are
    # not all there, so that somebody listens all the time.
    retiring = any(post.state is PostState.RETIRING for post in routers)
    staying = [post for post in routers if not post.leaving]
    relieved = any(post.serves for post in staying) and not any(post.state in _ON_THEIR_WAY for post in staying)
    for name in reversed(in_order(staff.posts)):
        post = staff.posts[name]
        match post.state:
            case PostState.WAITING if now >= post.due_at:
                steps.start.append(post)
            case PostState.STARTING if now >= post.deadline:
                steps.kill.append(post)
            case PostState.STARTING if post.leaving and not _is_needed(post, current):
                steps.end.append(post)
            case PostState.READY if post.kind is MemberKind.ROUTER:
                if post.leaving and relieved and not retiring:
                    retiring = True
                    steps.retire.append(post)
            case PostState.READY if post.leaving and not _is_needed(post, current):
                steps.end.append(post)
            case PostState.RETIRING if now >= post.deadline:
                steps.end.append(post)
            case PostState.ENDING if now >= post.deadline:
                steps.kill.append(post)
            case PostState.ENDED if post.leaving and current.named(post.name) is None:
                steps.forget.append(post)
    return steps


_ON_THEIR_WAY = (PostState.WAITING, PostState.STARTING)


def _is_needed(post: Post, current: ClusterMap) -> bool:
    """Whether a leaving shard still has slots, or may have: a map that does not know it yet says nothing."""
    if post.kind is MemberKind.ROUTER:
        return False
    member = current.named(post.name)
    return member is not None and concerns(current, member.incarnation)


def next_look(staff: Staff, now: float) -> float:
    """Seconds until a step becomes due by time alone; infinite when none does."""
    found = math.inf
    for post in staff.posts.values():
        if post.state is PostState.WAITING:
            found = min(found, post.due_at)
        elif post.state in (PostState.STARTING, PostState.RETIRING, PostState.ENDING):
            found = min(found, post.deadline)
    return max(0.0, found - now)
