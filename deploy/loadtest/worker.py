"""A process of the load tester: ``python -m roost.deploy.loadtest.worker``, started by the coordinator.

It obeys lines of JSON on stdin and answers with lines of JSON on stdout; when stdin ends, so does it.

======== ================================================ ===========================================================
``do``   with                                             answer (``say``)
======== ================================================ ===========================================================
(none)   ``setup``, once, as the first line (``Setup``)   ``ready``
open                                                      ``opened``, once each connection is open or has failed
begin    ``at_us``                                        ``done`` with ``logs``, once the duration is over
stop                                                      whatever is under way ends early
settle   ``logs`` of all processes, ``wait_s``            ``settled`` with ``findings``, all there or time up
close                                                     ``closed``; then the process ends
======== ================================================ ===========================================================

A line ``second`` with what has happened comes each second, and before each of these answers.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import math
import os
import resource
import sys
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, cast

import uvloop

from ...common.runtime.config import describe
from .alarm import Alarm
from .config import LoadConfig
from .ledger import Findings, Life, Log, audit, own_copies_lost
from .machine import raise_descriptor_limit
from .messages import BROADCAST, ECHO, Codec
from .plan import Plan
from .seat import Seat
from .traffic import Traffic
from .turns import Turns
from .world import World

HANDSHAKES_AT_ONCE = 200
"""Of a process: a server's queue of connections that it has not accepted is often 128 to 4,096 long."""
EXCHANGES_AT_ONCE = 200
"""Connections of a process that are being closed and opened again."""
BURST = 64
"""Messages that are sent before those that have come get their turn."""
FINEST_S = 0.000_2
"""Seconds between two looks at what is due: messages closer together leave together."""
BACKLOG_S = 2.0
"""Seconds after the end for what this process is late with; what is left then is never sent."""
BEAT_S = 0.05
"""Seconds between two measurements of the loop's lag."""
LAST_MOMENT_S = 0.2
"""Seconds that what comes too much has after all is complete."""
LAST_WORDS_S = 10.0
"""Seconds for the coordinator to read the last lines."""
MAX_LINE_BYTES = 64 << 20
MAX_UNREAD_BYTES = 4 << 20
"""Reports that the coordinator has not read: beyond that, the next one waits and holds more."""


@dataclasses.dataclass(frozen=True, slots=True)
class Setup:
    """What a process is told at first.

    Attributes:
        config: The settings, by field name, as far as they are not default.
        process: Which of the plan's it is.
        processes: How many there are.
        run: The run's number, for the messages.
        epoch_ns: The beginning of the run by the monotonic clock.
        family, address: Where the server is.
        sources: Addresses to connect from.
    """

    config: dict[str, Any]
    process: int
    processes: int
    run: int
    epoch_ns: int
    family: int
    address: str
    sources: list[str]


def config_to_dict(config: LoadConfig) -> dict[str, Any]:
    """Settings as they go into JSON."""
    values = {item.field: getattr(config, item.field) for item in describe(LoadConfig)}
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def config_from_dict(values: Mapping[str, Any]) -> LoadConfig:
    """Read what ``config_to_dict`` made."""
    given = dict(values)
    for item in describe(LoadConfig):
        if item.repeatable:
            given[item.field] = tuple(given[item.field])
        elif item.kind is Path and given[item.field] is not None:
            given[item.field] = Path(given[item.field])
    return LoadConfig(**given)


