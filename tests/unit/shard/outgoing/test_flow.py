"""Output of connections that are full: held, in order, at nobody else's expense."""

from __future__ import annotations

import contextlib
import tracemalloc
from typing import Any

import pytest

from roost.common.errors import OutboxFull
from roost.common.ids import id_from_name
from roost.common.limits import OUTBOX_BYTES, SEND_BUFFER_BYTES
from roost.shard import WebSocket
from tests.support.links import Record
from tests.unit.shard.harness import Room, Router, World, on_virtual_time, turns

KIB, MIB = 1 << 10, 1 << 20


class Talker(Room):
    """Does what its messages say."""

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        if message == "cast":
            for peer in self.ctx.get_web_sockets(""):
                peer.send("to all")
        elif message == "bye":
            ws.send("last words")
            ws.close(4000, "bye")
        elif message == "attach":
            ws.serialize_attachment("new")
        elif message == "abort":
            ws.send("before")
            self.ctx.abort("as asked")
        elif message == "drain":
            await ws.drain()
            ws.send("drained")
        elif message != "nothing":
            ws.send(message)

    async def web_socket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None:
        ws.send("so long")


async def world_of(clients: int = 1, routers: int = 1, **config: Any) -> tuple[World, list[int]]:
    world = World(Talker, routers=routers, **config)
    counters = [
        await world.routers[number % routers].connect(namespace="talker", query="tag=") for number in range(clients)
    ]
    for router in world.routers:
        router.take()
    return world, counters


def talker(world: World) -> Any:
    return world.host.objects.get(id_from_name("talker", "lobby"))


def handle(world: World, number: int = 0) -> WebSocket:
    sockets: list[WebSocket] = talker(world).sockets.newest_first()
    return sockets[-1 - number]


async def after(router: Router) -> list[Record]:
    await turns()
    return router.take()


# --- held and released --------------------------------------------------------------------------------------------


@on_virtual_time
async def test_what_is_sent_to_a_full_connection_waits_and_its_router_knows() -> None:
    world, (counter,) = await world_of()
    router = world.router
    router.room(counter, 0)
    assert await after(router) == [], "nothing waits yet"
    for text in ("one", "two", "three"):
        router.message(counter, text)
    assert await after(router) == [("owed", counter, True)]
    assert handle(world).buffered_amount == len("onetwothree")
    router.room(counter, 1000)
    assert await after(router) == [
        ("send", [counter], "one"),
        ("send", [counter], "two"),
        ("send", [counter], "three"),
        ("owed", counter, False),
        ("ack", [(counter, 1, 3)]),
    ]
    assert (handle(world).buffered_amount, talker(world).outbox.size, world.host.flow.held.taken) == (0, 0, 0)
    router.message(counter, "four")
    assert await after(router) == [("send", [counter], "four"), ("ack", [(counter, 4, 4)])]


@on_virtual_time
async def test_a_piece_is_as_large_as_the_room_or_one_message_of_any_size() -> None:
    world, (counter,) = await world_of()
    router = world.router
    router.room(counter, 0)
    for size in (500, 600, 5000, 10):
        router.message(counter, bytes(size))
    await after(router)
    pieces = []
    for _ in range(4):
        router.room(counter, 1000)
        records = await after(router)
        pieces.append([len(record[2]) for record in records if record[0] == "send"])
        assert ("owed", counter, len(pieces) < 4) in records
    assert pieces == [[500], [600], [5000], [10]]


@on_virtual_time
async def test_each_acknowledgement_of_its_events_leaves_behind_what_they_have_said() -> None:
    world, (counter,) = await world_of()
    router = world.router
    router.room(counter, 0)
    router.message(counter, b"x" * 600)
    router.message(counter, "nothing")
    await turns()
    router.message(counter, b"y" * 600)
    await after(router)
    router.room(counter, 1000)
    assert [record for record in await after(router) if record[0] == "ack"] == [("ack", [(counter, 1, 2)])]
    router.room(counter, 1000)
    assert [record for record in await after(router) if record[0] == "ack"] == [("ack", [(counter, 3, 3)])]


