"""``set_hibernatable_web_socket_event_timeout``."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from roost.common.errors import EventTimeoutTooLong
from tests.conformance import app
from tests.conformance.driver import Room


def set_timeout(probe: app.Probe, ms: Any) -> Any:
    probe.ctx.set_hibernatable_web_socket_event_timeout(ms)
    return probe.ctx.get_hibernatable_web_socket_event_timeout()


def set_nothing(probe: app.Probe) -> Any:
    probe.ctx.set_hibernatable_web_socket_event_timeout()
    return probe.ctx.get_hibernatable_web_socket_event_timeout()


def get_timeout(probe: app.Probe) -> Any:
    return probe.ctx.get_hibernatable_web_socket_event_timeout()


async def test_set_and_get(room: Room) -> None:
    assert await room.run(get_timeout) is None
    assert await room.run(set_timeout, ms=500) == 500
    assert await room.run(set_timeout, ms=604_800_000) == 604_800_000
    await room.refused(set_timeout, EventTimeoutTooLong, "604800001", "604800000", ms=604_800_001)
    assert await room.run(get_timeout) == 604_800_000


@pytest.mark.parametrize("clear", [0, None, "nothing"])
async def test_clear(room: Room, clear: Any) -> None:
    await room.run(set_timeout, ms=500)
    assert await (room.run(set_nothing) if clear == "nothing" else room.run(set_timeout, ms=clear)) is None


@pytest.mark.parametrize(("ms", "error"), [("7", TypeError), ([], TypeError), (True, TypeError), (-1, ValueError)])
async def test_what_is_no_number_of_milliseconds_is_refused(room: Room, ms: Any, error: type[Exception]) -> None:
    await room.run(set_timeout, ms=500)
    await room.refused(set_timeout, error, ms=ms)
    assert await room.run(get_timeout) == 500


async def endless(probe: app.Probe, ws: Any) -> None:
    probe.memory["went on"] = True
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        probe.report("cancelled")
        raise
    ws.send("never")


def memory(probe: app.Probe, ws: Any) -> None:
    ws.send({"life": probe.life, "memory": probe.memory})


async def test_a_handler_that_runs_past_it_is_cancelled_and_nothing_else_breaks(room: Room) -> None:
    await room.run(set_timeout, ms=100)
    async with await room.connect() as client, await room.connect() as other:
        await client.say(endless)
        await room.saw("cancelled")
        for peer in (client, other):
            await peer.say(memory)
            assert await peer.receive() == '{"life":1,"memory":{"went on":true}}'


async def test_it_outlives_hibernation(drowsy: Room) -> None:
    await drowsy.run(set_timeout, ms=150)
    async with await drowsy.connect() as client:
        await drowsy.asleep()
        assert await drowsy.run(get_timeout) == 150
        assert drowsy.life == 2
        await client.say(endless)
        await drowsy.saw("cancelled")
