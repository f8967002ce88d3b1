"""Reloading in a cluster without processes: the order of its steps, and every way back."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from roost.common.cluster import cluster_map
from roost.common.cluster.cluster_map import ClusterMap, Member, MemberKind
from roost.common.errors import AppError, ConfigError
from roost.common.ids import Incarnation
from roost.common.limits import SLOTS
from roost.common.machine.counters import Reading
from roost.deploy.plan.changes import ATTACH_PATIENCE_S, MOVE_PATIENCE_S
from roost.deploy.plan.post import PostState
from roost.deploy.plan.reconciling import MOVES_AT_ONCE
from roost.deploy.plan.reloading import GLANCE_S, Reload
from tests.unit.deploy.rig import GRACE_S, Rig, disturb, started

CANARY_S = 5.0


def reload(rig: Rig, *, was_failing: bool = False, checked: bool = True) -> Reload:
    change = Reload(
        rig.staff,
        rig.map,
        config=replace(rig.staff.config, app="new.py"),
        app="new.py",
        canary_s=CANARY_S,
        was_failing=was_failing,
    )
    if checked:
        change.checked(["room"], ["room"])
    rig.change = change
    return change


def until_canary(rig: Rig, **more: bool) -> Reload:
    """The first successor has its slots and is watched."""
    change = reload(rig, **more)
    rig.run(lambda: any("is watched for" in line for line in change.lines))
    return change


def failures(rig: Rig, name: str, count: int, woken: int = 0) -> None:
    values = {"constructions_failed": count, "constructions": woken}
    rig.counters[name] = Reading(rig.staff.posts[name].pid, 0, 0, values)


def until_last(rig: Rig) -> Reload:
    """The last successor has its slots, too."""
    change = until_canary(rig)
    rig.now += CANARY_S
    rig.run(lambda: any("all are watched for" in line for line in change.lines))
    return change


def test_one_shard_after_the_other_and_the_old_ones_last() -> None:
    rig = started(3)
    shares = rig.owned()
    change = rig.carry_out(reload(rig))
    assert change.outcome is not None
    assert change.outcome.exit_code == 0
    assert change.outcome.sentence.startswith(f"new.py runs on 3 shards: {SLOTS:,} slots moved in ")
    assert change.outcome.sentence.endswith("; not tried: no object woke under the new code")
    assert rig.log[:3] == ["start shard-1.2", "start shard-2.2", "start shard-3.2"]
    assert sorted(rig.log[3:]) == ["end shard-1", "end shard-2", "end shard-3"]
    assert rig.owned() == {f"{name}.2": count for name, count in shares.items()}
    assert rig.moved == SLOTS, "no slot moved twice"
    assert (rig.staff.config.app, rig.staff.generation) == ("new.py", 2)
    assert "--app=new.py" in rig.staff.posts["shard-1.2"].argv
    rig.carry_out(reload(rig))
    assert set(rig.owned()) == {"shard-1.3", "shard-2.3", "shard-3.3"}


def test_the_first_one_is_watched_and_the_others_at_a_glance() -> None:
    rig = started(2)
    until_canary(rig)
    began = rig.now
    assert rig.owned()["shard-1"] == 0
    assert rig.owned()["shard-2"] > 0, "the others wait for the canary"
    rig.now = began + CANARY_S - 0.01
    rig.turn()
    assert "shard-2.2" not in rig.staff.posts
    rig.now = began + CANARY_S
    rig.turn()
    assert "shard-2.2" in rig.staff.posts
    rig.run(lambda: rig.owned().get("shard-2.2", 0) > 0)
    rig.turn()
    assert rig.staff.posts["shard-1"].state is PostState.READY, "the old ones live until all is done"
    rig.now += GLANCE_S
    rig.run()
    assert set(rig.owned()) == {"shard-1.2", "shard-2.2"}


def test_all_are_watched_after_the_last_change_and_go_back_even_then() -> None:
    """The objects that fail may all live on the last shard, and hear of something every few seconds only."""
    rig = started(2)
    change = until_last(rig)
    assert change.lines[-1].endswith(f"and all are watched for {CANARY_S:g} s")
    rig.now += CANARY_S - 0.1
    rig.turn()
    assert change.outcome is None
    assert not rig.staff.posts["shard-1"].leaving, "the old ones are there to go back to"
    failures(rig, "shard-2.2", 1)
    rolled_back(
        rig, change, "1 constructor failed at shard-2.2, and none at shard-1, shard-2 in the minute before and since"
    )


def test_the_first_one_may_fail_while_the_last_one_is_watched() -> None:
    rig = started(2)
    change = until_last(rig)
    failures(rig, "shard-1.2", 2)
    rolled_back(
        rig, change, "2 constructors failed at shard-1.2, and none at shard-1, shard-2 in the minute before and since"
    )


def attached(rig: Rig, count: int) -> None:
    """What the router has published of it."""
    rig.counters["router-1"] = Reading(rig.staff.posts["router-1"].pid, 0, 0, {"slots_attached": count})


def test_a_router_that_cannot_reach_a_successor_takes_the_reload_back() -> None:
    """The map says that the slots have moved; their sockets would be closed after half a minute."""
    rig = started(2)
    change = until_canary(rig)
    attached(rig, SLOTS - 1_000)
    rig.now += CANARY_S + 1
    rig.turn()
    assert change.outcome is None, "it may be on its way"
    rig.now += ATTACH_PATIENCE_S
    rig.run(lambda: rig.staff.seats["shard-1"] == "shard-1")
    attached(rig, SLOTS)
    rig.carry_out(change)
    assert change.outcome is not None
    assert change.outcome.exit_code == AppError.exit_code
    assert "rolled back" in change.outcome.sentence
    assert f"router-1 has not attached 1,000 of {SLOTS:,} slots" in change.outcome.sentence


def test_a_router_that_is_late_is_waited_for() -> None:
    rig = started(1)
    change = until_canary(rig)
    attached(rig, 0)
    rig.now += CANARY_S + 1
    rig.turn()
    assert change.outcome is None
    attached(rig, SLOTS)
    assert rig.carry_out(change).outcome is not None
    assert change.outcome is not None
    assert change.outcome.exit_code == 0


def test_one_shard_is_watched_once() -> None:
    rig = started(1)
    change = until_canary(rig)
    rig.now += CANARY_S
    rig.run()
    assert change.outcome is not None
    assert change.outcome.exit_code == 0
    assert sum("watched" in line for line in change.lines) == 1


@pytest.mark.parametrize(
    ("woken", "end"),
    [
        ((0, 0), "closed with 1012; not tried: no object woke under the new code"),
        ((3, 0), "closed with 1012; not tried at shard-2.2: no object woke there"),
        ((1, 2), "closed with 1012"),
    ],
)
def test_it_says_where_no_object_woke_under_the_new_code(woken: tuple[int, int], end: str) -> None:
    rig = started(2)
    failures(rig, "shard-1", 0, 50)  # the old code's say nothing
    change = until_last(rig)
    for name, count in zip(("shard-1.2", "shard-2.2"), woken, strict=True):
        failures(rig, name, 0, count)
    rig.now += CANARY_S
    rig.run()
    assert change.outcome is not None
    assert change.outcome.sentence.endswith(end)


def test_what_was_constructed_on_trial_is_told() -> None:
    rig = started(1)
    change = reload(rig, checked=False)
    change.checked(["room", "hall"], ["room"], ["room"])
    assert change.lines == ["new.py loads, and an object of room was constructed"]


def test_an_app_that_is_refused_touches_nothing() -> None:
    for checked in (
        lambda change: change.refused("it does not import"),
        lambda change: change.checked(["hall"], ["room", "hall", "attic"]),
    ):
        rig = started(2)
        change = reload(rig, checked=False)
        rig.turn()
        assert change.outcome is None, "it waits for the check"
        checked(change)
        assert not rig.turn()
        assert change.outcome is not None
        assert change.outcome.exit_code == AppError.exit_code
        assert change.outcome.sentence in (
            "nothing was changed: it does not import",
            "nothing was changed: new.py has no class for 'attic' and 'room', which the cluster hosts now: the sockets "
            "there would have nobody",
        )
        assert rig.log == []
        assert (rig.staff.config.app, rig.staff.generation) == ("", 1)


def rolled_back(rig: Rig, change: Reload, why: str) -> None:
    shares = started(2).owned()
    rig.run()
    assert change.outcome is not None
    assert change.outcome.exit_code == AppError.exit_code
    assert change.outcome.sentence == f"rolled back, the old code goes on: {why}"
    rig.change = None
    rig.run()
    assert rig.owned() == shares
    assert set(rig.staff.posts) == {"shard-1", "shard-2", "router-1"}
    assert (rig.staff.config.app, rig.staff.generation) == ("", 1)


def test_constructors_that_begin_to_fail() -> None:
    rig = started(2)
    change = until_canary(rig)
    failures(rig, "shard-1.2", 1)
    rolled_back(
        rig, change, "1 constructor failed at shard-1.2, and none at shard-1, shard-2 in the minute before and since"
    )
    assert "died shard-1" not in rig.log


def test_constructors_of_a_later_one() -> None:
    rig = started(2)
    change = until_canary(rig)
    rig.now += CANARY_S
    rig.run(lambda: rig.owned().get("shard-2.2", 0) > 0)
    failures(rig, "shard-2.2", 3)
    rolled_back(
        rig, change, "3 constructors failed at shard-2.2, and none at shard-1, shard-2 in the minute before and since"
    )


def test_constructors_that_failed_before_say_nothing() -> None:
    rig = started(2)
    change = until_canary(rig, was_failing=True)
    failures(rig, "shard-1.2", 9)
    rig.run()
    assert change.outcome is not None
    assert change.outcome.exit_code == 0
    assert "9 constructors failed at shard-1.2, as some of the old code had before" in change.outcome.sentence


def test_constructors_that_fail_at_the_old_code_as_well_say_nothing() -> None:
    rig = started(2)
    failures(rig, "shard-2", 4)  # some time ago
    change = until_canary(rig)
    failures(rig, "shard-2", 5)
    rig.turn()
    failures(rig, "shard-1.2", 9)
    rig.run()
    assert change.outcome is not None
    assert change.outcome.exit_code == 0


def test_a_file_that_an_earlier_successor_has_left_says_nothing() -> None:
    rig = started(2)
    change = reload(rig)
    rig.run(lambda: "shard-1.2" in rig.staff.posts)
    rig.counters["shard-1.2"] = Reading(9, 0, 0, {"constructions_failed": 5})
    rig.run()
    assert change.outcome is not None
    assert change.outcome.exit_code == 0


def test_constructors_that_failed_long_ago_do_not_excuse_those_of_the_new_code() -> None:
    rig = started(2)
    failures(rig, "shard-2", 4)
    change = until_canary(rig)
    failures(rig, "shard-1.2", 1)
    rig.run()
    assert change.outcome is not None
    assert change.outcome.exit_code == AppError.exit_code


def test_a_successor_that_cannot_start() -> None:
    rig = started(2)
    change = reload(rig)
    rig.turn()
    rig.turn()
    rig.die("shard-1.2", 72, "no class")
    rolled_back(rig, change, "shard-1.2: no class")
    assert rig.moved == 0


def test_a_successor_that_dies_gives_everything_back_at_once() -> None:
    rig = started(2)
    change = until_canary(rig)
    rig.die("shard-1.2")
    rig.turn()
    assert rig.owned() == started(2).owned(), "without a move: nobody is left to wait for"
    assert not rig.map.next_owners
    rolled_back(rig, change, "shard-1.2 was ended by SIGKILL")
    assert rig.log.count("start shard-1.2") == 1


def test_a_successor_that_dies_while_slots_come_to_it() -> None:
    rig = started(2)
    change = reload(rig)
    rig.run(lambda: bool(rig.map.next_owners))
    rig.die("shard-1.2")
    rolled_back(rig, change, "shard-1.2 was ended by SIGKILL")


def test_a_move_that_does_not_get_on() -> None:
    rig = started(2)
    change = reload(rig)
    rig.run(lambda: bool(rig.map.next_owners))
    rig.turn()
    rig.now += MOVE_PATIENCE_S
    rig.turn()
    rolled_back(rig, change, f"the move does not get on: {MOVES_AT_ONCE:,} slots in transit")


def test_a_predecessor_that_dies_comes_back_and_goes_on() -> None:
    rig = started(2)
    change = reload(rig)
    rig.run(lambda: bool(rig.map.next_owners))
    rig.die("shard-1")
    rig.run()
    assert change.outcome is not None
    assert change.outcome.exit_code == 0
    assert set(rig.owned()) == {"shard-1.2", "shard-2.2"}


def test_a_shard_that_had_failed_gets_a_successor() -> None:
    """Its app was broken on disk, perhaps: a reload is how that is mended."""
    rig = started(2)
    shares = rig.owned()
    rig.die("shard-1")
    rig.turn()
    rig.die("shard-1", AppError.exit_code, "no class")
    rig.run()
    assert rig.owned() == {"shard-2": SLOTS}
    rig.log.clear()
    change = rig.carry_out(reload(rig))
    assert change.outcome is not None
    assert change.outcome.exit_code == 0, change.outcome
    assert rig.log[0] == "start shard-2.2", "first the one that has messages"
    assert rig.owned() == {f"{name}.2": count for name, count in shares.items()}
    assert set(rig.staff.posts) == {"shard-1.2", "shard-2.2", "router-1"}


@pytest.mark.parametrize("canary_s", [-1.0, 3_600.1, float("inf"), float("nan")])
def test_nobody_is_watched_for_ever(canary_s: float) -> None:
    staff = started(1).staff
    with pytest.raises(ConfigError, match=rf"^canary must be 0 to 3,600 s, got {canary_s:g}$"):
        Reload(staff, ClusterMap(), config=staff.config, app="x", canary_s=canary_s, was_failing=False)


def test_names_that_are_still_held_are_not_taken_again() -> None:
    rig = started(2)
    until_canary(rig)
    # Interrupted here; whoever takes over puts the old shards back into their seats, and begins anew.
    rig.change = None
    rig.staff.dismiss([rig.staff.posts["shard-1.2"]])
    rig.staff.seats["shard-1"] = "shard-1"
    change = reload(rig)
    rig.run()
    assert change.outcome is not None
    assert change.outcome.exit_code == 0
    assert set(rig.staff.posts) == {"shard-1.3", "shard-2.3", "router-1"}
    assert rig.settled()
    # A shard without a post, in the map still, has its name as well.
    stranger = Member("shard-2.7", MemberKind.SHARD, Incarnation(99), pid=9, seat="shard-2")
    rig.map = cluster_map.entered(rig.map, stranger, 1)
    change = reload(rig)
    rig.run(lambda: "starting shard-1.8" in change.lines)


@pytest.mark.parametrize("seed", range(25))
def test_whatever_happens_all_of_it_is_new_or_all_of_it_is_old(seed: int) -> None:
    choose = random.Random(seed)
    rig = started(3)
    change = reload(rig)
    for _ in range(choose.randint(5, 60)):
        disturb(rig, choose)
    for _ in range(30):
        rig.now += GRACE_S
        rig.run()
        if change.outcome is not None and rig.settled():
            break
    assert change.outcome is not None, (change.lines, rig.log)
    assert rig.settled(), (change.lines, rig.log)
    end = ".2" if change.outcome.exit_code == 0 else ""
    assert set(rig.owned()) == {f"shard-{number}{end}" for number in (1, 2, 3)}, change.outcome
    assert rig.staff.config.app == ("new.py" if end else "")
    assert all(rig.staff.posts[name].serves for name in rig.owned())
