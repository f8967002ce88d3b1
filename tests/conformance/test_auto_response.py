"""The automatic response to one exact text."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from roost.common.errors import AutoResponseTooLong
from roost.shard import WebSocketRequestResponsePair
from tests.conformance import app
from tests.conformance.driver import Room
from tests.support.frames import BINARY, CONTINUATION, TEXT, frame
from tests.support.waiting import within


def get_pair(probe: app.Probe) -> Any:
    pair = probe.ctx.get_web_socket_auto_response()
    return pair and [type(pair).__name__, pair.get_request(), pair.get_response()]


def unset(probe: app.Probe, explicitly: bool = False) -> None:
    if explicitly:
        probe.ctx.set_web_socket_auto_response(None)
    else:
        probe.ctx.set_web_socket_auto_response()


def set_to(probe: app.Probe, what: Any) -> None:
    probe.ctx.set_web_socket_auto_response(what)


def stamps(probe: app.Probe) -> list[Any]:
    """The timestamp of each socket, oldest first, as Unix seconds with the zone's offset."""
    found = [probe.ctx.get_web_socket_auto_response_timestamp(ws) for ws in probe.ctx.get_web_sockets()[::-1]]
    return [stamp and [stamp.timestamp(), stamp.utcoffset().total_seconds()] for stamp in found]


async def stamped(room: Room) -> list[Any]:
    """The timestamps once at least one has arrived: they may take 100 ms."""

    async def ask() -> list[Any]:
        while not any(found := await room.run(stamps)):
            pass
        return found

    return await within("a timestamp", ask())


# --- setting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", ["p", "ä", "𝄞"])
async def test_up_to_2048_characters_each(room: Room, letter: str) -> None:
    longest = letter * 2048
    await room.run(app.set_auto_response, request=longest, response=longest[::-1])
    assert await room.run(get_pair) == ["WebSocketRequestResponsePair", longest, longest]
    await room.refused(
        app.set_auto_response, AutoResponseTooLong, "request", "2049", "2048", request=longest + "x", response="r"
    )
    await room.refused(
        app.set_auto_response, AutoResponseTooLong, "response", "2049", request="r", response=longest + "x"
    )
    # Both too long: the request is named first. And the old pair stays.
    await room.refused(
        app.set_auto_response, AutoResponseTooLong, "request", request=longest + "x", response=longest + "x"
    )
    assert await room.run(get_pair) == ["WebSocketRequestResponsePair", longest, longest]


async def test_get_gives_an_equal_pair_or_none(room: Room) -> None:
    assert await room.run(get_pair) is None
    await room.run(app.set_auto_response, request="a", response="b")
    assert await room.run(get_pair) == ["WebSocketRequestResponsePair", "a", "b"]


@pytest.mark.parametrize("explicitly", [False, True])
async def test_without_argument_it_is_unset(room: Room, explicitly: bool) -> None:
    await room.when("message", app.echo)
    async with await room.connect() as client:
        await room.run(app.set_auto_response)
        await client.settled()
        await client.send("ping")
        assert await client.receive() == "pong"
        before = await stamped(room)
        await room.run(unset, explicitly=explicitly)
        assert await room.run(get_pair) is None
        await client.settled()
        await client.send("ping")
        assert await client.receive() == "ping"
        assert await room.run(stamps) == before, "the timestamp stays, and is not moved any more"


@pytest.mark.parametrize("what", ["ping", {"request": "a", "response": "b"}, ["a", "b"], 5])
async def test_what_is_no_pair_is_a_type_error_and_the_old_pair_stays(room: Room, what: Any) -> None:
    await room.run(app.set_auto_response)
    await room.refused(set_to, TypeError, what=what)
    assert await room.run(get_pair) == ["WebSocketRequestResponsePair", "ping", "pong"]


