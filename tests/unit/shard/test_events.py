"""The sinks of a shard's links: records as they come off the wire reach the host, and at the end they do not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from roost.common.ids import id_from_name
from roost.common.wire.records import EventWriter, HttpRequest, ObjectState, Passport, read_events
from roost.shard.events import LastEvents, RouterEvents
from roost.shard.jobs import CloseJob, ErrorJob, MessageJob
from tests.unit.shard.harness import socket_of

ROOM = id_from_name("room", "lobby")
STATE = ObjectState(ROOM, 3, 100, ("ping", "pong"))
REQUEST = HttpRequest(4, 0, ROOM, "room", "lobby", "GET", "http://h/room/lobby", [(b"host", b"h")], b"body")
PASSPORT = Passport(5, True, False, 2, 9, 1.5, ROOM, "room", "lobby", "http://h/room/lobby", "chat", ("a",), b"\x01")


class Host:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.counters = SimpleNamespace(events=0, events_dropped=0, redelivered=0)

    def connection_ended(self, peer: Any, connection: int, deliveries: int, *, has_gone: bool) -> Any:
        self.calls.append(("connection_ended", peer, connection, deliveries, has_gone))
        return peer.sockets.get(connection)

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.calls.append((name, *arguments))


class Peer:
    """A router with these connections."""

    def __init__(self, sockets: dict[int, Any]) -> None:
        self.sockets = sockets
        self.incarnation = 7


def every_record() -> bytes:
    writer = EventWriter()
    writer.message(5, 1, 0, b"text", False)
    writer.message(5, 2, 1, b"\xff", True)
    writer.message(7, 4, 0, b"to nobody", False)
    writer.closed(5, 3, 0, 1000, "bye", True)
    writer.failed(5, 4, 0, 1002, "bad")
    writer.failed(6, 1, 2, 1002, "of nobody")
    writer.request(REQUEST)
    writer.auto_response_times([5, 7], [12.5, 13.5])
    writer.object_state(STATE)
    writer.restore(PASSPORT)
    writer.restored(8, [1, 2])
    (group,) = writer.take()
    return group


@pytest.fixture
def peer() -> Any:
    jobs: list[Any] = []
    owner = SimpleNamespace(jobs=jobs, deliver=jobs.append, auto_response=None)
    socket = socket_of(owner)
    socket.counter = 5
    return Peer({5: socket})


def test_each_record_becomes_one_call_or_job(peer: Any) -> None:
    host: Any = Host()
    read_events(every_record(), RouterEvents(host, peer))
    assert host.calls == [
        ("connection_ended", peer, 5, 0, False),
        ("connection_ended", peer, 5, 0, True),
        ("connection_ended", peer, 6, 2, True),
        ("request", peer, REQUEST),
        ("object_state", peer, STATE),
        ("restore", peer, PASSPORT),
        ("restored", peer, 8, host.calls[-1][3]),
    ]
    assert list(host.calls[-1][3]) == [1, 2]
    jobs = peer.sockets[5].owner.jobs
    assert {job.event for job in jobs} == {7 << 32 | 5}
    assert {(job.peer, job.socket) for job in jobs} == {(peer, peer.sockets[5])}
    text, binary, closed, failed = jobs
    for job, kind, seq, deliveries in (
        (text, MessageJob, 1, 0),
        (binary, MessageJob, 2, 1),
        (closed, CloseJob, 3, 0),
        (failed, ErrorJob, 4, 0),
    ):
        assert (type(job), job.seq, job.deliveries) == (kind, seq, deliveries)
    assert [(job.data, job.size) for job in (text, binary)] == [("text", 4), (b"\xff", 1)]
    assert (closed.code, closed.reason, closed.clean, closed.size) == (1000, "bye", True, 0)
    assert (failed.code, failed.description, failed.size) == (1002, "bad", 0)
    assert vars(host.counters) == {"events": 3, "events_dropped": 1, "redelivered": 1}
    assert peer.sockets[5].auto_response_time == 12.5, "and the time of 7, which is not here, hurts nobody"


def test_at_the_end_requests_are_refused_and_all_else_is_left_alone(peer: Any) -> None:
    host: Any = Host()
    read_events(every_record(), LastEvents(host, peer))
    ((name, to, request, status, sentence),) = host.calls
    assert (name, to, request, status) == ("refuse", peer, REQUEST, 503)
    assert "try again" in sentence
    assert peer.sockets[5].auto_response_time is None
