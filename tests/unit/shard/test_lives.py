"""Lives: what acts in an object's name, on which thread and for how long. The public methods are listed, not chosen."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from roost.common.errors import LifeOver, ObjectGone, ObjectReset, WrongThreadError
from roost.shard import DurableObjectState, Request, Response, WebSocket, WebSocketPair, WebSocketRequestResponsePair
from roost.shard.objects.closing import AGAIN_S, LAST_STEPS_S
from roost.shard.running.tasks import hide_tasks_of_others
from tests.unit.shard.clients import Rec, shard
from tests.unit.shard.harness import on_virtual_time, turns

ARGUMENTS: dict[str, Callable[[WebSocket], tuple[Any, ...]]] = {
    "accept_web_socket": lambda ws: (WebSocketPair().server,),
    "get_tags": lambda ws: (ws,),
    "get_web_socket_auto_response_timestamp": lambda ws: (ws,),
    "set_web_socket_auto_response": lambda ws: (WebSocketRequestResponsePair("a", "b"),),
    "set_hibernatable_web_socket_event_timeout": lambda ws: (5,),
    "wait_until": lambda ws: (asyncio.Event().wait(),),
    "block_concurrency_while": lambda ws: (lambda: asyncio.sleep(0),),
    "broadcast": lambda ws: ("x",),
    "send": lambda ws: ("x",),
    "close": lambda ws: (1000, "x"),
    "add_event_listener": lambda ws: ("message", print),
    "remove_event_listener": lambda ws: ("message", print),
    "serialize_attachment": lambda ws: ({"x": 1},),
}
"""What each method is called with here; the others take nothing."""

FACTS = {
    "ready_state",
    "url",
    "protocol",
    "extensions",
    "redelivered",
    "id",
    "storage",
    "buffered_amount",
    "binary_type",
}
"""Properties that only tell what is known: they change nothing, so they may be read anywhere."""
RUNTIMES_OWN = {
    "of",
    "bind",
    "mark_used",
    "check_acceptable",
    "has_listeners",
    "listeners",
    "socket",
    "other",
    "early_attachment",
    "is_server_end",
    "used",
}


def public(cls: type) -> dict[str, Any]:
    return {name: value for name, value in vars(cls).items() if not name.startswith("_")}


def methods(cls: type) -> list[str]:
    """The public methods of *cls*, one spelling of each."""
    found: dict[Any, str] = {}
    for name, value in public(cls).items():
        if name not in RUNTIMES_OWN and callable(value):
            found.setdefault(value, name)
    return sorted(found.values())


CTX_METHODS, SOCKET_METHODS = methods(DurableObjectState), methods(WebSocket)


def call(target: Any, name: str, ws: WebSocket) -> BaseException | None:
    """What a call of a method raises."""
    arguments = ARGUMENTS.get(name, lambda ws: ())(ws)
    try:
        result = getattr(target, name)(*arguments)
        if asyncio.iscoroutine(result):
            result.close()
    except BaseException as error:
        for argument in arguments:
            if asyncio.iscoroutine(argument):
                argument.close()
        return error
    return None


def test_every_public_name_is_a_method_that_looks_or_a_fact() -> None:
    for cls in (DurableObjectState, WebSocket):
        for name, value in public(cls).items():
            if name in RUNTIMES_OWN or callable(value) or name.isupper():
                continue
            aliased = next((other for other, known in public(cls).items() if known is value and other in FACTS), None)
            assert aliased or name in FACTS, f"{cls.__name__}.{name} is neither"


class Kept(Rec):
    """Gives its ``ctx`` and its socket away."""

    kept: list[Any]

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        self.log.append(message)
        type(self).kept = [self.ctx, ws, WebSocketPair().server]
        if message == "abort":
            self.ctx.abort("enough")


def told(kept: list[Any]) -> dict[str, type[BaseException] | None]:
    """What each public method of a life's ``ctx`` and sockets raises."""
    ctx, ws, unaccepted = kept
    results = {f"ctx.{name}": call(ctx, name, ws) for name in CTX_METHODS}
    results |= {f"ws.{name}": call(ws, name, ws) for name in SOCKET_METHODS}
    results["accept"] = call(unaccepted, "accept", ws)
    return {name: None if error is None else type(error) for name, error in results.items()}


