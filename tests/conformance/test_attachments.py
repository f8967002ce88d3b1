"""``serialize_attachment`` and ``deserialize_attachment``."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest

from roost.common.errors import AttachmentTooLarge, DataCloneError
from roost.shard import WebSocketPair
from tests.conformance import app
from tests.conformance.driver import Room
from tests.support.carried import CARRIED, assert_same


def only_socket(probe: app.Probe) -> Any:
    (ws,) = probe.ctx.get_web_sockets()
    return ws


def attachment(probe: app.Probe) -> Any:
    return only_socket(probe).deserialize_attachment()


def attach(probe: app.Probe, value: Any) -> None:
    only_socket(probe).serialize_attachment(value)


async def test_never_set(room: Room) -> None:
    async with await room.connect():
        assert await room.run(attachment) is None


def attach_text(probe: app.Probe, size: int) -> int:
    """Attach a value of *size* bytes as serialised, and return that size by an encoder of our own."""
    text = "x" * (size - 3)  # CBOR: three bytes of head from 256 characters on
    assert len(cbor2.dumps(text)) == size
    only_socket(probe).serialize_attachment(text)
    return len(only_socket(probe).deserialize_attachment())


async def test_the_limit_is_2048_bytes_of_the_serialised_value(room: Room) -> None:
    async with await room.connect():
        assert await room.run(attach_text, size=2048) == 2045
        await room.refused(attach_text, AttachmentTooLarge, "2049", "2048", size=2049)


async def test_after_a_failed_set_the_earlier_value_is_kept(room: Room) -> None:
    async with await room.connect():
        await room.run(attach, value={"kept": 1})
        await room.refused(attach_text, AttachmentTooLarge, size=3000)
        await room.refused(attach_what_cannot, DataCloneError, kind="function")
        assert await room.run(attachment) == {"kept": 1}


def round_trip(probe: app.Probe, row: str) -> int:
    ws = only_socket(probe)
    for value in CARRIED[row]:
        ws.serialize_attachment(value)
        assert_same(value, ws.deserialize_attachment())
    ws.serialize_attachment(CARRIED[row])
    return len(CARRIED[row])


@pytest.mark.parametrize("row", CARRIED)
async def test_values_round_trip(room: Room, row: str) -> None:
    """Each row of the table in deploy/docs/attachments.md."""
    async with await room.connect():
        assert await room.run(round_trip, row=row) == len(CARRIED[row])


def kept(probe: app.Probe, row: str) -> int:
    assert_same(CARRIED[row], attachment(probe))
    return probe.life


@pytest.mark.parametrize("row", ["datetime, aware", "datetime, naive", "exception", "set", "instance of a subclass"])
async def test_values_outlive_hibernation(drowsy: Room, row: str) -> None:
    async with await drowsy.connect():
        await drowsy.run(round_trip, row=row)
        await drowsy.asleep()
        assert await drowsy.run(kept, row=row) == 2


def share(probe: app.Probe) -> list[bool]:
    ws = only_socket(probe)
    shared: dict[str, Any] = {"a": 1}
    shared["me"] = shared
    ws.serialize_attachment([shared, shared])
    one, other = ws.deserialize_attachment()
    return [one is other, one["me"] is one, one["a"] == 1]


async def test_shared_references_and_cycles_come_back_as_they_are(room: Room) -> None:
    async with await room.connect():
        assert await room.run(share) == [True, True, True]


def attach_tuple(probe: app.Probe) -> bool:
    ws = only_socket(probe)
    ws.serialize_attachment((1, ("a",)))
    back = ws.deserialize_attachment()
    return isinstance(back, list) and back == [1, ["a"]]


async def test_a_tuple_comes_back_as_a_list(room: Room) -> None:
    async with await room.connect():
        assert await room.run(attach_tuple)


def attach_what_cannot(probe: app.Probe, kind: str) -> None:
    cycle = ValueError()
    cycle.args = (cycle,)
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    only_socket(probe).serialize_attachment(
        {
            "function": attach,
            "object": object(),
            "inside": {"a": [1, attach]},
            "class": app.Probe,
            "socket": only_socket(probe),
            "cycle": cycle,
            "deep": deep,
            "surrogate": "\ud800",
        }[kind]
    )


@pytest.mark.parametrize("kind", ["function", "object", "inside", "class", "socket", "cycle", "deep", "surrogate"])
async def test_what_cannot_be_cloned_is_a_data_clone_error(room: Room, kind: str) -> None:
    async with await room.connect():
        await room.refused(attach_what_cannot, DataCloneError, kind=kind)
        await room.refused(attach_what_cannot, TypeError, kind=kind)
        assert await room.run(attachment) is None


def damage(probe: app.Probe) -> None:
    only_socket(probe).socket.attachment = b"\xff"


async def test_an_attachment_that_cannot_be_read_may_be_replaced(room: Room) -> None:
    async with await room.connect():
        await room.run(damage)
        await room.refused(attachment, DataCloneError, "cannot be read back")
        await room.run(attach, value="anew")
        assert await room.run(attachment) == "anew"


def attach_nothing(probe: app.Probe) -> None:
    only_socket(probe).serialize_attachment()


async def test_no_argument_is_a_type_error(room: Room) -> None:
    async with await room.connect():
        await room.refused(attach_nothing, TypeError)


def change_after_attaching(probe: app.Probe) -> list[Any]:
    ws = only_socket(probe)
    value = {"list": [1]}
    ws.serialize_attachment(value)
    value["list"].append(2)
    first = ws.deserialize_attachment()
    first["list"].append(3)
    return [ws.deserialize_attachment()]


async def test_the_value_is_copied(room: Room) -> None:
    async with await room.connect():
        assert await room.run(change_after_attaching) == [{"list": [1]}]


def attach_more_in_close(probe: app.Probe, ws: Any, *_: Any) -> None:
    before = ws.deserialize_attachment()
    ws.serialize_attachment([before, "in the handler"])
    probe.report("attachment", value=ws.deserialize_attachment())
    probe.memory["kept"] = ws


def attach_to_kept(probe: app.Probe) -> Any:
    probe.memory["kept"].serialize_attachment("after")
    return probe.memory["kept"].deserialize_attachment()


async def test_attachments_work_in_the_close_handler_and_after(room: Room) -> None:
    await room.when("close", attach_more_in_close)
    async with await room.connect() as client:
        await room.run(attach, value="before")
        await client.close()
    assert (await room.saw("attachment"))["value"] == ["before", "in the handler"]
    assert await room.run(app.count) == 0
    assert await room.run(attach_to_kept) == "after"


async def test_attachments_work_after_the_servers_close(room: Room) -> None:
    async with await room.raw():
        await room.run(app.close_all, code=4000)
        await room.run(attach, value="closing")
        assert await room.run(attachment) == "closing"


def attach_and_mark(probe: app.Probe, value: Any) -> None:
    ws = only_socket(probe)
    ws.serialize_attachment(value)
    try:
        ws.mark = "a property of the object"
    except AttributeError:
        pass  # slots refuse it from the start, which forgets it as well


def attachment_and_mark(probe: app.Probe) -> list[Any]:
    ws = only_socket(probe)
    return [probe.life, ws.deserialize_attachment(), getattr(ws, "mark", None)]


async def test_the_last_attachment_outlives_hibernation(drowsy: Room) -> None:
    async with await drowsy.connect():
        await drowsy.run(attach, value="first")
        await drowsy.run(attach_and_mark, value={"second": [1, 2]})
        await drowsy.asleep()
        assert await drowsy.run(attachment_and_mark) == [2, {"second": [1, 2]}, None]


def attach_to_a_fresh_socket(probe: app.Probe) -> Any:
    _, server = WebSocketPair()
    before = server.deserialize_attachment()
    server.serialize_attachment(1)
    return [before, server.deserialize_attachment()]


async def test_attachments_need_no_accept(room: Room) -> None:
    assert await room.run(attach_to_a_fresh_socket) == [None, 1]
