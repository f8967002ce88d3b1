"""Messages that go ahead in pieces: order, what waits behind them, who shares them, and what becomes of them."""

from __future__ import annotations

from typing import Any

import pytest

from roost.common.errors import OutboxFull
from roost.common.limits import OUTBOX_BYTES
from roost.common.wire.records.writing import PIECE_BYTES
from roost.shard.outgoing.outbox import LARGE_BYTES
from tests.unit.shard.harness import Room, World, on_virtual_time, turns
from tests.unit.shard.outgoing.test_flow import after, handle, talker, world_of

MIB = 1 << 20


def said(records: list[Any], *counters: int) -> list[Any]:
    """What connections were sent, each message by its first character and length."""
    return [
        (record[2][:1], len(record[2])) for record in records if record[0] == "send" and set(record[1]) & set(counters)
    ]


@pytest.mark.parametrize(
    "payload", [bytes(range(256)) * 8192, "x" * (2 * MIB), "ü" * MIB, "\U0001f600" * 100_000, b"y" * LARGE_BYTES]
)
@on_virtual_time
async def test_a_large_message_arrives_as_it_was(payload: str | bytes) -> None:
    world, (counter,) = await world_of()
    world.router.message(counter, payload)
    records = await after(world.router)
    assert [record for record in records if record[0] in ("send", "ack")] == [
        ("send", [counter], payload),
        ("ack", [(counter, 1, 1)]),
    ]
    size = len(payload if isinstance(payload, bytes) else payload.encode())
    assert world.router.link.pieces == -(-size // PIECE_BYTES)
    assert (talker(world).outbox.size, world.host.flow.held.taken, world.host.flow.waiting) == (0, 0, 0)
    assert not world.router.peer.held


@on_virtual_time
async def test_what_a_client_is_sent_behind_a_large_message_waits_and_nobody_else_does() -> None:
    world, (counter, other) = await world_of(2)
    router, ws = world.router, handle(world)
    router.link.takes_pieces = False
    ws.send("before")
    ws.send(bytes(20 * MIB))
    ws.send("after")
    handle(world, 1).send("news")
    ws.close(1000)
    records = await after(router)
    assert ("owed", counter, True) in records, "should the shard die now, the router knows"
    assert (said(records, counter), said(records, other)) == ([("b", 6)], [("n", 4)])
    router.message(other, "echo")
    assert said(await after(router), other) == [("e", 4)]
    assert ws.buffered_amount == 20 * MIB + 5
    records = []
    for _ in range(30):
        router.link.take_pieces()
        if ("owed", counter, True) in records:
            router.room(counter, 1)
        came = await after(router)
        assert router.link.session.unconfirmed_bytes < 2 * MIB, "a little in each turn"
        records += came
    assert said(records, counter) == [(b"\0", 20 * MIB), ("a", 5)]
    assert [record[0] for record in records if record[0] in ("close", "owed")] == ["owed", "close", "owed"]


@on_virtual_time
async def test_events_of_the_connection_are_acknowledged_behind_it_and_those_of_others_at_once() -> None:
    world, (counter, other) = await world_of(2)
    router = world.router
    router.link.takes_pieces = False
    router.message(counter, bytes(9 * MIB))
    router.message(counter, "nothing")
    router.message(other, "cast")
    records = await after(router)
    assert [record[1] for record in records if record[0] == "ack"] == [[(other, 1, 1)]]
    assert said(records, other) == [("t", 6)]
    records = []
    router.room(counter, 20 * MIB)
    for _ in range(20):
        router.link.take_pieces()
        records += await after(router)
    assert [record[0] for record in records] == ["send", "send", "owed", "ack"]
    assert records[-1] == ("ack", [(counter, 1, 2)])


@on_virtual_time
async def test_those_that_get_the_same_share_its_pieces() -> None:
    world, counters = await world_of(5)
    payload = "x" * (4 * MIB)
    for number in range(5):
        handle(world, number).send(payload)
    assert talker(world).outbox.size < 5 * MIB
    records = await after(world.router)
    assert [sorted(record[1]) for record in records if record[0] == "send"] == [counters]
    assert world.router.link.pieces == -(-4 * MIB // PIECE_BYTES)


@on_virtual_time
async def test_who_leaves_does_not_take_it_from_others_and_the_last_one_ends_it() -> None:
    world, counters = await world_of(2)
    router = world.router
    router.link.takes_pieces = False
    payload = bytes(20 * MIB)
    for number in range(2):
        handle(world, number).send(payload)
    await after(router)
    router.closed(counters[0], 1006, "gone", clean=False)
    await after(router)
    pieces = router.link.pieces
    router.link.take_pieces()
    await after(router)
    assert router.link.pieces > pieces
    assert router.link.parts.size > 0
    router.closed(counters[1], 1006, "gone", clean=False)
    await after(router)
    assert (len(router.link.parts), router.link.parts.size) == (0, 0), "the router has forgotten it"
    assert (talker(world).outbox.size, world.host.flow.held.taken, world.host.flow.shipping) == (0, 0, {})


@on_virtual_time
async def test_a_full_connection_has_to_be_asked_first() -> None:
    world, (counter,) = await world_of()
    router = world.router
    router.room(counter, 0)
    router.message(counter, bytes(2 * MIB))
    router.message(counter, "behind")
    assert await after(router) == [("owed", counter, True)]
    assert router.link.pieces == 0
    router.room(counter, 1 * MIB)
    records = await after(router)
    assert said(records, counter) == [(b"\0", 2 * MIB)], (
        "one message of any size, and it is more than there was room for"
    )
    assert records[-1] == ("owed", counter, True)
    router.room(counter, 1)
    records = await after(router)
    assert said(records, counter) == [("b", 6)]
    assert records[-1] == ("ack", [(counter, 1, 2)])


@on_virtual_time
async def test_what_was_sent_before_the_connection_was_full_stays_ahead() -> None:
    """A large message and another, in the turn in which the router says that there is no room."""
    world, (counter,) = await world_of()
    router, ws = world.router, handle(world)
    ws.send("one")
    ws.send(bytes(MIB))
    ws.send("two")
    router.events.room(counter, 0)
    ws.send("three")
    ws.close(1000)
    records = await after(router)
    for _ in range(5):
        router.room(counter, 4 * MIB)
        records += await after(router)
    assert said(records, counter) == [("o", 3), (b"\0", MIB), ("t", 3), ("t", 5)]
    assert [record[0] for record in records if record[0] in ("send", "close")][-1] == "close"
    assert world.host.flow.held.taken == 0


@on_virtual_time
async def test_a_close_stays_behind_when_the_connection_becomes_full_between() -> None:
    world, (counter,) = await world_of()
    router, ws = world.router, handle(world)
    ws.send(bytes(MIB))
    router.events.room(counter, 0)
    ws.close(1000)
    records = await after(router)
    router.room(counter, 4 * MIB)
    records += await after(router)
    assert [record[0] for record in records if record[0] in ("send", "close")] == ["send", "close"]


@on_virtual_time
async def test_before_the_101_messages_and_a_close_keep_their_order() -> None:
    class Greeter(Room):
        async def fetch(self, request: Any) -> Any:
            response = await super().fetch(request)
            (ws,) = self.ctx.get_web_sockets()
            ws.send("hello")
            ws.send("x" * (3 * MIB))
            ws.send("bye")
            ws.close(1000)
            return response

    world = World(Greeter)
    counter = await world.router.connect(namespace="greeter")
    records = await after(world.router)
    assert [record[0] for record in records if record[0] in ("response", "send", "close")] == [
        "response",
        "send",
        "send",
        "send",
        "close",
    ]
    assert said(records, counter) == [("h", 5), ("x", 3 * MIB), ("b", 3)]


@on_virtual_time
async def test_an_object_that_moves_goes_when_its_large_messages_have_gone() -> None:
    world, (counter,) = await world_of()
    router = world.router
    router.link.prompt = True
    router.link.takes_pieces = False
    router.message(counter, bytes(10 * MIB))
    router.message(counter, "behind")
    await after(router)
    world.send_away_object("talker", "lobby")
    records = await after(router)
    assert "released" not in [record[0] for record in records]
    for _ in range(20):
        router.link.take_pieces()
        records += await after(router)
    assert said(records, counter) == [(b"\0", 10 * MIB), ("b", 6)]
    names = [record[0] for record in records if record[0] != "ack" or record[1]]
    assert names[-1] == "released"
    assert ("ack", [(counter, 1, 2)]) in records


@on_virtual_time
async def test_room_that_a_router_tells_of_holds_up_no_object_that_moves() -> None:
    """It may have been told of before the router knew, for a client that takes nothing more."""
    world, (counter,) = await world_of()
    router = world.router
    router.link.prompt = True
    router.link.takes_pieces = False
    for _ in range(3):
        router.message(counter, bytes(2 * MIB))
    await after(router)
    world.send_away_object("talker", "lobby")
    records = await after(router)
    router.room(counter, MIB)
    for _ in range(20):
        router.link.take_pieces()
        records += await after(router)
    assert said(records, counter) == [(b"\0", 2 * MIB)] * 3
    assert "released" in [record[0] for record in records]


@on_virtual_time
async def test_a_shard_that_ends_lets_large_messages_go_first() -> None:
    world, (counter,) = await world_of()
    router = world.router
    router.link.prompt = True
    handle(world).send(bytes(10 * MIB))
    await world.host.aclose(1.0)
    assert said(router.take(), counter) == [(b"\0", 10 * MIB)]


@on_virtual_time
async def test_a_reset_closes_behind_a_large_message() -> None:
    world, (counter,) = await world_of()
    handle(world).send(bytes(MIB))
    world.router.message(counter, "abort")
    records = await after(world.router)
    assert [record[0] for record in records if record[0] in ("send", "close")] == ["send", "send", "close"]
    await turns()
    assert not world.router.peer.held


@on_virtual_time
async def test_a_router_that_goes_leaves_nothing() -> None:
    world, (first, second) = await world_of(2, routers=2)
    payload = bytes(9 * MIB)
    for router in world.routers:
        router.link.takes_pieces = False
    for number in range(2):
        handle(world, number).send(payload)
    await turns()
    assert len(world.host.flow.shipping) == 2
    stays = world.routers[1]
    del world.routers[0]
    world.publish()
    records = []
    for _ in range(12):
        stays.link.take_pieces()
        records += await after(stays)
    assert said(records, second) == [(b"\0", 9 * MIB)]
    assert (talker(world).outbox.size, world.host.flow.held.taken, world.host.flow.shipping) == (0, 0, {})
    assert first != second


@on_virtual_time
async def test_one_that_is_larger_than_the_bound_leaves_room_for_others() -> None:
    world, (counter, other) = await world_of(2)
    router = world.router
    router.link.takes_pieces = False
    handle(world).send(bytes(2 * OUTBOX_BYTES))
    await after(router)
    handle(world, 1).send(b"y" * MIB)
    handle(world, 1).send("news")
    with pytest.raises(OutboxFull):
        handle(world, 1).send(bytes(2 * OUTBOX_BYTES))
    assert world.host.flow.held.taken >= 2 * OUTBOX_BYTES, "memory is counted as it is"
    records = []
    for _ in range(8):
        router.link.take_pieces()
        records += await after(router)
    assert said(records, other) == [(b"y", MIB), ("n", 4)]
    assert said(records, counter) == []


@on_virtual_time
async def test_what_many_get_of_their_own_in_one_turn_leaves_in_several() -> None:
    """No single one is large, all of them together are."""
    world, counters = await world_of(100)
    for number in range(100):
        handle(world, number).send(bytes([number]) * (200 << 10))
    world.host.output.flush()
    first = [record for record in world.router.take() if record[0] == "send"]
    assert sum(len(record[2]) for record in first) <= 4 * MIB
    sent = first + [record for record in await after(world.router) if record[0] == "send"]
    assert sorted(record[1][0] for record in sent) == sorted(counters)
    assert world.host.flow.held.taken == 0
