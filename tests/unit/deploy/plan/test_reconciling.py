"""From what is to what should be, one step after the other, whatever happens in between."""

from __future__ import annotations

import random

import pytest

from roost.common.cluster import cluster_map
from roost.common.cluster.cluster_map import MemberKind
from roost.common.ids import Incarnation, Slot
from roost.common.limits import SLOTS
from roost.deploy.plan.post import Post, PostState
from roost.deploy.plan.reconciling import MOVES_AT_ONCE, is_settled, next_look, next_map, next_steps
from roost.deploy.plan.staffing import generation_of, in_order, shard_name
from tests.unit.deploy.rig import GRACE_S, Rig, disturb, started


def test_a_cluster_begins() -> None:
    rig = Rig(3, 2)
    assert rig.turn()
    assert sorted(rig.log) == [f"start {name}" for name in ("router-1", "router-2", "shard-1", "shard-2", "shard-3")]
    rig.run()
    assert rig.settled()
    assert sum(rig.owned().values()) == SLOTS
    assert rig.moved == 0
    assert not rig.turn(), "nothing is left to do"


def test_the_first_assignment_waits_for_all_seats() -> None:
    """Another number of shards than the directory was made for: nobody else assigns the slots."""
    rig = Rig(2)
    rig.initial_shards = 9
    rig.turn()
    rig.enter(rig.staff.posts["shard-1"])
    rig.turn()
    assert not rig.map.has_owners
    rig.enter(rig.staff.posts["shard-2"])
    rig.turn()
    assert min(rig.owned().values()) > SLOTS / 3


def test_a_dead_router_is_taken_out_at_once() -> None:
    rig = started(routers=2)
    rig.die("router-2")
    rig.turn()
    assert rig.map.named("router-2") is None
    assert rig.log == ["died router-2", "start router-2"]


def test_a_dead_shard_keeps_its_slots_for_its_grace() -> None:
    rig = started(2)
    before = rig.owned()
    rig.die("shard-1")
    rig.turn()
    rig.now = GRACE_S - 0.1
    rig.turn()
    assert rig.owned() == before
    rig.enter(rig.staff.posts["shard-1"])
    rig.run()
    assert rig.owned() == before
    assert rig.moved == 0


def test_a_shard_that_comes_back_late_gets_its_share_again() -> None:
    rig = started(3)
    before = rig.owned()
    rig.die("shard-1")
    rig.turn()
    rig.now = GRACE_S
    rig.turn()
    assert set(rig.owned()) == {"shard-2", "shard-3"}
    assert sum(rig.owned().values()) == SLOTS
    rig.run()
    assert rig.owned() == before
    assert rig.moved == before["shard-1"], "only its own slots came back"


def test_the_last_shard_keeps_its_slots_however_long_it_takes() -> None:
    rig = started(1)
    rig.die("shard-1")
    rig.now = 1000.0
    rig.turn()
    assert rig.owned() == {"shard-1": SLOTS}
    rig.run()
    assert rig.settled()


def test_slots_do_not_go_to_a_shard_that_is_dead_as_well() -> None:
    rig = started(2)
    rig.die("shard-1")
    rig.die("shard-2")
    rig.now = GRACE_S
    rig.turn()
    assert set(rig.owned()) == {"shard-1", "shard-2"}, "nobody could serve them"


def test_nothing_moves_to_or_from_a_shard_in_its_grace() -> None:
    rig = started(3)
    rig.staff.dismiss([rig.staff.posts["shard-3"]])
    rig.die("shard-2")
    new = next_map(rig.map, rig.staff, rig.now, GRACE_S)
    assert new is not None
    ones = {name: member.incarnation for name in rig.owned() if (member := rig.map.named(name))}
    assert set(new.next_owners.values()) == {ones["shard-1"]}
    assert {new.owners[slot] for slot in new.next_owners} == {ones["shard-3"]}


def test_nothing_can_move_from_a_shard_in_its_grace() -> None:
    rig = started(2)
    post = rig.staff.add_shard("shard-3", 1)
    rig.turn()
    rig.enter(post)
    rig.die("shard-2")
    rig.staff.seats["shard-3"] = "shard-3"
    new = next_map(rig.map, rig.staff, rig.now, GRACE_S)
    assert new is not None
    assert {new.members[new.owners[slot]].name for slot in new.next_owners} == {"shard-1"}
    rig.run()
    assert rig.settled()


