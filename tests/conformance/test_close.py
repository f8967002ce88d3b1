"""``close``."""

from __future__ import annotations

from typing import Any

import pytest

from roost.common.errors import InvalidCloseCode, InvalidCloseReason
from tests.conformance import app
from tests.conformance.driver import Room
from tests.support.frames import CLOSE, close_body, frame

ALLOWED = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 1016, 2000, 2999, 3000, 4999]
FORBIDDEN = [999, 1004, 1005, 1006, 1015, 5000, 0, -1, 65536]


def close_with(probe: app.Probe, arguments: list[Any], named: dict[str, Any] | None = None) -> list[int]:
    (ws,) = probe.ctx.get_web_sockets()
    before = ws.ready_state
    ws.close(*arguments, **(named or {}))
    return [before, ws.ready_state]


@pytest.mark.parametrize("code", ALLOWED)
async def test_codes_that_are_sent(room: Room, code: int) -> None:
    async with await room.raw() as client:
        await room.run(close_with, arguments=[code, "why"])
        assert (await client.expect_close(code)).reason == "why"


@pytest.mark.parametrize("code", FORBIDDEN)
async def test_codes_that_are_refused_and_the_socket_stays_open(room: Room, code: int) -> None:
    async with await room.connect() as client:
        await room.refused(close_with, InvalidCloseCode, str(code), arguments=[code])
        await room.run(app.say, what="open")
        assert await client.receive() == "open"


@pytest.mark.parametrize("code", ["1000", 1000.9, True, [], {}])
async def test_a_code_that_is_no_int_is_a_type_error(room: Room, code: Any) -> None:
    async with await room.connect() as client:
        await room.refused(close_with, TypeError, arguments=[code])
        await room.run(app.say, what="open")
        assert await client.receive() == "open"


@pytest.mark.parametrize("arguments", [[], [None], [None, None]])
async def test_without_arguments_the_client_sees_no_code(room: Room, arguments: list[Any]) -> None:
    async with await room.raw() as client:
        await room.run(close_with, arguments=arguments)
        got = await client.expect(CLOSE)
        assert got.payload == b""


@pytest.mark.parametrize("reason", ["why", ""])
async def test_a_reason_without_a_code_is_refused(room: Room, reason: str) -> None:
    async with await room.connect() as client:
        await room.refused(close_with, InvalidCloseReason, arguments=[None, reason])
        await room.refused(close_with, InvalidCloseReason, arguments=[], named={"reason": reason})
        await room.run(app.say, what="open")
        assert await client.receive() == "open"


@pytest.mark.parametrize("letter", ["x", "ä"])
async def test_a_reason_has_up_to_123_bytes(room: Room, letter: str) -> None:
    longest = (letter * 123).encode()[: 123 - 123 % len(letter.encode())].decode()
    async with await room.raw() as client:
        await room.refused(close_with, InvalidCloseReason, "123", "124", arguments=[1000, "x" * 124])
        await room.refused(close_with, InvalidCloseReason, "123", arguments=[1000, longest + letter])
        await room.run(close_with, arguments=[1000, longest])
        assert (await client.expect_close(1000)).reason == longest


@pytest.mark.parametrize("reason", [5, True, []])
async def test_a_reason_that_is_no_string_is_a_type_error(room: Room, reason: Any) -> None:
    async with await room.connect():
        await room.refused(close_with, TypeError, arguments=[1000, reason])


def close_again(probe: app.Probe, code: Any) -> None:
    (ws,) = probe.ctx.get_web_sockets()
    ws.close(code, "again")


async def test_a_second_close_is_ignored_but_checked(room: Room) -> None:
    async with await room.raw() as client:
        await room.run(close_with, arguments=[4001, "first"])
        await room.run(close_again, code=4002)
        await room.refused(close_again, InvalidCloseCode, "9999", code=9999)
        assert (await client.expect_close(4001)).reason == "first"
        await client.send(frame(CLOSE, close_body(4001)))
        await client.expect_end()


def report_states_in_close(probe: app.Probe, ws: Any, *_: Any) -> None:
    before = ws.ready_state
    ws.close(4009, "over")
    probe.report("states", states=[before, ws.ready_state])
    probe.memory["kept"] = ws


def state_of_kept(probe: app.Probe) -> int:
    return probe.memory["kept"].ready_state


async def test_ready_states_when_the_server_closes_first(room: Room) -> None:
    async with await room.raw() as client:
        assert await room.run(close_with, arguments=[4000]) == [1, 2]
        await client.expect_close(4000)
        await client.send(frame(CLOSE, close_body(4000)))
        assert (await room.saw("close"))["state"] == 3


async def test_ready_states_when_the_client_closes_first(room: Room) -> None:
    await room.when("close", report_states_in_close)
    async with await room.raw() as client:
        await client.send(frame(CLOSE, close_body(1000)))
        assert (await room.saw("states"))["states"] == [2, 3]
        await client.expect_close(4009)
        assert await room.run(state_of_kept) == 3
