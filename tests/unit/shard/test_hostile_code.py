"""What objects' code can pass in, and from where it can call: whatever it is, the shard goes on, and the object, too.

Each of these ended the shard, or left its object blocked for ever.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest

from roost.common.errors import ObjectReset
from roost.common.runtime.defects import is_defect
from roost.shard import Request, Response, WebSocket, WebSocketPair, WebSocketRequestResponsePair
from roost.shard.running.failures import TOLD_CHARS, TOLD_IN_SHORT_CHARS, in_full, in_short, is_end_of_life
from tests.support.waiting import until
from tests.unit.shard.clients import Rec, shard
from tests.unit.shard.harness import on_virtual_time, turns

# --- values that say something else each time -----------------------------------------------------------------------


class Text(str):
    """Short and ASCII to whoever checks, and then something else."""

    __hash__ = str.__hash__

    def encode(self, *args: Any, **options: Any) -> Any:
        return 5

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Any:
        return iter("a")

    def __eq__(self, other: object) -> bool:
        raise KeyError("no comparison")


class TextOfOtherBytes(str):
    def encode(self, *args: Any, **options: Any) -> Any:
        return [b"x"]


class Number(int):
    """In every range."""

    def __le__(self, other: object) -> bool:
        return True

    __ge__ = __le__

    def __lt__(self, other: object) -> bool:
        return False

    __gt__ = __lt__

    def __int__(self) -> int:
        return 10**30

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return False


class Real(float):
    def __ge__(self, other: object) -> bool:
        return True

    def __gt__(self, other: object) -> bool:
        return False

    def __int__(self) -> int:
        return 10**30


class Bytes(bytes):
    def __bytes__(self) -> bytes:
        return self

    def __len__(self) -> int:
        return 3


class Pair(WebSocketRequestResponsePair):
    @property
    def request(self) -> str:
        return TextOfOtherBytes("a")


class Claims:
    """Says that it is of a class that it is not of."""

    def __init__(self, cls: type) -> None:
        self.cls = cls

    @property
    def __class__(self) -> Any:
        return self.cls

    @__class__.setter
    def __class__(self, cls: Any) -> None:
        raise TypeError


LONG = "a" * 70_000

ANSWERS: dict[str, Callable[[], Any]] = {
    "a status": lambda: Response("x", status=Number(70_000)),
    "a status below 0": lambda: Response("x", status=Number(-5)),
    "a header's value": lambda: Response("x", headers={"a": Text("b")}),
    "a header's value, split": lambda: Response("x", headers={"a": Text("b\r\nc: d")}),
    "a header's name": lambda: Response("x", headers={TextOfOtherBytes("a"): "b"}),
    "a body of text": lambda: Response(TextOfOtherBytes("x")),
    "a body of bytes": lambda: Response(Bytes(b"x" * 1000)),
    "a body that claims": lambda: Response(Claims(str)),  # type: ignore[arg-type]
    "a socket that claims": lambda: Response(status=101, web_socket=Claims(WebSocket)),  # type: ignore[arg-type]
    "a response that claims": lambda: Claims(Response),
}
CALLS: dict[str, Callable[[Any, WebSocket], Any]] = {
    "a reason": lambda ctx, ws: ws.close(1000, Text(LONG)),
    "a reason of other bytes": lambda ctx, ws: ws.close(1000, TextOfOtherBytes("x")),
    "a code": lambda ctx, ws: ws.close(Number(10**9)),
    "a pair": lambda ctx, ws: ctx.set_web_socket_auto_response(WebSocketRequestResponsePair(Text(LONG), Text("b"))),
    "a pair of other bytes": lambda ctx, ws: ctx.set_web_socket_auto_response(
        WebSocketRequestResponsePair(TextOfOtherBytes("a"), TextOfOtherBytes("b"))
    ),
    "a pair that is asked": lambda ctx, ws: ctx.set_web_socket_auto_response(Pair("a", "b")),
    "a timeout": lambda ctx, ws: ctx.set_hibernatable_web_socket_event_timeout(Real(1)),
    "a timeout below 0": lambda ctx, ws: ctx.set_hibernatable_web_socket_event_timeout(Real(-5)),
    "a timeout that is an int": lambda ctx, ws: ctx.set_hibernatable_web_socket_event_timeout(Number(10**12)),
    "a tag": lambda ctx, ws: ctx.accept_web_socket(WebSocketPair().server, [Text(LONG)]),
    "a tag that cannot be compared": lambda ctx, ws: ctx.accept_web_socket(WebSocketPair().server, [Text("a")]),
    "a message": lambda ctx, ws: ws.send(Text("x")),
    "bytes": lambda ctx, ws: ws.send(Bytes(b"x" * 1000)),
    "a socket that claims": lambda ctx, ws: ctx.accept_web_socket(Claims(WebSocket)),
    "an exclude that claims": lambda ctx, ws: ctx.broadcast("x", exclude=Claims(WebSocket)),
}


class Two(Rec):
    answer: Callable[[], Any]
    call: Callable[[Any, WebSocket], Any]

    async def fetch(self, request: Request) -> Response:
        return type(self).answer() if "answer" in request.query else await super().fetch(request)

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        if message == "call":
            type(self).call(self.ctx, ws)
        else:
            ws.send(message)


@pytest.mark.parametrize("what", ANSWERS)
@on_virtual_time
async def test_an_answer_of_values_that_change_is_what_they_are(what: str) -> None:
    Two.answer = staticmethod(ANSWERS[what])
    _, front, _ = shard(Two)
    answer = await front.fetch("plain&answer")  # which reads all that was written
    assert answer.status in (200, 500)
    if answer.status == 200:
        assert answer.body in (b"x", b"x" * 1000)
    other = await front.connect("other")
    other.send("x")
    await turns()
    assert other.messages == ["x"]


@pytest.mark.parametrize("what", CALLS)
@on_virtual_time
async def test_a_call_with_values_that_change_takes_what_they_are(what: str) -> None:
    Two.call = staticmethod(CALLS[what])
    _, front, _ = shard(Two)
    client, other = await front.connect(), await front.connect()
    seq = client.send("call")
    await turns()
    assert client.acked(seq)
    other.send("x")
    await turns()
    assert other.messages[-1:] == ["x"]
    for code, reason, _ in client.closes:
        assert 1000 <= code <= 4999
        assert reason == "x"


# --- exceptions -----------------------------------------------------------------------------------------------------


class Evil(Exception):
    """Raises whatever it is asked."""

    __hash__ = None  # type: ignore[assignment]

    def __getattribute__(self, name: str) -> Any:
        raise KeyboardInterrupt

    def __bool__(self) -> bool:
        raise SystemExit


def _nested(depth: int) -> BaseException:
    error: BaseException = ObjectReset("over")
    for _ in range(depth):
        error = BaseExceptionGroup("x", [error])
    return error


def _doubled(depth: int) -> BaseException:
    error: BaseException = ObjectReset("over")
    for _ in range(depth):
        error = BaseExceptionGroup("x", [error, error])
    return error


class Endless(BaseExceptionGroup):
    @property
    def exceptions(self) -> Any:
        return (self,)


def _hinted(**facts: Any) -> BaseException:
    error = AttributeError("x", **facts)
    error.__notes__ = 5  # type: ignore[assignment]
    return error


ERRORS: dict[str, Callable[[WebSocket], BaseException]] = {
    "evil": lambda ws: Evil(),
    "a deep group": lambda ws: _nested(5_000),
    "a wide group": lambda ws: _doubled(60),
    "a name that is none": lambda ws: _hinted(name=[], obj=ws),
    "notes that are none": lambda ws: _hinted(name="send_text", obj=ws),
    "of an object that claims": lambda ws: _hinted(name="send_text", obj=Claims(WebSocket)),
    "of words that raise": lambda ws: TypeError(Evil()),
}


@pytest.mark.parametrize("where", ["handler", "task", "wait_until"])
@pytest.mark.parametrize("what", ERRORS)
@on_virtual_time
async def test_an_exception_hurts_nobody_but_who_has_raised_it(what: str, where: str) -> None:
    class Room(Rec):
        async def fail(self, ws: WebSocket) -> None:
            raise ERRORS[what](ws)

        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            if message == "x":
                ws.send(message)
            elif where == "handler":
                await self.fail(ws)
            elif where == "task":
                asyncio.create_task(self.fail(ws))  # noqa: RUF006
            else:
                self.ctx.wait_until(self.fail(ws))

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(None)
    world, front, _ = shard(Room)
    defects: list[Exception] = []
    world.host.errors.on_defect = defects.append
    client = await front.connect()
    seq = client.send("fail")
    await turns()
    assert client.acked(seq)
    client.send("x")
    await turns()
    assert client.messages == ["x"]
    assert not defects


def test_groups_are_looked_through_without_recursion() -> None:
    assert is_end_of_life(_nested(5_000))
    assert is_end_of_life(_doubled(60))
    assert not is_end_of_life(BaseExceptionGroup("x", [_nested(3), ValueError()]))
    assert not is_end_of_life(Endless("x", [SystemExit()]))
    assert not is_end_of_life(Evil())
    assert not is_defect(Evil())


def test_what_an_error_says_is_told_as_far_as_a_log_should_hold_it() -> None:
    error = KeyError("begin" + "x" * 10_000_000 + "end")
    assert len(in_short(error)) < TOLD_IN_SHORT_CHARS + 50
    assert in_short(error).startswith("KeyError: 'begin")
    assert in_short(error).endswith("end'")
    assert len(in_full(error)) < TOLD_CHARS + 50


# --- futures and tasks ----------------------------------------------------------------------------------------------


class Stubborn(asyncio.Future[None]):
    gives_in = False

    def cancel(self, msg: Any = None) -> bool:
        if not self.gives_in:
            raise KeyError("cancel")
        return super().cancel(msg)


class Unsteady(asyncio.Future[None]):
    """Can be put into a set, and not be found there again."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def __hash__(self) -> int:
        self.asked += 1
        return self.asked

    def exception(self) -> Any:
        raise KeyError("exception")

    def add_done_callback(self, *args: Any, **options: Any) -> None:
        super().add_done_callback(*args, **options)