def test_a_cluster_is_not_settled_while_somebody_is_waited_for() -> None:
    rig = started(2)
    assert is_settled(rig.map, rig.staff)
    rig.die("shard-1")
    assert not is_settled(rig.map, rig.staff)
    rig.now = GRACE_S
    rig.turn()
    assert is_settled(rig.map, rig.staff), "it goes on without the shard"
    rig.enter(rig.staff.posts["shard-1"])
    assert not is_settled(rig.map, rig.staff), "its share has to come back"
    rig.run()
    new = rig.staff.add_shard("shard-3", 1)
    rig.turn()
    rig.enter(new)
    rig.staff.seats["shard-3"] = "shard-3"
    rig.die("shard-3")
    assert not is_settled(rig.map, rig.staff), "one that has no slots yet is waited for, too"


def test_a_stranger_is_only_taken_out_when_it_is_known_to_be_gone() -> None:
    rig = started(1)
    stranger = cluster_map.Member("other", MemberKind.ROUTER, Incarnation(99), pid=5)
    rig.map = cluster_map.with_member(rig.map, stranger)
    assert next_map(rig.map, rig.staff, 0.0, GRACE_S) is None
    new = next_map(rig.map, rig.staff, 0.0, GRACE_S, {Incarnation(99)})
    assert new is not None
    assert Incarnation(99) not in new.members


def test_a_leaving_shard_ends_when_it_owns_nothing_and_nothing_comes() -> None:
    rig = started(2)
    leaving = rig.staff.posts["shard-2"]
    rig.staff.dismiss([leaving])
    rig.turn()
    assert rig.log == []
    slot = next(iter(rig.map.next_owners))
    while rig.hand_over() and leaving.incarnation in rig.map.owners:
        assert next_steps(rig.staff, rig.map, 0.0).end == []
        rig.turn()
    # One slot is on its way to it.
    back = cluster_map.moving(rig.map, {slot: leaving.incarnation})
    assert next_steps(rig.staff, back, 0.0).end == []
    assert next_steps(rig.staff, rig.map, 0.0).end == [leaving]
    rig.run()
    assert "shard-2" not in rig.staff.posts
    assert rig.owned() == {"shard-1": SLOTS}


