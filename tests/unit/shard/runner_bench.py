"""A runner with stand-ins for objects: what the tests of jobs and of carriers give it, and note of it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

from roost.common.machine.last_words import LastWords
from roost.shard.jobs import Job, JobKind
from roost.shard.runner import Runner
from tests.unit.shard.harness import turns


class Life:
    """An activation that calls what the job carries."""

    def __init__(self) -> None:
        self.context = contextvars.copy_context()
        self.blocked = False
        self.taken_back: list[Job] = []

    def admits(self, job: Job) -> bool:
        if self.blocked:
            self.taken_back.append(job)
        return not self.blocked

    def call(self, job: Job) -> Any:
        return job.data()


class Owner:
    label = "room/lobby"
    object_id = bytes(32)


class Socket:
    counter = 1


class Bench:
    """A runner that notes what happens to its jobs."""

    def __init__(self, last_words: LastWords | None = None) -> None:
        self.runner = Runner(asyncio.get_running_loop(), self._suspended, self._ended, lambda: None, last_words)
        self.life = Life()
        self.suspended: list[Job] = []
        self.ended: list[tuple[Job, Any, BaseException | None]] = []

    def _suspended(self, job: Job) -> None:
        assert self.runner.running is None
        self.suspended.append(job)

    def _ended(self, job: Job, result: Any, error: BaseException | None) -> None:
        assert self.runner.running is None
        self.ended.append((job, result, error))

    def job(self, handler: Callable[[], Any], life: Life | None = None, deliveries: int = 0) -> Job:
        job = Job(JobKind.MESSAGE, Owner(), Socket(), None, 0, deliveries, handler, 0)  # type: ignore[arg-type]
        job.activation = life or self.life  # type: ignore[assignment]
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
