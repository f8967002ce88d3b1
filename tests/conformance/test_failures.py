"""Failures of user code, resets, and clients that break the protocol."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from tests.conformance import app
from tests.conformance.driver import Room
from tests.support.client import RawClient, request
from tests.support.frames import TEXT, frame
from tests.support.waiting import until


def fail(probe: app.Probe, *_: Any, **__: Any) -> Any:
    raise RuntimeError("on purpose")


async def fail_later(probe: app.Probe, *_: Any, **__: Any) -> Any:
    await asyncio.sleep(0)
    raise RuntimeError("on purpose")


def remember(probe: app.Probe, ws: Any, *_: Any) -> None:
    probe.memory["count"] = probe.memory.get("count", 0) + 1
    ws.send({"life": probe.life, "count": probe.memory["count"]})


@pytest.mark.parametrize("step", [fail, fail_later])
async def test_a_message_handler_that_raises_breaks_nothing(room: Room, step: Any) -> None:
    async with await room.connect() as client:
        await client.say(remember)
        await client.receive()
        await client.say(step)
        await client.say(remember)
        assert await client.receive() == '{"life":1,"count":2}'


async def test_the_traceback_and_the_objects_name_are_logged(room: Room) -> None:
    positions = room.cluster.log_positions()
    async with await room.connect() as client:
        await client.say(fail)
        await client.say(remember)
        await client.receive()
    logged = room.cluster.logs_since(positions)
    assert "RuntimeError: on purpose" in logged
    assert f"probe/{room.name}" in logged


def accept_failing_listener(probe: app.Probe, request: Any) -> Any:
    response = app.accept_standard(probe, request, "close")
    (ws,) = probe.memory["standard"]
    ws.add_event_listener("message", lambda event: fail(probe))
    ws.add_event_listener("message", lambda event: ws.send("the next listener"))
    return response


async def test_a_listener_that_raises_breaks_nothing(room: Room) -> None:
    async with await room.connect(accept_failing_listener) as client:
        for _ in range(2):
            await client.send("x")
            assert await client.receive() == "the next listener"


async def leave_a_failing_task(probe: app.Probe, ws: Any) -> None:
    probe.memory["task"] = asyncio.get_running_loop().create_task(fail_later(probe))


async def wait_for_failing(probe: app.Probe, ws: Any) -> None:
    probe.ctx.wait_until(fail_later(probe))


@pytest.mark.parametrize("step", [leave_a_failing_task, wait_for_failing])
async def test_a_failing_task_of_the_object_breaks_nothing(room: Room, step: Any) -> None:
    async with await room.connect() as client:
        await client.say(step)
        await client.say(remember)
        assert await client.receive() == '{"life":1,"count":1}'


@pytest.mark.parametrize("step", [fail, fail_later])
async def test_a_fetch_that_raises_is_a_500_and_breaks_nothing(room: Room, step: Any) -> None:
    async with await room.connect() as client:
        reply = await room.request(step)
        assert reply.status == 500
        assert "on purpose" not in reply.text, "what is wrong inside is for the log"
        await client.say(remember)
        assert await client.receive() == '{"life":1,"count":1}'


def return_what_is_no_response(probe: app.Probe, request: Any, what: Any) -> Any:
    return what


@pytest.mark.parametrize("what", [None, "text", 5, {}])
async def test_a_fetch_that_returns_no_response_is_a_500(room: Room, what: Any) -> None:
    assert (await room.request(return_what_is_no_response, what=what)).status == 500


async def test_a_class_without_fetch_is_a_500_or_501(room_in: Any) -> None:
    handless: Room = room_in("handless")
    assert (await request(handless.cluster.port, "GET", handless.path())).status in (500, 501)


async def reset_seen(client: RawClient) -> None:
    """The object was reset: Close 1011 with a reason, and the end."""
    assert (await client.expect_close(1011)).reason
    await client.expect_end()


def fail_in_even_lives(probe: app.Probe) -> None:
    if probe.life % 2 == 0:
        raise RuntimeError("on purpose")


async def test_a_constructor_that_fails_on_a_request_is_tried_again_by_the_next(room: Room) -> None:
    await room.when("constructor", fail_in_even_lives)
    assert (await room.request(app.reset)).status == 500
    assert (await room.request(ok)).status == 500, "life 2 fails"
    assert (await room.request(ok)).text == "life 3"


def ok(probe: app.Probe, request: Any) -> Any:
    from roost.shard import Response

    return Response(f"life {probe.life}")


async def test_a_constructor_that_fails_on_waking_resets_the_object(drowsy: Room) -> None:
    await drowsy.when("constructor", fail_in_even_lives)
    async with await drowsy.raw() as one, await drowsy.raw() as two:
        await drowsy.asleep()
        await one.send(frame(TEXT, "wake up"))
        for client in (one, two):
            await reset_seen(client)
    assert await drowsy.run(app.count) == 0
    assert drowsy.life == 3
    assert drowsy.all("close") == [] == drowsy.all("message")


async def test_a_constructor_that_fails_on_a_request_that_wakes_fails_that_request_alone(drowsy: Room) -> None:
    await drowsy.when("constructor", fail_in_even_lives)
    async with await drowsy.connect(tags=["kept"]) as client:
        await drowsy.asleep()
        reply = await drowsy.request(ok)
        assert reply.status == 500
        assert "on purpose" not in reply.text
        assert (await drowsy.request(ok)).text == "life 3"
        assert await drowsy.run(app.tags) == [["kept"]]
        await client.settled()


async def fail_in_block(probe: app.Probe, *_: Any, **__: Any) -> None:
    probe.report("blocking")
    await probe.ctx.block_concurrency_while(lambda: fail_later(probe))


async def test_block_concurrency_while_that_raises_resets_the_object(room: Room) -> None:
    async with await room.raw() as one, await room.raw() as two:
        await one.send(frame(TEXT, f"!{__name__}:fail_in_block"))
        for client in (one, two):
            await reset_seen(client)
    assert await room.run(app.life) == 2
    assert await room.run(app.count) == 0
    assert room.all("close") == []


def block_in_constructor(probe: app.Probe) -> None:
    if probe.life == 2:
        probe.ctx.block_concurrency_while(lambda: fail_later(probe))


async def test_block_concurrency_while_that_raises_in_the_constructor_fails_the_request(room: Room) -> None:
    await room.when("constructor", block_in_constructor)
    await room.request(app.reset)
    assert (await room.request(ok)).status == 500
    assert (await room.request(ok)).text == "life 3"


def send_and_abort(probe: app.Probe, *_: Any) -> None:
    for ws in [*probe.ctx.get_web_sockets(), *probe.memory.get("standard", [])]:
        ws.send("sent before")
    probe.ctx.abort("enough of it")


@pytest.mark.parametrize("event", ["fetch", "message", "close"])
async def test_abort_closes_all_sockets_with_1011_after_what_was_sent_before(room: Room, event: str) -> None:
    await room.when("close", send_and_abort)
    async with (
        await room.raw() as client,
        await room.raw(app.accept_standard) as standard,
        await room.connect() as trigger,
    ):
        if event == "fetch":
            reply = await room.request(send_and_abort)
            assert reply.status == 500
        elif event == "message":
            await trigger.say(send_and_abort)
        else:
            await trigger.send("hello")
            await trigger.close(1000)
        for peer in (client, standard):
            await peer.expect(TEXT, "sent before")
            await reset_seen(peer)
    await room.run(app.nothing)
    assert await room.run(app.life) == 2
    assert await room.run(app.count) == 0
    assert len(room.all("close")) == (event == "close")


def raise_secret(probe: app.Probe, *_: Any) -> None:
    raise KeyError("the password is hunter2")


def abort_with_secret(probe: app.Probe, *_: Any) -> None:
    probe.ctx.abort("the password is hunter2")


@pytest.mark.parametrize("step", [raise_secret, abort_with_secret])
async def test_the_public_hears_a_sentence_and_an_id_that_the_log_has(room: Room, step: Any) -> None:
    positions = room.cluster.log_positions()
    said = []
    async with await room.raw() as client:
        said.append((await room.request(step)).text)
        if step is abort_with_secret:
            said.append((await client.expect_close(1011)).reason)
    numbers = set()
    for words in said:
        assert "hunter2" not in words
        assert "KeyError" not in words
        found = re.search(r"\(error id ([0-9a-f]{12})\)", words)
        assert found, words
        numbers.add(found[1])
    (number,) = numbers
    await until("the id in the log", lambda: number in room.cluster.logs_since(positions))
    (line,) = [line for line in room.cluster.logs_since(positions).splitlines() if number in line]
    assert "hunter2" in line


@pytest.mark.parametrize("reason", ["because", None])
async def test_abort_needs_no_reason_and_never_returns(room: Room, reason: str | None) -> None:
    await room.run(app.life)
    positions = room.cluster.log_positions()
    reply = await room.request(app.reset, reason=reason)
    assert reply.status == 500
    if reason:
        await until("the reason in the log", lambda: reason in room.cluster.logs_since(positions))
    assert await room.run(app.life) == 2


async def go_on_after_abort(probe: app.Probe, *_: Any) -> None:
    """What a handler does after the reset under it: nothing of it may be seen."""
    ws = probe.ctx.get_web_sockets()[0]
    probe.report("waiting")
    await probe.memory.setdefault("gate", asyncio.Event()).wait()
    ws.send("from beyond")
    probe.report("went on")


async def test_other_handlers_of_a_reset_object_say_nothing_more(room: Room) -> None:
    async with await room.raw() as client:
        await client.send(frame(TEXT, f"!{__name__}:go_on_after_abort"))
        await room.saw("waiting")
        await room.request(app.reset)
        await reset_seen(client)
    assert await room.run(app.life) == 2


async def test_without_a_message_handler_messages_are_dropped(room_in: Any) -> None:
    silent: Room = room_in("silent")
    async with await silent.raw() as client:
        await client.send(frame(TEXT, "anybody?"), frame(0x9, b"there"))
        await client.expect(0xA, b"there")
        assert (await request(silent.cluster.port, "GET", silent.path())).text == "[1]"


def note_error(probe: app.Probe, ws: Any, error: Any) -> None:
    probe.report("noted", error=type(error).__name__, is_exception=isinstance(error, Exception))


async def test_a_protocol_error_reaches_web_socket_error_alone(room: Room) -> None:
    await room.when("error", note_error)
    async with await room.raw(tags=["bad"]) as client:
        await client.send(frame(0x3, "reserved opcode"))
        got = await client.expect_close(1002)
        await client.expect_end()
    report = await room.saw("error")
    assert "1002" in report["text"]
    assert report["tags"] == ["bad"]
    assert report["state"] == 2
    assert report["listed"] is True
    assert (await room.saw("noted"))["is_exception"]
    assert got.reason == "" or got.reason in report["text"]
    assert await room.run(app.count) == 0
    assert room.all("close") == []


async def test_standard_a_protocol_error_is_an_error_event_alone(room: Room) -> None:
    async with await room.raw(app.accept_standard) as client:
        await client.send(frame(0x3, "reserved opcode"))
        await client.expect_close(1002)
        await client.expect_end()
    event = await room.saw("event")
    assert event["type"] == "error"
    assert "1002" in event["text"]
    await room.run(app.nothing)
    assert len(room.all("event")) == 1


async def test_without_an_error_handler_a_protocol_error_still_closes(room_in: Any) -> None:
    silent: Room = room_in("silent")
    async with await silent.raw() as client:
        await client.send(frame(0x3))
        await client.expect_close(1002)
        await client.expect_end()
    assert (await request(silent.cluster.port, "GET", silent.path())).text == "[]"