def test_slots_move_in_portions() -> None:
    """The pause of each is that of its portion; and a few that take long do not keep the others from setting out."""
    rig = started(2)
    rig.staff.dismiss([leaving := rig.staff.posts["shard-2"]])
    rig.turn()
    first = list(rig.map.next_owners)
    assert len(first) == MOVES_AT_ONCE

    def arrive(slots: list[Slot]) -> None:
        after = cluster_map.handed_over(rig.map, leaving.incarnation, slots)
        assert after is not None
        rig.map = after
        rig.turn()

    arrive(first[: MOVES_AT_ONCE // 2 - 1])
    assert len(rig.map.next_owners) == MOVES_AT_ONCE // 2 + 1, "not one by one"
    arrive(first[MOVES_AT_ONCE // 2 - 1 : -10])
    assert set(first[-10:]) < set(rig.map.next_owners)
    assert len(rig.map.next_owners) == MOVES_AT_ONCE
    rig.run()
    assert rig.settled()
    assert rig.owned() == {"shard-1": SLOTS}


def test_a_leaving_shard_that_dies_is_not_waited_for() -> None:
    rig = started(2)
    rig.staff.dismiss([rig.staff.posts["shard-2"]])
    rig.turn()
    rig.die("shard-2")
    rig.turn()
    assert rig.owned() == {"shard-1": SLOTS}
    assert not rig.map.next_owners
    assert "shard-2" not in rig.staff.posts


def test_routers_retire_one_after_the_other_the_last_first() -> None:
    rig = started(1, 12)
    rig.staff.dismiss([rig.staff.posts[f"router-{n}"] for n in (2, 9, 10, 11, 12)])
    rig.run()
    assert rig.log == [f"retire router-{n}" for n in (12, 11, 10, 9, 2)]
    assert len(rig.map.routers) == 7


def test_no_router_retires_before_all_that_stay_are_there() -> None:
    rig = started(1, 2)
    rig.staff.dismiss([rig.staff.posts["router-2"]])
    rig.die("router-1")
    rig.turn()
    assert rig.log == ["died router-1", "start router-1"]
    rig.enter(rig.staff.posts["router-1"])
    rig.turn()
    assert rig.log[-1] == "retire router-2"


def test_the_last_router_does_not_retire() -> None:
    rig = started(1, 2)
    rig.staff.dismiss([rig.staff.posts["router-2"]])
    rig.die("router-1")
    rig.turn()
    rig.die("router-1", 71, "a wrong setting")
    rig.run()
    assert rig.staff.posts["router-1"].state is PostState.FAILED
    assert rig.staff.posts["router-2"].serves


def test_patience_ends_in_steps() -> None:
    rig = started(1, 2)
    rig.staff.dismiss([rig.staff.posts["router-2"]])
    rig.turn()
    router = rig.staff.posts["router-2"]
    assert (router.deadline, next_look(rig.staff, 10.0)) == (30.0, 20.0)
    rig.now = 30.0
    rig.turn()
    assert router.state is PostState.ENDING
    rig.now = 45.0
    rig.turn()
    assert rig.log == ["retire router-2", "end router-2", "kill router-2", "died router-2"]
    rig.run()
    assert "router-2" not in rig.staff.posts
    assert rig.map.named("router-2") is None


def test_a_start_that_takes_too_long_is_killed() -> None:
    rig = Rig(1)
    rig.turn()
    rig.now = 60.0
    rig.turn()
    assert "kill shard-1" in rig.log


def test_who_waits_is_looked_at_when_its_time_has_come() -> None:
    rig = started(1)
    rig.die("shard-1")
    rig.run()
    rig.die("shard-1")
    assert next_look(rig.staff, rig.now) == pytest.approx(0.1)
    assert next_steps(rig.staff, rig.map, rig.now + 0.05).start == []
    assert next_steps(rig.staff, rig.map, rig.now + 0.11).start == [rig.staff.posts["shard-1"]]


@pytest.mark.parametrize("seed", range(25))
def test_whatever_happens_the_cluster_becomes_what_it_should_be(seed: int) -> None:
    """Deaths, slow members, new intentions at any moment; once that is over, everything is as it should be."""
    choose = random.Random(seed)
    rig = started(3, 2)
    rig.initial_shards = 1
    new: list[Post] = []
    for round_number in range(60):
        if choose.randrange(8) == 0:
            seat = f"shard-{choose.randint(1, 5)}"
            if seat not in rig.staff.seats:
                new.append(rig.staff.add_shard(seat, round_number + 2))
            elif len(rig.staff.seats) > 1:
                rig.staff.dismiss([rig.staff.posts[rig.staff.seats[seat]]])
        for post in new:
            if post.serves and not post.leaving and post.seat not in rig.staff.seats:
                rig.staff.seats[post.seat] = post.name
        disturb(rig, choose)
        assert set(rig.map.owners) <= set(rig.map.members), "each slot has an owner that is in the map"
    rig.staff.dismiss([post for post in rig.staff.posts.values() if post in new and not rig.holds_seat(post)])
    for _ in range(30):
        rig.now += GRACE_S
        rig.run()
        if rig.settled():
            break
    assert rig.settled(), (rig.log, rig.owned())
    assert {member.name for member in rig.map.shards} == set(rig.staff.seats.values())
    assert set(rig.staff.posts) == {*rig.staff.seats.values(), "router-1", "router-2"}, "nobody else is left"
    assert not rig.map.next_owners
    assert sum(rig.owned().values()) == SLOTS


def test_names_say_which_shard_of_its_seat_it_is() -> None:
    assert [shard_name("shard-1", generation) for generation in (1, 2, 12)] == ["shard-1", "shard-1.2", "shard-1.12"]
    assert generation_of("shard-1", "shard-1") == 1
    assert generation_of("shard-1.12", "shard-1") == 12
    for name in ("shard-2.3", "shard-1.x", "shard-1.02", "shard-11", "web"):
        assert generation_of(name, "shard-1") == 0
    assert in_order(["shard-10", "shard-9", "shard-2.2", "router-1"]) == [
        "router-1",
        "shard-2.2",
        "shard-9",
        "shard-10",
    ]


def test_moves_in_transit_keep_their_way() -> None:
    rig = started(2)
    rig.staff.dismiss([rig.staff.posts["shard-2"]])
    rig.turn()
    before = dict(rig.map.next_owners)
    rig.staff.posts["shard-2"].leaving = False
    rig.staff.seats["shard-2"] = "shard-2"
    rig.turn()
    assert rig.map.next_owners == before
    rig.run()
    assert rig.settled()
    assert Slot(0) not in rig.map.next_owners