@on_virtual_time
async def test_nothing_works_for_a_life_that_was_reset() -> None:
    world, front, _ = shard(Kept)
    client = await front.connect()
    client.send("abort")
    await turns()
    second = await front.connect()
    front.forget()
    assert set(told(Kept.kept).values()) == {ObjectReset}
    await turns()
    assert front.records == []
    assert world.object().auto_response is None
    second.send("still here")
    await turns()
    assert world.instance().log == ["still here"]


@on_virtual_time
async def test_nothing_works_for_a_life_whose_object_fell_asleep() -> None:
    world, front, _ = shard(Kept)
    client = await front.connect()
    client.send("keep")
    await turns()
    await asyncio.sleep(30)
    assert world.instance() is None
    front.forget()
    assert set(told(Kept.kept).values()) == {ObjectGone}
    former = Kept.kept
    client.send("wake")
    await turns()
    front.forget()
    assert set(told(former).values()) == {ObjectGone}, "the next life does not make it any better"
    await turns()
    assert front.records == []


@on_virtual_time
async def test_nothing_works_for_a_life_whose_object_has_moved() -> None:
    world, front, _ = shard(Kept)
    front.router.link.prompt = True
    client = await front.connect()
    client.send("keep")
    await turns()
    world.send_away("lobby")
    await turns()
    assert world.released
    front.forget()
    assert set(told(Kept.kept).values()) == {ObjectGone}
    await turns()
    assert front.records == []


@on_virtual_time
async def test_nothing_works_on_another_thread_and_the_error_says_what_does() -> None:
    world, front, _ = shard(Kept)
    client = await front.connect()
    client.send("keep")
    await turns()
    front.forget()
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(told(Kept.kept)))
    thread.start()
    thread.join()
    # An end that no object has accepted is nobody's but that of whoever made it.
    assert set(results[0].values()) == {WrongThreadError}
    await turns()
    assert front.records == []
    assert world.object().auto_response is None
    text = str(WrongThreadError())
    assert "loop.call_soon_threadsafe" in text
    assert "asyncio.run_coroutine_threadsafe" in text


@on_virtual_time
async def test_a_thread_may_have_the_loop_call() -> None:
    class Room(Rec):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            loop = asyncio.get_running_loop()
            thread = threading.Thread(target=loop.call_soon_threadsafe, args=(ws.send, "from a thread"))
            thread.start()
            thread.join()

    _, front, _ = shard(Room)
    client = await front.connect()
    client.send("x")
    await turns()
    assert client.messages == ["from a thread"]


@on_virtual_time
async def test_a_handler_that_catches_exceptions_does_not_catch_the_end_of_its_life() -> None:
    went_on: list[str] = []

    class Room(Rec):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            try:
                if message == "abort":
                    self.ctx.abort("enough")
                await self.ctx.block_concurrency_while(self.fail)
            except Exception:
                went_on.append("caught")
            went_on.append("went on")

        async def fail(self) -> None:
            raise ValueError("on purpose")

    for message in ("abort", "block"):
        _, front, _ = shard(Room)
        client = await front.connect()
        client.send(message)
        await turns()
        assert [close[0] for close in client.closes] == [1011]
    assert went_on == []


# --- what resists -----------------------------------------------------------------------------------------------------


class Stubborn(Rec):
    """Goes on whatever is thrown at it, as a handler or as a task."""

    lives = 0
    alive: list[int]

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        Stubborn.lives += 1
        self.life = Stubborn.lives

    async def fetch(self, request: Request) -> Response:
        if "life" in request.query:
            return Response(str(self.life))
        return self.accept(request)

    async def go_on(self) -> None:
        for _ in range(1000):  # for ever, but for the end of the test
            try:
                await asyncio.sleep(0.1)
                Stubborn.alive.append(self.life)
                self.ctx.broadcast("still here")
            except:  # noqa: E722  # that is the point
                pass

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        if message == "handler":
            await self.go_on()
        elif message == "task":
            self.task = asyncio.create_task(self.go_on())
        elif message == "wait_until":
            self.ctx.wait_until(self.go_on())
        elif message == "abort":
            self.ctx.abort("enough")
        elif message == "abort and go on":
            await asyncio.sleep(0.1)
            try:
                self.ctx.abort("enough")
            finally:
                await self.go_on()


