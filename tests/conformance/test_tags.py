"""Tags, ``accept_web_socket``, ``get_tags``, ``get_web_sockets``."""

from __future__ import annotations

from typing import Any

import pytest

from roost.common.errors import NotAccepted, TagTooLong, TooManyTags
from roost.shard import Request, Response, WebSocketPair
from tests.conformance import app
from tests.conformance.driver import Room


def try_tags(probe: app.Probe, tags: Any) -> None:
    _, server = WebSocketPair()
    probe.ctx.accept_web_socket(server, tags)


def try_unserialisable_tags(probe: app.Probe, kind: str) -> None:
    try_tags(probe, {"bytes": [b"x"], "object": [object()], "nested": [["a", "b"]], "range": range(3)}[kind])


async def test_ten_tags(room: Room) -> None:
    ten = [f"tag-{n}" for n in range(10)]
    async with await room.connect(tags=ten):
        assert await room.run(app.tags) == [ten]


async def test_eleven_distinct_tags_are_refused(room: Room) -> None:
    await room.refused(try_tags, TooManyTags, "11", "10", tags=[f"tag-{n}" for n in range(11)])


async def test_duplicate_tags_are_dropped_and_the_first_seen_order_is_kept(room: Room) -> None:
    async with await room.connect(tags=["b", "a", "b", "a", "c", "a", "a", "a", "a", "a", "a"]):
        assert await room.run(app.tags) == [["b", "a", "c"]]
        assert await room.run(app.count, tag="b") == 1


async def test_duplicates_are_dropped_before_tags_are_counted(room: Room) -> None:
    ten = [f"tag-{n}" for n in range(10)]
    async with await room.connect(tags=[*ten, ten[3]]):
        assert await room.run(app.tags) == [ten]


@pytest.mark.parametrize("letter", ["t", "ä", "€", "𝄞"])
async def test_a_tag_has_up_to_256_characters_of_any_size(room: Room, letter: str) -> None:
    async with await room.connect(tags=[letter * 256]):
        assert await room.run(app.count, tag=letter * 256) == 1
        assert await room.run(app.tags) == [[letter * 256]]
    await room.refused(try_tags, TagTooLong, "257", "256", tags=[letter * 257])


async def test_the_empty_tag(room: Room) -> None:
    async with await room.connect(tags=[""]):
        assert await room.run(app.tags) == [[""]]
        assert await room.run(app.count, tag="") == 1


@pytest.mark.parametrize("tags", [[], None])
async def test_no_tags(room: Room, tags: Any) -> None:
    async with await room.connect(tags=tags):
        assert await room.run(app.tags) == [[]]


def accept_without_the_argument(probe: app.Probe, request: Request) -> Response:
    client, server = WebSocketPair()
    probe.ctx.accept_web_socket(server)
    return Response(status=101, web_socket=client)


async def test_tags_left_out(room: Room) -> None:
    async with await room.connect(accept_without_the_argument):
        assert await room.run(app.tags) == [[]]


@pytest.mark.parametrize("tag", [5, None, True, 1.5, {}, ["a", "b"]])
async def test_a_tag_that_is_no_string_is_a_type_error(room: Room, tag: Any) -> None:
    await room.refused(try_tags, TypeError, tags=[tag])


@pytest.mark.parametrize("tags", ["tag", 5, {"a": 1}])
async def test_tags_that_are_no_list_are_a_type_error(room: Room, tags: Any) -> None:
    await room.refused(try_tags, TypeError, tags=tags)


@pytest.mark.parametrize("kind", ["bytes", "object", "nested", "range"])
async def test_python_values_that_are_no_tags_are_a_type_error(room: Room, kind: str) -> None:
    await room.refused(try_unserialisable_tags, TypeError, kind=kind)


def accept_what_is_no_socket(probe: app.Probe, what: Any) -> None:
    probe.ctx.accept_web_socket(what)


def accept_nothing(probe: app.Probe) -> None:
    probe.ctx.accept_web_socket()


async def test_what_is_no_socket_is_a_type_error(room: Room) -> None:
    await room.refused(accept_nothing, TypeError)
    for what in (None, "ws", 5, {}):
        await room.refused(accept_what_is_no_socket, TypeError, what=what)


def report_tags_of(probe: app.Probe, ws: Any, *_: Any) -> None:
    probe.report("tags", tags=probe.ctx.get_tags(ws))
    probe.memory["kept"] = ws


def tags_of_kept(probe: app.Probe) -> list[str]:
    return probe.ctx.get_tags(probe.memory["kept"])


