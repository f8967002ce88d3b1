"""The tasks that carry handlers: they rest, are used again, and never pass from one handler to another what was the
first one's."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roost.common.machine.last_words import LastWords
from roost.shard.running.runner import MOST_RESTING, TURN_S
from tests.unit.shard.harness import on_virtual_time, turns
from tests.unit.shard.runner_bench import Bench, Job, Owner, apart_from_tasks, gather, some_rest


@on_virtual_time
async def test_a_carrier_that_is_cancelled_between_two_jobs_has_a_successor() -> None:
    """Somebody may have kept the task that a handler ran in."""
    bench = Bench()
    loop: Any = asyncio.get_running_loop()
    tasks: list[asyncio.Task[Any] | None] = []

    def slow() -> None:
        tasks.append(asyncio.current_task())
        loop.jump(0.001)

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
    bench.on_pause = lambda: paused.append((len(bench.ended), len(bench.suspended)))
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
    bench.on_pause = lambda: paused.append(len(bench.suspended))

    def fails(job: Job) -> None:
        raise AssertionError("a defect of the runtime")

    await some_rest(bench)
    paused.clear()
    bench.on_waits = fails
    bench.start(lambda: asyncio.sleep(1))
    await turns()
    assert len(errors) == 1
    assert not bench.runner.carrying
    assert len(paused) == 1


WORD: contextvars.ContextVar[str] = contextvars.ContextVar("word", default="none")


class Proxy:
    """What asks its maker what it is, as lazy objects do, and is not answered."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError(WORD.get())


NOTES: weakref.WeakKeyDictionary[asyncio.Task[Any], str] = weakref.WeakKeyDictionary()
KEPT: list[Any] = []


def cancel_and_take_back(task: asyncio.Task[Any]) -> None:
    task.cancel()
    task.uncancel()


def set_attribute(task: Any) -> None:
    task.trace = "left"


@pytest.mark.parametrize(
    "leave",
    [
        KEPT.append,
        lambda task: KEPT.append(task.cancel),
        lambda task: NOTES.__setitem__(task, "left"),
        lambda task: task.add_done_callback(lambda _: None),
        lambda task: task.set_name("left"),
        lambda task: task.cancel(),
        cancel_and_take_back,
        set_attribute,
    ],
)
@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("together", [False, True])
def test_nothing_that_a_handler_leaves_with_its_task_comes_to_the_next(
    leave: Callable[[asyncio.Task[Any]], None], waits: bool, together: bool
) -> None:
    @on_virtual_time
    async def scenario() -> None:
        bench = Bench()
        await some_rest(bench)
        found: list[Any] = []

        async def leaves() -> None:
            if waits:
                await asyncio.sleep(0)
            task = asyncio.current_task()
            assert task is not None
            leave(task)

        async def looks() -> None:
            task = asyncio.current_task()
            assert task is not None
            found.append((task in KEPT, task in NOTES, getattr(task, "trace", None), task.cancelling()))
            assert task.get_name() != "left"
            await asyncio.sleep(1)

        if together:
            await apart_from_tasks(lambda: gather(bench, leaves, looks))
        else:
            await apart_from_tasks(lambda: gather(bench, leaves))
            await turns()
            await apart_from_tasks(lambda: gather(bench, looks))
        await asyncio.sleep(2)
        assert found == [(False, False, None, 0)]
        assert bench.ended[-1][1:] == (None, None)

    KEPT.clear()
    scenario()


class Payload:
    """Something that a weak reference may follow."""


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_handler_has_waited_for_is_not_kept_after_it(fails: bool) -> None:
    @on_virtual_time
    async def scenario() -> None:
        bench = Bench()
        await some_rest(bench)
        payloads = []
        futures: list[asyncio.Future[Any]] = [asyncio.get_running_loop().create_future()]

        async def handler() -> None:
            payload = Payload()
            payloads.append(weakref.ref(payload))
            with contextlib.suppress(ValueError):
                assert await futures[0] is not payload

        await apart_from_tasks(lambda: gather(bench, handler))
        if fails:
            futures.pop().set_exception(ValueError("no"))
        else:
            result = Payload()
            payloads.append(weakref.ref(result))
            futures.pop().set_result(result)
            del result
        await asyncio.sleep(1)
        bench.ended.clear()
        assert [payload() for payload in payloads] == [None] * len(payloads)

    gc.disable()
    try:
        scenario()
    finally:
        gc.enable()


