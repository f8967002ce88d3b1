"""Closing: what each side sees. Hibernatable sockets first, then those accepted with ``accept()``."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from roost.common.errors import AlreadyAccepted, InvalidCloseCode, SocketClosed
from tests.conformance import app
from tests.conformance.driver import Reports, Room, unique
from tests.support.cluster import Cluster
from tests.support.frames import CLOSE, PING, TEXT, close_body, frame

GONE = (1006, "WebSocket disconnected without sending Close frame.", False)


def facts(report: dict[str, Any]) -> tuple[int, str, bool]:
    return report["code"], report["reason"], report["clean"]


def report_listing(probe: app.Probe, ws: Any, *arguments: Any) -> Any:
    probe.report("arguments", count=len(arguments), listed=ws in probe.ctx.get_web_sockets(), step="synchronous")
    return report_listing_later(probe, ws)


async def report_listing_later(probe: app.Probe, ws: Any) -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    probe.report("arguments", listed=ws in probe.ctx.get_web_sockets(), step="after an await")


async def test_the_close_handler_has_four_arguments_and_lists_the_socket_until_its_first_await(room: Room) -> None:
    await room.when("close", report_listing)
    async with await room.connect(tags=["x"]) as client:
        await client.close(3000, "bye")
    first, later = await room.saw("arguments"), await room.saw("arguments")
    assert (first["count"], first["listed"]) == (3, True)  # code, reason, was_clean beside ws
    assert later["listed"] is False


def report_who_is_listed(probe: app.Probe, ws: Any, message: Any) -> None:
    ws.send(str(len(probe.ctx.get_web_sockets())))


async def wait_in_close(probe: app.Probe, ws: Any, *_: Any) -> None:
    probe.report("closing")
    await probe.memory.setdefault("gate", asyncio.Event()).wait()
    probe.report("let go")


def open_gate(probe: app.Probe) -> None:
    probe.memory["gate"].set()


async def test_other_events_do_not_see_a_socket_whose_close_handler_waits(room: Room) -> None:
    await room.when("close", wait_in_close)
    async with await room.connect() as other, await room.raw() as client:
        await client.send(frame(CLOSE, close_body(1000)))
        await room.saw("closing")
        await room.when("message", report_who_is_listed)
        await other.send("how many?")
        assert await other.receive() == "1"
        await room.run(open_gate)
        await client.expect_close(1000)


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4999])
async def test_the_clients_code_and_reason(room: Room, code: int) -> None:
    async with await room.connect() as client:
        await client.close(code, "why ä")
    report = await room.saw("close")
    assert facts(report) == (code, "why ä", True)
    assert report["state"] == 2


async def test_an_empty_close_is_1005(room: Room) -> None:
    async with await room.raw() as client:
        await client.send(frame(CLOSE))
        assert facts(await room.saw("close")) == (1005, "", True)
        assert (await client.expect(CLOSE)).payload == b""
        await client.expect_end()


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2000, 5000, 65535])
async def test_codes_that_rfc_6455_forbids_are_a_protocol_error(room: Room, code: int) -> None:
    async with await room.raw(tags=["strict"]) as client:
        await client.send(frame(CLOSE, close_body(code)))
        await client.expect_close(1002)
        await client.expect_end()
    assert (await room.saw("error"))["tags"] == ["strict"]
    assert await room.run(app.count) == 0
    assert room.all("close") == []


def close_with(probe: app.Probe, ws: Any, code: int) -> None:
    ws.close(code, "mine")


@pytest.mark.parametrize("code", [1016, 1100, 2000, 2999])
async def test_the_echo_of_a_code_that_the_object_has_sent_is_no_protocol_error(room: Room, code: int) -> None:
    """The object may send codes that RFC 6455 7.4.2 keeps for itself; clients echo what they get."""
    async with await room.raw() as client:
        await client.send(frame(TEXT, f'!{__name__}:close_with {{"code": {code}}}'))
        got = await client.expect_close(code)
        await client.send(frame(CLOSE, got.payload))
        await client.expect_end()
    assert facts(await room.saw("close")) == (code, "mine", True)
    assert room.all("error") == []


def accept_to_close(probe: app.Probe, request: Any, code: int) -> Any:
    response = app.accept_standard(probe, request, "close error")
    (ws,) = probe.memory["standard"]
    ws.add_event_listener("message", lambda event: ws.close(code, "mine"))
    return response


async def test_standard_the_echo_of_such_a_code_is_no_protocol_error(room: Room) -> None:
    async with await room.raw(accept_to_close, code=2999) as client:
        await client.send(frame(TEXT, "close"))
        await client.expect_close(2999)
        await client.send(frame(CLOSE, close_body(2999, "mine")))
        await client.expect_end()
    event = await room.saw("event")
    assert (event["type"], event["code"], event["reason"], event["clean"]) == ("close", 2999, "mine", True)


@pytest.mark.parametrize("body", [b"", b"\x03", close_body(999), close_body(1000) + b"\xff"])
async def test_whatever_answers_the_objects_close_ends_the_closing(room: Room, body: bytes) -> None:
    """Nothing is left to be failed once our Close is out."""
    async with await room.raw() as client:
        await client.send(frame(TEXT, f'!{__name__}:close_with {{"code": 4000}}'))
        await client.expect_close(4000)
        await client.send(frame(CLOSE, body))
        await client.expect_end()
    report = await room.saw("close")
    wanted = (int.from_bytes(body[:2]) if len(body) > 1 else 1005, "\ufffd" if body[2:] else "", True)
    assert facts(report) == wanted
    assert room.all("error") == []


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"\x03", 1002), (close_body(1000) + b"\xff\xfe", 1007), (close_body(1000, "x" * 124), 1002)],
    ids=["one byte", "invalid UTF-8", "126 bytes"],
)
async def test_malformed_close_bodies_are_a_protocol_error(room: Room, body: bytes, code: int) -> None:
    async with await room.raw() as client:
        await client.send(frame(CLOSE, body))
        await client.expect_close(code)
        await client.expect_end()
    await room.saw("error")
    assert room.all("close") == []


def close_reporting(probe: app.Probe, ws: Any, *_: Any) -> None:
    try:
        ws.close(1006)
    except InvalidCloseCode:
        probe.report("refused")
    ws.close(1000, "no-op")
    probe.report("state", state=ws.ready_state)


@pytest.mark.parametrize("how", ["reset", "end of stream"])
async def test_a_client_that_vanishes(room: Room, how: str) -> None:
    await room.when("close", close_reporting)
    async with await room.raw() as client:
        if how == "reset":
            client.reset()
        else:
            client.writer.write_eof()
        report = await room.saw("close")
        assert facts(report) == GONE
        assert report["state"] == 2
        await room.saw("refused")
        assert (await room.saw("state"))["state"] == 2, "close() on a client that is gone changes nothing"
        assert await room.run(app.count) == 0
        assert room.all("error") == []


async def test_a_handler_that_does_not_close_has_the_clients_code_echoed(room: Room) -> None:
    async with await room.raw() as client:
        await client.send(frame(CLOSE, close_body(4321, "mine")))
        await client.expect_close(4321)
        await client.expect_end()
    assert facts(await room.saw("close")) == (4321, "mine", True)


def close_4444(probe: app.Probe, ws: Any, *_: Any) -> None:
    ws.close(4444, "theirs")


async def close_4444_later(probe: app.Probe, ws: Any, *_: Any) -> None:
    await asyncio.sleep(0.02)
    ws.close(4444, "theirs")


@pytest.mark.parametrize("step", [close_4444, close_4444_later])
async def test_the_handlers_own_code_and_reason_go_out(room: Room, step: Any) -> None:
    await room.when("close", step)
    async with await room.raw() as client:
        await client.send(frame(CLOSE, close_body(1000, "mine")))
        assert (await client.expect_close(4444)).reason == "theirs"
        await client.expect_end()


def send_then_close(probe: app.Probe, ws: Any, *_: Any) -> None:
    ws.send("last")
    ws.send("words")
    ws.close(4000, "now")


async def test_what_the_handler_sends_comes_before_its_close(room: Room) -> None:
    await room.when("close", send_then_close)
    async with await room.raw() as client:
        await client.send(frame(CLOSE, close_body(1000)))
        await client.expect(TEXT, "last")
        await client.expect(TEXT, "words")
        await client.expect_close(4000)
        await client.expect_end()


def close_1005(probe: app.Probe, ws: Any, code: int, *_: Any) -> None:
    try:
        ws.close(code)
    except InvalidCloseCode as error:
        probe.report("refused", text=str(error))


async def test_1005_cannot_be_echoed_by_hand(room: Room) -> None:
    await room.when("close", close_1005)
    async with await room.raw() as client:
        await client.send(frame(CLOSE))
        assert "1005" in (await room.saw("refused"))["text"]
        assert (await client.expect(CLOSE)).payload == b""


def fail(probe: app.Probe, *_: Any) -> None:
    raise RuntimeError("on purpose")


async def test_a_handler_that_raises_is_as_if_it_did_nothing(room: Room) -> None:
    await room.when("close", fail)
    async with await room.raw() as client:
        await client.send(frame(CLOSE, close_body(1000, "mine")))
        await client.expect_close(1000)
        await client.expect_end()
    assert await room.run(app.count) == 0


async def test_frames_after_the_clients_close_are_ignored(room: Room) -> None:
    async with await room.raw() as client:
        await client.send(frame(CLOSE, close_body(1000)) + frame(TEXT, "late") + frame(PING, b"late"))
        await client.expect_close(1000)
        await client.expect_end()
    await room.saw("close")
    await room.run(app.nothing)
    assert room.all("message") == []


async def test_without_a_close_handler_the_client_is_answered_and_the_socket_removed(room_in: Any) -> None:
    silent: Room = room_in("silent")
    async with await silent.raw() as client:
        await client.send(frame(CLOSE, close_body(4100)))
        await client.expect_close(4100)
        await client.expect_end()
    from tests.support.client import request

    assert (await request(silent.cluster.port, "GET", silent.path())).text == "[]"


async def test_the_server_closes_and_the_client_answers(room: Room) -> None:
    async with await room.raw(tags=["t"]) as client:
        await room.run(app.close_all, code=4001, reason="bye")
        assert (await client.expect_close(4001)).reason == "bye"
        assert await room.run(app.states) == [2], "listed as closing, and nobody is told"
        assert room.all("close") == []
        await client.send(frame(CLOSE, close_body(4001, "bye")))
        await client.expect_end()
    report = await room.saw("close")
    assert facts(report) == (4001, "bye", True)
    assert report["state"] == 3
    assert await room.run(app.count) == 0


async def test_the_server_closes_and_the_client_answers_with_another_code(room: Room) -> None:
    async with await room.raw() as client:
        await room.run(app.close_all, code=4001, reason="bye")
        await client.expect_close(4001)
        await client.send(frame(CLOSE, close_body(4002, "other")))
        await client.expect_end()
    assert facts(await room.saw("close")) == (4002, "other", True)


async def test_the_server_closes_and_the_client_drops_tcp(room: Room) -> None:
    client = await room.raw()
    await room.run(app.close_all, code=4001, reason="bye")
    await client.expect_close(4001)
    client.reset()
    report = await room.saw("close")
    assert facts(report) == GONE
    assert report["state"] == 3
    assert await room.run(app.count) == 0


async def test_the_server_closes_and_the_client_goes_on_sending(room: Room) -> None:
    async with await room.raw() as client:
        await room.run(app.close_all, code=4001)
        await client.expect_close(4001)
        await client.send(frame(TEXT, "still"), frame(TEXT, "here"))
        assert [(await room.saw("message"))["data"] for _ in range(2)] == ["still", "here"]
        await client.send(frame(CLOSE, close_body(4001)))
        await client.expect_end()
    assert facts(await room.saw("close")) == (4001, "", True)


async def test_the_server_closes_and_the_client_never_answers(hasty: Cluster, reports: Reports) -> None:
    room = Room(hasty, reports, unique("never-answers"))
    async with await room.raw() as client:
        await room.run(app.close_all, code=4001)
        await client.expect_close(4001)
        await client.expect_end()
        assert facts(await room.saw("close")) == GONE
        assert await room.run(app.count) == 0


async def test_a_close_handler_that_takes_too_long_does_not_keep_the_client(hasty: Cluster, reports: Reports) -> None:
    room = Room(hasty, reports, unique("slow-handler"))
    await room.when("close", wait_in_close)
    async with await room.raw() as client:
        await client.send(frame(CLOSE, close_body(1000)))
        await room.saw("closing")
        await client.expect_close(1000)
        await client.expect_end()
        await room.run(open_gate)
        await room.saw("let go")  # it was not cancelled


@pytest.fixture(scope="module")
def hasty(reports: Reports) -> Any:
    """A cluster that waits for 0.3 s where others wait for 10."""
    shard = {"hibernate_after_s": 60.0, "vars": [f"REPORT={reports.path}"]}
    with Cluster(app.__name__, router={"close_timeout_s": 0.3}, shard=shard) as cluster:
        yield cluster


async def wait_then_send(probe: app.Probe, ws: Any) -> None:
    probe.report("waiting")
    await probe.memory.setdefault("gate", asyncio.Event()).wait()
    ws.send("from the message's handler")
    probe.report("sent")


async def test_close_comes_between_a_waiting_message_handler_whose_send_still_arrives(room: Room) -> None:
    """As long as the close handler runs: then the router answers and ends the connection."""
    await room.when("close", wait_in_close)
    async with await room.raw() as client:
        await client.send(frame(TEXT, f"!{__name__}:wait_then_send"))
        await room.saw("waiting")
        await client.send(frame(CLOSE, close_body(1000)))
        await room.saw("closing")
        await room.run(open_gate)
        await client.expect(TEXT, "from the message's handler")
        await client.expect_close(1000)


async def test_after_a_reset_the_send_of_a_waiting_handler_is_dropped(room: Room) -> None:
    client = await room.raw()
    await client.send(frame(TEXT, f"!{__name__}:wait_then_send"))
    await room.saw("waiting")
    client.reset()
    assert facts(await room.saw("close")) == GONE
    await room.run(open_gate)
    await room.saw("sent")
    assert await room.run(app.count) == 0


def keep(probe: app.Probe, ws: Any, *_: Any) -> None:
    probe.memory["kept"] = ws


def close_and_keep(probe: app.Probe, ws: Any, *_: Any) -> None:
    ws.close(4000)
    probe.memory["kept"] = ws


def use_kept(probe: app.Probe, call: str) -> Any:
    ws = probe.memory["kept"]
    return {
        "send": lambda: ws.send("late"),
        "close": lambda: ws.close(1000, "late"),
        "accept": lambda: probe.ctx.accept_web_socket(ws),
        "tags": lambda: probe.ctx.get_tags(ws),
        "attachment": lambda: (ws.serialize_attachment(5), ws.deserialize_attachment())[1],
        "state": lambda: ws.ready_state,
    }[call]()


@pytest.mark.parametrize("closed_by_us", [False, True])
async def test_a_kept_socket_after_its_removal(room: Room, closed_by_us: bool) -> None:
    await room.when("close", close_and_keep if closed_by_us else keep)
    async with await room.connect(tags=["a", "b"]) as client:
        await client.close(1000)
    await room.saw("close")
    assert await room.run(app.count) == 0
    assert await room.run(use_kept, call="state") in (2, 3)
    assert await room.run(use_kept, call="tags") == ["a", "b"]
    assert await room.run(use_kept, call="attachment") == 5
    if closed_by_us:
        await room.refused(use_kept, SocketClosed, call="send")
    else:
        assert await room.run(use_kept, call="send") is None
    assert await room.run(use_kept, call="close") is None
    await room.refused(use_kept, AlreadyAccepted, call="accept")


# --- accept() -----------------------------------------------------------------------------------------------------


def close_standard(probe: app.Probe, code: int, reason: str) -> None:
    (ws,) = probe.memory["standard"]
    ws.close(code, reason)


@pytest.mark.parametrize(("body", "seen"), [(close_body(3001, "bye"), (3001, "bye", True)), (b"", (1005, "", True))])
async def test_standard_the_client_closes(room: Room, body: bytes, seen: tuple[int, str, bool]) -> None:
    async with await room.raw(app.accept_standard) as client:
        await client.send(frame(CLOSE, body))
        assert (await client.expect(CLOSE)).payload == body
        await client.expect_end()
    event = await room.saw("event")
    assert event["type"] == "close"
    assert facts(event) == seen
    assert event["state"] == 3


async def test_standard_the_client_vanishes(room: Room) -> None:
    client = await room.raw(app.accept_standard)
    client.reset()
    event = await room.saw("event")
    assert (event["type"], *facts(event)) == ("close", *GONE)
    assert event["state"] == 1
    await room.run(app.nothing)
    assert await room.run(standard_states) == [2]  # for loops over sockets that ask whether to send


def standard_states(probe: app.Probe) -> list[int]:
    return [ws.ready_state for ws in probe.memory["standard"]]


async def test_standard_the_server_closes(room: Room) -> None:
    async with await room.raw(app.accept_standard) as client:
        await room.run(close_standard, code=4003, reason="enough")
        assert (await client.expect_close(4003)).reason == "enough"
        await client.send(frame(CLOSE, close_body(4003, "enough")))
        await client.expect_end()
    event = await room.saw("event")
    assert (event["type"], *facts(event)) == ("close", 4003, "enough", True)
    assert event["state"] == 3
