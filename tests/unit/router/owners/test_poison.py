"""What kills shards: the counting, and what the router does about it."""

from __future__ import annotations

import pytest

from roost.common.errors import Unavailable
from roost.common.ids import ObjectId, id_from_name
from roost.router.formats.frames import close_frame
from roost.router.owners import poison as module
from roost.router.owners.poison import Death, Deaths, Running
from roost.router.owners.verdicts import POISONED
from roost.router.websocket.states import State
from tests.unit.router.fakes import NAMESPACE, close, text
from tests.unit.router.rig import Rig, cluster, shard

LOBBY = id_from_name(NAMESPACE, "lobby")
OTHER = id_from_name(NAMESPACE, "other")


def event(connection: int = 4, seq: int = 7, object_id: ObjectId = LOBBY) -> Running:
    return Running(object_id, connection, seq)


# --- the counting ---


def test_after_one_death_an_event_may_go_to_its_seat_only() -> None:
    deaths = Deaths()
    deaths.note(Death(event()), "shard-1", 0.0)
    assert deaths.poisoned("shard-1") == {}
    assert deaths.poisoned("shard-2") == {4: [7]}


def test_after_two_deaths_it_may_go_nowhere() -> None:
    deaths = Deaths()
    deaths.note(Death(event()), "shard-1", 0.0)
    deaths.note(Death(event(seq=8)), "shard-1", 0.0)
    deaths.note(Death(event()), "shard-1", 1000.0)
    assert deaths.poisoned("shard-1") == {4: [7]}
    assert deaths.poisoned("shard-2") == {4: [8, 7]}
    deaths.forget(4, 7)
    deaths.forget(4, 99)
    assert deaths.poisoned("shard-1") == {}


def test_a_request_or_an_event_of_another_router_counts_for_its_object_only() -> None:
    deaths = Deaths()
    assert not deaths.note(Death(event(connection=0, seq=0)), "shard-1", 0.0)
    assert not deaths.note(Death(Running(LOBBY, 4, 7, 99)), "shard-1", 0.0)
    assert deaths.poisoned("shard-2") == {}
    assert deaths.note(Death(event()), "shard-1", 0.0) == [LOBBY]


def test_three_deaths_within_a_minute_have_an_object_refused_for_a_minute() -> None:
    deaths = Deaths()
    assert not deaths.note(Death(event(seq=1)), "shard-1", 100.0)
    assert not deaths.note(Death(event(seq=2)), "shard-1", 130.0)
    assert not deaths.note(Death(event(object_id=OTHER)), "shard-1", 131.0)
    assert not deaths.refuses(LOBBY, 160.0)
    assert not deaths.refuses_any
    assert deaths.note(Death(event(seq=3)), "shard-1", 160.0)
    assert deaths.refuses(LOBBY, 219.9)
    assert not deaths.refuses(OTHER, 219.9)
    assert not deaths.refuses(LOBBY, 220.0)
    assert not deaths.refuses_any


def test_three_deaths_in_more_than_a_minute_do_not() -> None:
    deaths = Deaths()
    assert not deaths.note(Death(event(seq=1)), "shard-1", 100.0)
    assert not deaths.note(Death(event(seq=2)), "shard-1", 130.0)
    assert not deaths.note(Death(event(seq=3)), "shard-1", 160.1)
    assert deaths.note(Death(event(seq=4)), "shard-1", 190.0), "the last three count"


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EVENTS", 3)
    monkeypatch.setattr(module, "MAX_OBJECTS", 3)
    deaths = Deaths()
    for _ in range(3):
        deaths.note(Death(event()), "shard-1", 0.0)
    assert deaths.refuses(LOBBY, 1.0)
    for number in range(3):
        deaths.note(
            Death(event(connection=10 + number, object_id=id_from_name(NAMESPACE, str(number)))), "shard-1", 0.0
        )
    assert deaths.poisoned("shard-1") == {}
    assert list(deaths.poisoned("x")) == [10, 11, 12]
    assert not deaths.refuses_any


# --- what the router does ---


@pytest.fixture
def rig() -> Rig:
    made = Rig()
    made.take_map(cluster(1, shard(1, "shard-1")))
    made.links[1].take()
    return made


def die(rig: Rig, incarnation: int, running: Running | None) -> None:
    if running is not None:
        rig.last_words[incarnation] = running
    rig.forwarding.shard_died(rig.links[incarnation])


def come_back(rig: Rig, incarnation: int, *, seat: str = "shard-1") -> list[str]:
    """The next owner; says which events it gets."""
    rig.take_map(cluster(incarnation, shard(incarnation, f"{seat}.{incarnation}", seat)))
    return [str(record[4]) for record in rig.links[incarnation].take() if record[0] in ("message", "closed")]


def test_an_event_that_ran_at_two_deaths_is_not_sent_again(rig: Rig) -> None:
    connection, transport = rig.connect()
    connection.data_received(text("fine") + text("deadly") + text("behind"))
    for incarnation in (1, 2):
        die(rig, incarnation, event(connection.number, 2))
        assert rig.world.counters.poisoned == 0
        delivered = come_back(rig, incarnation + 1)
        if incarnation == 1:
            assert delivered == ["fine", "deadly", "behind"]
    assert delivered == ["fine", "behind", "1011"]
    assert transport.take() == close_frame(1011, POISONED)
    assert rig.world.counters.poisoned == 1
    connection.acknowledge(1, 4)
    assert rig.world.counters.window_bytes == 0