# What ignores GeneratorExit as well is told of by Python when it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("how", ["handler", "task", "wait_until", "abort and go on"])
def test_what_resists_is_stopped_before_the_next_life_begins(how: str, caplog: pytest.LogCaptureFixture) -> None:
    @on_virtual_time
    async def scenario() -> None:
        Stubborn.lives, Stubborn.alive = 0, []
        world, front, _ = shard(Stubborn)
        client = await front.connect()
        seq = client.send(how)
        await asyncio.sleep(0.35)
        if how != "abort and go on":
            client.send("abort")
        await turns()
        number = front.router.request(query="life")
        await asyncio.sleep(0.5)
        assert front.answer(number) is None, "the next life waits"
        Stubborn.alive.clear()
        await asyncio.sleep(LAST_STEPS_S + AGAIN_S - 0.4)
        answer = front.answer(number)
        assert answer is not None
        assert answer.body == b"2"
        assert client.acked(seq), "its event counts as handled: it was reset"
        Stubborn.alive.clear()
        await asyncio.sleep(30)
        assert Stubborn.alive == []
        assert world.find() is None, "nothing is left that keeps it awake"

    scenario()
    assert "goes on in spite of being cancelled, and is stopped" in caplog.text


@pytest.mark.parametrize("how", ["handler", "task", "wait_until", "second task", "resister"])
def test_what_tidies_up_is_cancelled_once_and_once_more_at_the_deadline(how: str) -> None:
    cancelled: list[float] = []
    saved: list[float] = []

    class Room(Rec):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            if message == "abort":
                self.ctx.abort("enough")
            elif message == "handler":
                await self.work()
            elif message == "wait_until":
                self.ctx.wait_until(self.work())
            elif message == "resister":
                await self.work(saves_for_s=LAST_STEPS_S + 0.1)
            else:
                self.task = asyncio.create_task(self.work() if message == "task" else self.leave_another())

        async def work(self, saves_for_s: float = LAST_STEPS_S - 0.1) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                cancelled.append(asyncio.get_running_loop().time())
                await self.save(saves_for_s)

        async def save(self, seconds: float) -> None:
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                cancelled.append(asyncio.get_running_loop().time())
                raise
            saved.append(asyncio.get_running_loop().time())

        async def leave_another(self) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                self.task = asyncio.create_task(self.work(0.1))  # which nobody has told yet

    @on_virtual_time
    async def scenario() -> None:
        _, front, _ = shard(Room)
        client = await front.connect()
        client.send(how)
        await turns()
        client.send("abort")
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(3)
        times = [round(at - began, 1) for at in cancelled]
        if how == "resister":
            assert times == [0.0, round(LAST_STEPS_S, 1)]
            assert saved == []
        else:
            assert len(times) == 1, "it is not interrupted while it saves"
            assert len(saved) == 1
            assert saved[0] - began <= LAST_STEPS_S

    scenario()


@on_virtual_time
async def test_last_steps_are_waited_for_and_have_no_effect() -> None:
    steps: list[Any] = []

    class Room(Rec):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            if message == "abort":
                self.ctx.abort("enough")
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.2)
                try:
                    ws.send("from the grave")
                except LifeOver as over:
                    steps.append(over)

    world, front, _ = shard(Room)
    client = await front.connect()
    client.send("stay")
    await turns()
    client.send("abort")
    await turns()
    second = front.client()
    await turns()
    assert second.answer is None
    await asyncio.sleep(0.5)
    assert second.answer is not None
    assert [type(step) for step in steps] == [ObjectReset]
    assert second.messages == []
    assert world.object().former is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@on_virtual_time
async def test_a_task_that_resists_does_not_keep_its_object_from_moving() -> None:
    Stubborn.lives, Stubborn.alive = 0, []
    world, front, _ = shard(Stubborn)
    front.router.link.prompt = True
    client = await front.connect()
    client.send("task")
    await turns()
    world.send_away("lobby")
    await asyncio.sleep(10)
    assert world.released
    Stubborn.alive.clear()
    await asyncio.sleep(5)
    assert Stubborn.alive == []


