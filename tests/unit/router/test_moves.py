"""Slots that change their owner while both live, and what goes with them."""

from __future__ import annotations

from typing import Any

import pytest

from roost.common.ids import id_from_name, slot_of
from roost.common.limits import SLOTS
from roost.common.wire.records import AcceptMode, HttpResponse
from roost.router.clients.output import AT_ONCE
from roost.router.formats.frames import close_frame, data_frame
from roost.router.owners import giving
from roost.router.owners import requests as requests_module
from roost.router.websocket.states import State
from tests.unit.router.fakes import NAMESPACE, accepted, close, state, text
from tests.unit.router.rig import Rig, cluster, shard

ALL = list(range(SLOTS))
A, B = shard(1), shard(2)
EVENTS = ("message", "closed", "failed")


def slot(name: str) -> int:
    return slot_of(id_from_name(NAMESPACE, name))


def of(records: list[tuple[Any, ...]], *kinds: str) -> list[tuple[Any, ...]]:
    return [record for record in records if record[0] in kinds]


@pytest.fixture
def rig() -> Rig:
    """Everything belongs to shard 1, and is on its way to shard 2 as map 2 says."""
    made = Rig()
    made.take_map(cluster(1, A))
    made.take_map(cluster(2, A, B, owners=[1] * SLOTS, moving=dict.fromkeys(ALL, 2)))
    made.links[1].take()
    return made


def release(rig: Rig, *names: str, by: int = 1, version: int = 2, begun: tuple[tuple[int, int], ...] = ()) -> None:
    """Shard *by* lets go of the slots of *names*, or of all."""
    slots = [slot(name) for name in names] if names else ALL
    rig.receiver(by).released(version, slots, [number for number, _ in begun], [seq for _, seq in begun])


def hand_over(rig: Rig, version: int = 3) -> None:
    rig.take_map(cluster(version, A, B, owners=[2] * SLOTS))


def test_the_next_owner_is_told_that_much_output_waits(rig: Rig) -> None:
    connection, _ = rig.connect()
    connection.entry.fall_behind(True)
    rig.connect("quiet")
    release(rig)
    hand_over(rig)
    records = rig.links[2].take()
    assert of(records, "behind") == [("behind", connection.entry.object_id, True)]
    assert records.index(of(records, "behind")[0]) < records.index(of(records, "restored")[0])


# --- where slots go ---


def test_a_slot_in_transit_stays_until_its_owner_lets_go_of_it(rig: Rig) -> None:
    hand_over(rig)
    assert rig.links[2].take() == []
    release(rig)
    assert rig.links[2].take() == [("restored", 3, ALL)]
    assert rig.world.counters.slots_released == SLOTS


def test_a_slot_that_was_released_waits_for_the_map_of_its_next_owner(rig: Rig) -> None:
    release(rig)
    assert rig.forwarding.attached == 0
    assert rig.links[1].take() == rig.links[2].take() == []
    hand_over(rig)
    assert rig.links[2].take() == [("restored", 3, ALL)]
    assert rig.forwarding.attached == SLOTS


def test_exactly_the_slots_named_are_parked(rig: Rig) -> None:
    moved, _ = rig.connect("moved")
    stayed, _ = rig.connect("stayed")
    hand_over(rig)
    release(rig, "moved")
    assert [record[0] for record in rig.links[2].take()] == ["restore", "restored"]
    moved.data_received(text("to the new owner"))
    stayed.data_received(text("to the old one"))
    assert [record[4] for record in rig.links[2].take()] == ["to the new owner"]
    assert [record[4] for record in rig.links[1].take()] == ["to the old one"]
    assert rig.forwarding.attached == SLOTS


def test_a_slot_in_transit_is_attached_to_its_owner_which_cannot_let_go_of_it_before() -> None:
    rig = Rig()
    rig.take_map(cluster(5, A, B, owners=[1] * SLOTS, moving={7: 2}))
    assert rig.links[1].take() == [("restored", 5, ALL)]


def test_what_was_released_is_not_given_back_while_it_is_in_transit(rig: Rig) -> None:
    release(rig)
    rig.take_map(cluster(3, A, B, shard(9), owners=[1] * SLOTS, moving=dict.fromkeys(ALL, 2)))
    assert rig.forwarding.attached == 0


