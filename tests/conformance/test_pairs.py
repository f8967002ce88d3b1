"""Both ends of a pair inside the object: they talk to each other (the seed: "the other WebSocket in this pair")."""

from __future__ import annotations

import weakref
from typing import Any

import pytest

from roost.shard import Request, Response, WebSocketPair
from tests.conformance import app
from tests.conformance.driver import Room, name_of
from tests.support.client import RawClient


def begin(probe: app.Probe, ws: Any = None, *, standard: bool = False) -> None:
    client, server = WebSocketPair()
    ctx, probe.memory["local"] = probe.ctx, client
    # Weak, or instance and listeners would keep each other in memory until the collector comes by.
    probe = weakref.proxy(probe)
    if standard:
        server.accept()
        server.add_event_listener("message", lambda event: server.send(f"heard {event.data}"))
        server.add_event_listener("close", lambda event: probe.report("server closed", code=event.code))
    else:
        ctx.accept_web_socket(server, ["local"])
    client.accept()
    client.add_event_listener("message", lambda event: probe.report("client heard", data=event.data))
    client.add_event_listener("close", lambda event: report_close(probe, client, event))
    client.send("hello")


def report_close(probe: app.Probe, ws: Any, event: Any) -> None:
    probe.report("client closed", code=event.code, reason=event.reason, state=ws.ready_state)


def end(probe: app.Probe) -> None:
    probe.memory.pop("local").close(4000, "bye")


def report_socket(probe: app.Probe, ws: Any, message: Any) -> None:
    ws.send(f"heard {message}")
    probe.report("handled", tags=probe.ctx.get_tags(ws), listed=ws in probe.ctx.get_web_sockets())


async def test_hibernatable_messages_and_closes_reach_handlers_and_listeners(room: Room) -> None:
    await room.when("message", report_socket)
    await room.run(begin)
    report = await room.saw("handled")
    assert (report["tags"], report["listed"]) == (["local"], True)
    assert (await room.saw("client heard"))["data"] == "heard hello"
    await room.run(end)
    report = await room.saw("close")
    assert (report["code"], report["reason"], report["clean"]) == (4000, "bye", True)
    report = await room.saw("client closed")
    assert (report["code"], report["reason"], report["state"]) == (4000, "bye", 3)
    assert await room.run(app.count) == 0


async def test_standard_messages_and_closes_reach_listeners(room: Room) -> None:
    await room.run(begin, standard=True)
    assert (await room.saw("client heard"))["data"] == "heard hello"
    await room.run(end)
    assert (await room.saw("server closed"))["code"] == 4000
    assert (await room.saw("client closed"))["state"] == 3


@pytest.mark.parametrize("standard", [False, True])
async def test_beside_sockets_of_the_network(room: Room, standard: bool) -> None:
    async with await room.connect() as client:
        await room.when("message", report_socket)
        await room.run(begin, standard=standard)
        await client.send("mine")
        assert await client.receive() == "heard mine"
        assert (await room.saw("client heard"))["data"] == "heard hello"
        assert await room.run(app.count) == (1 if standard else 2)


async def test_the_instance_stays_while_a_local_pair_is_open(drowsy: Room) -> None:
    await drowsy.run(begin)
    assert await drowsy.run(app.life) == 1
    await drowsy.run(end)
    await drowsy.asleep()
    assert await drowsy.run(app.life) == 2


def return_used(probe: app.Probe, request: Request) -> Response:
    client, server = WebSocketPair()
    server.accept()
    client.accept()
    return Response(status=101, web_socket=client)


async def test_a_client_end_that_is_used_inside_cannot_be_returned(room: Room) -> None:
    positions = room.cluster.log_positions()
    async with await RawClient.open(room.cluster.port) as client:
        reply = await client.handshake(room.path(respond=name_of(return_used), arguments="{}"), expect=500)
        assert "error id" in reply.text
    assert "used inside the object" in room.cluster.logs_since(positions)
