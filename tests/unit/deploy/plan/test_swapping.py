"""New code at once, in a cluster without processes."""

from __future__ import annotations

import random

import pytest

from roost.common.errors import AppError
from roost.common.limits import SLOTS
from roost.deploy.plan.post import PostState
from roost.deploy.plan.swapping import HURRY_S, Swap
from tests.unit.deploy.rig import GRACE_S, Rig, disturb, started


def swap(rig: Rig) -> Swap:
    rig.change = change = Swap(rig.staff, rig.map)
    return change


@pytest.mark.parametrize("shards", [1, 3])
def test_the_successors_take_over_and_the_others_go(shards: int) -> None:
    rig = started(shards)
    shares = rig.owned()
    change = rig.carry_out(swap(rig))
    assert change.outcome is not None
    assert change.outcome.exit_code == 0
    assert change.outcome.sentence.startswith("new code after ")
    assert rig.owned() == {f"{name}.2": count for name, count in shares.items()}
    assert rig.moved == SLOTS
    rig.carry_out(swap(rig))
    assert set(rig.owned()) == {f"shard-{number}.3" for number in range(1, shards + 1)}
    assert not any(line.startswith("kill") for line in rig.log)


def test_the_next_step_comes_as_soon_as_it_can() -> None:
    rig = started(1)
    change = swap(rig)
    rig.turn()
    rig.enter(rig.staff.posts["shard-1.2"])
    began = rig.now
    rig.run(lambda: change.outcome is not None)
    assert rig.now == began


@pytest.mark.parametrize(
    ("code", "error", "why"),
    [(AppError.exit_code, "room.py does not import", ""), (1, "no memory", ": shard-1.2: no memory")],
)
def test_a_successor_that_does_not_start_leaves_the_code_that_ran(code: int, error: str, why: str) -> None:
    rig = started(1)
    change = swap(rig)
    rig.turn()
    rig.die("shard-1.2", code, error)
    rig.run()
    assert change.outcome is not None
    assert change.outcome.exit_code == AppError.exit_code
    assert change.outcome.sentence == f"the code that ran before goes on{why}"
    assert rig.owned() == {"shard-1": SLOTS}
    assert set(rig.staff.posts) == {"shard-1", "router-1"}
    rig.carry_out(swap(rig))
    assert len(rig.owned()) == 1
    assert "shard-1" not in rig.owned()


def test_a_successor_that_never_loads_is_overtaken_by_what_is_saved_next() -> None:
    rig = started(1)
    change = swap(rig)
    rig.turn()
    rig.now += HURRY_S
    rig.turn()
    assert "shard-1.2" in rig.staff.posts, "nothing else was saved: it may take as long as it needs"
    change.overtake()
    for _ in range(3):
        rig.turn()
    assert change.outcome is not None
    assert change.outcome.exit_code == 0
    assert "something else was saved since" in change.outcome.sentence
    assert any(line.startswith("kill shard-1.2") for line in rig.log)
    assert rig.owned() == {"shard-1": SLOTS}
    rig.carry_out(swap(rig))
    assert rig.owned() == {"shard-1.2": SLOTS}


def test_one_that_has_just_begun_to_load_is_given_its_time_though_overtaken() -> None:
    rig = started(1)
    change = swap(rig)
    rig.turn()
    change.overtake()
    rig.enter(rig.staff.posts["shard-1.2"])
    rig.run(lambda: change.outcome is not None)
    assert change.outcome is not None
    assert change.outcome.sentence.startswith("new code after ")


def test_a_predecessor_that_does_not_let_go_is_killed() -> None:
    rig = started(1)
    change = swap(rig)
    rig.turn()
    rig.enter(rig.staff.posts["shard-1.2"])
    rig.turn()
    assert rig.map.next_owners, "on their way, and the predecessor does nothing"
    rig.now += HURRY_S - 0.01
    rig.turn()
    assert rig.staff.posts["shard-1"].state is PostState.READY
    rig.now += 0.01
    rig.turn()
    assert "kill shard-1" in rig.log
    rig.run(lambda: change.outcome is not None)
    assert rig.owned() == {"shard-1.2": SLOTS}


def test_a_shard_whose_first_start_failed_gets_another_one() -> None:
    rig = Rig(shards=1)
    rig.turn()
    rig.die("shard-1", AppError.exit_code, "room.py does not import")
    assert rig.staff.posts["shard-1"].state is PostState.ENDED
    argv = rig.staff.posts["shard-1"].argv
    assert rig.staff.revive(rig.staff.posts["shard-1"].kind)
    assert not rig.staff.revive(rig.staff.posts["shard-1"].kind)
    rig.run()
    assert rig.owned() == {"shard-1": SLOTS}
    assert rig.staff.posts["shard-1"].argv == argv


@pytest.mark.parametrize("seed", range(30))
def test_whatever_dies_meanwhile_it_ends_with_one_shard_for_each_seat(seed: int) -> None:
    rig = started(2)
    change = swap(rig)
    choose = random.Random(seed)
    for _ in range(choose.randint(1, 40)):
        disturb(rig, choose)
    for _ in range(30):
        rig.now += GRACE_S
        rig.run()
        if change.outcome is not None and rig.settled():
            break
    assert change.outcome is not None, rig.log
    assert rig.settled(), rig.log
    assert sum(rig.owned().values()) == SLOTS
    assert {rig.staff.posts[name].seat for name in rig.owned()} == {"shard-1", "shard-2"}
    assert len([post for post in rig.staff.posts.values() if post.kind.value == "shard"]) == 2