@on_virtual_time
async def test_a_broadcast_stays_one_record_for_all_others_and_is_acknowledged() -> None:
    world, counters = await world_of(5)
    router = world.router
    slow, sender = counters[2], counters[0]
    router.room(slow, 0)
    router.message(sender, "cast")
    others = [counter for counter in counters if counter != slow]
    assert sorted(await after(router), key=lambda record: record[0]) == [
        ("ack", [(sender, 1, 1)]),
        ("owed", slow, True),
        ("send", others, "to all"),
    ]
    router.room(slow, 1)
    assert await after(router) == [("send", [slow], "to all"), ("owed", slow, False)]


@on_virtual_time
async def test_an_event_of_another_router_waits_for_the_confirmation_that_output_is_owed() -> None:
    """If the shard died then, the slow connection's router has to know that something was lost."""
    world, (sender, slow) = await world_of(2, routers=2)
    first, second = world.routers
    for router in world.routers:
        router.link.confirm()
    second.room(slow, 0)
    first.message(sender, "cast")
    assert await after(second) == [("owed", slow, True)]
    assert await after(first) == [("send", [sender], "to all")]
    second.link.confirm()
    assert await after(first) == [("ack", [(sender, 1, 1)])]


@on_virtual_time
async def test_a_close_stays_behind_messages_and_an_attachment_does_not_wait() -> None:
    world, (counter,) = await world_of()
    router = world.router
    router.room(counter, 0)
    for text in ("attach", "bye"):
        router.message(counter, text)
    assert [record[0] for record in await after(router)] == ["attachment", "owed"]
    router.room(counter, 1000)
    assert await after(router) == [
        ("send", [counter], "last words"),
        ("close", counter, 4000, "bye", False),
        ("owed", counter, False),
        ("ack", [(counter, 1, 2)]),
    ]


@on_virtual_time
async def test_with_nothing_before_it_a_close_leaves_at_once() -> None:
    world, (counter,) = await world_of()
    world.router.room(counter, 0)
    handle(world).close(1000)
    assert await after(world.router) == [("close", counter, 1000, "", False)]


@on_virtual_time
async def test_the_close_of_a_client_is_acknowledged_behind_the_last_words() -> None:
    """Else its router would echo the Close before them."""
    world, (counter,) = await world_of()
    router = world.router
    router.room(counter, 0)
    router.closed(counter)
    assert await after(router) == [("owed", counter, True)]
    router.room(counter, 1000)
    assert await after(router) == [("send", [counter], "so long"), ("owed", counter, False), ("ack", [(counter, 1, 1)])]
    assert not world.router.peer.held


# --- more than a router should have to keep -----------------------------------------------------------------------


@on_virtual_time
async def test_one_turn_sends_no_more_than_a_share_before_it_has_asked() -> None:
    world, (counter, other) = await world_of(2)
    router, ws = world.router, handle(world)
    for number in range(10):
        ws.send(bytes([number]) * MIB)
        handle(world, 1).send(f"news {number}")
    ws.close(1000)
    assert ws.buffered_amount == 10 * MIB
    sent: list[int] = []
    records = await after(router)
    assert [record[2] for record in records if record[0] == "send" and record[1] == [other]] == [
        f"news {number}" for number in range(10)
    ]
    while True:
        mine = [record for record in records if record[1] in (counter, [counter])]
        sent += [record[2][0] for record in mine if record[0] == "send"]
        assert sum(len(record[2]) for record in mine if record[0] == "send") <= SEND_BUFFER_BYTES
        if ("owed", counter, False) in mine:
            break
        assert ("owed", counter, True) in mine
        assert ws.buffered_amount == (10 - len(sent)) * MIB
        router.room(counter, 3 * MIB)
        records = await after(router)
    assert sent == list(range(10))
    assert mine[-2] == ("close", counter, 1000, "", False)
    assert mine[-1] == ("owed", counter, False)