@pytest.mark.parametrize("how", ["wait_until", "task", "handler"])
@on_virtual_time
async def test_a_reset_ends_what_waits_for_a_future_that_cannot_be_cancelled(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Room(Rec):
        async def wait(self) -> None:
            await Stubborn()

        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            if message == "abort":
                self.ctx.abort()
            elif message == "x":
                ws.send("x")
            elif how == "wait_until":
                self.ctx.wait_until(Stubborn())
            elif how == "task":
                asyncio.create_task(self.wait())  # noqa: RUF006
            else:
                await self.wait()

    _, front, _ = shard(Room)
    client = await front.connect()
    client.send("wait")
    client.send("abort")
    await turns()
    await asyncio.sleep(3)
    assert client.closes
    again = front.client()
    await turns()
    assert again.answer is not None
    again.send("x")
    await turns()
    assert again.messages == ["x"]
    monkeypatch.setattr(Stubborn, "gives_in", True)  # for who tidies up after the test


@on_virtual_time
async def test_an_object_that_waits_for_an_odd_future_sleeps_when_it_is_done() -> None:
    class Room(Rec):
        future: Unsteady

        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            Room.future = Unsteady()
            self.ctx.wait_until(Room.future)

    world, front, _ = shard(Room, hibernate_after_s=1.0)
    client = await front.connect()
    client.send("wait")
    await turns()
    await asyncio.sleep(5)
    assert world.counters.hibernations == 0
    Room.future.set_result(None)
    await asyncio.sleep(5)
    assert world.counters.hibernations == 1


# --- hardly any stack left ------------------------------------------------------------------------------------------


def _depth() -> int:
    frame, depth = sys._getframe(), 0
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    return depth


def _deep(levels: int, call: Callable[[], Any]) -> Any:
    return _deep(levels - 1, call) if levels else call()


async def _nothing() -> None:
    pass


def _accept(ctx: Any) -> None:
    ctx.accept_web_socket(WebSocketPair().server, ["a", "b"])


def _local_pair() -> None:
    one, other = WebSocketPair()
    one.accept()
    other.accept()
    one.send("x")
    one.close()


DEEP: dict[str, Callable[[Any, WebSocket], Any]] = {
    "send": lambda ctx, ws: ws.send("deep"),
    "broadcast": lambda ctx, ws: ctx.broadcast("deep"),
    "close": lambda ctx, ws: ws.close(),
    "abort": lambda ctx, ws: ctx.abort(),
    "accept": lambda ctx, ws: _accept(ctx),
    "a local pair": lambda ctx, ws: _local_pair(),
    "an attachment": lambda ctx, ws: ws.serialize_attachment({"a": [1, {"b": 2}]}),
    "an auto-response": lambda ctx, ws: ctx.set_web_socket_auto_response(WebSocketRequestResponsePair("a", "b")),
    "wait_until": lambda ctx, ws: ctx.wait_until(_nothing()),
    "block": lambda ctx, ws: ctx.block_concurrency_while(_nothing),
    "a task": lambda ctx, ws: asyncio.create_task(_nothing()),
    "a timer": lambda ctx, ws: asyncio.get_running_loop().call_later(0.1, int),
    "an executor": lambda ctx, ws: asyncio.get_running_loop().run_in_executor(None, int),
}


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("what", DEEP)
@on_virtual_time
async def test_a_call_with_hardly_any_stack_left_does_all_or_nothing(what: str) -> None:
    class Room(Rec):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            if isinstance(message, str) and message.isdigit():
                _deep(sys.getrecursionlimit() - _depth() - int(message), lambda: DEEP[what](self.ctx, ws))
            else:
                ws.send(message)

    asyncio.get_running_loop().set_exception_handler(None)
    world, front, _ = shard(Room, hibernate_after_s=1.0)
    defects: list[Exception] = []
    world.host.errors.on_defect = defects.append
    for left in range(4, 70):
        name = f"room-{left}"
        client = await front.connect(name)
        # Nothing else goes on in the object: what is left undone is not done by the way.
        seq = client.send(str(left))
        await turns(20)
        assert client.acked(seq), f"with {left} calls left"
        if client.closes:
            client.close()
            await turns(20)
        other = await front.connect(name)
        other.send("x")
        await turns(20)
        assert other.messages[-1:] == ["x"], f"with {left} calls left"
    # The loop's clock jumps. An executor's threads do not.
    await until(
        "all to fall asleep, unless their pairs stay open",
        lambda: what == "a local pair" or world.counters.objects_awake == 0,
    )
    assert not defects
