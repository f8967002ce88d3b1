"""The runner, with stand-ins for objects: what it promises of order, tasks and contexts."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from roost.shard.current import redelivered
from roost.shard.jobs import MOST_RESTING, Job, JobKind, Runner
from tests.unit.shard.harness import on_virtual_time, turns

WORD: contextvars.ContextVar[str] = contextvars.ContextVar("word", default="none")


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


class Bench:
    """A runner that notes what happens to its jobs."""

    def __init__(self) -> None:
        self.runner = Runner(asyncio.get_running_loop(), self._suspended, self._ended, lambda: None)
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
        job = Job(JobKind.MESSAGE, Owner(), None, None, 0, deliveries, handler, 0)  # type: ignore[arg-type]
        job.activation = life or self.life  # type: ignore[assignment]
        return job

    def start(self, handler: Callable[[], Any], **options: Any) -> Job:
        job = self.job(handler, **options)
        self.runner.start(job)
        return job


@on_virtual_time
async def test_plain_functions_coroutines_and_awaitables_end_with_their_result() -> None:
    bench = Bench()

    async def coroutine() -> str:
        return "coroutine"

    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    future.set_result("future")
    for handler in (lambda: "plain", coroutine, lambda: future, lambda: None):
        bench.start(handler)
    await turns()
    assert [(result, error) for _, result, error in bench.ended] == [
        ("plain", None),
        ("coroutine", None),
        ("future", None),
        (None, None),
    ]
    assert bench.suspended == []


@on_virtual_time
async def test_handlers_that_wait_for_nothing_share_one_task() -> None:
    bench = Bench()
    tasks = []

    async def handler() -> None:
        tasks.append(asyncio.current_task())

    for _ in range(3):
        bench.start(handler)
    await turns()
    assert len(set(tasks)) == 1
    assert not any(job.task for job, _, _ in bench.ended)


@on_virtual_time
async def test_a_handler_that_waits_keeps_its_task_and_the_next_starts_then_and_not_earlier() -> None:
    bench = Bench()
    steps = []
    gate = asyncio.Event()

    async def waits() -> None:
        task = asyncio.current_task()
        steps.append("first begins")
        steps.append("first goes on")
        await gate.wait()
        assert asyncio.current_task() is task
        steps.append("first ends")

    async def follows() -> None:
        steps.append("second")

    first = bench.start(waits)
    bench.start(follows)
    await turns()
    assert steps == ["first begins", "first goes on", "second"]
    assert bench.suspended == [first]
    assert first.task is not None
    assert first.task.get_name() == "room/lobby web_socket_message"
    gate.set()
    await turns()
    assert steps[-1] == "first ends"
    assert [job for job, _, _ in bench.ended][-1] is first


@on_virtual_time
async def test_only_the_first_wait_is_told() -> None:
    bench = Bench()

    async def handler() -> int:
        for _ in range(3):
            await asyncio.sleep(1)
        return 3

    job = bench.start(handler)
    await asyncio.sleep(5)
    assert bench.suspended == [job]
    assert bench.ended == [(job, 3, None)]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize(
    "error", [ValueError("x"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopAsyncIteration()]
)
def test_whatever_a_handler_raises_ends_that_job_only(waits: bool, error: BaseException) -> None:
    @on_virtual_time
    async def scenario() -> None:
        bench = Bench()

        async def raises() -> None:
            if waits:
                await asyncio.sleep(1)
            raise error

        bad, good = bench.start(raises), bench.start(lambda: "good")
        await asyncio.sleep(2)
        assert sorted(bench.ended, key=lambda end: end[0] is good) == [(bad, None, error), (good, "good", None)]

    scenario()


@on_virtual_time
async def test_a_plain_handler_that_raises_has_failed_even_with_stop_iteration() -> None:
    bench = Bench()
    job = bench.start(lambda: next(iter(())))
    await turns()
    ((ended, result, error),) = bench.ended
    assert (ended, result) == (job, None)
    assert isinstance(error, StopIteration)


@on_virtual_time
async def test_a_handler_may_cancel_its_own_task_without_hitting_the_next_job() -> None:
    bench = Bench()
    outcomes = []

    async def cancels() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def next_one() -> None:
        await asyncio.sleep(0)
        outcomes.append("not cancelled")

    first, second = bench.start(cancels), bench.start(next_one)
    await turns()
    assert outcomes == ["not cancelled"]
    assert bench.ended == [(first, None, None), (second, None, None)]


@on_virtual_time
async def test_a_handler_that_cancels_itself_and_waits_is_cancelled() -> None:
    bench = Bench()

    async def cancels() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)

    job = bench.start(cancels)
    await turns()
    ((ended, _, error),) = bench.ended
    assert ended is job
    assert isinstance(error, asyncio.CancelledError)


@on_virtual_time
async def test_cancelling_a_waiting_job_is_thrown_into_it_and_may_be_caught() -> None:
    bench = Bench()

    async def stubborn() -> str:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
            return "cleaned up"
        return "never"

    job = bench.start(stubborn)
    await turns()
    assert job.task is not None
    job.task.cancel()
    await asyncio.sleep(2)
    assert bench.ended == [(job, "cleaned up", None)]


@on_virtual_time
async def test_timeouts_and_task_groups_work_in_a_handler() -> None:
    bench = Bench()

    async def handler() -> str:
        try:
            async with asyncio.timeout(1):
                await asyncio.sleep(100)
        except TimeoutError:
            pass
        async with asyncio.TaskGroup() as group:
            task = group.create_task(asyncio.sleep(1, "from the group"))
        return task.result()

    job = bench.start(handler)
    await asyncio.sleep(3)
    assert bench.ended == [(job, "from the group", None)]


@on_virtual_time
async def test_nothing_that_one_handler_sets_is_seen_by_another() -> None:
    bench = Bench()
    bench.life.context.run(WORD.set, "the object's")
    seen = []

    async def handler(word: str, wait: bool) -> None:
        seen.append(WORD.get())
        WORD.set(word)
        if wait:
            await asyncio.sleep(1)
            seen.append(WORD.get())

    bench.start(lambda: handler("first's", True))
    bench.start(lambda: handler("second's", False))
    bench.start(lambda: handler("third's", True))
    await asyncio.sleep(2)
    assert seen == ["the object's"] * 3 + ["first's", "third's"]


@on_virtual_time
async def test_the_runtime_keeps_its_own_context_whoever_starts_a_job() -> None:
    bench = Bench()
    seen: list[str] = []
    bench.runner._on_ended = lambda *_: seen.append(WORD.get())
    context = contextvars.copy_context()
    context.run(WORD.set, "somebody's")
    context.run(bench.start, lambda: None)
    await turns()
    assert seen == ["none"]


@on_virtual_time
async def test_a_redelivered_event_is_known_as_such_in_its_handler_and_its_tasks_only() -> None:
    bench = Bench()
    seen = []

    async def task() -> None:
        seen.append(redelivered.get())

    async def handler() -> None:
        seen.append(redelivered.get())
        await asyncio.create_task(task())

    bench.start(handler, deliveries=1)
    bench.start(handler)
    await turns()
    assert sorted(seen) == [False, False, True, True]


@on_virtual_time
async def test_running_names_the_job_whose_code_runs_and_no_other() -> None:
    bench = Bench()
    seen = []

    async def handler() -> None:
        seen.append(bench.runner.running)
        await asyncio.sleep(1)
        seen.append(bench.runner.running)

    async def other() -> None:
        await asyncio.sleep(0.5)
        seen.append(bench.runner.running)

    job = bench.start(handler)
    await asyncio.gather(other(), asyncio.sleep(2))
    assert seen == [job, None, job]
    assert bench.runner.running is None


@on_virtual_time
async def test_jobs_of_a_blocked_life_go_back_and_others_run() -> None:
    bench = Bench()
    other = Life()
    bench.life.blocked = True
    first, second, third = bench.start(lambda: 1), bench.start(lambda: 2, life=other), bench.start(lambda: 3)
    await turns()
    assert bench.life.taken_back == [first, third]
    assert bench.ended == [(second, 2, None)]
    assert not bench.runner


@on_virtual_time
async def test_those_that_had_to_wait_start_before_those_queued() -> None:
    bench = Bench()
    queued = [bench.start(lambda: None) for _ in range(2)]
    waited = [bench.job(lambda: None) for _ in range(2)]
    bench.runner.start_first(waited)
    await turns()
    assert [job for job, _, _ in bench.ended] == waited + queued
    bench.runner.start_first(waited)
    bench.runner.start_first([])
    await turns()
    assert [job for job, _, _ in bench.ended][4:] == waited, "also when nothing was queued"


@on_virtual_time
async def test_an_error_of_the_runtime_itself_costs_that_carrier_and_no_later_job() -> None:
    bench = Bench()
    loop: Any = asyncio.get_running_loop()
    on_ended = bench.runner._on_ended

    def fails_for_one(job: Job, *outcome: Any) -> None:
        if job is bad:
            raise RuntimeError("a defect")
        on_ended(job, *outcome)

    bench.runner._on_ended = fails_for_one
    bad = bench.start(lambda: None)
    later = bench.start(lambda: "runs")
    await turns()
    assert bench.ended == [(later, "runs", None)]
    assert loop.faults == ["the end of a handler went wrong"]
    loop.faults.clear()


@on_virtual_time
async def test_a_long_run_of_short_handlers_gives_the_loop_its_turn() -> None:
    bench = Bench()
    loop: Any = asyncio.get_running_loop()
    order: list[str] = []

    def slow() -> None:
        order.append("job")
        loop._jumping.now += 0.001  # this handler takes a millisecond

    await some_rest(bench)
    for _ in range(40):
        bench.start(slow)
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(order.append, "timer")
    await turns()
    assert order.count("job") == 40
    assert 0 < order.index("timer") < 40


@pytest.mark.parametrize("waits", [False, True])
def test_a_run_of_long_first_steps_gives_the_loop_its_turn(waits: bool) -> None:
    """Be it that each handler waits after it, and so takes a carrier of its own."""

    @on_virtual_time
    async def scenario() -> None:
        bench = Bench()
        loop: Any = asyncio.get_running_loop()
        began: list[float] = []

        async def slow() -> None:
            began.append(loop.time())
            loop._jumping.now += 0.001
            if waits:
                await asyncio.sleep(1)

        await some_rest(bench, 40)
        paused: list[int] = []
        bench.runner._on_pause = lambda: paused.append(len(began))
        for _ in range(40):
            bench.start(slow)
        await turns(60)
        assert len(began) == 40
        assert paused[-1] == 40
        assert max(after - before for before, after in itertools.pairwise([0, *paused])) <= 16

    scenario()


@on_virtual_time
async def test_a_carrier_that_is_cancelled_between_two_jobs_has_a_successor() -> None:
    """Somebody may have kept the task that a handler ran in."""
    bench = Bench()
    loop: Any = asyncio.get_running_loop()
    tasks: list[asyncio.Task[Any] | None] = []

    def slow() -> None:
        tasks.append(asyncio.current_task())
        loop._jumping.now += 0.001

    await some_rest(bench)
    for _ in range(40):
        bench.start(slow)
    await asyncio.sleep(0)
    assert 0 < len(tasks) < 40
    cancelled = tasks[-1]
    assert cancelled is not None
    cancelled.cancel()
    before = len(tasks)
    await turns(20)
    assert len(tasks) == 40
    assert cancelled not in tasks[before:]


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


@on_virtual_time
async def test_gathered_jobs_run_at_once_when_a_carrier_rests() -> None:
    bench = Bench()
    tasks = []

    async def handler() -> None:
        tasks.append(id(asyncio.current_task()))  # kept, the task itself would not rest

    bench.start(handler)
    await turns()

    def come() -> int:
        gather(bench, handler, handler)
        return len(bench.ended)

    assert await apart_from_tasks(come) == 3, "in the same turn"
    assert len(set(tasks)) == 1
    bench.start(handler)
    assert len(bench.ended) == 3, "nobody reads now: in the loop's next turn"
    await turns()
    assert len(bench.ended) == 4
    assert len(set(tasks)) == 1


@on_virtual_time
async def test_without_a_carrier_at_rest_gathered_jobs_run_in_the_next_turn() -> None:
    bench = Bench()

    def come() -> int:
        gather(bench, lambda: "first")
        return len(bench.ended)

    assert await apart_from_tasks(come) == 0
    await turns()
    assert [result for _, result, _ in bench.ended] == ["first"]


@on_virtual_time
async def test_a_handler_that_waits_takes_the_carrier_that_had_rested() -> None:
    bench = Bench()
    bench.start(lambda: None)
    await turns()
    gate = asyncio.Event()

    async def waits() -> str:
        async with asyncio.timeout(10):
            await gate.wait()
        return "waited"

    (job, _) = await apart_from_tasks(lambda: gather(bench, waits, lambda: "second"))
    await turns()
    assert bench.suspended == [job]
    assert [result for _, result, _ in bench.ended] == [None, "second"]
    gate.set()
    await turns()
    assert [result for _, result, _ in bench.ended] == [None, "second", "waited"]


@on_virtual_time
async def test_a_task_that_a_handler_has_kept_never_becomes_another_handlers() -> None:
    bench = Bench()
    kept: list[asyncio.Task[Any]] = []
    gate = asyncio.Event()

    async def keeps() -> None:
        task = asyncio.current_task()
        assert task is not None
        kept.append(task)

    async def innocent() -> str:
        await gate.wait()
        return "not cancelled"

    bench.start(lambda: None)
    await turns()
    await apart_from_tasks(lambda: gather(bench, keeps))
    await apart_from_tasks(lambda: gather(bench, innocent))
    await turns()
    kept[0].cancel()
    gate.set()
    await turns()
    assert bench.ended[-1][1:] == ("not cancelled", None)
    assert kept[0].done()


@on_virtual_time
async def test_handlers_that_wait_use_the_tasks_of_those_before() -> None:
    bench = Bench()
    await some_rest(bench, 20)
    tasks = set(map(id, asyncio.all_tasks()))

    async def waits() -> None:
        assert id(asyncio.current_task()) in tasks
        async with asyncio.timeout(10):
            await asyncio.sleep(1)

    for _ in range(3):
        jobs = await apart_from_tasks(lambda: gather(bench, *[waits] * 20))
        assert len(bench.suspended) == 20, "all in the turn in which they came"
        assert len({job.task for job in jobs}) == 20, "each has its own"
        await asyncio.sleep(2)
        assert {error for _, _, error in bench.ended} == {None}
        assert len(bench.ended) == 20
        assert not any(job.task for job in jobs)
        bench.suspended.clear()
        bench.ended.clear()
    assert set(map(id, asyncio.all_tasks())) == tasks
    assert {task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}} == {"carrier"}


@pytest.mark.parametrize("waits", [False, True])
def test_a_task_that_somebody_has_kept_ends_with_its_handler(waits: bool) -> None:
    @on_virtual_time
    async def scenario() -> None:
        bench = Bench()
        await some_rest(bench)
        kept: list[asyncio.Task[Any] | None] = []

        async def handler() -> None:
            kept.append(asyncio.current_task())
            await asyncio.sleep(waits)

        bench.start(handler)
        await asyncio.sleep(2)
        assert kept[0] is not None
        assert kept[0].done()
        assert len(bench.ended) == 1

    scenario()


@on_virtual_time
async def test_what_a_handler_has_noted_for_its_task_is_not_found_by_the_next() -> None:
    notes: weakref.WeakKeyDictionary[asyncio.Task[Any] | None, str] = weakref.WeakKeyDictionary()
    bench = Bench()
    await some_rest(bench)
    found = []

    async def handler() -> None:
        found.append(notes.get(asyncio.current_task()))
        notes[asyncio.current_task()] = "noted"
        await asyncio.sleep(1)
        assert notes[asyncio.current_task()] == "noted"

    for _ in range(3):
        await apart_from_tasks(lambda: gather(bench, handler))
        await asyncio.sleep(2)
    assert found == [None] * 3
    assert [error for _, _, error in bench.ended] == [None] * 3
    assert not notes


@pytest.mark.parametrize("waits", [False, True])
def test_who_asks_to_be_called_at_the_end_of_a_handlers_task_is_called_at_the_handlers_end(waits: bool) -> None:
    @on_virtual_time
    async def scenario() -> None:
        bench = Bench()
        await some_rest(bench)
        called = []

        async def handler() -> None:
            task = asyncio.current_task()
            assert task is not None
            task.add_done_callback(lambda _: called.append(len(bench.ended)))
            if waits:
                await asyncio.sleep(1)

        bench.start(handler)
        await asyncio.sleep(2)
        assert called == [1]

    scenario()


@pytest.mark.parametrize("obeys", [False, True])
def test_no_handler_gets_a_task_that_was_cancelled_under_another(obeys: bool) -> None:
    @on_virtual_time
    async def scenario() -> None:
        bench = Bench()
        await some_rest(bench)
        cancellations = []

        async def waits() -> None:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                if obeys:
                    raise
                await asyncio.sleep(1)

        async def looks() -> None:
            await asyncio.sleep(1)
            task = asyncio.current_task()
            assert task is not None
            cancellations.append(task.cancelling())

        (job,) = await apart_from_tasks(lambda: gather(bench, waits))
        assert job.task is not None
        job.task.cancel()
        await asyncio.sleep(2)
        assert isinstance(bench.ended[-1][2], asyncio.CancelledError) == obeys
        await apart_from_tasks(lambda: gather(bench, *[looks] * 2))
        await asyncio.sleep(2)
        assert cancellations == [0, 0]

    scenario()


@on_virtual_time
async def test_more_carriers_than_may_rest_end_with_their_handlers() -> None:
    bench = Bench()
    gate = asyncio.Event()
    for _ in range(MOST_RESTING + 50):
        bench.start(gate.wait)
    await turns(100)
    assert len(bench.suspended) == MOST_RESTING + 50
    gate.set()
    await turns()
    assert len(bench.ended) == MOST_RESTING + 50
    assert len(bench.runner._resting) == MOST_RESTING
    assert len(asyncio.all_tasks()) == MOST_RESTING + 1


@on_virtual_time
async def test_who_waits_for_a_jobs_task_hears_of_the_handlers_end() -> None:
    bench = Bench()
    await some_rest(bench, 2)
    gate = asyncio.Event()
    job = bench.start(gate.wait)
    await turns()
    assert job.task is not None
    waiting = asyncio.ensure_future(asyncio.wait([job.task]))
    gate.set()
    await asyncio.wait_for(waiting, 1)
    assert bench.ended[-1][0] is job


@on_virtual_time
async def test_a_carrier_that_is_cancelled_at_rest_has_a_successor() -> None:
    bench = Bench()
    bench.start(lambda: None)
    await turns()
    (carrier,) = [task for task in asyncio.all_tasks() if task.get_name() == "carrier"]
    carrier.cancel()
    await apart_from_tasks(lambda: gather(bench, lambda: None))
    await turns()
    assert len(bench.ended) == 2
    assert carrier.cancelled()
    await apart_from_tasks(lambda: gather(bench, lambda: None))
    await turns()
    assert len(bench.ended) == 3


@on_virtual_time
async def test_a_runner_that_is_closed_leaves_no_task() -> None:
    bench = Bench()
    await some_rest(bench, 3)
    gate = asyncio.Event()
    for _ in range(10):
        bench.start(gate.wait)
    for _ in range(2):
        await asyncio.sleep(0)
    assert bench.runner._new, "some have just been made"
    await bench.runner.aclose()
    assert {job.task for job in bench.suspended} == asyncio.all_tasks() - {asyncio.current_task()}
    gate.set()
    await turns()
    await bench.runner.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@on_virtual_time
async def test_a_rest_keeps_nothing_of_the_last_job() -> None:
    bench = Bench()

    class Thing:
        def __call__(self) -> Any:
            return self

    thing = Thing()
    gone = weakref.ref(thing)
    bench.start(thing)
    del thing
    await turns()
    bench.ended.clear()
    assert gone() is None


@on_virtual_time
async def test_what_was_said_leaves_whenever_the_carrier_pauses() -> None:
    bench = Bench()
    paused: list[tuple[int, int]] = []
    bench.runner._on_pause = lambda: paused.append((len(bench.ended), len(bench.suspended)))
    seen = []

    async def waits() -> None:
        seen.append(bench.runner.carrying)
        await asyncio.sleep(1)
        seen.append(bench.runner.carrying)

    await some_rest(bench, 3)
    paused.clear()
    bench.start(lambda: seen.append(bench.runner.carrying))
    bench.start(waits)
    bench.start(waits)
    bench.start(lambda: None)
    await turns()
    assert paused == [(2, 2)], "once, though two of them wait"
    await asyncio.sleep(2)
    assert seen == [True, True, True, False, False]
    assert not bench.runner.carrying


@on_virtual_time
async def test_a_carrier_that_an_error_ends_has_paused_all_the_same() -> None:
    """Else what others say later would wait for a pause that never comes."""
    bench = Bench()
    paused: list[int] = []
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    bench.runner._on_pause = lambda: paused.append(len(bench.suspended))

    def fails(job: Job) -> None:
        raise AssertionError("a defect of the runtime")

    await some_rest(bench)
    paused.clear()
    bench.runner._on_suspended = fails
    bench.start(lambda: asyncio.sleep(1))
    await turns()
    assert len(errors) == 1
    assert not bench.runner.carrying
    assert len(paused) == 1
