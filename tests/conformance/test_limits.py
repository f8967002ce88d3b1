"""Limits that need many sockets, or a cluster with other settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from roost.common.errors import AttachmentTooLarge, TooManyWebSockets
from roost.common.limits import MAX_WEBSOCKETS_PER_OBJECT
from roost.shard import WebSocketPair
from tests.conformance import app
from tests.conformance.driver import Reports, Room, unique
from tests.support.client import request
from tests.support.cluster import Cluster
from tests.support.frames import BINARY, TEXT, frame
from tests.support.waiting import until


def fill(probe: app.Probe, kind: str) -> list[Any]:
    """Accept as many sockets as an object may have, and one more. They are never returned, so they go at the end."""
    sockets = []
    for _ in range(MAX_WEBSOCKETS_PER_OBJECT):
        _, server = WebSocketPair()
        if kind == "hibernatable":
            probe.ctx.accept_web_socket(server)
        else:
            server.accept()
        sockets.append(server)
    _, one_more = WebSocketPair()
    try:
        if kind == "hibernatable":
            probe.ctx.accept_web_socket(one_more)
        else:
            one_more.accept()
    except TooManyWebSockets as error:
        return [len(probe.ctx.get_web_sockets()), str(error)]
    return [len(probe.ctx.get_web_sockets()), "no error"]


async def test_32768_sockets_are_accepted_and_the_next_is_refused(room: Room) -> None:
    room.patience_s = 50.0  # each of them has its close handler, which reports, before the next step
    count, error = await room.run(fill, kind="hibernatable")
    assert count == 32_768
    assert "32768" in error
    assert await room.run(app.count) == 0, "none was returned, so none is left"


async def test_the_32769th_standard_socket_is_refused(room: Room) -> None:
    room.patience_s = 50.0
    count, error = await room.run(fill, kind="standard")
    assert count == 0
    assert "32768" in error


async def test_listing_sockets_in_close_handlers_stays_linear(room_in: Callable[[str], Room]) -> None:
    """Four times the sockets take about four times the time, not sixteen times."""
    room = room_in("crowd")
    took = []
    for count in (4_000, 16_000):
        begin = time.monotonic()
        assert (await request(room.cluster.port, "GET", room.path(count=str(count)))).text == str(count)
        assert (await request(room.cluster.port, "GET", room.path(emptied="yes"))).text == "[0,0]"
        took.append(time.monotonic() - begin)
    assert took[1] < 9 * took[0], took


# --- settings -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generous(reports: Reports) -> Iterator[Cluster]:
    shard = {"max_attachment_bytes": 16_384, "vars": [f"REPORT={reports.path}"]}
    with Cluster(app.__name__, router={"max_message_bytes": 48 << 20}, shard=shard) as cluster:
        yield cluster


@pytest.fixture
def lavish(generous: Cluster, reports: Reports) -> Room:
    return Room(generous, reports, unique("lavish"))


def attach(probe: app.Probe, size: int) -> int:
    (ws,) = probe.ctx.get_web_sockets()
    ws.serialize_attachment(bytes(size - 3))
    return len(ws.deserialize_attachment())


async def test_attachments_may_be_set_to_16384_bytes(lavish: Room) -> None:
    async with await lavish.connect():
        assert await lavish.run(attach, size=16_384) == 16_381
        await lavish.refused(attach, AttachmentTooLarge, "16385", "16384", size=16_385)


def size(probe: app.Probe, ws: Any, message: Any) -> None:
    ws.send(len(message))


async def test_messages_may_be_set_to_more_than_32_mebibytes(lavish: Room) -> None:
    await lavish.when("message", size)
    async with await lavish.raw() as client:
        await client.send(frame(BINARY, bytes(48 << 20)))
        await client.expect(TEXT, str(48 << 20))
        await client.send(frame(BINARY, b"", length=(48 << 20) + 1))
        await client.expect_close(1009)


async def test_a_shard_refuses_a_larger_setting() -> None:
    from tests.support.cluster import ProcessFailed

    cluster = Cluster(app.__name__, shard={"max_attachment_bytes": 16_385})
    with pytest.raises(ProcessFailed, match=r"16,?384"):
        cluster.__enter__()
    await until("its folder to be removed", lambda: not cluster.folder.exists())