async def test_get_tags_keeps_its_order_in_and_after_the_close_event(room: Room) -> None:
    await room.when("close", report_tags_of)
    async with await room.connect(tags=["z", "a", "m"]) as client:
        assert await room.run(app.tags) == [["z", "a", "m"]]
        await client.close()
    assert (await room.saw("tags"))["tags"] == ["z", "a", "m"]
    assert await room.run(app.count) == 0
    assert await room.run(tags_of_kept) == ["z", "a", "m"]


def tags_of_a_fresh_socket(probe: app.Probe) -> list[str]:
    _, server = WebSocketPair()
    return probe.ctx.get_tags(server)


async def test_get_tags_of_a_socket_not_accepted(room: Room) -> None:
    await room.refused(tags_of_a_fresh_socket, NotAccepted)


def tags_of_a_standard_socket(probe: app.Probe) -> list[str]:
    (standard,) = probe.memory["standard"]
    return probe.ctx.get_tags(standard)


async def test_get_tags_of_a_standard_socket(room: Room) -> None:
    async with await room.connect(app.accept_standard):
        await room.refused(tags_of_a_standard_socket, NotAccepted)


def order(probe: app.Probe, tag: Any = None) -> list[str]:
    """The second tag of each socket, which tells them apart."""
    sockets = probe.ctx.get_web_sockets() if tag is None else probe.ctx.get_web_sockets(tag)
    return [probe.ctx.get_tags(ws)[1] for ws in sockets]


async def test_all_sockets_come_newest_first(room: Room) -> None:
    clients = [await room.connect(tags=["all", str(n)]) for n in range(5)]
    assert await room.run(order) == ["4", "3", "2", "1", "0"]
    await clients[2].close()
    await room.saw("close")
    assert await room.run(order) == ["4", "3", "1", "0"]
    for client in clients:
        await client.close()


async def test_sockets_of_a_tag_come_oldest_first(room: Room) -> None:
    clients = [await room.connect(tags=["all", str(n)]) for n in range(5)]
    assert await room.run(order, tag="all") == ["0", "1", "2", "3", "4"]
    await clients[2].close()
    await room.saw("close")
    assert await room.run(order, tag="all") == ["0", "1", "3", "4"]
    for client in clients:
        await client.close()


async def test_an_unknown_tag_finds_nothing_and_none_finds_all(room: Room) -> None:
    async with await room.connect(tags=["all", "0"]):
        assert await room.run(order, tag="other") == []
        assert await room.run(order, tag="al") == []
        assert await room.run(order_of_none) == ["0"]


def order_of_none(probe: app.Probe) -> list[str]:
    return [probe.ctx.get_tags(ws)[1] for ws in probe.ctx.get_web_sockets(None)]


def get_with_tag(probe: app.Probe, tag: Any) -> list[Any]:
    return probe.ctx.get_web_sockets(tag)


async def test_a_tag_to_look_for_must_be_a_string(room: Room) -> None:
    await room.refused(get_with_tag, TypeError, tag=5)


def everything_at_first(probe: app.Probe) -> list[Any]:
    ctx = probe.ctx
    return [
        ctx.get_web_sockets(),
        ctx.get_web_sockets("any"),
        ctx.get_web_socket_auto_response(),
        ctx.get_hibernatable_web_socket_event_timeout(),
    ]


async def test_before_any_accept(room: Room) -> None:
    assert await room.run(everything_at_first) == [[], [], None, None]


def keep_accepted(probe: app.Probe, request: Request) -> Response:
    client, server = WebSocketPair()
    probe.ctx.accept_web_socket(server, ["kept"])
    probe.memory["kept"] = server
    return Response(status=101, web_socket=client)


def same_as_kept(probe: app.Probe, ws: Any) -> None:
    kept = probe.memory["kept"]
    listed = probe.ctx.get_web_sockets()[0]
    tagged = probe.ctx.get_web_sockets("kept")[0]
    ws.send("same" if kept is ws and listed is ws and tagged is ws else "different")


async def test_a_socket_is_one_object_throughout_a_life(room: Room) -> None:
    async with await room.connect(keep_accepted) as client:
        for _ in range(2):
            await client.say(same_as_kept)
            assert await client.receive() == "same"


async def test_standard_sockets_are_not_listed(room: Room) -> None:
    async with await room.connect(app.accept_standard), await room.connect(tags=["hibernatable"]):
        assert await room.run(app.tags) == [["hibernatable"]]
