"""Who of many that were at work has killed a shard: suspicion, trials, hangs, and a simulation of all that."""

from __future__ import annotations

import random

import pytest

from roost.common.ids import ObjectId, id_from_name, slot_of
from roost.router.owners.poison import LONGEST_REFUSAL_S, STAGES, Death, Deaths, Running
from tests.unit.router.fakes import NAMESPACE, text
from tests.unit.router.rig import Rig, cluster, shard

KILLER = id_from_name(NAMESPACE, "killer")
SEAT = "shard-1"


def of(name: str, connection: int = 1, seq: int = 1, router: int = 0) -> Running:
    return Running(id_from_name(NAMESPACE, name), connection, seq, router)


def test_an_event_that_waits_alone_at_two_deaths_is_not_sent_again() -> None:
    deaths = Deaths()
    deaths.note(Death(None, [of("killer")]), SEAT, 0.0)
    assert deaths.poisoned(SEAT) == {}
    assert deaths.poisoned("shard-2") == {}, "that it waited says little: whoever waits long is there at any death"
    assert deaths.note(Death(None, [of("killer")]), SEAT, 2.0) == []
    assert deaths.poisoned(SEAT) == {1: [1]}


def test_whoever_ended_between_two_deaths_is_innocent_whatever_ran() -> None:
    deaths = Deaths()
    deaths.note(Death(of("ran", 2), [of("killer"), of("slow", 3)]), SEAT, 0.0)
    deaths.note(Death(of("ran", 2, seq=2), [of("killer"), of("other", 4)]), SEAT, 2.0)
    assert deaths.poisoned(SEAT) == {1: [1]}
    assert not deaths.tried(slot_of(KILLER))


def test_deaths_with_long_pauses_between_them_do_not_add_up_for_a_handler_that_waits() -> None:
    deaths = Deaths()
    for now in (0.0, 61.0, 122.0):
        deaths.note(Death(None, [of("patient")]), SEAT, now)
    assert deaths.poisoned(SEAT) == {}


def test_what_ran_last_counts_if_nothing_else_is_known_and_not_for_its_object() -> None:
    deaths = Deaths()
    for _ in range(3):
        assert deaths.note(Death(None, last=of("killer")), SEAT, 0.0) == []
    assert deaths.poisoned(SEAT) == {1: [1]}
    deaths = Deaths()
    for _ in range(2):
        deaths.note(Death(None, [of("slow", 3, 0)], last=of("killer")), SEAT, 0.0)
    assert deaths.poisoned(SEAT) == {}


def test_an_event_of_another_router_makes_ours_one_of_several() -> None:
    deaths = Deaths()
    for _ in range(2):
        deaths.note(Death(None, [of("killer"), of("other", 1, 1, router=77)]), SEAT, 0.0)
    assert deaths.poisoned(SEAT) == {}
    slots = [slot_of(KILLER), slot_of(id_from_name(NAMESPACE, "other"))]
    assert sorted(deaths.holds(slot, 10.0) for slot in slots) == [False, True], "one after the other"
    late = slots[deaths.holds(slots[1], 10.0)]
    assert deaths.tried(late)


def test_whoever_lives_through_a_trial_is_cleared() -> None:
    deaths = Deaths()
    suspects = [of("a", 1), of("b", 2)]
    for now in (0.0, 1.0):
        deaths.note(Death(None, suspects), SEAT, now)
    slots = sorted(slot_of(each.object_id) for each in suspects)
    assert [deaths.holds(slot, 2.0) for slot in slots] == [False, True]
    assert deaths.look(4.0) == slots
    assert [deaths.holds(slot, 5.0) for slot in slots] == [False, False]
    assert deaths.look(8.0) == slots, "for the last time"
    assert deaths.look(9.0) == []
    deaths.note(Death(None, suspects), SEAT, 10.0)
    assert deaths.poisoned(SEAT) == {}
    assert not any(deaths.tried(slot) for slot in slots)


def test_two_of_one_object_that_wait_together_cost_three_deaths_and_then_the_object_is_refused() -> None:
    deaths = Deaths()
    both = [of("killer", 1), of("killer", 2)]
    assert deaths.note(Death(None, both), SEAT, 0.0) == []
    assert deaths.note(Death(None, both), SEAT, 1.0) == []
    assert deaths.note(Death(None, both), SEAT, 2.0) == [KILLER]
    assert deaths.poisoned(SEAT) == {}


def test_requests_that_wait_while_their_shard_dies_have_their_object_refused() -> None:
    deaths = Deaths()
    refused = [deaths.note(Death(None, [of("killer", 0, 0)]), SEAT, float(now)) for now in range(3)]
    assert refused == [[], [], [KILLER]]


# --- hangs ---


def hang(stood_s: float = 30.0) -> Death:
    return Death(of("killer", 0, 0), stood_s=stood_s)


def test_two_deaths_by_hanging_have_an_object_refused_although_they_are_far_apart() -> None:
    deaths = Deaths()
    assert deaths.note(hang(), SEAT, 30.0) == []
    assert deaths.note(hang(), SEAT, 95.0) == [KILLER]
    assert deaths.refuses(KILLER, 154.0)


def test_the_time_that_the_loop_stood_does_not_count_against_the_window() -> None:
    deaths = Deaths()
    deaths.note(hang(600.0), SEAT, 600.0)
    assert deaths.note(hang(600.0), SEAT, 1259.0) == [KILLER]
    deaths = Deaths()
    deaths.note(hang(), SEAT, 0.0)
    assert deaths.note(hang(), SEAT, 91.0) == []


