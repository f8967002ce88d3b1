"""Simulated time: one event loop for each simulated process, one scheduler that runs them all.

The loops are real ``asyncio`` loops as far as code on them can tell: handles, timers, tasks, task factory, exception
handler. They have no selector, and their clock is the scheduler's. The scheduler takes the process whose work is due
first, moves the clock there, and lets its loop do one turn. So nothing ever waits, and what happens depends on the
seed alone: no clock of the machine, no thread, no order of memory addresses.

A turn takes a little simulated time, now and then a lot (a collection, a busy machine): until then the process does
nothing else, while the others go on. A frozen process has no turns; what comes for it gathers in its loop, as it
would in its sockets. A dead one never has another turn, and nothing that it still tries counts.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import random
from asyncio import events
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any

START_S = 1000.0
"""What the clocks show at first."""
TURN_S = 0.00005
"""Simulated seconds of an ordinary turn of a loop, on average."""
HICCUP_S = 0.02
"""The longest turn."""
HICCUP_CHANCE = 0.004
THREAD_S = 0.01
"""Simulated seconds until a thread has done what it was given, at most."""
STEP_S = 1e-7
"""What makes one moment later than another: timers of the very same moment have no order."""
MAX_TURNS = 30_000
"""Turns after which a run counts as one that goes in circles."""


class OurOwnError(Exception):
    """What a process raises that was armed for it (``defects``)."""


class State(Enum):
    """What the scheduler does with a process."""

    RUNNING = "it has its turns"
    FROZEN = "it was sent SIGSTOP: no turns until it is thawed"
    DEAD = "it has ended: no turns any more"


class _NoSelector:
    """There are no descriptors to wait for."""

    def select(self, timeout: float | None) -> list[Any]:
        return []

    def close(self) -> None:
        pass


class SimLoop(asyncio.BaseEventLoop):
    """The event loop of one simulated process."""

    def __init__(self, scheduler: Scheduler, process: Process) -> None:
        super().__init__()
        self._selector = _NoSelector()
        self._scheduler = scheduler
        self.process = process
        self.signals: dict[int, Callable[[], object]] = {}
        self.factory: Callable[[], Any] | None = None

    def time(self) -> float:
        return self._scheduler.now

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:
        self.signals[sig] = lambda: callback(*args)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """What is given to a thread is done in a turn of its own, a little later."""
        future = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                result = func(*args)
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.call_later(self._scheduler.thread_s(), work)
        return future

    @property
    def due(self) -> float:
        """When this loop has something to do; never, if it waits for others."""
        if self._ready:
            return 0.0
        return self._scheduled[0]._when if self._scheduled else math.inf

    def turn(self) -> None:
        """One turn: what is ready and the timers that are due."""
        events._set_running_loop(self)
        try:
            self._run_once()
        finally:
            events._set_running_loop(None)


class Process:
    """A simulated process: a loop, a state, and whatever was started on it.

    Args:
        scheduler: Gives it its turns.
        name: For the event log.
        pid: Its number, never used twice.

    Attributes:
        loop: Its loop.
        context: The context that everything on it starts in.
        state: See ``State``.
        free_at: Until then it is busy with its last turn.
        task: Its main task.
        on_exit: Called when that has ended by itself.
        armed: Where it is to meet an error of its own (``defects``).
        cluster: What it belongs to, for those who find the process by its loop.
    """

    cluster: Any

    def __init__(self, scheduler: Scheduler, name: str, pid: int) -> None:
        self.name = name
        self.pid = pid
        self.context = contextvars.Context()
        self.state = State.RUNNING
        self.free_at = 0.0
        self.task: asyncio.Task[Any] | None = None
        self.on_exit: Callable[[Process], None] | None = None
        self.armed: tuple[type, str] | None = None
        self.frozen_at = 0.0
        self._frozen_s = 0.0
        self._started_at = scheduler.now
        self._scheduler = scheduler
        self.loop = SimLoop(scheduler, self)
        scheduler.processes.append(self)

    @property
    def alive(self) -> bool:
        """It has not ended; it may be frozen."""
        return self.state is not State.DEAD

    @property
    def lived_s(self) -> float:
        """Seconds that it has not been frozen."""
        now = self.frozen_at if self.state is State.FROZEN else self._scheduler.now
        return now - self._started_at - self._frozen_s

    def freeze(self) -> None:
        """No turns from now on."""
        self.state, self.frozen_at = State.FROZEN, self._scheduler.now

    def thaw(self) -> None:
        """Go on."""
        self.state = State.RUNNING
        self._frozen_s += self._scheduler.now - self.frozen_at

    def start(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run *main*, called on the loop, as the process's main task."""
        self.at(self._scheduler.now, self._start, main)

    def _start(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.task = self.loop.create_task(main(), name=self.name)
        self.task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if self.state is State.RUNNING and self.on_exit is not None:
            self.on_exit(self)

    def at(self, when: float, callback: Callable[..., object], *args: Any) -> None:
        """Have *callback* called on this process at *when*, if it lives then; never inside another process's turn."""
        if self.state is not State.DEAD:
            # In its own context: whoever asks may be in the middle of an object's code, at another process.
            self.loop.call_at(when, callback, *args, context=self.context)

    def end(self) -> None:
        """It has ended: what is left of it has no effect."""
        if self.state is not State.DEAD:
            self.state = State.DEAD
            self._scheduler.processes.remove(self)
            self._scheduler.ended.append(self)

    def dispose(self) -> None:
        """Drop what is left of a process, without the complaints of tasks that never ended."""
        loop = self.loop
        tasks = asyncio.all_tasks(loop)
        loop.set_exception_handler(lambda *_: None)
        loop._ready.clear()
        loop._scheduled.clear()
        loop.close()
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            _close(task.get_coro())
        if self.task is not None and self.task.done() and not self.task.cancelled():
            self.task.exception()
        self.task = None


def _close(coroutine: Any) -> None:
    """End a coroutine where it stands, and those that it awaits before it: each may wait again in its last steps, or
    try what a dead process cannot."""
    awaited = []
    while coroutine is not None and hasattr(coroutine, "close"):
        awaited.append(coroutine)
        coroutine = getattr(coroutine, "cr_await", None)
    for each in reversed(awaited):
        for _ in range(100):
            try:
                each.close()
                break
            except RuntimeError:
                continue  # it has waited once more, or asked a closed loop for something
            except BaseException:
                break  # it is over


class Scheduler:
    """Gives processes their turns, in the order of simulated time.

    Args:
        rng: How long turns take.

    Attributes:
        now: The time, in seconds.
        processes: Those that live.
        ended: Those that do not.
        turns: How many turns there were.
    """

    def __init__(self, rng: random.Random) -> None:
        self.now = START_S
        self.processes: list[Process] = []
        self.ended: list[Process] = []
        self.turns = 0
        self._random = rng.random

    def thread_s(self) -> float:
        """How long a thread takes for what it is given."""
        return THREAD_S * self._random()

    def run(self, is_over: Callable[[], bool]) -> None:
        """Let processes have turns until *is_over*, which is asked after each."""
        running, draw = State.RUNNING, self._random
        while not is_over():
            first, first_at = None, math.inf
            for process in self.processes:
                if process.state is running:
                    at = process.loop.due
                    if at < process.free_at:
                        at = process.free_at
                    if at < first_at:
                        first, first_at = process, at
            if first is None:
                raise AssertionError("nothing will ever happen any more")
            if first_at > self.now:
                self.now = first_at
            self.turns += 1
            if self.turns > MAX_TURNS:
                raise AssertionError(f"{self.turns} turns, and no end at {self.now - START_S:.3f} s")
            first.loop.turn()
            chance = draw()
            first.free_at = self.now + (HICCUP_S * draw() if chance < HICCUP_CHANCE else 2 * TURN_S * chance)

    def dispose(self) -> None:
        """The run is over: drop all processes."""
        for process in [*self.processes, *self.ended]:
            process.state = State.DEAD
            process.dispose()
