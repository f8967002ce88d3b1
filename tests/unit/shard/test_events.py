"""The sinks of a shard's links: what each record of a router becomes, and that nothing begins any more at the end."""

from __future__ import annotations

from typing import Any

import pytest

from roost.common.ids import id_from_name
from roost.common.wire.records import EventWriter, HttpRequest, ObjectState, Passport, read_events
from roost.shard.events import LastEvents, RouterEvents
from roost.shard.objects.hosted import HostedObject
from roost.shard.objects.jobs import CloseJob, ErrorJob, MessageJob
from roost.shard.objects.request_jobs import RequestJob
from tests.unit.shard.harness import World, on_virtual_time

ROOM = id_from_name("room", "lobby")
STATE = ObjectState(ROOM, 3, 100, ("ping", "pong"))
REQUEST = HttpRequest(4, 0, ROOM, "room", "lobby", "GET", "http://h/room/lobby", [(b"host", b"h")], b"body")
PASSPORT = Passport(900, True, False, 2, 9, 1.5, ROOM, "room", "lobby", "http://h/room/lobby", "chat", ("a",), b"\x01")
NOBODY = 999
"""A connection that the object does not have."""


def every_record(one: int, other: int) -> bytes:
    """A group of a router that holds two connections of the object."""
    writer = EventWriter()
    writer.message(one, 1, 0, b"text", False)
    writer.message(one, 2, 1, b"\xff", True)
    writer.message(NOBODY, 4, 0, b"to nobody", False)
    writer.closed(one, 3, 0, 1000, "bye", True)
    writer.closed(one, 4, 0, 1000, "a second time", True)
    writer.failed(other, 1, 2, 1002, "bad")
    writer.failed(NOBODY, 1, 2, 1002, "of nobody")
    writer.request(REQUEST)
    writer.auto_response_times([one, NOBODY], [12.5, 13.5])
    writer.object_state(STATE)
    writer.restore(PASSPORT)
    writer.restored(1, [1, 2])
    (group,) = writer.take()
    return group


@on_virtual_time
async def test_each_record_becomes_a_job_or_is_taken_over() -> None:
    world = World()
    one, other = await world.router.connect(), await world.router.connect()
    owner, peer, jobs = world.object(), world.router.peer, list[Any]()
    sockets = peer.sockets[one], peer.sockets[other]
    names = ("events", "requests", "events_dropped", "redelivered")
    before = [getattr(world.counters, name) for name in names]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HostedObject, "deliver", lambda self, job: jobs.append(job))
        read_events(every_record(one, other), RouterEvents(world.host, peer))
    assert {(job.owner, job.peer) for job in jobs} == {(owner, peer)}
    text, binary, closed, failed, request = jobs
    for job, kind, socket, seq, deliveries in (
        (text, MessageJob, sockets[0], 1, 0),
        (binary, MessageJob, sockets[0], 2, 1),
        (closed, CloseJob, sockets[0], 3, 0),
        (failed, ErrorJob, sockets[1], 1, 2),
    ):
        assert (type(job), job.socket, job.seq, job.deliveries) == (kind, socket, seq, deliveries)
        assert job.event == peer.incarnation << 32 | socket.counter
    assert [(job.data, job.size) for job in (text, binary)] == [("text", 4), (b"\xff", 1)]
    assert (closed.code, closed.reason, closed.clean, closed.size) == (1000, "bye", True, 0)
    assert (failed.code, failed.description, failed.size) == (1002, "bad", 0)
    assert (type(request), request.request, request.seq, request.deliveries) == (RequestJob, REQUEST, 0, 0)
    after = [getattr(world.counters, name) for name in names]
    assert [now - then for now, then in zip(after, before, strict=True)] == [8, 1, 3, 2]
    assert sockets[0].auto_response_time == 12.5, "and that of a connection which is not here hurts nobody"
    assert (owner.auto_response, owner.event_timeout_ms) == (("ping", "pong"), 100)
    assert (peer.sockets[900].tags, peer.sockets[900].attachment) == (("a",), b"\x01")


@on_virtual_time
async def test_at_the_end_requests_are_refused_and_all_else_is_left_alone() -> None:
    world = World()
    one, other = await world.router.connect(), await world.router.connect()
    peer = world.router.peer
    world.router.take()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HostedObject, "deliver", lambda self, job: pytest.fail(f"{job.label} begins"))
        read_events(every_record(one, other), LastEvents(peer))
    ((kind, answer),) = world.router.take()
    assert (kind, answer.request, answer.status) == ("response", REQUEST.request, 503)
    assert b"try again" in answer.body
    assert peer.sockets[one].auto_response_time is None
    assert 900 not in peer.sockets
