"""Order and gates."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.conformance import app
from tests.conformance.driver import Room
from tests.support.frames import TEXT, frame


async def two_halves(probe: app.Probe, ws: Any, message: str) -> None:
    probe.report("half", part=f"{message}1")
    await asyncio.sleep(0.05)
    probe.report("half", part=f"{message}2")


async def halves(room: Room, count: int) -> list[str]:
    return [(await room.saw("half"))["part"] for _ in range(count)]


async def test_handlers_of_one_connection_interleave(room: Room) -> None:
    await room.when("message", two_halves)
    async with await room.raw() as client:
        await client.send(frame(TEXT, "A") + frame(TEXT, "B"))
        assert await halves(room, 4) == ["A1", "B1", "A2", "B2"]


async def test_handlers_of_two_connections_interleave(room: Room) -> None:
    await room.when("message", two_halves)
    async with await room.connect() as one, await room.connect() as two:
        await one.send("A")
        await two.send("B")
        got = await halves(room, 4)
        assert sorted(got[:2]) == ["A1", "B1"]
        assert sorted(got[2:]) == ["A2", "B2"]


async def two_halves_of_an_event(probe: app.Probe, event: Any) -> None:
    await two_halves(probe, None, event.data)


def accept_with_slow_listener(probe: app.Probe, request: Any) -> Any:
    response = app.accept_standard(probe, request, "close")
    (ws,) = probe.memory["standard"]
    ws.add_event_listener("message", lambda event: two_halves_of_an_event(probe, event))
    return response


async def test_listeners_interleave_too(room: Room) -> None:
    async with await room.connect(accept_with_slow_listener) as client:
        await client.send("A")
        await client.send("B")
        assert await halves(room, 4) == ["A1", "B1", "A2", "B2"]


async def test_messages_of_one_connection_keep_their_order(room: Room) -> None:
    await room.when("message", app.echo)
    async with await room.raw() as client:
        await client.send(b"".join(frame(TEXT, str(number)) for number in range(300)))
        got = [(await client.expect(TEXT)).text for _ in range(300)]
    assert got == [str(number) for number in range(300)]


async def test_a_thousand_messages_beyond_the_window_keep_their_order(room: Room) -> None:
    """Four windows' worth, behind handlers that wait: reading stops and goes on, nothing is lost."""
    await room.when("message", echo_later)
    async with await room.raw() as client:
        sending = asyncio.ensure_future(
            client.send(*[frame(TEXT, str(number)) for number in range(1000)]),
        )
        got = [(await client.expect(TEXT)).text for _ in range(1000)]
        await sending
    assert got == [str(number) for number in range(1000)]


async def echo_later(probe: app.Probe, ws: Any, message: str) -> None:
    await asyncio.sleep(0.01)
    ws.send(message)


def block_in_constructor(probe: app.Probe) -> None:
    if probe.life > 1:
        probe.ctx.block_concurrency_while(lambda: prepare(probe))


async def prepare(probe: app.Probe) -> None:
    await asyncio.sleep(0.1)
    probe.memory["prepared"] = True
    probe.report("prepared")


async def report_prepared(probe: app.Probe, request: Any) -> Any:
    probe.report("fetch", prepared=probe.memory.get("prepared", False))
    return app.accept(probe, request)


async def test_the_first_event_waits_for_the_constructor_handshakes_too(room: Room) -> None:
    await room.when("constructor", block_in_constructor)
    await room.request(app.reset)
    async with await room.connect(report_prepared):
        assert (await room.saw("fetch"))["prepared"] is True


async def block_and_wait(probe: app.Probe, ws: Any) -> None:
    result = await probe.ctx.block_concurrency_while(lambda: critical(probe))
    ws.send(result)


async def critical(probe: app.Probe) -> str:
    probe.report("critical", part="begin")
    await asyncio.sleep(0.1)
    probe.report("critical", part="end")
    return "the callback's result"


async def test_block_concurrency_while_holds_other_events_back_and_gives_its_result(room: Room) -> None:
    async with await room.connect() as one, await room.connect() as two:
        await one.say(block_and_wait)
        assert (await room.saw("critical"))["part"] == "begin"
        await two.send("meanwhile")
        assert await one.receive() == "the callback's result"
        await room.saw("message")
        assert room.order()[-2:] == ["critical", "message"]


async def say_when_waited(probe: app.Probe, *_: Any) -> None:
    async def later() -> None:
        await asyncio.sleep(0.05)
        probe.report("waited")

    probe.ctx.wait_until(later())
    probe.report("returned")


async def test_wait_until_goes_on_after_the_handler(room: Room) -> None:
    await room.run(say_when_waited)
    await room.saw("waited")
    assert room.order()[-2:] == ["returned", "waited"]