@on_virtual_time
async def test_what_was_sent_before_the_connection_was_full_stays_ahead_of_what_was_sent_after() -> None:
    """All in one turn, and more than a share of it."""
    world, (counter,) = await world_of()
    router, ws = world.router, handle(world)
    for number in range(6):
        ws.send(bytes([number]) * MIB)
    router.events.room(counter, 0)
    ws.send("after")
    sent: list[str | bytes] = []
    for _ in range(4):
        sent += [record[2] for record in await after(router) if record[0] == "send"]
        router.room(counter, 4 * MIB)
    assert [message[:1] for message in sent] == [*(bytes([number]) for number in range(6)), "a"]
    assert world.host.flow.held.taken == 0


@on_virtual_time
async def test_a_large_message_that_has_begun_to_leave_lets_one_from_before_go_first() -> None:
    world, (counter,) = await world_of()
    first, second = b"1" * MIB, b"2" * MIB
    handle(world).send(first)
    world.router.events.room(counter, 0)
    handle(world).send(second)
    world.router.events.room(counter, 8 * MIB)
    records = []
    for _ in range(4):
        records += await after(world.router)
    assert [record[2] for record in records if record[0] == "send"] == [first, second]
    assert (talker(world).outbox.size, world.host.flow.held.taken) == (0, 0)


@on_virtual_time
async def test_what_many_get_leaves_for_all_of_them_but_who_has_had_a_share() -> None:
    world, (first, second, third) = await world_of(3)
    ws = handle(world)
    for number in range(6):
        ws.send(bytes([number]) * MIB)
    for each in range(3):
        handle(world, each).send("to all")
    records = await after(world.router)
    assert ("send", [second, third], "to all") in records
    world.router.room(first, 100 * MIB)
    assert [len(record[2]) for record in await after(world.router) if record[0] == "send"] == [MIB, MIB, 6]


# --- what ends it -------------------------------------------------------------------------------------------------


@on_virtual_time
async def test_a_connection_that_is_gone_leaves_nothing_and_its_events_are_acknowledged() -> None:
    world, (counter,) = await world_of()
    router = world.router
    router.room(counter, 0)
    router.message(counter, "lost")
    await after(router)
    router.closed(counter, 1006, "gone", clean=False)
    records = await after(router)
    assert ("owed", counter, False) in records
    assert [record[1] for record in records if record[0] == "ack"] == [[(counter, 1, 1)], [(counter, 2, 2)]]
    assert not any(record[0] == "send" and record[2] == "lost" for record in records)
    assert (talker(world).outbox.size, world.host.flow.held.taken, len(router.peer.held)) == (0, 0, 0)


@on_virtual_time
async def test_a_router_that_is_gone_leaves_nothing() -> None:
    world, (first, _) = await world_of(2, routers=2)
    router = world.routers[0]
    router.room(first, 0)
    router.message(first, "lost")
    await turns()
    assert world.host.flow.held.taken > 0
    del world.routers[0]
    world.publish()
    await turns()
    assert (talker(world).outbox.size, world.host.flow.held.taken, world.host.flow.waiting) == (0, 0, 0)


@on_virtual_time
async def test_an_object_that_moves_lets_everything_go_first() -> None:
    world, (counter,) = await world_of()
    router = world.router
    router.link.prompt = True
    handle(world).send(bytes(7 * MIB))
    handle(world).send(bytes(7 * MIB) + b"x")
    router.message(counter, "reply")
    assert ("owed", counter, True) in await after(router)
    world.send_away_object("talker", "lobby")
    records = await after(router)
    assert [record[0] for record in records if record[0] != "ack" or record[1]][:4] == ["send", "send", "owed", "ack"]
    assert ("owed", counter, False) in records
    assert records[-1][0] == "released"
    router.room(counter, 0)
    assert world.host.flow.held.taken == 0


@on_virtual_time
async def test_a_shard_that_ends_lets_everything_go_first() -> None:
    world, (counter,) = await world_of()
    router = world.router
    router.link.prompt = True
    router.room(counter, 0)
    router.message(counter, "reply")
    await after(router)
    await world.host.aclose(1.0)
    assert router.take("send", "owed", "ack") == [
        ("send", [counter], "reply"),
        ("owed", counter, False),
        ("ack", [(counter, 1, 1)]),
    ]


