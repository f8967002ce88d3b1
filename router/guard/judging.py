"""Who is dead when no supervisor lives to say so.

A supervisor kills members that do not work any more, takes dead ones out of the map and starts others. When it is gone
itself, the members go on, and each router keeps watch: the first one that is fast enough changes the map, the others
then find nothing to do. They start nobody. About once a second each member is looked at:

* A member whose process does not hold its name any more is dead. A dead router leaves the map at once, so that shards
  tell their objects of its clients. A dead shard has a time of grace, in which its next incarnation may take its place
  (by somebody else's hand: an orchestrator's, or the next supervisor's). Then the shards that are left inherit its
  slots; as long as none of them lives, nothing would be gained, and it stays.
* One that is frozen or stalled by the rules of ``common.liveness`` is to be killed first. It is dead when it does not
  hold its name any more, which the next look finds.

This module decides; ``watching`` looks and acts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...common.cluster.cluster_map import ClusterMap, Member, MemberKind
from ...common.ids import Incarnation
from ...common.machine.liveness import Liveness, Sight


@dataclass(frozen=True, slots=True)
class Findings:
    """What is to be done.

    Attributes:
        kill: Members whose processes are to be killed, each with the reason.
        remove: Dead members that are to leave the map.
    """

    kill: tuple[tuple[Member, str], ...] = ()
    remove: tuple[Member, ...] = ()


class Guard:
    """Judges the other members of the cluster.

    Args:
        me: This router, which does not judge itself.
        grace_s: Seconds that a dead shard has to come back.
        stall_kill_s: Seconds that a member's loop may stand still.
        frozen_kill_s: Seconds that a member may show no sign of life.
    """

    def __init__(self, me: Incarnation, *, grace_s: float, stall_kill_s: float, frozen_kill_s: float) -> None:
        self._me = me
        self._grace_s = grace_s
        self._stall_kill_s = stall_kill_s
        self._frozen_kill_s = frozen_kill_s
        self._liveness: dict[Incarnation, Liveness] = {}
        self._dead_since: dict[Incarnation, float] = {}

    def rest(self) -> None:
        """A supervisor lives: it judges. What was seen before does not count later."""
        self._liveness.clear()
        self._dead_since.clear()

    def look(self, now: float, current: ClusterMap, sights: Mapping[Incarnation, Sight]) -> Findings:
        """Judge by one more look.

        Args:
            now: Seconds, monotonic.
            current: The cluster map. A router that is not in it judges nobody.
            sights: What was found of the members; one that is missing is not judged.
        """
        members = current.members
        self._liveness = {key: liveness for key, liveness in self._liveness.items() if key in members}
        self._dead_since = {key: since for key, since in self._dead_since.items() if key in members}
        if self._me not in members:
            return Findings()
        kill, remove = [], []
        for member in sorted(members.values(), key=lambda member: member.incarnation):
            sight = sights.get(member.incarnation)
            if sight is None or member.incarnation == self._me:
                continue
            if sight.lives:
                reason = self._judge(now, member, sight)
                if reason:
                    kill.append((member, reason))
            else:
                self._liveness.pop(member.incarnation, None)
                since = self._dead_since.setdefault(member.incarnation, now)
                if member.kind is MemberKind.ROUTER or (
                    now - since >= self._grace_s and self._has_heirs(member, current, sights)
                ):
                    remove.append(member)
        return Findings(tuple(kill), tuple(remove))

    def _judge(self, now: float, member: Member, sight: Sight) -> str:
        """Why a member whose process lives is to be killed; empty if it is not."""
        if sight.counts is None:
            return ""
        liveness = self._liveness.get(member.incarnation)
        if liveness is None:
            liveness = self._liveness[member.incarnation] = Liveness(
                stall_kill_s=self._stall_kill_s, frozen_kill_s=self._frozen_kill_s
            )
        publications, beats = sight.counts
        verdict = liveness.observe(now, publications, beats, sight.running)
        return verdict.value if verdict.is_fatal else ""

    @staticmethod
    def _has_heirs(dead: Member, current: ClusterMap, sights: Mapping[Incarnation, Sight]) -> bool:
        others = (sights.get(member.incarnation) for member in current.shards if member.incarnation != dead.incarnation)
        return any(sight is not None and sight.lives for sight in others)
