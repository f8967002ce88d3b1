"""The bounds of all objects of a shard together: what has come and not ended, what sockets keep, what is large."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from roost.common.errors import OutboxFull, PackagesFull
from roost.common.ids import id_from_name
from roost.common.wire.records import HttpRequest
from roost.shard import Request, Response, WebSocket, WebSocketPair
from roost.shard.objects.arrivals import AT_ONCE, SMALL_BYTES
from tests.support.links import Record
from tests.unit.shard.harness import Room, Router, World, on_virtual_time, turns
from tests.unit.shard.outgoing.test_flow import after, handle, world_of

KIB, MIB = 1 << 10, 1 << 20


class Slow(Room):
    """Its handlers end when the class is told to."""

    goes_on: asyncio.Event

    async def fetch(self, request: Request) -> Response:
        if request.body:
            await self.goes_on.wait()
            return Response(f"{len(request.body)}")
        return await super().fetch(request)

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        await self.goes_on.wait()


class Keeper(Room):
    """Keeps what its query says."""

    async def fetch(self, request: Request) -> Response:
        client, server = WebSocketPair()
        if "early" in request.query:
            server.serialize_attachment("x" * int(request.query["early"]))
        self.ctx.accept_web_socket(server, request.query.get_all("tag"))
        return Response(status=101, web_socket=client)


def slow_world(**config: Any) -> World:
    Slow.goes_on = asyncio.Event()
    return World(Slow, **config)


def post(router: Router, name: str, size: int) -> int:
    """Send a request with a body; returns its number."""
    router.requests += 1
    request = HttpRequest(
        router.requests, 0, id_from_name("slow", name), "slow", name, "POST", f"http://h/slow/{name}", [], bytes(size)
    )
    router.events.request(request)
    return router.requests


def statuses(records: list[Record]) -> dict[int, int]:
    return {record[1].request: record[1].status for record in records if record[0] == "response"}


# --- what has come and not ended ---


@on_virtual_time
async def test_requests_beyond_the_bound_are_refused_small_ones_are_not() -> None:
    world = slow_world(all_events_bytes=4 * MIB)
    router = world.router
    first = [post(router, f"o{number}", MIB - 10 * KIB) for number in range(4)]
    beyond, small = post(router, "o9", MIB), post(router, "o9", SMALL_BYTES - KIB)
    assert statuses(await after(router)) == {beyond: 503}
    assert world.counters.requests_refused == 1
    Slow.goes_on.set()
    assert statuses(await after(router)) == dict.fromkeys([*first, small], 200)
    again = post(router, "o9", MIB)
    assert statuses(await after(router)) == {again: 200}
    assert world.counters.events_bytes == 0


@on_virtual_time
async def test_objects_with_more_than_a_share_are_held_and_others_are_not() -> None:
    world = slow_world(all_events_bytes=4 * MIB)
    router = world.router
    counters = {name: await router.connect(name, namespace="slow") for name in ("much", "other", "little")}
    router.take()
    for _ in range(3):
        router.message(counters["much"], bytes(600 * KIB))
    assert await after(router) == [], "all together have less than half"
    router.message(counters["little"], bytes(10 * KIB))
    router.message(counters["other"], bytes(400 * KIB))
    held = [record for record in await after(router) if record[0] == "hold"]
    assert held == [], "who is beyond a share is held with the next of its own"
    router.message(counters["much"], bytes(MIB))
    router.message(counters["little"], bytes(10 * KIB))
    held = [record for record in await after(router) if record[0] == "hold"]
    assert held == [("hold", id_from_name("slow", "much"), True)]
    Slow.goes_on.set()
    held = [record for record in await after(router) if record[0] == "hold"]
    assert held == [("hold", id_from_name("slow", "much"), False)]


@on_virtual_time
async def test_who_is_held_goes_on_when_others_have_ended_some_in_each_turn() -> None:
    world = slow_world(all_events_bytes=4 * MIB)
    router, count = world.router, AT_ONCE + 6
    counters = [await router.connect(f"o{number}", namespace="slow") for number in range(count)]
    large = await router.connect("large", namespace="slow")
    router.take()
    router.message(large, bytes(3 * MIB))
    for counter in counters:
        router.message(counter, bytes(SMALL_BYTES + KIB))
    held = {record[1] for record in await after(router) if record[0] == "hold" and record[2]}
    assert len(held) == count + 1
    goes_on, Slow.goes_on = Slow.goes_on, asyncio.Event()
    world.object("large", "slow")
    for counter in counters:
        router.message(counter, bytes(1))  # begun after this: waits for another time
    goes_on.set()
    freed = {record[1] for record in await after(router) if record[0] == "hold" and not record[2]}
    assert freed == held
    Slow.goes_on.set()
    await turns()
    assert world.counters.events_bytes == 0


# --- what sockets keep ---


@on_virtual_time
async def test_an_accept_beyond_the_bound_fails_and_nothing_of_it_is_left() -> None:
    world = World(Keeper, all_attachments_bytes=1 * MIB)
    router, tags = world.router, "&".join(f"tag={number}{'t' * 255}" for number in range(10))
    opened = []
    while not (refused := world.counters.packages_refused):
        opened.append(await router.connect(namespace="keeper", query=tags))
        assert len(opened) < 1000
    assert refused == 1
    opened.pop()
    assert 0.9 * MIB < world.counters.package_bytes <= MIB
    answers = [record[1].status for record in router.take("response")]
    assert answers == [101] * len(opened) + [500]
    for counter in opened:
        router.closed(counter)
    await turns()
    assert world.counters.package_bytes == 0


@on_virtual_time
async def test_an_attachment_counts_with_what_it_grows_by() -> None:
    world = World(Keeper, all_attachments_bytes=1 * MIB, max_attachment_bytes=16_384)
    router = world.router
    counters = [await router.connect(namespace="keeper", query="early=10000") for _ in range(64)]
    assert len({record[1].ordinal for record in router.take("response")}) == 64
    sockets = world.object(namespace="keeper").sockets.newest_first()
    before = world.counters.package_bytes
    sockets[0].serialize_attachment("y" * 10_000)
    assert world.counters.package_bytes == before
    grown = 0
    while world.counters.package_bytes + 6_400 < MIB:
        sockets[grown].serialize_attachment("z" * 16_300)
        grown += 1
    assert 50 < grown < 64
    with pytest.raises(PackagesFull, match=r"no room for 6[0-9]{3} more"):
        sockets[grown].serialize_attachment("z" * 16_300)
    assert sockets[grown].deserialize_attachment() == "x" * 10_000, "the earlier value stays"
    sockets[0].serialize_attachment(None)
    sockets[grown].serialize_attachment("z" * 16_300)
    router.closed(counters[5])
    await turns()
    assert world.counters.package_bytes < MIB


@on_virtual_time
async def test_sockets_that_come_from_elsewhere_are_never_refused_and_leave_with_their_object() -> None:
    world = World(Keeper, all_attachments_bytes=1 * MIB, restored=False)
    for counter in range(1, 300):
        world.router.restore(counter, namespace="keeper", attachment=bytes(8000), tags=("t" * 256,))
    world.router.restored()
    await turns()
    assert world.counters.package_bytes > 2 * MIB
    world.send_away_object("keeper", "lobby")
    await turns()
    world.router.link.confirm()
    await turns()
    assert world.released
    assert world.counters.package_bytes == 0


# --- large messages ---


@on_virtual_time
async def test_a_healthy_client_is_not_cut_for_being_sent_much_the_next_message_is_refused() -> None:
    world, (first, second, third) = await world_of(3, all_held_bytes=32 * MIB)
    router = world.router
    router.link.takes_pieces = False
    handle(world).send(bytes(20 * MIB))
    await after(router)
    with pytest.raises(OutboxFull, match=r"the objects of this process have 2[0-9]+ bytes of large messages"):
        handle(world, 1).send(bytes(20 * MIB))
    handle(world, 1).send(bytes(10 * MIB))
    assert (world.counters.sockets_cut, world.counters.large_refused) == (0, 1)
    router.link.takes_pieces = True
    router.link.take_pieces()
    records = await after(router)
    sizes = {record[1][0]: len(record[2]) for record in records if record[0] == "send"}
    assert sizes == {first: 20 * MIB, second: 10 * MIB}
    handle(world, 2).send(bytes(30 * MIB))
    assert [len(record[2]) for record in await after(router) if record[0] == "send"] == [30 * MIB]
    assert (world.host.flow.large, world.host.flow.promised, world.host.flow.held.taken) == (0, 0, 0)
    assert third


@on_virtual_time
async def test_messages_of_one_turn_count_at_once() -> None:
    world, _ = await world_of(2, all_held_bytes=8 * MIB)
    handle(world).send(bytes(6 * MIB))
    with pytest.raises(OutboxFull):
        handle(world, 1).send(bytes(6 * MIB))
    assert [len(record[2]) for record in await after(world.router) if record[0] == "send"] == [6 * MIB]
    handle(world, 1).send(bytes(6 * MIB))
    await after(world.router)
    assert world.host.flow.promised == 0


@on_virtual_time
async def test_one_that_is_larger_than_the_bound_goes_when_there_is_no_other() -> None:
    world, (counter,) = await world_of(all_held_bytes=8 * MIB)
    handle(world).send(bytes(20 * MIB))
    assert [record[1:] for record in await after(world.router) if record[0] == "send"] == [([counter], bytes(20 * MIB))]


@on_virtual_time
async def test_who_does_not_take_large_ones_makes_room_for_others() -> None:
    world, (deaf, other) = await world_of(2, all_held_bytes=8 * MIB)
    router = world.router
    router.room(deaf, 0)
    handle(world).send(bytes(6 * MIB))
    await after(router)
    handle(world, 1).send(bytes(5 * MIB))
    records = await after(router)
    assert ("cut", deaf) in records
    assert [record[1] for record in records if record[0] == "send"] == [[other]]


@on_virtual_time
async def test_small_output_that_waits_has_a_quarter_of_the_bound_beside_large_ones() -> None:
    world, (slow, busy) = await world_of(2, all_held_bytes=8 * MIB)
    router = world.router
    router.link.takes_pieces = False
    router.room(slow, 0)
    handle(world, 1).send(bytes(8 * MIB))
    await after(router)
    for number in range(9):
        handle(world).send(bytes((number,)) * 200 * KIB)
    assert ("cut", slow) not in await after(router)
    for number in range(9, 13):
        handle(world).send(bytes((number,)) * 200 * KIB)
    records = await after(router)
    assert ("cut", slow) in records
    assert ("cut", busy) not in records


@on_virtual_time
async def test_large_messages_are_compared_by_identity_only() -> None:
    world, _ = await world_of()
    compared = []

    class Watched(bytes):
        def __eq__(self, other: object) -> bool:
            compared.append(len(self))
            return super().__eq__(other)

        __hash__ = bytes.__hash__

    outbox, peer = world.object(namespace="talker").outbox, world.router.peer
    for size in (MIB, MIB, 10, 10):
        outbox.send(peer, 1, Watched(size))
    assert compared == [10]