@on_virtual_time
async def test_a_reset_closes_behind_what_was_sent_before() -> None:
    world, (counter,) = await world_of()
    router = world.router
    router.room(counter, 0)
    router.message(counter, "abort")
    assert await after(router) == [("owed", counter, True)]
    router.room(counter, 1000)
    records = await after(router)
    assert [record[0] for record in records] == ["send", "close", "owed", "ack"]
    assert (records[0][2], records[1][4]) == ("before", True)
    await turns()
    assert not router.peer.held


@on_virtual_time
async def test_an_object_may_sleep_with_output_held_and_is_not_forgotten() -> None:
    world, (counter,) = await world_of(hibernate_after_s=1.0)
    router = world.router
    router.room(counter, 0)
    router.message(counter, "reply")
    router.closed(counter)
    await turns()
    world.loop.jump(5)
    await turns()
    owner = talker(world)
    assert owner is not None
    assert owner.activation is None
    router.room(counter, 1000)
    assert [record[2] for record in router.take("send")] == ["reply", "so long"]
    world.loop.jump(5)
    await turns()
    assert talker(world) is None


@on_virtual_time
async def test_a_restored_connection_may_be_full() -> None:
    world = World(Talker, restored=False)
    router = world.router
    router.restore(7, namespace="talker")
    router.events.room(7, 0)
    router.restored()
    for router_ in world.routers:
        router_.events.restored(1, range(4096))
    router.message(7, "reply")
    assert await after(router) == [("owed", 7, True)]
    router.room(7, 100)
    assert ("send", [7], "reply") in await after(router)


# --- bounds -------------------------------------------------------------------------------------------------------


@on_virtual_time
async def test_held_output_is_bounded_and_leaves_room_for_others() -> None:
    world, (counter, other) = await world_of(2)
    world.router.room(counter, 0)
    fits = OUTBOX_BYTES // MIB * 31 // 32 - 1
    for number in range(fits):
        handle(world).send(bytes([number]) * MIB)
    with pytest.raises(OutboxFull):
        handle(world).send(b"x" * MIB)
    handle(world, 1).send(bytes(MIB))
    assert world.host.flow.held.taken <= OUTBOX_BYTES
    assert ("send", [other], bytes(MIB)) in await after(world.router)