def test_what_was_released_is_not_given_back_by_a_map_of_before(rig: Rig) -> None:
    release(rig, version=7)
    rig.take_map(cluster(6, A, B, owners=[1] * SLOTS))
    rig.take_map(cluster(7, A, B, owners=[1] * SLOTS))
    assert rig.forwarding.attached == 0
    rig.take_map(cluster(8, A, B, owners=[1] * SLOTS))
    assert rig.links[1].take() == [("restored", 8, ALL)]


def test_an_owner_that_takes_up_again_what_it_had_released(rig: Rig) -> None:
    connection, _ = rig.connect()
    connection.data_received(text("kept"))
    rig.links[1].take()
    rig.take_map(cluster(3, A, owners=[1] * SLOTS, moving=dict.fromkeys(ALL, 1)))
    release(rig, version=3)
    assert rig.links[1].take() == []
    rig.take_map(cluster(4, A))
    assert [record[0] for record in rig.links[1].take()] == ["restore", "message", "restored"]


def test_after_another_owner_had_it_a_slot_in_transit_is_given_back_at_once(rig: Rig) -> None:
    release(rig)
    hand_over(rig)
    rig.links[2].take()
    rig.take_map(cluster(4, A, owners=[1] * SLOTS, moving={5: 1}))
    assert rig.links[1].take() == [("restored", 4, ALL)]


def test_a_slot_that_stays_in_transit_is_offered_to_its_owner_again(rig: Rig) -> None:
    """By maps that this router has not seen the owner got it back, and it waits for RESTORED before it moves on."""
    release(rig)
    rig.take_map(cluster(8, A, B, owners=[1] * SLOTS, moving=dict.fromkeys(ALL, 2)))
    rig.world.pass_time(0.9)
    rig.forwarding.on_second()
    assert rig.links[1].take() == []
    rig.world.pass_time(0.2)
    rig.forwarding.on_second()
    assert rig.links[1].take() == [("restored", 8, ALL)]
    release(rig, version=8)  # it does not have it
    rig.world.pass_time(5)
    rig.forwarding.on_second()
    assert rig.links[1].take() == []


def test_an_owner_that_dies_when_the_map_names_the_next_one_is_succeeded_at_once(rig: Rig) -> None:
    connection, _ = rig.connect()
    connection.data_received(text("x"))
    hand_over(rig)
    rig.forwarding.shard_died(rig.links[1])
    assert [record[0] for record in rig.links[2].take()] == ["restore", "message", "restored"]


def test_an_answer_from_before_the_attachment_is_old(rig: Rig) -> None:
    release(rig)
    rig.take_map(cluster(4, A, B))
    rig.links[1].take()
    release(rig, version=3)
    assert rig.forwarding.attached == SLOTS
    assert rig.world.counters.stale_records == 1
    release(rig, version=4)
    assert rig.forwarding.attached == 0


def test_a_shard_cannot_release_what_another_has(rig: Rig) -> None:
    rig.receiver(2).released(2, [*ALL, 65_535], [], [])
    assert rig.forwarding.attached == SLOTS
    assert rig.world.counters.stale_records == 1


def test_what_the_old_owner_says_afterwards_is_dropped(rig: Rig) -> None:
    connection, transport = rig.connect()
    receiver = rig.receiver(1)
    for _ in range(2):
        release(rig)
        receiver.send([connection.number], b"late", False)
        receiver.close(connection.number, 1000, "", False)
        receiver.hold(connection.entry.object_id, True)
        hand_over(rig)
    assert transport.take() == b""
    assert not connection.entry.held
    assert not rig.forwarding.desk.is_held(connection.entry.object_id)


# --- events ---


def test_events_that_were_not_begun_come_as_if_for_the_first_time(rig: Rig) -> None:
    connection, _ = rig.connect()
    connection.data_received(text("one") + text("two") + text("three") + close(1000))
    connection.acknowledge(2, 2)
    release(rig, begun=((connection.number, 3),))
    connection.data_received(text("after the close"))
    hand_over(rig)
    records = rig.links[2].take()
    assert [record[0] for record in records] == ["restore", "message", "message", "closed", "restored"]
    assert [record[2:4] for record in of(records, *EVENTS)] == [(1, 0), (3, 1), (4, 0)]