@pytest.mark.parametrize("arguments", [("a",), (), ("a", 5), (None, "b"), (b"a", "b")])
def test_a_pair_is_made_of_two_strings(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        WebSocketRequestResponsePair(*arguments)


async def test_set_before_any_socket_exists(room: Room) -> None:
    await room.run(app.set_auto_response)
    async with await room.connect() as client:
        await client.send("ping")
        assert await client.receive() == "pong"


# --- matching -----------------------------------------------------------------------------------------------------


async def test_only_the_whole_text_matches(room: Room) -> None:
    await room.when("message", app.echo)
    await room.run(app.set_auto_response)
    async with await room.connect() as client:
        for text in ("pin", "pingg", "Ping", "ping ", " ping", "ping\0", ""):
            await client.send(text)
            assert await client.receive() == text
        await client.send(b"ping")
        assert await client.receive() == b"ping"
        await client.send("ping")
        assert await client.receive() == "pong"


async def test_fragments_match_once_joined(room: Room) -> None:
    await room.run(app.set_auto_response)
    async with await room.raw() as client:
        await client.send(frame(TEXT, "pi", fin=False), frame(CONTINUATION, "", fin=False), frame(CONTINUATION, "ng"))
        await client.expect(TEXT, "pong")


async def test_binary_goes_to_the_handler(room: Room) -> None:
    await room.run(app.set_auto_response)
    async with await room.raw() as client:
        await client.send(frame(BINARY, "ping"))
        assert (await room.saw("message"))["type"] == "bytes"


async def test_a_match_does_not_reach_the_handler(room: Room) -> None:
    await room.run(app.set_auto_response)
    async with await room.connect() as client:
        await client.send("ping")
        await client.send("after")
        assert await client.receive() == "pong"
        assert (await room.saw("message"))["data"] == "after"


async def test_empty_request_and_response(room: Room) -> None:
    await room.run(app.set_auto_response, request="", response="")
    async with await room.connect() as client:
        await client.send("")
        assert await client.receive() == ""


async def test_standard_sockets_are_not_answered(room: Room) -> None:
    await room.run(app.set_auto_response)
    async with await room.connect(app.accept_standard) as client:
        await client.send("ping")
        assert (await room.saw("event"))["data"] == "ping"
        assert await room.run(stamp_of_standard) is None


def stamp_of_standard(probe: app.Probe) -> Any:
    return probe.ctx.get_web_socket_auto_response_timestamp(probe.memory["standard"][0])


# --- timestamps ---------------------------------------------------------------------------------------------------


async def test_the_timestamp_is_the_sockets_own_and_the_last(room: Room) -> None:
    await room.run(app.set_auto_response)
    async with await room.connect() as first, await room.connect():
        assert await room.run(stamps) == [None, None]
        before = time.time()
        await first.send("ping")
        await first.receive()
        after = time.time()
        (stamp, offset), none = await stamped(room)
        assert before - 0.01 <= stamp <= after + 0.01
        assert offset == 0, "aware, in UTC"
        assert none is None
        await first.send("ping")
        await first.receive()

        async def moved() -> None:
            while (await room.run(stamps))[0][0] <= stamp:
                pass

        await within("the timestamp of the second match", moved())


async def test_a_timestamp_is_there_before_any_later_event(room: Room) -> None:
    await room.run(app.set_auto_response)
    async with await room.connect() as client:
        await client.send("ping")
        await client.say(send_stamped)
        assert await client.receive() == "pong"
        assert await client.receive() == "stamped"


def send_stamped(probe: app.Probe, ws: Any) -> None:
    ws.send("stamped" if probe.ctx.get_web_socket_auto_response_timestamp(ws) else "no stamp")


# --- order --------------------------------------------------------------------------------------------------------


async def wait_and_send(probe: app.Probe, ws: Any) -> None:
    probe.report("waiting")
    await probe.memory.setdefault("gate", asyncio.Event()).wait()
    ws.send("reply")


def open_gate(probe: app.Probe) -> None:
    probe.memory["gate"].set()


async def test_answered_while_a_handler_waits(room: Room) -> None:
    await room.run(app.set_auto_response)
    async with await room.connect() as client:
        await client.say(wait_and_send)
        await room.saw("waiting")
        await client.send("ping")
        assert await client.receive() == "pong"
        await room.run(open_gate)
        assert await client.receive() == "reply"


async def test_pongs_keep_their_order_and_so_do_replies(room: Room) -> None:
    """The router answers at once, so a pong may overtake replies; each kind keeps its own order, and all arrive."""
    await room.when("message", app.echo)
    await room.run(app.set_auto_response)
    async with await room.connect() as client:
        for text in ("e1", "ping", "e2", "ping", "e3"):
            await client.send(text)
        got = [await client.receive() for _ in range(5)]
        assert [text for text in got if text != "pong"] == ["e1", "e2", "e3"]
        assert got.count("pong") == 2


async def test_not_answered_after_the_servers_close(room: Room) -> None:
    await room.run(app.set_auto_response)
    async with await room.raw() as client:
        await room.run(app.close_all, code=4000)
        await client.expect_close(4000)
        await client.send(frame(TEXT, "ping"), frame(0x8, b"\x0f\xa0"))
        await client.expect_end()


# --- hibernation --------------------------------------------------------------------------------------------------


async def test_answers_do_not_wake_the_object_nor_keep_it_awake(drowsy: Room) -> None:
    await drowsy.run(app.set_auto_response)
    async with await drowsy.connect() as client:
        # Ping all the time, and it falls asleep none the less; then go on pinging.
        asleep = asyncio.ensure_future(drowsy.asleep())
        while not asleep.done():
            await client.send("ping")
            assert await client.receive() == "pong"
        await asleep
        for _ in range(20):
            await client.send("ping")
            assert await client.receive() == "pong"
        assert len(drowsy.all("constructed")) == 1
        assert await drowsy.run(app.life) == 2


async def test_the_pair_and_the_timestamp_outlive_hibernation(drowsy: Room) -> None:
    await drowsy.run(app.set_auto_response)
    async with await drowsy.connect() as client:
        await client.send("ping")
        await client.receive()
        await drowsy.asleep()
        assert await drowsy.run(app.life) == 2
        assert (await stamped(drowsy))[0] is not None
        assert await drowsy.run(get_pair) == ["WebSocketRequestResponsePair", "ping", "pong"]
        await drowsy.run(unset)
        await drowsy.asleep()
        assert await drowsy.run(app.life) == 3
        assert await drowsy.run(get_pair) is None
        assert (await stamped(drowsy))[0] is not None


async def test_the_pair_outlives_a_sleep_without_sockets(drowsy: Room) -> None:
    await drowsy.run(app.set_auto_response)
    await drowsy.asleep()
    async with await drowsy.connect() as client:
        await client.send("ping")
        assert await client.receive() == "pong"
    assert drowsy.all("message") == []
    assert await drowsy.run(app.life) == 2
