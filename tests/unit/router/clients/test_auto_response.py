"""When the times of automatic responses are told."""

from __future__ import annotations

from roost.router.clients.auto_response import Reports
from tests.support.links import LinkToShard


def test_times_are_coalesced_into_one_record_for_each_link() -> None:
    reports, a, b = Reports(), LinkToShard(1), LinkToShard(2)
    reports.note(a, 1, 10.0)
    reports.note(a, 2, 11.0)
    reports.note(b, 9, 12.0)
    reports.note(a, 1, 13.0)
    reports.flush()
    assert a.take() == [("auto_times", [1, 2], [13.0, 11.0])]
    assert b.take() == [("auto_times", [9], [12.0])]
    reports.flush()
    assert a.take() == b.take() == []


def test_an_event_pushes_its_connections_time_out_first() -> None:
    reports, link = Reports(), LinkToShard()
    reports.note(link, 1, 10.0)
    reports.before_event(link, 2)
    assert link.take() == []
    reports.before_event(link, 1)
    assert link.take() == [("auto_times", [1], [10.0])]
    reports.flush()
    assert link.take() == []


def test_a_dead_link_is_told_nothing() -> None:
    reports, link = Reports(), LinkToShard()
    reports.note(link, 1, 10.0)
    reports.drop(link)
    reports.flush()
    assert link.take() == []


def test_the_times_of_connections_that_move_stay_with_their_passports() -> None:
    reports, link = Reports(), LinkToShard()
    for connection in (1, 2, 3):
        reports.note(link, connection, 10.0)
    reports.forget(link, [1, 3, 99])
    reports.flush()
    assert link.take() == [("auto_times", [2], [10.0])]
    reports.note(link, 1, 11.0)
    reports.forget(link, [1])
    assert not reports.pending
    reports.forget(link, [1])
