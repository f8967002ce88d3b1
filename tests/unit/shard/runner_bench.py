"""A runner with stand-ins for objects: what the tests of jobs and of carriers give it, and note of it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

from roost.common.ids import ObjectId
from roost.common.machine.last_words import LastWords
from roost.shard.running.runner import Runner
from tests.unit.shard.harness import turns


class Life:
    """The life of an instance, which may not admit jobs."""

    def __init__(self) -> None:
        self.context = contextvars.copy_context()
        self.is_open = True
        self.taken_back: list[Job] = []

    def admits(self, job: Any) -> bool:
        self.taken_back.append(job)
        return False


class Owner:
    label = "room/lobby"
    object_id = ObjectId(bytes(32))


class Job:
    """Work that is a function, and is noted by its bench."""

    def __init__(
        self, handler: Callable[[], Any], owner: Owner, bench: Bench | None = None, seq: int = 0, deliveries: int = 0
    ) -> None:
        self.handler = handler
        self.owner = owner
        self.bench = bench
        self.activation = bench.life if bench is not None else None
        self.task: asyncio.Task[None] | None = None
        self.event = 1
        self.seq = seq
        self.deliveries = deliveries
        self.stopped = False
        self.label = f"{owner.label} web_socket_message"

    def call(self, life: Any) -> Any:
        assert life is self.activation
        return self.handler()

    def waits(self) -> None:
        assert self.bench is not None
        self.bench.on_waits(self)

    def finish(self, result: Any, error: BaseException | None) -> None:
        assert self.bench is not None
        self.bench.on_finish(self, result, error)


class Bench:
    """A runner that notes what happens to its jobs.

    Attributes:
        on_waits: What a job does whose handler waits for the first time.
        on_finish: What a job does whose handler has ended.
        on_pause: What is done when no more handlers start in a turn.
    """

    def __init__(self, last_words: LastWords | None = None) -> None:
        self.on_waits: Callable[[Job], None] = self._waits
        self.on_finish: Callable[[Job, Any, BaseException | None], None] = self._finish
        self.on_pause: Callable[[], object] = lambda: None
        self.runner: Runner[Job] = Runner(asyncio.get_running_loop(), lambda: self.on_pause(), last_words)
        self.life = Life()
        self.suspended: list[Job] = []
        self.ended: list[tuple[Job, Any, BaseException | None]] = []

    def _waits(self, job: Job) -> None:
        assert self.runner.running is None
        self.suspended.append(job)

    def _finish(self, job: Job, result: Any, error: BaseException | None) -> None:
        assert self.runner.running is None
        self.ended.append((job, result, error))

    def job(
        self, handler: Callable[[], Any], life: Life | None = None, deliveries: int = 0, owner: Owner | None = None
    ) -> Job:
        job = Job(handler, owner or Owner(), self, deliveries=deliveries)
        job.activation = life or self.life
        return job

    def start(self, handler: Callable[[], Any], **options: Any) -> Job:
        job = self.job(handler, **options)
        self.runner.start(job)
        return job


async def some_rest(bench: Bench, count: int = 1) -> None:
    """Have so many carriers at rest."""
    gate = asyncio.Event()
    for _ in range(count):
        bench.start(gate.wait)
    await turns(30)
    gate.set()
    await turns()
    assert len(bench.runner._resting) >= count
    bench.ended.clear()
    bench.suspended.clear()


def gather(bench: Bench, *handlers: Callable[[], Any]) -> list[Job]:
    """What a shard does when a router's batch comes."""
    bench.runner.gather()
    jobs = [bench.start(handler) for handler in handlers]
    assert not bench.ended or bench.ended[-1][0] not in jobs, "not before all is read"
    bench.runner.go()
    return jobs


def apart_from_tasks(call: Callable[[], Any]) -> asyncio.Future[Any]:
    """Call something as the loop calls a reader: while no task runs."""
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    asyncio.get_running_loop().call_soon(run)
    return done
