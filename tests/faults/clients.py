"""The clients of the fault suite: a program of its own, since it measures pauses while the test does other things.

``python -m tests.faults.clients PORT GROUPS`` opens the WebSockets of all groups (a JSON list of ``load.Group``), then
obeys lines on stdin (``load.Load`` writes them) and answers each with one line of JSON on stdout:

========== ===========================================================================================================
begin      every connection sends its messages at its group's rate
mark       forget pauses and what was first since the last mark
report     what ``load.Report`` has
settle S   stop sending; report once every message is answered, at the latest after S seconds
once       every connection sends one message
end        close everything
========== ===========================================================================================================

Frames are read and written by hand: a client in Python should cost less than the cluster that it loads.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import struct
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable
from functools import partial
from typing import Any, cast

import uvloop

from tests.faults.checking import Answer, Findings, Sequence
from tests.support import frames

AT_ONCE = 50
"""Handshakes under way at a time."""
OPEN_DEADLINE_S = 60.0
TICK_S = 0.004
"""Seconds between two looks at what has to be sent."""
RECONNECT_S = (0.05, 2.0)
"""Seconds before the first try to connect again, and between the last ones."""
VANISHED = 1006
"""A connection that ended without a Close."""


def frame(opcode: int, payload: bytes) -> bytes:
    """A client's frame at the least cost."""
    return frames.frame(opcode, payload, mask=frames.NO_MASK)


class Connection(asyncio.Protocol):
    """One WebSocket.

    Attributes:
        who: Its number, unique in the load.
        sent: Messages sent.
        waiting: Number and time of each that is not answered, oldest first.
        pause_s: Longest time from sending to the answer since the last mark.
        silence_s: Longest time between two answers since then.
        open: It is open for messages.
    """

    def __init__(self, seat: Seat, who: int) -> None:
        self.seat, self.world, self.who = seat, seat.world, who
        self.sent = 0
        self.waiting: deque[tuple[int, float]] = deque()
        self.own = Sequence(self.world.findings, who)
        self.others: dict[int, Sequence] = {}
        self.pause_s = self.silence_s = 0.0
        self._life_before = ""
        self.answered_at = 0.0
        self.open = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._buffer = b""
        self._close_code = 0

    # --- the transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        path = f"/{self.seat.namespace}/{self.seat.object}?who={self.who}"
        self._transport.write(frames.upgrade_head(path, f"Host: 127.0.0.1:{self.world.port}").encode())

    def connection_lost(self, exc: Exception | None) -> None:
        was_open, self.open = self.open, False
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(f"the connection ended in the handshake: {exc}"))
        elif was_open or self._close_code:
            self.seat.lost(self, self._close_code or VANISHED)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        if not self.opened.done():
            data = self._shake_hands(data)
        at, end = 0, len(data)
        while end - at >= 2:
            size, start = data[at + 1], at + 2
            if size >= 126:
                width = 2 if size == 126 else 8
                if end - start < width:
                    break
                size = int.from_bytes(data[start : start + width], "big")
                start += width
            if end - start < size:
                break
            self._frame(data[at] & 0x0F, data[start : start + size])
            at = start + size
        self._buffer = data[at:]

    def _shake_hands(self, data: bytes) -> bytes:
        head, ending, rest = data.partition(b"\r\n\r\n")
        if not ending:
            return data
        if head.startswith(b"HTTP/1.1 101"):
            self.open = True
            self.opened.set_result(None)
        else:
            self.opened.set_exception(ConnectionError(f"no upgrade: {head[:200]!r} {rest[:200]!r}"))
            self._transport.abort()
        return rest

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == 0x1:
            self._answered(Answer.read(payload.decode()))
        elif opcode == 0x9:
            self._transport.write(frame(0xA, payload))
        elif opcode == 0x8:
            self.open = False
            self._close_code = struct.unpack(">H", payload[:2])[0] if payload else 1005
            self._transport.write(frame(0x8, payload[:2]))
            self._transport.close()

    # --- messages ---

    def say(self, now: float) -> None:
        """Send the next message."""
        self.sent += 1
        self.waiting.append((self.sent, now))
        self._transport.write(frame(0x1, b"%d" % self.sent))

    def _answered(self, answer: Answer) -> None:
        world = self.world
        if answer.again and not world.first_again_at:
            world.first_again_at = time.monotonic()
        if answer.who != self.who:
            sequence = self.others.get(answer.who)
            if sequence is None:
                # Who joins later has not missed what was said before.
                base = answer.number - 1 if self.seat.rejoined else 0
                sequence = self.others[answer.who] = Sequence(world.findings, self.who, base)
            sequence.take(answer)
            return
        now = time.monotonic()
        if not self.own.take(answer):
            return
        if self.waiting and self.waiting[0][0] == answer.number:
            sent_at = self.waiting.popleft()[1]
        else:
            found = next((item for item in self.waiting if item[0] == answer.number), None)
            if found is None:
                raise AssertionError(f"connection {self.who} got {answer} and has not said that")
            self.waiting.remove(found)
            sent_at = found[1]
        self.pause_s = max(self.pause_s, now - sent_at)
        if self.answered_at:
            self.silence_s = max(self.silence_s, now - self.answered_at)
        self.answered_at = now

    def mark(self) -> None:
        """Forget the pauses so far."""
        self.pause_s = self.silence_s = 0.0
        self._life_before = self.own.life

    @property
    def moved(self) -> bool:
        """Whether another instance has answered since the mark."""
        return self.own.life != self._life_before

    def pause_until(self, now: float) -> float:
        """The longest pause, the one that has not ended included."""
        return max(self.pause_s, now - self.waiting[0][1]) if self.waiting else self.pause_s

    def close(self) -> None:
        """Leave in order."""
        self.open = False
        self._transport.write(frame(0x8, struct.pack(">H", 1000)))
        self._transport.close()