def test_an_event_that_ran_at_one_death_takes_no_second_shard_down(rig: Rig) -> None:
    connection, transport = rig.connect()
    harmless, _ = rig.connect()
    connection.data_received(text("deadly"))
    harmless.data_received(text("fine"))
    die(rig, 1, event(connection.number, 1))
    assert sorted(come_back(rig, 2, seat="shard-2")) == ["1011", "fine"]
    assert transport.take() == close_frame(1011, POISONED)
    assert harmless.state is State.OPEN


def test_a_death_with_no_words_or_by_the_map_alone(rig: Rig) -> None:
    connection, _ = rig.connect()
    connection.data_received(text("x"))
    die(rig, 1, None)
    assert come_back(rig, 2) == ["x"]
    rig.last_words[2] = event(connection.number, 1)  # nobody tells of the process: the map does
    assert come_back(rig, 3, seat="shard-2") == ["1011"]


def test_a_session_that_broke_is_no_death(rig: Rig) -> None:
    connection, _ = rig.connect()
    connection.data_received(text("x"))
    rig.last_words[1] = event(connection.number, 1)
    rig.forwarding.link_broke(rig.links[1])
    assert come_back(rig, 2, seat="shard-2") == ["x"]


def test_a_shard_that_left_in_good_order_has_no_last_words(rig: Rig) -> None:
    connection, _ = rig.connect()
    connection.data_received(text("x"))
    rig.take_map(cluster(2, shard(1, "shard-1"), shard(2, "shard-2"), owners=[2] * 4096))
    rig.receiver(1).released(2, range(4096), [], [])
    rig.last_words[1] = event(connection.number, 1)
    assert [record[4] for record in rig.links[2].take() if record[0] == "message"] == ["x"]
    rig.take_map(cluster(3, shard(2, "shard-2")))
    assert come_back(rig, 4, seat="shard-3") == ["x"]


def test_a_deadly_close_is_not_told_and_its_connection_not_restored(rig: Rig) -> None:
    connection, transport = rig.connect()
    connection.data_received(close(1000))
    ghost, _ = rig.connect()
    ghost.connection_lost(None)
    die(rig, 1, event(connection.number, 1))
    rig.last_words[2] = event(ghost.number, 1)
    assert come_back(rig, 2, seat="shard-2") == ["1006"]
    assert transport.take() == close_frame(1011, POISONED)
    die(rig, 2, event(ghost.number, 1))
    rig.take_map(cluster(3, shard(3, "shard-3")))
    assert [record[0] for record in rig.links[3].take()] == ["restored"]
    assert ghost.state is State.GONE


def test_an_event_that_was_acknowledged_after_all_closes_nothing(rig: Rig) -> None:
    connection, _ = rig.connect()
    connection.data_received(text("x"))
    connection.acknowledge(1, 1)
    die(rig, 1, event(connection.number, 1))
    assert come_back(rig, 2, seat="shard-2") == []
    assert connection.state is State.OPEN


def test_an_object_that_ends_three_shards_is_refused(rig: Rig) -> None:
    connection, transport = rig.connect()
    connection.data_received(text("a") + text("b"))
    other, _ = rig.connect("other")
    for incarnation in (1, 2):
        die(rig, incarnation, Running(LOBBY, 0, 0))
        come_back(rig, incarnation + 1)
    die(rig, 3, None)
    _, asker = rig.ask()
    upgrade, upgrade_asker = rig.ask(upgrade=True)
    _, other_asker = rig.ask("other")
    come_back(rig, 4)
    rig.links[4].blocked = True
    _, parked_asker = rig.ask()
    die(rig, 4, Running(LOBBY, 0, 0))
    assert rig.world.counters.objects_refused == 1
    assert transport.take() == close_frame(1013, "the object is refused for a while")
    assert [asked.got[0][1] for asked in (asker, upgrade_asker, other_asker)] == [502, 502, 502]
    assert parked_asker.got[0][:2] == ("failed", 503)
    assert upgrade.connection is not None
    assert upgrade.connection.state is State.GONE
    for kind in (False, True):
        with pytest.raises(Unavailable, match="refused"):
            rig.ask(upgrade=kind)
    assert rig.world.counters.window_bytes == 0
    rig.take_map(cluster(5, shard(5, "shard-1")))
    assert [record[1].name for record in rig.links[5].take() if record[0] == "restore"] == ["other"]
    rig.world.pass_time(60.1)
    rig.ask()
    assert [record[0] for record in rig.links[5].take()] == ["request"]
    assert other.state is State.OPEN


def test_every_router_counts_the_deaths_of_an_object_also_one_that_had_nothing_attached_there(rig: Rig) -> None:
    for incarnation in (1, 2, 3):
        rig.take_map(cluster(incarnation, shard(incarnation, "shard-1")))
        rig.last_words[incarnation] = Running(LOBBY, 0, 0)
        link = rig.links[incarnation]
        for slot in rig.forwarding._slots.of(link):
            rig.forwarding._slots.park(slot, 0)
        rig.forwarding.shard_died(link)
    with pytest.raises(Unavailable, match="it is refused for a"):
        rig.ask()
