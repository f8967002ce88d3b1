"""The end of a life: what it holds is closed before anything that comes after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from roost.common.errors import ObjectGone, ObjectReset
from roost.shard import WebSocket
from roost.shard.objects.activation import Activation
from roost.shard.objects.closing import LAST_STEPS_S, How
from tests.unit.shard.clients import Client, Front, Rec, shard
from tests.unit.shard.harness import World, on_virtual_time, turns


class Room(Rec):
    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        await super().web_socket_message(ws, message)
        if message == "abort":
            self.ctx.abort("enough")
        elif message == "wait":
            await asyncio.sleep(60)


class Held:
    """What a life holds, which takes a while to close."""

    def __init__(self) -> None:
        self.may_close = asyncio.Event()
        self.steps: list[str] = []

    def by(self, life: Activation, name: str = "") -> None:
        async def close() -> None:
            assert life.stopped, "no code of it takes another step"
            self.steps.append(f"begin {name}".rstrip())
            await self.may_close.wait()
            self.steps.append(f"end {name}".rstrip())

        life.at_close(close)


async def held(**config: float) -> tuple[World, Front, Client, Activation, Held]:
    world, front, _ = shard(type("Room", (Room,), {}), **config)
    front.router.link.prompt = True
    client = await front.connect()
    life = world.object().activation
    assert life is not None
    holds = Held()
    holds.by(life)
    return world, front, client, life, holds


def sleeps(world: World, client: Client) -> None:
    world.object().hibernate()


def resets(world: World, client: Client) -> None:
    client.send("abort")


def resets_while_another_waits(world: World, client: Client) -> None:
    client.send("wait")
    client.send("abort")


@pytest.mark.parametrize("end", [sleeps, resets, resets_while_another_waits])
@on_virtual_time
async def test_the_next_life_begins_when_all_that_the_former_one_held_is_closed(
    end: Callable[[World, Client], None],
) -> None:
    world, front, client, life, holds = await held()
    end(world, client)
    await turns()
    number = front.router.request(query="plain")
    await asyncio.sleep(10)
    assert holds.steps == ["begin"]
    assert front.answer(number) is None
    owner = world.object()
    assert (owner.activation, owner.former) == (None, life)
    assert not owner.forgettable
    holds.may_close.set()
    await turns(20)
    assert holds.steps == ["begin", "end"]
    answer = front.answer(number)
    assert answer is not None
    assert answer.body == b"plain"
    assert owner.former is None
    assert owner.activation is not life


@on_virtual_time
async def test_a_slot_is_released_when_all_that_its_lives_held_is_closed() -> None:
    world, front, _, _, holds = await held()
    world.send_away("lobby")
    await asyncio.sleep(10)
    assert holds.steps == ["begin"]
    assert not world.released
    assert front.of("released") == []
    assert world.host.release
    holds.may_close.set()
    await turns(20)
    assert world.released
    assert len(front.of("released")) == 1
    assert world.find() is None
    assert not world.host.release


@on_virtual_time
async def test_a_close_that_comes_while_a_life_closes_has_a_life_of_its_own_before_the_slot_is_released() -> None:
    told: list[tuple[int, bool]] = []

    class Slow(Rec):
        async def web_socket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None:
            await asyncio.sleep(1)
            told.append((code, bool(world.released)))

    world, front, other = shard(Slow, routers=2)
    for each in (front, other):
        each.router.link.prompt = True
        await each.connect()
    life = world.object().activation
    assert life is not None
    holds = Held()
    holds.by(life)
    world.send_away("lobby")
    await asyncio.sleep(1)
    assert holds.steps == ["begin"]
    world.lose(other.router)
    await asyncio.sleep(1)
    assert told == []
    holds.may_close.set()
    await asyncio.sleep(3)
    assert told == [(1006, False)]
    assert world.released
    assert len(front.of("released")) == 1


@on_virtual_time
async def test_a_life_that_a_move_gives_up_closes_as_well() -> None:
    world, _, _, life, holds = await held(move_timeout_s=1.0)

    async def resists() -> None:
        while True:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                if life.stopped:
                    raise

    life.context.run(life.wait_until, resists())
    world.send_away("lobby")
    await asyncio.sleep(1 + LAST_STEPS_S + 0.5)
    assert holds.steps == ["begin"]
    assert not world.released
    holds.may_close.set()
    await turns(20)
    assert world.released


@on_virtual_time
async def test_the_end_of_the_shard_waits_for_what_lives_hold_but_not_for_ever() -> None:
    world, _, _, life, holds = await held()
    holds.by(life, "the second")
    began = world.loop.time()
    end = asyncio.ensure_future(world.host.aclose(5.0))
    await asyncio.sleep(0.5)
    assert holds.steps == ["begin the second"], "the last one first"
    assert not end.done()
    await end
    assert world.loop.time() - began == pytest.approx(LAST_STEPS_S)
    other, _, _, other_life, other_holds = await held()
    other_holds.may_close.set()
    await other.host.aclose(5.0)
    assert other_holds.steps == ["begin", "end"]
    assert other_life.stopped


def test_code_that_goes_on_hears_what_its_life_has_ended_for() -> None:
    assert {type(how.over) for how in How if how is not How.RESET} == {ObjectGone}
    assert type(How.RESET.over) is ObjectReset
    assert all(how.value in str(how.over) for how in How)