class Seat:
    """A place in a group: the connection that holds it, and, if the load reconnects, the next one."""

    def __init__(self, world: World, namespace: str, object_: str, host: str) -> None:
        self.world, self.namespace, self.object, self.host = world, namespace, object_, host
        self.connection: Connection | None = None
        self.rejoined = False
        self._task: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Open a WebSocket.

        Raises:
            ConnectionError: It was refused, or ended before the 101.
        """
        world = self.world
        made = partial(Connection, self, world.next_who())
        transport, connection = await asyncio.get_running_loop().create_connection(made, self.host, world.port)
        try:
            await connection.opened
        except BaseException:
            transport.abort()
            raise
        self.connection = connection

    def lost(self, connection: Connection, code: int) -> None:
        """The connection is over."""
        world = self.world
        world.closed[code] += 1
        world.gone.append(connection)
        self.connection = None
        if world.reconnect and not world.ending:
            self._task = asyncio.get_running_loop().create_task(self._come_back())

    async def _come_back(self) -> None:
        self.rejoined = True
        delay_s, longest_s = RECONNECT_S
        while not self.world.ending:
            await asyncio.sleep(delay_s)
            try:
                await asyncio.wait_for(self.connect(), 15)
            except (OSError, TimeoutError):
                delay_s = min(2 * delay_s, longest_s)
                self.world.refused += 1
            else:
                self.world.reconnected += 1
                return


class Group:
    """The seats of a group, and its rate."""

    def __init__(self, world: World, spec: dict[str, Any]) -> None:
        names = spec["names"] or [str(number) for number in range(spec["objects"])]
        self.seats = [
            Seat(world, spec["namespace"], names[number % len(names)], f"127.0.0.{1 + number % spec['hosts']}")
            for number in range(spec["connections"])
        ]
        self.per_second = spec["rate"] * len(self.seats)
        self._done = 0

    def begin(self) -> None:
        """Nothing is due yet."""
        self._done = 0

    def send_due(self, began: float, now: float) -> None:
        """Send what is due: the seats take turns, so that each sends at the group's rate and all at even distances.
        The turn of a seat that nobody holds passes."""
        due = int((now - began) * self.per_second)
        for number in range(self._done, due):
            connection = self.seats[number % len(self.seats)].connection
            if connection is not None and connection.open:
                connection.say(now)
        self._done = due


class World:
    """Everything of one load."""

    def __init__(self, port: int, groups: list[dict[str, Any]], reconnect: bool) -> None:
        self.port, self.reconnect = port, reconnect
        self.findings = Findings()
        self.groups = [Group(self, spec) for spec in groups]
        self.seats = [seat for group in self.groups for seat in group.seats]
        self.gone: list[Connection] = []
        self.closed: Counter[int] = Counter()
        self.reconnected = self.refused = 0
        self.first_again_at = 0.0
        self.late_s = 0.0
        self.ending = False
        self._who = 0
        self._began = self._last_tick = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def next_who(self) -> int:
        self._who += 1
        return self._who

    async def open(self) -> dict[str, Any]:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(seat: Seat) -> None:
            async with gate:
                await seat.connect()

        await asyncio.wait_for(asyncio.gather(*map(one, self.seats)), OPEN_DEADLINE_S)
        gc.collect()
        gc.freeze()
        gc.disable()  # a pause of the collector would be taken for one of the cluster
        return {"open": len(self.seats)}

    def begin(self) -> dict[str, Any]:
        self._began = self._last_tick = time.monotonic()
        for group in self.groups:
            group.begin()
        self._tick()
        return {}

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        now = time.monotonic()
        self.late_s = max(self.late_s, now - self._last_tick - TICK_S)
        self._last_tick = now
        for group in self.groups:
            group.send_due(self._began, now)

    def once(self) -> dict[str, Any]:
        now = time.monotonic()
        for connection in self.present():
            connection.say(now)
        return {}

    def mark(self) -> dict[str, Any]:
        self.first_again_at = self.late_s = 0.0
        for connection in self.present():
            connection.mark()
        return {}

    def present(self) -> Iterable[Connection]:
        return [seat.connection for seat in self.seats if seat.connection is not None and seat.connection.open]

    def report(self) -> dict[str, Any]:
        now, present, findings = time.monotonic(), list(self.present()), self.findings
        moved = [connection for connection in present if connection.moved]
        return {
            "open": len(present),
            "closed": dict(self.closed),
            "ended": [connection.who for connection in self.gone],
            "reconnected": self.reconnected,
            "refused": self.refused,
            "sent": sum(connection.sent for connection in [*present, *self.gone]),
            "given_up": sum(len(connection.waiting) for connection in self.gone),
            "unanswered": sum(len(connection.waiting) for connection in present),
            "waiting": sorted(
                (
                    (round(now - connection.waiting[0][1], 3), connection.who, connection.waiting[0][0])
                    for connection in present
                    if connection.waiting
                ),
                reverse=True,
            )[:10],
            "handled": sum(connection.own.answered for connection in [*present, *self.gone]),
            "lost": self.lost(present),
            "redelivered": findings.redelivered,
            "versions": dict(findings.versions),
            "violations": dict(findings.violations),
            "examples": findings.examples,
            "moved": len(moved),
            "pauses_s": _figures(connection.pause_until(now) for connection in present),
            "moved_pauses_s": _figures(connection.pause_until(now) for connection in moved),
            "silences_s": _figures(connection.silence_s for connection in present),
            "first_again_at": self.first_again_at,
            "client_late_s": self.late_s,
        }

    def lost(self, present: Iterable[Connection]) -> int:
        """Answers that have not come yet to connections that are open, those to others' messages included."""
        lost = sum(connection.sent - connection.own.answered for connection in present)
        senders = {connection.who: connection for connection in present}
        for connection in present:
            for who, sequence in connection.others.items():
                if who in senders:
                    lost += senders[who].sent - sequence.base - sequence.answered
        return lost

    async def settle(self, seconds: float) -> dict[str, Any]:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        give_up_at = time.monotonic() + seconds
        # Many things end the waiting, a connection's end as well: looking is simpler than being told.
        while self.lost(self.present()) and time.monotonic() < give_up_at:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)  # an answer too many would come now
        return self.report()

    async def end(self) -> dict[str, Any]:
        self.ending = True
        for connection in self.present():
            connection.close()
        await asyncio.sleep(0.05)
        return {}

    async def obey(self, words: list[str]) -> dict[str, Any]:
        match words:
            case ["settle", seconds]:
                return await self.settle(float(seconds))
            case ["end"]:
                return await self.end()
            case [name] if name in ("begin", "mark", "report", "once"):
                answer: dict[str, Any] = getattr(self, name)()
                return answer
        raise ValueError(f"no such command: {words}")


def _figures(values: Iterable[float]) -> dict[str, float]:
    ordered = sorted(values) or [0.0]
    return {"p50": ordered[len(ordered) // 2], "worst": ordered[-1]}


async def main(port: int, groups: list[dict[str, Any]], reconnect: bool) -> None:
    """Serve to the end.

    Raises:
        Exception: The first error in a callback: what the clients do not understand ends them.
    """
    loop = asyncio.get_running_loop()
    serving = loop.create_task(serve(World(port, groups, reconnect)))
    errors: list[Exception] = []

    def on_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        errors.append(context.get("exception") or RuntimeError(context["message"]))
        serving.cancel()

    loop.set_exception_handler(on_error)
    await asyncio.wait([serving])
    if errors:
        raise errors[0]
    serving.result()


async def serve(world: World) -> None:
    """Open the connections, then do what stdin says until it ends."""
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    say(await world.open())
    while words := (await commands.readline()).decode().split():
        say(await world.obey(words))
        if words == ["end"]:
            return


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    uvloop.run(main(int(sys.argv[1]), json.loads(sys.argv[2]), "reconnect" in sys.argv[3:]))