def cpu_us() -> int:
    """Microseconds of processor time that this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return int((usage.ru_utime + usage.ru_stime) * 1e6)


class Output(asyncio.BaseProtocol):
    """The pipe to the coordinator."""

    def __init__(self) -> None:
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._lost.done():
            self._lost.set_result(None)

    @property
    def unread_bytes(self) -> int:
        """What the coordinator has not read."""
        return self._transport.get_write_buffer_size()

    def write(self, line: bytes) -> None:
        """Write a line, in time."""
        self._transport.write(line)

    async def close(self, wait_s: float) -> None:
        """Close it when all is written, at the latest after *wait_s*."""
        self._transport.close()
        await asyncio.wait([self._lost], timeout=wait_s)


class Worker:
    """The connections of one process, and what it was told."""

    def __init__(self, setup: Setup, output: Output) -> None:
        self._config = config_from_dict(setup.config)
        self._plan = Plan(self._config.connections, self._config.objects, setup.processes)
        self._process = setup.process
        self._output = output
        self._traffic = Traffic(Codec(setup.run, self._config.size), self._plan, cpu_us)
        self._world = World(
            self._config,
            self._plan,
            self._traffic,
            epoch_ns=setup.epoch_ns,
            family=setup.family,
            address=setup.address,
            sources=tuple(setup.sources),
        )
        self._epoch_s = setup.epoch_ns / 1e9
        self.seats = [Seat(self._world, number) for number in self._plan.seats_of(setup.process)]
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._beat_due = self._loop.time() + BEAT_S
        self._beat_timer = self._loop.call_at(self._beat_due, self._beat)
        self._lag_s = 0.0
        self._cpu_at = (time.monotonic(), cpu_us())
        self._second_number = 0
        self._second = self._loop.call_later(0, self._await_next_second)

    # --- reports ---

    def say(self, word: str, **facts: Any) -> None:
        """Write a line to the coordinator."""
        self._output.write(json.dumps({"say": word, **facts}, separators=(",", ":")).encode() + b"\n")

    def _await_next_second(self) -> None:
        elapsed_s = time.monotonic() - self._epoch_s
        # The timer may be early by a millisecond, and must not ring twice for one second.
        self._second_number = max(self._second_number, math.floor(elapsed_s)) + 1
        self._second = self._loop.call_later(self._second_number - elapsed_s, self._each_second)

    def _each_second(self) -> None:
        if self._output.unread_bytes < MAX_UNREAD_BYTES:
            self.report(self._second_number - 1)
        self._await_next_second()

    def report(self, second: int | None = None) -> None:
        """Say what has happened since the last report: in *second*, or in the present one."""
        now, used = time.monotonic(), cpu_us()
        before, used_before = self._cpu_at
        self._cpu_at = (now, used)
        self.say(
            "second",
            t=math.floor(now - self._epoch_s) if second is None else second,
            cpu_us=used - used_before,
            span_us=int((now - before) * 1e6),
            lag_us=int(self._lag_s * 1e6),
            **self._traffic.snapshot(),
        )
        self._lag_s = 0.0

    def _beat(self) -> None:
        now = self._loop.time()
        self._lag_s = max(self._lag_s, now - self._beat_due)
        self._beat_due = now + BEAT_S
        self._beat_timer = self._loop.call_at(self._beat_due, self._beat)

    def end(self) -> None:
        """Stop all that goes on by itself."""
        self._beat_timer.cancel()
        self._second.cancel()
        for task in self._tasks:
            task.cancel()

    # --- commands ---

    def stop(self) -> None:
        """End what is under way early."""
        self._stop.set()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A defect of ours: better no result than a wrong one.
            self._loop.call_exception_handler({"message": "a task has failed", "exception": error})

    async def open(self) -> None:
        """Open all connections, at the rate of the ramp."""
        gate = asyncio.Semaphore(HANDSHAKES_AT_ONCE)
        rate = self._config.ramp
        turns = Turns([self._process], self._plan.processes, rate)
        began = time.monotonic()

        async def one(seat: Seat) -> None:
            try:
                await seat.open()
            finally:
                gate.release()

        for seat in self.seats:
            await gate.acquire()
            if rate:
                due_s = turns.next_s
                ahead_s = due_s - (time.monotonic() - began)
                if ahead_s > 0:
                    await self._pause(ahead_s)
                list(turns.due(due_s, 1))
            if self._stop.is_set():
                break
            self._spawn(one(seat))
        # Each has its own deadline.
        while self._tasks:
            await asyncio.wait(self._tasks)
        # From here on little is made that lives long: what is there now needs no look by the collector.
        gc.collect()
        gc.freeze()
        self.report()
        self.say("opened")

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not longer than until the stop."""
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            pass

    async def send(self, at_us: int) -> None:
        """Send, exchange connections, and hold the others, for the duration."""
        config, plan = self._config, self._plan
        begin_s = self._epoch_s + at_us / 1e6
        first = self.seats[0].number
        own = plan.seats_of(self._process)
        all_talkers = plan.talkers() if config.broadcasts_per_s else []
        talkers = [(place, seat) for place, seat in enumerate(all_talkers) if seat in own]
        speaking = [self.seats[seat - first] for _, seat in talkers]
        talking = set(all_talkers)
        changing = [seat for seat in self.seats if seat.number not in talking]
        end_s = config.duration
        echoes = Turns(own, plan.connections, config.echoes_per_s, end_s)
        broadcasts = Turns([place for place, _ in talkers], max(1, len(all_talkers)), config.broadcasts_per_s, end_s)
        # By their own seats: each process exchanges its share.
        exchanges = Turns(range(len(changing)), max(1, len(changing)), len(changing) * config.churn / 100 / 60, end_s)
        over = asyncio.Event()

        def pump() -> None:
            now = time.monotonic() - begin_s
            if self._stop.is_set() or now > end_s + BACKLOG_S:
                over.set()
                return
            for turns, seats, kind in ((echoes, self.seats, ECHO), (broadcasts, speaking, BROADCAST)):
                for index, due_s in turns.due(now, BURST):
                    seats[index].say(kind, at_us + int(due_s * 1e6))
            for index, _ in exchanges.due(now, BURST):
                if len(self._tasks) < EXCHANGES_AT_ONCE:
                    self._spawn(changing[index].exchange())
                else:
                    self._traffic.passed += 1
            upcoming = min(turns.next_s for turns in (echoes, broadcasts, exchanges))
            if upcoming == math.inf and now >= end_s:
                over.set()
                return
            alarm.set(begin_s + max(min(upcoming, end_s), now + FINEST_S))

        alarm = Alarm(pump)
        try:
            alarm.set(begin_s)
            waits = [self._loop.create_task(event.wait()) for event in (over, self._stop)]
            try:
                ahead_s = begin_s - time.monotonic()
                await asyncio.wait(
                    waits, timeout=ahead_s + end_s + BACKLOG_S + 1.0, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                for wait in waits:
                    wait.cancel()
        finally:
            alarm.close()
        while self._tasks:
            await asyncio.wait(self._tasks)  # exchanges, each of which has its deadlines
        self.report()
        self.say("done", logs={seat.number: list(seat.log) for seat in speaking if seat.log is not None})

    async def settle(self, logs: Mapping[int, Log], wait_s: float) -> None:
        """Wait for what is missing, then say what has come and what has not."""
        self._stop.clear()  # a stop before has ended the sending; one from now on ends the waiting
        give_up_at = time.monotonic() + wait_s
        # Many things end the waiting, the end of a connection as well: looking is simpler than being told.
        pause_s = 0.02
        while self._missing(findings := self.audit(logs)) and time.monotonic() < give_up_at and not self._stop.is_set():
            await self._pause(pause_s)
            pause_s = min(2 * pause_s, 0.5)
        await asyncio.sleep(LAST_MOMENT_S)
        findings = self.audit(logs)
        self.report()
        self.say("settled", findings=findings.to_dict())

    def _missing(self, findings: Findings) -> int:
        return findings.lost - self._traffic.findings.lost + own_copies_lost(findings)

    def audit(self, logs: Mapping[int, Log]) -> Findings:
        """What was found up to now, with what is missing as if nothing more came."""
        found = Findings.from_dict(self._traffic.findings.to_dict())
        lives = list(self._world.lives)
        for seat in self.seats:
            connection = seat.connection
            if connection is None:
                continue
            unanswered = connection.unanswered()
            if unanswered:
                found.lost += len(unanswered)
                echoes = f"{len(unanswered):,} echo{'es' if len(unanswered) > 1 else ''}"
                found.example(f"connection {seat.number} never got {echoes}, from message {unanswered[0]} on")
            if logs:
                lives.append(Life(seat.number, connection.opened_us, connection.closed_us, connection.account))
        if not logs:
            return found
        senders: dict[int, list[int]] = {}
        for sender in sorted(logs):
            senders.setdefault(self._plan.object_of(sender), []).append(sender)
        patience_us = int(self._config.patience * 1e6)
        for life in lives:
            audit(
                life,
                senders.get(self._plan.object_of(life.seat), ()),
                logs,
                own=self._config.own_copies,
                patience_us=patience_us,
                findings=found,
            )
        return found

    async def close(self) -> None:
        """Close everything in order."""
        held = [seat.connection for seat in self.seats if seat.connection is not None]
        gate = asyncio.Semaphore(HANDSHAKES_AT_ONCE)

        async def one(connection: Any) -> None:
            async with gate:
                await connection.leave()

        async with asyncio.TaskGroup() as group:
            for connection in held:
                group.create_task(one(connection))
        self.report()
        self.say("closed")


async def serve() -> None:
    """Obey stdin until it ends."""
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    _, output = await loop.connect_write_pipe(Output, sys.stdout)
    first = await commands.readline()
    if not first:
        return
    worker = Worker(Setup(**json.loads(first)["setup"]), output)
    serving = loop.create_task(_obey(worker, commands))
    errors: list[BaseException] = []

    def on_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        errors.append(context.get("exception") or RuntimeError(context["message"]))
        serving.cancel()

    loop.set_exception_handler(on_error)
    try:
        worker.say("ready")
        await asyncio.wait([serving])
        if errors:
            raise errors[0]
        serving.result()
    finally:
        worker.end()
        await output.close(LAST_WORDS_S)


async def _obey(worker: Worker, commands: asyncio.StreamReader) -> None:
    """One command at a time, but for ``stop``."""
    loop = asyncio.get_running_loop()
    running: asyncio.Task[None] | None = None
    try:
        while line := await commands.readline():
            command = json.loads(line)
            word = command["do"]
            if word == "stop":
                worker.stop()
                continue
            if running is not None:
                await running
            running = loop.create_task(_run(worker, word, command))
            if word == "close":
                await running
                return
    finally:
        if running is not None:
            running.cancel()
            await asyncio.wait([running])


async def _run(worker: Worker, word: str, command: dict[str, Any]) -> None:
    try:
        match word:
            case "open":
                await worker.open()
            case "begin":
                await worker.send(command["at_us"])
            case "settle":
                await worker.settle({int(seat): log for seat, log in command["logs"].items()}, command["wait_s"])
            case "close":
                await worker.close()
            case _:
                raise ValueError(f"no such command: {word}")
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        asyncio.get_running_loop().call_exception_handler({"message": f"{word} failed", "exception": error})
        raise


def main() -> None:
    """Run until told to end, or until the coordinator is gone."""
    raise_descriptor_limit()
    os.environ.pop("PYTHONASYNCIODEBUG", None)
    try:
        uvloop.run(serve())
    except BrokenPipeError:
        sys.exit(1)  # the coordinator is gone


if __name__ == "__main__":
    main()
