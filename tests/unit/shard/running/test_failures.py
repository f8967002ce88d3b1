"""What the public hears of a failure: a sentence and an id that the log has, on every road."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import pytest

from roost.shard import Request, Response, WebSocket
from roost.shard.running.failures import Failure
from tests.unit.shard.harness import Room, World, on_virtual_time, turns

SECRET = "the password is hunter2"
ID = re.compile(r"\(error id ([0-9a-f]{12})\)")


class Leaky(Exception):
    """Its name and its text are nobody's business."""


# --- the words ----------------------------------------------------------------------------------------------------


def test_the_public_gets_the_sentence_and_the_id() -> None:
    failure = Failure.of("the object was reset", Leaky(SECRET), development=False)
    assert failure.text == failure.reason == f"the object was reset (error id {failure.id})"


def test_each_failure_has_an_id_of_its_own() -> None:
    ids = {Failure.of("x", "y", development=False).id for _ in range(100)}
    assert len(ids) == 100


def test_in_development_the_answer_carries_the_traceback() -> None:
    try:
        raise Leaky(SECRET)
    except Leaky as error:
        failure = Failure.of("the object was reset", error, development=True)
    assert failure.text.startswith(f"the object was reset (error id {failure.id})\n\nTraceback ")
    assert "test_failures.py" in failure.text
    assert failure.text.rstrip().endswith(f"Leaky: {SECRET}")
    assert failure.reason.endswith(f"Leaky: {SECRET}")


def test_in_development_a_reason_in_words_stands_as_it_is() -> None:
    failure = Failure.of("the object was reset", SECRET, development=True)
    assert failure.text.endswith("\n\n" + SECRET)
    assert failure.reason == SECRET


@pytest.mark.parametrize("cause", ["é" * 200, "\ud800" * 200, ValueError("€" * 200)])
def test_a_reason_fits_into_a_close(cause: Any) -> None:
    reason = Failure.of("x" * 200, cause, development=True).reason
    assert 100 < len(reason.encode()) <= 123
    assert len(Failure.of("é" * 200, cause, development=False).reason.encode()) <= 123


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_exception_that_cannot_be_written_is_no_second_one() -> None:
    assert "Unspeakable" in Failure.of("x", Unspeakable(), development=True).text


# --- the roads ----------------------------------------------------------------------------------------------------


class Fails(Room):
    """Fails as the query says."""

    constructor: BaseException | None = None

    def __init_subclass__(cls) -> None:
        cls.__name__ = "Room"

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        if self.constructor is not None:
            raise self.constructor

    async def fetch(self, request: Request) -> Any:
        how = request.query.get("how")
        if how == "raise":
            raise Leaky(SECRET)
        if how == "wait and raise":
            await asyncio.sleep(1)
            raise Leaky(SECRET)
        if how == "abort":
            self.ctx.abort(SECRET)
        if how == "block":
            await self.ctx.block_concurrency_while(self.refuse)
        if how == "return":
            return SECRET
        if how == "swallow":
            try:
                self.ctx.abort(SECRET)
            except BaseException:
                return Response(SECRET)
        if how == "be reset":
            await asyncio.sleep(100)
        return await super().fetch(request)

    async def web_socket_message(self, ws: WebSocket, message: Any) -> None:
        if message == "block":
            await self.ctx.block_concurrency_while(self.refuse)
        self.ctx.abort(SECRET)

    async def refuse(self) -> None:
        raise Leaky(SECRET)


def check_public(said: str, logged: str) -> None:
    """*said* tells nothing but an id that the log has, with the reason."""
    assert SECRET not in said
    assert "Leaky" not in said
    found = ID.search(said)
    assert found, f"no id in {said!r}"
    (line,) = [line for line in logged.splitlines() if found[1] in line]
    assert SECRET in line


Fails.__name__ = "Room"


async def answer(world: World, how: str) -> str:
    world.router.request(query=f"how={how}")
    await asyncio.sleep(2)
    ((_, response),) = world.router.take("response")
    assert response.status == 500
    return bytes(response.body).decode()


@pytest.mark.parametrize("how", ["raise", "wait+and+raise", "abort", "block", "swallow"])
def test_of_a_request_that_fails_the_public_hears_no_more(how: str, caplog: pytest.LogCaptureFixture) -> None:
    @on_virtual_time
    async def scenario() -> None:
        check_public(await answer(World(Fails), how), caplog.text)

    scenario()


def test_of_an_answer_that_is_none_the_public_hears_no_more(caplog: pytest.LogCaptureFixture) -> None:
    @on_virtual_time
    async def scenario() -> None:
        check_public(await answer(World(Fails), "return"), caplog.text)

    scenario()


def test_of_a_request_that_another_ones_reset_ends_the_public_hears_no_more(caplog: pytest.LogCaptureFixture) -> None:
    @on_virtual_time
    async def scenario() -> None:
        world = World(Fails)
        world.router.request(query="how=be+reset")
        await turns()
        world.router.request(query="how=abort")
        await turns()
        bodies = [bytes(record[1].body).decode() for record in world.router.take("response")]
        assert len(bodies) == 2
        for body in bodies:
            check_public(body, caplog.text)
        assert len(set(bodies)) == 1, "one reset has one id"

    scenario()


def test_of_a_constructor_that_fails_on_a_request_the_public_hears_no_more(caplog: pytest.LogCaptureFixture) -> None:
    @on_virtual_time
    async def scenario() -> None:
        class Broken(Fails):
            constructor = Leaky(SECRET)

        check_public(await answer(World(Broken), ""), caplog.text)

    scenario()


@pytest.mark.parametrize("message", ["block", "abort"])
def test_of_a_reset_the_clients_hear_no_more(message: str, caplog: pytest.LogCaptureFixture) -> None:
    @on_virtual_time
    async def scenario() -> None:
        world = World(Fails)
        counter = await world.router.connect()
        world.router.message(counter, message)
        await asyncio.sleep(1)
        ((_, _, code, reason, final),) = world.router.take("close")
        assert (code, final) == (1011, True)
        check_public(reason, caplog.text)

    scenario()


def test_of_a_constructor_that_fails_on_waking_the_clients_hear_no_more(caplog: pytest.LogCaptureFixture) -> None:
    @on_virtual_time
    async def scenario() -> None:
        class Wakes(Fails):
            pass

        world = World(Wakes, hibernate_after_s=1.0)
        counter = await world.router.connect()
        await asyncio.sleep(3)
        Wakes.constructor = Leaky(SECRET)
        world.router.message(counter, "wake up")
        await turns()
        ((_, _, code, reason, _),) = world.router.take("close")
        assert code == 1011
        check_public(reason, caplog.text)

    scenario()


@pytest.mark.parametrize("how", ["raise", "abort", "block", "return"])
def test_in_development_who_asks_hears_why(how: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)

    @on_virtual_time
    async def scenario() -> None:
        said = await answer(World(Fails, development=True), how)
        assert SECRET in said
        assert ID.search(said)
        if how != "abort":
            assert "Traceback" in said

    scenario()
