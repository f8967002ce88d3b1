"""Letting go of slots: what runs ends, output and acknowledgements leave, then RELEASED, then nothing."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from roost.common.ids import Slot, id_from_name, slot_of
from roost.shard import Request, Response, WebSocket
from tests.unit.shard.harness import SHARD, Room, Router, World, on_virtual_time, turns

LOBBY = slot_of(id_from_name("room", "lobby"))


class Lobby(Room):
    """Does what messages say, and notes it."""

    log: ClassVar[list[Any]] = []

    @property
    def seen(self) -> list[Any]:
        return type(self).log

    async def fetch(self, request: Request) -> Response:
        if "wait" in request.query:
            await asyncio.sleep(float(request.query["wait"]))
            return Response("answer")
        return await super().fetch(request)

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        assert isinstance(message, str)
        command, _, argument = message.partition(" ")
        self.seen.append(("begin", message, ws.redelivered))
        if command == "sleep":
            await asyncio.sleep(float(argument))
        elif command == "stubborn":
            until = asyncio.get_running_loop().time() + float(argument)
            while asyncio.get_running_loop().time() < until:
                try:
                    await asyncio.sleep(0.1)
                except asyncio.CancelledError:
                    self.seen.append("not impressed")
            ws.send("too late")
        elif command == "task":
            self.tasks = asyncio.ensure_future(self.tick(ws))
        elif command == "promise":
            self.ctx.wait_until(asyncio.sleep(float(argument)))
        elif command == "all":
            for each in self.ctx.get_web_sockets():
                each.send(argument)
        self.seen.append(("end", message))
        ws.send(message)

    async def tick(self, ws: WebSocket) -> None:
        try:
            while True:
                await asyncio.sleep(1)
                ws.send("tick")
        finally:
            ws.send("last tick")

    async def web_socket_close(self, ws: WebSocket, *end: Any) -> None:
        self.seen.append(("close", *end))


@pytest.fixture(autouse=True)
def fresh_log() -> None:
    Lobby.log.clear()
    Lobby.__name__ = Lobby.__qualname__ = "Room"


async def a_world(routers: int = 1, *, prompt: bool = True, **config: Any) -> tuple[World, int]:
    """A shard with a connection; *prompt* routers confirm everything at once."""
    world = World(Lobby, routers=routers, **config)
    counter = await world.router.connect()
    for router in world.routers:
        router.link.prompt = prompt
        router.link.confirm()
        router.take()
    return world, counter


def released(router: Router) -> list[tuple[list[int], list[tuple[int, int]]]]:
    return [record[2:] for record in router.take("released")]


@on_virtual_time
async def test_an_idle_slot_goes_at_once() -> None:
    world, _ = await a_world()
    world.send_away()
    await turns()
    assert world.router.take() == [("released", world.version, [LOBBY], [])]
    assert world.released == [LOBBY]
    assert world.find() is None
    assert world.counters.sockets == 0
    assert world.counters.objects_awake == 0
    world.hand_over()
    assert world.counters.slots_owned == 4095


@on_virtual_time
async def test_what_runs_ends_before_and_what_comes_meanwhile_is_dropped() -> None:
    world, counter = await a_world()
    world.router.message(counter, "sleep 2")
    await turns()
    world.send_away()
    world.router.message(counter, "too late")
    await asyncio.sleep(1)
    assert world.router.take() == []
    await asyncio.sleep(1.5)
    assert world.router.take() == [
        ("send", [counter], "sleep 2"),
        ("ack", [(counter, 1, 1)]),
        ("released", world.version, [LOBBY], []),
    ]
    assert ("begin", "too late", False) not in Lobby.log


@on_virtual_time
async def test_what_waits_is_dropped_unacknowledged() -> None:
    class Blocked(Lobby):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            await self.ctx.block_concurrency_while(lambda: asyncio.sleep(1))
            await super().web_socket_message(ws, message)

    Blocked.__name__ = "Room"
    world = World(Blocked)
    world.router.link.prompt = True
    counter = await world.router.connect()
    world.router.take()
    world.router.message(counter, "first")
    await turns()
    world.router.message(counter, "second")
    await turns()
    world.send_away()
    await asyncio.sleep(2)
    assert world.router.take("ack", "released") == [
        ("ack", [(counter, 1, 1)]),
        ("released", world.version, [LOBBY], []),
    ]


@on_virtual_time
async def test_handlers_that_take_too_long_are_cancelled_and_named() -> None:
    world, counter = await a_world(move_timeout_s=5.0)
    world.router.message(counter, "first")
    world.router.message(counter, "sleep 60")
    await turns()
    since = world.loop.time()
    world.send_away()
    done = asyncio.Event()
    world.host.release.on_released = lambda slots: done.set()
    await done.wait()
    assert world.loop.time() - since == pytest.approx(5, abs=0.2)
    assert world.router.take() == [
        ("send", [counter], "first"),
        ("ack", [(counter, 1, 1)]),
        ("released", world.version, [LOBBY], [(counter, 2)]),
    ]


@on_virtual_time
async def test_code_that_does_not_let_itself_be_cancelled_is_left_behind() -> None:
    world, counter = await a_world(move_timeout_s=1.0)
    world.router.message(counter, "stubborn 9")
    await turns()
    world.send_away()
    await asyncio.sleep(3)
    assert world.router.take() == [("released", world.version, [LOBBY], [(counter, 1)])]
    await asyncio.sleep(10)
    assert world.router.take() == [], "it has ended by now, and nothing of it counts"
    assert "not impressed" in Lobby.log


@on_virtual_time
async def test_a_request_that_has_begun_is_answered_and_one_that_has_not_is_dropped() -> None:
    world, _ = await a_world()
    number = world.router.request(query="wait=2")
    await turns()
    world.send_away()
    world.router.request(query="wait=1")
    await asyncio.sleep(3)
    response, release = world.router.take()
    assert (response[1].request, response[1].body) == (number, b"answer")
    assert release[0] == "released"
    world.hand_over()
    world.router.request(query="wait=1")
    assert world.router.take() == [("released", world.version, [LOBBY], [])]


@on_virtual_time
async def test_a_request_that_takes_too_long_is_told_so() -> None:
    world, _ = await a_world(move_timeout_s=1.0)
    number = world.router.request(query="wait=60")
    await turns()
    world.send_away()
    await asyncio.sleep(2)
    response, release = world.router.take()
    assert (response[1].request, response[1].status) == (number, 500)
    assert b"moves to another process" in response[1].body
    assert release[3] == []


@on_virtual_time
async def test_tasks_that_nobody_waits_for_are_cancelled_and_may_say_a_last_word() -> None:
    world, counter = await a_world()
    world.router.message(counter, "task")
    await turns()
    world.router.take()
    world.send_away()
    await turns()
    assert [record[0] for record in world.router.take()] == ["send", "released"]


@on_virtual_time
async def test_a_task_that_cleans_up_is_cancelled_once_however_many_others_end() -> None:
    """What it writes in its last steps is whole: ``finally: await db.flush()``."""

    class Saving(Lobby):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            self.kept = [asyncio.ensure_future(self.save(ws, seconds)) for seconds in (0.1, 0.2, 0.3, 2.0)]

        async def save(self, ws: WebSocket, seconds: float) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(seconds)
                ws.send(f"saved in {seconds:g}")

    Saving.__name__ = "Room"
    world = World(Saving)
    counter = await world.router.connect()
    world.router.link.prompt = True
    world.router.link.confirm()
    world.router.message(counter, "go")
    await turns()
    world.router.take()
    world.send_away()
    await asyncio.sleep(3)
    records = world.router.take()
    assert [record[2] for record in records if record[0] == "send"] == [
        f"saved in {s}" for s in ("0.1", "0.2", "0.3", "2")
    ]
    assert records[-1][0] == "released"


@on_virtual_time
async def test_one_that_resists_is_cancelled_again_in_the_end(caplog: pytest.LogCaptureFixture) -> None:
    cancelled: list[float] = []

    class Resisting(Lobby):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            self.kept = asyncio.ensure_future(self.resist())

        async def resist(self) -> None:
            now = asyncio.get_running_loop().time
            while len(cancelled) < 2:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    cancelled.append(now())

    Resisting.__name__ = "Room"
    world = World(Resisting)
    counter = await world.router.connect()
    world.router.link.prompt = True
    world.router.link.confirm()
    world.router.message(counter, "go")
    await turns()
    world.send_away()
    await asyncio.sleep(10)
    assert len(cancelled) == 2
    assert 4.9 < cancelled[1] - cancelled[0] < 5.1, "once, and again when the time for moving is over"
    assert world.released


@on_virtual_time
async def test_promises_are_kept() -> None:
    world, counter = await a_world()
    world.router.message(counter, "promise 3")
    await turns()
    world.send_away()
    await asyncio.sleep(2)
    assert not world.released
    await asyncio.sleep(2)
    assert world.released


@on_virtual_time
async def test_every_router_gives_a_sign_of_life_first() -> None:
    world, _ = await a_world(prompt=False)
    world.send_away()
    await asyncio.sleep(60)
    assert world.router.take() == []
    world.router.link.confirm()
    await turns()
    assert released(world.router) == [([LOBBY], [])]


@on_virtual_time
async def test_a_router_that_dies_instead_has_its_closes_delivered() -> None:
    world, _ = await a_world(routers=2)
    frozen = world.routers[1]
    await frozen.connect()
    frozen.link.prompt = False
    world.send_away()
    await asyncio.sleep(60)
    assert world.released == []
    world.lose(frozen)
    await turns(20)
    assert [entry[:2] for entry in Lobby.log] == [("close", 1006)]
    assert world.released == [LOBBY]


@on_virtual_time
async def test_acknowledgements_that_wait_for_another_router_go_first() -> None:
    world, counter = await a_world(routers=2, prompt=False)
    other = world.routers[1]
    await other.connect()
    other.link.confirm()
    world.router.link.confirm()
    world.router.message(counter, "all hello")
    await turns()
    world.router.take()
    world.send_away()
    await asyncio.sleep(1)
    assert world.router.take() == [], "the other router has not confirmed the broadcast: no ack, no release"
    other.link.confirm()
    world.router.link.confirm()
    await turns()
    assert [record[0] for record in world.router.take()] == ["ack", "released"]
    assert [record[0] for record in other.take()][-1] == "released"


@on_virtual_time
async def test_a_confirmation_that_no_callback_has_told_of_yet_counts() -> None:
    world, counter = await a_world(routers=2, prompt=False)
    other = world.routers[1]
    await other.connect()
    other.link.confirm()
    world.router.link.confirm()
    world.router.message(counter, "all hello")
    await turns()
    world.router.take()
    world.send_away()
    await turns()
    # A batch of each was read; the first link's callback comes before the second one's.
    other.link.session.confirmed = other.link.session.sent
    world.router.link.confirm()
    await turns()
    assert [record[0] for record in world.router.take()] == ["ack", "released"]


@on_virtual_time
async def test_output_for_a_blocked_link_leaves_first() -> None:
    world, counter = await a_world()
    world.router.link.blocked = True
    world.router.message(counter, "hello")
    await turns()
    world.send_away()
    await asyncio.sleep(1)
    assert world.router.take() == []
    world.router.link.blocked = False
    world.router.link.confirm()
    world.router.link.unblock()
    await turns()
    assert [record[0] for record in world.router.take()] == ["send", "ack", "released"]


@on_virtual_time
async def test_closes_of_a_router_that_dies_during_a_release_are_delivered() -> None:
    world, counter = await a_world(routers=2)
    dying = world.routers[1]
    await dying.connect()
    for router in world.routers:
        router.link.confirm()
    world.router.message(counter, "sleep 2")
    await turns()
    world.send_away()
    await turns()
    world.lose(dying)
    await asyncio.sleep(3)
    assert [entry for entry in Lobby.log if entry[0] == "close"] == [
        ("close", 1006, "WebSocket disconnected without sending Close frame.", False)
    ]
    assert world.released == [LOBBY]


@on_virtual_time
async def test_each_slot_goes_as_soon_as_it_can() -> None:
    world, counter = await a_world()
    await world.router.connect("idle")
    world.router.message(counter, "sleep 2")
    await turns()
    world.router.take()
    world.send_away("lobby", "idle", "nobody")
    await turns()
    idle = {slot_of(id_from_name("room", name)) for name in ("idle", "nobody")}
    assert set(world.released) == idle
    await asyncio.sleep(3)
    assert set(world.released) == {*idle, LOBBY}


@on_virtual_time
async def test_an_object_that_moves_away_and_comes_back_has_its_sockets() -> None:
    world, counter = await a_world()
    world.send_away()
    await turns()
    world.hand_over()
    world.bring_back()
    world.router.restore(counter, ordinal=1, tags=("a",), attachment=b"\x01")
    world.router.message(counter, "hello", deliveries=0)
    await turns()
    assert Lobby.log == [], "not before RESTORED"
    world.router.events.restored(world.version, [LOBBY])
    await turns()
    assert Lobby.log == [("begin", "hello", False), ("end", "hello")]
    assert world.object().revision == 0


@on_virtual_time
async def test_a_slot_that_goes_to_itself_is_taken_up_again() -> None:
    world, counter = await a_world()
    world.send_away(to=SHARD)
    await turns()
    world.hand_over()
    world.router.restore(counter, ordinal=1)
    world.router.events.restored(world.version, [LOBBY])
    world.router.message(counter, "hello")
    await turns()
    assert ("end", "hello") in Lobby.log


@on_virtual_time
async def test_a_slot_that_leaves_again_has_its_whole_time_again() -> None:
    world, counter = await a_world(move_timeout_s=5.0)
    world.router.message(counter, "sleep 1")
    await turns()
    world.send_away(to=SHARD)
    await asyncio.sleep(1.5)
    world.hand_over()
    world.router.restore(counter, ordinal=1)
    world.router.events.restored(world.version, [LOBBY])
    world.router.message(counter, "sleep 4.5")
    await turns()
    world.router.take()
    world.send_away(to=SHARD)
    await asyncio.sleep(5)  # longer than the five seconds of the first time
    assert [record[0] for record in world.router.take()] == ["send", "ack", "released"]


@pytest.mark.parametrize("how", ["raises", "takes long"])
@on_virtual_time
async def test_a_blocking_callback_that_fails_does_not_hold_the_slot(how: str) -> None:
    class Blocking(Lobby):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            await self.ctx.block_concurrency_while(self.callback)

        async def callback(self) -> None:
            await asyncio.sleep(1 if how == "raises" else 60)
            raise ValueError("on purpose")

    Blocking.__name__ = "Room"
    world = World(Blocking, move_timeout_s=5.0)
    world.router.link.prompt = True
    counter = await world.router.connect()
    world.router.message(counter, "x")
    await turns()
    world.send_away()
    await asyncio.sleep(20)
    assert world.released == [LOBBY]


@on_virtual_time
async def test_a_close_that_comes_after_all_was_given_up_is_delivered_and_the_slot_goes() -> None:
    world, counter = await a_world(routers=2, move_timeout_s=1.0)
    dying = world.routers[1]
    await dying.connect()
    dying.link.prompt = False
    world.router.message(counter, "stubborn 30")
    await turns()
    world.send_away()
    await asyncio.sleep(5)
    assert world.released == [], "it waits for a sign of the other router"
    world.lose(dying)
    await asyncio.sleep(1)
    assert [entry[:2] for entry in Lobby.log if entry[0] == "close"] == [("close", 1006)]
    assert world.released == [LOBBY]


@on_virtual_time
async def test_what_a_router_restored_for_an_earlier_stay_is_forgotten() -> None:
    world, counter = await a_world()
    world.send_away()
    await turns()
    before = world.version
    world.hand_over()
    world.bring_back()
    for version, deliveries in ((before, 0), (world.version, 0)):
        world.router.restore(counter, ordinal=1)
        world.router.events.message(counter, 1, deliveries, "hello")
        world.router.events.restored(version, [LOBBY])
    await turns()
    assert Lobby.log == [("begin", "hello", False), ("end", "hello")]
    assert world.counters.sockets == 1
    assert list(world.router.peer.objects.values()) == [1]


@on_virtual_time
async def test_events_of_moved_connections_are_dropped_without_a_word() -> None:
    world, counter = await a_world()
    world.send_away()
    await turns()
    world.router.take()
    world.router.message(counter, "late")
    await turns()
    assert world.router.take() == []
    assert world.counters.events_dropped == 1


@on_virtual_time
async def test_passports_for_slots_that_are_not_ours_are_not_taken() -> None:
    world, _ = await a_world()
    world.send_away()
    await turns()
    world.hand_over()
    world.router.take()
    world.router.restore(300)
    world.router.events.restored(world.version - 1, [LOBBY, Slot(0)])
    assert world.router.take() == [("released", world.version, [LOBBY], [])]
    assert world.find() is None
    assert world.counters.sockets == 0
