"""``send``."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from roost.common.errors import SocketClosed
from tests.conformance import app
from tests.conformance.driver import Room
from tests.support.frames import BINARY, CLOSE, TEXT, close_body, frame


def send_each(probe: app.Probe, ws: Any) -> None:
    for value in ("text", "", "ä€𝄞\0", b"bytes", b"", bytearray(b"array"), memoryview(b"a view")[2:]):
        ws.send(value)


async def test_text_and_bytes(room: Room) -> None:
    async with await room.connect() as client:
        await client.say(send_each)
        got = [await client.receive() for _ in range(7)]
    assert got == ["text", "", "ä€𝄞\0", b"bytes", b"", b"array", b"view"]


def send_a_buffer_then_change_it(probe: app.Probe, ws: Any) -> None:
    buffer = bytearray(b"before")
    ws.send(buffer)
    buffer[:] = b"after!"
    ws.send(buffer)


async def test_a_buffer_is_copied(room: Room) -> None:
    async with await room.connect() as client:
        await client.say(send_a_buffer_then_change_it)
        assert [await client.receive(), await client.receive()] == [b"before", b"after!"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5, "5"),
        (-(10**20), "-100000000000000000000"),
        (1.5, "1.5"),
        (True, "true"),
        (False, "false"),
        (None, "null"),
        ({"a": [1, None, "ä"]}, '{"a":[1,null,"ä"]}'),
        ([1, "two", {}], '[1,"two",{}]'),
    ],
)
async def test_values_are_cast_to_text(room: Room, value: Any, text: str) -> None:
    async with await room.connect() as client:
        await room.run(app.say, what=value)
        assert await client.receive() == text


def send_odd(probe: app.Probe, kind: str) -> None:
    (ws,) = probe.ctx.get_web_sockets()
    ws.send(
        {
            "object": object(),
            "set": {1},
            "datetime": datetime.datetime.now(datetime.UTC),
            "in a dict": {"a": object()},
            "surrogate": "\ud800",
        }[kind]
    )


@pytest.mark.parametrize(("kind", "error"), [("object", TypeError), ("set", TypeError), ("in a dict", TypeError)])
async def test_what_cannot_be_cast_is_a_type_error(room: Room, kind: str, error: type[Exception]) -> None:
    async with await room.connect() as client:
        await room.refused(send_odd, error, kind=kind)
        await room.run(app.say, what="after")
        assert await client.receive() == "after"


async def test_text_that_is_no_utf_8_never_leaves(room: Room) -> None:
    async with await room.connect() as client:
        await room.refused(send_odd, ValueError, kind="surrogate")
        await room.run(app.say, what="after")
        assert await client.receive() == "after"


def send_nothing(probe: app.Probe) -> None:
    (ws,) = probe.ctx.get_web_sockets()
    ws.send()


async def test_no_argument_is_a_type_error(room: Room) -> None:
    async with await room.connect():
        await room.refused(send_nothing, TypeError)


def keep(probe: app.Probe) -> None:
    (probe.memory["kept"],) = probe.ctx.get_web_sockets()


def send_to_kept(probe: app.Probe) -> None:
    probe.memory["kept"].send("late")


async def test_after_own_close_it_is_an_error(room: Room) -> None:
    async with await room.raw() as client:
        await room.run(keep)
        await room.run(app.close_all, code=4000)
        await room.refused(send_to_kept, SocketClosed)
        await room.refused(send_to_kept, TypeError)
        await client.expect_close(4000)
        await client.send(frame(CLOSE, close_body(4000)))
        await client.expect_end()
        await room.saw("close")
        await room.refused(send_to_kept, SocketClosed)


async def test_after_own_close_and_hibernation_it_is_an_error(drowsy: Room) -> None:
    async with await drowsy.raw() as client:
        await drowsy.run(app.close_all, code=4000)
        await client.expect_close(4000)
        await drowsy.asleep()
        await drowsy.refused(app.say, SocketClosed)
        assert drowsy.life == 2
        assert await drowsy.run(app.states) == [2]


def send_in_close(probe: app.Probe, ws: Any, *_: Any) -> None:
    ws.send("one more thing")


async def test_after_the_clients_close_it_still_arrives(room: Room) -> None:
    await room.when("close", send_in_close)
    async with await room.raw() as client:
        await client.send(frame(CLOSE, close_body(1000)))
        await client.expect(TEXT, "one more thing")
        await client.expect_close(1000)


def send_in_close_and_report(probe: app.Probe, ws: Any, *_: Any) -> None:
    ws.send("to nobody")
    probe.report("sent")
    probe.memory["kept"] = ws


async def test_after_the_client_vanished_it_is_dropped_silently(room: Room) -> None:
    await room.when("close", send_in_close_and_report)
    async with await room.raw() as client:
        client.reset()
    await room.saw("sent")
    await room.run(send_to_kept)


def send_large(probe: app.Probe, ws: Any, megabytes: float) -> None:
    ws.send(bytes(int(megabytes * (1 << 20)) + 1))


async def test_a_message_may_be_larger_than_any_incoming_one(room: Room) -> None:
    """The reference sends 33,554,433 bytes; no limit is seen."""
    async with await room.connect() as client:
        await client.say(send_large, megabytes=32)
        assert len(await client.receive()) == (32 << 20) + 1


def flood(probe: app.Probe, ws: Any) -> None:
    for number in range(60):
        ws.send(bytes([number]) * (1 << 20))
    probe.report("flooded", waits=ws.buffered_amount, same=ws.bufferedAmount)


async def test_a_client_that_does_not_read_gets_all_when_it_does_and_others_are_not_affected(room: Room) -> None:
    """As the reference: 60 x 1 MiB are accepted at once, bufferedAmount is 62,914,560 and some heads."""
    async with await room.raw() as slow, await room.connect() as other:
        slow.writer.transport.pause_reading()
        await slow.send(frame(TEXT, f"!{flood.__module__}:{flood.__qualname__} {{}}"))
        got = await room.saw("flooded")
        assert got["waits"] == got["same"] == 60 << 20
        await room.run(app.say, what="and on")
        assert await other.receive() == "and on"
        slow.writer.transport.resume_reading()
        for number in range(60):
            message = await slow.expect(BINARY)
            assert (len(message.payload), message.payload[0]) == (1 << 20, number)
        await slow.expect(TEXT, "and on")


def amount(probe: app.Probe) -> list[int]:
    return [ws.buffered_amount for ws in probe.ctx.get_web_sockets()]


async def test_nothing_is_buffered_for_a_client_that_reads(room: Room) -> None:
    async with await room.connect() as client:
        assert await room.run(amount) == [0]
        await client.say(send_large, megabytes=1)
        await client.receive()
        assert await room.run(amount) == [0]
