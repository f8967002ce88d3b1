"""The sinks of a shard's links: records as they come off the wire reach the host, and at the end they do not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from roost.common.ids import id_from_name
from roost.common.wire.records import EventWriter, HttpRequest, ObjectState, Passport, read_events
from roost.shard.events import LastEvents, RouterEvents
from roost.shard.jobs import Job, JobKind

ROOM = id_from_name("room", "lobby")
STATE = ObjectState(ROOM, 3, 100, ("ping", "pong"))
REQUEST = HttpRequest(4, 0, ROOM, "room", "lobby", "GET", "http://h/room/lobby", [(b"host", b"h")], b"body")
PASSPORT = Passport(5, True, False, 2, 9, 1.5, ROOM, "room", "lobby", "http://h/room/lobby", "chat", ("a",), b"\x01")


class Host:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.counters = SimpleNamespace(events=0, events_dropped=0, redelivered=0)

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.calls.append((name, *arguments))


def every_record() -> bytes:
    writer = EventWriter()
    writer.message(5, 1, 0, b"text", False)
    writer.message(5, 2, 1, b"\xff", True)
    writer.message(7, 4, 0, b"to nobody", False)
    writer.closed(5, 3, 0, 1000, "bye", True)
    writer.failed(6, 1, 2, 1002, "bad")
    writer.request(REQUEST)
    writer.auto_response_times([5, 7], [12.5, 13.5])
    writer.object_state(STATE)
    writer.restore(PASSPORT)
    writer.restored(8, [1, 2])
    (group,) = writer.take()
    return group


@pytest.fixture
def peer() -> Any:
    jobs: list[Job] = []
    owner = SimpleNamespace(jobs=jobs, deliver=jobs.append, auto_response=None)
    socket = SimpleNamespace(auto_response_time=None, owner=owner, counter=5)
    return SimpleNamespace(sockets={5: socket}, incarnation=7)


def test_each_record_becomes_one_call_or_job(peer: Any) -> None:
    host: Any = Host()
    read_events(every_record(), RouterEvents(host, peer))
    assert host.calls == [
        ("ended", peer, 5, 3, 0, JobKind.CLOSED, (1000, "bye", True)),
        ("ended", peer, 6, 1, 2, JobKind.FAILED, (1002, "bad")),
        ("request", peer, REQUEST),
        ("object_state", peer, STATE),
        ("restore", peer, PASSPORT),
        ("restored", peer, 8, host.calls[-1][3]),
    ]
    assert list(host.calls[-1][3]) == [1, 2]
    jobs = peer.sockets[5].owner.jobs
    assert {job.event for job in jobs} == {7 << 32 | 5}
    assert [(job.kind, job.peer, job.socket, job.seq, job.deliveries, job.data, job.size) for job in jobs] == [
        (JobKind.MESSAGE, peer, peer.sockets[5], 1, 0, "text", 4),
        (JobKind.MESSAGE, peer, peer.sockets[5], 2, 1, b"\xff", 1),
    ]
    assert vars(host.counters) == {"events": 3, "events_dropped": 1, "redelivered": 1}
    assert peer.sockets[5].auto_response_time == 12.5, "and the time of 7, which is not here, hurts nobody"


def test_at_the_end_requests_are_refused_and_all_else_is_left_alone(peer: Any) -> None:
    host: Any = Host()
    read_events(every_record(), LastEvents(host, peer))
    ((name, to, request, status, sentence),) = host.calls
    assert (name, to, request, status) == ("refuse", peer, REQUEST, 503)
    assert "try again" in sentence
    assert peer.sockets[5].auto_response_time is None
