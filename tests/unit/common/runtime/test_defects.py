"""Whose fault an exception is, by the functions that it came through."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from roost.common.errors import SocketClosed
from roost.common.runtime.defects import SURFACE, Survived, is_defect


def function(module: str, body: str = "call()", path: str = "/srv/app/x.py", **names: Any) -> Callable[[], Any]:
    """A function of *module* that runs *body*."""
    scope: dict[str, Any] = {"__name__": module, **names}
    exec(compile(f"def f():\n    {body}", path, "exec"), scope)
    made: Callable[[], Any] = scope["f"]
    return made


def through(*modules: str, raises: str = "raise KeyError(1)", **names: Any) -> Callable[[], Any]:
    """A function of the first module that calls one of the next, and so on; the last one raises."""
    call = function(modules[-1], raises, **names)
    for module in reversed(modules[:-1]):
        call = function(module, call=call)
    return call


def seen_by_the_loop(callback: Callable[[], Any], run: Callable[[Any], Any]) -> list[BaseException]:
    """What the loop's handler is given when *callback* raises in a turn of its own."""
    seen: list[BaseException] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: seen.append(context["exception"]))
        loop.call_soon(callback)
        loop.call_later(0.0, callback)
        await asyncio.sleep(0.01)

    run(main())
    return seen


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize(
    ("modules", "ours"),
    [
        (["roost.shard.host"], True),
        (["roost.common.wire.endpoint", "roost.shard.app", "roost.shard.host"], True),
        (["roost.router.app", "roost.router.owners.forwarding"], True),
        (["roost.deploy.processes.crew", "roost.deploy.supervisor.conductor"], True),
        (["chat"], False),
        (["roost.shard.running.runner", "chat"], False),
        (["chat", "roost.shard.api.web_socket", "roost.shard.outgoing.outbox"], False),
        (["roost.shard.api.web_socket", "roost.shard.outgoing.outbox"], False),
        (["roost.deploy.examples.chat"], False),
        (["roost_like.shard.x"], False),
    ],
)
def test_it_is_a_defect_if_it_came_out_of_our_code_and_through_nobody_elses(
    run: Callable[[Any], Any], modules: list[str], ours: bool
) -> None:
    seen = seen_by_the_loop(through(*modules), run)
    assert [is_defect(error) for error in seen] == [ours, ours]


def test_what_a_process_survives_is_logged_with_its_traceback_once_for_each_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    survived = Survived(logging.getLogger("roost.some"))
    for call in [through("roost.shard.host")] * 2 + [through("roost.shard.outgoing.flow", raises="int('x')")]:
        try:
            call()
        except (KeyError, ValueError) as error:
            survived.note("the rest goes on", error)
    assert [(record.levelname, record.exc_info is not None) for record in caplog.records] == [
        ("CRITICAL", True),
        ("ERROR", False),
        ("CRITICAL", True),
    ]
    assert "an error of roost's own, seen before: KeyError(1); the rest goes on" in caplog.text


@pytest.mark.parametrize("module", SURFACE)
def test_modules_that_users_code_calls_are_where_they_are_said_to_be(module: str) -> None:
    """Else a mistake of the user's, in what is handed to the loop, would end the shard."""
    assert importlib.util.find_spec(module) is not None


def test_what_a_library_raises_when_our_code_calls_it_is_a_defect() -> None:
    call = through("roost.shard.host", raises="json.loads('{')", json=json)
    assert [is_defect(error) for error in seen_by_the_loop(call, asyncio.run)] == [True, True]


def test_what_a_library_of_the_users_raises_is_none() -> None:
    timer = threading.Thread(target=None)
    callback = function("chat", "timer.start(); timer.start()", timer=timer)
    assert [is_defect(error) for error in seen_by_the_loop(callback, asyncio.run)] == [False, False]
    assert [is_defect(error) for error in seen_by_the_loop(lambda: json.loads("{"), asyncio.run)] == [False, False]
    direct = seen_by_the_loop(json.loads, asyncio.run)  # called with too little by the loop itself
    assert [is_defect(error) for error in direct] == [False, False]


def test_the_users_mistakes_with_the_api_are_none() -> None:
    call = through("roost.shard.host", raises="raise error", error=SocketClosed("closed"))
    assert [is_defect(error) for error in seen_by_the_loop(call, asyncio.run)] == [False, False]
    assert not is_defect(None)
    assert not is_defect(KeyboardInterrupt())