@on_virtual_time
async def test_carriers_that_are_cancelled_before_they_begin_have_successors() -> None:
    bench = Bench()
    jobs = [bench.start(lambda: "served") for _ in range(2)]
    await asyncio.sleep(0)
    new = set(bench.runner._new)
    assert new
    for carrier in new:
        carrier.cancel()
    await turns()
    assert [job for job, _, _ in bench.ended] == jobs
    assert not bench.runner._new & new


@on_virtual_time
async def test_a_result_that_does_not_say_what_it_is_is_an_error_of_its_handler() -> None:
    bench = Bench()
    bench.life.context.run(WORD.set, "the object's")
    bench.start(Proxy)
    bench.start(lambda: "served")
    await turns()
    assert repr(bench.ended[0][2]) == """RuntimeError("the object's")"""
    assert bench.ended[1][1] == "served"
    assert bench.runner.running is None


@on_virtual_time
async def test_a_handler_that_outlives_the_runner_hears_that_it_is_cancelled(tmp_path: Path) -> None:
    words = LastWords(tmp_path / "last-words")
    bench = Bench(words)
    heard = []

    async def handler() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            heard.append("cancelled")
            raise

    job = bench.start(handler)
    await turns()
    bench.runner.gather()
    bench.start(lambda: "never")
    await bench.runner.aclose()
    words.close()
    assert job.task is not None
    job.task.cancel()
    await turns()
    assert heard == ["cancelled"]
    assert [ended for ended, _, _ in bench.ended] == [job]


# --- objects take turns ---


def burning(ran: list[Any], what: Any) -> Callable[[], None]:
    """A handler that takes an eighth of a turn."""
    loop: Any = asyncio.get_running_loop()

    def burn() -> None:
        loop.jump(TURN_S / 8)
        ran.append(what)

    return burn


def of(owner: Owner, bench: Bench, handler: Callable[[], Any]) -> Job:
    return bench.job(handler, owner=owner)


async def until_ran(ran: list[Any], count: int) -> None:
    for _ in range(1000):
        if len(ran) >= count:
            return
        await asyncio.sleep(0)
    raise AssertionError(f"{len(ran)} have run, not {count}")


@on_virtual_time
async def test_an_object_with_many_jobs_makes_another_wait_for_a_turn() -> None:
    """A room of 1,500 whose clients all talk has jobs of a millisecond: others waited for all of them."""
    bench, crowd, other = Bench(), Owner(), Owner()
    ran: list[Any] = []
    await some_rest(bench)
    for number in range(400):
        bench.runner.start(of(crowd, bench, burning(ran, number)))
    await until_ran(ran, 1)
    at_first = len(ran)
    assert at_first < 50
    for what in ("first", "second"):
        bench.runner.start(of(other, bench, burning(ran, what)))
    await until_ran(ran, at_first + 42)
    assert ran.index("first") - at_first < 40
    bench.runner.start(of(crowd, bench, burning(ran, 400)))
    await until_ran(ran, 403)
    assert ran.index("second") - at_first <= 40, "a turn and what it may leave over"
    assert [what for what in ran if isinstance(what, int)] == list(range(401)), "each object's are in order"
    assert not bench.runner


@on_virtual_time
async def test_objects_that_are_late_take_turns() -> None:
    bench, owners = Bench(), [Owner() for _ in range(3)]
    ran: list[Any] = []
    await some_rest(bench)
    for owner in owners:
        for count in range(100):
            bench.runner.start(of(owner, bench, burning(ran, (owner, count))))
    await until_ran(ran, 300)
    for owner in owners:
        assert [count for each, count in ran if each is owner] == list(range(100))
        assert max(at for at, (each, _) in enumerate(ran) if each is owner) > 200, "none is through before the others"


@on_virtual_time
async def test_jobs_that_had_to_wait_go_before_late_ones_of_their_object() -> None:
    bench, owner = Bench(), Owner()
    ran: list[Any] = []
    await some_rest(bench)
    for count in range(100):
        bench.runner.start(of(owner, bench, burning(ran, count)))
    await until_ran(ran, 1)
    at_first = len(ran)
    bench.runner.start_first([of(owner, bench, burning(ran, what)) for what in ("waited", "waited, too")])
    await until_ran(ran, 102)
    assert ran[at_first : at_first + 2] == ["waited", "waited, too"]
    assert [what for what in ran if isinstance(what, int)] == list(range(100))