def test_what_happens_while_parked_goes_behind(rig: Rig) -> None:
    connection, transport = rig.connect()
    connection.data_received(text("before"))
    release(rig)
    connection.data_received(text("meanwhile"))
    assert not transport.paused
    hand_over(rig)
    assert [record[2:] for record in of(rig.links[2].take(), "message")] == [(1, 0, "before"), (2, 0, "meanwhile")]


def test_a_move_after_a_crash_does_not_make_a_crash_unseen(rig: Rig) -> None:
    connection, _ = rig.connect()
    connection.data_received(text("x"))
    rig.forwarding.shard_died(rig.links[1])
    rig.take_map(cluster(3, B))
    assert of(rig.links[2].take(), "message")[0][3] == 1
    rig.take_map(cluster(4, B, shard(3), owners=[2] * SLOTS, moving=dict.fromkeys(ALL, 3)))
    release(rig, by=2, version=4)
    rig.take_map(cluster(5, B, shard(3), owners=[3] * SLOTS))
    assert of(rig.links[3].take(), "message")[0][3] == 1


def test_a_connection_whose_end_was_handled_is_not_restored(rig: Rig) -> None:
    """Its TCP may take a while to end; a new owner would hold it for open and never hear of its end."""
    connection, _ = rig.connect()
    connection.data_received(text("x") + close(1000))
    connection.acknowledge(1, 2)
    connection.handlers_ended()
    assert connection.state is State.ENDING
    release(rig)
    hand_over(rig)
    assert of(rig.links[2].take(), "restore") == []


def test_an_end_that_was_handled_before_another_event_is_told_again_with_it(rig: Rig) -> None:
    connection, _ = rig.connect()
    connection.data_received(text("slow") + close(1000))
    connection.acknowledge(2, 2)
    release(rig, begun=((connection.number, 1),))
    hand_over(rig)
    records = rig.links[2].take()
    assert [record[0] for record in records] == ["restore", "message", "closed", "restored"]
    assert [record[3] for record in of(records, *EVENTS)] == [1, 1]
    connection.acknowledge(1, 1)
    rig.take_map(cluster(4, shard(3)))
    assert of(rig.links[3].take(), "restore") == []


def test_times_of_automatic_responses_go_with_the_passport(rig: Rig) -> None:
    connection, _ = rig.connect("moved")
    other, _ = rig.connect("stayed")
    for name in ("moved", "stayed"):
        entry = rig.world.entry(name)
        entry.set_state(state(entry.object_id))
    connection.data_received(text("ping"))
    other.data_received(text("ping"))
    release(rig, "moved")
    rig.world.shared.reports.flush()
    assert [record[1] for record in of(rig.links[1].take(), "auto_times")] == [[other.number]]
    connection.data_received(text("ping"))
    hand_over(rig)
    (restore,) = of(rig.links[2].take(), "restore")
    assert restore[1].auto_response_time == 1_700_000_100.0


# --- requests ---


def test_a_request_that_was_not_begun_goes_to_the_next_owner_whole(rig: Rig) -> None:
    request, asker = rig.ask(body=b"hello")
    upgrade, _ = rig.ask(upgrade=True)
    before = [record for _, record in rig.links[1].take()]
    release(rig)
    assert rig.forwarding.desk.requests.parked == 2
    hand_over(rig)
    again = [record for _, record in of(rig.links[2].take(), "request")]
    assert again == before
    assert [record.body for record in again] == [b"hello", b""]
    assert upgrade.connection is not None
    assert again[1].connection == upgrade.connection.number
    rig.receiver(1).response(HttpResponse(request.record.request, 200, AcceptMode.PLAIN, ()))
    assert asker.got == []
    answer = HttpResponse(request.record.request, 201, AcceptMode.PLAIN, ())
    rig.receiver(2).response(answer)
    assert asker.got == [("answered", answer)]


def test_an_answered_request_is_not_sent_again(rig: Rig) -> None:
    request, _ = rig.ask()
    rig.receiver(1).response(HttpResponse(request.record.request, 200, AcceptMode.PLAIN, ()))
    release(rig)
    hand_over(rig)
    assert of(rig.links[2].take(), "request") == []


