"""Scaling in a cluster without processes: what moves, who leaves, what is refused."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from roost.common.cluster import cluster_map
from roost.common.cluster.cluster_map import targets
from roost.common.errors import ConfigError, DescriptorsTooFew, RoostError
from roost.common.limits import SLOTS
from roost.common.machine.counters import Reading
from roost.deploy.plan.changes import CALM_S, MOVE_PATIENCE_S, ChangeRefused, Seen, growth
from roost.deploy.plan.config import UpConfig
from roost.deploy.plan.post import PostState
from roost.deploy.plan.scaling import Scaling
from roost.deploy.plan.staffing import Staff
from tests.unit.deploy.rig import Rig, started


def scaling(rig: Rig, shards: int | None = None, routers: int | None = None, descriptors: int = 100_000) -> Scaling:
    return Scaling(rig.staff, shards=shards, routers=routers, descriptors=descriptors)


def shares(*numbers: int) -> dict[str, int]:
    found = targets({f"shard-{number}": 1.0 for number in numbers})
    return {seat: found.count(seat) for seat in set(found)}


def test_growing_moves_what_the_new_ones_get_and_nothing_twice() -> None:
    rig = started(2)
    change = rig.carry_out(scaling(rig, shards=5))
    assert rig.owned() == shares(1, 2, 3, 4, 5)
    needed = sum(count for name, count in rig.owned().items() if name not in ("shard-1", "shard-2"))
    assert rig.moved == needed
    assert change.outcome is not None
    assert change.outcome.exit_code == 0
    assert re.match(rf"5 shards and 1 router: {needed:,} slots moved in ", change.outcome.sentence)
    assert change.lines[:2] == ["starting shard-3, shard-4, shard-5", "shard-3, shard-4, shard-5 are ready"]
    assert rig.staff.config.shards == 5


def test_new_shards_get_slots_only_when_all_are_ready() -> None:
    rig = started(1)
    rig.change = scaling(rig, shards=3)
    rig.turn()
    rig.enter(rig.staff.posts["shard-2"])
    for _ in range(5):
        rig.turn()
    assert not rig.map.next_owners
    rig.enter(rig.staff.posts["shard-3"])
    rig.turn()
    assert not rig.map.next_owners, "their starts have made others late, perhaps"
    rig.now += CALM_S
    rig.turn()
    assert rig.map.next_owners


def test_shrinking_moves_what_the_leaving_ones_have_and_nothing_else() -> None:
    rig = started(5)
    before = shares(1, 2, 3, 4, 5)
    rig.carry_out(scaling(rig, shards=2))
    assert rig.owned() == shares(1, 2)
    assert rig.moved == sum(before[f"shard-{n}"] for n in (3, 4, 5))
    assert set(rig.staff.posts) == {"shard-1", "shard-2", "router-1"}
    assert sorted(line for line in rig.log if line.startswith("end")) == [f"end shard-{n}" for n in (3, 4, 5)]


def test_routers_come_before_and_go_after_the_slots() -> None:
    rig = started(2, 1)
    rig.carry_out(scaling(rig, shards=1, routers=3))
    assert len(rig.map.routers) == 3
    rig.counters["router-3"] = Reading(rig.staff.posts["router-3"].pid, 0, 0, {"connections": 30})
    rig.counters["router-2"] = Reading(rig.staff.posts["router-2"].pid, 0, 0, {"connections": 12})
    rig.log.clear()
    change = rig.carry_out(scaling(rig, shards=2, routers=1))
    assert rig.log == ["start shard-2", "retire router-3", "retire router-2"]
    assert change.outcome is not None
    assert change.outcome.sentence.endswith("; 42 clients told 1001")


def test_what_a_router_that_leaves_has_counted_counts() -> None:
    rig = started(2, 2)
    rig.change = change = scaling(rig, shards=1, routers=1)
    router = rig.staff.posts["router-2"]
    rig.turn()
    rig.counters["router-2"] = Reading(router.pid, 0, 0, {"standard_closed": 7})
    rig.run(lambda: "router-2" not in rig.staff.posts)
    del rig.counters["router-2"]  # as its file
    rig.run()
    assert change.outcome is not None
    assert "; 7 sockets under accept() closed with 1012;" in change.outcome.sentence


def test_clients_that_come_back_to_the_next_router_that_leaves_are_told_twice() -> None:
    rig = started(1, 3)
    pids = {name: post.pid for name, post in rig.staff.posts.items()}
    rig.counters["router-3"] = Reading(pids["router-3"], 0, 0, {"connections": 30})
    rig.counters["router-2"] = Reading(pids["router-2"], 0, 0, {"connections": 10})
    rig.change = change = scaling(rig, routers=1)
    rig.run(lambda: "retire router-3" in rig.log)
    rig.counters["router-2"] = Reading(pids["router-2"], 0, 0, {"connections": 25})
    rig.run()
    assert change.outcome is not None
    assert change.outcome.sentence.endswith("; 55 clients told 1001")


def fail(rig: Rig, name: str, why: str = "no class") -> None:
    rig.die(name)
    rig.turn()
    rig.die(name, 72, why)
    rig.run()
    assert rig.staff.posts[name].state is PostState.FAILED


@pytest.mark.parametrize("name", ["shard-2", "router-2"])
def test_who_has_failed_is_tried_again(name: str) -> None:
    rig = started(2, 2)
    fail(rig, name)
    change = rig.carry_out(scaling(rig, shards=2, routers=2))
    assert change.lines[0] == f"trying {name} again"
    assert change.outcome is not None
    assert change.outcome.sentence.startswith("2 shards and 2 routers: ")
    assert change.outcome.exit_code == 0
    assert rig.owned() == shares(1, 2)


def test_who_fails_again_is_not_counted_and_named() -> None:
    rig = started(2)
    fail(rig, "shard-2")
    rig.change = change = scaling(rig, shards=3)
    rig.turn()
    rig.turn()
    rig.die("shard-2", 72, "no class still")
    rig.run()
    assert change.outcome is not None
    assert change.outcome.sentence.startswith("2 shards and 1 router: ")
    assert change.outcome.sentence.endswith("; shard-2 does not serve (shard-2: no class still)")
    assert change.outcome.exit_code
    assert rig.staff.posts["shard-3"].serves, "the others come all the same"


def test_a_router_that_cannot_leave_the_map_does_not_hold_up_the_change_for_ever() -> None:
    """The directory cannot be written, perhaps."""
    rig = started(1, 2)
    rig.change = change = scaling(rig, routers=1)
    router = rig.staff.posts["router-2"]
    rig.run(lambda: router.state is PostState.RETIRING)
    map_ = rig.map
    rig.end("router-2")
    for _ in range(10):
        rig.map = map_
        change.step(Seen(rig.now, map_, {}))
        assert change.outcome is None or rig.now >= MOVE_PATIENCE_S
        rig.now += 15.0
    assert change.outcome is not None
    assert change.outcome.exit_code
    assert change.outcome.sentence.endswith("; router-2 has not ended yet, and the cluster goes on with it")


def test_maps_that_come_and_go_are_no_progress() -> None:
    """A router dies and comes back every two seconds, while a shard does not hand over."""
    rig = started(2)
    rig.change = change = scaling(rig, shards=1)
    rig.turn()
    rig.turn()
    assert rig.map.next_owners
    for _ in range(32):
        rig.now += 2.0
        rig.map = replace(rig.map, version=rig.map.version + 1)
        change.step(Seen(rig.now, rig.map, {}))
    assert change.outcome is not None
    assert "does not get on" in change.outcome.sentence


def test_slow_progress_is_progress() -> None:
    rig = started(2)
    rig.change = change = scaling(rig, shards=1)
    rig.turn()
    rig.turn()
    slots = sorted(rig.map.next_owners)
    owner = rig.staff.posts["shard-2"].incarnation
    for slot in slots[:5]:
        rig.now += MOVE_PATIENCE_S - 1
        after = cluster_map.handed_over(rig.map, owner, [slot])
        assert after is not None
        rig.map = after
        change.step(Seen(rig.now, rig.map, {}))
    assert change.outcome is None


def test_nothing_to_do_is_done_at_once() -> None:
    rig = started(2)
    change = rig.carry_out(scaling(rig, shards=2, routers=1))
    assert change.outcome is not None
    assert change.outcome.sentence.startswith("2 shards and 1 router: 0 slots moved in 0.0 s; 0 sockets under accept()")
    assert rig.log == []


def test_a_shard_that_cannot_start_changes_nothing() -> None:
    rig = started(2)
    version = rig.map.version
    rig.change = scaling(rig, shards=4)
    rig.turn()
    rig.enter(rig.staff.posts["shard-4"])
    rig.die("shard-3", 72, "no class")
    rig.run()
    assert rig.change.outcome is not None
    assert (rig.change.outcome.exit_code, rig.change.outcome.sentence) == (72, "nothing was changed: shard-3: no class")
    assert set(rig.staff.posts) == {"shard-1", "shard-2", "router-1"}
    assert rig.owned() == shares(1, 2)
    assert rig.map.version == version + 2, "shard-4 came and went"
    assert rig.moved == 0


def test_a_shard_that_dies_while_slots_move_does_not_stop_it() -> None:
    rig = started(2)
    rig.change = scaling(rig, shards=4)
    rig.run(lambda: bool(rig.map.next_owners))
    rig.die("shard-1")
    rig.die("shard-4")
    rig.run(lambda: rig.change is not None and rig.change.outcome is not None)
    assert rig.owned() == shares(1, 2, 3, 4)


def test_a_move_that_does_not_get_on_fails_and_goes_on() -> None:
    rig = started(2)
    rig.change = scaling(rig, shards=1)
    rig.turn()
    rig.turn()
    rig.now += MOVE_PATIENCE_S
    rig.turn()
    assert rig.change.outcome is not None
    assert rig.change.outcome.exit_code
    assert "does not get on" in rig.change.outcome.sentence
    with pytest.raises(ChangeRefused, match="shard-2 has not ended yet: try again in a moment"):
        scaling(rig, shards=2)
    rig.run()
    assert rig.owned() == {"shard-1": SLOTS}


def test_what_a_reload_made_is_what_is_scaled() -> None:
    rig = started(1)
    rig.staff.generation = 4
    rig.carry_out(scaling(rig, shards=2))
    assert set(rig.owned()) == {"shard-1", "shard-2.4"}
    assert "--seat=shard-2" in rig.staff.posts["shard-2.4"].argv


@pytest.mark.parametrize(
    ("shards", "routers", "sentence"),
    [
        (0, None, "shards must be at least 1, got 0"),
        (65, 1, "at most 64, got 65"),
        (None, 65, "routers must be at most"),
    ],
)
def test_numbers_that_cannot_be(shards: int | None, routers: int | None, sentence: str) -> None:
    rig = started(2)
    with pytest.raises(ConfigError, match=sentence):
        scaling(rig, shards, routers)
    assert not rig.turn()


def test_routers_that_could_not_hold_the_connections() -> None:
    rig = Rig(staff=Staff.first(UpConfig(routers=2, connections=2000)))
    rig.run()
    with pytest.raises(DescriptorsTooFew) as caught:
        scaling(rig, routers=1, descriptors=2000)
    assert isinstance(caught.value, RoostError)
    assert caught.value.wanted == 2256
    scaling(rig, routers=1, descriptors=2256)


def test_growth_is_counted_from_where_each_process_was() -> None:
    before = {("a", 1): Reading(1, 0, 0, {"x": 5}), ("b", 2): Reading(2, 0, 0, {"x": 9})}
    after = {
        ("a", 1): Reading(1, 0, 0, {"x": 8}),
        ("b", 2): Reading(2, 0, 0, {"x": 9}),
        ("b", 3): Reading(3, 0, 0, {"x": 4}),
        ("c", 4): Reading(4, 0, 0, {"x": 2, "y": 7}),
    }
    assert growth(before, after, "x") == 3 + 4 + 2
