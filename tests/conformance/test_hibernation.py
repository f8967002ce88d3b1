"""Hibernation: when, what is kept, what prevents it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest

from roost.shard import WebSocketRequestResponsePair
from tests.conformance import app
from tests.conformance.driver import Room
from tests.support.frames import CLOSE, TEXT, close_body, frame

IDLE_S = 0.2
"""What the cluster of ``drowsy`` is set to."""


async def test_it_leaves_memory_once_idle_for_long_enough(drowsy: Room) -> None:
    async with await drowsy.connect() as client:
        await drowsy.saw("constructed")
        await client.send("last event")
        await drowsy.saw("message")
        last = time.monotonic()
        await drowsy.asleep()
        assert time.monotonic() - last > IDLE_S * 0.9


async def test_every_event_begins_the_time_anew(drowsy: Room) -> None:
    async with await drowsy.connect() as client:
        async with asyncio.timeout(30):
            while True:
                slept, longest, sent = len(drowsy.all("dropped")), 0.0, time.monotonic()
                until = sent + 4 * IDLE_S
                while sent < until:
                    before, sent = sent, time.monotonic()
                    await client.send("awake")
                    await drowsy.saw("message")
                    longest = max(longest, time.monotonic() - before)
                    await asyncio.sleep(IDLE_S / 10)
                if longest < IDLE_S:
                    break  # else the machine was too busy to send often enough, and it may have slept
        assert len(drowsy.all("dropped")) == slept
        await drowsy.asleep()


async def test_an_object_without_sockets_leaves_memory_too(drowsy: Room) -> None:
    await drowsy.run(app.nothing)
    await drowsy.asleep()
    assert await drowsy.run(app.life) == 2


def remember(probe: app.Probe, times: int = 1) -> int:
    probe.memory["count"] = probe.memory.get("count", 0) + times
    return probe.memory["count"]


@pytest.mark.parametrize("event", ["message", "close", "fetch"])
async def test_the_next_event_constructs_it_again_with_its_memory_gone(drowsy: Room, event: str) -> None:
    async with await drowsy.connect() as client:
        assert await drowsy.run(remember, times=2) == 2
        await drowsy.asleep()
        if event == "message":
            await client.send("wake")
            await drowsy.saw("message")
        elif event == "close":
            await client.close(4000, "bye")
            assert (await drowsy.saw("close"))["code"] == 4000
        assert await drowsy.run(remember) == 1
        assert drowsy.life > 1
    assert drowsy.order()[:3] == ["constructed", "dropped", "constructed"]


def set_everything(probe: app.Probe) -> None:
    probe.ctx.set_web_socket_auto_response(WebSocketRequestResponsePair("ping", "pong"))
    probe.ctx.set_hibernatable_web_socket_event_timeout(5000)
    for number, ws in enumerate(probe.ctx.get_web_sockets()):
        ws.serialize_attachment({"place": number})


def everything(probe: app.Probe) -> list[Any]:
    ctx = probe.ctx
    pair = ctx.get_web_socket_auto_response()
    return [
        [[ctx.get_tags(ws), ws.deserialize_attachment(), ws.ready_state] for ws in ctx.get_web_sockets()],
        [ctx.get_tags(ws) for ws in ctx.get_web_sockets("all")],
        [pair.get_request(), pair.get_response()],
        ctx.get_hibernatable_web_socket_event_timeout(),
    ]


def close_one(probe: app.Probe, tag: str) -> None:
    probe.ctx.get_web_sockets(tag)[0].close(4000)


async def test_what_is_kept(drowsy: Room) -> None:
    async with contextlib.AsyncExitStack() as clients:
        for number in range(4):
            await clients.enter_async_context(await drowsy.raw(tags=["all", str(number), "x"]))
        await drowsy.run(set_everything)
        await drowsy.run(close_one, tag="1")
        before = await drowsy.run(everything)
        assert [tags[1] for tags, _, _ in before[0]] == ["3", "2", "1", "0"]
        assert [state for _, _, state in before[0]] == [1, 1, 2, 1]
        for life in (2, 3):
            await drowsy.asleep()
            assert await drowsy.run(everything) == before
            assert drowsy.life == life
        # And a new one takes its place at the newest end.
        async with await drowsy.raw(tags=["all", "new"]):
            assert [tags[1] for tags, _, _ in (await drowsy.run(everything))[0]] == ["new", "3", "2", "1", "0"]


async def use_identity(probe: app.Probe, ws: Any) -> None:
    ws.send("same" if ws is probe.ctx.get_web_sockets()[0] else "different")


async def test_after_waking_a_socket_is_one_object_again(drowsy: Room) -> None:
    async with await drowsy.connect() as client:
        await drowsy.asleep()
        await client.say(use_identity)
        assert await client.receive() == "same"


def start_timer(probe: app.Probe) -> None:
    asyncio.get_running_loop().create_task(until_released(probe), name="user task")


async def until_released(probe: app.Probe, *_: Any, **__: Any) -> None:
    probe.report("holding")
    gates[probe.name] = asyncio.Event()
    await gates[probe.name].wait()


gates: dict[str, asyncio.Event] = {}


def release(probe: app.Probe) -> None:
    gates[probe.name].set()


def start_wait_until(probe: app.Probe) -> None:
    probe.ctx.wait_until(until_released(probe))


def start_in_handler(probe: app.Probe) -> None:
    """A message handler that has not ended; the test sends it."""


@pytest.mark.parametrize("what", ["task", "wait_until", "handler", "fetch", "standard socket"])
async def test_what_prevents_it(drowsy: Room, what: str) -> None:
    async with await drowsy.connect() as client:
        pending: Any = None
        if what == "task":
            await drowsy.run(start_timer)
        elif what == "wait_until":
            await drowsy.run(start_wait_until)
        elif what == "handler":
            await client.say(until_released)
        elif what == "fetch":
            pending = asyncio.ensure_future(drowsy.run(until_released))
        else:
            pending = await drowsy.connect(app.accept_standard)
        if what != "standard socket":
            await drowsy.saw("holding")
        # This sleep is the test: it is what would be long enough.
        await asyncio.sleep(3 * IDLE_S)
        assert drowsy.all("dropped") == []
        if what == "standard socket":
            await pending.close()
        else:
            await drowsy.run(release)
        if what == "fetch":
            await pending
        await drowsy.asleep()
        assert await drowsy.run(app.life) == 2


def send_in_constructor(probe: app.Probe) -> None:
    for ws in probe.ctx.get_web_sockets():
        ws.send(f"life {probe.life}")


async def test_the_constructor_may_send_and_comes_first(drowsy: Room) -> None:
    await drowsy.when("constructor", send_in_constructor)
    await drowsy.when("message", app.echo)
    async with await drowsy.connect() as client:
        await drowsy.asleep()
        await client.send("wake")
        got = await client.receive()
        assert str(got).startswith("life ")
        assert await client.receive() == "wake"


def block_in_constructor(probe: app.Probe) -> None:
    if probe.life > 1:
        probe.ctx.block_concurrency_while(lambda: prepare(probe))


async def prepare(probe: app.Probe) -> None:
    probe.report("preparing")
    await asyncio.sleep(0.3)
    probe.report("prepared")


async def test_events_wait_for_what_the_constructor_blocks_on(drowsy: Room) -> None:
    await drowsy.when("constructor", block_in_constructor)
    async with await drowsy.raw(tags=["m"]) as m, await drowsy.raw(tags=["n"]) as n:
        await drowsy.asleep()
        await m.send(frame(TEXT, "m1"))
        await drowsy.saw("preparing")
        await n.send(frame(TEXT, "n1"))
        await m.send(frame(TEXT, "m2"))
        got = [(await drowsy.saw("message"))["data"] for _ in range(3)]
        assert got == ["m1", "n1", "m2"], "per connection in order, connections in turn"
        order = drowsy.order()
        assert order.index("prepared") < order.index("message")


async def test_a_socket_that_the_object_closed_stays_closing_through_hibernation(drowsy: Room) -> None:
    async with await drowsy.raw() as client:
        await drowsy.run(app.close_all, code=4000)
        await client.expect_close(4000)
        await drowsy.asleep()
        await client.send(frame(CLOSE, close_body(4000)))
        assert (await drowsy.saw("close"))["state"] == 3
        await client.expect_end()


async def test_a_client_that_vanishes_wakes_the_object(drowsy: Room) -> None:
    async with await drowsy.raw(tags=["gone"]) as client:
        await drowsy.asleep()
        client.reset()
    report = await drowsy.saw("close")
    assert (report["code"], report["tags"], report["life"]) == (1006, ["gone"], 2)