def test_requests_of_other_slots_stay_where_they_are(rig: Rig) -> None:
    rig.ask("moved")
    stays, asker = rig.ask("stayed")
    release(rig, "moved")
    hand_over(rig)
    assert [record[1].name for record in of(rig.links[2].take(), "request")] == ["moved"]
    rig.receiver(1).response(HttpResponse(stays.record.request, 200, AcceptMode.PLAIN, ()))
    assert len(asker.got) == 1


def test_nobody_waits_for_a_request_that_was_not_begun(rig: Rig) -> None:
    plain, _ = rig.ask()
    upgrade, _ = rig.ask(upgrade=True)
    rig.forwarding.desk.abandon(plain)
    rig.forwarding.desk.abandon(upgrade)
    release(rig)
    hand_over(rig)
    assert of(rig.links[2].take(), "request") == []
    assert upgrade.connection is not None
    assert upgrade.connection.state is State.GONE


def test_requests_for_which_there_is_no_room_are_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests_module, "MAX_PARKED_REQUESTS", 1)
    _, first = rig.ask()
    upgrade, second = rig.ask(upgrade=True)
    release(rig)
    assert first.got == []
    assert second.got[0][:2] == ("failed", 503)
    assert upgrade.connection is not None
    assert upgrade.connection.state is State.GONE


def test_the_time_of_parking_begins_with_the_release(rig: Rig) -> None:
    _, asker = rig.ask()
    rig.world.pass_time(29)
    release(rig)
    rig.world.pass_time(29)
    rig.forwarding.on_second()
    assert asker.got == []


def test_a_death_fails_what_was_sent_and_a_polite_end_fails_nothing(rig: Rig) -> None:
    _, asker = rig.ask()
    connection, transport = rig.connect()
    release(rig)
    hand_over(rig)
    rig.take_map(cluster(4, B, owners=[2] * SLOTS))
    assert rig.links[1].closed
    assert asker.got == []
    assert rig.forwarding.attached == SLOTS
    assert transport.take() == b""
    rig.forwarding.shard_died(rig.links[1])
    rig.forwarding.shard_died(rig.links[2])
    assert asker.got[0][:2] == ("failed", 502)
    assert connection.entry.link is None


# --- what cannot move ---


@pytest.mark.parametrize("way", ["release", "death"])
def test_sockets_accepted_with_accept_are_closed_and_counted(rig: Rig, way: str) -> None:
    connection, transport = rig.connect(mode=AcceptMode.STANDARD)
    ghost, _ = rig.connect(mode=AcceptMode.STANDARD)
    connection.data_received(text("x"))
    ghost.connection_lost(None)
    stays, _ = rig.connect("stayed", mode=AcceptMode.STANDARD)
    if way == "release":
        release(rig, "lobby")
        assert stays.state is State.OPEN
        reason = "the object moves to another process"
    else:
        rig.forwarding.shard_died(rig.links[1])
        reason = "the object's process ended"
    assert transport.take() == close_frame(1012, reason)
    assert rig.world.counters.standard_closed == (1 if way == "release" else 2)
    assert ghost.state is State.GONE
    hand_over(rig)
    assert of(rig.links[2].take(), "restore", *EVENTS) == []


def test_a_hold_of_the_old_owner_goes_with_it(rig: Rig) -> None:
    connection, _ = rig.connect("moved")
    rig.connect("stayed")
    receiver = rig.receiver(1)
    for name in ("moved", "stayed"):
        receiver.hold(id_from_name(NAMESPACE, name), True)
    connection.data_received(text("waits"))
    hand_over(rig)
    release(rig, "moved")
    rig.world.run()
    assert [record[0] for record in rig.links[2].take()] == ["restore", "restored", "message"]
    assert [rig.forwarding.desk.is_held(id_from_name(NAMESPACE, name)) for name in ("moved", "stayed")] == [False, True]


# --- what still waits in output queues ---


