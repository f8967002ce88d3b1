from __future__ import annotations

import struct
from itertools import pairwise

import pytest

from roost.common.errors import WireError
from roost.common.ids import Incarnation
from roost.common.limits import MAX_BATCH_BYTES
from roost.common.wire import session as session_module
from roost.common.wire.session import (
    ASK_AGAIN_S,
    CONFIRM_AFTER_S,
    CONFIRM_EVERY,
    HEADER_BYTES,
    MAX_MESSAGE_BYTES,
    PROBE_AFTER_S,
    PROBE_AT_MOST_S,
    RESEND_WINDOW,
    Flag,
    Session,
    sender_of,
)

CLUSTER = 0xABCD_EF01_2345_6789


def pair(now: float = 0.0) -> tuple[Session, Session]:
    return (
        Session(CLUSTER, Incarnation(1), Incarnation(2), now),
        Session(CLUSTER, Incarnation(2), Incarnation(1), now),
    )


def send(session: Session, *groups: bytes, map_version: int = 1, now: float = 0.0) -> list[bytes]:
    for group in groups:
        session.send(group, map_version, now)
    return session.take_outgoing()


def receive(session: Session, batches: list[bytes], map_version: int = 1, now: float = 0.0) -> list[bytes]:
    return [group for batch in batches for group in session.receive(batch, map_version, now)]


def tick(session: Session, now: float) -> list[bytes]:
    session.tick(now)
    return session.take_outgoing()


def course(batch: bytes) -> tuple[int, int, int, Flag]:
    number, received, map_version, flags = struct.unpack_from("<QQII", batch, 24)
    return number, received, map_version, Flag(flags)


def flags(batches: list[bytes]) -> list[Flag]:
    return [course(batch)[3] for batch in batches]


def numbers(batches: list[bytes]) -> list[int]:
    return [course(batch)[0] for batch in batches]


# --- the layout ---


def test_the_bytes_of_a_batch() -> None:
    here, there = pair()
    receive(here, send(there, b"x", b"y"))
    (batch,) = send(here, b"records", map_version=9)
    assert batch == (
        b"rst\xb7" + b"\x03\x00" + b"\x00\x00"
        + b"\x01\x00\x00\x00" + b"\x02\x00\x00\x00" + bytes.fromhex("8967452301efcdab")
        + b"\x01" + bytes(7) + b"\x02" + bytes(7) + b"\x09\x00\x00\x00" + bytes(4) + b"records"
    )  # fmt: skip
    assert HEADER_BYTES == 48


# --- in order ---


def test_groups_come_out_as_they_went_in() -> None:
    here, there = pair()
    assert receive(there, send(here, b"one", b"two", b"three")) == [b"one", b"two", b"three"]
    assert here.sent == there.received == 3


