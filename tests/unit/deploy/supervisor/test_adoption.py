"""What becomes of the members that an earlier supervisor left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from roost.common.cluster.cluster_map import ClusterMap, MemberKind, without
from roost.common.errors import ConfigError
from roost.deploy.plan.changes import Outcome
from roost.deploy.plan.config import UpConfig
from roost.deploy.plan.orders import canonical
from roost.deploy.plan.post import PostState
from roost.deploy.plan.reloading import Reload
from roost.deploy.plan.scaling import Scaling
from roost.deploy.plan.staffing import shard_name
from roost.deploy.processes.members import LiveMember
from roost.deploy.supervisor.adoption import Adopted, adopt, in_map
from tests.unit.deploy.rig import Rig, started

CONFIG = UpConfig(app="old.py", shards=2, routers=1)


def cluster(config: UpConfig = CONFIG, shards: int = 2, routers: int = 1) -> Rig:
    rig = started(shards, routers)
    for post in rig.staff.posts.values():
        is_shard = post.kind is MemberKind.SHARD
        post.argv = tuple(config.shard_argv(post.name) if is_shard else config.router_argv(post.name))
    return rig


def living(rig: Rig, *dead: str) -> list[LiveMember]:
    """What one finds of a cluster when its supervisor is gone."""
    return [
        LiveMember(post.name, post.pid, post.kind.value, canonical((*post.argv, "--ready-fd=9"), Path("/")), True, 5.0)
        for post in rig.staff.posts.values()
        if post.pid and post.name not in dead
    ]


def take_over(rig: Rig, config: UpConfig = CONFIG, *dead: str, map_: ClusterMap | None = None) -> Adopted:
    map_ = map_ or rig.map
    return adopt(config, in_map(living(rig, *dead), map_), map_, 100.0)


def test_what_was_told_the_same_is_taken_as_it_is() -> None:
    rig = cluster()
    found = take_over(rig, replace(CONFIG, shards=2))
    assert not found.needs_reload
    assert found.pids == {name: post.pid for name, post in rig.staff.posts.items()}
    assert found.staff.seats == {"shard-1": "shard-1", "shard-2": "shard-2"}
    for name, post in found.staff.posts.items():
        assert (post.state, post.incarnation, post.since) == (PostState.READY, rig.staff.posts[name].incarnation, 95.0)
        assert not post.leaving
        assert not post.is_stale


def test_only_who_is_in_the_map_with_its_name_and_process_serves() -> None:
    rig = cluster()
    map_ = without(rig.map, rig.staff.posts["router-1"].incarnation)
    found = living(rig)
    no_lock = [replace(live, holds_name=False) for live in found]
    another = [replace(live, pid=live.pid + 50) for live in found]
    assert {live.name for live, _ in in_map(found, map_)} == {"shard-1", "shard-2"}
    stranger = [replace(live, kind="", argv=()) for live in found]
    assert in_map(no_lock, rig.map) == in_map(another, rig.map) == in_map(stranger, rig.map) == []


def test_another_app_or_setting_of_the_shards_is_a_reload() -> None:
    rig = cluster()
    for config in (replace(CONFIG, app="new.py"), replace(CONFIG, var=("A=1",))):
        found = take_over(rig, config)
        assert found.needs_reload
        assert found.staff.seats == {"shard-1": "shard-1", "shard-2": "shard-2"}
        # One that dies meanwhile comes back as it was.
        assert found.staff.posts["shard-1"].argv == canonical(rig.staff.posts["shard-1"].argv, Path("/"))
        assert not found.staff.posts["router-1"].is_stale


def test_another_port_replaces_the_routers() -> None:
    found = take_over(cluster(), replace(CONFIG, port=9999))
    router = found.staff.posts["router-1"]
    assert (router.is_stale, router.leaving) == (True, False)
    assert "--port=8787" in router.argv, "as it was, until another one has taken its place"
    assert not found.needs_reload
    rig = cluster()
    rig.staff.posts["router-1"].is_stale = True
    rig.staff.config = replace(CONFIG, port=9999)
    change = rig.carry_out(Scaling(rig.staff, shards=None, routers=1, descriptors=10_000))
    assert rig.log == ["start router-1.2", "retire router-1"]
    assert "--port=9999" in rig.staff.posts["router-1.2"].argv
    assert change.outcome is not None
    assert change.outcome.sentence.startswith("2 shards and 1 router: ")
    # Whoever takes over next finds one router, in the first one's place.
    again = take_over(rig, replace(CONFIG, port=9999))
    assert [(post.name, post.leaving) for post in again.staff.of_kind(MemberKind.ROUTER)] == [("router-1.2", False)]


def test_a_router_that_cannot_take_anothers_place_leaves_it_there() -> None:
    rig = cluster(routers=2)
    for name in ("router-1", "router-2"):
        rig.staff.posts[name].is_stale = True
    rig.change = change = Scaling(rig.staff, shards=None, routers=2, descriptors=10_000)
    rig.turn()
    rig.turn()
    rig.die("router-2.2", ConfigError.exit_code, "no such setting")
    rig.run()
    assert change.outcome == Outcome("nothing was changed: router-2.2: no such setting", ConfigError.exit_code)
    assert {post.name for post in rig.staff.posts.values() if post.serves} >= {"router-1", "router-2"}
    assert not any(line in ("retire router-1", "retire router-2") for line in rig.log)


def test_of_two_routers_in_one_place_one_stays() -> None:
    rig = cluster()
    rig.staff.config = replace(CONFIG, port=9999)
    rig.staff.add_router("router-1")
    rig.turn()
    rig.enter_all()
    for config, stays in (
        (CONFIG, "router-1"),
        (rig.staff.config, "router-1.2"),
        (replace(CONFIG, port=1), "router-1.2"),
    ):
        staff = take_over(rig, config).staff
        assert {post.name for post in staff.of_kind(MemberKind.ROUTER)} == {stays}


def test_who_is_too_many_leaves() -> None:
    rig = cluster(shards=3, routers=2)
    found = take_over(rig)
    assert {name for name, post in found.staff.posts.items() if post.leaving} == {"shard-3", "router-2"}
    assert found.staff.seats == {"shard-1": "shard-1", "shard-2": "shard-2"}


def test_a_shard_that_died_unwatched_is_started_again_in_its_place() -> None:
    rig = cluster()
    found = take_over(rig, CONFIG, "shard-2", "router-1")
    post = found.staff.posts["shard-2"]
    assert (post.state, post.due_at, post.lost_at) == (PostState.WAITING, 100.0, 100.0)
    assert found.staff.seats["shard-2"] == "shard-2"
    assert "router-1" not in found.staff.posts, "it is missing, which is a matter of scaling"
    old = take_over(rig, replace(CONFIG, app="new.py"), "shard-2").staff.posts["shard-2"]
    assert "--name=shard-2" in old.argv
    assert any(word.endswith("old.py") for word in old.argv), "as it was, until the reload has succeeded"
    assert not any(word.startswith("--ready-fd") for word in old.argv)


def reloading(rig: Rig) -> Reload:
    change = Reload(rig.staff, rig.map, config=CONFIG, app="x", canary_s=1.0, was_failing=False)
    change.checked([], [])
    rig.change = change
    return change


def test_an_interrupted_reload_is_taken_back() -> None:
    rig = cluster()
    rig.staff.config = CONFIG
    reloading(rig)
    rig.run(lambda: rig.owned().get("shard-1.2", 0) > 0)
    found = take_over(rig)
    assert found.staff.generation == 1
    assert found.staff.seats == {"shard-1": "shard-1", "shard-2": "shard-2"}
    assert {name for name, post in found.staff.posts.items() if post.leaving} == {"shard-1.2"}


def test_a_reload_that_was_interrupted_at_its_end_is_completed() -> None:
    rig = cluster()
    rig.staff.config = CONFIG
    reloading(rig)
    rig.run(lambda: rig.staff.posts["shard-1"].leaving)
    found = take_over(rig)
    assert found.staff.generation == 2
    assert found.staff.seats == {"shard-1": "shard-1.2", "shard-2": "shard-2.2"}
    assert {name for name, post in found.staff.posts.items() if post.leaving} == {"shard-1", "shard-2"}
    assert not found.needs_reload


def test_a_shard_with_a_name_of_its_own_leaves() -> None:
    rig = cluster()
    post = rig.staff.add_shard("backend", 1)
    rig.turn()
    rig.enter(post)
    found = take_over(rig)
    assert {name for name, post in found.staff.posts.items() if post.leaving} == {"backend"}
    assert shard_name("backend", 1) == "backend"