@pytest.mark.parametrize("how", ["handler", "task", "sync"])
def test_a_loop_that_catches_everything_and_never_waits_does_not_hold_the_shard(how: str) -> None:
    turns_of: list[int] = []

    class Room(Rec):
        def go_round(self, ws: WebSocket) -> None:
            for turn in range(100_000):  # for ever, but for a test that has failed
                try:
                    ws.send("x")
                except:  # noqa: E722  # that is the point
                    turns_of.append(turn)

        async def go_on(self, ws: WebSocket) -> None:
            for turn in range(100_000):
                try:
                    ws.send("x")
                    await asyncio.sleep(0.1)
                except:  # noqa: E722
                    turns_of.append(turn)

        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            if message == "abort":
                try:
                    self.ctx.abort("enough")
                finally:
                    if how == "sync":
                        self.go_round(ws)
            elif how == "task":
                self.task = asyncio.create_task(self.go_on(ws))
            elif how == "handler":
                await self.go_on(ws)

    @on_virtual_time
    async def scenario() -> None:
        _, front, _ = shard(Room)
        client = await front.connect()
        client.send("go")
        await asyncio.sleep(0.35)
        client.send("abort")
        await asyncio.sleep(2)
        assert 900 < len(turns_of) < 1100
        assert await front.connect()

    if sys.gettrace() is None:  # as under coverage, or in a debugger
        scenario()
        assert sys.gettrace() is None


@on_virtual_time
async def test_nothing_is_traced_for_code_that_ends_by_itself() -> None:
    refused: list[int] = []

    class Room(Kept):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            if message == "use":
                refused.append(1)
                Kept.kept[0].get_web_sockets()
            await super().web_socket_message(ws, message)
            Kept.kept = Room.kept

    _, front, _ = shard(Room)
    client = await front.connect()
    client.send("keep")
    await turns()
    client.send("abort")
    await turns()
    again = await front.connect()
    for _ in range(1500):
        again.send("use")
    await turns(100)
    assert len(refused) == 1500
    assert getattr(sys.gettrace(), "__module__", "") != "roost.shard.api.life"


class Tidy(Rec):
    """Cancels every task that there is, as code does that tidies up at its end."""

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        if message == "wait":
            self.task = asyncio.create_task(asyncio.sleep(5), name="of the object")
            await asyncio.sleep(5)
            self.log.append("waited")
        elif message == "tidy":
            me = asyncio.current_task()
            assert me in asyncio.all_tasks()
            for task in asyncio.all_tasks() - {me}:
                task.cancel()
            await asyncio.sleep(0)
            self.log.append("tidied")
        elif message == "elsewhere":
            self.log.append(await asyncio.to_thread(asyncio.run, _count_tasks()))


async def _count_tasks() -> int:
    task = asyncio.create_task(asyncio.sleep(0))
    count = len(asyncio.all_tasks())
    await task
    return count


@on_virtual_time
async def test_objects_see_and_cancel_their_own_tasks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (asyncio, asyncio.tasks):
        monkeypatch.setattr(module, "all_tasks", asyncio.all_tasks)  # to be put back
    hide_tasks_of_others(asyncio.get_running_loop())
    world, front, _ = shard(Tidy)
    other, one = await front.connect("other"), await front.connect("lobby")
    everybody = asyncio.all_tasks()
    for client in (other, one):
        client.send("wait")
        await turns()
    one.send("tidy")
    await turns()
    assert world.instance("lobby").log == ["tidied"]
    assert world.instance("lobby").task.cancelled()
    assert not world.instance("other").task.cancelled()
    await asyncio.sleep(6)
    assert world.instance("other").log == ["waited"]
    assert not any(task.cancelled() for task in everybody)
    assert asyncio.current_task() in asyncio.all_tasks(), "the runtime sees all"


@on_virtual_time
async def test_the_tasks_of_a_loop_that_an_object_runs_in_a_thread_are_all_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (asyncio, asyncio.tasks):
        monkeypatch.setattr(module, "all_tasks", asyncio.all_tasks)
    hide_tasks_of_others(asyncio.get_running_loop())
    world, front, _ = shard(Tidy)
    client = await front.connect()
    client.send("elsewhere")
    for _ in range(200):
        await turns()
        if world.instance().log:
            break
        time.sleep(0.01)  # noqa: ASYNC251  # real time, which the loop does not have
    assert world.instance().log == [2]
