"""Slots and their owners: the first attach, a death, what is parked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roost.common.errors import Unavailable
from roost.common.ids import id_from_name, slot_of
from roost.common.limits import SLOTS
from roost.common.wire.records import AcceptMode
from roost.router.formats.frames import close_frame
from roost.router.owners import requests as requests_module
from roost.router.websocket.states import State
from tests.unit.router.fakes import NAMESPACE, accepted, close, state, text
from tests.unit.router.rig import Rig, cluster, shard


@pytest.fixture
def rig() -> Rig:
    made = Rig()
    made.take_map(cluster(1, shard(1)))
    made.links[1].take()
    return made


def test_the_first_map_attaches_all_slots_even_without_connections() -> None:
    rig = Rig()
    rig.take_map(cluster(3, shard(1), shard(2), owners=[1] * 1000 + [2] * (SLOTS - 1000)))
    assert rig.links[1].take() == [("restored", 3, list(range(1000)))]
    assert rig.links[2].take() == [("restored", 3, list(range(1000, SLOTS)))]
    assert rig.forwarding.attached == SLOTS


def test_without_owners_nothing_is_attached_but_links_are_made() -> None:
    rig = Rig()
    rig.take_map(cluster(1, shard(1), owners=[0] * SLOTS))
    assert rig.links[1].take() == []
    assert rig.forwarding.attached == 0


def test_the_same_owners_again_change_nothing(rig: Rig) -> None:
    rig.take_map(cluster(2, shard(1)))
    assert rig.links[1].take() == []


def test_a_slot_whose_owner_lives_stays_with_it(rig: Rig) -> None:
    rig.take_map(cluster(2, shard(1), shard(2), owners=[2] * SLOTS))
    assert rig.links[1].take() == rig.links[2].take() == []


# --- a death ---


def test_a_new_owner_gets_passports_state_events_and_restored_in_order(rig: Rig) -> None:
    connection, _ = rig.connect("a")
    ghost, _ = rig.connect("a")
    other, _ = rig.connect("b")
    pending = rig.world.pending("a")
    rig.world.entry("a").set_state(state(rig.world.entry("a").object_id, 5))
    connection.data_received(text("one") + text("two") + text("three"))
    connection.acknowledge(2, 2)
    ghost.data_received(text("ghostly"))
    ghost.connection_lost(None)
    rig.links[1].take()
    rig.take_map(cluster(2, shard(2, "s1")))
    assert rig.links[1].closed
    records = rig.links[2].take()
    assert records[-1] == ("restored", 2, list(range(SLOTS)))
    a, b = (
        [record for record in records[:-1] if belongs(record, numbers)]
        for numbers in ({connection.number, ghost.number}, {other.number})
    )
    assert [record[0] for record in a] == [
        "restore",
        "object_state",
        "message",
        "message",
        "restore",
        "message",
        "closed",
    ]
    assert [a[0][1].connection, a[4][1].connection] == [connection.number, ghost.number]
    assert a[0][1].next_seq == 4
    assert a[1][1].revision == 5
    assert [a[index][2:] for index in (2, 3, 5)] == [(1, 1, "one"), (3, 1, "three"), (1, 1, "ghostly")]
    assert a[6][1:5] == (ghost.number, 2, 1, 1006)
    assert [record[0] for record in b] == ["restore"]
    assert pending.state is State.PENDING
    assert rig.world.counters.events_sent_again == 4


def belongs(record: tuple[object, ...], numbers: set[int]) -> bool:
    if record[0] == "restore":
        return record[1].connection in numbers  # type: ignore[attr-defined]
    if record[0] == "object_state":
        return 1 in numbers
    return record[1] in numbers


def test_what_happens_while_parked_is_delivered_for_the_first_time(rig: Rig) -> None:
    connection, transport = rig.connect()
    connection.data_received(text("before"))
    rig.take_map(cluster(2, owners=[0] * SLOTS))
    assert rig.forwarding.attached == 0
    connection.data_received(text("while parked"))
    connection.data_received(close(1000))
    assert not transport.paused
    rig.take_map(cluster(3, shard(2, "s1")))
    assert [record[2:5] for record in rig.links[2].take() if record[0] in ("message", "closed")] == [
        (1, 1, "before"),
        (2, 0, "while parked"),
        (3, 0, 1000),
    ]
    rig.take_map(cluster(4, shard(3, "s1")))
    assert [record[3] for record in rig.links[3].take() if record[0] in ("message", "closed")] == [2, 1, 1]


def test_after_a_restore_events_go_to_the_new_owner(rig: Rig) -> None:
    connection, _ = rig.connect()
    rig.take_map(cluster(2, shard(2, "s1")))
    rig.links[2].take()
    connection.data_received(text("new"))
    assert rig.links[2].take() == [("message", 1, 1, 0, "new")]


def test_connections_accepted_with_accept_cannot_move(rig: Rig) -> None:
    connection, transport = rig.connect(mode=AcceptMode.STANDARD)
    connection.data_received(text("x"))
    ghost, _ = rig.connect(mode=AcceptMode.STANDARD)
    ghost.connection_lost(None)
    rig.take_map(cluster(2, shard(2, "s1")))
    assert transport.take() == close_frame(1012, "the object's process ended")
    assert rig.links[2].take() == [("restored", 2, list(range(SLOTS)))]
    assert ghost.state is State.GONE
    assert rig.world.counters.window_bytes == 0


def test_connections_that_nobody_knows_are_not_restored(rig: Rig) -> None:
    reset, _ = rig.connect()
    reset.object_closed(1011, "reset", True)
    _, transport = rig.connect(mode=AcceptMode.UNACCEPTED)
    rig.take_map(cluster(2, shard(2, "s1")))
    assert rig.links[2].take() == [("restored", 2, list(range(SLOTS)))]
    assert transport.take() == b""


def test_pending_times_of_automatic_responses_go_with_the_passport(rig: Rig) -> None:
    connection, _ = rig.connect()
    rig.world.entry().set_state(state(rig.world.entry().object_id))
    connection.data_received(text("ping"))
    rig.take_map(cluster(2, shard(2, "s1")))
    (restore, *_) = rig.links[2].take()
    assert restore[1].auto_response_time == 1_700_000_100.0
    rig.world.shared.reports.flush()
    assert rig.links[2].take() == []


def test_a_broken_link_is_like_a_dead_shard_until_its_next_incarnation(rig: Rig) -> None:
    connection, _ = rig.connect()
    _, asker = rig.ask()
    rig.forwarding.link_broke(rig.links[1])
    assert asker.got[0][:2] == ("failed", 502)
    rig.take_map(cluster(2, shard(1), shard(5), owners=[1] * SLOTS))
    assert rig.forwarding.attached == 0
    connection.data_received(text("waits"))
    rig.take_map(cluster(3, shard(2, "s1"), shard(5), owners=[2] * SLOTS))
    assert [record[0] for record in rig.links[2].take()] == ["restore", "message", "restored"]


# --- requests ---


def test_a_request_goes_to_its_owner(rig: Rig) -> None:
    request, _ = rig.ask()
    ((_, record),) = rig.links[1].take()
    assert (record.request, record.connection, record.method) == (1, 0, "GET")
    assert (record.namespace, record.name, record.headers) == (NAMESPACE, "lobby", [(b"host", b"h")])
    assert record.object_id == id_from_name(NAMESPACE, "lobby")
    assert request.link is rig.links[1]
    assert len(rig.world.shared.objects) == 0


def test_an_upgrade_reserves_its_connection(rig: Rig) -> None:
    request, _ = rig.ask(upgrade=True)
    ((_, record),) = rig.links[1].take()
    assert request.connection is not None
    assert record.connection == request.connection.number == 1
    assert request.connection.entry.link is rig.links[1]


def test_requests_that_a_dead_shard_had_fail_and_parked_ones_go_out() -> None:
    rig = Rig()
    rig.take_map(cluster(1, shard(1)))
    sent, sent_asker = rig.ask()
    upgrade, upgrade_asker = rig.ask(upgrade=True)
    rig.take_map(cluster(2, owners=[0] * SLOTS))
    assert sent_asker.got == upgrade_asker.got
    ((kind, status, sentence),) = sent_asker.got
    assert (kind, status) == ("failed", 502)
    assert "may have been carried out" in sentence
    assert upgrade.connection is not None
    assert upgrade.connection.state is State.GONE
    _, parked_asker = rig.ask("other", upgrade=True)
    assert rig.forwarding.desk.requests.parked == 1
    rig.take_map(cluster(3, shard(2, "s1")))
    assert [record[0] for record in rig.links[2].take()] == ["restored", "request"]
    assert parked_asker.got == []
    assert sent.asker is not None


@pytest.mark.parametrize("why", ["blocked", "held"])
def test_requests_wait_for_blocked_links_and_held_objects(rig: Rig, why: str) -> None:
    link, object_id = rig.links[1], id_from_name(NAMESPACE, "lobby")
    if why == "blocked":
        link.blocked = True
    else:
        rig.forwarding.desk.hold(link, object_id, True)
    rig.ask()
    rig.forwarding.unblocked(link)
    assert link.take() == []
    if why == "blocked":
        link.blocked = False
        rig.forwarding.unblocked(link)
    else:
        rig.ask("another")
        assert len(link.take()) == 1
        rig.forwarding.desk.hold(link, object_id, False)
    assert [record[0] for record in link.take()] == ["request"]


def test_holding_stops_the_objects_clients_present_and_future(rig: Rig) -> None:
    connection, transport = rig.connect()
    link = rig.links[1]
    rig.forwarding.desk.hold(link, rig.world.entry().object_id, True)
    connection.data_received(text("waits"))
    assert transport.paused
    assert link.take() == []
    rig.forwarding.desk.hold(link, rig.world.entry().object_id, False)
    rig.world.run()
    assert [record[4] for record in link.take()] == ["waits"]
    rig.forwarding.desk.hold(link, id_from_name(NAMESPACE, "new"), True)
    request, _ = rig.ask("new", upgrade=True)
    assert request.connection is not None
    assert request.connection.entry.held


def test_a_hold_dies_with_its_shard(rig: Rig) -> None:
    connection, _ = rig.connect()
    rig.forwarding.desk.hold(rig.links[1], rig.world.entry().object_id, True)
    connection.data_received(text("waits"))
    rig.take_map(cluster(2, shard(2, "s1")))
    rig.world.run()
    assert [record[0] for record in rig.links[2].take()] == ["restore", "restored", "message"]
    rig.ask()
    assert [record[0] for record in rig.links[2].take()] == ["request"]


def test_the_client_of_a_parked_upgrade_leaves(rig: Rig) -> None:
    rig.links[1].blocked = True
    request, _ = rig.ask(upgrade=True)
    rig.forwarding.desk.abandon(request)
    assert request.connection is not None
    assert request.connection.state is State.GONE
    rig.links[1].blocked = False
    rig.forwarding.unblocked(rig.links[1])
    assert rig.links[1].take() == []


def test_the_client_of_a_sent_upgrade_leaves(rig: Rig) -> None:
    request, _ = rig.ask(upgrade=True)
    rig.forwarding.desk.abandon(request)
    assert request.connection is not None
    assert request.connection.state is State.PENDING
    rig.links[1].take()
    request.connection.accept_lost(accepted())
    assert [record[0] for record in rig.links[1].take()] == ["closed"]


def test_too_many_parked_requests_leave_nothing_behind(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests_module, "MAX_PARKED_REQUESTS", 1)
    rig.links[1].blocked = True
    rig.ask()
    with pytest.raises(Unavailable):
        rig.ask(upgrade=True)
    assert len(rig.world.shared.connections) == len(rig.world.shared.objects) == 0


# --- time ---


def test_what_is_parked_for_thirty_seconds_is_given_up(rig: Rig) -> None:
    connection, transport = rig.connect()
    rig.take_map(cluster(2, owners=[0] * SLOTS))
    _, asker = rig.ask()
    upgrade, upgrade_asker = rig.ask(upgrade=True)
    connection.data_received(text("x"))
    rig.world.pass_time(30)
    rig.forwarding.on_second()
    assert asker.got == []
    assert connection.state is State.OPEN
    rig.world.pass_time(0.2)
    rig.forwarding.on_second()
    assert [asker.got[0][:2], upgrade_asker.got[0][:2]] == [("failed", 503)] * 2
    assert upgrade.connection is not None
    assert upgrade.connection.state is State.GONE
    assert connection.state is State.CLOSED_BY_ROUTER
    assert transport.take().endswith(close_frame(1013, "the object cannot be reached at present"))
    rig.take_map(cluster(3, shard(2, "s1")))
    assert [record[0] for record in rig.links[2].take()] == ["restore", "message", "closed", "restored"]


def test_each_new_owner_starts_the_time_anew(rig: Rig) -> None:
    connection, _ = rig.connect()
    rig.take_map(cluster(2, owners=[0] * SLOTS))
    rig.world.pass_time(20)
    rig.take_map(cluster(3, shard(2, "s1")))
    rig.take_map(cluster(4, owners=[0] * SLOTS))
    rig.world.pass_time(20)
    connection.data_received(text("alive"))
    rig.forwarding.on_second()
    assert connection.state is State.OPEN


def test_a_release_that_cannot_be_handed_over_is_one_long_wait(rig: Rig) -> None:
    """Out of patience the slot is attached again and again to its owner, which does not have it: no new beginning."""
    connection, _ = rig.connect()
    slot = connection.entry.slot
    rig.take_map(cluster(2, shard(1), shard(2), moving={slot: 2}))
    _, asker = rig.ask()
    rig.receiver(1).released(2, [slot], [], [])
    for version in range(3, 36):
        rig.take_map(cluster(version, shard(1), shard(2), moving={slot: 2}))
        rig.world.pass_time(1)
        connection.data_received(text("alive"))
        rig.forwarding.on_second()
        rig.receiver(1).released(version, [slot], [], [])
    assert [record[0] for record in rig.links[1].take()].count("restored") > 1, "it was offered again"
    assert [got[:2] for got in asker.got] == [("failed", 503)]
    assert connection.state is State.CLOSED_BY_ROUTER


def test_a_link_that_cannot_be_made_is_made_later_and_keeps_no_other_from_its_slots(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = rig.connect_to

    def without_descriptors(_: object) -> None:
        raise OSError(24, "too many open files")

    rig.take_map(cluster(2, owners=[0] * SLOTS))
    owners = [2 + slot % 2 for slot in range(SLOTS)]
    monkeypatch.setattr(
        rig, "connect_to", lambda member: (without_descriptors if member.incarnation == 2 else connect)(member)
    )
    rig.take_map(cluster(3, shard(2), shard(3), owners=owners))
    assert rig.forwarding.attached == SLOTS // 2
    monkeypatch.setattr(rig, "connect_to", connect)
    rig.forwarding.on_second()
    assert rig.forwarding.attached == SLOTS


def test_members_are_matched_by_incarnation_not_by_name(rig: Rig) -> None:
    renamed = replace(shard(1), name="other")
    rig.take_map(cluster(2, renamed))
    assert not rig.links[1].closed
    assert slot_of(id_from_name(NAMESPACE, "lobby")) < SLOTS


def test_what_was_attached_in_time_is_not_given_up_later(rig: Rig) -> None:
    connection, _ = rig.connect()
    rig.take_map(cluster(2, owners=[0] * SLOTS))
    rig.world.pass_time(15)
    rig.take_map(cluster(3, shard(2, "s1")))
    rig.world.pass_time(19)
    rig.forwarding.on_second()
    assert connection.state is State.OPEN