@on_virtual_time
async def test_a_broadcast_goes_past_a_socket_that_has_no_room() -> None:
    world, (counter, *others) = await world_of(3)
    world.router.room(counter, 0)
    ctx = talker(world).activation.instance.ctx
    with contextlib.suppress(OutboxFull):
        for number in range(OUTBOX_BYTES // MIB):
            handle(world).send(bytes([number]) * MIB)
    message = b"to all" * (MIB // 6)
    assert ctx.get_web_sockets("")[0] is handle(world), "the first that it comes to"
    with pytest.raises(OutboxFull):
        ctx.broadcast(message, "")
    sent = [record for record in await after(world.router) if record[0] == "send" and record[2] == message]
    assert sorted(target for record in sent for target in record[1]) == others, "the slow one has no room, they have"
    assert ctx.broadcast("x", exclude=[handle(world)]) == 2


@on_virtual_time
async def test_a_payload_that_many_wait_for_counts_once() -> None:
    world, counters = await world_of(100)
    for counter in counters:
        world.router.room(counter, 0)
    for number in range(10):
        text = f"{number}" * (128 * KIB)
        for ws in talker(world).sockets.newest_first():
            ws.send(text)
    assert 10 * 128 * KIB <= talker(world).outbox.size < 10 * 128 * KIB + 110 * 256 + 1000 * 8
    for counter in counters[:50]:
        world.router.events.room(counter, 1 << 30)
    world.host.output.flush()
    assert sum(len(record[1]) for record in world.router.take("send")) == 16, "a little in each turn: others wait, too"
    world.send_away_object("talker", "lobby")
    world.host.output.flush()
    records = world.router.take("send")
    assert len(records) < 60, "what was one record to many is one again"
    assert sum(len(record[1]) for record in records) == 984
    assert (talker(world).outbox.size, world.host.flow.held.taken) == (0, 0)


@on_virtual_time
async def test_what_waits_behind_a_large_message_to_many_takes_little_for_each_of_them() -> None:
    clients, messages, large = 300, 40, b"x" * MIB
    world, _ = await world_of(clients)
    world.router.link.takes_pieces = False
    outbox, sockets = talker(world).outbox, talker(world).sockets.newest_first()
    for payload in (large, *map(str, range(messages))):
        for ws in sockets:
            ws.send(payload)
    assert outbox.size < MIB + messages * (256 + 320 + clients * 8)
    tracemalloc.start()
    try:
        world.host.output.flush()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(world.router.peer.held) == clients, "all of it waits"
    assert outbox.size < MIB + messages * (256 + clients * 8) + clients * 256
    assert taken < clients * (2 * KIB + messages * 16)
    world.host.flow.let_go(outbox)
    world.host.output.flush()
    world.router.link.take_pieces()
    for _ in range(clients):
        await turns()
    assert not world.router.peer.held
    assert (outbox.size, world.host.flow.held.taken) == (0, 0)


@on_virtual_time
async def test_when_all_together_hold_too_much_those_with_most_are_cut() -> None:
    world, (small, large) = await world_of(2, all_held_bytes=8 * MIB)
    router = world.router
    for counter in (small, large):
        router.room(counter, 0)
    handle(world).send(bytes(MIB))
    for number in range(6):
        handle(world, 1).send(bytes([number]) * MIB)
    assert ("cut", large) not in await after(router)
    handle(world, 1).send(bytes(2 * MIB))
    assert ("cut", large) in await after(router)
    assert world.host.flow.held.taken == pytest.approx(MIB, abs=KIB)
    assert world.counters.sockets_cut == 1
    handle(world, 1).send("nowhere")
    router.room(large, MIB)
    assert await after(router) == []
    router.closed(large, 1013, "slow consumer", clean=False)
    await turns()
    assert set(router.peer.held) == {small}


# --- drain --------------------------------------------------------------------------------------------------------


@on_virtual_time
async def test_drain_returns_when_nothing_waits_any_more() -> None:
    world, (counter,) = await world_of()
    router = world.router
    router.message(counter, "drain")
    assert ("send", [counter], "drained") in await after(router), "at once if nothing waits"
    router.room(counter, 0)
    router.message(counter, "first")
    router.message(counter, "drain")
    assert not [record for record in await after(router) if record[0] == "send"]
    router.room(counter, 1)
    assert [record[2] for record in await after(router) if record[0] == "send"] == ["first", "drained"]


@on_virtual_time
async def test_drain_ends_with_its_connection() -> None:
    world, (counter,) = await world_of()
    router = world.router
    router.room(counter, 0)
    router.message(counter, "first")
    router.message(counter, "drain")
    await turns()
    router.closed(counter, 1006, "gone", clean=False)
    await turns()
    assert talker(world).unfinished == 0


@on_virtual_time
async def test_drain_waits_for_the_turn_that_sends_much() -> None:
    world, _ = await world_of()
    ws = handle(world)
    ws.send(bytes(MIB))
    assert ws.bufferedAmount == MIB
    await ws.drain()
    assert ws.bufferedAmount == 0
    assert [len(record[2]) for record in world.router.take("send")] == [MIB]


@on_virtual_time
async def test_the_amount_that_waits_is_exact_whatever_was_sent() -> None:
    world, counters = await world_of(3)
    sockets = [handle(world, number) for number in range(3)]
    expected = [0, 0, 0]
    for number in range(60):
        for at in {number % 3, number % 2}:
            sockets[at].send("x" * number)
            expected[at] += number
        if number % 7 == 0:
            sockets[0].serialize_attachment(number)
        if number % 11 == 0:
            world.router.room(counters[number % 3], 0)
            expected = [0 if ws.socket.held is None else ws.socket.held.size for ws in sockets]  # type: ignore[union-attr]
        assert [ws.buffered_amount for ws in sockets] == expected