def test_a_group_larger_than_a_batch_arrives_whole_and_only_whole() -> None:
    here, there = pair()
    group = bytes(range(256)) * (3 * MAX_BATCH_BYTES // 256) + b"tail"
    batches = send(here, group, b"next")
    assert flags(batches) == [Flag.MORE, Flag.MORE, Flag.MORE, Flag(0), Flag(0)]
    assert max(map(len, batches)) == MAX_MESSAGE_BYTES
    assert receive(there, batches[:3]) == []
    assert receive(there, batches[3:]) == [group, b"next"]


@pytest.mark.parametrize("size", [1, MAX_BATCH_BYTES - 1, MAX_BATCH_BYTES, MAX_BATCH_BYTES + 1, 2 * MAX_BATCH_BYTES])
def test_no_piece_is_empty_at_any_size(size: int) -> None:
    here, there = pair()
    batches = send(here, b"g" * size)
    assert len(batches) == -(-size // MAX_BATCH_BYTES)
    assert all(len(batch) > HEADER_BYTES for batch in batches)
    assert receive(there, batches) == [b"g" * size]


def test_duplicates_are_dropped_counted_and_confirmed_again() -> None:
    here, there = pair()
    batches = send(here, b"one", b"two")
    receive(there, batches)
    lost = tick(there, 0.5)
    assert flags(lost) == [Flag.CONFIRM]
    assert receive(there, batches, now=1.0) == []
    assert there.duplicates == 2
    assert [course(batch)[1:] for batch in tick(there, 1.1)] == [(2, 0, Flag.CONFIRM)]


# --- confirming ---


def test_every_batch_confirms_what_came_before_it() -> None:
    here, there = pair()
    receive(there, send(here, b"one", b"two"))
    assert here.confirmed == 0
    assert here.unconfirmed_bytes == 2 * HEADER_BYTES + 6
    receive(here, send(there, b"back"))
    assert here.confirmed == 2
    assert here.unconfirmed_bytes == 0


def test_a_lone_confirmation_goes_out_after_a_few_milliseconds_without_traffic_back() -> None:
    here, there = pair()
    receive(there, send(here, b"one", now=8.0), now=8.0)
    assert there.busy
    assert tick(there, 8.0 + CONFIRM_AFTER_S / 2) == []
    batches = tick(there, 8.0 + CONFIRM_AFTER_S * 1.01)
    assert [course(batch) for batch in batches] == [(0, 1, 0, Flag.CONFIRM)]
    assert receive(here, batches) == []
    assert here.confirmed == 1
    assert not here.busy
    assert not there.busy


def test_traffic_back_spares_the_lone_confirmation() -> None:
    here, there = pair()
    receive(there, send(here, b"one"))
    send(there, b"back")
    assert tick(there, 0.05) == []


def test_a_one_way_stream_is_confirmed_every_few_batches_without_the_clock() -> None:
    here, there = pair()
    receive(there, send(here, *[b"x"] * (CONFIRM_EVERY - 1)))
    assert there.take_outgoing() == []
    receive(there, send(here, b"x"))
    (batch,) = there.take_outgoing()
    assert course(batch)[1] == CONFIRM_EVERY
    assert CONFIRM_EVERY < RESEND_WINDOW, "else a resend would wait for the clock at each window"


def test_an_idle_session_has_nothing_to_do() -> None:
    here, _ = pair()
    assert not here.busy
    assert tick(here, 1e6) == []


def test_a_confirmation_of_what_was_never_sent_is_refused() -> None:
    here, there = pair()
    receive(there, send(here, b"one"))
    (batch,) = send(there, b"back")
    forged = batch[:32] + struct.pack("<Q", 2) + batch[40:]
    with pytest.raises(WireError, match="confirms number 2, but only 1"):
        here.receive(forged, 1, 0.0)
    assert receive(here, [batch]) == [b"back"], "the session is as before"


# --- gaps ---


def test_a_gap_is_asked_for_once_and_filled_in_order() -> None:
    here, there = pair()
    batches = send(here, b"one", b"two", b"three", b"four")
    assert receive(there, [batches[0], batches[2], batches[3]]) == [b"one"]
    request = there.take_outgoing()
    assert [course(batch) for batch in request] == [(0, 1, 0, Flag.RESEND)]
    assert receive(here, request) == []
    again = here.take_outgoing()
    assert again == batches[1:]
    assert receive(there, again) == [b"two", b"three", b"four"]
    assert (here.resent, there.gaps, there.duplicates) == (3, 1, 0)


def test_a_gap_is_asked_for_again_after_a_while() -> None:
    here, there = pair()
    batches = send(here, b"one", b"two", b"three")
    receive(there, batches[1:2], now=0.0)
    receive(there, batches[2:], now=ASK_AGAIN_S / 2)
    assert len(there.take_outgoing()) == 1
    receive(there, batches[2:], now=ASK_AGAIN_S)
    assert flags(there.take_outgoing()) == [Flag.RESEND]


def test_a_repeated_request_is_not_obeyed_twice_at_once() -> None:
    here, there = pair()
    batches = send(here, b"one", b"two")
    receive(there, batches[1:])
    request = there.take_outgoing()
    receive(here, request, now=0.0)
    assert here.take_outgoing() == batches
    receive(here, request, now=ASK_AGAIN_S / 4)
    assert here.take_outgoing() == []
    receive(here, request, now=ASK_AGAIN_S)
    assert here.take_outgoing() == batches


def test_an_old_request_that_a_confirmation_has_overtaken_is_ignored() -> None:
    here, there = pair()
    batches = send(here, b"one", b"two", b"three")
    receive(there, batches[1:])
    request = there.take_outgoing()
    receive(there, batches[:2])
    receive(here, send(there, b"has two"))
    receive(here, request)
    assert here.take_outgoing() == []


def test_resending_goes_no_further_than_the_window_and_new_batches_queue_behind() -> None:
    here, there = pair()
    count = 3 * RESEND_WINDOW
    batches = send(here, *[b"%d" % number for number in range(count)])
    receive(there, batches[-1:])
    receive(here, there.take_outgoing())
    assert numbers(here.take_outgoing()) == list(range(1, RESEND_WINDOW + 1))
    assert send(here, b"new") == [], "it would be dropped there, behind the gap"
    came = receive(there, batches[:RESEND_WINDOW])
    while here.confirmed < count + 1:
        confirmations = there.take_outgoing() + tick(there, 1.0)
        receive(here, confirmations)
        more = here.take_outgoing()
        assert len(more) <= RESEND_WINDOW
        came += receive(there, more)
    assert came == [*(b"%d" % number for number in range(count)), b"new"]
    assert numbers(send(here, b"flows again")) == [count + 2]


# --- probes ---


def test_a_loss_at_the_end_is_found_by_a_probe() -> None:
    here, there = pair()
    send(here, b"lost", b"lost too")
    assert tick(here, PROBE_AFTER_S * 0.9) == []
    probe = tick(here, PROBE_AFTER_S)
    assert [course(batch) for batch in probe] == [(2, 0, 0, Flag.PROBE)]
    receive(there, probe, now=0.2)
    receive(here, there.take_outgoing(), now=0.2)
    assert receive(there, here.take_outgoing()) == [b"lost", b"lost too"]


def test_a_probe_for_what_has_come_is_answered_with_a_confirmation() -> None:
    here, there = pair()
    receive(there, send(here, b"one"))
    receive(there, tick(here, PROBE_AFTER_S))
    answer = there.take_outgoing()
    assert flags(answer) == [Flag.CONFIRM]
    receive(here, answer)
    assert here.confirmed == 1
    assert here.take_outgoing() == []


def test_probes_become_rarer_until_there_is_progress() -> None:
    here, there = pair()
    batches = send(here, b"one", b"two")
    times = [step / 1000 for step in range(3000) if tick(here, step / 1000)]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert times[0] == pytest.approx(PROBE_AFTER_S, abs=0.002)
    assert gaps[0] == pytest.approx(2 * PROBE_AFTER_S, abs=0.002)
    assert gaps[-1] == pytest.approx(PROBE_AT_MOST_S, abs=0.002)
    receive(there, batches[:1])
    receive(here, send(there, b"has one"), now=3.0)
    assert Flag.PROBE not in flags(tick(here, 3.0 + PROBE_AFTER_S * 0.9))
    assert flags(tick(here, 3.001 + PROBE_AFTER_S)) == [Flag.PROBE]


def test_what_is_sent_after_a_long_silence_is_not_probed_for_at_once() -> None:
    here, _ = pair()
    send(here, b"one", now=1000.0)
    assert tick(here, 1000.0 + PROBE_AFTER_S / 2) == []


def test_confirmations_of_late_originals_move_a_resend_on() -> None:
    here, there = pair()
    count = 2 * RESEND_WINDOW + 2
    batches = send(here, *[b"%d" % number for number in range(count)])
    receive(there, batches[1:2])
    receive(here, there.take_outgoing())
    assert len(here.take_outgoing()) == RESEND_WINDOW
    receive(there, batches)  # the originals were only late
    receive(here, tick(there, 1.0)[-1:])
    assert here.confirmed == count
    assert here.take_outgoing() == []
    assert numbers(send(here, b"flows")) == [count + 1]


# --- a carrier without a peer ---


def test_without_a_peer_batches_queue_and_go_out_when_it_is_heard() -> None:
    here, there = pair()
    send(here, b"one")
    here.lost()
    assert send(here, b"two") == []
    receive(here, send(there, b"here I am"))
    assert receive(there, here.take_outgoing()) == [b"one", b"two"]


def test_without_a_peer_a_probe_still_goes_out() -> None:
    here, there = pair()
    send(here, b"one")
    here.lost()
    probe = tick(here, PROBE_AFTER_S)
    assert flags(probe) == [Flag.PROBE]
    receive(there, probe)
    receive(here, there.take_outgoing())
    assert receive(there, here.take_outgoing()) == [b"one"]


def test_a_lost_confirmation_leaves_an_idle_session_idle() -> None:
    here, there = pair()
    receive(there, send(here, b"one"))
    assert tick(there, 1.0)
    there.lost()
    assert not there.busy
    assert numbers(send(there, b"first of this side")) == [1]


# --- maps ---


def test_a_batch_of_a_newer_map_waits_and_holds_back_those_behind_it() -> None:
    here, there = pair()
    batches = send(here, b"old map")
    batches += send(here, b"newer map", map_version=3)
    batches += send(here, b"old map again")
    assert receive(there, batches, map_version=1) == [b"old map"]
    assert there.received == 3, "held is received: the other end need not keep it"
    assert there.release(2, 0.0) == []
    assert there.release(3, 0.0) == [b"newer map", b"old map again"]
    assert there.held_bytes == 0
    assert receive(there, send(here, b"flows"), map_version=3) == [b"flows"]


def test_a_group_in_pieces_waits_whole() -> None:
    here, there = pair()
    group = b"g" * (MAX_BATCH_BYTES + 1)
    assert receive(there, send(here, group, map_version=2), map_version=1) == []
    assert there.release(2, 0.0) == [group]


def test_a_batch_that_comes_when_the_map_is_there_but_not_yet_released_keeps_its_place() -> None:
    here, there = pair()
    receive(there, send(here, b"first", map_version=2), map_version=1)
    assert receive(there, send(here, b"second", map_version=2), map_version=2) == []
    assert there.release(2, 0.0) == [b"first", b"second"]


def test_what_is_held_has_a_bound_and_the_rest_is_fetched_after_the_release(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = pair()
    monkeypatch.setattr(session_module, "LINK_UNCONFIRMED_BYTES", 100)
    groups = [b"%03d" % number * 10 for number in range(8)]
    assert receive(there, send(here, *groups, map_version=2), map_version=1) == []
    assert there.held_bytes == 90
    assert there.take_outgoing() == [], "asking would fetch what there is no room for"
    came = there.release(2, 1.0)
    request = there.take_outgoing()
    assert flags(request) == [Flag.RESEND]
    receive(here, request, now=1.0)
    came += receive(there, here.take_outgoing(), map_version=2)
    assert came == groups


def test_a_probe_while_there_is_no_room_fetches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = pair()
    monkeypatch.setattr(session_module, "LINK_UNCONFIRMED_BYTES", 10)
    receive(there, send(here, b"held", b"too much", map_version=2), map_version=1)
    receive(there, tick(here, PROBE_AFTER_S))
    assert flags(there.take_outgoing()) == [Flag.CONFIRM]


def test_what_is_held_stays_ahead_when_a_lost_peer_is_heard_again() -> None:
    here, there = pair()
    receive(there, send(here, b"held", map_version=2), map_version=1)
    send(there, b"lost")
    there.lost()
    receive(there, tick(here, PROBE_AFTER_S), map_version=1)
    assert receive(there, send(here, b"behind it"), map_version=1) == []
    assert there.release(2, 0.0) == [b"held", b"behind it"]


def test_a_half_read_group_stays_first_when_a_lost_peer_is_heard_again() -> None:
    here, there = pair()
    group = b"g" * (MAX_BATCH_BYTES + 1)
    pieces = send(here, group)
    receive(there, pieces[:1])
    send(there, b"lost")
    there.lost()
    receive(there, tick(here, PROBE_AFTER_S))
    assert receive(there, pieces[1:]) == [group]


# --- bounds ---


def test_unconfirmed_bytes_block_the_session_until_half_of_them_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = pair()
    monkeypatch.setattr(session_module, "LINK_UNCONFIRMED_BYTES", 4 * (HEADER_BYTES + 2))
    batches = send(here, b"a1", b"a2", b"a3")
    assert not here.blocked
    batches += send(here, b"a4")
    assert here.blocked
    receive(there, batches[:1])
    receive(here, send(there, b"has one"))
    assert here.blocked
    receive(there, batches[1:2])
    receive(here, send(there, b"has two"))
    assert not here.blocked


def test_a_group_without_an_end_fails_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = pair()
    batches = send(here, b"g" * (4 * MAX_BATCH_BYTES))
    monkeypatch.setattr(session_module, "MAX_GROUP_BYTES", 2 * MAX_BATCH_BYTES)
    receive(there, batches[:2])
    with pytest.raises(WireError, match="a group goes on"):
        there.receive(batches[2], 1, 0.0)
    assert there.failed
    with pytest.raises(ValueError, match="a group can have at most"):
        here.send(b"g" * (2 * MAX_BATCH_BYTES + 1), 1, 0.0)


def test_the_bound_of_a_group_holds_for_each_group_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = pair()
    monkeypatch.setattr(session_module, "MAX_GROUP_BYTES", 2 * MAX_BATCH_BYTES)
    group = b"g" * (2 * MAX_BATCH_BYTES)
    assert receive(there, send(here, group, group, group)) == [group] * 3


# --- what is not of this session ---


@pytest.mark.parametrize(
    ("session", "reason"),
    [
        (Session(CLUSTER + 1, Incarnation(1), Incarnation(2), 0.0), "a batch of cluster"),
        (Session(CLUSTER, Incarnation(7), Incarnation(2), 0.0), "from incarnation 7"),
        (Session(CLUSTER, Incarnation(1), Incarnation(7), 0.0), "for incarnation 7"),
    ],
)
def test_batches_of_other_sessions_are_refused(session: Session, reason: str) -> None:
    _, there = pair()
    (batch,) = send(session, b"not for you")
    with pytest.raises(WireError, match=reason):
        there.receive(batch, 1, 0.0)
    assert there.received == 0
    assert not there.failed


def test_the_sender_of_a_batch_for_this_process_is_known_without_a_session() -> None:
    here, _ = pair()
    (batch,) = send(here, b"x")
    assert sender_of(batch, CLUSTER, Incarnation(2)) == 1
    for other in (batch[:20], batch[:47], b"x" * 60, b"X" + batch[1:]):
        assert sender_of(other, CLUSTER, Incarnation(2)) is None
    assert sender_of(batch, CLUSTER, Incarnation(3)) is None
    assert sender_of(batch, CLUSTER + 1, Incarnation(2)) is None


def test_every_cut_and_every_changed_byte_of_a_header_is_refused_or_harmless() -> None:
    here, there = pair()
    (batch,) = send(here, b"")
    for length in range(HEADER_BYTES):
        with pytest.raises(WireError):
            there.receive(batch[:length], 1, 0.0)
    for position in range(HEADER_BYTES):
        changed = bytearray(batch)
        changed[position] ^= 0x50
        if 24 <= position < 32 or 40 <= position < 44:
            assert there.receive(bytes(changed), 1, 0.0) == [], "a number behind a gap; a map to wait for"
            _, there = pair()
        else:
            with pytest.raises(WireError):
                there.receive(bytes(changed), 1, 0.0)


def test_a_numbered_batch_without_a_number_is_refused() -> None:
    here, there = pair()
    (batch,) = send(here, b"x")
    with pytest.raises(WireError, match="number 0"):
        there.receive(batch[:24] + bytes(8) + batch[32:], 1, 0.0)


@pytest.mark.parametrize("flag_bits", [3, 6, 17, 32, 1 << 31])
def test_flags_that_no_sender_sets_are_refused(flag_bits: int) -> None:
    here, there = pair()
    (batch,) = send(here, b"x")
    with pytest.raises(WireError, match="flags"):
        there.receive(batch[:44] + struct.pack("<I", flag_bits) + batch[48:], 1, 0.0)
    assert receive(there, [batch]) == [b"x"]


def test_an_end_that_gives_up_says_so_and_nothing_else() -> None:
    here, there = pair()
    batches = send(here, b"one", b"two")
    assert receive(there, batches[:1]) == [b"one"]
    there.give_up(0.0)
    (said,) = there.take_outgoing()
    assert course(said) == (0, 0, 0, Flag.GAVE_UP), "it confirms nothing: what it took may have had no effect"
    assert receive(there, batches) == [], "what comes still is not taken, but answered"
    assert flags(there.take_outgoing()) == [Flag.GAVE_UP, Flag.GAVE_UP]
    assert there.busy
    assert tick(there, PROBE_AT_MOST_S / 2) == []
    assert flags(tick(there, PROBE_AT_MOST_S)) == [Flag.GAVE_UP], "also to an end that has nothing to say"
    assert (there.unconfirmed_bytes, there.held_bytes) == (0, 0)


def test_whoever_hears_of_it_cannot_go_on_either() -> None:
    here, there = pair()
    send(here, b"one")
    there.give_up(0.0)
    with pytest.raises(WireError, match="incarnation 2 has given the session up"):
        receive(here, there.take_outgoing())
    assert here.failed
    assert here.confirmed == 0
    here.give_up(0.0)
    answered = receive(there, here.take_outgoing())
    assert (answered, there.take_outgoing()) == ([], []), "two that have given up do not go on telling each other"


def test_what_waits_for_a_map_is_not_handed_out_after_giving_up() -> None:
    here, there = pair()
    assert receive(there, send(here, b"later", map_version=2), map_version=1) == []
    there.give_up(0.0)
    assert there.release(2, 0.0) == []