def test_what_the_owner_said_last_is_in_the_passports(rig: Rig) -> None:
    """A broadcast is being written; behind it wait the answer to an upgrade and a close."""
    crowd = [rig.connect() for _ in range(AT_ONCE + 1)]
    request, _ = rig.ask(upgrade=True)
    assert request.connection is not None
    receiver = rig.receiver(1)
    receiver.send([connection.number for connection, _ in crowd], b"hi", False)
    receiver.response(accepted(request=request.record.request, ordinal=77))
    receiver.close(crowd[0][0].number, 4000, "bye", False)
    hand_over(rig)
    release(rig)
    assert request.connection.state is State.PENDING
    assert slot("lobby") not in rig.links[2].take()[-1][2]
    while rig.output.run():
        pass
    records = rig.links[2].take()
    assert records[-1] == ("restored", 3, [slot("lobby")])
    passports = {record[1].connection: record[1] for record in of(records, "restore")}
    assert passports[request.connection.number].ordinal == 77
    assert passports[crowd[0][0].number].closed_by_object
    assert len(passports) == AT_ONCE + 2


def test_messages_that_wait_to_be_written_do_not_delay_a_move(rig: Rig) -> None:
    crowd = [rig.connect() for _ in range(AT_ONCE + 1)]
    numbers = [connection.number for connection, _ in crowd]
    rig.receiver(1).send(numbers, b"old", False)
    hand_over(rig)
    release(rig)
    assert rig.forwarding.attached == SLOTS
    rig.receiver(2).send(numbers, b"new", False)
    while rig.output.run():
        pass
    assert {transport.take() for _, transport in crowd} == {data_frame(b"old", False) + data_frame(b"new", False)}


def test_a_standard_socket_that_is_accepted_last_is_closed_as_well(rig: Rig) -> None:
    crowd = [rig.connect() for _ in range(AT_ONCE + 1)]
    request, asker = rig.ask(upgrade=True)
    receiver = rig.receiver(1)
    receiver.send([connection.number for connection, _ in crowd], b"hi", False)
    receiver.response(accepted(AcceptMode.STANDARD, request=request.record.request))
    release(rig)
    while rig.output.run():
        pass
    assert asker.got[0][0] == "upgraded"
    assert rig.world.counters.standard_closed == 1
    hand_over(rig)
    assert len(of(rig.links[2].take(), "restore")) == AT_ONCE + 1


# --- in pieces ---


def test_a_large_attach_lets_the_loop_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving, "PIECE", 3)
    rig = Rig(turns=True)
    rig.take_map(cluster(1, A))
    while rig.soon:
        rig.soon.pop(0)()
    connections = [rig.connect(name)[0] for name in "abcd" for _ in range(2)]
    rig.take_map(cluster(2, B))
    seen: list[int] = []
    whole: set[int] = set()
    for _ in range(20):
        records = rig.links[2].take()
        passports = of(records, "restore")
        assert len(passports) <= 3
        seen += [record[1].connection for record in passports]
        whole |= {number for record in of(records, "restored") for number in record[2]}
        for entry in {id(each.entry): each.entry for each in connections if each.entry.link}.values():
            assert entry.slot not in whole or set(entry.connections) <= set(seen), "it has not all of that slot"
        for connection in connections:
            attached = connection.entry.link is rig.links[2]
            assert attached == (connection.number in seen)
        if not rig.soon:
            break
        (turn,) = rig.soon
        rig.soon.clear()
        for connection in connections:
            if connection.number not in seen:
                connection.data_received(text("waits for its piece"))
        assert of(rig.links[2].take(), "message") == []
        turn()
    assert sorted(seen) == [connection.number for connection in connections]
    assert rig.forwarding.attached == SLOTS


def test_a_map_between_two_pieces_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving, "PIECE", 1)
    rig = Rig(turns=True)
    rig.take_map(cluster(1, A))
    for name in "abc":
        rig.connect(name)
    rig.take_map(cluster(2, B))
    assert rig.forwarding.attached < SLOTS
    rig.take_map(cluster(3, shard(3)))
    while rig.soon:
        rig.soon.pop(0)()
    records = rig.links[3].take()
    assert len(of(records, "restore")) == 3
    assert sorted(number for record in of(records, "restored") for number in record[2]) == ALL
    assert {record[1] for record in of(records, "restored")} == {3}


def test_an_owner_whose_link_is_blocked_gets_its_passports_later(rig: Rig) -> None:
    rig.connect()
    rig.links[2].blocked = True
    hand_over(rig)
    release(rig)
    assert rig.links[2].take() == []
    rig.links[2].blocked = False
    rig.forwarding.unblocked(rig.links[2])
    assert [record[0] for record in rig.links[2].take()] == ["restore", "restored"]
