"""The runner: what it promises of the order, the ends and the contexts of jobs."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from typing import Any

import pytest

from roost.shard.api.current import redelivered
from tests.unit.shard.harness import on_virtual_time, turns
from tests.unit.shard.runner_bench import Bench, Job, Life, some_rest

WORD: contextvars.ContextVar[str] = contextvars.ContextVar("word", default="none")


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
        tasks.append(id(asyncio.current_task()))

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
    bench.on_finish = lambda *_: seen.append(WORD.get())
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
    bench.life.is_open = False
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
    on_finish = bench.on_finish

    def fails_for_one(job: Job, *outcome: Any) -> None:
        if job is bad:
            raise RuntimeError("a defect")
        on_finish(job, *outcome)

    bench.on_finish = fails_for_one
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
        loop.jump(0.001)  # this handler takes a millisecond

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
            loop.jump(0.001)
            if waits:
                await asyncio.sleep(1)

        await some_rest(bench, 40)
        paused: list[int] = []
        bench.on_pause = lambda: paused.append(len(began))
        for _ in range(40):
            bench.start(slow)
        await turns(60)
        assert len(began) == 40
        assert paused[-1] == 40
        assert max(after - before for before, after in itertools.pairwise([0, *paused])) <= 16

    scenario()