def test_one_that_does_so_again_is_refused_at_once_and_for_longer_each_time() -> None:
    deaths = Deaths()
    deaths.note(hang(), SEAT, 30.0)
    now = 62.0
    deaths.note(hang(), SEAT, now)
    for length in (60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, LONGEST_REFUSAL_S, LONGEST_REFUSAL_S):
        assert deaths.refusal_s(KILLER) == length
        assert deaths.refuses(KILLER, now + length - 0.1)
        assert not deaths.refuses(KILLER, now + length)
        now += length + 31.0
        assert deaths.note(hang(), SEAT, now) == [KILLER]
    now += LONGEST_REFUSAL_S + 200.0
    assert deaths.note(hang(), SEAT, now) == [], "it has been good for long enough"


# --- a simulation: a shard with many handlers that wait, one of which kills it ---


class Cluster:
    """Gives a shard the events of its objects, dies as they say, and notes who was dropped.

    Args:
        rng: Chooses.
        innocents: Objects with a handler that waits for long.
        delay_s: Seconds from the delivery of the killing event to the death.
    """

    def __init__(self, rng: random.Random, innocents: int, delay_s: float) -> None:
        self.rng = rng
        self.delay_s = delay_s
        self.deaths = Deaths()
        self.events = {f"room-{number}": of(f"room-{number}", number + 2) for number in range(innocents)}
        self.events["killer"] = of("killer")
        self.now = 1000.0
        self.died = 0
        self.refused: list[ObjectId] = []
        self.dropped: set[str] = set()

    def live(self) -> bool:
        """One life of the shard; says whether it ended with a death."""
        poisoned = self.deaths.poisoned(SEAT)
        for name in [name for name, each in self.events.items() if each.seq in poisoned.get(each.connection, ())]:
            self.dropped.add(name)
            del self.events[name]
        began, running, waiting = self.now, set[str](), dict(self.events)
        kills_at = None
        while kills_at is None or self.now < kills_at:
            # As a router does: once a second, beginning at some time.
            for name, each in list(waiting.items()):
                if not self.deaths.holds(slot_of(each.object_id), self.now):
                    running.add(name)
                    del waiting[name]
                    if name == "killer":
                        kills_at = self.now + self.delay_s * self.rng.uniform(0.8, 1.2)
            if kills_at is not None and kills_at <= self.now + 1.0:
                self.now = kills_at
                break
            if kills_at is None and not waiting:
                return False
            self.now += 1.0
            self.deaths.look(self.now)
        self.died += 1
        suspects = [self.events[name] for name in sorted(running)]
        self.refused += self.deaths.note(Death(None, suspects), SEAT, self.now, self.now - began)
        self.now += self.rng.uniform(0.5, 2.0)
        return True


@pytest.mark.parametrize(("innocents", "most"), [(0, 2), (1, 3), (STAGES - 1, 3), (STAGES**2 // 2, 4), (2000, 5)])
def test_a_killer_is_found_among_many_that_wait_and_no_other_is_dropped(innocents: int, most: int) -> None:
    for seed in range(20):
        rng = random.Random(f"{innocents} {seed}")
        world = Cluster(rng, innocents, rng.choice([0.01, 0.3, 1.0]))
        while world.live():
            assert world.died <= most, f"seed {seed}"
        assert not world.refused or world.refused == [KILLER]
        assert world.dropped <= {"killer"} | {
            name for name, each in world.events.items() if slot_of(each.object_id) == slot_of(KILLER)
        }, f"seed {seed}"
        assert "killer" in world.dropped or world.refused == [KILLER], f"seed {seed}"


def test_a_slow_killer_is_tried_in_fewer_stages() -> None:
    for seed in range(20):
        world = Cluster(random.Random(seed), 8, 9.0)
        while world.live():
            assert world.died <= 6, f"seed {seed}"
        assert world.dropped == {"killer"}, f"seed {seed}"


# --- the router holds slots back ---


def test_slots_on_trial_are_attached_in_stages_and_nobody_is_closed_meanwhile() -> None:
    rig = Rig()
    rig.take_map(cluster(1, shard(1, SEAT)))
    names = ["a", "b", "c"]
    connections = {name: rig.connect(name)[0] for name in names}
    bystander, _ = rig.connect("bystander")
    for name, connection in connections.items():
        connection.data_received(text(name))
    bystander.data_received(text("by"))
    waiting = [of(name, connection.number) for name, connection in connections.items()]
    for incarnation in (1, 2):
        rig.last_words[incarnation] = Death(None, waiting)
        rig.forwarding.shard_died(rig.links[incarnation])
        rig.take_map(cluster(incarnation + 1, shard(incarnation + 1, f"{SEAT}.{incarnation}", SEAT)))
    link = rig.links[3]

    def messages() -> list[str]:
        return [str(record[4]) for record in link.take() if record[0] == "message"]

    got = messages()
    assert len(got) == 2, "one of the three, and whoever has nothing to do with it"
    assert "by" in got
    for _ in range(2):
        assert messages() == []
        rig.world.pass_time(3.1)
        rig.forwarding.on_second()
        got += messages()
    assert sorted(got) == ["a", "b", "by", "c"]
    assert rig.world.counters.poisoned == 0
